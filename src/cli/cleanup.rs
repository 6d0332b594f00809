//! `rrsa cleanup`: what the operator made by itself goes after it.

use std::fmt::Debug;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use kube::api::DeleteParams;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::operator;

/// How long one deletion may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

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
    /// Name of the Secret that holds the webhook's certificate authority.
    #[arg(long, value_name = "NAME", default_value = "rrsa-webhook-ca")]
    ca_secret: String,
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
            delete::<Secret>(&client, &namespace, &ca_secret).await?;
            delete::<Lease>(&client, &namespace, &lease).await
        })
    }
}

/// Deletes an object; one that is gone is as good.
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
    let answer = timeout(CALL_TIMEOUT, objects.delete(name, &DeleteParams::default()))
        .await
        .with_context(|| format!("{what} was not deleted within {CALL_TIMEOUT:?}"))?;
    match answer {
        Ok(_) => println!("{what}: deleted"),
        Err(kube::Error::Api(status)) if status.code == 404 => println!("{what}: not there"),
        Err(error) => return Err(error).with_context(|| format!("{what} cannot be deleted")),
    }
    Ok(())
}
