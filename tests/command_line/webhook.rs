//! `rrsa webhook` as a process in bad surroundings: no API server, hardly any open files, a full or
//! read-only disk, little memory, a very large cluster, a second signal (rows H7, K4 and K10), or a
//! configuration that is none (row C7).

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use futures::{StreamExt, stream};
use http_body_util::StreamBody;
use hyper::body::Frame;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::house::PATIENCE;
use crate::person::{Person, RRSA, Said, said};

const CONFIGURATION: &str = "accountId: '1234567890123456'\n\
    oidcProviderArn: acs:ram::1234567890123456:oidc-provider/ack-rrsa-c0123456789\n\
    region: cn-hangzhou\n";

/// An API server that is not there: nothing listens on port 1.
const NOBODY: &str = "http://127.0.0.1:1";

/// A webhook whose certificate is mounted, so that it serves without an API server.
struct Webhook {
    child: Child,
    address: SocketAddr,
    admin: SocketAddr,
    folder: TempDir,
}

impl Webhook {
    /// Starts it by a shell that may limit it first.
    async fn start(limit: &str, log: Stdio) -> Self {
        let webhook = Self::spawn(limit, log, NOBODY);
        webhook.says("namespaces: not listed yet").await;
        webhook
    }

    /// The same with that API server.
    fn spawn(limit: &str, log: Stdio, api_server: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let [address, admin] = own_addresses();
        certificate(folder.path(), address.ip());
        std::fs::write(path("config.yaml"), CONFIGURATION).expect("a file");
        std::fs::write(path("kubeconfig"), kubeconfig(api_server)).expect("a file");
        let child = Command::new("sh")
            .args(["-c", &format!("{limit}; exec \"$0\" \"$@\""), RRSA])
            .args(["webhook", "--drain-delay=600", "--log=debug"])
            .arg(format!("--listen={address}"))
            .arg(format!("--admin-listen={admin}"))
            .args(["--config", "config.yaml"])
            .args(["--tls-cert", "tls.crt", "--tls-key", "tls.key"])
            .current_dir(folder.path())
            .env_clear()
            .env("KUBECONFIG", path("kubeconfig"))
            .env("HOME", folder.path())
            .env("TMPDIR", folder.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        Self {
            child,
            address,
            admin,
            folder,
        }
    }

    /// Waits until readiness is reported with these words.
    async fn says(&self, words: &str) {
        let url = format!("http://{}/readyz", self.admin);
        let client = reqwest::Client::builder().no_proxy().build();
        let client = client.expect("a client");
        let waiting = async {
            loop {
                if let Ok(answer) = client.get(&url).send().await
                    && answer.text().await.is_ok_and(|text| text.contains(words))
                {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting)
            .await
            .expect("the report in time");
    }

    /// Asks about something that needs no cluster.
    async fn is_asked(&self) -> Value {
        let review = review("services", "team-a", &Value::Null);
        let answer = self.client().post(self.url()).json(&review).send().await;
        answer.expect("an answer").json().await.expect("JSON")
    }

    fn url(&self) -> String {
        format!("https://{}/mutate", self.address)
    }

    /// As an API server calls.
    fn client(&self) -> reqwest::Client {
        let pem = std::fs::read(self.folder.path().join("tls.crt")).expect("a certificate");
        let root = reqwest::Certificate::from_pem(&pem).expect("a certificate");
        reqwest::Client::builder()
            .tls_certs_only([root])
            .no_proxy()
            .timeout(PATIENCE)
            .build()
            .expect("a client")
    }

    /// The most memory that it has had so far, in MiB.
    fn peak(&self) -> u64 {
        let id = self.child.id().expect("a process");
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("a status");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = peak.and_then(|peak| peak.trim().strip_suffix(" kB"));
        kibibytes.expect("a figure").parse::<u64>().expect("digits") / 1024
    }

    fn is_told_to_stop(&self) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.and_then(Pid::from_raw).expect("a process");
        kill_process(pid, Signal::TERM).expect("a signal");
    }

    async fn ends(self) -> Output {
        tokio::time::timeout(PATIENCE, self.child.wait_with_output())
            .await
            .expect("an end")
            .expect("an output")
    }
}

/// A review of the creation of an object.
fn review(resource: &str, namespace: &str, object: &Value) -> Value {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {"uid": "u-1", "operation": "CREATE", "namespace": namespace, "object": object,
            "resource": {"group": "", "version": "v1", "resource": resource}}})
}

