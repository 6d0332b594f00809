//! Writes Secrets: all keys of one refresh in one request, and never over somebody else's object.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::core::request::Request;
use kube::{Api, Resource as _};
use serde_json::json;

use super::api::{api_problem, metadata_of, within};
use super::content::{self, Content};
use super::reason::{Problem, Reason};
use super::secrets::SecretFacts;
use super::wanted::Wanted;
use crate::api::v1alpha1::{AlibabaRoleBinding, DeletionPolicy};
use crate::contract::annotations::secret as keys;
use crate::contract::{FIELD_MANAGER, MANAGED_BY_LABEL};
use crate::credentials::formats::timestamp;
use chrono::{DateTime, Utc};

/// What one refresh puts into a Secret.
#[derive(Debug)]
pub struct Refresh<'a> {
    /// The binding that owns it.
    pub binding: &'a AlibabaRoleBinding,
    /// What it asked for.
    pub wanted: &'a Wanted,
    /// Keys and values.
    pub content: &'a Content,
    /// Hash of the inputs.
    pub inputs_hash: &'a str,
    /// When the credentials were issued.
    pub issued_at: DateTime<Utc>,
    /// When they end.
    pub expiration: DateTime<Utc>,
    /// Why the node's role stood in for a token, if it did.
    pub fallback: Option<Reason>,
    /// The refresh request that this answers.
    pub answers: Option<&'a str>,
}

