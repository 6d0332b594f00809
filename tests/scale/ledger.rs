//! What was asked of the API server and of STS, read from their logs as they grow.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;

/// A file that grows line by line.
#[derive(Debug)]
pub(crate) struct Tail {
    file: PathBuf,
    offset: u64,
}

impl Tail {
    pub(crate) fn from_start(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            offset: 0,
        }
    }

    /// The complete lines that came since the last time.
    pub(crate) fn lines(&mut self) -> Result<Vec<String>> {
        let Ok(mut file) = File::open(&self.file) else {
            return Ok(Vec::new());
        };
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let complete = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        self.offset += u64::try_from(complete)?;
        let text = String::from_utf8_lossy(&bytes[..complete]);
        Ok(text.lines().map(str::to_owned).collect())
    }
}

/// The controller's calls to the API server, by kind.
#[derive(Debug)]
pub(crate) struct ApiCalls {
    tail: Tail,
    user: String,
    /// `verb resource/subresource` → how many were answered with success.
    pub(crate) counts: BTreeMap<String, usize>,
    /// The same for those that were refused.
    pub(crate) refused: BTreeMap<String, usize>,
    /// When the last one was answered.
    pub(crate) last: Option<DateTime<Utc>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    verb: String,
    stage: String,
    #[serde(default)]
    object_ref: BTreeMap<String, Value>,
    #[serde(default)]
    response_status: BTreeMap<String, Value>,
    stage_timestamp: DateTime<Utc>,
}

impl ApiCalls {
    pub(crate) fn of(audit: &Path, user: &str) -> Self {
        Self {
            tail: Tail::from_start(audit),
            user: format!("\"username\":\"{user}\""),
            counts: BTreeMap::new(),
            refused: BTreeMap::new(),
            last: None,
        }
    }

    /// Reads on.
    pub(crate) fn read(&mut self) -> Result<()> {
        for line in self.tail.lines()? {
            // Most lines are others', and parsing them all would take a core of its own.
            if !line.contains(&self.user) {
                continue;
            }
            let call: Line = serde_json::from_str(&line).context("a line of the audit log")?;
            // A watch is counted when it starts.
            let is_watch = call.verb == "watch";
            if is_watch != (call.stage == "ResponseStarted") {
                continue;
            }
            let field = |key: &str| call.object_ref.get(key).and_then(Value::as_str);
            let mut kind = format!("{} {}", call.verb, field("resource").unwrap_or("-"));
            if let Some(subresource) = field("subresource") {
                kind.push('/');
                kind.push_str(subresource);
            }
            let code = call.response_status.get("code").and_then(Value::as_u64);
            if code.is_some_and(|code| code >= 400) {
                *self.refused.entry(kind).or_default() += 1;
            } else {
                *self.counts.entry(kind).or_default() += 1;
            }
            self.last = Some(call.stage_timestamp);
        }
        Ok(())
    }

    /// Starts counting anew from here.
    pub(crate) fn reset(&mut self) -> Result<()> {
        self.read()?;
        self.counts.clear();
        self.refused.clear();
        Ok(())
    }

    fn sum(&self, verbs: &[&str], but: &str) -> usize {
        self.counts
            .iter()
            // What names no resource is no object: `/version`.
            .filter(|(kind, _)| !kind.ends_with(but) && !kind.ends_with(" -"))
            .filter(|(kind, _)| verbs.iter().any(|verb| kind.starts_with(verb)))
            .map(|(_, count)| count)
            .sum()
    }

    /// Everything that changes something, apart from the Lease.
    pub(crate) fn writes(&self) -> usize {
        self.sum(&["create ", "update ", "patch ", "delete "], " leases")
    }

    /// Reads of single objects, apart from the Lease.
    pub(crate) fn gets(&self) -> usize {
        self.sum(&["get "], " leases")
    }

    /// All kinds in a line.
    pub(crate) fn kinds(&self) -> String {
        let mut kinds: Vec<_> = self
            .counts
            .iter()
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        kinds.extend(
            self.refused
                .iter()
                .map(|(kind, count)| format!("{count} {kind} refused")),
        );
        kinds.join(", ")
    }
}

/// One call of STS.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct StsCall {
    /// When it was answered.
    pub(crate) time: DateTime<Utc>,
    pub(crate) outcome: String,
    #[serde(default)]
    pub(crate) parameters: BTreeMap<String, String>,
}

impl StsCall {
    pub(crate) fn succeeded(&self) -> bool {
        self.outcome == "Success"
    }

    /// Namespace and name of the binding: the session is named so.
    pub(crate) fn binding(&self) -> Option<(&str, &str)> {
        self.parameters.get("RoleSessionName")?.split_once('.')
    }
}

/// The calls of STS.
#[derive(Debug)]
pub(crate) struct StsCalls {
    tail: Tail,
    pub(crate) calls: Vec<StsCall>,
}

impl StsCalls {
    pub(crate) fn of(file: &Path) -> Self {
        Self {
            tail: Tail::from_start(file),
            calls: Vec::new(),
        }
    }

    /// Reads on.
    pub(crate) fn read(&mut self) -> Result<()> {
        for line in self.tail.lines()? {
            let call = serde_json::from_str(&line).context("a line of the simulator's log")?;
            self.calls.push(call);
        }
        Ok(())
    }

    /// Starts anew from here.
    pub(crate) fn reset(&mut self) -> Result<()> {
        self.read()?;
        self.calls.clear();
        Ok(())
    }

    /// How many did not succeed.
    pub(crate) fn refused(&self) -> usize {
        self.calls.iter().filter(|call| !call.succeeded()).count()
    }
}
