//! Whether a request is the expected one.

use std::collections::BTreeMap;

use rrsa::world::Request;
use serde_json::Value;
use url::{Url, form_urlencoded};

use super::case::ExpectedRequest;

type Pairs = BTreeMap<String, String>;

impl ExpectedRequest {
    /// What is wrong with the request.
    pub(crate) fn check(&self, request: &Request) -> Result<(), String> {
        let url = Url::parse(&request.uri().to_string()).map_err(|error| error.to_string())?;
        let mut place = url.clone();
        place.set_query(None);
        let expected = Url::parse(&self.url).map_err(|error| error.to_string())?;
        same("method", &self.method.as_str(), &request.method().as_str())?;
        same("URL", &expected.as_str(), &place.as_str())?;
        check_pairs(
            "query",
            self.query.as_ref(),
            &self.query_has,
            url.query_pairs(),
        )?;
        let form = form_urlencoded::parse(request.body());
        if self.form.is_some() || !self.form_has.is_empty() {
            check_pairs("form", self.form.as_ref(), &self.form_has, form)?;
        }
        for (name, expected) in &self.headers {
            let seen = request.headers().get(name).map(|v| v.to_str().unwrap());
            same(&format!("header {name}"), &expected.as_deref(), &seen)?;
        }
        if let Some(expected) = &self.json {
            let seen: Value =
                serde_json::from_slice(request.body()).map_err(|error| error.to_string())?;
            same("body", expected, &seen)?;
        }
        if let Some(expected) = &self.text {
            same("body", &expected.as_bytes(), &request.body().as_ref())?;
        }
        Ok(())
    }
}

fn check_pairs<N: Into<String>, V: Into<String>>(
    what: &str,
    exactly: Option<&Pairs>,
    among_others: &BTreeMap<String, Option<String>>,
    seen: impl Iterator<Item = (N, V)>,
) -> Result<(), String> {
    let mut pairs = Pairs::new();
    for (name, value) in seen {
        let name = name.into();
        if pairs.insert(name.clone(), value.into()).is_some() {
            return Err(format!("{what}: {name} comes twice"));
        }
    }
    if let Some(exactly) = exactly {
        same(what, exactly, &pairs)?;
    }
    for (name, expected) in among_others {
        same(
            &format!("{what} {name}"),
            &expected.as_ref(),
            &pairs.get(name),
        )?;
    }
    Ok(())
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, expected: &T, seen: &T) -> Result<(), String> {
    if expected == seen {
        Ok(())
    } else {
        Err(format!("{what}: expected {expected:?}, seen {seen:?}"))
    }
}
