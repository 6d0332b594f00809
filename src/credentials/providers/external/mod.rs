//! `external`: credentials that a program prints.
//!
//! | setting | else the variable | else |
//! |---|---|---|
//! | command | — | required |
//! | time-out | — | 1 minute |
//!
//! **The command** is a program and its arguments, separated by blanks. Single quotes, double
//! quotes and backslashes mean what they mean to a POSIX shell; on Windows a backslash is a part
//! of a path, but `\"` between double quotes is a quote. No shell reads it: `~`, `$NAME`, `*`, `|`
//! and `NAME=value` in front have no meaning. Who needs them writes `sh -c '…'`. The program has
//! this process's environment and no input.
//!
//! **The program prints** one JSON object, of at most 64 KiB, to its standard output and ends with
//! code 0:
//!
//! | field | |
//! |---|---|
//! | `access_key_id`, `access_key_secret` | required |
//! | `sts_token` | required where `mode` is exactly `StsToken`; else optional |
//! | `expiration` | when they end (RFC 3339), such as `2026-01-02T03:04:05Z`; optional |
//! | `mode` and any other | skipped |
//!
//! Without an expiration nobody can know how long the credentials are good, so whoever keeps
//! credentials runs the program for each call. An expiration that is no time is an error, as in
//! Python: the other official SDKs take it for absent, and run the program for ever unnoticed.
//!
//! **Failures.** No command, a broken one, or a program that cannot be started: misconfigured. A
//! program that fails, takes too long or prints anything else: unavailable, since nothing tells a
//! network failure from a login that is over. It is run once a call; trying again is its own
//! business. An error names the program and its exit code, never an argument or anything that it
//! wrote: either may be a secret. That goes for its standard error, too, which the official SDKs
//! show; to see it, run the command by hand.
//!
//! A program that asks this library in turn may come to the same profile again, and so on without
//! an end: so the variable `RRSA_EXTERNAL_DEPTH` counts, and the fifth program inside each other is
//! not started (misconfigured).
//!
//! ```no_run
//! use rrsa::credentials::{External, ExternalConfig, Provider};
//! use rrsa::world::World;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let config = ExternalConfig {
//!     command: Some("'/opt/my tools/login' --profile default".into()),
//!     ..ExternalConfig::default()
//! };
//! let provider = External::new(config, &World::system()?)?;
//! let credentials = provider.credentials().await?;
//! assert_eq!(credentials.provider_name(), "external");
//! # Ok(())
//! # }
//! ```

mod answer;
mod command_line;

use std::io;
use std::sync::Arc;
use std::time::Duration;

pub use command_line::CommandLineError;

use crate::contract::env;
use crate::credentials::error::CredentialsError;
use crate::credentials::provider::Provider;
use crate::credentials::snapshot::Credentials;
use crate::credentials::variables::Variables;
use crate::secret::SecretText;
use crate::world::{BoxFuture, Clock, Command, ProcessError, Processes, World};
use command_line::Dialect;

const NAME: &str = "external";

/// How long the program may run where nobody says otherwise.
const DEFAULT_TIME_OUT: Duration = Duration::from_mins(1);

/// So many programs may run inside each other, each as the External profile of the one before.
const MAX_DEPTH: u32 = 4;

/// Longest output that is taken; real ones have under 4 KiB.
const MAX_OUTPUT: usize = 64 * 1024;

/// Why a program gave no credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExternalError {
    /// It ended as failed.
    #[error(
        "{program} failed, {}; what it says about it is not shown, since that may be secret: run \
         the process command by hand",
        ending(*code)
    )]
    Failed {
        /// The program.
        program: String,
        /// Its exit code; none when a signal ended it.
        code: Option<i32>,
    },
    /// Its output is nothing to use.
    #[error("{program} printed no usable credentials: {problem}")]
    Unusable {
        /// The program.
        program: String,
        /// What is wrong, without its content.
        problem: String,
    },
    /// Programs run each other without an end.
    #[error(
        "{program} is not started, for {MAX_DEPTH} such programs run inside each other already; \
         does the command ask for the very profile that names it? (for rrsa, add --without \
         cli_profile or name another --profile)"
    )]
    Circle {
        /// The program.
        program: String,
    },
}

fn ending(code: Option<i32>) -> String {
    code.map_or_else(
        || "ended by a signal".to_owned(),
        |code| format!("with exit code {code}"),
    )
}

/// Settings of [`External`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExternalConfig {
    /// The command line; required. An argument may be a secret.
    pub command: Option<SecretText>,
    /// How long it may run; zero means a minute.
    pub time_out: Duration,
}

