//! Every field of a live binding may change later, and each change has its own effect: a table of
//! all fields, which the schema of the custom resource keeps complete.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::CustomResourceExt as _;
use kube::api::{Patch, PatchParams, PostParams};
use rrsa::api::v1alpha1::AlibabaRoleBinding;
use serde_json::{Value, json};

use crate::bindings::{SOON, Scene, data_of};
use crate::installation::{PROVIDER, role, subject};
use crate::proxied::{Proxied, with_proxy};
use crate::simulators::calls::Call;
use crate::simulators::config::Trust;
use crate::simulators::issuance::Session;
use crate::support::wait;

mod rows;

use rows::{READY, rows};

/// Somebody else's marks on our Secrets, which no change may remove.
const FOREIGN: &str = "example.com/foreign";
/// Another provider that knows the cluster's tokens.
const OTHER_PROVIDER: &str = "acs:ram::1234567890123456:oidc-provider/other";

/// A change of one field.
struct Row {
    /// Path of the field in the spec.
    field: &'static str,
    /// What the spec has beside the role and the ServiceAccount.
    before: Value,
    /// The change, as a merge into the spec.
    after: Value,
    /// Condition, status and reason that come of it.
    says: (&'static str, &'static str, &'static str),
    /// Whether it takes new credentials; otherwise STS is not asked and the data stays.
    issued: bool,
    /// What must hold besides.
    holds: fn(&Seen) -> Result<()>,
}

/// What a change came to.
struct Seen {
    names: Names,
    binding: AlibabaRoleBinding,
    /// The Secret before.
    before: Secret,
    /// The Secret that the spec names now.
    after: Secret,
    /// The Secret under the name that was asked for before, if it is another one.
    former: Option<Secret>,
    session: Session,
    /// The last call of STS for this binding.
    call: Call,
    /// Where the proxy led: `host:port`.
    targets: Vec<String>,
}

/// The names of one row.
#[derive(Clone)]
struct Names {
    namespace: String,
    binding: String,
    role: String,
    other: String,
    /// A role that trusts the first one.
    next: String,
    /// STS by its address.
    sts: String,
}

impl Seen {
    fn parameter(&self, name: &str) -> &str {
        self.call.parameters.get(name).map_or("", String::as_str)
    }

    fn message(&self, condition: &str) -> String {
        let status = self.binding.status.clone().unwrap_or_default();
        let found = status.conditions.into_iter().find(|c| c.type_ == condition);
        found.map(|found| found.message).unwrap_or_default()
    }

    fn data(&self) -> BTreeMap<String, String> {
        data_of(&self.after).unwrap_or_default()
    }

    fn went_to(&self, target: &str) -> bool {
        self.targets.iter().any(|led| led == target)
    }
}

/// The fields that a person can write, by the schema: `secret.name`, `assume[].arn`. Maps and lists
/// of words are one field.
fn fields(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    let below = |name: &str| match path {
        "" => name.to_owned(),
        _ => format!("{path}.{name}"),
    };
    if let Some(properties) = schema["properties"].as_object() {
        for (name, property) in properties {
            fields(property, &below(name), found);
        }
    } else if schema["items"]["properties"].is_object() {
        fields(&schema["items"], &format!("{path}[]"), found);
    } else {
        found.insert(path.to_owned());
    }
}

#[test]
fn every_field_of_the_schema_has_a_row() -> Result<()> {
    let crd = serde_json::to_value(AlibabaRoleBinding::crd())?;
    let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut found = BTreeSet::new();
    fields(spec, "", &mut found);
    let rows: Vec<_> = rows().iter().map(|row| row.field.to_owned()).collect();
    assert_eq!(rows.iter().cloned().collect::<BTreeSet<_>>(), found);
    assert_eq!(rows.len(), found.len(), "a field has two rows");
    Ok(())
}

impl Names {
    fn of(scene: &Scene<'_>, number: usize) -> Self {
        let namespace = scene.namespace.name().to_owned();
        let binding = format!("f{number:02}");
        let named = |what: &str| role(&format!("{namespace}-{binding}{what}"));
        Self {
            role: named(""),
            other: named("-other"),
            next: named("-next"),
            sts: scene.installation.sts.host(),
            namespace,
            binding,
        }
    }

    /// The role that is delegated, and that may not fall back.
    fn delegated(&self) -> String {
        role(&format!("delegated-{}-{}", self.namespace, self.binding))
    }

    fn fill(&self, spec: &Value) -> Result<Value> {
        let (_, other_name) = self.other.rsplit_once('/').context("an ARN")?;
        let text = spec
            .to_string()
            .replace("<other>", &self.other)
            .replace("<other-name>", other_name)
            .replace("<next>", &self.next)
            .replace("<sts>", &self.sts)
            .replace("<binding>", &self.binding)
            .replace("<delegated>", &self.delegated());
        Ok(serde_json::from_str(&text)?)
    }