/// How a Secret is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode<'a> {
    /// There is none: POST, which fails where there is one after all.
    Create,
    /// The same keys with new values: server-side apply, conditional on UID and version.
    Renew(&'a SecretFacts),
    /// Other keys, or keys that others touched: the whole object is replaced, conditional on UID
    /// and version. An apply would leave the keys behind that a POST had written.
    Replace(&'a SecretFacts),
}

/// Why a Secret was not written.
#[derive(Debug)]
pub enum WriteError {
    /// A Secret of that name exists.
    Exists,
    /// It changed since it was observed.
    Changed,
    /// Anything else.
    Problem(Problem),
}

/// The Secrets of one namespace.
#[derive(Debug, Clone)]
pub struct Writer {
    api: Api<Secret>,
}

impl Writer {
    /// A writer for the namespace.
    #[must_use]
    pub fn new(client: kube::Client, namespace: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
        }
    }

    /// Writes the Secret and tells what it now is.
    ///
    /// # Errors
    /// See [`WriteError`]. Nothing was written then.
    pub async fn write(
        &self,
        refresh: &Refresh<'_>,
        mode: Mode<'_>,
    ) -> Result<SecretFacts, WriteError> {
        let name = refresh.wanted.secret_name.as_str();
        let action = format!("write Secret {}/{name}", refresh.wanted.namespace);
        let mut secret = desired(refresh);
        let post = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            dry_run: false,
        };
        let url = Request::new(Secret::url_path(&(), Some(&refresh.wanted.namespace)));
        let body = |secret: &Secret| {
            serde_json::to_vec(secret).map_err(kube::core::request::Error::SerializeBody)
        };
        let request = match mode {
            Mode::Create => body(&secret).and_then(|body| url.create(&post, body)),
            Mode::Renew(facts) => {
                require(&mut secret, facts);
                let apply = PatchParams::apply(FIELD_MANAGER).force();
                url.patch(name, &apply, &Patch::Apply(&secret))
            }
            Mode::Replace(facts) => {
                require(&mut secret, facts);
                self.keep_foreign_metadata(&mut secret, name).await?;
                body(&secret).and_then(|body| url.replace(name, &post, body))
            }
        };
        let written = metadata_of(&self.api.clone().into_client(), &action, request).await;
        match written.map_err(WriteError::Problem)? {
            Ok(meta) => SecretFacts::of(&meta).ok_or_else(|| {
                WriteError::Problem(Problem::new(
                    Reason::ApiServerUnavailable,
                    format!("the API server answered without identity when asked to {action}"),
                ))
            }),
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {
                Err(WriteError::Exists)
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                Err(WriteError::Changed)
            }
            Err(kube::Error::Api(status)) if status.code == 422 => {
                Err(WriteError::Problem(invalid(name, &status)))
            }
            Err(error) => Err(WriteError::Problem(api_problem(&action, &error))),
        }
    }

    /// Makes a Secret go with its binding, or outlive it, and leaves everything else as it is.
    ///
    /// # Errors
    /// See [`WriteError`]. Nothing was written then.
    pub async fn change_owner(
        &self,
        binding: &AlibabaRoleBinding,
        wanted: &Wanted,
        facts: &SecretFacts,
    ) -> Result<SecretFacts, WriteError> {
        let name = wanted.secret_name.as_str();
        let action = format!("change the owner of Secret {}/{name}", wanted.namespace);
        let uid = binding.metadata.uid.as_deref().unwrap_or_default();
        // A strategic merge touches our own entry of the list only.
        let owner = owner(binding, wanted.deletion_policy).map_or_else(
            || json!({"$patch": "delete", "uid": uid}),
            |owner| json!(owner),
        );
        let patch = Patch::Strategic(json!({"metadata": {
            "uid": facts.uid,
            "resourceVersion": facts.resource_version,
            "ownerReferences": [owner],
            "annotations": {
                keys::BINDING: binding.metadata.name,
                keys::BINDING_UID: uid,
            },
        }}));
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let call = self.api.patch_metadata(name, &parameters, &patch);
        match within(&action, call).await.map_err(WriteError::Problem)? {
            Ok(secret) => SecretFacts::of(&secret.metadata).ok_or(WriteError::Changed),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                Err(WriteError::Changed)
            }
            Err(error) => Err(WriteError::Problem(api_problem(&action, &error))),
        }
    }

    /// The metadata of a Secret, if it exists.
    ///
    /// # Errors
    /// When the API server does not say.
    pub async fn look(&self, name: &str) -> Result<Option<PartialObjectMeta<Secret>>, Problem> {
        let action = format!("read the metadata of Secret {name}");
        within(&action, self.api.get_metadata_opt(name))
            .await?
            .map_err(|error| api_problem(&action, &error))
    }

    /// The hash of what the Secret holds under `keys` now, and the version that was read.
    ///
    /// # Errors
    /// When the API server does not say.
    pub async fn data_hash(
        &self,
        name: &str,
        expected: &BTreeSet<&str>,
    ) -> Result<Option<(String, String)>, Problem> {
        let action = format!("read Secret {name}");
        let secret = within(&action, self.api.get_opt(name))
            .await?
            .map_err(|error| api_problem(&action, &error))?;
        Ok(secret.map(|secret| {
            let data = secret.data.unwrap_or_default();
            let ours = data
                .iter()
                .filter(|(key, _)| expected.contains(key.as_str()))
                .map(|(key, value)| (key.as_str(), value.0.as_slice()));
            (
                content::hash(ours),
                secret.metadata.resource_version.unwrap_or_default(),
            )
        }))
    }

    /// Deletes a Secret that the binding owned under an earlier name, if it is still the same.
    ///
    /// # Errors
    /// When the API server refuses; a Secret that changed or went is no error.
    pub async fn delete(&self, name: &str, facts: &SecretFacts) -> Result<(), Problem> {
        let action = format!("delete Secret {name}");
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(facts.uid.clone()),
                resource_version: Some(facts.resource_version.clone()),
            }),
            ..DeleteParams::default()
        };
        match within(&action, self.api.delete(name, &parameters)).await? {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(api_problem(&action, &error)),
        }
    }

    /// A replacement keeps the labels, annotations, finalizers and owners that others put there.
    async fn keep_foreign_metadata(
        &self,
        secret: &mut Secret,
        name: &str,
    ) -> Result<(), WriteError> {
        let live = self
            .look(name)
            .await
            .map_err(WriteError::Problem)?
            .ok_or(WriteError::Changed)?;
        let ours = ours_in(&live.metadata);
        let merge = |mine: &mut Option<BTreeMap<String, String>>, theirs, ours: &[String]| {
            let mine = mine.get_or_insert_default();
            for (key, value) in Option::<BTreeMap<String, String>>::unwrap_or_default(theirs) {
                // What stands under our own names is ours to say, whoever wrote it.
                if !ours.contains(&key) && !key.starts_with(OWN_KEYS) {
                    mine.entry(key).or_insert(value);
                }
            }
        };
        merge(
            &mut secret.metadata.labels,
            live.metadata.labels,
            &ours.labels,
        );
        merge(
            &mut secret.metadata.annotations,
            live.metadata.annotations,
            &ours.annotations,
        );
        secret.metadata.finalizers = live.metadata.finalizers;
        let owners = live.metadata.owner_references.unwrap_or_default();
        let others = owners
            .into_iter()
            .filter(|owner| owner.controller != Some(true));
        secret
            .metadata
            .owner_references
            .get_or_insert_default()
            .extend(others);
        Ok(())
    }
}

