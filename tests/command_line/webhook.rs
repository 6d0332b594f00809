//! `rrsa webhook` as a process in bad surroundings: no API server, hardly any open files, a full
//! disk, a second signal (rows H7 and K10), or a configuration that is none (row C7).

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

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
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let [address, admin] = own_addresses();
        certificate(folder.path(), address.ip());
        std::fs::write(path("config.yaml"), CONFIGURATION).expect("a file");
        std::fs::write(path("kubeconfig"), kubeconfig()).expect("a file");
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
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let webhook = Self {
            child,
            address,
            admin,
            folder,
        };
        webhook.says("namespaces: not listed yet").await;
        webhook
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
        let pem = std::fs::read(self.folder.path().join("tls.crt")).expect("a certificate");
        let root = reqwest::Certificate::from_pem(&pem).expect("a certificate");
        let client = reqwest::Client::builder()
            .tls_certs_only([root])
            .no_proxy()
            .timeout(PATIENCE)
            .build()
            .expect("a client");
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {"uid": "u-1", "operation": "CREATE", "namespace": "team-a",
                "resource": {"group": "", "version": "v1", "resource": "services"}}});
        let url = format!("https://{}/mutate", self.address);
        let answer = client.post(url).json(&review).send().await;
        answer.expect("an answer").json().await.expect("JSON")
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

/// The way to an API server that is not there: nothing listens on port 1.
fn kubeconfig() -> String {
    let cluster = json!({"name": "c", "cluster": {"server": "http://127.0.0.1:1"}});
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

/// What it says to that configuration file before it ends.
async fn starts_with(person: &Person, configuration: &str) -> Said {
    let kubeconfig = person.file("kubeconfig", &kubeconfig());
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
