use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::*;
use crate::api::configuration::Configuration;
use crate::contract::annotations::official::ROLE_NAME;
use crate::doctor::fake_api::{client, failure, list, metadata};
use crate::doctor::finding::Problem;
use crate::injection::decision::Reason;

/// What was found, as namespace, name and problem.
type Found = Vec<(String, String, Problem)>;

async fn look(client: Client, scope: &Scope) -> (Looked, Found) {
    let text =
        "accountId: '42'\noidcProviderArn: acs:ram::42:oidc-provider/p\nregion: cn-hangzhou\n";
    let settings = Settings::from(&Configuration::parse(text).unwrap());
    let mut findings = Found::new();
    let mut found = |finding: Finding| {
        findings.push((finding.namespace, finding.name, finding.problem));
    };
    let looked = Look::new(client, &settings, scope, &mut found).run().await;
    (looked, findings)
}

fn found(all: &[(&str, &str, Problem)]) -> Found {
    all.iter()
        .map(|(namespace, name, problem)| ((*namespace).into(), (*name).into(), *problem))
        .collect()
}

fn namespaces(names: &[&str]) -> Vec<Value> {
    let on = |name| metadata(&json!({"name": name, "labels": {INJECTION: "on"}}));
    names.iter().map(on).collect()
}

fn bare(namespace: &str, name: &str) -> Value {
    json!({"metadata": {"namespace": namespace, "name": name, "uid": name},
        "spec": {"containers": [{"name": "app"}]}})
}

fn account(role: Option<&str>) -> (u16, Value) {
    let annotations = role.map_or(json!({}), |role| json!({ROLE_NAME: role}));
    let of = json!({"name": "default", "annotations": annotations});
    (200, metadata(&of))
}

/// Whether the query has that part.
fn asks(path: &str, part: &str) -> bool {
    path.split_once('?')
        .is_some_and(|(_, query)| query.contains(part))
}

fn only(path: &str) -> &str {
    path.split('?').next().unwrap()
}

#[tokio::test]
async fn a_namespace_that_cannot_be_read_keeps_no_other_from_being_looked_at() {
    let client = client(|_, path| match only(path) {
        "/api/v1/namespaces" => list(&namespaces(&["a", "b", "c"]), ""),
        "/api/v1/namespaces/a/pods" => failure(500, "no luck"),
        "/api/v1/namespaces/b/pods" => list(&[bare("b", "p"), bare("b", "q")], ""),
        "/api/v1/namespaces/c/pods" => list(&[bare("c", "p")], ""),
        "/api/v1/namespaces/b/serviceaccounts/default" => failure(403, "not yours"),
        "/api/v1/namespaces/c/serviceaccounts/default" => account(Some("app")),
        "/api/v1/pods" => list(&[], ""),
        other => panic!("{other}"),
    });
    let (looked, findings) = look(client, &Scope::default()).await;
    assert_eq!(findings, found(&[("c", "p", Problem::NotInjected)]));
    assert_eq!((looked.tally.namespaces, looked.tally.pods), (3, 1));
    let missed: Vec<String> = looked.missed.iter().map(ToString::to_string).collect();
    assert_eq!(missed.len(), 2, "{missed:?}");
    assert!(
        missed[0].starts_with("namespace a: the list of pods of a")
            && missed[0].contains("no luck (500)")
    );
    assert!(missed[1].starts_with("namespace b: ServiceAccount b/default"));
}

#[tokio::test]
async fn in_a_list_of_all_pods_one_namespace_is_given_up_and_the_others_go_on() {
    let asked = Arc::new(Mutex::new(0));
    let client = {
        let asked = Arc::clone(&asked);
        client(move |_, path| match only(path) {
            "/api/v1/namespaces" => list(&namespaces(&["a", "b"]), ""),
            "/api/v1/pods" if asks(path, "continue=") => list(&[bare("b", "p")], ""),
            "/api/v1/pods" => list(&[bare("a", "p"), bare("a", "q")], "next"),
            "/api/v1/namespaces/a/serviceaccounts/default" => {
                *asked.lock().unwrap() += 1;
                failure(500, "no luck")
            }
            "/api/v1/namespaces/b/serviceaccounts/default" => account(Some("app")),
            other => panic!("{other}"),
        })
    };
    let scope = Scope {
        all_pods: true,
        ..Scope::default()
    };
    let (looked, findings) = look(client, &scope).await;
    assert_eq!(findings, found(&[("b", "p", Problem::NotInjected)]));
    assert_eq!(looked.missed.len(), 1);
    assert_eq!(*asked.lock().unwrap(), 1);
}

