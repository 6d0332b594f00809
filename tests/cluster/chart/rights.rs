//! What each ServiceAccount of the chart may do, as `kubectl auth can-i --list` tells it: printed in
//! `docs/rights.md`, which is therefore an exact list.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{CHART, NAMESPACE, example, install, uninstall, with_cluster};
use crate::support::kubernetes::Cluster;
use crate::support::wait;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/rights.md");
/// How long the API server may take to learn of new roles, and kubectl to ask for the rights of all
/// accounts.
const SOON: Duration = Duration::from_mins(5);
/// Whose rights everybody has.
const NOBODY: &str = "elsewhere:default";
/// Where rights are asked for: in the first an account has those that it has everywhere.
const PLACES: [&str; 5] = ["elsewhere", "team-a", "team-b", "default", NAMESPACE];

/// One way to install the chart.
struct Way {
    title: &'static str,
    example: &'static str,
    set: &'static str,
    accounts: &'static [&'static str],
}

const WAYS: &[Way] = &[
    Way {
        title: "By default",
        example: "manifests.yaml",
        set: "tests.namespace=default",
        accounts: &[
            "rrsa-controller",
            "rrsa-webhook",
            "rrsa-cleanup",
            "rrsa-test",
        ],
    },
    Way {
        title: "With `config.namespaces: [team-a, team-b]`",
        example: "namespaces.yaml",
        set: "tests.namespace=default",
        accounts: &["rrsa-controller", "rrsa-webhook"],
    },
    Way {
        title: "With certificates of cert-manager or from a Secret",
        example: "certificate-secret.yaml",
        set: "tests.namespace=default",
        accounts: &["rrsa-webhook", "rrsa-cleanup"],
    },
    Way {
        title: "With `config.podLook.enabled: true`",
        example: "manifests.yaml",
        set: "config.podLook.enabled=true",
        accounts: &["rrsa-controller"],
    },
];

/// Lines of `kubectl auth can-i --list` that are about resources: resource, names, verbs.
async fn listed(cluster: &Cluster, account: &str, namespace: &str) -> Result<BTreeSet<String>> {
    let user = format!("--as=system:serviceaccount:{account}");
    let arguments = [
        "auth",
        "can-i",
        "--list",
        "--no-headers",
        "--namespace",
        namespace,
        &user,
    ];
    let text = cluster.kubectl(&arguments).await?.success()?;
    let mut rows = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with(' ')) {
        let (resource, lists) = line.split_once(' ').context("a row of kubectl")?;
        let lists: Vec<_> = lists
            .split(['[', ']'])
            .map(str::trim)
            .skip(1)
            .step_by(2)
            .collect();
        let [_urls, names, verbs] = lists[..] else {
            anyhow::bail!("kubectl prints {line:?}");
        };
        let mut verbs: Vec<_> = verbs.split(' ').collect();
        verbs.sort_unstable();
        let verbs = verbs.join(", ");
        rows.insert(format!("| `{resource}` | {names} | {verbs} |"));
    }
    Ok(rows)
}

/// What everybody may do, by place.
type Everybody = BTreeMap<&'static str, BTreeSet<String>>;

async fn everybody(cluster: &Cluster) -> Result<Everybody> {
    let mut all = Everybody::new();
    for place in PLACES {
        all.insert(place, listed(cluster, NOBODY, place).await?);
    }
    Ok(all)
}

/// The rights of an account, without what everybody has.
async fn rights(cluster: &Cluster, everybody: &Everybody, account: &str) -> Result<String> {
    let own = async |namespace: &str| -> Result<BTreeSet<String>> {
        let account = format!("{NAMESPACE}:{account}");
        let rows = listed(cluster, &account, namespace).await?;
        Ok(&rows - everybody.get(namespace).context("an unknown place")?)
    };
    let [anywhere, places @ ..] = PLACES;
    let everywhere = own(anywhere).await?;
    let mut text = format!("### `{account}`\n");
    let mut group = |place: &str, rows: &BTreeSet<String>| {
        if !rows.is_empty() {
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "\n{place}:\n\n| resource | names | verbs |\n|---|---|---|\n"
            );
            for row in rows {
                let _ = writeln!(text, "{row}");
            }
        }
    };
    group("In every namespace", &everywhere);
    for namespace in places {
        let rows = &own(namespace).await? - &everywhere;
        group(&format!("In `{namespace}`"), &rows);
    }
    Ok(text)
}

/// The rights of the hooks, which helm makes only while they run.
async fn hooks(cluster: &Cluster, verb: &str) -> Result<()> {
    let arguments = ["get", "hooks", "rrsa", "--namespace", NAMESPACE];
    let text = cluster.helm(&arguments).await?.success()?;
    let rights: Vec<_> = text
        .split("\n---\n")
        .filter(|object| {
            !["kind: Job", "kind: Pod\n"]
                .iter()
                .any(|kind| object.contains(kind))
        })
        .collect();
    ensure!(rights.len() > 4, "the hooks are {text}");
    let arguments = [verb, "--filename=-"];
    cluster
        .kubectl_with(
            cluster.admin_kubeconfig(),
            &arguments,
            &rights.join("\n---\n"),
        )
        .await?
        .success()?;
    Ok(())
}

async fn section(cluster: &Cluster, way: &Way) -> Result<String> {
    let mut text = format!("## {}\n", way.title);
    let everybody = everybody(cluster).await?;
    for account in way.accounts {
        let _ = write!(text, "\n{}", rights(cluster, &everybody, account).await?);
    }
    Ok(text)
}

#[tokio::test]
async fn the_page_of_rights_is_what_the_api_server_says() -> Result<()> {
    with_cluster(async |cluster| {
        let is_update = std::env::var_os("UPDATE_EXPECTED").is_some();
        let written = fs::read_to_string(PAGE).unwrap_or_default();
        let mut page = "# What each ServiceAccount may do\n\n\
            What `kubectl auth can-i --list` says of the chart's ServiceAccounts on a real API server, without what every\n\
            ServiceAccount may. A test makes this page (`UPDATE_EXPECTED=1 cargo test --test cluster chart::rights`) and fails\n\
            where it is not exact. The policies take away further of it: [SECURITY](../SECURITY.md) says what remains.\n\
            `rrsa-cleanup` and `rrsa-test` exist only while `helm uninstall` and `helm test` run.\n"
            .to_owned();
        for way in WAYS {
            let values = example(way.example);
            let set = format!("--set={}", way.set);
            let more = ["--namespace", NAMESPACE, "--values", &values, &set];
            install(cluster, CHART, "rrsa", &more).await?;
            hooks(cluster, "apply").await?;
            let seen = if is_update {
                tokio::time::sleep(Duration::from_secs(5)).await;
                section(cluster, way).await
            } else {
                wait::until(way.title, SOON, async || {
                    let seen = section(cluster, way).await?;
                    ensure!(written.contains(&seen), "docs/rights.md does not say:\n{seen}");
                    Ok(Some(seen))
                })
                .await
            };
            hooks(cluster, "delete").await?;
            uninstall(cluster, "rrsa", NAMESPACE).await?;
            let _ = write!(page, "\n{}", seen?);
        }
        if is_update {
            fs::write(PAGE, &page)?;
            return Ok(());
        }
        ensure!(page == written, "docs/rights.md says more than:\n{page}");
        Ok(())
    })
    .await
}
