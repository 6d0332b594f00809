//! Who may use the operator's own identity: the administrator's list, nothing else.

use crate::api::configuration::Delegation;
use crate::contract::arn::RoleArn;

/// The first entry that allows the namespace and every role of the chain.
#[must_use]
pub fn permission<'a>(
    entries: &'a [Delegation],
    namespace: &str,
    chain: &[&RoleArn],
) -> Option<&'a Delegation> {
    entries.iter().find(|entry| {
        entry.namespaces.iter().any(|glob| matches(glob, namespace))
            && !chain.is_empty()
            && chain
                .iter()
                .all(|role| entry.roles.iter().any(|glob| matches(glob, role.as_str())))
    })
}

/// Whether the glob covers the whole text. `*` stands for any run without `/` and `:`, so that
/// `acs:ram::1:role/team-*` covers neither another account nor a longer path.
fn matches(glob: &str, text: &str) -> bool {
    let (glob, text) = (glob.as_bytes(), text.as_bytes());
    // Where to resume when a later part does not fit: the last star, and what it has covered.
    let (mut g, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if g < glob.len() && glob[g] == b'*' {
            star = Some((g, t));
            g += 1;
        } else if g < glob.len() && glob[g] == text[t] {
            g += 1;
            t += 1;
        } else if let Some((at, covered)) = star
            && !matches!(text[covered], b'/' | b':')
        {
            star = Some((at, covered + 1));
            g = at + 1;
            t = covered + 1;
        } else {
            return false;
        }
    }
    glob[g..].iter().all(|&b| b == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case("team-*", "team-a", true)]
    #[case("team-*", "team-", true)]
    #[case("team-*", "xteam-a", false)]
    #[case("*", "acs:ram::1:role/a", false)]
    #[case("acs:ram::1:role/*", "acs:ram::1:role/a", true)]
    #[case("acs:ram::1:role/*", "acs:ram::1:role/path/a", false)]
    #[case("acs:ram::*:role/a", "acs:ram::123:role/a", true)]
    #[case("acs:ram::*", "acs:ram::123:role/a", false)]
    #[case("a*b*c", "aXbYbZc", true)]
    #[case("a*b*c", "aXb/Zc", false)]
    #[case("**", "abc", true)]
    #[case("", "", true)]
    #[case("", "a", false)]
    fn a_star_never_crosses_a_boundary(#[case] glob: &str, #[case] text: &str, #[case] hit: bool) {
        assert_eq!(matches(glob, text), hit);
    }

    /// The same rule, written as plain recursion.
    fn matches_slowly(glob: &[u8], text: &[u8]) -> bool {
        match (glob.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => {
                matches_slowly(rest, text)
                    || text.split_first().is_some_and(|(c, tail)| {
                        !matches!(c, b'/' | b':') && matches_slowly(glob, tail)
                    })
            }
            (Some((g, rest)), Some((t, tail))) => g == t && matches_slowly(rest, tail),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn backtracking_agrees_with_recursion(glob in "[ab*:/]{0,8}", text in "[ab:/]{0,8}") {
            prop_assert_eq!(matches(&glob, &text), matches_slowly(glob.as_bytes(), text.as_bytes()));
        }
    }

    fn entry(namespaces: &[&str], roles: &[&str]) -> Delegation {
        Delegation {
            namespaces: namespaces.iter().map(ToString::to_string).collect(),
            roles: roles.iter().map(ToString::to_string).collect(),
            external_id: None,
        }
    }

    #[test]
    fn one_entry_must_allow_the_namespace_and_every_role() {
        let a: RoleArn = "acs:ram::1:role/a".parse().unwrap();
        let b: RoleArn = "acs:ram::1:role/b".parse().unwrap();
        let split = [entry(&["ns"], &[a.as_str()]), entry(&["ns"], &[b.as_str()])];
        assert!(permission(&split, "ns", &[&a]).is_some());
        assert!(permission(&split, "other", &[&a]).is_none());
        assert!(permission(&split, "ns", &[&a, &b]).is_none());
        assert!(permission(&[], "ns", &[&a]).is_none());
        let both = [entry(&["ns"], &[a.as_str(), b.as_str()])];
        assert!(permission(&both, "ns", &[&a, &b]).is_some());
    }
}
