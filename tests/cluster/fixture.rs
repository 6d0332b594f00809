//! The test cluster keeps its promises: it works, and nothing of it stays behind.
//!
//! Two tests run this very program once more, on one of the two ignored tests at the end, because
//! what they prove is about the end of a test program.
#![expect(
    clippy::disallowed_methods,
    reason = "tests stand outside the product's world"
)]

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, ServiceAccount};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::support::kubernetes::reaper::{self, Identity};
use crate::support::kubernetes::{Cluster, EXISTING, Process};
use crate::support::{logs, wait};

/// Set for the program that is run once more; without it the ignored tests do nothing.
const ONCE_MORE: &str = "RRSA_TEST_ONCE_MORE";
/// A line that a process writes to its log, to be found again.
const MARK: &str = "a line of a process beside the cluster";
/// Far more than anything here takes.
const CEILING: Duration = Duration::from_mins(4);

/// The life of a token.
const HOUR: Duration = Duration::from_hours(1);

/// A program that writes its arguments to its log and stays.
fn stays(mark: &str) -> Command {
    let mut command = Command::new("sh");
    command.args([
        "-c",
        r#"echo "$1"; while :; do sleep 1; done"#,
        "stays",
        mark,
    ]);
    command
}

/// This test program, to be run on one of its ignored tests.
fn once_more(test: &str) -> std::io::Result<tokio::process::Command> {
    let mut command = tokio::process::Command::new(env::current_exe()?);
    command
        .args(["--ignored", "--exact", test, "--nocapture"])
        .env(ONCE_MORE, "1")
        .env_remove(EXISTING)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    Ok(command)
}

async fn is_forbidden(client: Client) -> bool {
    let listed = Api::<Secret>::all(client)
        .list(&kube::api::ListParams::default())
        .await;
    matches!(listed, Err(kube::Error::Api(status)) if status.code == 403)
}

#[tokio::test]
async fn namespace_of_a_test_has_its_service_account_and_only_its_own_objects() {
    let cluster = Cluster::shared().await.unwrap();
    println!("control plane ready after {:?}", cluster.started_in());
    let one = cluster
        .test_namespace_with(&[("colour", "blue")])
        .await
        .unwrap();
    let other = cluster.test_namespace().await.unwrap();
    assert_ne!(one.name(), other.name());
    one.api::<ServiceAccount>().get("default").await.unwrap();

    let mut map = ConfigMap::default();
    map.metadata.name = Some("mine".to_owned());
    one.api::<ConfigMap>()
        .create(&PostParams::default(), &map)
        .await
        .unwrap();
    assert!(
        other
            .api::<ConfigMap>()
            .get_opt("mine")
            .await
            .unwrap()
            .is_none()
    );

    let made = Api::<Namespace>::all(one.client())
        .get(one.name())
        .await
        .unwrap();
    assert_eq!(made.metadata.labels.unwrap()["colour"], "blue");
}

#[tokio::test]
async fn namespace_of_a_test_goes_when_the_test_ends() {
    let cluster = Cluster::shared().await.unwrap();
    let namespaces = Api::<Namespace>::all(cluster.client().await.unwrap());
    let namespace = cluster.test_namespace().await.unwrap();
    let name = namespace.name().to_owned();
    drop(namespace);
    // That it really goes is the controller manager's work: a proof that it works.
    wait::until(
        &format!("the end of namespace {name}"),
        CEILING,
        async || Ok(namespaces.get_opt(&name).await?.is_none().then_some(())),
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn service_account_of_a_test_is_no_administrator() {
    let cluster = Cluster::shared().await.unwrap();
    let namespace = cluster.test_namespace().await.unwrap();
    let kubeconfig = cluster
        .kubeconfig_for_service_account(namespace.name(), "default", HOUR)
        .await
        .unwrap();
    let client = cluster.client_of(&kubeconfig).await.unwrap();
    assert!(is_forbidden(client).await);

    let who = [
        "auth",
        "whoami",
        "--output=jsonpath={.status.userInfo.username}",
    ];
    let seen = cluster
        .kubectl_with(&kubeconfig, &who, "")
        .await
        .unwrap()
        .success()
        .unwrap();
    assert_eq!(
        seen,
        format!("system:serviceaccount:{}:default", namespace.name())
    );
}

#[tokio::test]
async fn impersonated_client_has_the_rights_of_that_user() {
    let cluster = Cluster::shared().await.unwrap();
    assert!(is_forbidden(cluster.client_as("jane", &[]).await.unwrap()).await);
    let admin = cluster
        .client_as("jane", &["system:masters"])
        .await
        .unwrap();
    assert!(!is_forbidden(admin).await);
}

#[tokio::test]
async fn kubectl_applies_yaml_and_shows_it() {
    let cluster = Cluster::shared().await.unwrap();
    let namespace = cluster.test_namespace().await.unwrap();
    let name = namespace.name();
    let documents = ["one", "two"].map(|key| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {key}, namespace: {name}}}\n\
             data: {{key: {key}}}\n"
        )
    });
    let said = cluster.apply_yaml(&documents.join("---\n")).await.unwrap();
    assert_eq!(said.lines().count(), 2, "{said}");
    let query = [
        "-n",
        name,
        "get",
        "configmap",
        "two",
        "--output=jsonpath={.data.key}",
    ];
    assert_eq!(
        cluster.kubectl(&query).await.unwrap().success().unwrap(),
        "two"
    );

    let refused = cluster
        .apply_yaml("apiVersion: v1\nkind: Nonsense\nmetadata: {name: x}\n")
        .await;
    let refused = format!("{:#}", refused.unwrap_err());
    assert!(
        refused.contains("Nonsense") && refused.contains("kubectl"),
        "{refused}"
    );
}

