//! What the replicas share: the authority that signs, its successor while a rotation is under way,
//! and everything that clients must trust. Kept as the content of one Secret.
//!
//! | key | what it holds |
//! |---|---|
//! | `tls.crt`, `tls.key` | the authority that signs |
//! | `ca.crt` | all authorities that clients must trust |
//! | `next.crt`, `next.key` | the successor, from the moment it is trusted to the moment it signs |
//! | `rotation.json` | when which former authority is to be trusted no more |

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::authority::{Authority, Flaw};
use crate::secret::SecretText;

/// The keys of the Secret.
pub mod keys {
    /// Certificate that signs.
    pub const CERTIFICATE: &str = "tls.crt";
    /// Its private key.
    pub const KEY: &str = "tls.key";
    /// All certificates that clients must trust.
    pub const BUNDLE: &str = "ca.crt";
    /// Certificate that will sign.
    pub const NEXT_CERTIFICATE: &str = "next.crt";
    /// Its private key.
    pub const NEXT_KEY: &str = "next.key";
    /// How far the rotation is.
    pub const ROTATION: &str = "rotation.json";
}

/// The content of the Secret.
pub type SecretData = BTreeMap<String, Vec<u8>>;

/// The Secret's content is not what we write: which key, and why. Nothing is quoted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} {problem}")]
pub struct Malformed {
    key: &'static str,
    problem: &'static str,
}

/// All authorities.
#[derive(Debug, Clone)]
pub struct Authorities {
    /// Signs.
    pub signing: Arc<Authority>,
    /// Is trusted already and will sign.
    pub next: Option<Arc<Authority>>,
    /// What clients must trust.
    pub trusted: Vec<Trusted>,
    /// The request for a rotation that was carried out last.
    pub answered: Option<String>,
}

/// An authority that clients must trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trusted {
    /// Its certificate in PEM.
    pub certificate: String,
    /// Its certificate.
    pub der: CertificateDer<'static>,
    /// When it ends by itself.
    pub not_after: DateTime<Utc>,
    /// From when on it is trusted no more; `None`: it still signs, or somebody added it by hand.
    pub until: Option<DateTime<Utc>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rotation {
    #[serde(skip_serializing_if = "Option::is_none")]
    answered: Option<String>,
    /// Until when former authorities are trusted, by the SHA-256 of their certificates.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    until: BTreeMap<String, String>,
}

impl Trusted {
    /// An authority that is to be trusted for as long as it signs, or until then.
    #[must_use]
    pub fn new(authority: &Authority, until: Option<DateTime<Utc>>) -> Self {
        Self {
            certificate: authority.certificate().to_owned(),
            der: authority.der().clone(),
            not_after: authority.not_after(),
            until,
        }
    }
}

impl Authorities {
    /// One alone.
    #[must_use]
    pub fn new(signing: Authority) -> Self {
        Self {
            trusted: vec![Trusted::new(&signing, None)],
            signing: Arc::new(signing),
            next: None,
            answered: None,
        }
    }

    /// Reads them from the content of their Secret.
    ///
    /// # Errors
    /// Which key is wrong.
    pub fn from_secret(data: &SecretData) -> Result<Self, Malformed> {
        let signing = authority(data, keys::CERTIFICATE, keys::KEY)?;
        let next = if data.contains_key(keys::NEXT_CERTIFICATE) || data.contains_key(keys::NEXT_KEY)
        {
            Some(authority(data, keys::NEXT_CERTIFICATE, keys::NEXT_KEY)?)
        } else {
            None
        };
        let rotation = match data.get(keys::ROTATION) {
            Some(bytes) => serde_json::from_slice(bytes)
                .map_err(|_| malformed(keys::ROTATION, "is not what rrsa writes"))?,
            None => Rotation::default(),
        };
        let trusted = trusted(&text(data, keys::BUNDLE)?, &rotation)?;
        let authorities = Self {
            signing: Arc::new(signing),
            next: next.map(Arc::new),
            trusted,
            answered: rotation.answered,
        };
        if !authorities.trusts(authorities.signing.der()) {
            let problem = "does not hold the certificate in tls.crt";
            return Err(malformed(keys::BUNDLE, problem));
        }
        Ok(authorities)
    }

