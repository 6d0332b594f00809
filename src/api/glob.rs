//! Globs in the administrator's lists: over namespaces and over ARNs of roles.

/// Whether the glob covers the whole text. `*` stands for any run without `/` and `:`, so that
/// `acs:ram::1:role/team-*` covers neither another account nor a longer path.
#[must_use]
pub fn matches(glob: &str, text: &str) -> bool {
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

/// Whether a glob can match the name of a namespace at all.
///
/// # Errors
/// What is wrong with it.
pub fn check_namespace(glob: &str) -> Result<(), String> {
    let is_legal =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-*".contains(&byte);
    if !glob.is_empty() && glob.bytes().all(is_legal) {
        return Ok(());
    }
    Err(format!(
        "{glob:?} matches no namespace; write a name, with * for any run of characters"
    ))
}

/// Whether a glob can match the ARN of a role at all.
///
/// # Errors
/// What is wrong with it.
pub fn check_role(glob: &str) -> Result<(), String> {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/*".contains(&byte);
    let of_role = glob
        .strip_prefix("acs:ram::")
        .and_then(|rest| rest.split_once(":role/"));
    if let Some((account, name)) = of_role
        && !account.is_empty()
        && account
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'*')
        && !name.is_empty()
        && name.bytes().all(is_legal)
    {
        return Ok(());
    }
    Err(format!(
        "{glob:?} matches no ARN of a role; write acs:ram::<account id>:role/<name>, with * for any run of characters but / and :"
    ))
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
}
