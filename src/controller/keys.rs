//! Whether the API server would take the keys that a spec names for its Secret. The schema says so at
//! admission; a binding that was stored before it did must not cost an exchange to learn it. Pure.

use std::collections::BTreeMap;

use super::reason::{Problem, Reason};
use crate::api::v1alpha1::SecretSpec;

/// Longest name of a label or annotation, after its prefix.
const LONGEST_NAME: usize = 63;
/// Longest prefix of a label or annotation, and longest key of a Secret's data.
const LONGEST: usize = 253;

/// Checks labels, annotations and template.
///
/// # Errors
/// A [`Problem`] that names the field and the key.
pub(super) fn check(secret: &SecretSpec) -> Result<(), Problem> {
    first_illegal("spec.secret.labels", &secret.labels, is_qualified)?;
    first_illegal("spec.secret.annotations", &secret.annotations, is_qualified)?;
    first_illegal("spec.secret.template", &secret.template, is_data_key)
}

fn first_illegal(
    field: &str,
    map: &BTreeMap<String, String>,
    is_legal: fn(&str) -> bool,
) -> Result<(), Problem> {
    map.keys()
        .find(|key| !is_legal(key))
        .map_or(Ok(()), |key| Err(problem(field, key)))
}

fn problem(field: &str, key: &str) -> Problem {
    Problem::new(
        Reason::InvalidSpec,
        format!("{field}: {key:?} is no key that a Secret can have"),
    )
}

fn is_qualified(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    prefix.is_none_or(is_subdomain)
        && (1..=LONGEST_NAME).contains(&name.len())
        && is_framed(name, |byte| {
            byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)
        })
}

fn is_subdomain(text: &str) -> bool {
    text.len() <= LONGEST
        && text.split('.').all(|label| {
            is_framed(label, |byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
            })
        })
}

/// Of those characters alone, with a letter or digit at both ends.
fn is_framed(text: &str, is_legal: impl Fn(u8) -> bool) -> bool {
    let ends = [text.bytes().next(), text.bytes().next_back()];
    text.bytes().all(is_legal)
        && ends
            .iter()
            .all(|end| end.is_some_and(|byte| byte.is_ascii_alphanumeric()))
}

fn is_data_key(key: &str) -> bool {
    (1..=LONGEST).contains(&key.len())
        && key != "."
        && !key.starts_with("..")
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("team", true)]
    #[case("a.example.com/Team_1", true)]
    #[case("", false)]
    #[case("a b", false)]
    #[case("-a", false)]
    #[case("a/b/c", false)]
    #[case("/a", false)]
    #[case("a/", false)]
    #[case("a..b/c", false)]
    #[case("Example.com/a", false)]
    fn keys_of_labels_are_qualified_names(#[case] key: &str, #[case] legal: bool) {
        assert_eq!(is_qualified(key), legal);
    }

    #[test]
    fn lengths_are_bounded() {
        let long = |length: usize| "a".repeat(length);
        assert!(is_qualified(&format!("{}/{}", long(253), long(63))));
        assert!(!is_qualified(&format!("{}/a", long(254))) && !is_qualified(&long(64)));
        assert!(is_data_key(&long(253)) && !is_data_key(&long(254)));
    }

    #[rstest]
    #[case("AWS_KEY", true)]
    #[case(".aws.ini", true)]
    #[case("..a", false)]
    #[case(".", false)]
    #[case("..", false)]
    #[case("a/b", false)]
    fn keys_of_data_are_names_of_files(#[case] key: &str, #[case] legal: bool) {
        assert_eq!(is_data_key(key), legal);
    }

    #[test]
    fn field_and_key_are_named() {
        let mut secret = SecretSpec::default();
        check(&secret).unwrap();
        secret.annotations.insert("a b".to_owned(), String::new());
        let problem = check(&secret).unwrap_err();
        assert_eq!(problem.reason, Reason::InvalidSpec);
        assert!(problem.message.contains("spec.secret.annotations"));
        assert!(problem.message.contains("\"a b\""), "{}", problem.message);
    }
}
