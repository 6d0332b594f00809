//! A server over TLS whose certificate is renewed while it serves.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use chrono::{DateTime, Utc};
use rrsa::serving::authorities::SecretData;
use rrsa::serving::keeper::{AuthorityStore, Keeper, StoreError, Stored};
use rrsa::serving::rotation::Times;
use rrsa::serving::server::{Stop, serve_tls};
use rrsa::serving::tls;
use rrsa::world::{BoxFuture, Clock, SystemClock};

use super::running::CEILING;

#[derive(Debug, Default)]
struct Memory(Mutex<Option<SecretData>>);

impl AuthorityStore for Memory {
    fn name(&self) -> String {
        "memory".to_owned()
    }

    fn load(&self) -> BoxFuture<'_, Result<Option<Stored>, StoreError>> {
        Box::pin(async {
            let data = self.0.lock().unwrap().clone();
            Ok(data.map(|data| Stored {
                data,
                version: String::new(),
                request: None,
            }))
        })
    }

    fn create(&self, data: SecretData) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(async { Ok(self.0.lock().unwrap().replace(data).is_none()) })
    }

    fn replace(&self, _: Stored, data: SecretData) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(async { Ok(self.0.lock().unwrap().replace(data).is_some()) })
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
