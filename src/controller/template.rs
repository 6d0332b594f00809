//! The template keys of a Secret: minijinja without loader, includes or macros, and with a bound on
//! everything a tenant could make long.
//!
//! Templates come from tenants and are rendered in the operator's process. Fuel and a capped writer
//! do not bound the strings that `~`, `*`, `{% set %}` or filters build in between (thirty
//! doublings make a gigabyte), so an expression is a variable with filters and nothing else.

use std::io::{self, Write};

use minijinja::value::Value;
use minijinja::{Environment, ErrorKind, UndefinedBehavior};

use super::content::Content;
use super::reason::{Problem, Reason};
use super::wanted::Wanted;
use crate::credentials::formats::timestamp;
use crate::secret::SecretText;
use crate::sts::TemporaryCredentials;

/// Instructions that one template may run.
const FUEL: u64 = 10_000;
/// Longest value of one key, in bytes.
const MAX_VALUE: usize = 64 * 1024;

/// Renders the template keys.
///
/// # Errors
/// Names key and line, never a value.
pub(super) fn render(
    wanted: &Wanted,
    credentials: &TemporaryCredentials,
) -> Result<Content, Problem> {
    if wanted.template.is_empty() {
        return Ok(Content::new());
    }
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_keep_trailing_newline(true);
    environment.add_filter("upper", minijinja::filters::upper);
    environment.add_filter("lower", minijinja::filters::lower);
    environment.add_filter("trim", minijinja::filters::trim);
    let variables = Value::from_iter([
        ("access_key_id", credentials.access_key_id.clone()),
        (
            "access_key_secret",
            credentials.access_key_secret.expose().to_owned(),
        ),
        (
            "security_token",
            credentials.security_token.expose().to_owned(),
        ),
        ("expiration", timestamp(credentials.expiration)),
        ("role_arn", wanted.last_role().to_string()),
        ("region", wanted.region.clone()),
    ]);
    wanted
        .template
        .iter()
        .map(|(key, source)| {
            let text = render_one(&environment, source, &variables).map_err(|cause| {
                Problem::new(
                    Reason::TemplateFailed,
                    format!("spec.secret.template[{key}]: {cause}"),
                )
            })?;
            Ok((key.clone(), SecretText::new(text)))
        })
        .collect()
}

fn render_one(
    environment: &Environment<'_>,
    source: &str,
    variables: &Value,
) -> Result<String, String> {
    check_expressions(source)?;
    let template = environment
        .template_from_str(source)
        .map_err(|error| explain(&error))?;
    let mut sink = Capped {
        text: Vec::new(),
        full: false,
    };
    let outcome = template.render_captured_to(variables, &mut sink);
    if sink.full {
        return Err(format!("the value is longer than {MAX_VALUE} bytes"));
    }
    outcome.map_err(|error| explain(&error))?;
    String::from_utf8(sink.text).map_err(|_| "the value is no UTF-8".to_owned())
}

/// Refuses statements, and expressions that could build a string.
///
/// Quotes are refused too: in a string literal `}}` would end the expression for this scan but not
/// for the engine.
fn check_expressions(source: &str) -> Result<(), String> {
    let line_of = |rest: &str| source[..source.len() - rest.len()].matches('\n').count() + 1;
    let mut rest = source;
    while let Some(start) = rest.find("{{").into_iter().chain(rest.find("{%")).min() {
        rest = &rest[start..];
        if rest.starts_with("{%") {
            return Err(format!(
                "line {}: statements ({{% … %}}) are not possible",
                line_of(rest)
            ));
        }
        let end = rest.find("}}").ok_or_else(|| {
            format!(
                "line {}: an expression is not closed by }}}}",
                line_of(rest)
            )
        })?;
        let legal =
            |c: char| c.is_ascii_alphanumeric() || c.is_ascii_whitespace() || "_|-".contains(c);
        if !rest[2..end].chars().all(legal) {
            return Err(format!(
                "line {}: an expression is a variable, perhaps with a filter (upper, lower, trim)",
                line_of(rest)
            ));
        }
        rest = &rest[end + 2..];
    }
    Ok(())
}

/// What is wrong and where. The engine's own detail may quote values, so only its kind is told;
/// for an undefined name the variables that exist are.
fn explain(error: &minijinja::Error) -> String {
    let line = error
        .line()
        .map_or_else(String::new, |line| format!("line {line}: "));
    let what = match error.kind() {
        ErrorKind::UndefinedError => {
            "unknown variable; there are access_key_id, access_key_secret, security_token, expiration, role_arn and region".to_owned()
        }
        ErrorKind::OutOfFuel => "the template does not come to an end".to_owned(),
        kind => kind.to_string(),
    };
    format!("{line}{what}")
}

/// A writer that stops at the bound instead of growing.
struct Capped {
    text: Vec<u8>,
    full: bool,
}

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.text.len() + bytes.len() > MAX_VALUE {
            self.full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::content::tests::{credentials, wanted};
    use rstest::rstest;

    fn render_text(source: &str) -> Result<String, String> {
        let mut wanted = wanted();
        wanted.template.insert("KEY".to_owned(), source.to_owned());
        render(&wanted, &credentials())
            .map(|content| content["KEY"].expose().to_owned())
            .map_err(|problem| problem.message)
    }

    #[test]
    fn all_documented_variables_are_there() {
        assert_eq!(
            render_text(
                "{{ access_key_id }} {{ access_key_secret }} {{ security_token }} {{ expiration }} {{ role_arn }} {{ region }}\n"
            )
            .unwrap(),
            "STS.NTest sk-value st-value 2026-01-02T04:00:00Z acs:ram::1:role/app cn-hangzhou\n"
        );
        assert_eq!(render_text("{{ region | upper }}").unwrap(), "CN-HANGZHOU");
    }

    #[rstest]
    #[case::syntax("x\n{{ access_key_secret", "line 2")]
    #[case::unknown("{{ secret }}", "unknown variable")]
    #[case::attribute("{{ access_key_secret.foo.bar }}", "line 1")]
    #[case::filter("{{ access_key_secret | shout }}", "line 1")]
    #[case::include("{% include 'x' %}", "statements")]
    #[case::doubling("\n{% set a = access_key_secret ~ access_key_secret %}", "line 2")]
    #[case::repetition("{{ access_key_secret * 4000 }}", "an expression is")]
    #[case::hidden_end("{{ '}}' ~ access_key_secret }}", "an expression is")]
    fn failures_name_key_and_cause_but_no_value(#[case] source: &str, #[case] part: &str) {
        let error = render_text(source).unwrap_err();
        assert!(error.contains("KEY") && error.contains(part), "{error}");
        assert!(!error.contains("sk-value"), "{error}");
    }

    #[test]
    fn a_value_has_an_end() {
        let source = format!("{}{{{{ access_key_secret }}}}", "x".repeat(MAX_VALUE));
        assert!(render_text(&source).unwrap_err().contains("longer than"));
    }
}
