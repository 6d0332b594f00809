//! Who may use the operator's own identity: the administrator's list, nothing else.

use crate::api::configuration::Delegation;
use crate::api::glob::matches;
use crate::contract::arn::RoleArn;

/// The first entry that allows the namespace and every role of the chain.
#[must_use]
pub fn permission<'a>(
    entries: &'a [Delegation],
    namespace: &str,
    chain: &[&RoleArn],
) -> Option<&'a Delegation> {
    entries
        .iter()
        .find(|entry| allows(&entry.namespaces, &entry.roles, namespace, chain))
}

/// Whether one entry's globs cover the namespace and every role of the chain.
pub(super) fn allows(
    namespaces: &[String],
    roles: &[String],
    namespace: &str,
    chain: &[&RoleArn],
) -> bool {
    namespaces.iter().any(|glob| matches(glob, namespace))
        && !chain.is_empty()
        && chain
            .iter()
            .all(|role| roles.iter().any(|glob| matches(glob, role.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

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
