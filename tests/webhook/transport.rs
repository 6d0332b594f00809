//! What nobody should do to a connection: it is cut off, the memory stays bounded, and reviews on
//! other connections are answered meanwhile (rows H3 to H5, H7 and H8).

use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use futures::future::join_all;
use futures::stream;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rrsa::serving::limits;
use rrsa::world::runtime_now;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::fake_api::FakeApi;
use super::rig;
use super::running::{CEILING, Webhook, decision, good_round, until};

/// When a header that drips has been cut off: after two minutes.
const LONGEST_HEADER: Duration = Duration::from_secs(150);

type Body = BoxBody<Bytes, Infallible>;

async fn served() -> Webhook {
    let webhook = Webhook::start(FakeApi::new());
    webhook.registered().await;
    webhook.add_account();
    webhook
}

/// Whether a review on a connection of its own is answered as ever.
async fn others_are_served(webhook: &Webhook) {
    let reviewed = async { webhook.review(&webhook.api_server()).await };
    let answer = tokio::time::timeout(CEILING, reviewed)
        .await
        .expect("an answer");
    assert_eq!(decision(&answer), "Injected");
}

/// A TLS connection as API servers open them.
pub(crate) async fn tls(webhook: &Webhook) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(webhook.address).await.unwrap();
    tls_over(webhook, stream, &[b"http/1.1"]).await.unwrap()
}

/// TLS over that connection, for one of these protocols. Calls by address name no server.
async fn tls_over(
    webhook: &Webhook,
    stream: TcpStream,
    protocols: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::from(webhook.address.ip());
    tls_named(webhook, stream, protocols, name).await
}

