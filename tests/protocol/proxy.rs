//! The way to the metadata service never leads through a proxy; that to STS does, where one is
//! named. The usual ones are named by variables of the process, so these are tried in a process of
//! their own.

use std::io::Write as _;
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use rrsa::credentials::CredentialsError;
use rrsa::imds;
use rrsa::world::{
    Env as _, Http, HttpClient, HttpOptions, Request, Route, SystemClock, SystemEnv, World,
};

use crate::house::{House, PATIENCE, failure, imds_at, in_the_end, patient, story};
use crate::log;
use crate::simulators::proxy::{Proxy, ProxyConfig};

const SERVICE: &str = "RRSA_TEST_METADATA_SERVICE";
const CHILD: &str = "proxy::questions_in_a_process_with_a_proxy";

/// A proxy that refuses everything and counts.
fn proxy() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        for stream in listener.incoming() {
            counted.fetch_add(1, Ordering::SeqCst);
            let answer =
                b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = stream.and_then(|mut stream| stream.write_all(answer));
        }
    });
    (format!("http://{address}"), count)
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_is_never_asked_through_a_proxy() {
    let house = House::start();
    let (proxy, seen) = proxy();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([CHILD, "--exact", "--ignored", "--nocapture"]);
    child.env(SERVICE, house.metadata.address().to_string());
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        child.env(name, &proxy).env(name.to_lowercase(), &proxy);
    }
    child.env_remove("NO_PROXY").env_remove("no_proxy");
    let output = tokio::task::spawn_blocking(move || child.output().unwrap());
    let output = tokio::time::timeout(PATIENCE, output)
        .await
        .unwrap()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
    assert_eq!(house.asked("GetValue"), 1, "asked directly");
    assert_eq!(
        seen.load(Ordering::SeqCst),
        1,
        "only the control came this way"
    );
}

#[tokio::test]
#[ignore = "run by metadata_is_never_asked_through_a_proxy, in a process with a proxy"]
async fn questions_in_a_process_with_a_proxy() {
    let service = SystemEnv.var(SERVICE).unwrap().unwrap();
    let options = patient(HttpOptions::metadata());
    let client = imds_at(service.parse().unwrap(), &options);
    assert_eq!(client.region_id().await.unwrap(), "cn-hangzhou");

    // The control: on the way to cloud services the same variables count.
    let client = HttpClient::new(&patient(HttpOptions::default())).unwrap();
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = format!("https://{service}/").parse().unwrap();
    client.send(request).await.unwrap_err();
}

/// The password in the URLs of the proxies below.
const PASSWORD: &str = "word-of-the-proxy";

/// A proxy that leads where it is asked to.
fn tunnel() -> (Proxy, String) {
    let proxy = Proxy::start(ProxyConfig::default()).expect("a proxy");
    let url = format!("http://user:{PASSWORD}@{}", proxy.address());
    (proxy, url)
}

/// Options that name this proxy.
fn through(house: &House, url: &str) -> HttpOptions {
    HttpOptions {
        route: Route::Proxy(url.into()),
        ..house.options()
    }
}

#[tokio::test]
async fn sts_is_asked_through_the_proxy_that_is_named() {
    let house = House::start();
    let (tunnel, url) = tunnel();
    let options = through(&house, &url);
    for provider in house.ways_to_a_role(&options) {
        house.session_of(&provider.credentials().await.unwrap());
    }
    let heads = tunnel.heads();
    let connect = format!("CONNECT {} ", house.sts.host());
    let key = BASE64_STANDARD.encode(format!("user:{PASSWORD}"));
    assert!(!heads.is_empty());
    for head in heads {
        assert!(head.starts_with(&connect), "{head}");
        assert!(head.contains(&key), "{head}");
    }
    for secret in [PASSWORD, &key] {
        let line = log::find(secret);
        assert!(
            line.is_none(),
            "the proxy's password is in the log: {line:?}…"
        );
    }
}

#[tokio::test]
async fn neither_metadata_nor_plain_http_goes_through_the_proxy_that_is_named() {
    let house = House::start();
    let (tunnel, url) = tunnel();
    let world = World::system_with(&through(&house, &url)).unwrap();
    let client = imds::Client::at(
        house.metadata.address(),
        world.metadata,
        Arc::new(SystemClock),
    );
    let region = in_the_end(async || client.region_id().await).await;
    assert_eq!(region, "cn-hangzhou");
    let mut request = Request::new(Bytes::new());
    let uri = format!("{}/latest/meta-data/region-id", house.metadata.url());
    *request.uri_mut() = uri.parse().unwrap();
    let answer = world.direct.send(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(tunnel.heads(), [""; 0]);
}

#[tokio::test]
async fn a_proxy_that_does_not_help_is_unavailable() {
    let house = House::start();
    let (refusing, seen) = proxy();
    let nobody = "http://127.0.0.1:1".to_owned();
    for url in [refusing, nobody] {
        let url = url.replace("//", &format!("//user:{PASSWORD}@"));
        for provider in house.ways_to_a_role(&through(&house, &url)) {
            let error = failure(provider.credentials()).await;
            assert!(
                matches!(error, CredentialsError::Unavailable { .. }),
                "{error:?}"
            );
            assert!(!story(&error).contains(PASSWORD));
        }
    }
    assert!(seen.load(Ordering::SeqCst) > 0);
    assert!(
        house.sts.calls().all().is_empty(),
        "not asked past the proxy"
    );
    assert!(log::find(PASSWORD).is_none());
}

#[test]
fn a_proxy_that_is_no_url_is_not_repeated() {
    let options = HttpOptions {
        route: Route::Proxy(format!("http://user:{PASSWORD}@[::").into()),
        ..HttpOptions::default()
    };
    let error = HttpClient::new(&options).unwrap_err();
    assert!(!story(&error).contains(PASSWORD), "{error}");
}

#[tokio::test]
async fn the_way_to_cloud_services_takes_no_plain_http() {
    let house = House::start();
    let client = HttpClient::new(&HttpOptions::default()).unwrap();
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = house.metadata.url().parse().unwrap();
    client.send(request).await.unwrap_err();
    assert!(house.metadata.calls().all().is_empty());
}
