//! The servers that are measured, as processes beside one API server.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use axum::body::Bytes;
use serde_json::json;

use crate::load::{self, Caller, Target};
use crate::support::kubernetes::{Cluster, Process};

/// Where our webhook lives.
const NAMESPACE: &str = "rrsa-system";
/// Namespace and ServiceAccount of the pods in `reviews/`.
pub(crate) const BENCH: &str = "bench";
/// Annotations by which each of the webhooks knows what to inject.
pub(crate) const ANNOTATIONS: [(&str, &str); 3] = [
    ("pod-identity.alibabacloud.com/role-name", "app"),
    (
        "eks.amazonaws.com/role-arn",
        "arn:aws:iam::123456789012:role/app",
    ),
    (
        "azure.workload.identity/client-id",
        "01234567-89ab-cdef-0123-456789abcdef",
    ),
];
/// Longest wait for a server to inject; listing 50,000 objects on a busy machine included.
const READY: Duration = Duration::from_mins(3);
/// Longest wait for a server to end.
const END: Duration = Duration::from_secs(40);
/// The port that azure's webhook always takes.
const AZURE_PORT: u16 = 9443;

/// A review as the API server sent it.
#[derive(Debug, Clone)]
pub(crate) struct Review {
    pub(crate) containers: usize,
    pub(crate) body: Bytes,
}

/// The reviews in `reviews/`.
pub(crate) fn reviews() -> Result<Vec<Review>> {
    let folder = reviews_folder();
    [1, 10, 100]
        .into_iter()
        .map(|containers| {
            let path = folder.join(format!("{containers}.json"));
            let body = std::fs::read(&path).with_context(|| path.display().to_string())?;
            Ok(Review {
                containers,
                body: body.into(),
            })
        })
        .collect()
}

pub(crate) fn reviews_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/webhook/reviews")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ours,
    Floor,
    Aws,
    Azure,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Ours, Self::Floor, Self::Aws, Self::Azure];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ours => "rrsa",
            Self::Floor => "floor",
            Self::Aws => "aws",
            Self::Azure => "azure",
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Azure => "/mutate-v1-pod",
            _ => "/mutate",
        }
    }
}

/// A running server.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) process: Process,
    pub(crate) target: Target,
    pub(crate) started: Instant,
}

/// Everything that the servers need.
pub(crate) struct Stage<'a> {
    pub(crate) cluster: &'a Cluster,
    rrsa: PathBuf,
    neighbours: Option<PathBuf>,
    folder: PathBuf,
    kubeconfig: PathBuf,
}

