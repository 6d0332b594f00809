//! One more try of an exchange, where the first failure need not come again.

use std::time::Duration;

use http::StatusCode;

use super::error::CredentialsError;
use super::exchange::ExchangeError;
use crate::sts::{self, RefusalKind};
use crate::world::{HttpError, Random};

/// The longest wait after a throttle.
const AFTER_THROTTLE: Duration = Duration::from_secs(1);
/// The longest wait after a failure of the service.
const AFTER_FAILURE: Duration = Duration::from_millis(400);
/// The longest wait after a reset.
const AFTER_RESET: Duration = Duration::from_millis(200);

/// Runs the exchange; after a reset, a failure of the service, a throttle or a wrong time it is
/// run once more. A time-out has cost the caller enough.
pub(super) async fn once_more<T, F>(
    random: &dyn Random,
    attempt: impl Fn() -> F,
) -> Result<T, CredentialsError>
where
    F: Future<Output = Result<T, CredentialsError>>,
{
    let first = attempt().await;
    let Some(longest) = first.as_ref().err().and_then(longest_wait) else {
        return first;
    };
    tokio::time::sleep(part_of(longest, random)).await;
    attempt().await
}

/// The longest wait before a second attempt; none where it would be in vain.
fn longest_wait(error: &CredentialsError) -> Option<Duration> {
    if let Some(refusal) = error.refusal() {
        return match refusal.kind() {
            RefusalKind::Throttled => Some(AFTER_THROTTLE),
            RefusalKind::ServiceFailure => Some(AFTER_FAILURE),
            // The answer told the time, the next attempt makes a new nonce, and the kubelet may
            // just have written a new token.
            RefusalKind::ClockSkew | RefusalKind::NonceUsed | RefusalKind::TokenExpired => {
                Some(Duration::ZERO)
            }
            _ => None,
        };
    }
    let CredentialsError::Unavailable { source, .. } = error else {
        return None;
    };
    match source.downcast_ref::<sts::Error>() {
        Some(sts::Error::Unreachable(error)) => after_no_answer(error),
        // No error of STS, but a gateway's: 502 and its like come without its body.
        Some(sts::Error::Malformed { status, .. }) => after_status(*status),
        Some(_) => None,
        None => match source.downcast_ref::<ExchangeError>()? {
            ExchangeError::Unreachable(error) => after_no_answer(error),
            ExchangeError::Failed { status, .. } => after_status(*status),
            ExchangeError::Malformed { .. } => None,
        },
    }
}

fn after_no_answer(error: &HttpError) -> Option<Duration> {
    matches!(error, HttpError::Broken { .. }).then_some(AFTER_RESET)
}

fn after_status(status: StatusCode) -> Option<Duration> {
    match status {
        StatusCode::TOO_MANY_REQUESTS => Some(AFTER_THROTTLE),
        status if status.is_server_error() => Some(AFTER_FAILURE),
        _ => None,
    }
}

/// Between half of it and all of it, so that a fleet does not come back in step.
pub(super) fn part_of(longest: Duration, random: &dyn Random) -> Duration {
    // Without randomness the wait is the longest one.
    let [byte, ..] = random.bytes().unwrap_or([u8::MAX; 16]);
    longest / 2 + longest / 2 * u32::from(byte) / u32::from(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn broken() -> HttpError {
        HttpError::Broken {
            host: "h".to_owned(),
            cause: "reset".to_owned(),
        }
    }

    fn late() -> HttpError {
        HttpError::TimedOut {
            host: "h".to_owned(),
            limit: AFTER_THROTTLE,
        }
    }

    fn of_sts(status: u16) -> CredentialsError {
        let error = sts::Error::Malformed {
            host: "h".to_owned(),
            status: StatusCode::from_u16(status).unwrap(),
            problem: String::new(),
        };
        CredentialsError::of_sts("p", error)
    }

    fn of_service(status: u16) -> CredentialsError {
        let error = ExchangeError::Failed {
            origin: "https://h".to_owned(),
            status: StatusCode::from_u16(status).unwrap(),
            code: None,
            request_id: None,
            remedy: None,
        };
        CredentialsError::of_exchange("p", error)
    }

    #[rstest]
    #[case::sts_reset(CredentialsError::of_sts("p", broken().into()), Some(AFTER_RESET))]
    #[case::sts_late(CredentialsError::of_sts("p", late().into()), None)]
    #[case::sts_page(of_sts(200), None)]
    #[case::sts_gateway(of_sts(502), Some(AFTER_FAILURE))]
    #[case::sts_throttled_by_a_gateway(of_sts(429), Some(AFTER_THROTTLE))]
    #[case::reset(CredentialsError::of_exchange("p", broken().into()), Some(AFTER_RESET))]
    #[case::late(CredentialsError::of_exchange("p", late().into()), None)]
    #[case::throttled(of_service(429), Some(AFTER_THROTTLE))]
    #[case::failure(of_service(500), Some(AFTER_FAILURE))]
    #[case::failed_with_200(of_service(200), None)]
    #[case::refused(of_service(403), None)]
    #[case::misconfigured(CredentialsError::misconfigured("p", late()), None)]
    fn only_what_may_pass_at_once_is_tried_again(
        #[case] error: CredentialsError,
        #[case] expected: Option<Duration>,
    ) {
        assert_eq!(longest_wait(&error), expected);
    }
}
