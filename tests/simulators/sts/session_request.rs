//! The parameters that `AssumeRole` and `AssumeRoleWithOIDC` share, and their limits.

use std::time::Duration;

use serde_json::Value;

use super::arn::RamArn;
use super::refusal::Refusal;
use super::request::Parameters;

/// Shortest session.
const SHORTEST: Duration = Duration::from_mins(15);
/// What a request without `DurationSeconds` gets.
const DEFAULT: Duration = Duration::from_hours(1);
/// Longest session that any role may allow.
const LONGEST: Duration = Duration::from_hours(12);
/// Longest session policy.
const LONGEST_POLICY: usize = 2048;

/// A session that is asked for, well formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionRequest {
    /// `RoleArn`.
    pub(crate) role_arn: String,
    /// `RoleSessionName`.
    pub(crate) session_name: String,
    /// `DurationSeconds`.
    pub(crate) duration: Duration,
    /// `Policy`.
    pub(crate) policy: Option<String>,
}

impl SessionRequest {
    /// The account whose role is asked for.
    pub(crate) fn account(&self) -> &str {
        RamArn::parse(&self.role_arn).map_or("", |arn| arn.account)
    }

    /// Reads and checks the parameters. Order: role, session name, duration, policy.
    pub(crate) fn read(parameters: &Parameters) -> Result<Self, Refusal> {
        let role_arn = parameters.required("RoleArn")?;
        let session_name = parameters.required("RoleSessionName")?;
        if RamArn::of_kind(role_arn, "role").is_none() {
            return Err(Refusal::malformed("RoleArn"));
        }
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".@_-".contains(&byte);
        if !(2..=64).contains(&session_name.len()) || !session_name.bytes().all(legal) {
            return Err(Refusal::malformed("RoleSessionName"));
        }
        Ok(Self {
            role_arn: role_arn.to_owned(),
            session_name: session_name.to_owned(),
            duration: duration(parameters.given("DurationSeconds"))?,
            policy: policy(parameters.given("Policy"))?,
        })
    }

    /// Checks the duration against the longest one that is allowed here.
    pub(crate) fn at_most(&self, longest: Duration) -> Result<(), Refusal> {
        if self.duration > longest {
            return Err(Refusal::duration(&in_words(longest)));
        }
        Ok(())
    }
}

fn duration(written: Option<&str>) -> Result<Duration, Refusal> {
    let Some(written) = written else {
        return Ok(DEFAULT);
    };
    let digits = !written.is_empty() && written.bytes().all(|byte| byte.is_ascii_digit());
    written
        .parse()
        .ok()
        .filter(|_| digits)
        .map(Duration::from_secs)
        .filter(|duration| (SHORTEST..=LONGEST).contains(duration))
        .ok_or_else(|| Refusal::duration(&in_words(LONGEST)))
}

fn in_words(duration: Duration) -> String {
    let minutes = duration.as_secs() / 60;
    if minutes.is_multiple_of(60) {
        format!("{}hr", minutes / 60)
    } else {
        format!("{minutes}min")
    }
}

fn policy(written: Option<&str>) -> Result<Option<String>, Refusal> {
    let Some(written) = written else {
        return Ok(None);
    };
    if written.len() > LONGEST_POLICY {
        return Err(Refusal::policy_size());
    }
    let policy: Value = serde_json::from_str(written).map_err(|_| Refusal::policy_grammar())?;
    let is_statement = |statement: &Value| {
        matches!(statement["Effect"].as_str(), Some("Allow" | "Deny"))
            && (statement.get("Action").is_some() || statement.get("NotAction").is_some())
            && statement.get("Resource").is_some()
    };
    let statements = policy["Statement"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let grammatical = policy["Version"].as_str() == Some("1")
        && !statements.is_empty()
        && statements.iter().all(is_statement);
    if grammatical {
        Ok(Some(written.to_owned()))
    } else {
        Err(Refusal::policy_grammar())
    }
}
