//! The grammar of RAM names: the one check between a tenant's text and an ARN.

use std::fmt;
use std::str::FromStr;

/// Longest ARN that is accepted anywhere.
pub const MAX_LEN: usize = 300;

/// A text that is no legal RAM name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a legal {what}; expected {expected}")]
pub struct InvalidName {
    /// What the text was meant to be.
    pub what: &'static str,
    /// The text, cut to 120 characters.
    pub text: String,
    /// The grammar in words.
    pub expected: &'static str,
}

impl InvalidName {
    fn new(what: &'static str, text: &str, expected: &'static str) -> Self {
        Self {
            what,
            text: text.chars().take(120).collect(),
            expected,
        }
    }
}

/// ARN of a RAM role: `acs:ram::<account>:role/<path and name>`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoleArn(String);

/// ARN of a RAM OIDC provider: `acs:ram::<account>:oidc-provider/<name>`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProviderArn(String);

const ROLE_ARN_GRAMMAR: &str = "acs:ram::<account id>:role/<role name>";
const PROVIDER_ARN_GRAMMAR: &str = "acs:ram::<account id>:oidc-provider/<provider name>";
const ROLE_NAME_GRAMMAR: &str = "1 to 64 letters, digits, '.', '_' or '-'";
const ACCOUNT_GRAMMAR: &str = "1 to 32 digits";

impl RoleArn {
    /// The role `name` of the account `account`.
    ///
    /// # Errors
    /// When either is not legal: see [`is_role_name`] and [`is_account_id`].
    pub fn of(account: &str, name: &str) -> Result<Self, InvalidName> {
        if !is_account_id(account) {
            return Err(InvalidName::new("account id", account, ACCOUNT_GRAMMAR));
        }
        if !is_role_name(name) {
            return Err(InvalidName::new("role name", name, ROLE_NAME_GRAMMAR));
        }
        Ok(Self(format!("acs:ram::{account}:role/{name}")))
    }

    /// The ARN as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The account that owns the role.
    #[must_use]
    pub fn account(&self) -> &str {
        self.0.split(':').nth(3).unwrap_or_default()
    }

    /// The role's name, after its path.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

impl ProviderArn {
    /// The ARN as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The account that owns the provider.
    #[must_use]
    pub fn account(&self) -> &str {
        self.0.split(':').nth(3).unwrap_or_default()
    }
}

impl FromStr for RoleArn {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let legal = split_arn(text, "role/").is_some_and(|path| path.split('/').all(is_role_name));
        if legal {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName::new("role ARN", text, ROLE_ARN_GRAMMAR))
        }
    }
}

impl FromStr for ProviderArn {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if split_arn(text, "oidc-provider/").is_some_and(is_provider_name) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName::new(
                "OIDC provider ARN",
                text,
                PROVIDER_ARN_GRAMMAR,
            ))
        }
    }
}

macro_rules! text_traits {
    ($($name:ty),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
text_traits!(RoleArn, ProviderArn);

/// What follows `acs:ram::<account>:<kind>`, if the text starts so and the account is legal.
fn split_arn<'a>(text: &'a str, kind: &str) -> Option<&'a str> {
    if text.len() > MAX_LEN {
        return None;
    }
    let (account, resource) = text.strip_prefix("acs:ram::")?.split_once(':')?;
    is_account_id(account).then_some(())?;
    resource.strip_prefix(kind)
}

/// Whether the text is a legal account id: digits only.
#[must_use]
pub fn is_account_id(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

/// Whether the text is a legal RAM role name. Nothing is trimmed.
#[must_use]
pub fn is_role_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text != "."
        && text != ".."
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

fn is_provider_name(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::simple("acs:ram::1234567890123456:role/app")]
    #[case::path("acs:ram::1:role/team/app")]
    fn legal_role_arns_are_accepted(#[case] text: &str) {
        assert_eq!(text.parse::<RoleArn>().unwrap().as_str(), text);
    }

    #[rstest]
    #[case::empty("")]
    #[case::aws("arn:aws:iam::1:role/app")]
    #[case::no_account("acs:ram:::role/app")]
    #[case::letters_in_account("acs:ram::12x:role/app")]
    #[case::no_name("acs:ram::1:role/")]
    #[case::trailing_slash("acs:ram::1:role/app/")]
    #[case::dot_dot("acs:ram::1:role/../app")]
    #[case::newline("acs:ram::1:role/app\n")]
    #[case::blank(" acs:ram::1:role/app")]
    #[case::expansion("acs:ram::1:role/$(X)")]
    #[case::wide_digit("acs:ram::１:role/app")]
    #[case::user("acs:ram::1:user/app")]
    #[case::glob("acs:ram::1:role/*")]
    fn illegal_role_arns_are_refused(#[case] text: &str) {
        assert!(text.parse::<RoleArn>().is_err());
    }

    #[test]
    fn a_role_arn_names_its_account_and_role() {
        let arn: RoleArn = "acs:ram::42:role/team/app".parse().unwrap();
        assert_eq!((arn.account(), arn.name()), ("42", "app"));
        assert_eq!(
            RoleArn::of("42", "app").unwrap().as_str(),
            "acs:ram::42:role/app"
        );
        assert!(RoleArn::of("42", "team/app").is_err());
    }

    #[test]
    fn an_error_names_text_and_grammar() {
        let error = "acs:ram::1:role/"
            .parse::<RoleArn>()
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("acs:ram::1:role/") && error.contains("<role name>"),
            "{error}"
        );
    }
}
