//! Percent-encoding and the layout of times, as signatures need them: one spelling only.

use chrono::{DateTime, SecondsFormat, Utc};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The RFC 3986 unreserved set stays, everything else is escaped.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Escapes everything but letters, digits, `-`, `_`, `.` and `~`; a space becomes `%20`.
#[must_use]
pub fn percent_encode(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

/// `name=value` pairs in the given order, escaped, joined with `&`: a query or a form.
#[must_use]
pub fn pairs<N: AsRef<str>, V: AsRef<str>>(parameters: &[(N, V)]) -> String {
    let mut text = String::new();
    for (name, value) in parameters {
        if !text.is_empty() {
            text.push('&');
        }
        text.extend(utf8_percent_encode(name.as_ref(), ESCAPED));
        text.push('=');
        text.extend(utf8_percent_encode(value.as_ref(), ESCAPED));
    }
    text
}

/// A time as requests carry it: UTC with whole seconds, `2024-01-02T03:04:05Z`.
#[must_use]
pub fn timestamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unreserved_characters_stay() {
        assert_eq!(
            percent_encode(r"123abc!@#$%^&*()-=_+ ~|\/"),
            "123abc%21%40%23%24%25%5E%26%2A%28%29-%3D_%2B%20~%7C%5C%2F"
        );
    }

    #[test]
    fn pairs_keep_their_order() {
        let form = [
            ("key", "value"),
            ("key2", "http://domain/?key=value&key2=value2"),
        ];
        assert_eq!(
            pairs(&form),
            "key=value&key2=http%3A%2F%2Fdomain%2F%3Fkey%3Dvalue%26key2%3Dvalue2"
        );
        assert_eq!(pairs::<&str, &str>(&[]), "");
    }

    #[test]
    fn a_time_has_whole_seconds() {
        let time = "2024-01-02T03:04:05.678Z".parse().unwrap();
        assert_eq!(timestamp(time), "2024-01-02T03:04:05Z");
    }
}
