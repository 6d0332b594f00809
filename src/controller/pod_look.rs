//! The look of `rrsa doctor pods`, done by the leader every ten minutes while `podLook` of the
//! configuration says so, in the namespaces that the controller serves: one Event for each pod with a problem, and how many pods have which.
//!
//! Nothing is kept between looks. An Event's name is made from what it says, so that the API
//! server itself refuses it while the one of an earlier look is there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use sha2::{Digest, Sha256};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::api::within;
use super::events::REPORTER;
use super::metrics::Metrics;
use super::settings::Live;
use crate::api::configuration::Configuration;
use crate::doctor::{Finding, Look, Looked, Problem, Scope, Tally};
use crate::injection::settings::Settings;
use crate::world::Clock;

/// Longest look, Events included.
const LONGEST: Duration = Duration::from_mins(9);
/// Most Events of one look. The count goes on; the command finds the rest.
const MAX_EVENTS: usize = 500;
/// After so many Events that could not be created no more are tried in the same look.
const MAX_PROBLEMS: usize = 20;
/// Most namespaces of which a line says why they were not looked at.
const MAX_MISSED: usize = 5;
/// Longest note that the API server takes.
const MAX_NOTE: usize = 1024;

/// Looks at pods.
pub(super) struct PodLook {
    client: Client,
    configuration: Live,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

impl PodLook {
    /// A look that has not begun.
    pub(super) fn new(
        client: &Client,
        configuration: &Live,
        clock: &Arc<dyn Clock>,
        metrics: &Metrics,
    ) -> Self {
        Self {
            client: client.clone(),
            configuration: configuration.clone(),
            clock: Arc::clone(clock),
            metrics: metrics.clone(),
        }
    }

    /// Looks whenever the configuration of the moment says so, for ever.
    pub(super) async fn run(mut self) {
        let mut failing = false;
        loop {
            let configuration = self.configuration.configuration();
            let look = &configuration.pod_look;
            if !look.enabled {
                self.metrics.pods_with_problems(&BTreeMap::new());
                self.configuration.changed().await;
                continue;
            }
            let every = look.interval();
            tokio::select! {
                () = sleep(every) => {}
                // With what it says now; whoever changes it without pause is not looked for.
                () = self.configuration.changed() => continue,
            }
            let looked = timeout(LONGEST, self.once(&configuration)).await;
            let looked = looked.unwrap_or_else(|_| Err(format!("not done within {LONGEST:?}")));
            match looked {
                Ok(tally) => {
                    let Tally { pods, findings, .. } = tally;
                    info!(pods, findings, "looked at pods");
                    failing = false;
                }
                // What fails for long fails every time for the same reason.
                Err(problem) if failing => debug!("the look at pods is not complete: {problem}"),
                Err(problem) => {
                    warn!("the look at pods is not complete: {problem}; the next is in {every:?}");
                    failing = true;
                }
            }
        }
    }

    /// One look. What cannot be read or told keeps nobody else from being looked at and told.
    async fn once(&self, configuration: &Configuration) -> Result<Tally, String> {
        let settings = Settings::from(configuration);
        let mut gathered = Gathered::default();
        let mut looked = Looked::default();
        if let Some(scope) = scope(configuration) {
            let mut found = |finding| gathered.take(finding);
            let look = Look::new(self.client.clone(), &settings, &scope, &mut found);
            looked = look.run().await;
        }
        let mut problems = Problems::default();
        match incomplete(&looked) {
            None => self.metrics.pods_with_problems(&gathered.counts),
            // The count of a part would say that the problems of the others are gone.
            Some(problem) => problems.note(problem),
        }
        for told in &gathered.told {
            if let Err(problem) = self.publish(told).await {
                problems.note(problem);
            }
            if problems.too_many() {
                break;
            }
        }
        problems.first.map_or(Ok(looked.tally), Err)
    }

