//! Calls to the API server: always with a time-out, and with errors that name action and remedy.

use std::time::Duration;

use http::HeaderValue;
use http::header::ACCEPT;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use super::reason::{Problem, Reason};

/// Longest wait for one answer of the API server.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// The outcome of a call, or the problem of one that gave no answer in time.
pub(super) async fn within<T>(
    action: &str,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<Result<T, kube::Error>, Problem> {
    tokio::time::timeout(TIMEOUT, call).await.map_err(|_| {
        Problem::new(
            Reason::ApiServerUnavailable,
            format!("the API server did not answer within {TIMEOUT:?} when asked to {action}"),
        )
    })
}

/// The answer that is asked for after a write: what was written is known, and a Secret's content
/// should not travel more often than it must.
const METADATA_ONLY: HeaderValue =
    HeaderValue::from_static("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");

#[derive(Deserialize)]
struct MetadataOnly {
    metadata: ObjectMeta,
}

/// Sends a request and has only the object's metadata in the answer.
pub(super) async fn metadata_of(
    client: &kube::Client,
    action: &str,
    request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
) -> Result<Result<ObjectMeta, kube::Error>, Problem> {
    let mut request = match request {
        Ok(request) => request,
        Err(error) => return Ok(Err(kube::Error::BuildRequest(error))),
    };
    request.headers_mut().insert(ACCEPT, METADATA_ONLY);
    let answer = within(action, client.request::<MetadataOnly>(request)).await?;
    Ok(answer.map(|answer| answer.metadata))
}

/// What an error of the API server means.
pub(super) fn api_problem(action: &str, error: &kube::Error) -> Problem {
    match error {
        kube::Error::Api(status) if status.code == 403 => {
            let mut problem = Problem::new(
                Reason::Forbidden,
                format!("the operator may not {action}: {}", status.message),
            );
            problem.code.clone_from(&status.reason);
            problem
        }
        kube::Error::Api(status) => {
            let mut problem = Problem::new(
                Reason::ApiServerUnavailable,
                format!("the API server did not {action}: {}", status.message),
            );
            if !status.reason.is_empty() {
                problem.code.clone_from(&status.reason);
            }
            problem
        }
        // Other errors may carry whole URLs or bodies in their chain; their kind is enough.
        _ => Problem::new(
            Reason::ApiServerUnavailable,
            format!("the API server could not be asked to {action}"),
        ),
    }
}
