//! Runs the cases of section 6.1: pure functions.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{DateTime, Utc};
use rrsa::secret::SecretText;
use rrsa::signing::encoding::{pairs, percent_encode, timestamp};
use rrsa::signing::{Signer, acs3, rpc};
use serde::Deserialize;

use super::case::{SIGNING, SigningCase, folder, folders_in, read};

/// What is called, and with what.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub(crate) enum Operation {
    PercentEncode(String),
    Pairs(Vec<(String, String)>),
    Timestamp(DateTime<Utc>),
    RpcSignature {
        method: String,
        parameters: BTreeMap<String, String>,
        access_key_secret: SecretText,
    },
    RpcCall {
        method: RpcMethod,
        action: String,
        version: String,
        parameters: BTreeMap<String, String>,
        signer: Keys,
        time: DateTime<Utc>,
        nonce: String,
    },
    Acs3 {
        method: String,
        host: String,
        path: String,
        query: BTreeMap<String, String>,
        action: String,
        version: String,
        content_type: Option<String>,
        body: String,
        signer: Keys,
        time: DateTime<Utc>,
        nonce: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum RpcMethod {
    Get,
    Post,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Keys {
    access_key_id: String,
    access_key_secret: SecretText,
    security_token: Option<SecretText>,
}

impl Keys {
    fn signer(&self) -> Signer<'_> {
        Signer {
            access_key_id: &self.access_key_id,
            access_key_secret: &self.access_key_secret,
            security_token: self.security_token.as_ref(),
        }
    }
}

fn borrowed(parameters: &BTreeMap<String, String>) -> Vec<(&str, &str)> {
    parameters
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

impl Operation {
    /// What comes out, by name.
    fn run(&self) -> BTreeMap<String, String> {
        let one = |name: &str, value| BTreeMap::from([(name.to_owned(), value)]);
        match self {
            Self::PercentEncode(text) => one("encoded", percent_encode(text)),
            Self::Pairs(parameters) => one("encoded", pairs(parameters)),
            Self::Timestamp(time) => one("text", timestamp(*time)),
            Self::RpcSignature {
                method,
                parameters,
                access_key_secret,
            } => {
                let text = rpc::string_to_sign(method, &borrowed(parameters));
                let signature = rpc::signature(access_key_secret, &text);
                BTreeMap::from([
                    ("string_to_sign".to_owned(), text),
                    ("signature".to_owned(), signature),
                ])
            }
            Self::RpcCall {
                method,
                action,
                version,
                parameters,
                signer,
                time,
                nonce,
            } => {
                let call = rpc::Call {
                    method: match method {
                        RpcMethod::Get => rpc::Method::Get,
                        RpcMethod::Post => rpc::Method::Post,
                    },
                    action,
                    version,
                    parameters: &borrowed(parameters),
                    signer: signer.signer(),
                    time: *time,
                    nonce,
                };
                BTreeMap::from([
                    ("query".to_owned(), call.query()),
                    ("form".to_owned(), call.form()),
                ])
            }
            Self::Acs3 {
                method,
                host,
                path,
                query,
                action,
                version,
                content_type,
                body,
                signer,
                time,
                nonce,
            } => {
                let request = acs3::Request {
                    method,
                    host,
                    path,
                    query: &borrowed(query),
                    action,
                    version,
                    content_type: content_type.as_deref(),
                    body: body.as_bytes(),
                    signer: signer.signer(),
                    time: *time,
                    nonce,
                };
                let headers = request.sign();
                let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
                headers.iter().map(own).collect()
            }
        }
    }
}

fn run(folder: &Path) -> Result<(), String> {
    let case: SigningCase = read(&folder.join("case.json"));
    let seen = case.operation.run();
    if case.gives.is_empty() {
        return Err("nothing is expected".to_owned());
    }
    for (name, expected) in &case.gives {
        if seen.get(name) != Some(expected) {
            let seen = seen.get(name);
            let title = &case.about.title;
            return Err(format!(
                "{title:?}: {name}: expected {expected:?}, seen {seen:?}"
            ));
        }
    }
    Ok(())
}

#[test]
fn every_signature_and_encoding_comes_out_as_written() {
    let mut failures = Vec::new();
    let cases = folders_in(&folder().join(SIGNING));
    assert!(cases.len() > 5, "the cases are missing");
    for case in cases {
        if let Err(failure) = run(&case) {
            failures.push(format!("{}: {failure}", case.display()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