    async fn publish(&self, told: &Told) -> Result<(), String> {
        let now = self.clock.now();
        let now = Timestamp::new(now.timestamp(), 0).unwrap_or_default();
        let events = Api::<Event>::namespaced(self.client.clone(), &told.finding.namespace);
        let event = event(told, MicroTime(now));
        let parameters = PostParams::default();
        match within("create an event", events.create(&parameters, &event)).await {
            Ok(Ok(_)) => Ok(()),
            // It has been told already.
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Ok(()),
            // The namespace or its right to Events is gone; the others are told all the same.
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 403 | 404) => {
                debug!("no event in {}: {}", told.finding.namespace, status.message);
                Ok(())
            }
            Ok(Err(error)) => Err(format!("events cannot be created: {error}")),
            Err(problem) => Err(problem.message),
        }
    }
}

/// What is looked at: the namespaces that the controller serves, or the cluster. `None`: nothing.
fn scope(configuration: &Configuration) -> Option<Scope> {
    let never_served = &configuration.pod_look.never_served;
    let served = configuration.namespaces.iter();
    let namespaces: Vec<String> = served
        .filter(|name| !never_served.contains(name))
        .cloned()
        .collect();
    // A scope without namespaces is the cluster, where there may be no right to look.
    let nothing = namespaces.is_empty() && !configuration.namespaces.is_empty();
    (!nothing).then(|| Scope {
        namespaces,
        never_served: never_served.clone(),
        ..Scope::default()
    })
}

/// What keeps the counts of a look from being those of everything.
fn incomplete(looked: &Looked) -> Option<String> {
    let more = looked.missed.len().saturating_sub(MAX_MISSED);
    let more = (more > 0).then(|| format!("{more} more"));
    let missed = looked.missed.iter().take(MAX_MISSED);
    let all: Vec<String> = missed
        .map(ToString::to_string)
        .chain(more)
        .chain(looked.caveat())
        .collect();
    (!all.is_empty()).then(|| all.join("; "))
}

/// What went wrong in a look.
#[derive(Debug, Default)]
struct Problems {
    first: Option<String>,
    number: usize,
}

impl Problems {
    fn note(&mut self, problem: String) {
        self.number += 1;
        self.first.get_or_insert(problem);
    }

    /// Whether the API server is better left alone until the next look.
    const fn too_many(&self) -> bool {
        self.number > MAX_PROBLEMS
    }
}

/// What a look has found.
#[derive(Debug, Default)]
struct Gathered {
    /// How many objects have each problem.
    counts: BTreeMap<&'static str, i64>,
    told: Vec<Told>,
}

/// The first problem of a pod, which is its gravest.
#[derive(Debug)]
struct Told {
    finding: Finding,
    /// How many more it has.
    more: usize,
}

impl Gathered {
    /// Findings of one pod come one after the other.
    fn take(&mut self, finding: Finding) {
        *self.counts.entry(finding.problem.code()).or_default() += 1;
        if finding.kind != "Pod" {
            return;
        }
        if let Some(last) = self.told.last_mut()
            && last.finding.uid == finding.uid
        {
            last.more += 1;
        } else if self.told.len() < MAX_EVENTS {
            self.told.push(Told { finding, more: 0 });
        }
    }
}