    fn is_about(&self, call: &Call) -> bool {
        let mine = format!("{}-{}", self.namespace, self.binding);
        call.role.as_ref().is_some_and(|arn| arn.contains(&mine))
    }
}

/// Makes RAM know the roles of a row.
fn trust(scene: &Scene<'_>, names: &Names) {
    let installation = scene.installation;
    let accounts = ["app", "other"].map(|name| subject(&names.namespace, name));
    let mut all = accounts.to_vec();
    all.push(subject("rrsa-system", "rrsa-controller"));
    for arn in [&names.role, &names.other] {
        installation.trust(arn, &accounts);
    }
    installation.trust(&names.delegated(), &all);
    installation.trust(&names.next, &[]);
    for word in [None, Some("word/a"), Some("word/b")] {
        installation.trust_role(&names.next, &names.role, word);
    }
    installation.sts.update(|config| {
        let role = config.roles.iter_mut().find(|role| role.arn == names.role);
        if let Some(role) = role {
            let trusted = Trust::subject(OTHER_PROVIDER, &accounts[0]);
            role.trust.push(trusted);
        }
    });
}

/// The spec before the change: all keys, and one that shows the region.
fn first_spec(names: &Names, row: &Row) -> Result<Value> {
    let mut spec = json!({
        "role": {"arn": names.role},
        "serviceAccountName": "app",
        "secret": {"template": {"region": "{{ region }}"}},
    });
    json_patch::merge(&mut spec, &names.fill(&row.before)?);
    Ok(spec)
}

fn secret_name(binding: &AlibabaRoleBinding) -> Result<String> {
    let status = binding.status.clone().unwrap_or_default();
    status.secret_name.context("the status names no Secret")
}

/// Puts somebody else's label and annotation on the Secret.
async fn mark(scene: &Scene<'_>, name: &str) -> Result<Secret> {
    let marks = json!({"metadata": {"labels": {FOREIGN: "x"}, "annotations": {FOREIGN: "x"}}});
    let parameters = PatchParams {
        field_manager: Some("somebody".to_owned()),
        ..PatchParams::default()
    };
    Ok(scene
        .secrets()
        .patch(name, &parameters, &Patch::Merge(marks))
        .await?)
}

/// Changes the field and looks at what comes of it.
async fn change(
    scene: &Scene<'_>,
    proxied: &Proxied,
    names: Names,
    row: &Row,
    before: Secret,
) -> Result<()> {
    let calls = scene.installation.sts.calls();
    let calls_before = calls.count(|call| names.is_about(call) && call.succeeded());
    let patch = Patch::Merge(json!({"spec": names.fill(&row.after)?}));
    let bindings = scene.bindings();
    bindings
        .patch(&names.binding, &PatchParams::default(), &patch)
        .await?;
    let (condition, status, reason) = row.says;
    let binding = scene
        .says_of(&names.binding, condition, status, reason)
        .await?;
    let name = secret_name(&binding)?;
    let former_name = before.metadata.name.clone().unwrap_or_default();
    let former = wait::until("the former Secret to go", SOON, async || {
        let former = if former_name == name {
            None
        } else {
            scene.secrets().get_opt(&former_name).await?
        };
        ensure!(former.is_none(), "Secret {former_name} stays");
        Ok(Some(former))
    })
    .await?;
    let after = scene.secrets().get(&name).await?;
    let all_formats = after.data.as_ref().is_some_and(|data| data.len() > 2);
    let session = if all_formats {
        scene.verify(&data_of(&after)?)?
    } else {
        scene.verify(&data_of(&before)?)?
    };
    let last = calls
        .all()
        .into_iter()
        .rfind(|call| names.is_about(call) && call.succeeded());
    let seen = Seen {
        binding,
        after,
        former,
        session,
        call: last.context("no call of STS")?,
        targets: proxied.proxy.targets(),
        before,
        names,
    };
    let calls_now = calls.count(|call| seen.names.is_about(call) && call.succeeded());
    if row.issued {
        ensure!(calls_now > calls_before, "no new credentials");
        ensure!(
            seen.after.data != seen.before.data,
            "the Secret is the old one"
        );
    } else {
        ensure!(calls_now == calls_before, "it cost a call of STS");
        ensure!(
            seen.after.data == seen.before.data,
            "the Secret is another one"
        );
    }
    if seen.after.metadata.name == seen.before.metadata.name {
        let marked = |map: &Option<BTreeMap<String, String>>| {
            map.as_ref().is_some_and(|map| map.contains_key(FOREIGN))
        };
        ensure!(
            marked(&seen.after.metadata.labels) && marked(&seen.after.metadata.annotations),
            "somebody else's label or annotation is gone"
        );
    }
    (row.holds)(&seen)
}

#[tokio::test]
async fn every_field_of_a_live_binding_may_change() -> Result<()> {
    with_proxy(crate::proxied::CREDENTIALS, async |_, scene, proxied| {
        scene.make_service_account("other").await?;
        scene.installation.sts.update(|config| {
            let known = config.providers.iter().find(|known| known.arn == PROVIDER);
            let mut other = known.cloned().unwrap_or_default();
            OTHER_PROVIDER.clone_into(&mut other.arn);
            config.providers.push(other);
        });
        let foreign: Secret = serde_json::from_value(json!({
            "metadata": {"name": "theirs", "labels": {"app.kubernetes.io/managed-by": "rrsa"}},
            "stringData": {"password": "of somebody else"},
        }))?;
        let foreign = scene
            .secrets()
            .create(&PostParams::default(), &foreign)
            .await?;
        let mut live = Vec::new();
        for (number, row) in rows().into_iter().enumerate() {
            let names = Names::of(scene, number);
            trust(scene, &names);
            scene
                .bind_as(&names.binding, first_spec(&names, &row)?)
                .await?;
            live.push((names, row));
        }
        for (names, row) in live {
            let (field, binding) = (row.field, names.binding.clone());
            let (_, status, reason) = READY;
            let ready = scene.says_of(&binding, "Ready", status, reason).await;
            let ready = ready.with_context(|| format!("before the change of {field}"))?;
            let before = mark(scene, &secret_name(&ready)?).await?;
            change(scene, proxied, names, &row, before)
                .await
                .with_context(|| format!("the change of {field} ({binding})"))?;
        }
        let now = scene.secrets().get("theirs").await?;
        ensure!(
            now.metadata.resource_version == foreign.metadata.resource_version,
            "a foreign Secret was touched"
        );
        Ok(())
    })
    .await
}
