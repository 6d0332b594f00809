//! A cluster's token issuer for tests that have no cluster: a key pair, its JSON Web Key Set, and
//! ServiceAccount tokens of any content. Clusters sign with RS256; ES256 is what some others use.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, Utc};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::KeyPair;
use serde_json::{Value, json};

use super::{clock, random};

/// Length of what PKCS#8 puts before the PKCS#1 key of a 2048 bit RSA pair: version, algorithm,
/// and the head of the octet string.
const PKCS8_PREFIX: usize = 26;

/// An issuer with one key.
pub(crate) struct TokenIssuer {
    url: String,
    kid: String,
    algorithm: Algorithm,
    key: EncodingKey,
}

impl TokenIssuer {
    /// With a new RSA key, as clusters have.
    pub(crate) fn rs256(url: &str) -> Result<Self> {
        let pair = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).context("make an RSA key")?;
        let pkcs8 = pair.serialize_der();
        // The JWT library wants the bare PKCS#1 key.
        let (prefix, pkcs1) = pkcs8
            .split_at_checked(PKCS8_PREFIX)
            .context("split the RSA key")?;
        ensure!(
            prefix.get(22..24) == Some(&[0x04, 0x82]),
            "the RSA key has an unknown form"
        );
        Ok(Self::new(
            url,
            Algorithm::RS256,
            EncodingKey::from_rsa_der(pkcs1),
        ))
    }

    /// With a new P-256 key.
    pub(crate) fn es256(url: &str) -> Result<Self> {
        let pair = KeyPair::generate().context("make an EC key")?;
        Ok(Self::new(
            url,
            Algorithm::ES256,
            EncodingKey::from_ec_der(&pair.serialize_der()),
        ))
    }

    fn new(url: &str, algorithm: Algorithm, key: EncodingKey) -> Self {
        Self {
            url: url.to_owned(),
            kid: random::alphanumeric(22),
            algorithm,
            key,
        }
    }

    /// The issuer URL.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The key id.
    pub(crate) fn kid(&self) -> &str {
        &self.kid
    }

    /// The public key as a JSON Web Key Set, as `/openid/v1/jwks` shows it.
    pub(crate) fn jwks(&self) -> Result<Value> {
        let key = Jwk::from_encoding_key(&self.key, self.algorithm).context("derive the JWK")?;
        let mut key = serde_json::to_value(key).context("write the JWK")?;
        key["use"] = "sig".into();
        key["kid"] = self.kid.as_str().into();
        Ok(json!({"keys": [key]}))
    }

    /// Writes the key set where a provider of the trust file reads it.
    pub(crate) fn write_jwks(&self, file: &Path) -> Result<()> {
        std::fs::write(file, self.jwks()?.to_string())
            .with_context(|| format!("write the JWKS to {}", file.display()))
    }

    /// Claims of a ServiceAccount token for STS that ends at `expiration`.
    pub(crate) fn claims(&self, subject: &str, expiration: DateTime<Utc>) -> Value {
        let now = clock::now().timestamp();
        json!({
            "iss": self.url,
            "sub": subject,
            "aud": ["sts.aliyuncs.com"],
            "iat": now,
            "nbf": now,
            "exp": expiration.timestamp(),
        })
    }

    /// A good token for STS, good for ten minutes.
    pub(crate) fn token(&self, subject: &str) -> Result<String> {
        self.sign(&self.claims(subject, clock::now() + chrono::TimeDelta::minutes(10)))
    }

    /// A token with these claims.
    pub(crate) fn sign(&self, claims: &Value) -> Result<String> {
        self.sign_as(Some(&self.kid), claims)
    }

    /// A token with these claims and this key id in its header.
    pub(crate) fn sign_as(&self, kid: Option<&str>, claims: &Value) -> Result<String> {
        let mut header = Header::new(self.algorithm);
        header.kid = kid.map(str::to_owned);
        jsonwebtoken::encode(&header, claims, &self.key).context("sign a token")
    }
}
