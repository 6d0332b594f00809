//! An RPC request taken apart: parameters from the URL and the form are one set.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use axum::http::Method;

use super::refusal::Refusal;
use crate::simulators::calls::fingerprint;

/// Parameters whose values are secrets.
const SECRET: [&str; 3] = ["OIDCToken", "SecurityToken", "AccessKeySecret"];

/// In which form the client wants the answer; STS answers in XML unless told otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// `Format=JSON`.
    Json,
    /// `Format=XML`, or nothing.
    Xml,
}

/// What came in, as raw as the HTTP layer gives it.
pub(crate) struct Raw<'a> {
    /// HTTP method.
    pub(crate) method: &'a Method,
    /// Path of the URL.
    pub(crate) path: &'a str,
    /// Query of the URL.
    pub(crate) query: &'a str,
    /// `Content-Type`.
    pub(crate) content_type: Option<&'a str>,
    /// The body, or none if it was too large to read.
    pub(crate) body: Option<&'a [u8]>,
}

/// The parameters of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parameters {
    values: BTreeMap<String, String>,
    in_url: Vec<String>,
    repeated: Option<String>,
}

impl Parameters {
    /// Reads the parameters of `raw`, as far as they are readable.
    pub(crate) fn read(raw: &Raw<'_>) -> Self {
        let mut parameters = Self::default();
        for (name, value) in url::form_urlencoded::parse(raw.query.as_bytes()) {
            parameters.in_url.push(name.to_string());
            parameters.add(name.into_owned(), value.into_owned());
        }
        if is_form(raw.content_type) {
            for (name, value) in url::form_urlencoded::parse(raw.body.unwrap_or_default()) {
                parameters.add(name.into_owned(), value.into_owned());
            }
        }
        parameters
    }

    fn add(&mut self, name: String, value: String) {
        match self.values.entry(name) {
            Entry::Occupied(entry) => self.repeated = Some(entry.key().clone()),
            Entry::Vacant(entry) => {
                entry.insert(value);
            }
        }
    }

    /// The value of `name`; an empty one is as good as none.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.given(name).filter(|value| !value.is_empty())
    }

    /// The value of `name`, even if it is empty.
    pub(crate) fn given(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// The value of a parameter of the action that must be there.
    pub(crate) fn required(&self, name: &str) -> Result<&str, Refusal> {
        self.get(name).ok_or_else(|| Refusal::missing(name))
    }

    /// The value of a common parameter that must be there.
    pub(crate) fn common(&self, name: &str) -> Result<&str, Refusal> {
        self.get(name).ok_or_else(|| Refusal::missing_common(name))
    }

    /// All parameters in the order of their names.
    pub(crate) fn sorted(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// All parameters as the call log may keep them.
    pub(crate) fn for_log(&self) -> BTreeMap<String, String> {
        self.sorted()
            .map(|(name, value)| {
                let kept = if SECRET.contains(&name) {
                    fingerprint(value)
                } else {
                    value.to_owned()
                };
                (name.to_owned(), kept)
            })
            .collect()
    }

    /// Names of the parameters that came in the URL.
    pub(crate) fn in_url(&self) -> &[String] {
        &self.in_url
    }

    /// The secret values.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        SECRET.iter().filter_map(|name| self.get(name))
    }

    /// The form of the answer; an unknown one is refused later, in XML.
    pub(crate) fn format(&self) -> Format {
        if self.get("Format") == Some("JSON") {
            Format::Json
        } else {
            Format::Xml
        }
    }
}

fn is_form(content_type: Option<&str>) -> bool {
    content_type
        .and_then(|value| value.split(';').next())
        .is_some_and(|kind| kind.trim() == "application/x-www-form-urlencoded")
}

/// What the gateway checks before it looks at the action.
pub(crate) fn admit(raw: &Raw<'_>, parameters: &Parameters) -> Result<(), Refusal> {
    if !matches!(*raw.method, Method::GET | Method::POST) {
        return Err(Refusal::http_method());
    }
    if raw.path != "/" {
        return Err(Refusal::action());
    }
    let Some(body) = raw.body else {
        return Err(Refusal::too_large());
    };
    if !body.is_empty() && !is_form(raw.content_type) {
        return Err(Refusal::content_type());
    }
    if let Some(name) = &parameters.repeated {
        return Err(Refusal::repeated(name));
    }
    match parameters.get("Format") {
        None | Some("JSON" | "XML") => Ok(()),
        Some(_) => Err(Refusal::format()),
    }
}
