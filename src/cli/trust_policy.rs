//! `rrsa trust-policy`: what a RAM role must say to be lent to ServiceAccounts.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use kube::Client;
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;
use url::Url;

use super::kubeconfig::KubeconfigArgs;
use super::{operator, print, setup};
use crate::api::configuration::Configuration;
use crate::contract::arn::ProviderArn;
use crate::controller::trust;
use crate::world::SystemFiles;

/// How long the API server may take to tell its issuer.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Where every cluster tells who signs its tokens.
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// What `--issuer` and `--oidc-provider-arn` do not say is asked of the cluster; with both, none is needed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// `ServiceAccounts` that the role is lent to.
    #[arg(required = true, value_name = "NAMESPACE/NAME", value_parser = setup::namespaced)]
    service_accounts: Vec<(String, String)>,
    /// Print the statement alone, to be added to a policy that exists.
    #[arg(long)]
    statement: bool,
    /// The cluster's OIDC provider in RAM.
    #[arg(long, value_name = "ARN")]
    oidc_provider_arn: Option<ProviderArn>,
    /// Who signs the cluster's tokens, in the very spelling of the tokens; of several with commas between
    /// them the first counts [default: as the API server says].
    #[arg(long, value_name = "URL", value_parser = first_issuer)]
    issuer: Option<String>,
    /// The operator's configuration file, which names the provider.
    #[arg(long, value_name = "FILE", conflicts_with = "oidc_provider_arn")]
    config: Option<PathBuf>,
    /// The `ConfigMap` that holds that file; read where neither it nor the provider is given.
    #[arg(
        long,
        value_name = "NAMESPACE/NAME",
        default_value = "rrsa-system/rrsa",
        value_parser = setup::namespaced
    )]
    config_map: (String, String),
    #[command(flatten)]
    cluster: KubeconfigArgs,
}

/// What the discovery document says.
#[derive(Debug, Deserialize)]
struct Discovery {
    issuer: String,
}

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let text = operator::runtime()?.block_on(self.policy())?;
        print(&(text + "\n"))?;
        Ok(())
    }

    async fn policy(self) -> anyhow::Result<String> {
        let Self {
            service_accounts,
            statement: alone,
            oidc_provider_arn,
            issuer,
            config,
            config_map,
            cluster,
        } = self;
        let is_said = oidc_provider_arn.is_some() || config.is_some();
        // Whoever says both may have no cluster at hand.
        let client = if is_said && issuer.is_some() {
            None
        } else {
            let asked = "what --issuer and --oidc-provider-arn do not say, the cluster is asked";
            Some(cluster.client().await.context(asked)?)
        };
        let provider = match (oidc_provider_arn, config, &client) {
            (Some(provider), _, _) => provider,
            (None, Some(path), _) => provider(&operator::configuration_text(&path, &SystemFiles)?)?,
            (None, None, Some(client)) => provider(&setup::in_cluster(client, &config_map).await?)?,
            (None, None, None) => anyhow::bail!("give --oidc-provider-arn or --config"),
        };
        let issuer = match (issuer, &client) {
            (Some(issuer), _) => issuer,
            (None, Some(client)) => issuer_of(client).await?,
            (None, None) => anyhow::bail!("give --issuer"),
        };
        let subjects: Vec<_> = service_accounts
            .iter()
            .map(|(namespace, name)| format!("system:serviceaccount:{namespace}:{name}"))
            .collect();
        let statement = trust::for_tokens(&provider, &issuer, &subjects);
        let printed = if alone {
            statement
        } else {
            json!({"Statement": [statement], "Version": "1"})
        };
        Ok(serde_json::to_string_pretty(&printed)?)
    }
}

/// The provider that a configuration file names.
fn provider(text: &str) -> anyhow::Result<ProviderArn> {
    let configuration = Configuration::parse(text)
        .context("the operator's configuration is refused; mend it, or give --oidc-provider-arn")?;
    Ok(configuration.oidc_provider_arn)
}

async fn issuer_of(client: &Client) -> anyhow::Result<String> {
    let unread =
        || format!("the API server does not tell its issuer at {DISCOVERY}; give --issuer");
    let request = http::Request::get(DISCOVERY).body(Vec::new())?;
    let document: Discovery = timeout(CALL_TIMEOUT, client.request(request))
        .await
        .with_context(unread)?
        .with_context(unread)?;
    first_issuer(&document.issuer).map_err(|why| {
        anyhow::anyhow!("the API server's issuer {why}, or enable RRSA for the cluster")
    })
}

/// The issuer that signs, of one or several: the first. It is not rewritten, for RAM and the tokens compare
/// it letter by letter.
fn first_issuer(text: &str) -> Result<String, String> {
    let first = text.split(',').next().unwrap_or_default().trim();
    let refuse = |why: &str| {
        Err(format!(
            "{first:?} {why}; give --issuer as tokens name it, such as https://oidc.example.com/cluster"
        ))
    };
    if !first.starts_with("https://") {
        return refuse("does not begin with https://, and RAM takes no other issuer");
    }
    let is_plain = |letter: char| letter.is_ascii_graphic() && letter != '\\';
    let Some(url) = Url::parse(first)
        .ok()
        .filter(|_| first.chars().all(is_plain))
    else {
        return refuse("is not a URL");
    };
    if url.query().is_some() || url.fragment().is_some() {
        return refuse("has a query or a fragment, which no issuer may have");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("has a user, which no issuer may have");
    }
    Ok(first.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::fake_api;
    use rstest::rstest;

    #[rstest]
    #[case::plain("https://oidc.example.com/c1", "https://oidc.example.com/c1")]
    #[case::first_of_several("https://a.example/, https://b.example", "https://a.example/")]
    #[case::spelling_stays("https://A.example:443//x/", "https://A.example:443//x/")]
    fn the_first_issuer_counts_as_it_is_spelt(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(first_issuer(text).as_deref(), Ok(expected));
    }

    #[rstest]
    #[case::http("http://A.example/,https://b", "http://A.example/")]
    #[case::capitals("HTTPS://a.example", "HTTPS://a.example")]
    #[case::no_scheme("a.example", "a.example")]
    #[case::empty_first(",https://b", "\"\"")]
    #[case::no_host("https://", "https://")]
    #[case::query("https://a.example/?x", "https://a.example/?x")]
    #[case::empty_fragment("https://a.example/#", "https://a.example/#")]
    #[case::user("https://u@a.example", "https://u@a.example")]
    #[case::blank("https://a.example/a b", "https://a.example/a b")]
    #[case::backslash("https://a.example\\b", "https://a.example")]
    fn what_is_no_issuer_is_refused_with_its_value_and_a_remedy(
        #[case] text: &str,
        #[case] value: &str,
    ) {
        let error = first_issuer(text).unwrap_err();
        assert!(
            error.contains(value) && error.contains("give --issuer"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn the_issuer_of_the_cluster_is_judged_as_well() {
        let of = |issuer: &'static str| {
            fake_api::client(move |_, path| {
                assert_eq!(path, DISCOVERY);
                (200, json!({"issuer": issuer}))
            })
        };
        let good = issuer_of(&of("https://a.example")).await.unwrap();
        assert_eq!(good, "https://a.example");
        let error = issuer_of(&of("http://a.example")).await.unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("the API server") && error.contains("give --issuer"),
            "{error}"
        );
    }
}
