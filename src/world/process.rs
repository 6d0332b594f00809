//! Other programs, run with a bound on time and output.

use std::fmt::{self, Debug};
use std::io;
use std::time::Duration;

use zeroize::Zeroizing;

use super::BoxFuture;

/// Runs programs.
pub trait Processes: Debug + Send + Sync {
    /// Runs a program to its end. When its time is up, or when the returned future is dropped, it
    /// is killed.
    fn run(&self, command: Command) -> BoxFuture<'_, Result<Finished, ProcessError>>;
}

/// A program to run, without a shell, with the environment of this process and without input.
#[derive(Clone, PartialEq, Eq)]
pub struct Command {
    /// The program and its arguments; not empty.
    pub argv: Vec<String>,
    /// How long it may run.
    pub time_out: Duration,
    /// Most bytes of each of its two outputs.
    pub max_output: usize,
}

impl Debug for Command {
    /// The program only: an argument may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("program", &self.argv.first())
            .field("time_out", &self.time_out)
            .finish_non_exhaustive()
    }
}

/// A program that ended by itself.
#[derive(Clone)]
pub struct Finished {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to its standard output.
    pub stdout: Zeroizing<Vec<u8>>,
    /// What it wrote to its standard error.
    pub stderr: Zeroizing<Vec<u8>>,
}

impl Debug for Finished {
    /// The code only: the outputs are credentials, or talk about them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finished")
            .field("code", &self.code)
            .finish_non_exhaustive()
    }
}

/// Why a program gave no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// It could not be started.
    #[error("{program} cannot be started; is it installed and executable?")]
    Start {
        /// The program.
        program: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It ran too long and was killed.
    #[error("{program} did not end within {} milliseconds and was killed", limit.as_millis())]
    TimedOut {
        /// The program.
        program: String,
        /// The bound.
        limit: Duration,
    },
    /// It wrote more than anything legal and was killed.
    #[error("{program} wrote more than {limit} bytes and was killed")]
    TooLong {
        /// The program.
        program: String,
        /// The bound.
        limit: usize,
    },
    /// Reading its output failed.
    #[error("the output of {program} cannot be read")]
    Broken {
        /// The program.
        program: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// The machine's programs.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemProcesses;

impl Processes for SystemProcesses {
    fn run(&self, command: Command) -> BoxFuture<'_, Result<Finished, ProcessError>> {
        let _ = command;
        todo!()
    }
}
