//! What it costs to turn a review into the answer with its patch, beside one pass of the general
//! JSON parser over the same bytes that keeps nothing.
//!
//! The reviews of 1, 10 and 100 containers are such as a real API server sent; that of 1,000 is
//! the last one with its containers ten times.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a benchmark reads its files, and has nothing to say when it cannot be set up"
)]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures::FutureExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rrsa::api::configuration::Configuration;
use rrsa::injection::bindings::Bindings;
use rrsa::injection::facts::{Cluster, Found, FromMetadata, NamespaceFacts, ServiceAccountFacts};
use rrsa::injection::settings::Settings;
use rrsa::webhook::handler::Reviewer;
use rrsa::webhook::metrics::Metrics;
use rrsa::world::BoxFuture;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

/// One namespace that opted in and one ServiceAccount with a role, both in the cache.
#[derive(Debug)]
struct Known {
    namespace: Arc<NamespaceFacts>,
    account: Arc<ServiceAccountFacts>,
}

impl Known {
    fn new() -> Self {
        fn facts<T: FromMetadata>(metadata: Value) -> Arc<T> {
            let metadata: ObjectMeta = serde_json::from_value(metadata).unwrap();
            Arc::new(T::from_metadata(&metadata))
        }
        let on = json!({"pod-identity.alibabacloud.com/injection": "on"});
        let role = json!({"pod-identity.alibabacloud.com/role-name": "app"});
        Self {
            namespace: facts(json!({"labels": on})),
            account: facts(json!({"annotations": role})),
        }
    }
}

impl Cluster for Known {
    fn cached_namespace(&self, _: &str) -> Option<Arc<NamespaceFacts>> {
        Some(Arc::clone(&self.namespace))
    }

    fn cached_service_account(&self, _: &str, _: &str) -> Option<Arc<ServiceAccountFacts>> {
        Some(Arc::clone(&self.account))
    }

    fn cached_bindings(&self, _: &str) -> Arc<Bindings> {
        Arc::default()
    }

    fn namespace<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Found<NamespaceFacts>> {
        Box::pin(async { Ok(Some(Arc::clone(&self.namespace))) })
    }

    fn service_account<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
    ) -> BoxFuture<'a, Found<ServiceAccountFacts>> {
        Box::pin(async { Ok(Some(Arc::clone(&self.account))) })
    }

    fn bindings<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Found<Bindings>> {
        Box::pin(async { Ok(None) })
    }
}

fn reviews() -> Vec<(usize, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/webhook/reviews");
    let mut reviews: Vec<_> = [1, 10, 100]
        .into_iter()
        .map(|count| {
            (
                count,
                std::fs::read(folder.join(format!("{count}.json"))).unwrap(),
            )
        })
        .collect();
    let mut review: Value = serde_json::from_slice(&reviews[2].1).unwrap();
    let containers = &mut review["request"]["object"]["spec"]["containers"];
    let hundred = containers.as_array().unwrap().clone();
    *containers = hundred.iter().cycle().take(1000).cloned().collect();
    reviews.push((1000, review.to_string().into_bytes()));
    reviews
}

fn review_to_answer(criterion: &mut Criterion) {
    let configuration = "accountId: '1234567890123456'\n\
        oidcProviderArn: acs:ram::1234567890123456:oidc-provider/ack-rrsa-c0123456789\n\
        region: cn-hangzhou\n";
    let settings = Settings::from(&Configuration::parse(configuration).unwrap());
    let reviewer = Reviewer::new(settings, Arc::new(Known::new()), Metrics::default());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _inside = runtime.enter();
    let mut group = criterion.benchmark_group("review");
    for (containers, body) in reviews() {
        let answer = reviewer.review(&body).now_or_never().unwrap().unwrap();
        assert!(String::from_utf8(answer).unwrap().contains("\"patch\""));
        group.throughput(Throughput::Bytes(body.len() as u64));
        let id = |name: &str| BenchmarkId::new(name, containers);
        group.bench_with_input(id("IgnoredAny"), &body, |b, body| {
            b.iter(|| serde_json::from_slice::<IgnoredAny>(black_box(body)).unwrap());
        });
        group.bench_with_input(id("answer"), &body, |b, body| {
            b.iter(|| {
                let answer = reviewer.review(black_box(body)).now_or_never();
                answer.unwrap().unwrap()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, review_to_answer);
criterion_main!(benches);
