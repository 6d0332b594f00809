//! Names as the API server takes them. What cannot be one is neither asked for, remembered nor logged whole:
//! whoever reaches the port chooses it, and through the API server a tenant chooses names that are
//! validated only after the webhooks.

/// Longest name of an object, of the kinds that are met here (RFC 1123 subdomain).
const MAX_NAME: usize = 253;
/// Longest name of a namespace (RFC 1123 label).
const MAX_NAMESPACE: usize = 63;

/// Whether there can be a namespace of that name.
pub(super) fn may_be_namespace(name: &str) -> bool {
    name.len() <= MAX_NAMESPACE && !name.contains('.') && may_be_object(name)
}

/// Whether there can be an object of that name: small letters, digits, `-` and `.`, with a letter or digit at
/// both ends.
pub(super) fn may_be_object(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    name.len() <= MAX_NAME
        && ends.iter().all(|end| end.is_some_and(|byte| plain(*byte)))
        && bytes
            .iter()
            .all(|byte| plain(*byte) || matches!(byte, b'-' | b'.'))
}

/// As much of a name as one can be long.
pub(super) fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(MAX_NAME)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::label("team-a", true, true)]
    #[case::one_letter("a", true, true)]
    #[case::subdomain("app.v1", false, true)]
    #[case::empty("", false, false)]
    #[case::upper("Team", false, false)]
    #[case::path("a/serviceaccounts/b", false, false)]
    #[case::parent("..", false, false)]
    #[case::query("a?b", false, false)]
    #[case::ends_with_a_dash("a-", false, false)]
    #[case::other_script("ä", false, false)]
    fn names_are_those_of_the_api_server(
        #[case] name: &str,
        #[case] namespace: bool,
        #[case] object: bool,
    ) {
        assert_eq!(may_be_namespace(name), namespace);
        assert_eq!(may_be_object(name), object);
    }

    #[test]
    fn lengths_are_those_of_the_api_server() {
        let of = |length| "a".repeat(length);
        assert!(may_be_namespace(&of(63)) && !may_be_namespace(&of(64)));
        assert!(may_be_object(&of(253)) && !may_be_object(&of(254)));
        assert_eq!(cut(&"é".repeat(200)).len(), 252);
    }
}
