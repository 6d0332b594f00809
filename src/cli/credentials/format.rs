//! What is printed: a summary for a person, or a format for a program. Pure.

use std::fmt::Write as _;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use super::explain::columns;
use super::keys;
use crate::credentials::Credentials;
use crate::credentials::formats::{self, Fields, Keys};
use crate::secret::SecretText;

/// What stands in the place of a secret: of no secret a part, a hash or the length.
const MASK: &str = "********";

/// A form that another program reads.
#[expect(clippy::doc_markdown, reason = "help texts are no Markdown")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// Lines for a shell: eval "$(rrsa credentials get --format env --show-secrets)"
    Env,
    /// What the process_command of an External profile must print
    Json,
    /// A file of profiles for the SDKs: ~/.alibabacloud/credentials.ini
    Ini,
    /// A configuration of the Alibaba Cloud CLI: ~/.aliyun/config.json
    Cli,
    /// What a credentials URI answers; for temporary keys only
    Uri,
}

/// Whether secrets are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Secrets {
    Masked,
    Shown,
}

impl Secrets {
    fn of(self, text: &SecretText) -> SecretText {
        match self {
            Self::Masked => MASK.into(),
            Self::Shown => text.clone(),
        }
    }
}

/// The credentials in this format.
pub(super) fn rendered(
    credentials: &Credentials,
    format: Format,
    secrets: Secrets,
    region: Option<&str>,
) -> anyhow::Result<SecretText> {
    let keys = keys(credentials)?;
    // Before anything is written, so that no format can forget it.
    let keys = Keys {
        access_key_secret: secrets.of(&keys.access_key_secret),
        security_token: keys.security_token.as_ref().map(|token| secrets.of(token)),
        ..keys
    };
    Ok(match format {
        // What is masked must not be set by a shell that evaluates it all the same.
        Format::Env => shell_lines(
            &keys,
            match secrets {
                Secrets::Masked => "# ",
                Secrets::Shown => "",
            },
        ),
        Format::Ini => formats::ini(&keys),
        Format::Json => pretty(&Value::Object(formats::process_output(&keys))),
        Format::Cli => pretty(&formats::cli_configuration(formats::profile(&keys), region)),
        Format::Uri => pretty(&Value::Object(uri_answer(
            &keys,
            credentials.provider_name(),
        )?)),
    })
}

/// The answer of a credentials URI.
///
/// # Errors
/// For keys without an end.
pub(super) fn uri_answer(keys: &Keys, provider: &str) -> anyhow::Result<Fields> {
    formats::uri_answer(keys).ok_or_else(|| {
        anyhow::anyhow!(
            "{provider} gave keys without {}, and SDKs take only temporary keys from a credentials \
             URI; assume a role with --role-arn, or use `rrsa credentials exec`",
            match keys.security_token {
                None => "a security token",
                Some(_) => "a known end",
            }
        )
    })
}

/// Sets the variables of these keys, and unsets those that they do not have: a token of other keys
/// would spoil them. Each line begins with `mark`.
fn shell_lines(keys: &Keys, mark: &str) -> SecretText {
    let variables = formats::variables(keys);
    let mut lines = String::new();
    for name in formats::VARIABLES {
        let _ = match variables.iter().find(|(set, _)| set == name) {
            Some((_, value)) => writeln!(lines, "{mark}{}", export(name, value.expose())),
            None => writeln!(lines, "{mark}unset {name}"),
        };
    }
    lines.into()
}

/// A line that sets a variable in any POSIX shell.
pub(super) fn export(name: &str, value: &str) -> String {
    format!("export {name}='{}'", value.replace('\'', r"'\''"))
}

fn pretty(value: &Value) -> SecretText {
    format!("{value:#}\n").into()
}

/// The credentials for a person.
pub(super) fn summary(
    credentials: &Credentials,
    secrets: Secrets,
    now: DateTime<Utc>,
) -> anyhow::Result<SecretText> {
    let expires = expires(credentials, now);
    let provider = credentials.provider_name();
    if let Some(token) = credentials.bearer_token() {
        let token = secrets.of(token);
        let rows = [
            ["provider", provider],
            ["bearer token", token.expose()],
            ["expires", &expires],
        ];
        return Ok(columns(&rows).into());
    }
    let keys = keys(credentials)?;
    let secret = secrets.of(&keys.access_key_secret);
    let token = keys
        .security_token
        .map_or_else(|| "none".into(), |token| secrets.of(&token));
    let rows = [
        ["provider", provider],
        ["access key id", &keys.access_key_id],
        ["access key secret", secret.expose()],
        ["security token", token.expose()],
        ["expires", &expires],
    ];
    Ok(columns(&rows).into())
}

/// When they end, by the issuer's clock.
fn expires(credentials: &Credentials, now: DateTime<Utc>) -> String {
    match (credentials.expiration(), credentials.security_token()) {
        (Some(end), _) => format!(
            "{}, {}",
            formats::timestamp(end),
            in_words(end - now - credentials.issuer_is_ahead())
        ),
        (None, Some(_)) => "at an unknown time".to_owned(),
        (None, None) => "never".to_owned(),
    }
}

