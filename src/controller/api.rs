//! Calls to the API server: always with a time-out, and with errors that name action and remedy.

use std::time::Duration;

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