#[tokio::test]
async fn token_keys_are_told() {
    let cluster = Cluster::shared().await.unwrap();
    let keys: serde_json::Value = serde_json::from_str(&cluster.jwks().await.unwrap()).unwrap();
    assert!(
        keys["keys"].as_array().is_some_and(|keys| !keys.is_empty()),
        "{keys}"
    );
    if cluster.is_own() {
        assert_eq!(keys["keys"][0]["alg"], "RS256");
    }
}

#[tokio::test]
async fn audit_log_counts_the_calls_of_a_user() {
    let cluster = Cluster::shared().await.unwrap();
    let log = cluster.audit().unwrap();
    let namespace = cluster.test_namespace().await.unwrap();
    let kubeconfig = cluster
        .kubeconfig_for_service_account(namespace.name(), "default", HOUR)
        .await
        .unwrap();
    let account = format!("system:serviceaccount:{}:default", namespace.name());
    let impersonated = format!("counted-in-{}", namespace.name());
    for (user, client) in [
        (&account, cluster.client_of(&kubeconfig).await.unwrap()),
        (
            &impersonated,
            cluster.client_as(&impersonated, &[]).await.unwrap(),
        ),
    ] {
        let secrets = Api::<Secret>::namespaced(client, namespace.name());
        for _ in 0..3 {
            secrets.get_opt("absent").await.unwrap_err();
        }
        let calls = wait::until("three calls in the audit log", CEILING, async || {
            let calls = log.calls_of(user)?;
            ensure!(calls.len() >= 3, "it has {}", calls.len());
            Ok(Some(calls))
        })
        .await
        .unwrap();
        assert_eq!(calls.len(), 3);
        for call in calls {
            assert_eq!(
                (call.verb.as_str(), call.response_status.code),
                ("get", 403)
            );
            assert_eq!(
                (&*call.object_ref.resource, &*call.object_ref.name),
                ("secrets", "absent")
            );
            assert_eq!(call.object_ref.namespace, namespace.name());
        }
    }
}

#[tokio::test]
async fn process_beside_the_cluster_can_be_ended_killed_and_started_again() {
    let cluster = Cluster::shared().await.unwrap();
    let first = cluster.spawn("ended", &stays("first life")).unwrap();
    wait::until("its first words", CEILING, async || {
        Ok(logs::tail(first.log(), 1)
            .contains("first life")
            .then_some(()))
    })
    .await
    .unwrap();
    assert!(first.is_running());
    let status = first.terminate_and_wait(CEILING).await.unwrap();
    assert!(!status.success() && !first.is_running());
    assert!(
        first
            .ensure_running()
            .unwrap_err()
            .to_string()
            .contains("first life")
    );

    let second = cluster.spawn("ended", &stays("second life")).unwrap();
    assert_ne!(second.id(), first.id());
    wait::until("both lives in one log", CEILING, async || {
        Ok((logs::tail(second.log(), 2) == "first life\nsecond life").then_some(()))
    })
    .await
    .unwrap();
    second.kill9().unwrap();
    assert!(!second.is_running() && !second.identity().is_alive());

    let third = cluster.spawn("ended", &stays("third life")).unwrap();
    let identity = third.identity();
    drop(third);
    assert!(!identity.is_alive());
}

