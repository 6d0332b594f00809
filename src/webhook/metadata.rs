//! Objects without what stands beside their metadata: the API server leaves it out when it is asked
//! for `PartialObjectMetadata` (Kubernetes API concepts, "Metadata-only fetches"). ServiceAccounts
//! may carry a megabyte of Secret names each, and none of it counts here.

use std::task::{Context, Poll};

use http::header::ACCEPT;
use http::{HeaderValue, Method, Request, Response};
use kube::Client;
use kube::client::Body;
use tower_service::Service;

use crate::world::BoxFuture;

/// What is asked for: one object, or a change of one.
const ONE: HeaderValue =
    HeaderValue::from_static("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
/// A list of them.
const MANY: HeaderValue =
    HeaderValue::from_static("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
/// The lists of the kinds that are read so.
const LISTS: [&str; 2] = ["/api/v1/namespaces", "/api/v1/serviceaccounts"];

/// A client that reads Namespaces and ServiceAccounts, and of them the metadata alone.
pub(super) fn metadata_only(client: Client) -> Client {
    let namespace = client.default_namespace().to_owned();
    Client::new(MetadataOnly(client), namespace)
}

struct MetadataOnly(Client);

impl Service<Request<Body>> for MetadataOnly {
    type Response = Response<Body>;
    type Error = kube::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, kube::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if request.method() == Method::GET {
            let wanted = wanted(request.uri());
            request.headers_mut().insert(ACCEPT, wanted);
        }
        let client = self.0.clone();
        Box::pin(async move { client.send(request).await })
    }
}

/// A list is another type than its objects, and the API server refuses to give one for the other.
fn wanted(uri: &http::Uri) -> HeaderValue {
    let watched = uri.query().is_some_and(|query| query.contains("watch="));
    if LISTS.contains(&uri.path()) && !watched {
        MANY
    } else {
        ONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("/api/v1/namespaces?&limit=100", MANY)]
    #[case("/api/v1/serviceaccounts?&limit=100&continue=watch", MANY)]
    #[case("/api/v1/serviceaccounts?&watch=true&resourceVersion=7", ONE)]
    #[case("/api/v1/namespaces/a/serviceaccounts/namespaces", ONE)]
    #[case("/api/v1/namespaces/serviceaccounts", ONE)]
    fn lists_and_objects_are_told_apart(#[case] uri: &str, #[case] expected: HeaderValue) {
        assert_eq!(wanted(&uri.parse().unwrap()), expected);
    }
}
