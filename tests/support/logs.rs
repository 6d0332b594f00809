//! Log files of the test cluster: their ends for a person, and the proof that no secret is in them.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use aho_corasick::AhoCorasick;
use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;

/// How much of a file's end is read: enough for the lines that are shown.
const TAIL: u64 = 32 * 1024;
/// A shorter "secret" would be found by chance and prove nothing.
const SHORTEST_SECRET: usize = 8;

/// The last `lines` lines of a file, or a line that says why there are none.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) => {
            let all: Vec<&str> = text.lines().collect();
            all[all.len().saturating_sub(lines)..].join("\n")
        }
        Err(error) => format!("({} cannot be read: {error})", path.display()),
    }
}

/// The ends of all `*.log` files of a folder that were written since `since`.
pub(crate) fn tails(folder: &Path, since: SystemTime, lines: usize) -> String {
    let Ok(mut files) = files_below(folder) else {
        return format!("({} cannot be listed)", folder.display());
    };
    files.sort();
    let mut text = String::new();
    for path in files {
        let is_log = path.extension().is_some_and(|extension| extension == "log");
        let written = fs::metadata(&path).and_then(|seen| seen.modified());
        if is_log && written.is_ok_and(|at| at >= since) {
            let name = path.display().to_string();
            text.extend(["--- end of ", &name, "\n", &tail(&path, lines), "\n"]);
        }
    }
    text
}

/// Where a secret stands in a log. It does not repeat the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leak {
    /// The file that holds it.
    pub(crate) file: PathBuf,
    /// Its line, counted from 1.
    pub(crate) line: usize,
    /// Which of the given secrets, counted from 0.
    pub(crate) secret: usize,
}

/// Searches all files below `folder` for the secrets, as they are and in base64.
///
/// # Errors
/// When a file cannot be read, when there is no file or no secret to search for (the search would
/// prove nothing), or when a secret is so short that it would be found by chance.
pub(crate) fn leaks<S: AsRef<str>>(folder: &Path, secrets: &[S]) -> Result<Vec<Leak>> {
    ensure!(
        !secrets.is_empty(),
        "no secret was given, so none can be looked for"
    );
    let mut needles = Vec::new();
    for (index, secret) in secrets.iter().map(AsRef::as_ref).enumerate() {
        ensure!(
            secret.len() >= SHORTEST_SECRET,
            "secret {index} is shorter than {SHORTEST_SECRET} bytes: it would be found by chance"
        );
        needles.push((index, secret.to_owned()));
        needles.push((index, BASE64_STANDARD_NO_PAD.encode(secret)));
    }
    let files = files_below(folder)?;
    ensure!(
        !files.is_empty(),
        "{} holds no file to search",
        folder.display()
    );
    // One pass for all of them: TRACE logs are long, and every test searches them.
    let search = AhoCorasick::new(needles.iter().map(|(_, needle)| needle))?;
    let mut found = Vec::new();
    for file in files {
        let bytes = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
        for hit in search.find_iter(&bytes) {
            let before = String::from_utf8_lossy(&bytes[..hit.start()]);
            found.push(Leak {
                file: file.clone(),
                line: before.matches('\n').count() + 1,
                secret: needles[hit.pattern().as_usize()].0,
            });
        }
    }
    Ok(found)
}

/// All files below a folder.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    Ok(files)
}
