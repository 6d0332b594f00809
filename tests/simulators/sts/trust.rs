//! Trust policies: which token subjects and which callers may assume a role.

use super::caller::Caller;
use super::token::Claims;
use crate::simulators::config::{FederatedTrust, PrincipalTrust, Role, Subjects, Trust};

/// Whether `role` trusts the holder of a verified token of this provider.
pub(crate) fn trusts_token(role: &Role, provider_arn: &str, claims: &Claims) -> bool {
    role.trust.iter().any(|trust| match trust {
        Trust::Federated(trust) => federated(trust, provider_arn, claims),
        Trust::Principal(_) => false,
    })
}

fn federated(trust: &FederatedTrust, provider_arn: &str, claims: &Claims) -> bool {
    trust.provider_arn == provider_arn
        && trust
            .issuer
            .as_ref()
            .is_none_or(|issuer| *issuer == claims.issuer)
        && trust
            .audiences
            .iter()
            .any(|audience| claims.audiences.contains(audience))
        && subject(&trust.subjects, &claims.subject)
}

fn subject(subjects: &Subjects, subject: &str) -> bool {
    let Subjects { equals, like } = subjects;
    if equals.is_empty() && like.is_empty() {
        return false;
    }
    (equals.is_empty() || equals.iter().any(|equal| equal == subject))
        && (like.is_empty() || like.iter().any(|pattern| is_like(pattern, subject)))
}

/// Whether `role` trusts this caller, who gave this `ExternalId`.
pub(crate) fn trusts_caller(role: &Role, caller: &Caller, external_id: Option<&str>) -> bool {
    role.trust.iter().any(|trust| match trust {
        Trust::Principal(trust) => {
            names(trust, caller)
                && trust
                    .external_id
                    .as_deref()
                    .is_none_or(|wanted| external_id == Some(wanted))
        }
        Trust::Federated(_) => false,
    })
}

fn names(trust: &PrincipalTrust, caller: &Caller) -> bool {
    if trust.principal == format!("acs:ram::{}:root", caller.account()) {
        return true;
    }
    match caller {
        Caller::LongLived { principal } => is_like(&trust.principal, principal),
        Caller::Session(session) => is_like(&trust.principal, &session.role_arn),
    }
}

/// `StringLike`: `*` stands for any characters, `?` for exactly one, all else for itself.
pub(crate) fn is_like(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    // `reachable[i]`: the pattern so far can end after the first `i` characters of the text.
    let mut reachable = vec![false; text.len() + 1];
    reachable[0] = true;
    for wanted in pattern {
        let mut next = vec![false; text.len() + 1];
        if wanted == '*' {
            let first = reachable.iter().position(|reached| *reached);
            for reached in next.iter_mut().skip(first.unwrap_or(usize::MAX)) {
                *reached = true;
            }
        } else {
            for (position, character) in text.iter().enumerate() {
                next[position + 1] = reachable[position] && (wanted == '?' || wanted == *character);
            }
        }
        reachable = next;
    }
    reachable[text.len()]
}

#[cfg(test)]
mod tests {
    use super::{is_like, subject};
    use crate::simulators::config::Subjects;

    #[test]
    fn star_and_question_mark_are_wildcards() {
        for (pattern, text) in [
            ("a", "a"),
            ("*", ""),
            ("*", "anything:at:all"),
            (
                "system:serviceaccount:team-*:app",
                "system:serviceaccount:team-a:app",
            ),
            ("a?c", "abc"),
            ("a*b*c", "a-b-b-c"),
            ("ab**", "ab"),
            ("?*", "x"),
        ] {
            assert!(is_like(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("a", "A"),
            ("a?c", "ac"),
            ("?", ""),
            (
                "system:serviceaccount:team-*:app",
                "system:serviceaccount:team-a:app2",
            ),
            ("a*b", "a-b-c"),
            ("a.c", "abc"),
        ] {
            assert!(!is_like(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn conditions_on_the_subject_hold_together() {
        let list = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        let both = Subjects {
            equals: list(&["ab", "cd"]),
            like: list(&["a*"]),
        };
        assert!(subject(&both, "ab"));
        assert!(!subject(&both, "cd"));
        assert!(!subject(&both, "ax"));
        assert!(!subject(&Subjects::default(), "ab"));
    }
}