/// What it means that the API server finds the Secret invalid.
fn invalid(name: &str, status: &kube::core::Status) -> Problem {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let mut fields = causes.map(|cause| cause.field.as_str());
    // The spec's own labels or annotations; else the Secret is immutable, or of a type that means
    // something else to the cluster: as it stands it cannot be ours.
    let reason = if fields.any(|field| field.starts_with("metadata.")) {
        Reason::InvalidSpec
    } else {
        Reason::SecretConflict
    };
    let message = format!("Secret {name} cannot be written: {}", status.message);
    Problem::new(reason, message)
}

/// How the names of our annotations begin.
const OWN_KEYS: &str = "rrsa.io/";

/// Labels and annotations that we own on an object.
struct Owned {
    labels: Vec<String>,
    annotations: Vec<String>,
}

fn ours_in(meta: &ObjectMeta) -> Owned {
    let owned = |part: &str| {
        meta.managed_fields
            .iter()
            .flatten()
            .filter(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER))
            .filter_map(|entry| {
                entry
                    .fields_v1
                    .as_ref()?
                    .0
                    .get("f:metadata")?
                    .get(part)?
                    .as_object()
            })
            .flat_map(|fields| fields.keys().filter_map(|key| key.strip_prefix("f:")))
            .map(str::to_owned)
            .collect()
    };
    Owned {
        labels: owned("f:labels"),
        annotations: owned("f:annotations"),
    }
}

/// Makes the write conditional: an apply without these would merge into a foreign Secret or bring
/// a deleted one back.
fn require(secret: &mut Secret, facts: &SecretFacts) {
    secret.metadata.uid = Some(facts.uid.clone());
    secret.metadata.resource_version = Some(facts.resource_version.clone());
}

/// What makes a Secret go with its binding.
fn owner(binding: &AlibabaRoleBinding, policy: DeletionPolicy) -> Option<OwnerReference> {
    match policy {
        DeletionPolicy::Delete => binding.controller_owner_ref(&()),
        DeletionPolicy::Retain => None,
    }
}

fn desired(refresh: &Refresh<'_>) -> Secret {
    let Refresh {
        binding,
        wanted,
        content,
        ..
    } = refresh;
    let name = binding.metadata.name.clone().unwrap_or_default();
    let uid = binding.metadata.uid.clone().unwrap_or_default();
    let mut labels = wanted.labels.clone();
    labels.insert(MANAGED_BY_LABEL.0.to_owned(), MANAGED_BY_LABEL.1.to_owned());
    let mut annotations = wanted.annotations.clone();
    let data_hash = content::hash(
        content
            .iter()
            .map(|(key, value)| (key.as_str(), value.expose().as_bytes())),
    );
    annotations.extend(
        [
            (keys::BINDING, name.clone()),
            (keys::BINDING_UID, uid.clone()),
            (keys::ISSUED_AT, refresh.issued_at.to_rfc3339()),
            (keys::EXPIRATION, timestamp(refresh.expiration)),
            (keys::INPUTS_HASH, refresh.inputs_hash.to_owned()),
            (keys::DATA_HASH, data_hash),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    if let Some(reason) = refresh.fallback {
        annotations.insert(keys::FALLBACK.to_owned(), reason.as_str().to_owned());
    }
    if let Some(request) = refresh.answers {
        annotations.insert(keys::REFRESH_ANSWERED.to_owned(), request.to_owned());
    }
    Secret {
        metadata: ObjectMeta {
            name: Some(wanted.secret_name.clone()),
            namespace: Some(wanted.namespace.clone()),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: owner(binding, wanted.deletion_policy).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(
            content
                .iter()
                .map(|(key, value)| (key.clone(), ByteString(value.expose().as_bytes().to_vec())))
                .collect(),
        ),
        ..Secret::default()
    }
}
