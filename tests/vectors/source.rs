//! Runs the cases of sections 6.2 to 6.9: a source of credentials is made and asked.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rrsa::credentials::{Client, Credentials, CredentialsError};
use serde_json::Value;

use super::case::{Call, Failure, Given, SIGNING, SourceCase, folder, folders_in, read};
use super::scripted::Outside;
use super::settings::NotBuilt;

/// How secrets are spelled in the cases: no error may hold one of them.
const SECRETS: [&str; 7] = [
    "aksecret",
    "ststoken",
    "bearertoken",
    "accesstoken",
    "refreshtoken",
    "oidc.token",
    "secretpath",
];

fn cases() -> Vec<PathBuf> {
    folders_in(&folder())
        .iter()
        .filter(|section| !section.ends_with(SIGNING))
        .flat_map(|section| folders_in(section))
        .collect()
}

#[tokio::test]
async fn every_source_comes_out_as_written() {
    let cases = cases();
    assert!(cases.len() > 200, "the cases are missing");
    // All at once, because a few wait a little before they try again.
    let running: Vec<_> = cases
        .into_iter()
        .map(|case| (case.clone(), tokio::spawn(async move { run(&case).await })))
        .collect();
    let mut failures = Vec::new();
    for (case, outcome) in running {
        let outcome = outcome.await.unwrap_or_else(|panic| Err(panic.to_string()));
        if let Err(failure) = outcome {
            failures.push(format!("{}: {failure}", case.display()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Each single expectation of each case counts: with another one the case fails.
#[tokio::test]
async fn a_case_that_expects_anything_else_fails() {
    let mut running = Vec::new();
    for case in cases() {
        let written: Value = read(&case.join("case.json"));
        for place in expectations(&written) {
            let mut changed = written.clone();
            spoil(changed.pointer_mut(&place).unwrap());
            let (folder, name) = (case.clone(), format!("{}{place}", case.display()));
            let run = async move { run_as(changed, &folder).await };
            running.push((name, tokio::spawn(run)));
        }
    }
    assert!(running.len() > 1000, "expectations are missing");
    let mut unnoticed = Vec::new();
    for (name, outcome) in running {
        if outcome.await.unwrap().is_ok() {
            unnoticed.push(name);
        }
    }
    assert!(unnoticed.is_empty(), "{}", unnoticed.join("\n"));
}

/// Where in a case it says what must come, as JSON pointers.
fn expectations(case: &Value) -> Vec<String> {
    let mut found = Vec::new();
    leaves(&case["not_built"], "/not_built", &mut found);
    for (at, call) in case["calls"].as_array().into_iter().flatten().enumerate() {
        for part in ["gives", "fails"] {
            leaves(&call[part], &format!("/calls/{at}/{part}"), &mut found);
        }
        for (list, part) in [
            ("http", "request"),
            ("processes", "argv"),
            ("processes", "time_out_ms"),
        ] {
            for (each, item) in call[list].as_array().into_iter().flatten().enumerate() {
                let place = format!("/calls/{at}/{list}/{each}/{part}");
                leaves(&item[part], &place, &mut found);
            }
        }
    }
    found.retain(|place| !place.contains("/never_says/"));
    found
}

fn leaves(value: &Value, place: &str, found: &mut Vec<String>) {
    match value {
        Value::Null => {}
        Value::Object(members) => {
            for (name, member) in members {
                let name = name.replace('~', "~0").replace('/', "~1");
                leaves(member, &format!("{place}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                leaves(item, &format!("{place}/{index}"), found);
            }
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => found.push(place.to_owned()),
    }
}

fn spoil(leaf: &mut Value) {
    *leaf = match leaf {
        Value::String(text) => format!("{text}~").into(),
        Value::Number(number) => (number.as_u64().unwrap() + 1).into(),
        other => panic!("{other} is no expectation"),
    };
}

async fn run(folder: &Path) -> Result<(), String> {
    run_as(read(&folder.join("case.json")), folder).await
}

async fn run_as(case: Value, folder: &Path) -> Result<(), String> {
    let case: SourceCase = serde_json::from_value(case).map_err(|error| error.to_string())?;
    let title = case.about.title.clone();
    let played = play(case, folder).await;
    played.map_err(|failure| format!("{title:?}: {failure}"))
}

async fn play(case: SourceCase, folder: &Path) -> Result<(), String> {
    let outside = Outside::new(case.clock, case.environment, folder.join("files"));
    let provider = match (case.subject.build(&outside.world()), case.not_built) {
        (Ok(provider), None) => provider,
        (Ok(provider), Some(_)) => return Err(format!("{} was built", provider.name())),
        (Err(NotBuilt::Kind(error)), Some(failure)) => {
            return failure.check("invalid_type", &error.to_string());
        }
        (Err(NotBuilt::Error(error)), Some(failure)) => return failure.check_error(&error),
        (Err(NotBuilt::Kind(error)), None) => return Err(error.to_string()),
        (Err(NotBuilt::Error(error)), None) => return Err(error.chain().to_string()),
    };
    if case.calls.is_empty() {
        return Err("nothing is asked".to_owned());
    }
    let client = case
        .kept
        .then(|| Client::new(Arc::clone(&provider), &outside.world()));
    for (index, call) in case.calls.into_iter().enumerate() {
        let Call {
            clock,
            environment,
            http,
            processes,
            gives,
            fails,
        } = call;
        if let Some(now) = clock {
            outside.set_clock(now);
        }
        if let Some(variables) = environment {
            outside.set_environment(variables);
        }
        outside.expect(http, processes);
        let answer = match &client {
            Some(client) => client.credentials().await.map(|current| current.clone()),
            None => provider.credentials().await,
        };
        outside.settled().await;
        let here = |problem| format!("call {}: {problem}", index + 1);
        let compared = match (&answer, gives, fails) {
            (Ok(seen), Some(expected), None) => expected.check(seen),
            (Err(error), None, Some(expected)) => expected.check_error(error),
            (Ok(seen), ..) => Err(format!("it gave {seen:?}")),
            (Err(error), ..) => Err(format!("it failed: {}", error.chain())),
        };
        // What was asked explains more than what came of it.
        outside.check().map_err(here)?;
        compared.map_err(here)?;
    }
    Ok(())
}

impl Given {
    fn of(credentials: &Credentials) -> Self {
        let text = |secret: &rrsa::secret::SecretText| secret.expose().to_owned();
        Self {
            provider_name: credentials.provider_name().to_owned(),
            access_key_id: credentials.access_key_id().to_owned(),
            access_key_secret: credentials.access_key_secret().expose().to_owned(),
            security_token: credentials.security_token().map(text),
            bearer_token: credentials.bearer_token().map(text),
            expiration: credentials.expiration(),
        }
    }

    fn check(&self, credentials: &Credentials) -> Result<(), String> {
        let seen = Self::of(credentials);
        if *self == seen {
            Ok(())
        } else {
            Err(format!("expected {self:?}, seen {seen:?}"))
        }
    }
}

impl Failure {
    fn check_error(&self, error: &CredentialsError) -> Result<(), String> {
        let story = error.chain().to_string();
        let kind = match error {
            CredentialsError::NotConfigured { .. } => "not_configured",
            CredentialsError::Misconfigured { .. } => "misconfigured",
            CredentialsError::Refused { .. } => "refused",
            CredentialsError::Unavailable { .. } => "unavailable",
            CredentialsError::NoSource { .. } => "no_source",
            _ => "of a kind that is unknown here",
        };
        self.check(kind, &story)?;
        let shown = format!("{error:?}");
        if let Some(secret) = SECRETS.iter().find(|secret| shown.contains(**secret)) {
            return Err(format!("Debug of the error shows {secret}: {shown}"));
        }
        if let Some(expected) = &self.provider
            && error.provider() != expected
        {
            return Err(format!("{} failed, not {expected}", error.provider()));
        }
        if let Some(expected) = &self.passed_over {
            let CredentialsError::NoSource { sources } = error else {
                return Err(format!("nothing was passed over: {story}"));
            };
            let seen: Vec<_> = sources
                .iter()
                .map(|passed| passed.source.as_ref())
                .collect();
            if seen != *expected {
                return Err(format!("passed over: {seen:?}"));
            }
        }
        Ok(())
    }

    fn check(&self, kind: &str, story: &str) -> Result<(), String> {
        if kind != self.kind {
            return Err(format!("expected {}, seen {kind}: {story}", self.kind));
        }
        if let Some(missing) = self.says.iter().find(|part| !story.contains(*part)) {
            return Err(format!("{story:?} does not say {missing:?}"));
        }
        let unwanted = self.never_says.iter().map(String::as_str).chain(SECRETS);
        match unwanted.into_iter().find(|part| story.contains(*part)) {
            Some(part) => Err(format!("{story:?} says {part:?}")),
            None => Ok(()),
        }
    }
}
