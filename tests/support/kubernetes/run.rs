//! Programs that end by themselves (kubectl, kubeadm), each with a ceiling.

use std::fmt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::AsyncWriteExt;

use super::process::{GO, waiting_for_go};
use super::reaper::{Identity, Reaper};

/// What a program said.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// Its standard output.
    pub(crate) stdout: String,
    /// Its standard error.
    pub(crate) stderr: String,
    /// The command line, for errors.
    command: String,
}

impl Output {
    /// Its standard output, if it succeeded.
    ///
    /// # Errors
    /// Repeats the command line, how it ended and both outputs.
    pub(crate) fn success(self) -> Result<String> {
        if self.status.success() {
            Ok(self.stdout)
        } else {
            bail!("{self}")
        }
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            status,
            stdout,
            stderr,
            command,
        } = self;
        write!(f, "{command}: {status}\n{stderr}{stdout}")
    }
}

/// Runs a program to its end with `input` as its standard input.
///
/// # Errors
/// When it cannot be started or does not end within `ceiling`; then it has been killed. A program
/// that fails is not an error here: see [`Output::success`].
pub(super) async fn run(
    reaper: &Arc<Reaper>,
    command: &Command,
    input: &[u8],
    ceiling: Duration,
) -> Result<Output> {
    let line = line(command);
    let mut shell = tokio::process::Command::from(waiting_for_go("run", command, reaper.folder()));
    let mut child = shell
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("start {line}"))?;
    let identity = Identity::of(child.id().with_context(|| format!("{line} has no PID"))?)?;
    reaper.add(identity)?;
    let mut stdin = child
        .stdin
        .take()
        .with_context(|| format!("{line} has no standard input"))?;
    let work = async {
        stdin.write_all(GO).await?;
        let feed = async {
            // A program that does not read its input closes it: its status tells the story.
            let _ = stdin.write_all(input).await;
            drop(stdin);
        };
        let (output, ()) = tokio::join!(child.wait_with_output(), feed);
        output
    };
    let output = tokio::time::timeout(ceiling, work).await;
    reaper.remove(identity)?;
    let output = output
        .with_context(|| format!("{line} did not end within {ceiling:?} and was killed"))?
        .with_context(|| format!("run {line}"))?;
    Ok(Output {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        command: line,
    })
}

/// The command as a person would type it.
fn line(command: &Command) -> String {
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or_default();
    let words = std::iter::once(program).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
