//! A server over TLS whose certificate is renewed while it serves, and clocks that jump (row K8).

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use chrono::{DateTime, TimeDelta, Utc};
use prometheus_client::registry::Registry;
use rrsa::api::configuration::Configuration;
use rrsa::injection::facts::Cluster;
use rrsa::injection::settings::Settings;
use rrsa::serving::authorities::SecretData;
use rrsa::serving::keeper::{AuthorityStore, Keeper, StoreError, Stored};
use rrsa::serving::readiness::Readiness;
use rrsa::serving::rotation::Times;
use rrsa::serving::server::{Stop, serve_tls};
use rrsa::serving::tls;
use rrsa::telemetry;
use rrsa::webhook::caches::Caches;
use rrsa::webhook::handler::Reviewer;
use rrsa::webhook::metrics::Metrics;
use rrsa::world::{BoxFuture, Clock, SystemClock, runtime_now};
use rstest::rstest;
use serde_json::json;

use super::fake_api::FakeApi;
use super::rig;
use super::running::{CEILING, until};

#[derive(Debug, Default)]
struct Memory {
    stored: Mutex<Option<SecretData>>,
    loads: AtomicUsize,
    writes: AtomicUsize,
}

impl AuthorityStore for Memory {
    fn name(&self) -> String {
        "memory".to_owned()
    }

    fn load(&self) -> BoxFuture<'_, Result<Option<Stored>, StoreError>> {
        Box::pin(async {
            self.loads.fetch_add(1, Ordering::Relaxed);
            let data = self.stored.lock().unwrap().clone();
            Ok(data.map(|data| Stored {
                data,
                version: String::new(),
                request: None,
            }))
        })
    }

    fn create(&self, data: SecretData) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(async { Ok(self.stored.lock().unwrap().replace(data).is_none()) })
    }

    fn replace(&self, _: Stored, data: SecretData) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(async {
            self.writes.fetch_add(1, Ordering::Relaxed);
            Ok(self.stored.lock().unwrap().replace(data).is_some())
        })
    }
}

/// Runs behind the real clock by so much.
#[derive(Debug)]
struct Behind(Mutex<Duration>);

impl Clock for Behind {
    fn now(&self) -> DateTime<Utc> {
        SystemClock.now() - *self.0.lock().unwrap()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "each call is to make a handshake of its own"
)]
async fn certificate_seen(url: &str, bundle: &str) -> Vec<u8> {
    let root = reqwest::Certificate::from_pem(bundle.as_bytes()).unwrap();
    let client = reqwest::Client::builder()
        .tls_certs_only([root])
        .tls_info(true)
        .build()
        .unwrap();
    let answer = client.get(url).send().await.unwrap();
    let info = answer.extensions().get::<reqwest::tls::TlsInfo>().unwrap();
    info.peer_certificate().unwrap().to_vec()
}

#[tokio::test]
async fn a_renewed_certificate_is_served_to_new_connections() {
    let five_days = Duration::from_hours(5 * 24);
    let clock = Arc::new(Behind(Mutex::new(five_days)));
    let store: Arc<Memory> = Arc::default();
    let names = vec!["127.0.0.1".to_owned()];
    let clocks = Arc::clone(&clock) as Arc<dyn Clock>;
    let keeper = Keeper::new(store, names, clocks, Times::default());
    keeper.refresh().await.unwrap();
    let bundle = keeper.bundle().borrow().clone();

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let router = Router::new().route("/", get(|| async { "served" }));
    let (tls, stop) = (tls::server_config(keeper.slot()).unwrap(), Stop::default());
    let server = tokio::spawn(serve_tls(listener, tls, router, stop.clone()));

    let first = certificate_seen(&url, &bundle).await;
    keeper.refresh().await.unwrap();
    assert_eq!(certificate_seen(&url, &bundle).await, first);
    *clock.0.lock().unwrap() = Duration::ZERO;
    keeper.refresh().await.unwrap();
    assert_ne!(certificate_seen(&url, &bundle).await, first);

    stop.stop();
    tokio::time::timeout(CEILING, server)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}

/// Stands still until it is set.
#[derive(Debug)]
struct Jumps(Mutex<DateTime<Utc>>);

impl Jumps {
    fn now() -> Arc<Self> {
        Arc::new(Self(Mutex::new(SystemClock.now())))
    }

    fn by_days(&self, days: i64) {
        *self.0.lock().unwrap() += TimeDelta::days(days);
    }
}

impl Clock for Jumps {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap()
    }
}

/// When the server's certificate and the authority end.
fn ends(registry: &Registry) -> [Option<DateTime<Utc>>; 2] {
    let page = telemetry::metrics::page(registry).unwrap();
    ["server", "authority"].map(|which| {
        let name = format!("certificate_expiry_timestamp_seconds{{certificate=\"{which}\"}} ");
        let end = page.lines().find_map(|line| line.strip_prefix(&name))?;
        DateTime::from_timestamp(end.parse().unwrap(), 0)
    })
}

