//! What can be asked of the metadata service, and where it stands.

use std::fmt;
use std::str::FromStr;

/// Path of all data.
const DATA: &str = "/latest/meta-data/";
/// Path of the roles below it.
const ROLES: &str = "ram/security-credentials/";

/// One thing that the service knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// A token for the other questions.
    Token,
    /// The name of the machine's role.
    RoleName,
    /// Credentials of this role.
    Credentials(RoleName),
    /// The region.
    Region,
    /// The account that owns the machine.
    Account,
}

impl Question {
    /// The path of the URL.
    pub(super) fn path(&self) -> String {
        match self {
            Self::Token => "/latest/api/token".to_owned(),
            Self::RoleName => format!("{DATA}{ROLES}"),
            Self::Credentials(role) => format!("{DATA}{ROLES}{role}"),
            Self::Region => format!("{DATA}region-id"),
            Self::Account => format!("{DATA}owner-account-id"),
        }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token => f.write_str("an IMDSv2 token"),
            Self::RoleName => f.write_str("the name of the RAM role"),
            Self::Credentials(role) => write!(f, "credentials of the RAM role {role}"),
            Self::Region => f.write_str("the region"),
            Self::Account => f.write_str("the account"),
        }
    }
}

/// Name of a RAM role that may stand in a path as it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RoleName(String);

/// A text that is no role name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of a RAM role; expected 1 to 64 letters, digits, '.', '_' or '-'")]
pub struct InvalidRoleName(String);

impl FromStr for RoleName {
    type Err = InvalidRoleName;

    fn from_str(text: &str) -> Result<Self, InvalidRoleName> {
        let legal = (1..=64).contains(&text.len())
            && text != "."
            && text != ".."
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if legal {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidRoleName(text.chars().take(120).collect()))
        }
    }
}

impl RoleName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn paths_are_those_of_the_service() {
        let role = "node-role".parse().unwrap();
        for (question, path) in [
            (Question::Token, "/latest/api/token"),
            (
                Question::RoleName,
                "/latest/meta-data/ram/security-credentials/",
            ),
            (
                Question::Credentials(role),
                "/latest/meta-data/ram/security-credentials/node-role",
            ),
            (Question::Region, "/latest/meta-data/region-id"),
        ] {
            assert_eq!(question.path(), path);
        }
    }

    #[rstest]
    #[case("")]
    #[case("..")]
    #[case("a/b")]
    #[case("a b")]
    #[case("a?b")]
    #[case("role\n")]
    #[case("<html>")]
    fn what_would_change_the_path_is_no_role_name(#[case] text: &str) {
        assert!(text.parse::<RoleName>().is_err());
    }
}
