//! What is known about the bindings of a namespace: the few fields that concern pods, and
//! nothing else, because ten thousands of them stay in memory.

use std::cmp::Ordering;
use std::sync::Arc;

use kube::core::ObjectMeta;
use serde::Deserialize;

use super::views;
use crate::api::v1alpha1::{AlibabaRoleBinding, default_secret_name};

/// A binding as it is read from the API server: the rest of it is not even parsed.
#[derive(Debug, Clone, Deserialize, kube::Resource)]
#[resource(inherit = "AlibabaRoleBinding")]
pub struct BindingView {
    /// Name, namespace and age.
    #[serde(deserialize_with = "views::metadata")]
    pub metadata: ObjectMeta,
    #[serde(default)]
    spec: SpecView,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SpecView {
    role: RoleView,
    service_account_name: Option<String>,
    oidc_provider_arn: Option<String>,
    token_source: Option<TokenSourceView>,
    session: Option<SessionView>,
    assume: Vec<serde::de::IgnoredAny>,
    secret: Option<SecretView>,
    inject_pods: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct RoleView {
    arn: Option<String>,
    name: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct TokenSourceView {
    #[serde(rename = "type")]
    kind: String,
}

/// Name and duration of a session give its credentials no other power, so pods do without them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct SessionView {
    policy: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct SecretView {
    name: Option<String>,
    formats: Option<Vec<String>>,
}

/// A binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindingFacts {
    /// Its name.
    pub name: Box<str>,
    /// When it was created, in seconds since 1970.
    pub created: i64,
    /// The ServiceAccount whose identity is exchanged; `None` where it is the operator's.
    pub account: Option<Box<str>>,
    /// What pods of that ServiceAccount take from here; `None` without `injectPods`.
    pub for_pods: Option<Box<PodRole>>,
    /// Name of its Secret.
    pub secret: Box<str>,
    /// What the Secret holds.
    pub formats: Formats,
}

/// What a binding with `injectPods` gives to pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodRole {
    /// The role.
    pub role: RoleText,
    /// The OIDC provider, where it is not the operator's.
    pub provider: Option<Box<str>>,
    /// Whether a pod cannot get the binding's credentials by itself: they come by further roles,
    /// with a token of the operator, or restricted by a session policy. No variable of an SDK says
    /// so, and what a pod got instead would be the first role, unrestricted.
    pub beyond_pods: bool,
}

/// A role as the binding names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoleText {
    /// By its full ARN.
    Arn(Box<str>),
    /// By its name, in the operator's account.
    Name(Box<str>),
}

/// The formats of a Secret, as far as pods are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Formats {
    /// Environment variables.
    pub env: bool,
    /// `credentials.ini`.
    pub ini: bool,
    /// `config.json`.
    pub cli: bool,
}

impl Formats {
    /// Those of a binding that names none.
    pub const ALL: Self = Self {
        env: true,
        ini: true,
        cli: true,
    };

    fn named(names: &[String]) -> Self {
        let has = |name: &str| names.iter().any(|one| one == name);
        Self {
            env: has("env"),
            ini: has("ini"),
            cli: has("cli"),
        }
    }
}

impl BindingFacts {
    /// Of a whole binding, for who does not read views: by way of one, so that all see alike.
    #[must_use]
    pub fn of(binding: &AlibabaRoleBinding) -> Option<Self> {
        let object = serde_json::to_value(binding).ok()?;
        let view: BindingView = serde_json::from_value(object).ok()?;
        Some(view.into())
    }
}

impl From<BindingView> for BindingFacts {
    fn from(view: BindingView) -> Self {
        let BindingView { metadata, spec } = view;
        let name = metadata.name.unwrap_or_default();
        let secret = spec.secret.unwrap_or_default();
        let delegated = spec
            .token_source
            .is_some_and(|source| source.kind == "File");
        let restricted = spec.session.is_some_and(|session| session.policy.is_some());
        let role = match (spec.role.arn, spec.role.name) {
            (Some(arn), _) => RoleText::Arn(arn.into()),
            (None, name) => RoleText::Name(name.unwrap_or_default().into()),
        };
        let for_pods = spec.inject_pods.then(|| {
            Box::new(PodRole {
                role,
                provider: spec.oidc_provider_arn.map(Into::into),
                beyond_pods: delegated || restricted || !spec.assume.is_empty(),
            })
        });
        Self {
            created: metadata
                .creation_timestamp
                .map_or(0, |time| time.0.as_second()),
            account: spec.service_account_name.map(Into::into),
            for_pods,
            secret: secret
                .name
                .unwrap_or_else(|| default_secret_name(&name))
                .into(),
            formats: secret
                .formats
                .map_or(Formats::ALL, |names| Formats::named(&names)),
            name: name.into(),
        }
    }
}

/// The bindings of one namespace, those of one ServiceAccount together, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bindings(Vec<Arc<BindingFacts>>);

impl Bindings {
    /// Those of a ServiceAccount: the oldest first, then by name.
    #[must_use]
    pub fn of_account(&self, account: &str) -> &[Arc<BindingFacts>] {
        let place = |binding: &Arc<BindingFacts>| binding.account.as_deref().cmp(&Some(account));
        let start = self.0.partition_point(|binding| place(binding).is_lt());
        let end = self.0.partition_point(|binding| place(binding).is_le());
        &self.0[start..end]
    }

    /// Those that ask for the pods of a ServiceAccount, with what they give to them. The first
    /// decides for all pods, also where it gives them nothing.
    pub fn for_pods_of(&self, account: &str) -> impl Iterator<Item = (&BindingFacts, &PodRole)> {
        let all = self.of_account(account).iter();
        all.filter_map(|binding| Some((binding.as_ref(), binding.for_pods.as_deref()?)))
    }

