//! Whether the API server answers: asked for its version now and then, which any client may.

use std::convert::Infallible;
use std::time::Duration;

use super::api::TIMEOUT;
use crate::serving::api_cause;
use crate::serving::readiness::Condition;

/// How often an API server that answers is asked.
const EVERY: Duration = Duration::from_secs(30);
/// How often one that does not answer is asked.
const AGAIN: Duration = Duration::from_secs(2);

/// Asks for ever and tells `condition`.
pub(super) async fn watch(client: kube::Client, condition: Condition) -> Infallible {
    loop {
        let asked = tokio::time::timeout(TIMEOUT, client.apiserver_version()).await;
        let pause = match asked {
            Ok(Ok(_)) => {
                condition.ready();
                EVERY
            }
            Ok(Err(error)) => {
                condition.not_ready(api_cause(&error));
                AGAIN
            }
            Err(_) => {
                condition.not_ready(format!("the API server did not answer within {TIMEOUT:?}"));
                AGAIN
            }
        };
        tokio::time::sleep(pause).await;
    }
}
