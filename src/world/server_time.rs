//! How far the clock of whoever answered is ahead of this machine's.

use chrono::{DateTime, TimeDelta, Utc};
use http::header::DATE;

use super::Response;

/// Differences below this are the answer's way and the header's whole seconds, not a wrong clock.
const NOISE: TimeDelta = TimeDelta::seconds(5);
/// Clocks that were never set are some decades off. Beyond this a year has five digits, or a time
/// with the difference added would be none any more.
const LONGEST: TimeDelta = TimeDelta::days(365 * 100);

/// How far the sender's clock is ahead of `now`, by the `Date` header of its answer (RFC 9110,
/// 6.6.1); zero when it tells no other time, or one that no service lives in.
#[must_use]
pub fn sender_is_ahead(answer: &Response, now: DateTime<Utc>) -> TimeDelta {
    let told = answer
        .headers()
        .get(DATE)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| DateTime::parse_from_rfc2822(text).ok());
    let ahead = told.map_or(TimeDelta::zero(), |told| told.to_utc() - now);
    if (NOISE..=LONGEST).contains(&ahead.abs()) {
        ahead
    } else {
        TimeDelta::zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::HeaderValue;
    use rstest::rstest;

    #[rstest]
    #[case::same("Fri, 02 Jan 2026 03:04:05 GMT", 0)]
    #[case::noise("Fri, 02 Jan 2026 03:04:09 GMT", 0)]
    #[case::ahead("Fri, 02 Jan 2026 03:24:05 GMT", 20 * 60)]
    #[case::behind("Fri, 02 Jan 2026 02:44:05 GMT", -20 * 60)]
    #[case::no_time("yesterday", 0)]
    #[case::never_set("Thu, 01 Jan 1970 00:00:00 GMT", -1_767_323_045)]
    #[case::beyond_all_times("31 Dec 262142 23:59:59 GMT", 0)]
    fn the_date_header_tells_the_difference(#[case] date: &'static str, #[case] seconds: i64) {
        let mut answer = Response::new(Bytes::new());
        answer
            .headers_mut()
            .insert(DATE, HeaderValue::from_static(date));
        let now = "2026-01-02T03:04:05Z".parse().unwrap();
        assert_eq!(sender_is_ahead(&answer, now).num_seconds(), seconds);
    }

    #[test]
    fn no_header_means_no_difference() {
        let answer = Response::new(Bytes::new());
        assert!(sender_is_ahead(&answer, DateTime::UNIX_EPOCH).is_zero());
    }
}