    /// The content of their Secret.
    #[must_use]
    pub fn to_secret(&self) -> SecretData {
        let mut data = SecretData::new();
        let mut put = |key: &str, value: &str| data.insert(key.to_owned(), value.into());
        put(keys::CERTIFICATE, self.signing.certificate());
        put(keys::KEY, self.signing.key().expose());
        put(keys::BUNDLE, &self.bundle());
        if let Some(next) = &self.next {
            put(keys::NEXT_CERTIFICATE, next.certificate());
            put(keys::NEXT_KEY, next.key().expose());
        }
        let until = self.trusted.iter().filter_map(|trusted| {
            let until = trusted.until?;
            let until = until.to_rfc3339_opts(SecondsFormat::Secs, true);
            Some((fingerprint(&trusted.der), until))
        });
        let rotation = Rotation {
            answered: self.answered.clone(),
            until: until.collect(),
        };
        if rotation.answered.is_some() || !rotation.until.is_empty() {
            // Text and times can always be written.
            if let Ok(text) = serde_json::to_string(&rotation) {
                put(keys::ROTATION, &text);
            }
        }
        data
    }

    /// What clients must trust, as PEM.
    #[must_use]
    pub fn bundle(&self) -> String {
        self.trusted
            .iter()
            .map(|trusted| trusted.certificate.as_str())
            .collect()
    }

    /// Whether clients are told to trust that certificate.
    #[must_use]
    pub fn trusts(&self, der: &CertificateDer<'_>) -> bool {
        self.trusted.iter().any(|trusted| trusted.der == *der)
    }
}

fn authority(
    data: &SecretData,
    certificate: &'static str,
    key: &'static str,
) -> Result<Authority, Malformed> {
    let pem = text(data, certificate)?;
    Authority::from_pem(pem, SecretText::new(text(data, key)?)).map_err(|flaw| match flaw {
        Flaw::Certificate(problem) => malformed(certificate, problem),
        Flaw::Key(problem) => malformed(key, problem),
    })
}

fn text(data: &SecretData, key: &'static str) -> Result<String, Malformed> {
    let bytes = data.get(key).ok_or_else(|| malformed(key, "is missing"))?;
    String::from_utf8(bytes.clone()).map_err(|_| malformed(key, "is not text"))
}

/// Each certificate of a bundle with its own piece of the text, which stays as it was written.
fn trusted(bundle: &str, rotation: &Rotation) -> Result<Vec<Trusted>, Malformed> {
    const END: &str = "-----END CERTIFICATE-----";
    let no_list = || malformed(keys::BUNDLE, "is not a list of PEM certificates");
    let mut rest = bundle;
    let mut all = Vec::new();
    while !rest.trim().is_empty() {
        let end = rest.find(END).ok_or_else(no_list)? + END.len();
        let end = end + rest[end..].len() - rest[end..].trim_start_matches(['\r', '\n']).len();
        let (piece, after) = rest.split_at(end);
        rest = after;
        let der = CertificateDer::from_pem_slice(piece.as_bytes()).map_err(|_| no_list())?;
        let (_, parsed) = X509Certificate::from_der(&der).map_err(|_| no_list())?;
        let not_after = parsed.validity().not_after.timestamp();
        all.push(Trusted {
            certificate: piece.to_owned(),
            not_after: DateTime::from_timestamp(not_after, 0).ok_or_else(no_list)?,
            until: match rotation.until.get(&fingerprint(&der)) {
                Some(text) => Some(
                    text.parse()
                        .map_err(|_| malformed(keys::ROTATION, "is not what rrsa writes"))?,
                ),
                None => None,
            },
            der: der.into_owned(),
        });
    }
    Ok(all)
}