#[tokio::test]
async fn of_several_named_namespaces_each_is_looked_at() {
    let client = client(|_, path| match only(path) {
        "/api/v1/namespaces/a" => failure(404, "none"),
        "/api/v1/namespaces/b" => (200, namespaces(&["b"]).remove(0)),
        "/api/v1/namespaces/b/pods" => list(&[bare("b", "p")], ""),
        "/api/v1/namespaces/b/serviceaccounts/default" => account(Some("app")),
        other => panic!("{other}"),
    });
    let scope = Scope {
        namespaces: vec!["a".to_owned(), "b".to_owned()],
        ..Scope::default()
    };
    let (looked, findings) = look(client, &scope).await;
    assert_eq!(findings, found(&[("b", "p", Problem::NotInjected)]));
    assert_eq!(looked.missed[0].namespace.as_deref(), Some("a"));
}

#[tokio::test]
async fn without_the_list_of_namespaces_nothing_is_judged() {
    let client = client(|_, _| failure(403, "not yours"));
    let (looked, findings) = look(client, &Scope::default()).await;
    assert!(findings.is_empty());
    let missed = looked.missed[0].to_string();
    assert!(
        missed.starts_with("the cluster: the list of namespaces"),
        "{missed}"
    );
}

#[tokio::test]
async fn who_may_not_list_bindings_is_told_so_once_and_misses_none() {
    let asking = |namespace: &str, name: &str| {
        let mut pod = bare(namespace, name);
        pod["metadata"]["labels"] = json!({INJECTION: "on"});
        pod
    };
    let asked = Arc::new(Mutex::new(0));
    let client = {
        let asked = Arc::clone(&asked);
        client(move |_, path| match only(path) {
            "/api/v1/namespaces" => list(&namespaces(&["a", "b"]), ""),
            "/api/v1/namespaces/a/pods" => list(&[asking("a", "p"), asking("a", "q")], ""),
            "/api/v1/namespaces/b/pods" => list(&[bare("b", "p")], ""),
            "/api/v1/namespaces/a/serviceaccounts/default" => account(None),
            "/api/v1/namespaces/b/serviceaccounts/default" => account(Some("app")),
            "/api/v1/pods" => list(&[], ""),
            path if path.ends_with("/alibabarolebindings") => {
                *asked.lock().unwrap() += 1;
                failure(403, "not yours")
            }
            other => panic!("{other}"),
        })
    };
    let (looked, findings) = look(client, &Scope::default()).await;
    assert_eq!(findings, found(&[("b", "p", Problem::NotInjected)]));
    assert!(looked.missed.is_empty(), "{:?}", looked.missed);
    assert_eq!((looked.tally.pods, *asked.lock().unwrap()), (3, 1));
    let caveat = looked.caveat().unwrap();
    for part in [
        "bindings of a",
        "not yours (403)",
        "alibabarolebindings.rrsa.io",
    ] {
        assert!(caveat.contains(part), "{caveat}");
    }
}

#[tokio::test]
async fn lists_that_expire_are_read_to_their_end() {
    let expired = || {
        let (code, mut status) = failure(410, "too old");
        status["metadata"] = json!({"continue": "anew"});
        (code, status)
    };
    let pages = move |path: &str, first: &[Value], rest: &[Value]| {
        if asks(path, "continue=anew") {
            list(rest, "")
        } else if asks(path, "continue=") {
            expired()
        } else {
            list(first, "old")
        }
    };
    let binding = |name: &str, role: &str| {
        json!({"apiVersion": "rrsa.io/v1alpha1", "kind": "AlibabaRoleBinding",
            "metadata": {"namespace": "b", "name": name},
            "spec": {"role": {"name": role}, "serviceAccountName": "default", "injectPods": role == "app"}})
    };
    let mut keyed = bare("b", "keyed");
    keyed["spec"]["containers"][0]["envFrom"] = json!([{"secretRef": {"name": "two-credentials"}}]);
    let client = client(move |_, path| match only(path) {
        "/api/v1/namespaces" => pages(path, &namespaces(&["a"]), &namespaces(&["b"])),
        "/api/v1/namespaces/a/pods" | "/api/v1/pods" => list(&[], ""),
        "/api/v1/namespaces/b/pods" => pages(path, &[bare("b", "p")], std::slice::from_ref(&keyed)),
        "/api/v1/namespaces/b/serviceaccounts/default" => account(None),
        path_only if path_only.ends_with("/alibabarolebindings") => {
            pages(path, &[binding("one", "other")], &[binding("two", "app")])
        }
        other => panic!("{other}"),
    });
    let (looked, findings) = look(client, &Scope::default()).await;
    assert!(looked.missed.is_empty(), "{:?}", looked.missed);
    let static_keys = Problem::Decision(Reason::StaticKeys);
    let expected = [
        ("b", "p", Problem::NotInjected),
        ("b", "keyed", Problem::NotInjected),
        ("b", "keyed", static_keys),
    ];
    assert_eq!(findings, found(&expected));
}
