//! What must hold of any bytes that are sent as a review. `fuzz/` looks for bytes of which it does
//! not, guided by coverage; here it is held against every case of admission.

use std::sync::Arc;

use base64::Engine;
use futures::FutureExt;
use rrsa::api::configuration::Configuration;
use rrsa::injection::bindings::Bindings;
use rrsa::injection::facts::{Cluster, Found, FromMetadata, NamespaceFacts, ServiceAccountFacts};
use rrsa::injection::settings::Settings;
use rrsa::webhook::handler::Reviewer;
use rrsa::webhook::metrics::Metrics;
use rrsa::world::BoxFuture;
use serde_json::{Value, json};

/// Every namespace has opted in, every ServiceAccount has a role, and the caches know all.
#[derive(Debug)]
struct Open;

fn facts<T: FromMetadata>(metadata: Value) -> Arc<T> {
    let metadata = serde_json::from_value(metadata).unwrap();
    Arc::new(T::from_metadata(&metadata))
}

impl Cluster for Open {
    fn cached_namespace(&self, _: &str) -> Option<Arc<NamespaceFacts>> {
        let labels = json!({"pod-identity.alibabacloud.com/injection": "on"});
        Some(facts(json!({"labels": labels})))
    }

    fn cached_service_account(&self, _: &str, _: &str) -> Option<Arc<ServiceAccountFacts>> {
        let annotations = json!({"pod-identity.alibabacloud.com/role-name": "app"});
        Some(facts(json!({"annotations": annotations})))
    }

    fn cached_bindings(&self, _: &str) -> Arc<Bindings> {
        Arc::default()
    }

    fn namespace<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Found<NamespaceFacts>> {
        Box::pin(async { Ok(self.cached_namespace(name)) })
    }

    fn service_account<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Found<ServiceAccountFacts>> {
        Box::pin(async { Ok(self.cached_service_account(namespace, name)) })
    }

    fn bindings<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Found<Bindings>> {
        Box::pin(async { Ok(None) })
    }
}

/// The answer to these bytes; `None`: they are refused.
fn answer(body: &[u8]) -> Option<Value> {
    let configuration = "accountId: '1234567890123456'\n\
        oidcProviderArn: acs:ram::1234567890123456:oidc-provider/ack-rrsa-c0fuzz\n\
        region: cn-hangzhou\n";
    let settings = Settings::from(&Configuration::parse(configuration).unwrap());
    let reviewer = Reviewer::new(settings, Arc::new(Open), Metrics::default());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let _inside = runtime.enter();
    let answer = reviewer.review(body).now_or_never();
    let answer = answer.expect("the caches know everything").ok()?;
    Some(serde_json::from_slice(&answer).expect("an answer is JSON"))
}

/// Panics when these bytes break a promise.
pub(crate) fn check(body: &[u8]) {
    let Some(answer) = answer(body) else {
        return;
    };
    let response = &answer["response"];
    assert_eq!(response["allowed"], true);
    assert!(response["uid"].as_str().is_some_and(|uid| !uid.is_empty()));
    let Some(patch) = response["patch"].as_str() else {
        return;
    };
    let patch = base64::engine::general_purpose::STANDARD
        .decode(patch)
        .unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch).expect("a patch is JSON Patch");
    assert!(!patch.0.is_empty(), "an empty patch is no patch");
    // Text that is never read need not make sense; such a pod cannot be looked at further.
    let Ok(mut review) = serde_json::from_slice::<Value>(body) else {
        return;
    };
    json_patch::patch(&mut review["request"]["object"], &patch).expect("the patch fits its pod");
    let second = self::answer(review.to_string().as_bytes()).expect("a patched pod is a pod");
    assert!(
        second["response"].get("patch").is_none(),
        "a second pass finds nothing to do"
    );
}

#[cfg(test)]
mod seeds {
    use std::path::Path;

    use serde_json::Value;

    use super::check;
    use crate::rig;

    /// Each case of admission as a review, and such as a real API server has sent.
    fn seeds() -> Vec<Vec<u8>> {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut seeds = Vec::new();
        for case in std::fs::read_dir(repository.join("tests/data/admission")).unwrap() {
            let Ok(text) = read(&case.unwrap().path().join("pod.yaml")) else {
                continue;
            };
            let pod: Value = serde_saphyr::from_str(&String::from_utf8(text).unwrap()).unwrap();
            seeds.push(rig::review(&pod).to_string().into_bytes());
        }
        for name in ["1.json", "10.json"] {
            seeds.push(read(&repository.join("benches/webhook/reviews").join(name)).unwrap());
        }
        seeds
    }

    #[expect(clippy::disallowed_methods, reason = "the files of this repository")]
    fn read(path: &Path) -> std::io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    #[test]
    fn every_seed_keeps_the_promises_also_when_it_is_cut_or_spoiled() {
        let seeds = seeds();
        assert!(seeds.len() > 50, "{}", seeds.len());
        for seed in &seeds {
            check(seed);
            for part in 1..8 {
                check(&seed[..seed.len() * part / 8]);
                let mut spoiled = seed.clone();
                spoiled[seed.len() * part / 8] ^= 0x20;
                check(&spoiled);
            }
        }
    }

    #[test]
    fn seeds_are_written_for_the_fuzzer() {
        #[expect(clippy::disallowed_methods, reason = "set by fuzz/run.sh")]
        let Some(folder) = std::env::var_os("RRSA_WRITE_SEEDS") else {
            return;
        };
        for (number, seed) in seeds().into_iter().enumerate() {
            std::fs::write(Path::new(&folder).join(format!("seed-{number}")), seed).unwrap();
        }
    }
}
