//! What stands in a `case.json`. A field that is not known here fails the test.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::settings::Subject;
use super::signing::Operation;

/// The section whose cases are about pure functions.
pub(crate) const SIGNING: &str = "6.1-signing";

/// What every case tells about itself.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct About {
    /// The vectors that this case is about.
    pub(crate) ids: Vec<String>,
    /// What holds, in a sentence.
    pub(crate) title: String,
    /// How ours differs on purpose from what the vector says, and by which rule.
    pub(crate) differs: Option<String>,
}

/// A source of credentials is made and asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SourceCase {
    pub(crate) about: About,
    /// What time it is at first.
    #[serde(default = "usual_time")]
    pub(crate) clock: DateTime<Utc>,
    /// The variables at first.
    #[serde(default)]
    pub(crate) environment: BTreeMap<String, String>,
    /// What is made.
    pub(crate) subject: Subject,
    /// Whether a client stands before it, which keeps and renews what it gives.
    #[serde(default)]
    pub(crate) kept: bool,
    /// How making it fails; nothing is asked then.
    pub(crate) not_built: Option<Failure>,
    /// The calls, in order.
    #[serde(default)]
    pub(crate) calls: Vec<Call>,
}

/// A function is called.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SigningCase {
    pub(crate) about: About,
    /// What is called, and with what.
    pub(crate) operation: Operation,
    /// What it gives, by name.
    pub(crate) gives: BTreeMap<String, String>,
}

/// The time of the vectors.
fn usual_time() -> DateTime<Utc> {
    "2024-01-02T03:04:05Z".parse().unwrap()
}

/// One call of `credentials()`, what it asks the world, and what comes of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Call {
    /// What time it is from now on.
    pub(crate) clock: Option<DateTime<Utc>>,
    /// The variables from now on.
    pub(crate) environment: Option<BTreeMap<String, String>>,
    /// All exchanges over HTTP, in order, those in the background included.
    #[serde(default)]
    pub(crate) http: Vec<Exchange>,
    /// All programs that run, in order.
    #[serde(default)]
    pub(crate) processes: Vec<Run>,
    pub(crate) gives: Option<Given>,
    pub(crate) fails: Option<Failure>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exchange {
    pub(crate) request: ExpectedRequest,
    pub(crate) answer: Answer,
}

/// Which way a request takes: the field of `World` of that name.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Way {
    #[default]
    Http,
    Direct,
    Metadata,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExpectedRequest {
    #[serde(default)]
    pub(crate) way: Way,
    pub(crate) method: String,
    /// Scheme, host, port and path.
    pub(crate) url: String,
    /// Exactly these parameters.
    pub(crate) query: Option<BTreeMap<String, String>>,
    /// Among others these; `null`: not this one.
    #[serde(default)]
    pub(crate) query_has: BTreeMap<String, Option<String>>,
    /// Among others these; `null`: not this one.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, Option<String>>,
    /// Exactly this form.
    pub(crate) form: Option<BTreeMap<String, String>>,
    /// Among others these; `null`: not this one.
    #[serde(default)]
    pub(crate) form_has: BTreeMap<String, Option<String>>,
    /// The body, as JSON.
    pub(crate) json: Option<Value>,
    /// The body, as text.
    pub(crate) text: Option<String>,
}

/// What comes back.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Answer {
    Json(JsonAnswer),
    Text(TextAnswer),
    Broken(BrokenAnswer),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JsonAnswer {
    pub(crate) status: u16,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) json: Value,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TextAnswer {
    pub(crate) status: u16,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) text: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BrokenAnswer {
    pub(crate) broken: Broken,
}

/// How an exchange can fail.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Broken {
    /// No connection.
    Connect,
    /// No answer in time.
    TimedOut,
    /// The connection broke.
    Reset,
}

/// A program that is expected, and what comes of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Run {
    pub(crate) argv: Vec<String>,
    pub(crate) time_out_ms: Option<u64>,
    /// What it prints, as JSON.
    pub(crate) json: Option<Value>,
    /// What it prints, as text.
    pub(crate) text: Option<String>,
    #[serde(default)]
    pub(crate) code: i32,
    /// It cannot be run, or not to its end.
    pub(crate) broken: Option<BrokenRun>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BrokenRun {
    /// There is no such program.
    Start,
    /// It runs too long.
    TimedOut,
}

/// The credentials of an answer, all of them: what is left out must not be there.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Given {
    pub(crate) provider_name: String,
    #[serde(default)]
    pub(crate) access_key_id: String,
    #[serde(default)]
    pub(crate) access_key_secret: String,
    pub(crate) security_token: Option<String>,
    pub(crate) bearer_token: Option<String>,
    pub(crate) expiration: Option<DateTime<Utc>>,
}

/// What an error is, and what it says among other things.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Failure {
    /// The kind, such as `misconfigured`.
    #[serde(rename = "as")]
    pub(crate) kind: String,
    /// The source that failed.
    pub(crate) provider: Option<String>,
    /// Parts of the whole message.
    #[serde(default)]
    pub(crate) says: Vec<String>,
    /// What the message must not hold, besides every secret.
    #[serde(default)]
    pub(crate) never_says: Vec<String>,
    /// The sources that were passed over, in order.
    pub(crate) passed_over: Option<Vec<String>>,
}

/// `tests/data/vectors`.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vectors")
}

/// The folders in a folder, by name.
pub(crate) fn folders_in(parent: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(parent)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    found.sort();
    found
}

/// Reads a file of JSON.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> T {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
