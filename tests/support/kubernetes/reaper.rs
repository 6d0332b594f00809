//! The promise that nothing outlives a test program: a child that waits for its end.
//!
//! Statics are never dropped, a panic may abort, `kill -9` runs no code at all. What the kernel
//! always does is to close the pipes of a process that ends. So a small shell script
//! (`reaper.sh`) holds the reading end of a pipe, is told every process that is started, and ends
//! them and removes the state folder when the pipe closes. It sits in a process group of its own,
//! where the Ctrl-C of a terminal does not reach it.
//!
//! **Why it never hits a stranger.** A PID is read together with its start time while the process
//! is a child that nobody has collected, so at that moment the pair names it for certain. PIDs are
//! reused, but not with the same start time, and the script compares both directly before each
//! signal. Processes that were collected are taken off the list besides.
//!
//! **Why it never misses one.** See [`super::process`]: a process begins its work only after it is
//! on the list.

use std::fs;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// The script stays in the tree: it is read while it runs, the state folder it removes is not.
pub(crate) const SCRIPT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/support/kubernetes/reaper.sh"
);
/// The start of the state folder's name; the script removes no folder with another name.
const FOLDER: &str = "rrsa-cluster-";
/// How long a test program waits at its orderly end; the script's own limits add up to 32 s, and a
/// busy machine takes its time to remove a folder.
const FAREWELL: Duration = Duration::from_mins(1);

/// A process, named so that a later one with the same PID is not mistaken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The process id.
    pub(crate) pid: u32,
    /// Field 22 of `/proc/PID/stat`: clock ticks from boot to its start.
    pub(crate) start: u64,
}

impl Identity {
    /// Of a process that runs or has not been collected yet.
    ///
    /// # Errors
    /// When there is no such process, or no `/proc` (the fixture needs Linux).
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let (_, start) = stat(pid)
            .with_context(|| format!("read /proc/{pid}/stat (the test cluster needs Linux)"))?;
        Ok(Self { pid, start })
    }

    /// Whether this process exists and has not ended. One that ended and was not collected has.
    pub(crate) fn is_alive(self) -> bool {
        stat(self.pid).is_ok_and(|(state, start)| state != "Z" && start == self.start)
    }
}

/// State and start time of a process.
fn stat(pid: u32) -> io::Result<(String, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold anything: the fields are counted behind its last one.
    let fields = text.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let mut fields = fields.split(' ');
    let state = fields.next().unwrap_or_default().to_owned();
    let start = fields.nth(18).and_then(|start| start.parse().ok());
    start
        .map(|start| (state, start))
        .ok_or_else(|| io::Error::other("not in the form expected"))
}

/// The handle of the script. Dropping the last one ends everything and waits for that.
#[derive(Debug)]
pub(crate) struct Reaper {
    folder: PathBuf,
    /// `None` only while it is being dropped.
    pipe: Mutex<Option<ChildStdin>>,
    child: Child,
}

impl Reaper {
    /// Makes a state folder and starts the script that will remove it.
    ///
    /// # Errors
    /// When the folder cannot be made or the script not be started.
    pub(crate) fn start() -> Result<Arc<Self>> {
        let folder = tempfile::Builder::new().prefix(FOLDER).tempdir()?;
        let mut child = Command::new("/bin/sh")
            .arg(SCRIPT)
            .arg(folder.path())
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("start {SCRIPT}"))?;
        let pipe = Mutex::new(child.stdin.take());
        // From here on the script removes the folder.
        Ok(Arc::new(Self {
            folder: folder.keep(),
            pipe,
            child,
        }))
    }

    /// The state folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The script itself, for the test that proves that it ends too.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Puts a process on the list.
    pub(super) fn add(&self, process: Identity) -> Result<()> {
        self.tell(&format!("+ {} {}\n", process.pid, process.start))
    }

    /// Takes a process off the list, because it was collected.
    pub(super) fn remove(&self, process: Identity) -> Result<()> {
        self.tell(&format!("- {} {}\n", process.pid, process.start))
    }

    fn tell(&self, line: &str) -> Result<()> {
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        let pipe = pipe.as_mut().context("the reaper is ending")?;
        // One write: short lines on a pipe are not torn apart.
        pipe.write_all(line.as_bytes()).context(
            "the reaper of the test cluster is gone; without it processes could be left behind",
        )
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        drop(
            self.pipe
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let started = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && started.elapsed() < FAREWELL {
            thread::sleep(Duration::from_millis(10));
        }
    }
}
