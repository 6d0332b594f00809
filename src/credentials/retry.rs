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
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::sts::Refusal;
    use crate::world::{NoRandomness, SystemRandom};
    use rstest::rstest;

    fn refused(status: u16, code: &str) -> CredentialsError {
        let refusal = Refusal {
            status: StatusCode::from_u16(status).unwrap(),
            code: code.to_owned(),
            message: String::new(),
            request_id: String::new(),
        };
        CredentialsError::of_sts("p", sts::Error::Refused(refusal))
    }

    fn malformed(status: u16) -> CredentialsError {
        let error = sts::Error::Malformed {
            host: "h".to_owned(),
            status: StatusCode::from_u16(status).unwrap(),
            problem: String::new(),
        };
        CredentialsError::of_sts("p", error)
    }

    /// What another service than STS answered.
    fn failed(status: u16) -> CredentialsError {
        let error = ExchangeError::Failed {
            origin: "https://h".to_owned(),
            status: StatusCode::from_u16(status).unwrap(),
            code: None,
            request_id: None,
            remedy: None,
        };
        CredentialsError::of_exchange("p", error)
    }

    fn unreachable(error: HttpError) -> CredentialsError {
        CredentialsError::of_sts("p", error.into())
    }

    const HOST: String = String::new();

    #[rstest]
    #[case::throttle(refused(400, "Throttling.User"), Some(1000))]
    #[case::failure(refused(503, "ServiceUnavailable"), Some(400))]
    #[case::gateway(malformed(502), Some(400))]
    #[case::reset(unreachable(HttpError::Broken { host: HOST, cause: HOST }), Some(200))]
    #[case::clock(refused(400, "InvalidTimeStamp.Expired"), Some(0))]
    #[case::nonce(refused(400, "SignatureNonceUsed"), Some(0))]
    #[case::token(refused(401, "AuthenticationFail.OIDCToken.Expired"), Some(0))]
    #[case::not_trusted(refused(403, "NoPermission"), None)]
    #[case::unknown(refused(400, "Brand.New"), None)]
    #[case::page(malformed(200), None)]
    #[case::redirect(malformed(302), None)]
    #[case::late(unreachable(HttpError::TimedOut { host: HOST, limit: Duration::ZERO }), None)]
    #[case::nobody(unreachable(HttpError::Connect { host: HOST, cause: HOST }), None)]
    #[case::endless(unreachable(HttpError::TooLong { host: HOST, limit: 0 }), None)]
    #[case::throttled_by_a_gateway(malformed(429), Some(1000))]
    #[case::other_throttle(failed(429), Some(1000))]
    #[case::other_failure(failed(500), Some(400))]
    #[case::other_failure_with_200(failed(200), None)]
    #[case::other_refusal(failed(403), None)]
    #[case::other_reset(
        CredentialsError::of_exchange("p", HttpError::Broken { host: HOST, cause: HOST }.into()),
        Some(200)
    )]
    #[case::not_set_up(CredentialsError::not_configured("p", ""), None)]
    fn only_what_need_not_come_again_is_waited_for(
        #[case] error: CredentialsError,
        #[case] longest: Option<u64>,
    ) {
        assert_eq!(longest_wait(&error), longest.map(Duration::from_millis));
    }

    /// Always the same bytes, or none.
    #[derive(Debug)]
    struct Always(Option<u8>);

    impl Random for Always {
        fn bytes(&self) -> Result<[u8; 16], NoRandomness> {
            self.0.map(|byte| [byte; 16]).ok_or(NoRandomness)
        }
    }

    #[rstest]
    #[case(Some(0), 500)]
    #[case(Some(51), 600)]
    #[case(Some(255), 1000)]
    #[case(None, 1000)]
    fn a_wait_is_between_half_of_it_and_all_of_it(#[case] byte: Option<u8>, #[case] millis: u64) {
        let wait = part_of(Duration::from_secs(1), &Always(byte));
        assert_eq!(wait, Duration::from_millis(millis));
    }

    /// The answer of as many attempts as are made, and how many those are.
    async fn tried(answers: &[Result<&str, &str>]) -> (Result<String, CredentialsError>, usize) {
        let count = AtomicUsize::new(0);
        let attempt = || async {
            let answer = answers[count.fetch_add(1, Ordering::SeqCst)];
            answer.map(str::to_owned).map_err(|code| refused(400, code))
        };
        let answer = once_more(&SystemRandom, attempt).await;
        (answer, count.into_inner())
    }

    #[tokio::test]
    async fn there_is_one_more_try_and_the_last_answer_counts() {
        const SKEW: &str = "InvalidTimeStamp.Expired";
        let code = |error: &CredentialsError| error.refusal().unwrap().code.clone();

        let (answer, count) = tried(&[Ok("first")]).await;
        assert_eq!((answer.unwrap().as_str(), count), ("first", 1));
        let (answer, count) = tried(&[Err(SKEW), Ok("second")]).await;
        assert_eq!((answer.unwrap().as_str(), count), ("second", 2));
        let (answer, count) = tried(&[Err(SKEW), Err("NoPermission")]).await;
        assert_eq!(
            (code(&answer.unwrap_err()).as_str(), count),
            ("NoPermission", 2)
        );
        let (answer, count) = tried(&[Err(SKEW), Err(SKEW), Ok("third")]).await;
        assert_eq!((code(&answer.unwrap_err()).as_str(), count), (SKEW, 2));
        let (answer, count) = tried(&[Err("NoPermission"), Ok("second")]).await;
        assert_eq!(
            (code(&answer.unwrap_err()).as_str(), count),
            ("NoPermission", 1)
        );
    }
}