#[rstest]
#[case::back_a_day(-1)]
#[case::forward_a_year(365)]
#[case::asleep_for_a_week(7)]
#[tokio::test]
async fn after_a_jump_of_the_clock_the_certificate_is_renewed_and_without_haste(#[case] days: i64) {
    let (clock, store) = (Jumps::now(), Arc::<Memory>::default());
    // The shortest interval that there is, to see many rounds.
    let times = Times {
        propagation: Duration::from_secs(1),
        ..Times::default()
    };
    let names = vec!["127.0.0.1".to_owned()];
    let (shelf, clocks) = (Arc::clone(&store), Arc::clone(&clock) as Arc<dyn Clock>);
    let keeper = Keeper::new(shelf, names, clocks, times);
    let (mut registry, readiness) = (Registry::default(), Readiness::new());
    keeper.expiries().register(&mut registry);
    let condition = readiness.condition("certificate", "not issued yet");
    let counts = || [&store.loads, &store.writes].map(|count| count.load(Ordering::Relaxed));
    let looked = async {
        until(|| readiness.report().is_ready()).await;
        let leaf = TimeDelta::from_std(times.leaf).unwrap();
        let is_fresh = || {
            ends(&registry)[0]
                .is_some_and(|end| end.timestamp() == (clock.now() + leaf).timestamp())
        };
        assert!(is_fresh());
        let ([loads, writes], start) = (counts(), runtime_now());
        clock.by_days(days);
        assert!(!is_fresh());
        until(is_fresh).await;
        assert!(ends(&registry)[1].is_some_and(|end| clock.now() < end));
        tokio::time::sleep(4 * times.interval()).await;
        let (now, spent) = (counts(), start.elapsed());
        let rounds = spent.as_millis().div_ceil(times.interval().as_millis());
        // On top, the round in which time was taken.
        assert!(
            (now[0] - loads) as u128 <= rounds + 1,
            "{} looks in {spent:?}",
            now[0] - loads
        );
        // Prepared and promoted, or replaced: then there is rest.
        assert!(now[1] - writes <= 2, "{} writes", now[1] - writes);
        assert!(is_fresh() && readiness.report().is_ready());
    };
    tokio::select! {
        () = keeper.run(condition) => unreachable!("it runs for ever"),
        () = looked => {}
    }
}

#[rstest]
#[case::back_a_day(-1)]
#[case::forward_a_year(365)]
#[case::asleep_for_a_week(7)]
#[tokio::test]
async fn after_a_jump_of_the_clock_no_answer_is_remembered_and_the_watches_go_on(
    #[case] days: i64,
) {
    let annotated = |role: &str| {
        let role = json!({"pod-identity.alibabacloud.com/role-name": role});
        json!({"metadata": {"annotations": role}})
    };
    let path = |name: &str| format!("/api/v1/namespaces/team-a/serviceaccounts/{name}");
    let (clock, api, readiness) = (Jumps::now(), FakeApi::new(), Readiness::new());
    let on = json!({"pod-identity.alibabacloud.com/injection": "on"});
    api.put(
        "/api/v1/namespaces/team-a",
        json!({"metadata": {"labels": on}}),
    );
    let clocks = Arc::clone(&clock) as Arc<dyn Clock>;
    let caches = Arc::new(Caches::new(api.client(), &clocks, &readiness));
    let settings = Settings::from(&Configuration::parse(rig::CONFIGURATION).unwrap());
    let cluster = Arc::clone(&caches) as Arc<dyn Cluster>;
    let reviewer = Reviewer::new(settings, cluster, Metrics::default());
    let pod = json!({"spec": {"serviceAccountName": "app", "containers": [{"name": "app"}]}});
    let decision = async || rig::admit(&reviewer, &pod).await.decision;
    let looked = async {
        let kinds = ["namespaces", "serviceaccounts", "alibabarolebindings"];
        let watched = || kinds.iter().all(|kind| api.is_watched(kind));
        until(|| readiness.report().is_ready() && watched()).await;
        assert_eq!(decision().await, "ServiceAccountMissing");
        api.put_quietly(&path("app"), annotated("app"));
        assert_eq!(
            decision().await,
            "ServiceAccountMissing",
            "still remembered"
        );
        clock.by_days(days);
        assert_eq!(decision().await, "Injected");

        let before = api.requests.load(Ordering::Relaxed);
        api.put(&path("later"), annotated("later"));
        until(|| caches.cached_service_account("team-a", "later").is_some()).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let asked = api.requests.load(Ordering::Relaxed) - before;
        assert_eq!(asked, 0, "the watches are the same as before");
    };
    tokio::select! {
        () = caches.run() => unreachable!("it runs for ever"),
        () = looked => {}
    }
}
