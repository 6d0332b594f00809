//! `rrsa credentials exec`.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use super::environment::Changes;
use super::source::SourceArgs;
use super::{failure, keys, not_started, wait};

const EXAMPLES: &str = "\
Examples:
  rrsa credentials exec -- aliyun sts GetCallerIdentity
  rrsa credentials exec --role-arn acs:ram::1234567890123456:role/deploy -- terraform plan";

#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    source: SourceArgs,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl fmt::Debug for Args {
    /// Without the command: an argument may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Args")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl Args {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let Self { source, command } = self;
        let client = source.on_this_machine()?.client().map_err(failure)?;
        let keys = wait(async { keys(&*client.credentials().await.map_err(failure)?) })?;
        let mut process = program(&command)?;
        Changes::for_keys(&keys).apply(&mut process);
        // Comes back only if it fails.
        let error = process.exec();
        Ok(not_started(process.get_program(), &error))
    }
}

/// The program with its arguments.
pub(super) fn program(command: &[OsString]) -> anyhow::Result<Command> {
    let (program, arguments) = command
        .split_first()
        .ok_or_else(|| anyhow::anyhow!("there is no program after --"))?;
    let mut process = Command::new(program);
    process.args(arguments);
    Ok(process)
}
