//! Other programs, run with a bound on time and output.
//!
//! Only what a program writes to its standard output is taken. Its standard error is thrown away:
//! it may quote a secret as well as any other text, so it must not get into an error or a log, and
//! nobody else could use it.
//!
//! A program stays in the process group of its caller, so that it can ask at the terminal and ends
//! with its caller at Ctrl-C. The price is that only the program itself is killed, not what it
//! has started in turn: a script does well to `exec` its last command.

use std::fmt::{self, Debug};
use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStdout};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::BoxFuture;

/// Runs programs.
pub trait Processes: Debug + Send + Sync {
    /// Runs a program to its end. When its time is up, or when the returned future is dropped, it
    /// is killed.
    fn run(&self, command: Command) -> BoxFuture<'_, Result<Finished, ProcessError>>;
}

/// Longest part of a program's name that is shown.
const MAX_SHOWN: usize = 200;

/// Most bytes that are set aside for an output at once, whatever its bound is.
const MAX_RESERVED: usize = 1024 * 1024;

/// How long a killed program is waited for. It ends at once, unless the kernel holds it, as with
/// a network file system that is gone; the runtime collects it later then.
const BURIAL: Duration = Duration::from_secs(1);

/// A program to run, without a shell, with the environment of this process and some variables more,
/// and without input.
#[derive(Clone, PartialEq, Eq)]
pub struct Command {
    /// The program and its arguments; not empty.
    pub argv: Vec<String>,
    /// Variables that it gets beside those of this process.
    pub variables: Vec<(&'static str, String)>,
    /// How long it may run, until it has ended and its output is closed by all who share it.
    pub time_out: Duration,
    /// Most bytes of its output.
    pub max_output: usize,
}

impl Command {
    /// The program as errors name it: up to its first blank, `=` or control character. A command
    /// line that was quoted as a whole, or that starts with `NAME=value` as in a shell, has its
    /// arguments and values in the program's place.
    #[must_use]
    pub fn program(&self) -> String {
        let whole = self.argv.first().map_or("", String::as_str);
        let mut shown: String = whole
            .chars()
            .take_while(|c| !(c.is_whitespace() || c.is_control() || *c == '='))
            .take(MAX_SHOWN)
            .collect();
        if shown.len() < whole.len() {
            shown.push('…');
        }
        shown
    }
}

impl Debug for Command {
    /// The program only: an argument may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("program", &self.program())
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
}

impl Debug for Finished {
    /// The code only: the output is credentials.
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
    #[error(
        "{program} cannot be started; is it installed and executable? (no shell reads the command)"
    )]
    Start {
        /// The program.
        program: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It ran too long and was killed; or it ended, and something that it had started kept its
    /// output open.
    #[error(
        "{program} was stopped: it did not end and close its output within {} milliseconds",
        limit.as_millis()
    )]
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

/// The machine's programs. Running one takes a tokio runtime with I/O and time enabled.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemProcesses;

impl Processes for SystemProcesses {
    fn run(&self, command: Command) -> BoxFuture<'_, Result<Finished, ProcessError>> {
        Box::pin(run(command))
    }
}

async fn run(command: Command) -> Result<Finished, ProcessError> {
    let mut child = start(&command).map_err(|source| ProcessError::Start {
        program: command.program(),
        source,
    })?;
    let output = child.stdout.take();
    let end = timeout(command.time_out, async {
        let broken = |source| ProcessError::Broken {
            program: command.program(),
            source,
        };
        // At once: a program cannot end while its pipe is full, and nobody reads it.
        tokio::try_join!(read(output, &command), async {
            child.wait().await.map_err(broken)
        })
    });
    let end = end.await.unwrap_or_else(|_| {
        Err(ProcessError::TimedOut {
            program: command.program(),
            limit: command.time_out,
        })
    });
    match end {
        Ok((stdout, status)) => Ok(Finished {
            code: status.code(),
            stdout,
        }),
        Err(error) => {
            // Whatever comes of it, the first error is the one to report.
            let _ = timeout(BURIAL, child.kill()).await;
            Err(error)
        }
    }
}

