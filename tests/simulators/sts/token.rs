//! Verification of an OIDC token, the strict way. Order: form of the JWT, issuer, state of the
//! issuer's keys, signature, times, audience. The issuer comes before the signature because it
//! says whose keys to use; nothing else of a token counts before its signature holds.

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use super::refusal::Refusal;
use crate::simulators::config::Provider;

/// What a token says.
#[derive(Clone, Debug)]
pub(crate) struct Claims {
    /// `iss`.
    pub(crate) issuer: String,
    /// `sub`.
    pub(crate) subject: String,
    /// `aud`.
    pub(crate) audiences: Vec<String>,
    /// `iat`.
    pub(crate) issued: DateTime<Utc>,
    /// `exp`.
    pub(crate) expires: DateTime<Utc>,
    /// `nbf`.
    pub(crate) not_before: Option<DateTime<Utc>>,
}

/// A JWT taken apart, not yet believed.
struct Token<'a> {
    algorithm: Algorithm,
    kid: String,
    claims: Claims,
    signed: &'a str,
    signature: &'a str,
}

#[derive(Deserialize)]
struct WrittenHeader {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

#[derive(Deserialize)]
struct WrittenClaims {
    iss: String,
    sub: String,
    aud: Audience,
    iat: i64,
    exp: i64,
    nbf: Option<i64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

/// Verifies `token` against `provider`, whose keys are read now.
pub(crate) async fn verify(
    token: &str,
    provider: &Provider,
    now: DateTime<Utc>,
) -> Result<Claims, Refusal> {
    let token = Token::parse(token).map_err(Refusal::token_invalid)?;
    if token.claims.issuer != provider.issuer {
        return Err(Refusal::issuer());
    }
    if provider.fingerprint_mismatch {
        return Err(Refusal::fingerprint());
    }
    let broken = || Refusal::issuer_broken(&provider.issuer);
    if provider.broken {
        return Err(broken());
    }
    let keys = public_keys(provider).await.map_err(|_| broken())?;
    token
        .check_signature(&keys)
        .map_err(Refusal::token_invalid)?;
    token.claims.check_times(now)?;
    if !token
        .claims
        .audiences
        .iter()
        .any(|audience| provider.client_ids.contains(audience))
    {
        return Err(Refusal::audience());
    }
    Ok(token.claims)
}

async fn public_keys(provider: &Provider) -> Result<KeySet> {
    let text = tokio::fs::read(&provider.jwks_file)
        .await
        .context("read the key set")?;
    serde_json::from_slice(&text).context("parse the key set")
}

impl<'a> Token<'a> {
    fn parse(token: &'a str) -> Result<Self, &'static str> {
        let (signed, signature) = token.rsplit_once('.').ok_or("it has no signature")?;
        let (header, payload) = signed.split_once('.').ok_or("it has no payload")?;
        let header: WrittenHeader = part(header).ok_or("its header is malformed")?;
        let claims: WrittenClaims = part(payload).ok_or("its payload is malformed")?;
        let algorithm = match header.alg.as_str() {
            "RS256" => Algorithm::RS256,
            "ES256" => Algorithm::ES256,
            // Above all not `none`, and not an HMAC keyed with what everyone may read.
            _ => return Err("its algorithm is not supported"),
        };
        if header
            .typ
            .is_some_and(|kind| !kind.eq_ignore_ascii_case("JWT"))
        {
            return Err("its type is not JWT");
        }
        if header.crit.is_some() {
            return Err("it has critical extensions");
        }
        let kid = header.kid.ok_or("it names no key")?;
        Ok(Self {
            algorithm,
            kid,
            claims: Claims::read(claims)?,
            signed,
            signature,
        })
    }

    fn check_signature(&self, keys: &KeySet) -> Result<(), &'static str> {
        let named = |key: &&Value| key.get("kid").and_then(Value::as_str) == Some(&self.kid);
        let key = keys.keys.iter().find(named).ok_or("its key is unknown")?;
        let (algorithm, kind) = match self.algorithm {
            Algorithm::ES256 => ("ES256", "EC"),
            _ => ("RS256", "RSA"),
        };
        let says = |member: &str, expected: &str| {
            key.get(member)
                .is_none_or(|value| value.as_str() == Some(expected))
        };
        if !(says("kty", kind) && says("alg", algorithm) && says("use", "sig")) {
            return Err("its key is for another purpose");
        }
        let key = Jwk::deserialize(key).map_err(|_| "its key is unreadable")?;
        let key = DecodingKey::from_jwk(&key).map_err(|_| "its key is unreadable")?;
        match jsonwebtoken::crypto::verify(
            self.signature,
            self.signed.as_bytes(),
            &key,
            self.algorithm,
        ) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err("its signature does not hold"),
        }
    }
}

fn part<T: serde::de::DeserializeOwned>(encoded: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()
}

impl Claims {
    fn read(claims: WrittenClaims) -> Result<Self, &'static str> {
        let time = |seconds| DateTime::from_timestamp(seconds, 0).ok_or("its times are malformed");
        if claims.sub.is_empty() {
            return Err("it has no subject");
        }
        Ok(Self {
            issuer: claims.iss,
            subject: claims.sub,
            audiences: match claims.aud {
                Audience::One(audience) => vec![audience],
                Audience::Many(audiences) => audiences,
            },
            issued: time(claims.iat)?,
            expires: time(claims.exp)?,
            not_before: claims.nbf.map(time).transpose()?,
        })
    }

    /// Without any leeway, so that a client that depends on some is found out.
    fn check_times(&self, now: DateTime<Utc>) -> Result<(), Refusal> {
        if self.expires <= now {
            return Err(Refusal::token_expired());
        }
        if self.not_before.is_some_and(|start| now < start) {
            return Err(Refusal::token_invalid("it is not yet valid"));
        }
        Ok(())
    }
}