impl<'a> Stage<'a> {
    /// Makes files and objects, and learns from our webhook what the floor shall answer.
    pub(crate) async fn set(
        cluster: &'a Cluster,
        rrsa: PathBuf,
        neighbours: Option<PathBuf>,
    ) -> Result<Self> {
        for file in [
            "deploy/namespace.yaml",
            "crds/alibabarolebindings.yaml",
            "deploy/webhook.yaml",
            "deploy/webhook-configuration.yaml",
        ] {
            let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(file);
            cluster.apply_yaml(&std::fs::read_to_string(path)?).await?;
        }
        let annotations = serde_json::Map::from_iter(
            ANNOTATIONS.map(|(key, value)| (key.to_owned(), json!(value))),
        );
        let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": BENCH,
                "labels": {"pod-identity.alibabacloud.com/injection": "on"}}},
            {"apiVersion": "v1", "kind": "ServiceAccount",
                "metadata": {"name": "app", "namespace": BENCH, "annotations": annotations}},
        ]});
        cluster.apply_yaml(&objects.to_string()).await?;
        let folder = cluster.state_dir().join("figures");
        std::fs::create_dir_all(folder.join("answers"))?;
        let names = vec!["127.0.0.1".to_owned()];
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let certificate = rcgen::CertificateParams::new(names)?.self_signed(&key)?;
        std::fs::write(folder.join("tls.crt"), certificate.pem())?;
        std::fs::write(folder.join("tls.key"), key.serialize_pem())?;
        std::fs::write(
            folder.join("config.yaml"),
            "accountId: '1234567890123456'\n\
             oidcProviderArn: acs:ram::1234567890123456:oidc-provider/ack-rrsa-c0bench\n\
             region: cn-hangzhou\n",
        )?;
        let stage = Self {
            cluster,
            rrsa,
            neighbours,
            folder,
            kubeconfig: cluster
                .kubeconfig_for_service_account(NAMESPACE, "rrsa-webhook", Duration::from_hours(4))
                .await?,
        };
        stage.learn_answers().await?;
        Ok(stage)
    }

    async fn learn_answers(&self) -> Result<()> {
        let ours = self.start(Kind::Ours).await?;
        for review in reviews()? {
            let mut caller = Caller::connect(ours.target).await?;
            let answer = caller.review(review.body.clone()).await?;
            ensure!(load::injected(&answer), "ours does not inject");
            let name = format!("answers/{}.json", review.body.len());
            std::fs::write(self.folder.join(name), answer)?;
        }
        Ok(())
    }

    /// The servers that there are.
    pub(crate) fn kinds(&self) -> Vec<Kind> {
        let there = |kind: &Kind| match kind {
            Kind::Ours | Kind::Floor => true,
            Kind::Aws | Kind::Azure => self.neighbour(*kind).is_some(),
        };
        Kind::ALL.into_iter().filter(there).collect()
    }

    fn neighbour(&self, kind: Kind) -> Option<PathBuf> {
        let program = format!("{}-webhook", kind.name());
        let path = self.neighbours.as_ref()?.join(program);
        path.exists().then_some(path)
    }

    /// Starts a server and waits until it injects.
    pub(crate) async fn start(&self, kind: Kind) -> Result<Server> {
        let server = self.spawn(kind)?;
        server.first_injected().await?;
        Ok(server)
    }

    /// Starts a server.
    pub(crate) fn spawn(&self, kind: Kind) -> Result<Server> {
        let port = match kind {
            Kind::Azure => AZURE_PORT,
            _ => free_port()?,
        };
        let address: SocketAddr = ([127, 0, 0, 1], port).into();
        let mut command = match kind {
            Kind::Ours => self.ours(address),
            Kind::Floor => floor(address)?,
            Kind::Aws => self.aws(port)?,
            Kind::Azure => self.azure()?,
        };
        command.current_dir(&self.folder);
        let started = Instant::now();
        let process = self.cluster.spawn(kind.name(), &command)?;
        Ok(Server {
            kind,
            process,
            target: Target {
                address,
                path: kind.path(),
            },
            started,
        })
    }

    fn ours(&self, address: SocketAddr) -> Command {
        let mut command = Command::new(&self.rrsa);
        command
            .args([
                "webhook",
                "--namespace",
                NAMESPACE,
                "--server-name=127.0.0.1",
            ])
            .arg(format!("--listen={address}"))
            .arg("--admin-listen=127.0.0.1:0")
            .args(["--drain-delay=0", "--config=config.yaml"])
            .env("KUBECONFIG", &self.kubeconfig);
        command
    }

    fn aws(&self, port: u16) -> Result<Command> {
        let mut command = Command::new(self.neighbour(Kind::Aws).context("no aws-webhook")?);
        command
            .args([
                "--in-cluster=false",
                "--tls-cert=tls.crt",
                "--tls-key=tls.key",
            ])
            .arg(format!("--port={port}"))
            .arg(format!("--metrics-port={}", free_port()?))
            .arg(format!(
                "--kubeconfig={}",
                self.cluster.admin_kubeconfig().display()
            ));
        Ok(command)
    }

    fn azure(&self) -> Result<Command> {
        let mut command = Command::new(self.neighbour(Kind::Azure).context("no azure-webhook")?);
        command
            .args([
                "--disable-cert-rotation",
                "--webhook-cert-dir=.",
                "--metrics-addr=0",
            ])
            .arg(format!("--health-addr=127.0.0.1:{}", free_port()?))
            .env("AZURE_TENANT_ID", "01234567-89ab-cdef-0123-456789abcdef")
            .env("KUBECONFIG", self.cluster.admin_kubeconfig());
        Ok(command)
    }
}

fn floor(address: SocketAddr) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("floor")
        .arg(format!("--listen={address}"))
        .args(["--certificates=.", "--answers=answers"]);
    Ok(command)
}

/// How a server began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Beginning {
    /// From the start of the process to the first injected review.
    pub(crate) injected: Duration,
    /// For how long before that it let pods pass as they were.
    pub(crate) passed_by: Duration,
}

impl Server {
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Lets it end by itself: a program that is recorded (`deploy/profile.sh`) writes its record then.
    pub(crate) async fn end(self) -> Result<()> {
        self.process.terminate_and_wait(END).await?;
        Ok(())
    }

    /// Sends reviews on new connections until one is injected.
    pub(crate) async fn first_injected(&self) -> Result<Beginning> {
        let review = &reviews()?[0];
        let mut passed_since = None;
        loop {
            let asked = async {
                let mut caller = Caller::connect(self.target).await?;
                caller.review(review.body.clone()).await
            };
            let last = match asked.await {
                Ok(answer) if load::injected(&answer) => {
                    let now = Instant::now();
                    return Ok(Beginning {
                        injected: now - self.started,
                        passed_by: now - passed_since.unwrap_or(now),
                    });
                }
                Ok(answer) => {
                    passed_since.get_or_insert_with(Instant::now);
                    String::from_utf8_lossy(&answer).into_owned()
                }
                Err(error) => format!("{error:#}"),
            };
            self.process.ensure_running()?;
            if self.started.elapsed() > READY {
                bail!("{} does not inject: {last}", self.kind.name());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
