//! One case, as its file has it.
//!
//! ```yaml
//! title: the pod goes before the ServiceAccount
//! says: >-                    # the sentence that the case stands on
//!   …
//! namespace: {…}              # its labels
//! serviceAccount: {…}         # its annotations
//! pod: {metadata: …, spec: …} # image and security context are filled in
//! expect:                     # absent: the pod comes back unchanged
//!   role: app-role
//!   containers: [app]         # the injected ones, init containers among them
//!   expirationSeconds: 1200   # default: 3600
//!   override: true            # the pod's own variables are replaced
//!   stsEndpoint: true         # ALIBABA_CLOUD_STS_ENDPOINT in any case
//!   tokenFile: …              # default: the documented path
//!   volume: false             # the volume is not added
//! unmarked: true              # labels and annotations come back as they were
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::contract::annotations::official;

/// What a case stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum List {
    /// The documentation says so.
    Documented,
    /// The documentation is silent; rrsa chose.
    Corner,
}

/// Labels or annotations.
pub type Texts = BTreeMap<String, String>;

/// One case.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// What it stands on.
    pub list: List,
    /// Its file's name, without the ending.
    pub name: &'static str,
    /// What the file says.
    pub body: Body,
}

/// What the file of a case says.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Body {
    /// What is tried.
    pub title: String,
    /// The sentence that the case stands on.
    pub says: String,
    /// Labels of the namespace.
    #[serde(default)]
    pub namespace: Texts,
    /// Annotations of the ServiceAccount.
    #[serde(default)]
    pub service_account: Texts,
    /// The pod that is created.
    pub pod: Value,
    /// What is added to it; `None`: nothing.
    #[serde(default)]
    pub expect: Option<Additions>,
    /// Whether labels and annotations must come back as they were. They are not compared
    /// otherwise, because the documentation says nothing about them.
    #[serde(default)]
    pub unmarked: bool,
}

/// What is added to a pod.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Additions {
    /// Name of the role.
    pub role: String,
    /// The injected containers, init containers among them.
    pub containers: Vec<String>,
    /// Life of the token.
    #[serde(default = "hour")]
    pub expiration_seconds: u32,
    /// Whether the pod's own variables are replaced.
    #[serde(default, rename = "override")]
    pub override_env: bool,
    /// Whether the STS endpoint is injected though the component does not do so by itself.
    #[serde(default)]
    pub sts_endpoint: bool,
    /// The token file, where it is not the documented path.
    #[serde(default)]
    pub token_file: Option<String>,
    /// Whether the volume is added where the pod has none of its name.
    #[serde(default = "yes")]
    pub volume: bool,
}

const fn hour() -> u32 {
    3600
}

const fn yes() -> bool {
    true
}

/// A case that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the case {name} cannot be read: {problem}")]
pub struct Unreadable {
    name: String,
    problem: String,
}

/// Never pulled: the pods are dry runs.
const IMAGE: &str = "registry.example.com/rrsa/conformance:never-pulled";

impl Case {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// Names the case and what is wrong with its file.
    pub fn parse(list: List, name: &'static str, text: &str) -> Result<Self, Unreadable> {
        let unreadable = |problem: String| Unreadable {
            name: name.to_owned(),
            problem,
        };
        let body: Body =
            serde_saphyr::from_str(text).map_err(|error| unreadable(error.to_string()))?;
        if !body.pod["spec"]["containers"].is_array() {
            return Err(unreadable("its pod has no containers".to_owned()));
        }
        Ok(Self { list, name, body })
    }

    /// The pod as it is created, of that ServiceAccount.
    #[must_use]
    pub fn pod(&self, service_account: &str) -> Value {
        let mut pod = complete(&self.body.pod, self.name, service_account);
        if let Some(metadata) = self.body.pod["metadata"].as_object() {
            for (key, value) in metadata {
                pod["metadata"][key] = value.clone();
            }
        }
        pod
    }

    /// The same pod without anything that asks for injection.
    #[must_use]
    pub fn plain_pod(&self, service_account: &str) -> Value {
        let mut pod = self.pod(service_account);
        for texts in ["labels", "annotations"] {
            if let Some(texts) = pod["metadata"][texts].as_object_mut() {
                texts.retain(|key, _| !is_official(key));
            }
        }
        pod
    }
}

fn is_official(key: &str) -> bool {
    let prefix = official::INJECTION.split('/').next().unwrap_or_default();
    key.split('/').next() == Some(prefix)
}

/// The pod with what every pod needs, and with the security context that the strictest Pod
/// Security standard asks for: so that no cluster refuses it.
fn complete(pod: &Value, name: &str, service_account: &str) -> Value {
    let mut spec = pod["spec"].clone();
    let windows = spec["os"]["name"] == "windows";
    let mut context = json!({"runAsNonRoot": true});
    if !windows {
        context["seccompProfile"] = json!({"type": "RuntimeDefault"});
    }
    spec["securityContext"] = context;
    spec["serviceAccountName"] = json!(service_account);
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            let Some(container) = container.as_object_mut() else {
                continue;
            };
            container.insert("image".to_owned(), json!(IMAGE));
            if !windows {
                let context =
                    json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
                container.insert("securityContext".to_owned(), context);
            }
        }
    }
    // Indexing made them where they were missing.
    if let Some(spec) = spec.as_object_mut() {
        remove_nulls(spec);
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
}

fn remove_nulls(object: &mut Map<String, Value>) {
    object.retain(|_, value| !value.is_null());
}

#[cfg(test)]
mod tests {
    use super::super::suite::cases;
    use super::*;

    #[test]
    fn every_case_can_be_read_and_no_name_comes_twice() {
        let cases = cases(true).unwrap();
        let mut names: Vec<_> = cases.iter().map(|case| case.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), cases.len());
        assert!(
            cases
                .iter()
                .filter(|case| case.list == List::Documented)
                .count()
                > 25
        );
        for case in cases {
            let body = &case.body;
            assert!(body.says.ends_with('.'), "{}: {}", case.name, body.says);
            let known: Vec<_> = ["initContainers", "containers"]
                .iter()
                .flat_map(|list| body.pod["spec"][list].as_array().into_iter().flatten())
                .map(|container| container["name"].as_str().unwrap())
                .collect();
            for name in body
                .expect
                .iter()
                .flat_map(|additions| &additions.containers)
            {
                assert!(known.contains(&name.as_str()), "{}: {name}", case.name);
            }
        }
    }

    #[test]
    fn the_plain_pod_asks_for_nothing() {
        for case in cases(true).unwrap() {
            let plain = case.plain_pod("app").to_string();
            assert!(
                !plain.contains("pod-identity.alibabacloud.com"),
                "{}: {plain}",
                case.name
            );
        }
    }

    #[test]
    fn a_misspelt_expectation_is_refused() {
        let text = "title: t\nsays: s\npod: {spec: {containers: []}}\nexpect: {role: a, containers: [], overide: true}\n";
        let error = Case::parse(List::Corner, "c", text).unwrap_err();
        assert!(error.to_string().contains("overide"), "{error}");
    }
}