#[tokio::test]
async fn process_that_ignores_the_signal_is_killed_and_reported() {
    let cluster = Cluster::shared().await.unwrap();
    let mut deaf = Command::new("sh");
    deaf.args(["-c", "trap '' TERM; echo deaf; while :; do sleep 1; done"]);
    let process = cluster.spawn("deaf", &deaf).unwrap();
    wait::until("its trap", CEILING, async || {
        Ok(logs::tail(process.log(), 1).contains("deaf").then_some(()))
    })
    .await
    .unwrap();
    let error = process
        .terminate_and_wait(Duration::from_millis(300))
        .await
        .unwrap_err();
    assert!(
        format!("{error:#}").contains("the end of deaf"),
        "{error:#}"
    );
    assert!(!process.is_running());
}

#[tokio::test]
async fn program_that_does_not_exist_is_an_error_at_once() {
    let cluster = Cluster::shared().await.unwrap();
    let error = cluster
        .spawn("absent", &Command::new("/does/not/exist"))
        .unwrap_err();
    assert!(error.to_string().contains("/does/not/exist"), "{error}");
}

#[tokio::test]
async fn waiting_in_vain_says_for_what_how_long_and_what_was_seen() {
    let ceiling = Duration::from_millis(50);
    let look = async || -> anyhow::Result<Option<()>> { anyhow::bail!("the kettle is cold") };
    let error = format!("{:#}", wait::until("tea", ceiling, look).await.unwrap_err());
    assert!(
        error.contains("50ms for tea") && error.contains("the kettle is cold"),
        "{error}"
    );

    let hangs = async || {
        std::future::pending::<()>().await;
        Ok(Some(()))
    };
    let error = format!(
        "{:#}",
        wait::until("tea", ceiling, hangs).await.unwrap_err()
    );
    assert!(error.contains("did not end in time"), "{error}");
}

#[test]
fn secret_in_a_log_is_found_in_both_forms_and_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let below = folder.path().join("below");
    std::fs::create_dir(&below).unwrap();
    let secrets = ["first-secret", "second-secret"];
    std::fs::write(below.join("a.log"), "nothing\nsaid second-secret aloud\n").unwrap();
    std::fs::write(folder.path().join("b.log"), "data: Zmlyc3Qtc2VjcmV0\n").unwrap();
    let mut found = logs::leaks(folder.path(), &secrets).unwrap();
    found.sort_by_key(|leak| leak.secret);
    let places: Vec<(usize, usize)> = found.iter().map(|leak| (leak.secret, leak.line)).collect();
    assert_eq!(places, [(0, 1), (1, 2)]);
    assert!(!format!("{found:?}").contains("second-secret"));

    assert!(
        logs::leaks(folder.path(), &["absent-secret"])
            .unwrap()
            .is_empty()
    );
    logs::leaks::<&str>(folder.path(), &[]).unwrap_err();
    logs::leaks(folder.path(), &["short"]).unwrap_err();
}

#[tokio::test]
async fn test_program_killed_with_minus_9_leaves_no_process_and_no_folder() {
    let mut program = once_more("fixture::holds_a_cluster")
        .unwrap()
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    let mut seen = BTreeMap::new();
    let mut folder = PathBuf::new();
    let read = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["process", name, pid] => {
                    seen.insert(name.to_owned(), Identity::of(pid.parse().unwrap()).unwrap());
                }
                ["folder", path] => folder = PathBuf::from(path),
                ["holds"] => break,
                _ => {}
            }
        }
    };
    tokio::time::timeout(CEILING, read).await.unwrap();
    let names: Vec<&str> = seen.keys().map(String::as_str).collect();
    let all = [
        "beside",
        "deaf",
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
    ];
    assert_eq!(names, [&all[..], &["kube-scheduler", "reaper"]].concat());
    assert!(folder.join("pki").is_dir());
    assert!(seen.values().all(|process| process.is_alive()));

    program.kill().await.unwrap();
    wait::until("the end of everything", CEILING, async || {
        let left: Vec<_> = seen
            .iter()
            .filter(|(_, process)| process.is_alive())
            .collect();
        ensure!(left.is_empty(), "alive: {left:?}");
        ensure!(!folder.exists(), "{} exists", folder.display());
        Ok(Some(()))
    })
    .await
    .unwrap();
}

