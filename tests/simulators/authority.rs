//! The certificate authority of the STS simulator: made anew at each start, trusted by nobody
//! who was not handed its PEM.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// Names of the server certificate: loopback, and the real hosts for clients whose resolver is
/// steered here.
const NAMES: [&str; 6] = [
    "localhost",
    "127.0.0.1",
    "::1",
    "*.aliyuncs.com",
    "*.cn-hangzhou.aliyuncs.com",
    "*.cn-beijing.aliyuncs.com",
];

/// A certificate authority and what it signed for the simulator.
pub(crate) struct Authority {
    ca_pem: String,
    server: Arc<ServerConfig>,
}

impl Authority {
    /// Makes an authority and a server certificate.
    pub(crate) fn new() -> Result<Self> {
        let (ca_pem, server) = signed_server().context("make the STS simulator's certificates")?;
        Ok(Self { ca_pem, server })
    }

    /// The authority's certificate, for clients.
    pub(crate) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// TLS settings of the server.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn signed_server() -> Result<(String, Arc<ServerConfig>)> {
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.distinguished_name = named("rrsa STS simulator CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_key = KeyPair::generate()?;
    let ca_pem = ca.self_signed(&ca_key)?.pem();
    let issuer = Issuer::new(ca, ca_key);

    let mut server = CertificateParams::new(NAMES.map(String::from).to_vec())?;
    server.distinguished_name = named("rrsa STS simulator");
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Newer OpenSSL, and so Python, refuses a chain without it.
    server.use_authority_key_identifier_extension = true;
    let server_key = KeyPair::generate()?;
    let certificate = server.signed_by(&server_key, &issuer)?;

    // The provider is named, not taken from the process, so that no test depends on another one
    // having installed it.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(server_key.serialize_der())),
        )?;
    // One request at a time on a connection keeps "this connection was reset" a clear statement.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((ca_pem, Arc::new(config)))
}