/// The same for a server of that name.
async fn tls_named(
    webhook: &Webhook,
    stream: TcpStream,
    protocols: &[&[u8]],
    name: ServerName<'static>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for der in CertificateDer::pem_slice_iter(webhook.bundle().as_bytes()) {
        roots.add(der.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await
}

/// A connection that is kept for later requests.
pub(crate) async fn http1<B>(webhook: &Webhook) -> http1::SendRequest<B>
where
    B: hyper::body::Body<Data: Send, Error: std::error::Error + Send + Sync> + Send + 'static,
{
    http1_over(tls(webhook).await).await
}

async fn http1_over<B>(stream: TlsStream<TcpStream>) -> http1::SendRequest<B>
where
    B: hyper::body::Body<Data: Send, Error: std::error::Error + Send + Sync> + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn request(address: SocketAddr, body: Body) -> Request<Body> {
    Request::post(format!("https://{address}/mutate"))
        .header("content-type", "application/json")
        .body(body)
        .unwrap()
}

/// A body of which one byte comes and then nothing.
fn endless() -> Body {
    use futures::StreamExt;
    let first = hyper::body::Frame::data(Bytes::from_static(b"{"));
    let frames = stream::iter([Ok::<_, Infallible>(first)]).chain(stream::pending());
    BodyExt::boxed(StreamBody::new(frames))
}

/// Reads until the peer closes the connection.
async fn closed(mut stream: impl tokio::io::AsyncRead + Unpin, within: Duration) -> Vec<u8> {
    let mut said = Vec::new();
    // A reset is an end, too.
    let read = stream.read_to_end(&mut said);
    let _ = tokio::time::timeout(within, read)
        .await
        .expect("the connection is closed");
    said
}

#[tokio::test]
async fn idle_connections_keep_nobody_out() {
    let webhook = served().await;
    let client = webhook.api_server();
    assert_eq!(decision(&webhook.review(&client).await), "Injected");
    // Our ends are files of this process, and so are those of the webhook, which keeps 1,024.
    let many = limits::raise_open_files().saturating_sub(3000).min(10_000);
    assert!(many > 1200, "this system allows too few open files");
    let mut idle = Vec::new();
    for number in 0..many {
        idle.push(TcpStream::connect(webhook.address).await.unwrap());
        if number % 500 == 0 {
            assert_eq!(decision(&webhook.review(&client).await), "Injected");
        }
    }
    others_are_served(&webhook).await;
    assert_eq!(decision(&webhook.review(&client).await), "Injected");
    // The oldest made room for the youngest.
    closed(idle.remove(0), CEILING).await;
}

#[tokio::test]
async fn requests_that_drip_are_cut_off() {
    let webhook = served().await;
    let mut header = tls(&webhook).await;
    let dripping = tokio::spawn(async move {
        let text =
            b"POST /mutate HTTP/1.1\r\nx-long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
        for byte in text {
            if header.write_all(&[*byte]).await.is_err() || header.flush().await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        closed(header, LONGEST_HEADER).await;
    });
    // More bodies that never end than there are places for requests.
    let mut senders = Vec::new();
    for _ in 0..300 {
        senders.push(http1(&webhook).await);
    }
    let bodies = senders.into_iter().map(|mut sender| {
        let request = request(webhook.address, endless());
        async move { sender.send_request(request).await.unwrap().status() }
    });
    let bodies = tokio::spawn(join_all(bodies.collect::<Vec<_>>()));
    tokio::time::sleep(Duration::from_millis(500)).await;
    others_are_served(&webhook).await;
    let statuses = tokio::time::timeout(4 * CEILING, bodies)
        .await
        .unwrap()
        .unwrap();
    for status in statuses {
        assert!(
            [StatusCode::REQUEST_TIMEOUT, StatusCode::SERVICE_UNAVAILABLE].contains(&status),
            "{status}"
        );
    }
    tokio::time::timeout(LONGEST_HEADER, dripping)
        .await
        .unwrap()
        .unwrap();
    others_are_served(&webhook).await;
}

/// API servers do not speak it to webhooks, and what is not spoken cannot be flooded.
#[tokio::test]
async fn http2_is_not_spoken_and_a_flood_of_its_streams_disturbs_nobody() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let webhook = served().await;
    let stream = TcpStream::connect(webhook.address).await.unwrap();
    let refused = tls_over(&webhook, stream, &[b"h2"]).await.unwrap_err();
    assert!(
        refused.to_string().contains("NoApplicationProtocol"),
        "{refused}"
    );
    for protocols in [&[][..], &[&b"h2"[..], b"http/1.1"]] {
        for _ in 0..100 {
            let stream = TcpStream::connect(webhook.address).await.unwrap();
            let mut stream = tls_over(&webhook, stream, protocols).await.unwrap();
            let mut flood = PREFACE.to_vec();
            for id in 0..1000_u32 {
                // A request and its reset: `:method: POST`, `:path: /`, `:scheme: https`.
                let id = (2 * id + 1).to_be_bytes();
                flood.extend([&[0, 0, 3, 1, 5][..], &id, &[0x83, 0x84, 0x87]].concat());
                flood.extend([&[0, 0, 4, 3, 0][..], &id, &[0, 0, 0, 8]].concat());
            }
            // The server need not read all of it.
            let _ = stream.write_all(&flood).await;
            let said = closed(stream, CEILING).await;
            assert!(
                said.is_empty() || said.starts_with(b"HTTP/1.1 400"),
                "{said:?}"
            );
        }
        others_are_served(&webhook).await;
    }
}

/// The longest answer there is, asked for again and again and not read.
#[tokio::test]
async fn answers_that_nobody_reads_are_few_and_end_and_others_are_served() {
    good_round(leaves_answers_unread).await;
}

/// Whether all of it was seen before the time of the first answer was over.
async fn leaves_answers_unread() -> bool {
    /// What all unread answers may take together, beyond what each may.
    const LONG_ANSWERS: usize = 8 * 1024 * 1024;
    const SHORT_ANSWER: usize = 16 * 1024;
    /// Less than what an answer may take.
    const QUICK: Duration = Duration::from_secs(9);
    let webhook = served().await;
    let review = of_a_thousand_containers();
    let client = webhook.api_server();
    let long = async || {
        let url = format!("https://{}/mutate", webhook.address);
        let request = client.post(url).header("content-type", "application/json");
        request.body(review.clone()).send().await.unwrap()
    };
    let length = long().await.bytes().await.unwrap().len();
    let room = LONG_ANSWERS / (length - SHORT_ANSWER);
    assert!((2..16).contains(&room), "{length} bytes");

    let begun = runtime_now();
    let mut unread = Vec::new();
    for number in 0..2 * room {
        let mut stream = ask_and_read_little(&webhook, &review).await;
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        let expected = if number < room {
            b"HTTP/1.1 200"
        } else {
            b"HTTP/1.1 503"
        };
        if begun.elapsed() > QUICK {
            return false;
        }
        assert_eq!(&status, expected, "number {number} of {room}");
        unread.push(stream);
    }
    let refused = long().await;
    others_are_served(&webhook).await;
    if begun.elapsed() > QUICK {
        return false;
    }
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    let said = refused.text().await.unwrap();
    assert!(
        said.contains("too many long answers wait to be read"),
        "{said}"
    );
    // Long answers are given again when the time of those is over.
    let again = async {
        while long().await.status() != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let ended = tokio::time::timeout(CEILING, again).await;
    ended.expect("an end of the unread answers");
    true
}

/// What makes the longest answer.
fn of_a_thousand_containers() -> String {
    let containers: Vec<_> = (0..1000)
        .map(|n| json!({"name": format!("c{n}")}))
        .collect();
    let pod = json!({"spec": {"serviceAccountName": "app", "containers": containers}});
    rig::review(&pod).to_string()
}

/// Reading a little now and then is not reading.
#[tokio::test]
async fn an_answer_that_is_read_byte_by_byte_is_cut_off() {
    let webhook = served().await;
    let mut stream = ask_and_read_little(&webhook, &of_a_thousand_containers()).await;
    let mut total = 0;
    // For twice as long as an answer may take; then whatever the kernel has of it.
    for _ in 0..200 {
        let mut some = [0; 100];
        total += stream.read(&mut some).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    total += closed(stream, CEILING).await.len();
    assert!(total < 500_000, "all of it was read");
}

/// Sends the review on a connection whose kernel takes little that is not read.
async fn ask_and_read_little(webhook: &Webhook, review: &str) -> TlsStream<TcpStream> {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(webhook.address).await.unwrap();
    let mut stream = tls_over(webhook, stream, &[b"http/1.1"]).await.unwrap();
    let head = format!(
        "POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{review}",
        review.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn headers_without_end_are_refused() {
    let webhook = served().await;
    let mut stream = tls(&webhook).await;
    let line = format!("x-{}: {}\r\n", "a".repeat(100), "b".repeat(1000));
    let mut text = b"POST /mutate HTTP/1.1\r\nhost: x\r\n".to_vec();
    for _ in 0..2000 {
        text.extend_from_slice(line.as_bytes());
    }
    // The server need not read all of it.
    let _ = stream.write_all(&text).await;
    let said = closed(stream, CEILING).await;
    assert!(
        said.is_empty() || said.starts_with(b"HTTP/1.1 431"),
        "{said:?}"
    );
    others_are_served(&webhook).await;
}

#[tokio::test]
async fn a_length_that_lies_is_a_bad_request_or_a_time_out() {
    let webhook = served().await;
    let send = async |length: &str, body: &str| {
        let mut stream = tls(&webhook).await;
        let text = format!(
            "POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        stream.write_all(text.as_bytes()).await.unwrap();
        let said = closed(stream, CEILING).await;
        String::from_utf8_lossy(&said)
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    assert!(send("100", "{}").await.contains("408"));
    assert!(send("1", "{}").await.contains("400"));
    assert!(send("99999999", "{}").await.contains("413"));
    assert!(send("-1", "{}").await.contains("400"));
    others_are_served(&webhook).await;
}

/// What is logged on this thread.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Keeps what is logged for as long as the guard lives.
    fn keep() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::INFO)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    fn lines(&self) -> usize {
        self.text().split('\n').count()
    }
}

#[tokio::test]
async fn handshakes_that_fail_are_not_logged_and_disturb_nobody() {
    let (log, _logging) = Log::keep();
    let webhook = served().await;
    let before = log.lines();
    for number in 0..2000_u32 {
        let mut stream = TcpStream::connect(webhook.address).await.unwrap();
        let hello: &[u8] = match number % 4 {
            0 => b"\x16\x03\x01\x02\x00\x01\x00",
            1 => b"GET / HTTP/1.1\r\n\r\n",
            2 => b"",
            _ => OLD_HELLO,
        };
        let _ = stream.write_all(hello).await;
    }
    others_are_served(&webhook).await;
    assert!(before > 1, "the log is kept");
    assert!(log.lines() - before < 10, "{}", log.text());
}

/// There is one certificate, whatever server is asked for: the client judges whether it meant this one.
#[tokio::test]
async fn a_client_that_means_another_server_refuses_and_those_who_mean_this_one_are_served() {
    let (log, _logging) = Log::keep();
    let webhook = served().await;
    let before = log.lines();
    let named = async |name: ServerName<'static>| {
        let stream = TcpStream::connect(webhook.address).await.unwrap();
        tls_named(&webhook, stream, &[b"http/1.1"], name).await
    };
    let name = |text: &'static str| ServerName::try_from(text).unwrap();
    for number in 0..200 {
        let other = if number % 2 == 0 {
            "rrsa-webhook.elsewhere.svc"
        } else {
            "example.com"
        };
        let error = named(name(other)).await.unwrap_err();
        let error = error.get_ref().and_then(|error| error.downcast_ref());
        assert!(
            matches!(
                error,
                Some(rustls::Error::InvalidCertificate(
                    CertificateError::NotValidForName
                        | CertificateError::NotValidForNameContext { .. }
                ))
            ),
            "{error:?}"
        );
    }
    let mut served = Vec::new();
    for meant in [
        name("rrsa-webhook.rrsa-system.svc"),
        // No name is sent for an address.
        ServerName::from(webhook.address.ip()),
    ] {
        let stream = named(meant).await.unwrap();
        let certificates = stream.get_ref().1.peer_certificates().unwrap();
        served.push(certificates[0].clone());
        let mut sender = http1_over(stream).await;
        let pod = json!({"spec": {"serviceAccountName": "app", "containers": [{"name": "app"}]}});
        let body = Full::new(Bytes::from(rig::review(&pod).to_string()));
        let asked = request(webhook.address, BodyExt::boxed(body));
        let answer = sender.send_request(asked).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let answer = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(
            decision(&serde_json::from_slice(&answer).unwrap()),
            "Injected"
        );
    }
    assert_eq!(served[0], served[1]);
    assert!(before > 1, "the log is kept");
    assert!(log.lines() - before < 10, "{}", log.text());
    assert!(!log.text().contains("WARN"), "{}", log.text());
}

/// A client that knows TLS 1.0 and nothing newer.
const OLD_HELLO: &[u8] = b"\x16\x03\x01\x00\x2d\x01\x00\x00\x29\x03\x01\
    0123456789abcdef0123456789abcdef\x00\x00\x02\x00\x2f\x01\x00";

#[tokio::test]
async fn old_tls_is_refused_with_an_alert() {
    let webhook = served().await;
    let mut stream = TcpStream::connect(webhook.address).await.unwrap();
    stream.write_all(OLD_HELLO).await.unwrap();
    let said = closed(stream, CEILING).await;
    // A fatal alert.
    assert_eq!((said[0], said[5]), (0x15, 2), "{said:?}");
}

#[tokio::test]
async fn work_for_a_client_that_is_gone_is_given_up() {
    good_round(leaves_while_asking).await;
}

/// Whether the question was given up because its client had gone, and not for its own time limit.
async fn leaves_while_asking() -> bool {
    let webhook = served().await;
    webhook.api.answering.send_replace(false);
    let mut sender = http1(&webhook).await;
    let review = rig::review(&json!({"spec": {"serviceAccountName": "app",
        "containers": [{"name": "app"}]}}));
    let body = BodyExt::boxed(Full::new(Bytes::from(review.to_string())));
    let answer = tokio::spawn(sender.send_request(request(webhook.address, body)));
    let started = webhook.api.started();
    until(|| webhook.api.started() > started).await;
    answer.abort();
    drop(sender);
    until(|| webhook.api.given_up() > 0).await;
    !webhook
        .metrics()
        .await
        .contains(r#"rrsa_webhook_failures_total{status="500"}"#)
}

#[tokio::test]
async fn a_hundred_reviews_under_way_are_answered_before_the_end() {
    let mut webhook = served().await;
    let client = webhook.api_server();
    assert_eq!(decision(&webhook.review(&client).await), "Injected");
    // Nobody knows these yet, so each asks the API server, which takes its time: far less than after
    // what the webhook would give up.
    *webhook.api.delay.lock().unwrap() = Duration::from_millis(300);
    let before = webhook.api.started();
    let pod = |number: usize| {
        json!({"spec": {"serviceAccountName": format!("late-{number}"),
            "containers": [{"name": "app"}]}})
    };
    let url = format!("https://{}/mutate", webhook.address);
    let reviews = (0..100).map(|number| {
        let (client, url) = (client.clone(), url.clone());
        tokio::spawn(async move {
            let asked = client.post(url).json(&rig::review(&pod(number)));
            asked.send().await.unwrap().status().as_u16()
        })
    });
    let reviews: Vec<_> = reviews.collect();
    until(|| webhook.api.started() >= before + 100).await;
    webhook.stop.take().unwrap().send(()).unwrap();
    for review in join_all(reviews).await {
        assert_eq!(review.unwrap(), 200);
    }
    drop(client);
    let ended = tokio::time::timeout(CEILING, webhook.task)
        .await
        .expect("an end");
    ended.unwrap().unwrap();
}