/// A PID may belong to somebody else by the time the reaper acts: the start time tells.
#[tokio::test]
async fn reaper_ends_what_was_registered_and_leaves_a_stranger_with_a_reused_pid_alone() {
    let sleeper = || {
        let mut command = tokio::process::Command::new("sleep");
        command.arg("600").kill_on_drop(true).spawn().unwrap()
    };
    let [mut registered, mut collected, mut stranger] = [sleeper(), sleeper(), sleeper()];
    let identity = |child: &tokio::process::Child| Identity::of(child.id().unwrap()).unwrap();
    let [ours, gone, other] = [&registered, &collected, &stranger].map(identity);

    let folder = tempfile::Builder::new()
        .prefix("not-the-reapers-")
        .tempdir()
        .unwrap();
    let mut reaper = tokio::process::Command::new("sh")
        .args([reaper::SCRIPT.as_ref(), folder.path().as_os_str()])
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut pipe = reaper.stdin.take().unwrap();
    let lines = format!(
        "+ {} {}\n+ {} {}\n+ {} {}\n- {} {}\n",
        ours.pid,
        ours.start,
        gone.pid,
        gone.start,
        other.pid,
        other.start + 1,
        gone.pid,
        gone.start
    );
    pipe.write_all(lines.as_bytes()).await.unwrap();
    drop(pipe);
    tokio::time::timeout(CEILING, reaper.wait())
        .await
        .unwrap()
        .unwrap();

    assert!(!ours.is_alive());
    assert!(gone.is_alive() && other.is_alive());
    assert!(
        folder.path().exists(),
        "only a folder with the right name is removed"
    );
    for child in [&mut registered, &mut collected, &mut stranger] {
        child.kill().await.unwrap();
    }
}

#[tokio::test]
async fn dropped_cluster_leaves_no_process_and_no_folder() {
    let cluster = Cluster::start().await.unwrap();
    let mut processes: Vec<_> = cluster.components().iter().map(Process::identity).collect();
    processes.push(Identity::of(cluster.reaper().id()).unwrap());
    let folder = cluster.state_dir().to_owned();
    drop(cluster);
    assert!(!folder.exists());
    assert!(processes.iter().all(|process| !process.is_alive()));
}

#[tokio::test]
async fn failing_test_shows_logs_and_events_and_existing_cluster_is_used_as_it_is() {
    let cluster = Cluster::shared().await.unwrap();
    let fails = once_more("fixture::fails_in_a_namespace")
        .unwrap()
        .env(EXISTING, cluster.admin_kubeconfig())
        .output();
    let output = tokio::time::timeout(CEILING, fails).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    for expected in [
        MARK,
        "beside.log",
        "get events",
        "the audit log needs",
        "failed on purpose",
    ] {
        assert!(
            said.contains(expected),
            "{expected:?} is missing in:\n{said}"
        );
    }
}

/// Part of [`test_program_killed_with_minus_9_leaves_no_process_and_no_folder`].
#[tokio::test]
#[ignore = "part of another test, which runs it in a program of its own"]
async fn holds_a_cluster() {
    if env::var_os(ONCE_MORE).is_none() {
        return;
    }
    let cluster = Cluster::start().await.unwrap();
    let beside = cluster.spawn("beside", &stays(MARK)).unwrap();
    let mut deaf = Command::new("sh");
    deaf.args(["-c", "trap '' TERM; while :; do sleep 1; done"]);
    let deaf = cluster.spawn("deaf", &deaf).unwrap();
    for process in cluster.components().iter().chain([&beside, &deaf]) {
        println!("process {} {}", process.name(), process.id());
    }
    println!("process reaper {}", cluster.reaper().id());
    println!("folder {}", cluster.state_dir().display());
    println!("holds");
    tokio::time::sleep(CEILING).await;
}

/// Part of [`failing_test_shows_logs_and_events_and_existing_cluster_is_used_as_it_is`].
#[tokio::test]
#[ignore = "part of another test, which runs it in a program of its own"]
async fn fails_in_a_namespace() {
    if env::var_os(ONCE_MORE).is_none() {
        return;
    }
    let cluster = Cluster::shared().await.unwrap();
    assert!(cluster.components().is_empty());
    let _namespace = cluster.test_namespace().await.unwrap();
    let beside = cluster.spawn("beside", &stays(MARK)).unwrap();
    wait::until("its words", CEILING, async || {
        Ok(logs::tail(beside.log(), 1).contains(MARK).then_some(()))
    })
    .await
    .unwrap();
    panic!("failed on purpose: {}", cluster.audit().unwrap_err());
}