    /// The one of that name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&BindingFacts> {
        let mut all = self.0.iter();
        all.find(|binding| *binding.name == *name)
            .map(AsRef::as_ref)
    }

    /// The names of the Secrets that hold environment variables.
    pub fn env_secrets(&self) -> impl Iterator<Item = &str> {
        let with_variables = self.0.iter().filter(|binding| binding.formats.env);
        with_variables.map(|binding| &*binding.secret)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes a binding in, in place of the one of the same name.
    pub fn put(&mut self, binding: BindingFacts) {
        self.remove(&binding.name);
        let at = self
            .0
            .partition_point(|other| order(other, &binding).is_lt());
        self.0.insert(at, Arc::new(binding));
    }

    /// Drops the one of that name.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|binding| *binding.name != *name);
    }
}

impl FromIterator<BindingFacts> for Bindings {
    fn from_iter<I: IntoIterator<Item = BindingFacts>>(all: I) -> Self {
        let mut all: Vec<_> = all.into_iter().map(Arc::new).collect();
        all.sort_by(|one, other| order(one, other));
        Self(all)
    }
}

fn order(one: &BindingFacts, other: &BindingFacts) -> Ordering {
    let key = |binding: &BindingFacts| binding.created;
    (one.account.cmp(&other.account))
        .then(key(one).cmp(&key(other)))
        .then(one.name.cmp(&other.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn facts(name: &str, created: &str, spec: &Value) -> BindingFacts {
        let object = json!({"apiVersion": "rrsa.io/v1alpha1", "kind": "AlibabaRoleBinding",
            "metadata": {"name": name, "namespace": "team-a", "creationTimestamp": created},
            "spec": spec, "status": {"future": [1]}});
        BindingFacts::from(serde_json::from_value::<BindingView>(object).unwrap())
    }

    fn of(account: &str) -> Value {
        json!({"role": {"name": "app"}, "serviceAccountName": account, "injectPods": true})
    }

    #[test]
    fn defaults_are_those_of_the_custom_resource() {
        let plain = facts("app", "2026-01-01T00:00:00Z", &of("app"));
        assert_eq!(&*plain.secret, "app-credentials");
        assert_eq!(plain.formats, Formats::ALL);
        let role = plain.for_pods.unwrap();
        assert_eq!(role.role, RoleText::Name("app".into()));
        assert!(!role.beyond_pods && role.provider.is_none());
    }

    #[test]
    fn what_does_not_concern_pods_is_not_kept_and_unknown_fields_do_not_hurt() {
        let spec = json!({"role": {"arn": "acs:ram::1:role/a"}, "serviceAccountName": "app",
            "session": {"policy": "{}"}, "future": {"x": []},
            "secret": {"name": "s", "formats": ["env", "other"]}});
        let binding = facts("app", "2026-01-01T00:00:00Z", &spec);
        assert!(binding.for_pods.is_none());
        assert_eq!(&*binding.secret, "s");
        let formats = binding.formats;
        assert!(formats.env && !formats.ini && !formats.cli);
    }

    #[test]
    fn credentials_that_no_variables_describe_are_beyond_pods() {
        let chain = json!([{"arn": "acs:ram::1:role/b"}]);
        for (field, value, beyond) in [
            ("assume", chain, true),
            ("assume", json!([]), false),
            (
                "tokenSource",
                json!({"type": "File", "file": "operator"}),
                true,
            ),
            ("tokenSource", json!({"type": "ServiceAccount"}), false),
            ("session", json!({"policy": "{}"}), true),
            (
                "session",
                json!({"name": "app", "durationSeconds": 900}),
                false,
            ),
            ("session", json!({"policy": null}), false),
            ("session", json!(null), false),
        ] {
            let mut spec = of("app");
            spec[field] = value;
            let binding = facts("app", "2026-01-01T00:00:00Z", &spec);
            assert_eq!(binding.for_pods.unwrap().beyond_pods, beyond, "{spec}");
        }
    }

    #[test]
    fn the_oldest_comes_first_then_the_name_decides() {
        let mut all: Bindings = [
            facts("c", "2026-01-02T00:00:00Z", &of("app")),
            facts("z", "2026-01-01T00:00:00Z", &of("app")),
            facts("x", "2025-01-01T00:00:00Z", &of("zzz")),
        ]
        .into_iter()
        .collect();
        all.put(facts("b", "2026-01-02T00:00:00Z", &of("app")));
        all.put(facts("a", "2026-01-02T00:00:00Z", &of("other")));
        let names = |all: &Bindings, account: &str| {
            let found = all.of_account(account).iter();
            found.map(|one| one.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(&all, "app"), ["z", "b", "c"]);
        assert_eq!(names(&all, "nobody"), [] as [&str; 0]);
        // A binding that changes its ServiceAccount moves; one that is deleted goes.
        all.put(facts("z", "2026-01-01T00:00:00Z", &of("other")));
        all.remove("c");
        assert_eq!(names(&all, "app"), ["b"]);
        assert_eq!(names(&all, "other"), ["z", "a"]);
        assert!(all.named("z").is_some() && all.named("c").is_none());
    }

    #[test]
    fn only_secrets_with_variables_are_found_by_name() {
        let mut ini = of("app");
        ini["secret"] = json!({"name": "files", "formats": ["ini"]});
        let all: Bindings = [
            facts("app", "2026-01-01T00:00:00Z", &of("app")),
            facts("ini", "2026-01-01T00:00:00Z", &ini),
        ]
        .into_iter()
        .collect();
        assert!(all.env_secrets().any(|secret| secret == "app-credentials"));
        assert!(all.env_secrets().all(|secret| secret != "files"));
    }
}
