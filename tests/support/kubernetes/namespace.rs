//! A namespace of a test's own, and what a person wants to see when that test fails.

use std::collections::BTreeMap;
use std::fmt;
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};

use super::{Cluster, control_plane};
use crate::support::{logs, wait};

/// Marks the namespaces of tests, so that a person can remove them from a cluster that stays:
/// `kubectl delete namespaces -l rrsa-test`.
const LABEL: &str = "rrsa-test";
/// Its ServiceAccount usually comes within 50 ms; a busy machine gets more.
const READY: Duration = Duration::from_mins(2);
/// Deleting is only asked for, not awaited.
const DELETE: Duration = Duration::from_secs(5);
/// Lines of each log that a failing test shows.
const LINES: usize = 30;

/// A namespace that nobody else uses. Dropping it deletes it, without waiting for that.
///
/// When the test panics meanwhile, dropping it prints the ends of the logs that were written since
/// it was made (components and [`Cluster::spawn`]ed processes), its events and its bindings. A test
/// that returns an error instead of panicking cannot be noticed: use `unwrap` in tests.
pub(crate) struct TestNamespace<'a> {
    cluster: &'a Cluster,
    name: String,
    client: Client,
    since: SystemTime,
}

impl Cluster {
    /// Makes a namespace for one test; it has its `default` ServiceAccount already.
    ///
    /// # Errors
    /// When the API server refuses, or the ServiceAccount does not come.
    pub(crate) async fn test_namespace(&self) -> Result<TestNamespace<'_>> {
        self.test_namespace_with(&[]).await
    }

    /// The same, with labels of the test's own besides.
    ///
    /// # Errors
    /// As for [`Cluster::test_namespace`].
    pub(crate) async fn test_namespace_with(
        &self,
        labels: &[(&str, &str)],
    ) -> Result<TestNamespace<'_>> {
        let since = SystemTime::now();
        let client = self.client().await?;
        let namespaces = Api::<Namespace>::all(client.clone());
        let mut wanted = Namespace::default();
        wanted.metadata.generate_name = Some("rrsa-test-".to_owned());
        let mut all = BTreeMap::from([(LABEL.to_owned(), String::new())]);
        all.extend(
            labels
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
        );
        wanted.metadata.labels = Some(all);
        // The test harness names its threads after the tests.
        let test = thread::current().name().unwrap_or("unnamed").to_owned();
        wanted.metadata.annotations = Some(BTreeMap::from([(LABEL.to_owned(), test)]));
        let made = namespaces
            .create(&PostParams::default(), &wanted)
            .await
            .context("make a namespace for the test")?;
        let name = made
            .metadata
            .name
            .context("the API server names the namespace")?;
        let namespace = TestNamespace {
            cluster: self,
            name,
            client,
            since,
        };
        let what = format!("the default ServiceAccount of {}", namespace.name);
        wait::until(&what, READY, async || {
            control_plane::has_service_account(&namespace.client, &namespace.name).await
        })
        .await?;
        Ok(namespace)
    }
}

impl TestNamespace<'_> {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A client with all rights, of this test's runtime.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// The objects of one kind in it.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client(), &self.name)
    }

    /// What a person wants to see of a test that failed.
    async fn diagnosis(&self) -> String {
        let name = &self.name;
        let mut text = format!("=== test cluster, as the test that used {name} fails\n");
        text += &logs::tails(&self.cluster.log_dir(), self.since, LINES);
        for query in [
            &["get", "events", "--sort-by=.metadata.creationTimestamp"][..],
            &["get", "alibabarolebindings.rrsa.io", "-o", "yaml"],
        ] {
            let answer = self
                .cluster
                .kubectl(&[&["--namespace", name], query].concat())
                .await;
            let answer = answer.map_or_else(|error| format!("{error:#}"), |said| said.to_string());
            text.extend(["--- ", &answer, "\n"]);
        }
        text
    }

    async fn delete(&self) -> Result<()> {
        // A client works on one runtime only, and the test's own is of no use to a `Drop`.
        let namespaces = Api::<Namespace>::all(self.cluster.client().await?);
        let how = DeleteParams::background();
        tokio::time::timeout(DELETE, namespaces.delete(&self.name, &how)).await??;
        Ok(())
    }
}

impl fmt::Debug for TestNamespace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestNamespace")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Drop for TestNamespace<'_> {
    fn drop(&mut self) {
        let failing = thread::panicking();
        let work = async {
            let diagnosis = if failing {
                self.diagnosis().await
            } else {
                String::new()
            };
            // Best effort: the cluster may be on its way out as well.
            let _ = self.delete().await;
            diagnosis
        };
        let on_its_own_runtime = || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.map(|runtime| runtime.block_on(work))
        };
        // A runtime cannot be entered from within another one, so a thread is needed.
        let ended = thread::scope(|scope| scope.spawn(on_its_own_runtime).join());
        if let Ok(Ok(diagnosis)) = ended
            && failing
        {
            #[expect(
                clippy::print_stderr,
                reason = "the test harness shows it with the failure"
            )]
            {
                eprintln!("{diagnosis}");
            }
        }
    }
}
