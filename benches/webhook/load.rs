//! The API server's half: reviews over TLS, each connection one after another.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use axum::body::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long one review may take before the run is given up.
const ANSWER: Duration = Duration::from_secs(30);

/// Where reviews go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) path: &'static str,
}

/// One connection, of HTTP/1.1 as API servers open them.
pub(crate) struct Caller {
    sender: http1::SendRequest<Full<Bytes>>,
    target: Target,
}

impl Caller {
    pub(crate) async fn connect(target: Target) -> Result<Self> {
        let stream = TokioIo::new(connect(target.address).await?);
        let (sender, connection) = http1::handshake(stream).await?;
        tokio::spawn(connection);
        Ok(Self { sender, target })
    }

    /// Sends a review and returns the body of the answer.
    pub(crate) async fn review(&mut self, body: Bytes) -> Result<Bytes> {
        let Target { address, path } = self.target;
        let request = hyper::Request::post(format!("https://{address}{path}"))
            .header("content-type", "application/json")
            .header("host", address.to_string())
            .body(Full::new(body))?;
        let exchange = async {
            self.sender.ready().await?;
            let answer = self.sender.send_request(request).await?;
            let status = answer.status();
            let body = answer.into_body().collect().await?.to_bytes();
            ensure!(
                status.is_success(),
                "{status}: {}",
                String::from_utf8_lossy(&body[..body.len().min(300)])
            );
            Ok(body)
        };
        tokio::time::timeout(ANSWER, exchange)
            .await
            .context("no answer")?
    }
}

/// Whether an answer holds a patch.
pub(crate) fn injected(answer: &[u8]) -> bool {
    answer.windows(9).any(|window| window == b"\"patch\":\"")
}

/// What a run of load did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) reviews: u64,
    /// Sorted.
    pub(crate) latencies: Vec<Duration>,
}

/// Sends the review on so many connections, on each one after another, for that long.
pub(crate) async fn run(
    target: Target,
    connections: usize,
    span: Duration,
    body: &Bytes,
) -> Result<Done> {
    let mut callers = Vec::new();
    for _ in 0..connections {
        let mut caller = Caller::connect(target).await?;
        let answer = caller.review(body.clone()).await?;
        if !injected(&answer) {
            bail!("not injected: {}", String::from_utf8_lossy(&answer));
        }
        callers.push(caller);
    }
    let end = Instant::now() + span;
    let mut tasks = tokio::task::JoinSet::new();
    for mut caller in callers {
        let body = body.clone();
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            loop {
                let sent = Instant::now();
                if sent >= end {
                    return anyhow::Ok(latencies);
                }
                caller.review(body.clone()).await?;
                latencies.push(sent.elapsed());
            }
        });
    }
    let mut latencies = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        latencies.extend(ended??);
    }
    latencies.sort_unstable();
    Ok(Done {
        reviews: latencies.len() as u64,
        latencies,
    })
}

async fn connect(address: SocketAddr) -> Result<TlsStream<TcpStream>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::from(address.ip());
    let connector = TlsConnector::from(Arc::new(config));
    Ok(connector.connect(name, stream).await?)
}

/// Trusts every server: what is measured is what serving costs.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