fn in_words(left: TimeDelta) -> String {
    let seconds = left.num_seconds();
    match (seconds / 3600, seconds / 60 % 60) {
        _ if seconds < 0 => "which is over".to_owned(),
        (0, 0) => format!("in {seconds} s"),
        (0, minutes) => format!("in {minutes} min"),
        (hours, minutes) => format!("in {hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum as _;
    use rstest::rstest;

    const SECRET: &str = "NVnf4aFLMFKmsj3bW8V9JsIfHf1MWv";
    const TOKEN: &str = "CAISwQJ1q6Ft5B2yfSjIr5fGe/DWmp5P7/2oTnHgn1cxYvZ1q5zm2jz2";

    fn temporary() -> Credentials {
        Credentials::new("STS.NTest", SECRET.into(), "oidc_role_arn")
            .with_security_token(TOKEN.into())
            .with_expiration(time("2026-01-02T04:00:00Z"))
    }

    fn time(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    /// Whether a part of the secret that somebody could use or recognise is in the text.
    fn leaks(text: &str, secret: &str) -> bool {
        let bytes = secret.as_bytes();
        bytes
            .windows(4)
            .any(|part| text.contains(std::str::from_utf8(part).unwrap()))
    }

    #[test]
    fn masked_no_format_has_a_part_of_a_secret() {
        for format in Format::value_variants() {
            let text = rendered(&temporary(), *format, Secrets::Masked, None).unwrap();
            let text = text.expose();
            assert!(text.contains(MASK), "{format:?}: {text}");
            assert!(text.contains("STS.NTest"), "{format:?}: {text}");
            assert!(
                !leaks(text, SECRET) && !leaks(text, TOKEN),
                "{format:?}: {text}"
            );
        }
        let text = summary(&temporary(), Secrets::Masked, time("2026-01-02T03:00:00Z")).unwrap();
        assert!(!leaks(text.expose(), SECRET) && !leaks(text.expose(), TOKEN));
        let bearer = Credentials::bearer(TOKEN.into(), "bearer");
        let text = summary(&bearer, Secrets::Masked, time("2026-01-02T03:00:00Z")).unwrap();
        assert!(!leaks(text.expose(), TOKEN));
    }

    #[test]
    fn a_shell_that_evaluates_masked_lines_sets_nothing() {
        let text = rendered(&temporary(), Format::Env, Secrets::Masked, None).unwrap();
        assert!(text.expose().lines().all(|line| line.starts_with("# ")));
    }

    #[test]
    fn shown_every_format_has_them_whole() {
        for format in Format::value_variants() {
            let text = rendered(&temporary(), *format, Secrets::Shown, None).unwrap();
            let text = text.expose();
            assert!(
                text.contains(SECRET) && text.contains(TOKEN),
                "{format:?}: {text}"
            );
            assert!(text.ends_with('\n'), "{format:?}");
        }
    }

    #[test]
    fn the_summary_reads_well() {
        let text = summary(&temporary(), Secrets::Masked, time("2026-01-02T03:00:30Z")).unwrap();
        assert_eq!(
            text.expose(),
            "  provider           oidc_role_arn\n  \
             access key id      STS.NTest\n  \
             access key secret  ********\n  \
             security token     ********\n  \
             expires            2026-01-02T04:00:00Z, in 59 min\n"
        );
    }

    #[test]
    fn what_the_new_keys_lack_is_unset() {
        let keys = Credentials::new("LTAItest", "it's".into(), "env");
        let text = rendered(&keys, Format::Env, Secrets::Shown, None).unwrap();
        assert_eq!(
            text.expose(),
            "export ALIBABA_CLOUD_ACCESS_KEY_ID='LTAItest'\n\
             export ALIBABA_CLOUD_ACCESS_KEY_SECRET='it'\\''s'\n\
             unset ALIBABA_CLOUD_SECURITY_TOKEN\n\
             unset ALIBABA_CLOUD_CREDENTIALS_EXPIRATION\n"
        );
    }

    #[test]
    fn keys_without_an_end_are_no_answer_of_a_uri() {
        let keys = Credentials::new("LTAItest", SECRET.into(), "env");
        let error = rendered(&keys, Format::Uri, Secrets::Shown, None).unwrap_err();
        assert!(error.to_string().contains("--role-arn"), "{error}");
        assert!(!leaks(&error.to_string(), SECRET));
    }

    #[rstest]
    #[case(7322, "in 2 h 2 min")]
    #[case(3599, "in 59 min")]
    #[case(59, "in 59 s")]
    #[case(-1, "which is over")]
    fn a_span_is_told_in_words(#[case] seconds: i64, #[case] words: &str) {
        assert_eq!(in_words(TimeDelta::seconds(seconds)), words);
    }
}