/// The way to an API server.
fn kubeconfig(api_server: &str) -> String {
    let cluster = json!({"name": "c", "cluster": {"server": api_server}});
    json!({"apiVersion": "v1", "kind": "Config", "clusters": [cluster],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {}}], "current-context": "c"})
    .to_string()
}

/// A certificate for that address, signed by itself.
fn certificate(folder: &Path, address: IpAddr) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let params = rcgen::CertificateParams::new(vec![address.to_string()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    std::fs::write(folder.join("tls.crt"), certificate.pem()).expect("a file");
    std::fs::write(folder.join("tls.key"), key.serialize_pem()).expect("a file");
}

/// Two free ports of an address of loopback that nobody else uses: until the webhook has bound them,
/// no other program that wants any port gets these.
fn own_addresses() -> [SocketAddr; 2] {
    static STARTED: AtomicU8 = AtomicU8::new(0);
    // Linux gives numbers of 22 bits to processes; the bits above tell the webhooks of this one apart.
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let number = STARTED.fetch_add(1, Ordering::Relaxed) % 3;
    let own = IpAddr::from([127, 1 + 64 * number + high % 64, middle, low]);
    let listeners = [0, 1].map(|_| TcpListener::bind((own, 0)).expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("an address"))
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let webhook = Webhook::start(":", Stdio::piped()).await;
    webhook.is_told_to_stop();
    // It would wait for ten minutes now.
    webhook.says("shutting down").await;
    assert_eq!(webhook.is_asked().await["response"]["allowed"], true);
    webhook.is_told_to_stop();
    let output = webhook.ends().await;
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("told to stop twice"), "{said}");
}

#[tokio::test]
async fn with_hardly_any_open_files_idle_connections_make_room() {
    let webhook = Webhook::start("ulimit -n 96", Stdio::null()).await;
    let mut idle = Vec::new();
    for _ in 0..300 {
        // The kernel accepts even while the process cannot.
        idle.push(TcpStream::connect(webhook.address).await.expect("room"));
    }
    assert_eq!(webhook.is_asked().await["response"]["uid"], "u-1");
    drop(idle);
    assert_eq!(webhook.is_asked().await["response"]["uid"], "u-1");
}

#[tokio::test]
async fn a_log_that_cannot_be_written_harms_no_review() {
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .expect("the device whose disk is full");
    let webhook = Webhook::start(":", full.into()).await;
    for _ in 0..3 {
        assert_eq!(webhook.is_asked().await["response"]["allowed"], true);
    }
}

/// What the chart gives the webhook, in MiB.
const MEMORY_LIMIT: u64 = 128;

