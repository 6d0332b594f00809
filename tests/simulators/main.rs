//! Dev binary: serves the simulators of STS and of the ECS metadata service until it is told to
//! stop. For the demo and the benches; not part of the release.

#[path = "mod.rs"]
mod simulators;

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use serde_json::json;
use simulators::calls::CallLog;
use simulators::config::SimulatorConfig;
use simulators::issuance::Issuance;
use simulators::metadata::Metadata;
use simulators::sts::Sts;
use tokio::signal::unix::{SignalKind, signal};

/// How often the trust file is looked at and the output files are brought up to date.
const TICK: Duration = Duration::from_millis(200);

/// Simulators of Alibaba Cloud STS (HTTPS, own CA) and of the ECS metadata service (HTTP).
///
/// Serves until SIGTERM or SIGINT. Everything listens on loopback unless told otherwise.
#[derive(Parser)]
#[command(name = "simulators", after_long_help = HELP)]
struct Arguments {
    /// The trust file, YAML or JSON: providers, roles, access keys, limits, faults. Read again
    /// whenever its content changes; a broken change is reported and the old content kept
    #[arg(long, value_name = "FILE")]
    config: PathBuf,

    /// Where STS listens; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    sts_address: SocketAddr,

    /// Where the metadata service listens; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    metadata_address: SocketAddr,

    /// Writes the CA certificate that clients of STS must trust, as PEM
    #[arg(long, value_name = "FILE")]
    ca_out: Option<PathBuf>,

    /// Writes a JSON object with the addresses once both listen: sts, metadata, metadataUrl, pid
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,

    /// Appends each call as a line of JSON; tokens are replaced by a hash
    #[arg(long, value_name = "FILE")]
    calls_out: Option<PathBuf>,

    /// Appends each secret that was issued and each token that was seen, one a line, mode 0600:
    /// for searching logs for what must not be there
    #[arg(long, value_name = "FILE")]
    secrets_out: Option<PathBuf>,
}

const HELP: &str = "\
The trust file:
  providers:
    - arn: acs:ram::1234567890123456:oidc-provider/ack-rrsa-c1
      issuer: https://kubernetes.default.svc
      clientIds: [sts.aliyuncs.com]     # default
      jwksFile: jwks.json               # relative to this file
      broken: false
      fingerprintMismatch: false
  roles:
    - arn: acs:ram::1234567890123456:role/app
      maxSessionDuration: 1h            # default
      trust:
        - providerArn: acs:ram::1234567890123456:oidc-provider/ack-rrsa-c1
          subjects: {equals: [\"system:serviceaccount:team-a:app\"], like: []}
        - principal: acs:ram::1234567890123456:role/node
          externalId: shared-word
  accessKeys:
    - {id: LTAI1, secret: s3cret, principal: \"acs:ram::1234567890123456:user/admin\"}
  requestsPerSecond: 100
  burst: 1
  sessionLifetime: 20s                  # sessions end after this, whatever was asked for
  metadata: {role: node, hardened: false, accountId: \"1234567890123456\"}
  faults:
    - {action: AssumeRoleWithOIDC, effect: {type: delay, by: 200ms}}

Effects: error (status, code, message), delay (by), hang, reset, html, truncated, endless,
redirect (status, location), status (status), raw (status, contentType, body),
missingField (pointer), expirationInPast.";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // Before anything is announced, so that no signal is missed.
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;

    let mut text = read(&arguments.config).await?;
    let config = SimulatorConfig::parse(&text, &arguments.config)?;
    let sts = Sts::start_at(arguments.sts_address, config.clone())?;
    let metadata = Metadata::start_at(arguments.metadata_address, config.metadata, sts.issuance())?;
    let mut outputs = Outputs::open(&arguments, &sts, &metadata)?;
    if let Some(file) = &arguments.ca_out {
        write_whole(file, sts.ca_pem().as_bytes())?;
    }
    if let Some(file) = &arguments.ready_file {
        let ready = json!({
            "sts": sts.address().to_string(),
            "metadata": metadata.address().to_string(),
            "metadataUrl": metadata.url(),
            "pid": std::process::id(),
        });
        write_whole(file, ready.to_string().as_bytes())?;
    }

    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = tokio::time::sleep(TICK) => {}
        }
        if let Err(error) = reread(&arguments.config, &mut text, &sts, &metadata).await {
            writeln!(
                std::io::stderr(),
                "simulators: keep the old trust file: {error:#}"
            )?;
        }
        outputs.write()?;
    }
    sts.stop().await?;
    metadata.stop().await?;
    outputs.write()
}

async fn read(file: &Path) -> Result<String> {
    tokio::fs::read_to_string(file)
        .await
        .with_context(|| format!("read the trust file {}", file.display()))
}

async fn reread(file: &Path, old: &mut String, sts: &Sts, metadata: &Metadata) -> Result<()> {
    let text = read(file).await?;
    if text == *old {
        return Ok(());
    }
    // Also when it is broken, so that it is reported once.
    old.clone_from(&text);
    let config = SimulatorConfig::parse(&text, file)?;
    metadata.update(|live| live.clone_from(&config.metadata));
    sts.update(|live| *live = config);
    Ok(())
}

/// Writes a file so that a reader sees all of it or nothing.
fn write_whole(file: &Path, content: &[u8]) -> Result<()> {
    let mut partial = file.as_os_str().to_owned();
    partial.push(".partial");
    std::fs::write(&partial, content)
        .and_then(|()| std::fs::rename(&partial, file))
        .with_context(|| format!("write {}", file.display()))
}

/// The files that grow while it runs.
struct Outputs {
    calls: Option<std::fs::File>,
    secrets: Option<std::fs::File>,
    logs: [(CallLog, u64); 2],
    issuance: Issuance,
    known: std::collections::HashSet<String>,
}

impl Outputs {
    fn open(arguments: &Arguments, sts: &Sts, metadata: &Metadata) -> Result<Self> {
        let open = |file: &Option<PathBuf>, mode| {
            file.as_ref()
                .map(|file| {
                    std::fs::OpenOptions::new()
                        .create(true)
                        .append(true)
                        .mode(mode)
                        .open(file)
                        .with_context(|| format!("open {}", file.display()))
                })
                .transpose()
        };
        Ok(Self {
            calls: open(&arguments.calls_out, 0o644)?,
            secrets: open(&arguments.secrets_out, 0o600)?,
            logs: [(sts.calls(), 0), (metadata.calls(), 0)],
            issuance: sts.issuance(),
            known: std::collections::HashSet::new(),
        })
    }

    /// Appends what is new.
    fn write(&mut self) -> Result<()> {
        for (log, written) in &mut self.logs {
            let calls = log.after(*written);
            // Nobody else reads the log in this process; a long run must not grow for ever.
            log.clear_until(calls.last().map_or(0, |call| call.number));
            for call in calls {
                *written = call.number;
                if let Some(file) = &mut self.calls {
                    let line = serde_json::to_string(&call).context("write a call as JSON")?;
                    writeln!(file, "{line}").context("append to the file of calls")?;
                }
            }
        }
        if let Some(file) = &mut self.secrets
            && self.issuance.secret_count() > self.known.len()
        {
            for secret in self.issuance.secrets() {
                if self.known.insert(secret.clone()) {
                    writeln!(file, "{secret}").context("append to the file of secrets")?;
                }
            }
        }
        Ok(())
    }
}
