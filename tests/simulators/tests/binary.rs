//! The dev binary: its files, its reading of the trust file, its end; and the trust file itself.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::{Child, Command};

use crate::account::{
    Ask, CLUSTER, ISSUER, Keys, PATIENCE, PROVIDER, ROLE, Reply, SUBJECT, client,
};
use crate::simulators::config::{SimulatorConfig, Trust};

/// Compiling it may be what takes long.
const BUILD_PATIENCE: Duration = Duration::from_mins(10);

/// The dev binary. Cargo tells a test where the package's binaries are, but not its examples.
async fn binary() -> PathBuf {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--example", "simulators"]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    build
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .kill_on_drop(true);
    let outcome = tokio::time::timeout(BUILD_PATIENCE, build.status()).await;
    let status = outcome.expect("the build ends").expect("cargo starts");
    assert!(status.success());
    let this = std::env::current_exe().expect("a path");
    let profile = this
        .parent()
        .and_then(Path::parent)
        .expect("target/PROFILE/deps");
    profile.join("examples").join("simulators")
}

fn trust_file(subject: &str) -> String {
    format!(
        "
providers:
  - {{arn: \"{PROVIDER}\", issuer: \"{ISSUER}\", jwksFile: jwks.json}}
roles:
  - arn: {ROLE}
    maxSessionDuration: 2h
    trust:
      - providerArn: {PROVIDER}
        subjects: {{equals: [\"{subject}\"]}}
      - {{principal: \"acs:ram::1234567890123456:role/node\", externalId: word}}
accessKeys:
  - {{id: LTAI1, secret: s3cret, principal: \"acs:ram::1234567890123456:user/admin\"}}
requestsPerSecond: 100
sessionLifetime: 1500ms
metadata: {{role: node, hardened: true}}
faults:
  - {{action: Nothing, effect: {{type: delay, by: 2s}}}}
"
    )
}

/// Puts `text` in the place of the file at once: whoever reads it never sees it empty.
fn replace(file: &Path, text: impl AsRef<[u8]>) -> std::io::Result<()> {
    let new = file.with_extension("new");
    std::fs::write(&new, text)?;
    std::fs::rename(new, file)
}

/// Waits until `file` holds something that satisfies `good`.
async fn file_with(file: &Path, good: impl Fn(&str) -> bool) -> String {
    let waiting = async {
        loop {
            if let Ok(text) = tokio::fs::read_to_string(file).await
                && good(&text)
            {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    waited.expect("the file is written in time")
}

/// Asks the process to end, and waits for it.
async fn terminated(mut child: Child) {
    let pid = child.id().expect("it runs").to_string();
    let killed = Command::new("kill").arg(pid).status().await;
    assert!(killed.expect("kill runs").success());
    let ended = tokio::time::timeout(PATIENCE, child.wait()).await;
    assert!(ended.expect("it ends").expect("a status").success());
}

#[test]
fn trust_file_is_read_in_full() {
    let config = SimulatorConfig::parse(&trust_file(SUBJECT), Path::new("/a/trust.yaml")).unwrap();
    assert_eq!(config.providers[0].jwks_file, Path::new("/a/jwks.json"));
    assert_eq!(config.providers[0].client_ids, ["sts.aliyuncs.com"]);
    assert_eq!(
        config.roles[0].max_session_duration,
        Duration::from_hours(2)
    );
    assert!(matches!(
        &config.roles[0].trust[..],
        [Trust::Federated(_), Trust::Principal(_)]
    ));
    assert_eq!(config.session_lifetime, Some(Duration::from_millis(1500)));
    assert!(config.metadata.hardened);
    let debug = format!("{config:?}");
    assert!(!debug.contains("s3cret"), "{debug}");
    let json = r#"{"roles": [{"arn": "acs:ram::1:role/a", "maxSessionDuration": 3600}]}"#;
    let config = SimulatorConfig::parse(json, Path::new("trust.json")).unwrap();
    assert_eq!(
        config.roles[0].max_session_duration,
        Duration::from_hours(1)
    );
}

#[test]
fn mistakes_in_the_trust_file_are_named() {
    for (text, expected) in [
        ("rolls: []", "rolls"),
        ("sessionLifetime: 3 weeks", "3 weeks"),
        (
            "providers: [{arn: a, issuer: b, jwksFile: c, audience: d}]",
            "audience",
        ),
        ("roles: [{arn: a, trust: [{providerArn: b}]}]", "Trust"),
    ] {
        let error = SimulatorConfig::parse(text, Path::new("trust.yaml")).unwrap_err();
        assert!(format!("{error:#}").contains(expected), "{error:#}");
    }
}

#[test]
fn complaint_about_the_trust_file_shows_no_secret() {
    let text = format!(
        "{}rolls: []\n",
        trust_file(SUBJECT).replace("s3cret", "hush")
    );
    for text in [
        text.clone(),
        text.replace("metadata", "accessKeys: [{secret: hush}]\nmetadata"),
    ] {
        let error = SimulatorConfig::parse(&text, Path::new("trust.yaml")).unwrap_err();
        assert!(!format!("{error:#}").contains("hush"), "{error:#}");
    }
}

#[tokio::test]
async fn binary_serves_rereads_writes_and_ends() {
    let binary = binary().await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    CLUSTER.write_jwks(&file("jwks.json")).unwrap();
    std::fs::write(
        file("trust.yaml"),
        trust_file("system:serviceaccount:other:other"),
    )
    .unwrap();
    let child = Command::new(binary)
        .arg("--config")
        .arg(file("trust.yaml"))
        .arg("--ca-out")
        .arg(file("ca.pem"))
        .arg("--ready-file")
        .arg(file("ready.json"))
        .arg("--calls-out")
        .arg(file("calls.jsonl"))
        .arg("--secrets-out")
        .arg(file("secrets"))
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let ready = file_with(&file("ready.json"), |_| true).await;
    let ready: Value = serde_json::from_str(&ready).unwrap();
    let client = client(&file_with(&file("ca.pem"), |_| true).await);
    let url = format!("https://{}/", ready["sts"].as_str().unwrap());
    let token = CLUSTER.token(SUBJECT).unwrap();
    let exchange = async || {
        let request = client.post(&url).form(&Ask::oidc(&token).0);
        Reply::of(request.send().await.unwrap()).await
    };
    assert_eq!(
        exchange().await.refusal().1,
        "AuthenticationFail.NoPermission"
    );

    replace(&file("trust.yaml"), trust_file(SUBJECT)).unwrap();
    let granted = tokio::time::timeout(PATIENCE, async {
        loop {
            let reply = exchange().await;
            if reply.status == 200 {
                return Keys::of(&reply.credentials());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let keys = granted.await.expect("the new trust file is read");
    // A broken file changes nothing.
    replace(&file("trust.yaml"), "roles: 7").unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(exchange().await.status, 200);
    let path = format!(
        "{}/latest/meta-data/region-id",
        ready["metadataUrl"].as_str().unwrap()
    );
    assert_eq!(
        client.get(path).send().await.unwrap().status(),
        403,
        "hardened, as configured"
    );
    terminated(child).await;

    let calls = file_with(&file("calls.jsonl"), |_| true).await;
    let calls: Vec<Value> = calls
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(calls[0]["outcome"], "AuthenticationFail.NoPermission");
    assert_eq!(calls.last().unwrap()["service"], "metadata");
    let secrets = file_with(&file("secrets"), |_| true).await;
    for secret in [&token, &keys.secret, keys.token.as_ref().unwrap()] {
        assert!(secrets.lines().any(|line| line == secret));
        assert!(!format!("{calls:?}").contains(secret.as_str()));
    }
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(file("secrets")).unwrap());
    assert_eq!(mode & 0o777, 0o600);
}
