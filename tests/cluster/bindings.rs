//! What the tests of bindings share: making them, and waiting for what they say.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{Patch, PatchParams, PostParams};
use rrsa::api::v1alpha1::{AlibabaRoleBinding, AlibabaRoleBindingSpec};
use serde_json::{Value, json};

use crate::installation::{Installation, role, subject};
use crate::simulators::issuance::Session;
use crate::support::kubernetes::namespace::TestNamespace;
use crate::support::wait;

/// Longest wait for something that the controller does at once: only a machine with much else to do
/// needs so long, and never a proof that something does not come.
pub(crate) const SOON: Duration = Duration::from_mins(3);

/// A session policy.
pub(crate) const POLICY: &str =
    r#"{"Version":"1","Statement":[{"Effect":"Allow","Action":"oss:GetObject","Resource":"*"}]}"#;

/// One binding `app` in a namespace of its own, with its ServiceAccount `app` and a role that
/// trusts it.
pub(crate) struct Scene<'a> {
    pub(crate) installation: &'a Installation,
    pub(crate) namespace: TestNamespace<'a>,
}

impl<'a> Scene<'a> {
    /// Makes the namespace, the ServiceAccount and the role.
    pub(crate) async fn set(
        installation: &'a Installation,
        namespace: TestNamespace<'a>,
    ) -> Result<Self> {
        let scene = Self {
            installation,
            namespace,
        };
        scene.make_service_account("app").await?;
        scene.trust("app");
        Ok(scene)
    }

    pub(crate) async fn make_service_account(&self, name: &str) -> Result<()> {
        let account = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        let api = self.namespace.api::<ServiceAccount>();
        api.create(&PostParams::default(), &account).await?;
        Ok(())
    }

    /// The scene's role; every namespace has its own.
    pub(crate) fn role_arn(&self) -> String {
        role(self.namespace.name())
    }

    pub(crate) fn trust(&self, account: &str) {
        let subjects = [subject(self.namespace.name(), account)];
        self.installation.trust(&self.role_arn(), &subjects);
    }

    /// The smallest spec.
    pub(crate) fn spec(&self) -> Value {
        json!({"role": {"arn": self.role_arn()}, "serviceAccountName": "app"})
    }

    /// Creates the binding `app`.
    pub(crate) async fn bind(&self, spec: Value) -> Result<AlibabaRoleBinding> {
        self.bind_as("app", spec).await
    }

    /// Creates a binding of this name.
    pub(crate) async fn bind_as(&self, name: &str, spec: Value) -> Result<AlibabaRoleBinding> {
        let spec: AlibabaRoleBindingSpec = serde_json::from_value(spec)?;
        let binding = AlibabaRoleBinding::new(name, spec);
        Ok(self
            .bindings()
            .create(&PostParams::default(), &binding)
            .await?)
    }

    /// Creates the binding with the smallest spec and waits until it is ready.
    pub(crate) async fn issue(&self) -> Result<()> {
        self.bind(self.spec()).await?;
        self.ready().await?;
        Ok(())
    }

    /// Merges into the binding's spec.
    pub(crate) async fn change(&self, spec: Value) -> Result<()> {
        let patch = Patch::Merge(json!({"spec": spec}));
        self.bindings()
            .patch("app", &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }

    pub(crate) fn bindings(&self) -> kube::Api<AlibabaRoleBinding> {
        self.namespace.api()
    }

    pub(crate) fn secrets(&self) -> kube::Api<Secret> {
        self.namespace.api()
    }

    /// Waits until the condition of the binding `app` speaks of the present spec and has this status
    /// and reason.
    pub(crate) async fn says(
        &self,
        condition: &str,
        status: &str,
        reason: &str,
    ) -> Result<AlibabaRoleBinding> {
        self.says_of("app", condition, status, reason).await
    }

    /// The same for the binding of this name.
    pub(crate) async fn says_of(
        &self,
        name: &str,
        condition: &str,
        status: &str,
        reason: &str,
    ) -> Result<AlibabaRoleBinding> {
        let what = format!("{condition}={status} {reason} on binding {name}");
        wait::until(&what, SOON, async || {
            let binding = self.bindings().get(name).await?;
            let shown = binding.status.clone().unwrap_or_default();
            let found = shown.conditions.iter().find(|c| c.type_ == condition);
            let found = found.with_context(|| format!("no condition {condition} yet"))?;
            ensure!(
                found.observed_generation == binding.metadata.generation,
                "generation {:?} is not observed yet",
                binding.metadata.generation
            );
            ensure!(
                found.status == status && found.reason == reason,
                "it says {} {}: {}",
                found.status,
                found.reason,
                found.message
            );
            Ok(Some(binding))
        })
        .await
    }

    pub(crate) async fn ready(&self) -> Result<AlibabaRoleBinding> {
        self.says("Ready", "True", "CredentialsFresh").await
    }

    /// The data of the Secret `app-credentials`.
    pub(crate) async fn data(&self) -> Result<BTreeMap<String, String>> {
        data_of(&self.secrets().get("app-credentials").await?)
    }

    /// Checks that the Secret's credentials are good, in every format alike.
    pub(crate) fn verify(&self, data: &BTreeMap<String, String>) -> Result<Session> {
        verify(self.installation, data)
    }
}

/// The data of a Secret as text.
pub(crate) fn data_of(secret: &Secret) -> Result<BTreeMap<String, String>> {
    let data = secret.data.clone().unwrap_or_default();
    data.into_iter()
        .map(|(key, value)| Ok((key, String::from_utf8(value.0)?)))
        .collect()
}

/// Checks that all formats hold the same credentials and that STS knows them.
pub(crate) fn verify(
    installation: &Installation,
    data: &BTreeMap<String, String>,
) -> Result<Session> {
    let of = |key: &str| {
        data.get(key)
            .cloned()
            .with_context(|| format!("no key {key}"))
    };
    let id = of("ALIBABA_CLOUD_ACCESS_KEY_ID")?;
    let secret = of("ALIBABA_CLOUD_ACCESS_KEY_SECRET")?;
    let token = of("ALIBABA_CLOUD_SECURITY_TOKEN")?;
    let expiration = of("ALIBABA_CLOUD_CREDENTIALS_EXPIRATION")?;
    let json: Value = serde_json::from_str(&of("credentials.json")?)?;
    for (key, expected) in [
        ("access_key_id", &id),
        ("access_key_secret", &secret),
        ("sts_token", &token),
        ("expiration", &expiration),
        ("AccessKeyId", &id),
        ("AccessKeySecret", &secret),
        ("SecurityToken", &token),
        ("Expiration", &expiration),
    ] {
        ensure!(
            json[key] == **expected,
            "credentials.json: {key} is of another refresh"
        );
    }
    let ini = of("credentials.ini")?;
    for expected in [&id, &secret, &token, &expiration] {
        ensure!(
            ini.contains(expected.as_str()),
            "credentials.ini is of another refresh"
        );
    }
    let session = installation
        .sts
        .verify(&id, &secret, &token)
        .map_err(|error| anyhow::anyhow!("STS does not know the credentials: {error:?}"))?;
    Ok(session)
}
