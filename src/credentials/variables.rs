//! The environment as providers read it: an unreadable variable is a mistake, never an absent one.

use super::error::CredentialsError;
use crate::world::Env;

/// The variables that one provider reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Variables<'a> {
    provider: &'static str,
    env: &'a dyn Env,
}

impl<'a> Variables<'a> {
    pub(super) fn of(provider: &'static str, env: &'a dyn Env) -> Self {
        Self { provider, env }
    }

    /// The value, unless it is absent or empty.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, CredentialsError> {
        self.env
            .var(name)
            .map_err(|error| CredentialsError::misconfigured(self.provider, error))
    }

    /// `given`, unless it is absent or empty; else the variable.
    pub(super) fn text_or(
        &self,
        given: Option<String>,
        name: &str,
    ) -> Result<Option<String>, CredentialsError> {
        match given.filter(|text| !text.is_empty()) {
            Some(text) => Ok(Some(text)),
            None => self.text(name),
        }
    }

    /// Whether a switch is on. As in the official SDKs only `true` counts, in any case.
    pub(super) fn switch(&self, name: &str) -> Result<bool, CredentialsError> {
        Ok(self
            .text(name)?
            .is_some_and(|text| text.eq_ignore_ascii_case("true")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{FixedEnv, NotUnicode};

    #[test]
    fn only_true_switches_on() {
        for (value, on) in [("true", true), ("True", true), ("1", false), ("yes", false)] {
            let env = FixedEnv::of([("SWITCH", value)]);
            assert_eq!(
                Variables::of("p", &env).switch("SWITCH").unwrap(),
                on,
                "{value}"
            );
        }
    }

    #[derive(Debug)]
    struct Garbled;

    impl Env for Garbled {
        fn var(&self, name: &str) -> Result<Option<String>, NotUnicode> {
            Err(NotUnicode(name.to_owned()))
        }
    }

    #[test]
    fn an_unreadable_variable_is_a_mistake() {
        let error = Variables::of("p", &Garbled).text("NAME").unwrap_err();
        assert!(
            matches!(error, CredentialsError::Misconfigured { .. }),
            "{error:?}"
        );
    }
}
