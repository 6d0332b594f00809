//! `rrsa cleanup`: what the operator made by itself goes after it. An object of the name that is
//! somebody else's stays.

use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ObjectMeta, Preconditions};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::operator;
use crate::contract::MANAGED_BY_LABEL;
use crate::contract::annotations::BINDING;

/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// How often an object that changes under the hand is looked at.
const LOOKS: usize = 5;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Namespace of the operator.
    #[arg(
        long,
        env = "RRSA_NAMESPACE",
        hide_env_values = true,
        value_name = "NAMESPACE",
        default_value = "rrsa-system"
    )]
    namespace: String,
    /// Name of the Secret that holds the webhook's certificate authority, where the webhook has made
    /// one. Without it no Secret is deleted.
    #[arg(long, value_name = "NAME")]
    ca_secret: Option<String>,
    /// Name of the controller's Lease.
    #[arg(long, value_name = "NAME", default_value = "rrsa-controller")]
    lease: String,
}

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Self {
            namespace,
            ca_secret,
            lease,
        } = self;
        operator::runtime()?.block_on(async {
            let client = operator::client().await?;
            if let Some(name) = ca_secret {
                delete::<Secret>(&client, &namespace, &name).await?;
            }
            delete::<Lease>(&client, &namespace, &lease).await
        })
    }
}

/// Deletes an object if it is the operator's; one that is gone is as good.
#[expect(clippy::print_stdout, reason = "it tells what it did")]
async fn delete<K>(client: &Client, namespace: &str, name: &str) -> anyhow::Result<()>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned,
{
    let what = format!("{} {namespace}/{name}", K::kind(&()));
    let objects = Api::<K>::namespaced(client.clone(), namespace);
    for _ in 0..LOOKS {
        // The metadata alone: nobody needs the key to see whose it is.
        let seen = timeout(CALL_TIMEOUT, objects.get_metadata_opt(name))
            .await
            .with_context(|| format!("{what} was not read within {CALL_TIMEOUT:?}"))?
            .with_context(|| format!("{what} cannot be read"))?;
        let Some(seen) = seen else {
            println!("{what}: not there");
            return Ok(());
        };
        if let Some(whose) = foreign(&seen.metadata) {
            println!("{what}: left: {whose}; delete it yourself if nobody needs it");
            return Ok(());
        }
        let seen = exactly(seen.metadata);
        let answer = timeout(CALL_TIMEOUT, objects.delete(name, &seen))
            .await
            .with_context(|| format!("{what} was not deleted within {CALL_TIMEOUT:?}"))?;
        match answer {
            Ok(_) => {
                println!("{what}: deleted");
                return Ok(());
            }
            // Gone, changed or replaced since the look: look again.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => return Err(error).with_context(|| format!("{what} cannot be deleted")),
        }
    }
    bail!(
        "{what} changed before each of {LOOKS} deletions; end the pods of the operator that still run, \
         then run this again"
    )
}

/// Why an object is not the operator's; `None`: it is. The label is on everything that the operator
/// makes, and never comes to what it only finds and uses.
fn foreign(meta: &ObjectMeta) -> Option<String> {
    let (label, value) = MANAGED_BY_LABEL;
    let labels = meta.labels.as_ref();
    if labels
        .and_then(|labels| labels.get(label))
        .map(String::as_str)
        != Some(value)
    {
        return Some(format!(
            "without the label {label}={value} it is not the operator's"
        ));
    }
    let binding = meta.annotations.as_ref()?.get(BINDING)?;
    Some(format!("it belongs to the binding {binding}"))
}

/// Deletes what was seen and nothing that took its place.
fn exactly(seen: ObjectMeta) -> DeleteParams {
    DeleteParams::default().preconditions(Preconditions {
        uid: seen.uid,
        resource_version: seen.resource_version,
    })
}