#[tokio::test]
async fn it_writes_no_file_so_that_a_read_only_disk_is_enough() {
    // The kernel ends who writes a byte to a file.
    let webhook = Webhook::start("ulimit -f 0", Stdio::piped()).await;
    assert_eq!(webhook.is_asked().await["response"]["allowed"], true);
    let entries = std::fs::read_dir(webhook.folder.path()).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = names
        .map(|name| name.into_string().expect("text"))
        .collect();
    names.sort();
    assert_eq!(names, ["config.yaml", "kubeconfig", "tls.crt", "tls.key"]);
    webhook.is_told_to_stop();
    webhook.says("shutting down").await;
    webhook.is_told_to_stop();
    let output = webhook.ends().await;
    assert_eq!(output.status.code(), Some(1), "not a signal");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flood_of_large_bodies_takes_no_more_memory_than_the_chart_gives() {
    let webhook = Webhook::start(":", Stdio::null()).await;
    let almost_all = bytes::Bytes::from(vec![b' '; (7 << 20) - 1]);
    let client = webhook.client();
    let flood = (0..60).map(|_| {
        // The last byte never comes, so that what is taken is held until it is given up.
        let first = Ok::<_, std::io::Error>(Frame::data(almost_all.clone()));
        let body = stream::iter([first]).chain(stream::pending());
        let request = client
            .post(webhook.url())
            .header("content-type", "application/json")
            .body(reqwest::Body::wrap(StreamBody::new(body)));
        request.send()
    });
    // Whom the answer reaches while he still writes may see no more than a closed connection.
    let answers = futures::future::join_all(flood).await;
    for answer in answers.into_iter().flatten() {
        let status = answer.status().as_u16();
        assert!([408, 503].contains(&status), "{status}");
    }
    assert_eq!(webhook.is_asked().await["response"]["uid"], "u-1");
    let peak = webhook.peak();
    assert!(peak < MEMORY_LIMIT, "{peak} MiB");
}

/// Pages of a cluster that nobody has: much more of each object than counts, and now and then a
/// value of ours that is far too long.
mod crowd {
    use std::collections::HashMap;

    use axum::Router;
    use axum::body::Body;
    use axum::extract::Query;
    use axum::response::{IntoResponse, Response};
    use axum::routing::get;

    pub(super) const NAMESPACES: usize = 10_000;
    pub(super) const ACCOUNTS: usize = 50_000;
    pub(super) const OF_EACH: usize = ACCOUNTS / NAMESPACES;

    pub(super) fn router() -> Router {
        let none = get(async |query| list(query, 0, |_| String::new()));
        let namespaces = get(async |query| list(query, NAMESPACES, namespace));
        let accounts = get(async |query| list(query, ACCOUNTS, account));
        Router::new()
            .route("/api/v1/namespaces", namespaces)
            .route("/api/v1/serviceaccounts", accounts)
            .route("/apis/rrsa.io/v1alpha1/alibabarolebindings", none)
    }

    // Written as text: tens of thousands of values would take longer than all that is tested.
    fn object(metadata: &str) -> String {
        let note = "n".repeat(1000);
        format!(
            r#"{{"metadata":{{"resourceVersion":"1",{metadata},"managedFields":[{{"manager":"{note}"}}]}}}}"#
        )
    }

    fn namespace(n: usize) -> String {
        object(&format!(
            r#""name":"team-{n}","labels":{{"pod-identity.alibabacloud.com/injection":"on"}}"#
        ))
    }

    fn account(n: usize) -> String {
        let (team, note) = (n / OF_EACH, "n".repeat(1000));
        let role = match n {
            0 => "r".repeat(1 << 20),
            // What Kubernetes lets through.
            n if n % 100 == 0 => "r".repeat(250 << 10),
            n => format!("role-{n}"),
        };
        object(&format!(
            r#""name":"app-{n}","namespace":"team-{team}","annotations":{{"note":"{note}","pod-identity.alibabacloud.com/role-name":"{role}"}}"#
        ))
    }

    fn list(
        Query(query): Query<HashMap<String, String>>,
        count: usize,
        object: fn(usize) -> String,
    ) -> Response {
        if query.contains_key("watch") {
            let silence = futures::stream::pending::<Result<bytes::Bytes, std::io::Error>>();
            return Body::from_stream(silence).into_response();
        }
        let number = |key: &str| query.get(key).and_then(|text| text.parse::<usize>().ok());
        let first = number("continue").unwrap_or_default();
        let end = count.min(first + number("limit").expect("pages"));
        let items: Vec<_> = (first..end).map(object).collect();
        let rest = if end < count {
            end.to_string()
        } else {
            String::new()
        };
        let items = items.join(",");
        format!(
            r#"{{"apiVersion":"v1","kind":"List","metadata":{{"resourceVersion":"1","continue":"{rest}"}},"items":[{items}]}}"#
        )
        .into_response()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_fifty_thousand_accounts_takes_no_more_memory_than_the_chart_gives() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let api_server = format!("http://{}", listener.local_addr().expect("an address"));
    let server = tokio::spawn(async move { axum::serve(listener, crowd::router()).await });
    let webhook = Webhook::spawn(":", Stdio::null(), &api_server);
    for kind in ["namespaces", "serviceaccounts", "alibabarolebindings"] {
        webhook.says(&format!("[+] {kind}")).await;
    }
    let asked = async |n: usize| {
        let pod = json!({"spec": {"serviceAccountName": format!("app-{n}"),
            "containers": [{"name": "app"}]}});
        let review = review("pods", &format!("team-{}", n / crowd::OF_EACH), &pod);
        let answer = webhook
            .client()
            .post(webhook.url())
            .json(&review)
            .send()
            .await;
        let answer: Value = answer.expect("an answer").json().await.expect("JSON");
        let audit = &answer["response"]["auditAnnotations"];
        (audit["decision"].clone(), audit["role"].clone())
    };
    // Nothing of it is asked for one by one here: all that is known was listed.
    for n in [1, crowd::ACCOUNTS - 1] {
        let role = format!("acs:ram::1234567890123456:role/role-{n}");
        assert_eq!(asked(n).await, (json!("Injected"), json!(role)));
    }
    for n in [0, 100] {
        assert_eq!(asked(n).await.0, "RoleNameIllegal");
    }
    let peak = webhook.peak();
    assert!(peak < MEMORY_LIMIT, "{peak} MiB");
    server.abort();
}

/// What it says to that configuration file before it ends.
async fn starts_with(person: &Person, configuration: &str) -> Said {
    let kubeconfig = person.file("kubeconfig", &kubeconfig(NOBODY));
    let mut command = person.program(RRSA, &["webhook", "--config", configuration]);
    command
        .args(["--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"])
        // Nobody there tells what is left out.
        .arg("--metadata-address=127.0.0.1:1")
        .env("KUBECONFIG", kubeconfig);
    said(command).await
}

#[tokio::test]
async fn a_configuration_that_is_none_is_refused_at_start_and_the_field_is_named() {
    let person = Person::new();
    let instead = |old: &str, new: &str| {
        assert!(CONFIGURATION.contains(old), "{old}");
        CONFIGURATION.replace(old, new)
    };
    let with = |more: &str| format!("{CONFIGURATION}{more}\n");
    for (what, text, named) in [
        ("nothing", String::new(), "oidcProviderArn"),
        (
            "a key left out",
            instead("region: cn-hangzhou\n", ""),
            "field region: is left out",
        ),
        ("an unknown key", with("webhooks: {}"), "webhooks"),
        (
            "an unknown key below",
            with("webhook: {strickt: true}"),
            "strickt",
        ),
        (
            "a wrong type",
            with("webhook: {strict: perhaps}"),
            "strict: perhaps",
        ),
        ("a list for a map", with("sts: []"), "sts: []"),
        (
            "an account that is none",
            instead("'1234567890123456'", "none"),
            "accountId",
        ),
        (
            "a region that is none",
            instead("cn-hangzhou", "evil.com/"),
            "field region:",
        ),
        ("no YAML", with("a: ["), "cannot be read"),
    ] {
        let file = person.file("config.yaml", &text);
        let complaint = starts_with(&person, file.to_str().expect("text"))
            .await
            .failed();
        assert!(
            complaint.contains(named),
            "{what}: no {named:?} in {complaint}"
        );
        assert!(complaint.contains("config.yaml"), "{what}: {complaint}");
    }
    let complaint = starts_with(&person, "/nowhere/config.yaml").await.failed();
    assert!(
        complaint.contains("/nowhere/config.yaml cannot be read"),
        "{complaint}"
    );
}