fn event(told: &Told, now: MicroTime) -> Event {
    let Told { finding, more } = told;
    let Finding {
        problem,
        kind,
        namespace,
        name,
        uid,
        cause,
        remedy,
    } = finding;
    let mut note = format!("{cause}; {remedy}");
    if *more > 0 {
        note = format!("{note} (and {more} more: rrsa doctor pods -n {namespace})");
    }
    note.truncate(note.floor_char_boundary(MAX_NOTE));
    Event {
        metadata: ObjectMeta {
            name: Some(event_name(*problem, name, uid, &note)),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        type_: Some("Warning".to_owned()),
        reason: Some(problem.code().to_owned()),
        note: Some(note),
        action: Some("Look".to_owned()),
        event_time: Some(now),
        regarding: Some(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some((*kind).to_owned()),
            name: Some(name.clone()),
            namespace: Some(namespace.clone()),
            uid: Some(uid.clone()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(REPORTER.to_owned()),
        reporting_instance: Some(REPORTER.to_owned()),
        ..Event::default()
    }
}

/// The same for the same words about the same pod.
fn event_name(problem: Problem, pod: &str, uid: &str, note: &str) -> String {
    const LONGEST_POD: usize = 200;
    let mut hash = Sha256::new();
    for part in [problem.code(), uid, note] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let hash = hash.finalize();
    let pod = &pod[..pod.floor_char_boundary(LONGEST_POD)];
    let pod = pod.trim_end_matches(['.', '-']);
    let end: String = hash[..8].iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = std::fmt::Write::write_fmt(&mut text, format_args!("{byte:02x}"));
        text
    });
    format!("{pod}.{end}")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    use serde_json::json;
    use tokio::sync::watch;

    use super::*;
    use crate::controller::settings;
    use crate::doctor::{Missed, fake_api};
    use crate::telemetry::metrics;
    use crate::world::{SystemClock, SystemFiles};

    fn finding(uid: &str, problem: Problem) -> Finding {
        Finding {
            problem,
            kind: "Pod",
            namespace: "a".to_owned(),
            name: "p".to_owned(),
            uid: uid.to_owned(),
            cause: "because".to_owned(),
            remedy: "do".to_owned(),
        }
    }

    #[test]
    fn a_pod_is_told_once_with_its_gravest_problem_and_all_are_counted() {
        let mut gathered = Gathered::default();
        gathered.take(finding("1", Problem::NotInjected));
        gathered.take(finding("1", Problem::MisplacedKey));
        gathered.take(finding("2", Problem::MisplacedKey));
        gathered.take(Finding {
            kind: "Namespace",
            ..finding("3", Problem::NearMiss)
        });
        let told: Vec<_> = gathered
            .told
            .iter()
            .map(|told| (told.finding.problem, told.more))
            .collect();
        assert_eq!(
            told,
            [(Problem::NotInjected, 1), (Problem::MisplacedKey, 0)]
        );
        let counts = [("MisplacedKey", 2), ("NearMiss", 1), ("NotInjected", 1)];
        assert_eq!(gathered.counts, BTreeMap::from(counts));
    }

    fn configuration(more: &str) -> Configuration {
        let text = format!("accountId: '1'\nclusterId: c\nregion: cn-hangzhou\n{more}");
        Configuration::parse(&text).unwrap()
    }

    #[test]
    fn a_controller_of_some_namespaces_looks_at_those_alone() {
        let looked = |more: &str| {
            let more = format!("{more}podLook: {{neverServed: [b]}}\n");
            let scope = scope(&configuration(&more))?;
            assert!(scope.never_served == ["b"] && !scope.all_pods);
            Some(scope.namespaces)
        };
        assert_eq!(looked(""), Some(Vec::new()));
        let some = ["a".to_owned(), "c".to_owned()];
        assert_eq!(looked("namespaces: [a, b, c]\n"), Some(some.to_vec()));
        // And not at the whole cluster.
        assert_eq!(looked("namespaces: [b]\n"), None);
    }

    #[tokio::test]
    async fn what_cannot_be_seen_is_told_and_leaves_the_counts_as_they_were() {
        let broken = Arc::new(AtomicBool::new(true));
        let events = Arc::new(Mutex::new(Vec::new()));
        let client = {
            let (broken, events) = (Arc::clone(&broken), Arc::clone(&events));
            fake_api::client(move |method, path| match path.split('?').next().unwrap() {
                path if *method == http::Method::POST => {
                    events.lock().unwrap().push(path.to_owned());
                    (201, json!({"metadata": {"name": "e"}}))
                }
                "/api/v1/namespaces/a/pods" if broken.load(Ordering::Relaxed) => {
                    fake_api::failure(403, "not yours")
                }
                "/api/v1/namespaces/b/pods" => fake_api::list(
                    &[
                        json!({"metadata": {"namespace": "b", "name": "p", "uid": "u"},
                        "spec": {"containers": [{"name": "app"}]}}),
                    ],
                    "",
                ),
                "/api/v1/namespaces/b/serviceaccounts/default" => {
                    let role = json!({"pod-identity.alibabacloud.com/role-name": "app"});
                    let of = json!({"name": "default", "annotations": role});
                    (200, fake_api::metadata(&of))
                }
                path if path.ends_with("/pods") => fake_api::list(&[], ""),
                path => {
                    let name = path.rsplit('/').next().unwrap();
                    let on = json!({"pod-identity.alibabacloud.com/injection": "on"});
                    (
                        200,
                        fake_api::metadata(&json!({"name": name, "labels": on})),
                    )
                }
            })
        };
        let configuration = configuration("namespaces: [a, b]\n");
        let read = configuration.clone();
        let load = settings::loader(Box::new(move || Ok(read.clone())), Arc::new(SystemFiles));
        let (_sender, receiver) = watch::channel(Arc::new(load().unwrap()));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let mut registry = metrics::registry();
        let counted = Metrics::register(&mut registry);
        counted.pods_with_problems(&BTreeMap::from([("NotInjected", 7)]));
        let look = PodLook::new(&client, &Live::new(receiver), &clock, &counted);

        let problem = look.once(&configuration).await.unwrap_err();
        assert!(
            problem.contains("namespace a:") && problem.contains("not yours (403)"),
            "{problem}"
        );
        let seven = "pods_with_problems{problem=\"NotInjected\"} 7";
        let page = metrics::page(&registry).unwrap();
        assert!(page.contains(seven), "{page}");
        // The other namespace was looked at all the same.
        let path = "/apis/events.k8s.io/v1/namespaces/b/events";
        assert_eq!(*events.lock().unwrap(), [path]);

        broken.store(false, Ordering::Relaxed);
        assert_eq!(look.once(&configuration).await.unwrap().pods, 1);
        let page = metrics::page(&registry).unwrap();
        let one = "pods_with_problems{problem=\"NotInjected\"} 1";
        assert!(page.contains(one), "{page}");
    }

    #[test]
    fn a_line_names_no_thousand_namespaces() {
        let missed = |n: u32| Missed {
            namespace: Some(n.to_string()),
            cause: "no".to_owned(),
        };
        let looked = Looked {
            missed: (0..1000).map(missed).collect(),
            ..Looked::default()
        };
        let line = incomplete(&looked).unwrap();
        assert!(line.len() < 200 && line.ends_with("995 more"), "{line}");
        assert_eq!(incomplete(&Looked::default()), None);
    }

    #[test]
    fn a_thousand_pods_make_no_thousand_events() {
        let mut gathered = Gathered::default();
        for n in 0..1000 {
            gathered.take(finding(&n.to_string(), Problem::NotInjected));
        }
        assert_eq!(gathered.told.len(), MAX_EVENTS);
        assert_eq!(gathered.counts["NotInjected"], 1000);
    }

    #[test]
    fn the_same_words_have_the_same_name_and_others_another() {
        let told = |uid: &str, more| Told {
            finding: finding(uid, Problem::OlderRole),
            more,
        };
        let now = || MicroTime(Timestamp::UNIX_EPOCH);
        let name = |told: &Told| event(told, now()).metadata.name.unwrap();
        assert_eq!(name(&told("1", 0)), name(&told("1", 0)));
        assert_ne!(name(&told("1", 0)), name(&told("2", 0)));
        assert_ne!(name(&told("1", 0)), name(&told("1", 1)));
        assert!(
            event(&told("1", 1), now())
                .note
                .unwrap()
                .contains("rrsa doctor pods -n a")
        );
        let long = event_name(Problem::OlderRole, &"a-".repeat(126), "1", "n");
        assert!(long.len() <= 253 && !long.contains("-."), "{long}");
    }

    #[test]
    fn a_note_is_no_longer_than_the_api_server_takes() {
        let mut long = finding("1", Problem::NotInjected);
        long.cause = "é".repeat(5000);
        let note = event(
            &Told {
                finding: long,
                more: 0,
            },
            MicroTime(Timestamp::UNIX_EPOCH),
        );
        assert!(note.note.unwrap().len() <= MAX_NOTE);
    }
}
