//! The way to the metadata service never leads through a proxy. Proxies are named by variables of
//! the process, so this is tried in a process of its own.

use std::io::Write as _;
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bytes::Bytes;
use rrsa::world::{Env as _, Http as _, HttpClient, HttpOptions, Request, SystemEnv};

use crate::house::{House, PATIENCE, imds_at};

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
    let client = imds_at(service.parse().unwrap(), &HttpOptions::metadata());
    assert_eq!(client.region_id().await.unwrap(), "cn-hangzhou");

    // The control: on the way to cloud services the same variables count.
    let client = HttpClient::new(&HttpOptions::default()).unwrap();
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = format!("https://{service}/").parse().unwrap();
    client.send(request).await.unwrap_err();
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