/// Runs a program that prints credentials.
#[derive(Debug, Clone)]
pub struct External {
    command: Command,
    /// So many such programs this one runs in.
    depth: u32,
    clock: Arc<dyn Clock>,
    processes: Arc<dyn Processes>,
}

impl External {
    /// The program is not started yet.
    ///
    /// # Errors
    /// [`CredentialsError::Misconfigured`] when there is no command, or it is no legal one.
    pub fn new(config: ExternalConfig, world: &World) -> Result<Self, CredentialsError> {
        let ExternalConfig { command, time_out } = config;
        let line = command.as_ref().map_or("", SecretText::expose);
        let argv = command_line::split(line, Dialect::HERE)
            .map_err(|error| CredentialsError::misconfigured(NAME, error))?;
        let time_out = if time_out.is_zero() {
            DEFAULT_TIME_OUT
        } else {
            time_out
        };
        let depth = Variables::of(NAME, world.env.as_ref())
            .text(env::EXTERNAL_DEPTH)?
            .and_then(|text| text.parse().ok())
            .unwrap_or(0)
            .min(MAX_DEPTH);
        Ok(Self {
            depth,
            command: Command {
                argv,
                variables: vec![(env::EXTERNAL_DEPTH, (depth + 1).to_string())],
                time_out,
                max_output: MAX_OUTPUT,
            },
            clock: Arc::clone(&world.clock),
            processes: Arc::clone(&world.processes),
        })
    }

    async fn run(&self) -> Result<Credentials, CredentialsError> {
        if self.depth >= MAX_DEPTH {
            let program = self.command.program();
            return Err(CredentialsError::misconfigured(
                NAME,
                ExternalError::Circle { program },
            ));
        }
        let finished = self
            .processes
            .run(self.command.clone())
            .await
            .map_err(of_process)?;
        let program = self.command.program();
        if finished.code != Some(0) {
            let code = finished.code;
            return Err(CredentialsError::unavailable(
                NAME,
                ExternalError::Failed { program, code },
            ));
        }
        answer::read(&finished.stdout, self.clock.now()).map_err(|problem| {
            CredentialsError::unavailable(NAME, ExternalError::Unusable { program, problem })
        })
    }
}