fn fingerprint(der: &CertificateDer<'_>) -> String {
    Sha256::digest(der)
        .iter()
        .fold(String::new(), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

const fn malformed(key: &'static str, problem: &'static str) -> Malformed {
    Malformed { key, problem }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::time::Duration;

    fn now() -> DateTime<Utc> {
        "2026-05-01T00:00:00Z".parse().unwrap()
    }

    fn made() -> Authority {
        Authority::generate(now(), Duration::from_hours(24)).unwrap()
    }

    #[test]
    fn authorities_survive_their_secret() {
        let mut made_now = Authorities::new(made());
        let data = made_now.to_secret();
        assert_eq!(Authorities::from_secret(&data).unwrap().to_secret(), data);
        assert_eq!(data.len(), 3, "no rotation, no word of it");

        let next = made();
        made_now.trusted.push(Trusted::new(&next, None));
        made_now.trusted[0].until = Some(now());
        made_now.next = Some(Arc::new(next));
        made_now.answered = Some("today".to_owned());
        let data = made_now.to_secret();
        let read = Authorities::from_secret(&data).unwrap();
        assert_eq!(read.to_secret(), data);
        assert_eq!(read.trusted, made_now.trusted);
        assert_eq!(read.answered, made_now.answered);
    }

    #[test]
    fn what_was_added_to_the_bundle_by_hand_is_kept() {
        let (one, other) = (Authorities::new(made()), made());
        let mut data = one.to_secret();
        let bundle = format!("{}\n\n{}", other.certificate(), one.bundle());
        data.insert(keys::BUNDLE.to_owned(), bundle.clone().into_bytes());
        assert_eq!(Authorities::from_secret(&data).unwrap().bundle(), bundle);
    }

    #[rstest]
    #[case::nothing_there("tls.crt", None, "tls.crt is missing")]
    #[case::half_written("tls.key", None, "tls.key is missing")]
    #[case::no_bundle("ca.crt", None, "ca.crt is missing")]
    #[case::no_certificate("tls.crt", Some("hello"), "tls.crt is not a PEM certificate")]
    #[case::no_key("tls.key", Some("hello"), "tls.key is not a PEM private key")]
    #[case::no_list("ca.crt", Some("hello"), "ca.crt is not a list")]
    #[case::empty_list("ca.crt", Some(""), "ca.crt does not hold the certificate")]
    #[case::half_a_successor("next.key", Some("hello"), "next.crt is missing")]
    #[case::odd_rotation("rotation.json", Some("{"), "rotation.json is not what rrsa writes")]
    fn a_secret_that_is_not_ours_is_refused_by_key(
        #[case] key: &str,
        #[case] value: Option<&str>,
        #[case] problem: &str,
    ) {
        let mut data = Authorities::new(made()).to_secret();
        match value {
            Some(value) => data.insert(key.to_owned(), value.into()),
            None => data.remove(key),
        };
        let error = Authorities::from_secret(&data).unwrap_err().to_string();
        assert!(error.starts_with(problem), "{error}");
    }

    #[rstest]
    #[case::key(keys::KEY, "tls.key does not belong to its certificate")]
    #[case::certificate(keys::CERTIFICATE, "tls.key does not belong to its certificate")]
    #[case::bundle(keys::BUNDLE, "ca.crt does not hold the certificate in tls.crt")]
    fn halves_of_two_authorities_are_refused(#[case] key: &str, #[case] problem: &str) {
        let mut data = Authorities::new(made()).to_secret();
        let other = Authorities::new(made()).to_secret();
        data.insert(key.to_owned(), other[key].clone());
        let error = Authorities::from_secret(&data).unwrap_err().to_string();
        assert_eq!(error, problem);
    }
}
