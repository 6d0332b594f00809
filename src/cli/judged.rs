//! Exit codes of the commands that look and judge, as those of `diff`: 0 all is well, 1 something
//! was found, 2 it could not be looked at.

use std::process::ExitCode;

/// What the exit codes are, for the help texts.
pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0  all is well
  1  something was found
  2  it could not be looked at";

/// The shape of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// The exit code of a look; `true`: all is well.
#[expect(clippy::print_stderr, reason = "the last word of a failed command")]
pub(super) fn exit_code(looked: anyhow::Result<bool>) -> ExitCode {
    match looked {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("rrsa: {error:#}");
            ExitCode::from(2)
        }
    }
}
