//! A process beside the tests: its log, its life, its end.
//!
//! **No gap before the reaper knows it.** Between starting a process and registering it a
//! `kill -9` of the test program would leave an orphan. So what is started first is a shell that
//! waits for a line on its standard input and then becomes the program (`exec` keeps PID and start
//! time). The line is sent after the registration; when the test program dies before it, the shell
//! reads the end of the pipe and ends.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::reaper::{Identity, Reaper};
use crate::support::{logs, wait};

/// Waits for its line, then becomes the program, which may read on. It ends without a line.
const HANDSHAKE: &str = r#"read -r go && exec "$@""#;
/// That line.
pub(super) const GO: &[u8] = b"go\n";

/// A running (or ended) process. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    log: PathBuf,
    identity: Identity,
    child: Mutex<Child>,
    reaper: Arc<Reaper>,
}

impl Process {
    /// Starts `command` with both outputs appended to `log/<name>.log` of the state folder.
    ///
    /// Program, arguments, working folder and changed variables are taken from `command`; its
    /// standard streams and `env_clear` are not (`Command` does not tell about them).
    pub(super) fn spawn(reaper: &Arc<Reaper>, name: &str, command: &Command) -> Result<Self> {
        let program = Path::new(command.get_program());
        // The shell would find that out too, but only in the log.
        ensure!(
            program.components().count() == 1 || program.exists(),
            "start {name}: there is no program {}",
            program.display()
        );
        let log = reaper.folder().join("log").join(format!("{name}.log"));
        let (stdout, stderr) = open_log(&log)?;
        let mut shell = waiting_for_go(name, command, reaper.folder());
        shell.stdout(stdout).stderr(stderr);
        let mut child = shell.spawn().with_context(|| format!("start {name}"))?;
        let pipe = child.stdin.take();
        let identity = Identity::of(child.id())?;
        reaper.add(identity)?;
        let process = Self {
            name: name.to_owned(),
            log,
            identity,
            child: Mutex::new(child),
            reaper: Arc::clone(reaper),
        };
        let mut pipe = pipe.context("the process has no standard input")?;
        pipe.write_all(GO)
            .with_context(|| format!("start {name}"))?;
        Ok(process)
    }

    /// The name, as in the log's file name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The PID.
    pub(crate) fn id(&self) -> u32 {
        self.identity.pid
    }

    /// PID and start time.
    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    /// The file that both outputs go to. A restart under the same name appends to it.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// Whether it has not ended.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.collect(&mut self.child()), Ok(None))
    }

    /// An error with the end of its log if it has ended.
    ///
    /// # Errors
    /// Names the process, how it ended and its last words.
    pub(crate) fn ensure_running(&self) -> Result<()> {
        match self.collect(&mut self.child())? {
            None => Ok(()),
            Some(status) => bail!(
                "{} (PID {}) has ended: {status}; the end of its log:\n{}",
                self.name,
                self.id(),
                logs::tail(&self.log, 20)
            ),
        }
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    /// When the kernel refuses the signal.
    pub(crate) fn kill9(&self) -> Result<()> {
        let mut child = self.child();
        if self.collect(&mut child)?.is_none() {
            child
                .kill()
                .with_context(|| format!("kill {}", self.name))?;
            child.wait()?;
            self.reaper.remove(self.identity)?;
        }
        Ok(())
    }

    /// Asks it to end (SIGTERM) and waits for that.
    ///
    /// # Errors
    /// When it has not ended within `ceiling`; then it has been killed, and the error shows the end
    /// of its log.
    pub(crate) async fn terminate_and_wait(&self, ceiling: Duration) -> Result<ExitStatus> {
        {
            let mut child = self.child();
            if let Some(status) = self.collect(&mut child)? {
                return Ok(status);
            }
            // The lock is held: nobody can collect the child, so its PID is still its own.
            let kill = r#"kill -TERM "$1""#;
            let id = child.id().to_string();
            Command::new("/bin/sh")
                .args(["-c", kill, "kill", &id])
                .status()?;
        }
        let what = format!("the end of {} (PID {}) after SIGTERM", self.name, self.id());
        let ended = wait::until(&what, ceiling, async || self.collect(&mut self.child())).await;
        if ended.is_err() {
            self.kill9()?;
        }
        ended.with_context(|| format!("its log ends so:\n{}", logs::tail(&self.log, 20)))
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The exit status, if it has ended; then its PID may be reused, so it leaves the list.
    fn collect(&self, child: &mut Child) -> Result<Option<ExitStatus>> {
        let status = child
            .try_wait()
            .with_context(|| format!("look after {}", self.name))?;
        if status.is_some() {
            self.reaper.remove(self.identity)?;
        }
        Ok(status)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing can be done about a failure here, and the reaper looks after it as well.
        let _ = self.kill9();
    }
}

/// A shell that becomes `command` when it reads [`GO`] on its standard input, which is a pipe.
pub(super) fn waiting_for_go(name: &str, command: &Command, folder: &Path) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", HANDSHAKE, name])
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(command.get_current_dir().unwrap_or(folder))
        // Away from the terminal's Ctrl-C: the end is for the reaper to arrange.
        .process_group(0)
        .stdin(Stdio::piped());
    // Everything of a test is on loopback, where no proxy leads.
    for name in [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
    ] {
        shell.env_remove(name);
    }
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(key, value),
            None => shell.env_remove(key),
        };
    }
    shell
}

/// The log file twice, for both outputs.
fn open_log(path: &Path) -> Result<(File, File)> {
    let open = || -> std::io::Result<(File, File)> {
        fs::create_dir_all(path.parent().unwrap_or(path))?;
        let file = File::options().create(true).append(true).open(path)?;
        Ok((file.try_clone()?, file))
    };
    open().with_context(|| format!("open the log {}", path.display()))
}
