//! `rrsa credentials`: the library from the command line.
//!
//! ```text
//! source       which credentials: the options that all commands share, and what they make of it
//! get          print them
//! explain      what each source said, for a person
//! format       what is printed
//! exec         run a program with them
//! serve        give them out at a credentials URI
//! endpoint     that URI's answers
//! environment  what the variables of a program become
//! ```

mod endpoint;
mod environment;
mod exec;
mod explain;
mod format;
mod get;
mod serve;
mod source;

use std::ffi::OsStr;
use std::io;
use std::process::ExitCode;

use clap::Subcommand;

use super::{operator, print};
use crate::credentials::formats::Keys;
use crate::credentials::{Credentials, CredentialsError};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[expect(clippy::doc_markdown, reason = "help texts are no Markdown")]
#[derive(Debug, Subcommand)]
enum Command {
    /// Print credentials, or explain where they come from and why there are none.
    ///
    /// Secrets are masked unless --show-secrets is given. Credentials go to standard output, and
    /// everything else to standard error. Without credentials the exit code is not zero.
    Get(get::Args),
    /// Run a program with credentials in its environment.
    ///
    /// The program gets the keys as the variables that SDKs, the Alibaba Cloud CLI and Terraform
    /// read, and variables that name another identity are taken away from it. It takes the place
    /// of rrsa, with its signals and its exit code. Its keys are not renewed: for a program that
    /// outlives them there is `rrsa credentials serve -- COMMAND`.
    Exec(exec::Args),
    /// Give credentials out at a URI on this machine, renewed as long as it runs.
    ///
    /// Without a COMMAND it prints the line that sets ALIBABA_CLOUD_CREDENTIALS_URI, and serves the
    /// URI until Ctrl-C. Whoever knows the URI gets the credentials, so it holds 32 random digits,
    /// and only 127.0.0.1 listens. SDKs ask it after all other sources.
    ///
    /// With a COMMAND that program gets the variable, and the URI ends with it. What SDKs would ask
    /// before is switched off for the program, except the section "default" of the ini file.
    Serve(serve::Args),
}

impl Args {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Get(args) => args.run(),
            Command::Exec(args) => args.run(),
            Command::Serve(args) => args.run(),
        }
    }
}

/// Runs this to its end. What it leaves behind, such as a name that is still being looked up, is
/// not waited for.
fn wait<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = operator::runtime()?;
    let result = runtime.block_on(future);
    runtime.shutdown_background();
    result
}

/// The keys, if these are keys and can be written down.
fn keys(credentials: &Credentials) -> anyhow::Result<Keys> {
    let provider = credentials.provider_name();
    anyhow::ensure!(
        credentials.bearer_token().is_none(),
        "{provider} gave a bearer token and no keys; only `rrsa credentials get` without --format \
         can show it"
    );
    let keys = Keys::from(credentials);
    let token = keys
        .security_token
        .as_ref()
        .map_or("", |token| token.expose());
    let parts = [&keys.access_key_id, keys.access_key_secret.expose(), token];
    // Such a part would end its line in a file, or steer a terminal.
    anyhow::ensure!(
        !parts.iter().any(|part| part.chars().any(char::is_control)),
        "{provider} gave keys with control characters in them, which no format can hold"
    );
    Ok(keys)
}

/// An error for a person: a list where there is one.
fn failure(error: CredentialsError) -> anyhow::Error {
    match error {
        CredentialsError::NoSource { sources } => {
            let rows: Vec<_> = sources
                .iter()
                .map(|passed| [passed.source.as_ref(), passed.why.as_str()])
                .collect();
            anyhow::anyhow!(
                "no source of credentials is set up here; set up one of these:\n{}",
                explain::columns(&rows).trim_end()
            )
        }
        other => anyhow::anyhow!("{}", other.chain()),
    }
}

/// Says why a program did not start; the exit code is the one that shells give then.
#[expect(clippy::print_stderr, reason = "the last word of a failed command")]
fn not_started(program: &OsStr, error: &io::Error) -> ExitCode {
    let program = program.display();
    if error.kind() == io::ErrorKind::NotFound {
        eprintln!("rrsa: {program} is not found; is it installed, and its folder in PATH?");
        ExitCode::from(127)
    } else {
        eprintln!("rrsa: {program} cannot be started: {error}");
        ExitCode::from(126)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::PassedOver;

    #[test]
    fn keys_that_would_break_a_file_are_refused_without_being_shown() {
        let secret = "sk-value\naccess_key_id = other";
        let credentials = Credentials::new("LTAItest", secret.into(), "external");
        let error = keys(&credentials).unwrap_err().to_string();
        assert!(
            error.contains("external") && !error.contains("sk-value"),
            "{error}"
        );
    }

    #[test]
    fn a_bearer_token_is_no_key() {
        let credentials = Credentials::bearer("the-token".into(), "bearer");
        let error = keys(&credentials).unwrap_err().to_string();
        assert!(
            error.contains("bearer token") && !error.contains("the-token"),
            "{error}"
        );
    }

    #[test]
    fn no_source_is_a_list() {
        let passed = |source: &'static str, why: &str| PassedOver {
            source: source.into(),
            why: why.to_owned(),
        };
        let error = failure(CredentialsError::NoSource {
            sources: vec![passed("env", "set A"), passed("oidc_role_arn", "set B")],
        });
        assert_eq!(
            format!("{error:#}"),
            "no source of credentials is set up here; set up one of these:\n  \
             env            set A\n  \
             oidc_role_arn  set B"
        );
    }
}