impl Provider for External {
    fn name(&self) -> &str {
        NAME
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>> {
        Box::pin(self.run())
    }
}

/// What a program that gave no result means for the caller.
fn of_process(error: ProcessError) -> CredentialsError {
    match &error {
        ProcessError::Start { source, .. } if !is_passing(source.kind()) => {
            CredentialsError::misconfigured(NAME, error)
        }
        _ => CredentialsError::unavailable(NAME, error),
    }
}

/// Whether a start failed for lack of processes or memory, or amid the program's update.
fn is_passing(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::WouldBlock
            | io::ErrorKind::OutOfMemory
            | io::ErrorKind::ExecutableFileBusy
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::test_world::{Printing, cause, world};
    use crate::world::FixedEnv;
    use rstest::rstest;

    const KEYS: &str = r#"{"access_key_id":"akid","access_key_secret":"sk-1"}"#;

    fn config(command: &str) -> ExternalConfig {
        ExternalConfig {
            command: Some(command.into()),
            ..ExternalConfig::default()
        }
    }

    fn printing(code: Option<i32>, stdout: &'static str) -> (Arc<Printing>, World) {
        let processes = Arc::new(Printing::new(code, stdout));
        let world = World {
            processes: Arc::clone(&processes) as Arc<dyn Processes>,
            ..world(&[])
        };
        (processes, world)
    }

    #[rstest]
    #[case::ex_1_none(None)]
    #[case::ex_1_empty(Some(""))]
    #[case::ex_1_blank(Some("   "))]
    #[case::ex_1_quoted(Some(r#""""#))]
    #[case::open_quote(Some("tool --secret 'hunter2"))]
    fn a_command_must_be_there_when_building(#[case] command: Option<&str>) {
        let config = ExternalConfig {
            command: command.map(SecretText::from),
            ..ExternalConfig::default()
        };
        let error = External::new(config, &world(&[])).unwrap_err();
        assert!(matches!(error, CredentialsError::Misconfigured { .. }));
        let shown = error.chain().to_string();
        assert!(shown.contains("the process command"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[tokio::test]
    async fn each_call_runs_the_program_as_it_was_given() {
        let (processes, world) = printing(Some(0), KEYS);
        let provider = External::new(config("'my tool' --a \"b c\""), &world).unwrap();
        for _ in 0..2 {
            let credentials = provider.credentials().await.unwrap();
            assert_eq!(credentials.provider_name(), "external");
            assert_eq!(credentials.access_key_id(), "akid");
        }
        let expected = Command {
            argv: ["my tool", "--a", "b c"].map(str::to_owned).to_vec(),
            variables: vec![("RRSA_EXTERNAL_DEPTH", "1".to_owned())],
            time_out: Duration::from_mins(1),
            max_output: 64 * 1024,
        };
        assert_eq!(processes.ran(), [expected.clone(), expected]);
        let given = ExternalConfig {
            time_out: Duration::from_millis(500),
            ..config("tool")
        };
        let provider = External::new(given, &world).unwrap();
        assert_eq!(provider.command.time_out, Duration::from_millis(500));
    }

    #[rstest]
    #[case("1", Some("2"))]
    #[case("3", Some("4"))]
    #[case("junk", Some("1"))]
    #[case("4", None)]
    #[case("4294967295", None)]
    #[tokio::test]
    async fn programs_do_not_run_inside_each_other_without_an_end(
        #[case] depth: &'static str,
        #[case] next: Option<&str>,
    ) {
        let (processes, world) = printing(Some(0), KEYS);
        let world = World {
            env: Arc::new(FixedEnv::of([(env::EXTERNAL_DEPTH, depth)])),
            ..world
        };
        let provider = External::new(config("tool --secret hunter2"), &world).unwrap();
        let answer = provider.credentials().await;
        let ran = processes.ran();
        let given = ran.first().map(|command| command.variables[0].1.as_str());
        assert_eq!(given, next);
        if next.is_none() {
            let error = answer.unwrap_err();
            assert!(matches!(error, CredentialsError::Misconfigured { .. }));
            let cause = cause(&error);
            assert!(cause.starts_with("tool is not started"), "{cause}");
        }
    }

    /// Ours differs from the official SDKs on purpose: what the program wrote is not shown.
    #[rstest]
    #[case(Some(1), "tool failed, with exit code 1; ")]
    #[case(None, "tool failed, ended by a signal; ")]
    #[tokio::test]
    async fn ex_6_a_program_that_fails_is_named_with_its_code(
        #[case] code: Option<i32>,
        #[case] expected: &str,
    ) {
        let (_, world) = printing(code, KEYS);
        let provider = External::new(config("tool --secret hunter2"), &world).unwrap();
        let error = provider.credentials().await.unwrap_err();
        assert!(error.is_transient());
        let cause = cause(&error);
        assert!(cause.starts_with(expected), "{cause}");
        assert!(!cause.contains("sk-1") && !cause.contains("hunter2"));
        assert!(!format!("{provider:?} {error:?}").contains("hunter2"));
    }

    #[tokio::test]
    async fn ex_7_unusable_output_may_be_better_later() {
        let (_, world) = printing(Some(0), r#"{"access_key_secret":"sk-1"}"#);
        let provider = External::new(config("tool"), &world).unwrap();
        let error = provider.credentials().await.unwrap_err();
        assert!(error.is_transient());
        assert_eq!(
            cause(&error),
            "tool printed no usable credentials: access_key_id is missing or empty"
        );
    }

    #[rstest]
    #[case(io::ErrorKind::NotFound, false)]
    #[case(io::ErrorKind::PermissionDenied, false)]
    #[case(io::ErrorKind::WouldBlock, true)]
    #[case(io::ErrorKind::ExecutableFileBusy, true)]
    fn a_program_that_cannot_be_started_is_a_mistake_unless_the_machine_is_short_of_something(
        #[case] kind: io::ErrorKind,
        #[case] transient: bool,
    ) {
        let error = of_process(ProcessError::Start {
            program: "tool".to_owned(),
            source: kind.into(),
        });
        assert_eq!(error.is_transient(), transient);
        let misconfigured = matches!(error, CredentialsError::Misconfigured { .. });
        assert_eq!(misconfigured, !transient);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_real_program_prints_the_operators_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("credentials.json");
        std::fs::write(&file, KEYS).unwrap();
        let line = format!("cat '{}'", file.display());
        let provider = External::new(config(&line), &world(&[])).unwrap();
        let credentials = provider.credentials().await.unwrap();
        assert_eq!(credentials.access_key_secret().expose(), "sk-1");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn ex_8_a_real_program_that_takes_too_long_is_unavailable() {
        let config = ExternalConfig {
            time_out: Duration::from_millis(500),
            ..config("sleep 60")
        };
        let provider = External::new(config, &world(&[])).unwrap();
        let error = provider.credentials().await.unwrap_err();
        assert!(error.is_transient());
        assert!(cause(&error).contains("500 milliseconds"), "{error:?}");
    }
}
