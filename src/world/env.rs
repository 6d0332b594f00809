//! Variables of the process.

use std::collections::BTreeMap;
use std::fmt;

/// Environment variables as this product reads them.
pub trait Env: fmt::Debug + Send + Sync {
    /// The value of a variable. An empty one counts as none, as it does in every official SDK.
    ///
    /// # Errors
    /// [`NotUnicode`]: such a value is set, so it must not pass for an absent one.
    fn var(&self, name: &str) -> Result<Option<String>, NotUnicode>;
}

/// A variable whose value is no Unicode text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the variable {0} is not UTF-8; set it anew")]
pub struct NotUnicode(pub String);

/// The process's environment.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEnv;

impl Env for SystemEnv {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the real environment"
    )]
    fn var(&self, name: &str) -> Result<Option<String>, NotUnicode> {
        match std::env::var_os(name) {
            None => Ok(None),
            Some(value) => match value.into_string() {
                Ok(text) => Ok(Some(text).filter(|text| !text.is_empty())),
                Err(_) => Err(NotUnicode(name.to_owned())),
            },
        }
    }
}

/// An environment that is written down, for tests and for programs that keep the real one out.
#[derive(Clone, Default)]
pub struct FixedEnv(BTreeMap<String, String>);

impl FixedEnv {
    /// Exactly these variables.
    pub fn of<N: Into<String>, V: Into<String>>(
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let own = |(name, value): (N, V)| (name.into(), value.into());
        Self(variables.into_iter().map(own).collect())
    }
}

impl Env for FixedEnv {
    fn var(&self, name: &str) -> Result<Option<String>, NotUnicode> {
        Ok(self.0.get(name).filter(|text| !text.is_empty()).cloned())
    }
}

impl fmt::Debug for FixedEnv {
    /// Names only: a value may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_counts_as_none() {
        let env = FixedEnv::of([("A", "a"), ("B", "")]);
        assert_eq!(env.var("A").unwrap().as_deref(), Some("a"));
        assert_eq!(env.var("B").unwrap(), None);
        assert_eq!(env.var("C").unwrap(), None);
    }

    #[test]
    fn debug_shows_names_and_no_values() {
        let env = FixedEnv::of([("KEY", "hunter2")]);
        assert_eq!(format!("{env:?}"), r#"{"KEY"}"#);
    }
}