fn start(command: &Command) -> io::Result<Child> {
    let (program, arguments) = command
        .argv
        .split_first()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no program is named"))?;
    tokio::process::Command::new(program)
        .args(arguments)
        .envs(command.variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
}

async fn read(
    output: Option<ChildStdout>,
    command: &Command,
) -> Result<Zeroizing<Vec<u8>>, ProcessError> {
    let limit = command.max_output;
    // Not grown, for that would leave a copy behind that is not wiped.
    let mut content = Zeroizing::new(Vec::with_capacity(limit.min(MAX_RESERVED) + 1));
    let Some(mut output) = output else {
        return Ok(content);
    };
    loop {
        match output.read_buf(&mut *content).await {
            Ok(0) => return Ok(content),
            Ok(_) if content.len() > limit => {
                return Err(ProcessError::TooLong {
                    program: command.program(),
                    limit,
                });
            }
            Ok(_) => {}
            Err(source) => {
                return Err(ProcessError::Broken {
                    program: command.program(),
                    source,
                });
            }
        }
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use crate::world::{Files, SystemFiles};
    use rstest::rstest;
    use std::path::Path;

    const LONG: Duration = Duration::from_mins(1);

    fn command(argv: &[&str]) -> Command {
        Command {
            argv: argv.iter().map(ToString::to_string).collect(),
            variables: vec![("RRSA_TEST", "given".to_owned())],
            time_out: LONG,
            max_output: 1000,
        }
    }

    fn sh(script: &str) -> Command {
        command(&["sh", "-c", script])
    }

    async fn run(command: Command) -> Result<Finished, ProcessError> {
        SystemProcesses.run(command).await
    }

    /// A script that writes its pid down, runs for a minute and then writes another file.
    fn slow(folder: &Path) -> Command {
        let folder = folder.display();
        sh(&format!(
            "echo $$ >{folder}/new && mv {folder}/new {folder}/pid; sleep 60; >{folder}/effect"
        ))
    }

    /// The pid that the slow script wrote, if it came to that.
    fn pid(folder: &Path) -> Option<String> {
        let content = SystemFiles.read(&folder.join("pid"), 100).ok()?;
        Some(String::from_utf8(content).unwrap().trim().to_owned())
    }

    /// Whether there is such a process; one that ended and was not collected counts.
    fn exists(pid: &str) -> bool {
        std::process::Command::new("sh")
            .args(["-c", &format!("kill -0 {pid} 2>/dev/null")])
            .status()
            .unwrap()
            .success()
    }

    async fn eventually(what: impl Fn() -> bool) {
        let soon = async {
            while !what() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(LONG, soon).await.unwrap();
    }

    #[rstest]
    #[case::good("echo out; echo err >&2", Some(0), "out\n")]
    #[case::failed("echo out; exit 3", Some(3), "out\n")]
    #[case::killed("kill -9 $$", None, "")]
    #[case::without_input("cat", Some(0), "")]
    #[case::with_the_environment("test -n \"$PATH\"", Some(0), "")]
    #[case::with_more_variables("test \"$RRSA_TEST\" = given", Some(0), "")]
    #[case::closes_its_output_early("exec >&-; exit 4", Some(4), "")]
    #[tokio::test]
    async fn a_program_runs_to_its_end(
        #[case] script: &str,
        #[case] code: Option<i32>,
        #[case] stdout: &str,
    ) {
        let finished = run(sh(script)).await.unwrap();
        assert_eq!(finished.code, code);
        assert_eq!(*finished.stdout, stdout.as_bytes());
    }

    #[tokio::test]
    async fn no_shell_reads_the_arguments() {
        let finished = run(command(&["echo", "$HOME", "a  b", "*"])).await.unwrap();
        assert_eq!(*finished.stdout, b"$HOME a  b *\n");
    }

    #[tokio::test]
    async fn a_mebibyte_on_both_outputs_blocks_nobody() {
        let finished = run(Command {
            max_output: 1 << 20,
            ..sh("head -c 1048576 /dev/zero >&2; head -c 1048576 /dev/zero")
        });
        assert_eq!(finished.await.unwrap().stdout.len(), 1 << 20);
    }

    #[tokio::test]
    async fn the_longest_output_is_taken_and_one_byte_more_is_not() {
        let longest = run(sh("head -c 1000 /dev/zero")).await.unwrap();
        assert_eq!(longest.stdout.len(), 1000);
        for script in ["head -c 1001 /dev/zero", "cat /dev/zero"] {
            let error = run(sh(script)).await.unwrap_err().to_string();
            assert_eq!(error, "sh wrote more than 1000 bytes and was killed");
        }
    }

    #[tokio::test]
    async fn ex_8_a_program_that_runs_too_long_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let error = run(Command {
            time_out: Duration::from_millis(500),
            ..slow(folder.path())
        });
        let error = error.await.unwrap_err();
        assert!(matches!(error, ProcessError::TimedOut { .. }), "{error}");
        assert!(error.to_string().contains("500 milliseconds"), "{error}");
        // On a busy machine it may not have come to its first line.
        if let Some(pid) = pid(folder.path()) {
            assert!(!exists(&pid));
        }
        assert!(!folder.path().join("effect").exists());
    }

    #[tokio::test]
    async fn an_output_that_stays_open_is_not_waited_for_longer() {
        let error = run(Command {
            time_out: Duration::from_millis(500),
            ..sh("sleep 60 & echo out")
        });
        let error = error.await.unwrap_err();
        assert!(matches!(error, ProcessError::TimedOut { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_program_that_nobody_waits_for_is_killed_and_collected() {
        let folder = tempfile::tempdir().unwrap();
        let running = tokio::spawn(run(slow(folder.path())));
        eventually(|| pid(folder.path()).is_some()).await;
        let pid = pid(folder.path()).unwrap();
        assert!(exists(&pid));
        running.abort();
        eventually(|| !exists(&pid)).await;
        assert!(!folder.path().join("effect").exists());
    }

    #[tokio::test]
    async fn what_cannot_be_started_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("plain");
        std::fs::write(&plain, "#!/bin/sh\n").unwrap();
        let plain = plain.to_str().unwrap();
        for (argv, kind) in [
            (&["no-such-program", "hunter2"][..], io::ErrorKind::NotFound),
            (&[plain, "hunter2"], io::ErrorKind::PermissionDenied),
            (&["nul\0hunter2"], io::ErrorKind::InvalidInput),
            (&[], io::ErrorKind::InvalidInput),
        ] {
            let error = run(command(argv)).await.unwrap_err();
            let ProcessError::Start { program, source } = &error else {
                panic!("{error}")
            };
            assert_eq!(source.kind(), kind);
            assert!(
                argv.first()
                    .unwrap_or(&"")
                    .starts_with(program.trim_end_matches('…'))
            );
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[rstest]
    #[case(&["/opt/tool", "hunter2"], "/opt/tool")]
    #[case(&["/opt/tool --secret hunter2"], "/opt/tool…")]
    #[case(&["SECRET=hunter2", "tool"], "SECRET…")]
    #[case(&["tool\nhunter2"], "tool…")]
    #[case(&[], "")]
    fn a_program_is_named_without_what_may_be_secret(
        #[case] argv: &[&str],
        #[case] expected: &str,
    ) {
        let command = command(argv);
        assert_eq!(command.program(), expected);
        assert!(!format!("{command:?}").contains("hunter2"));
    }
}
