//! A certificate authority of our own, and the server certificates that it signs. Pure but for
//! randomness.
//!
//! The authority lives in one Secret that all replicas share: `tls.crt` and `tls.key` are the
//! certificate and key that sign, `ca.crt` is the bundle of all authorities that clients must
//! trust, which during a rotation are two. Server certificates never leave the memory of the
//! replica that uses them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PublicKeyData,
};
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::secret::SecretText;

/// Life of an authority. Long, because nothing rotates it yet.
pub const AUTHORITY_LIFE: Duration = Duration::from_hours(10 * 365 * 24);
/// Life of a server certificate.
pub const LEAF_LIFE: Duration = Duration::from_hours(7 * 24);
/// How far certificates reach back, for clocks that run behind.
const SKEW: Duration = Duration::from_hours(1);
/// Name of the authority in its certificate.
const AUTHORITY_NAME: &str = "rrsa webhook authority";

/// The keys of the Secret.
pub mod keys {
    /// Certificate that signs.
    pub const CERTIFICATE: &str = "tls.crt";
    /// Its private key.
    pub const KEY: &str = "tls.key";
    /// All certificates that clients must trust.
    pub const BUNDLE: &str = "ca.crt";
}

/// The content of the Secret.
pub type SecretData = BTreeMap<String, Vec<u8>>;

/// Why there is no authority or certificate.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The Secret's content is not what we write.
    #[error("{0}")]
    Malformed(String),
    /// The authority's own time is over.
    #[error("its certificate ended at {0}")]
    Expired(DateTime<Utc>),
    /// A name that no certificate can carry, or a fault of the library.
    #[error("no certificate can be made: {0}")]
    Issue(String),
}

/// An authority.
#[derive(Debug)]
pub struct Authority {
    certificate: String,
    key: SecretText,
    bundle: String,
    issuer: Issuer<'static, KeyPair>,
    not_after: DateTime<Utc>,
}

/// A server certificate with its key.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// What TLS needs.
    pub certified_key: Arc<CertifiedKey>,
    /// When it was made, for the decision about its renewal.
    pub issued: DateTime<Utc>,
    /// When it ends.
    pub not_after: DateTime<Utc>,
}

impl Leaf {
    /// Whether a new one is due: after two thirds of its life, or when the clock stands before
    /// its beginning.
    #[must_use]
    pub fn is_due(&self, now: DateTime<Utc>) -> bool {
        let life = self.not_after - self.issued;
        now >= self.issued + life * 2 / 3 || now < self.issued - SKEW
    }
}

impl Authority {
    /// Makes a new one.
    ///
    /// # Errors
    /// [`AuthorityError::Issue`].
    pub fn generate(now: DateTime<Utc>) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).map_err(issue)?;
        let mut params = params(now, now + AUTHORITY_LIFE);
        params
            .distinguished_name
            .push(DnType::CommonName, AUTHORITY_NAME);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(issue)?.pem();
        Ok(Self {
            bundle: certificate.clone(),
            certificate,
            key: SecretText::new(key.serialize_pem()),
            issuer: Issuer::new(params, key),
            not_after: now + AUTHORITY_LIFE,
        })
    }

    /// Reads one from the content of its Secret.
    ///
    /// # Errors
    /// [`AuthorityError::Malformed`] says which key is wrong; key material is never quoted.
    pub fn from_secret(data: &SecretData) -> Result<Self, AuthorityError> {
        let text = |key: &str| {
            let bytes = data.get(key).ok_or_else(|| malformed(key, "is missing"))?;
            String::from_utf8(bytes.clone()).map_err(|_| malformed(key, "is not text"))
        };
        let (certificate, key) = (text(keys::CERTIFICATE)?, SecretText::new(text(keys::KEY)?));
        let bundle = text(keys::BUNDLE)?;
        let der = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|_| malformed(keys::CERTIFICATE, "is not a PEM certificate"))?;
        let (_, parsed) = X509Certificate::from_der(&der)
            .map_err(|_| malformed(keys::CERTIFICATE, "is not an X.509 certificate"))?;
        if !parsed.is_ca() {
            return Err(malformed(
                keys::CERTIFICATE,
                "is not the certificate of an authority",
            ));
        }
        let key_pair = KeyPair::from_pem(key.expose())
            .map_err(|_| malformed(keys::KEY, "is not a PEM private key"))?;
        if key_pair.subject_public_key_info() != parsed.public_key().raw {
            return Err(malformed(
                keys::KEY,
                "does not belong to the certificate in tls.crt",
            ));
        }
        let trusted = CertificateDer::pem_slice_iter(bundle.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| malformed(keys::BUNDLE, "is not a list of PEM certificates"))?;
        if !trusted.contains(&der) {
            return Err(malformed(
                keys::BUNDLE,
                "does not hold the certificate in tls.crt",
            ));
        }
        let not_after = DateTime::from_timestamp(parsed.validity().not_after.timestamp(), 0)
            .ok_or_else(|| malformed(keys::CERTIFICATE, "has no sensible end"))?;
        let issuer = Issuer::from_ca_cert_der(&der, key_pair).map_err(issue)?;
        Ok(Self {
            certificate,
            key,
            bundle,
            issuer,
            not_after,
        })
    }

    /// The content of its Secret.
    #[must_use]
    pub fn to_secret(&self) -> SecretData {
        [
            (keys::CERTIFICATE, self.certificate.as_str()),
            (keys::KEY, self.key.expose()),
            (keys::BUNDLE, self.bundle.as_str()),
        ]
        .map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()))
        .into()
    }

    /// What clients must trust, as PEM.
    #[must_use]
    pub fn bundle(&self) -> &str {
        &self.bundle
    }

    /// Makes a server certificate for these names (DNS names or addresses), which does not
    /// outlive the authority.
    ///
    /// # Errors
    /// [`AuthorityError::Expired`] when there is nothing to outlive, else
    /// [`AuthorityError::Issue`].
    pub fn issue(&self, names: &[String], now: DateTime<Utc>) -> Result<Leaf, AuthorityError> {
        if now >= self.not_after {
            return Err(AuthorityError::Expired(self.not_after));
        }
        let not_after = self.not_after.min(now + LEAF_LIFE);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(issue)?;
        let mut params = params(now, not_after);
        params.subject_alt_names = CertificateParams::new(names)
            .map_err(issue)?
            .subject_alt_names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).map_err(issue)?;
        let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(issue)?;
        let certified_key = CertifiedKey::from_der(
            vec![certificate.der().clone()],
            private,
            &aws_lc_rs::default_provider(),
        )
        .map_err(issue)?;
        Ok(Leaf {
            certified_key: Arc::new(certified_key),
            issued: now,
            not_after,
        })
    }
}

fn params(now: DateTime<Utc>, not_after: DateTime<Utc>) -> CertificateParams {
    // The certificate library counts time in a type of its own, which is reached from a date.
    let at = |moment: DateTime<Utc>| {
        let since_1970 = u64::try_from(moment.timestamp()).unwrap_or_default();
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(since_1970)
    };
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_before = at(now - SKEW);
    params.not_after = at(not_after);
    params
}

fn malformed(key: &str, problem: &str) -> AuthorityError {
    AuthorityError::Malformed(format!("{key} {problem}"))
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn issue(error: impl ToString) -> AuthorityError {
    AuthorityError::Issue(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn now() -> DateTime<Utc> {
        "2026-05-01T00:00:00Z".parse().unwrap()
    }

    fn names() -> Vec<String> {
        vec!["webhook.rrsa-system.svc".to_owned(), "127.0.0.1".to_owned()]
    }

    #[test]
    fn an_authority_survives_its_secret() {
        let made = Authority::generate(now()).unwrap();
        let read = Authority::from_secret(&made.to_secret()).unwrap();
        assert_eq!(read.to_secret(), made.to_secret());
        assert_eq!(read.not_after, now() + AUTHORITY_LIFE);
        read.issue(&names(), now()).unwrap();
    }

    #[test]
    fn a_leaf_names_its_server_and_is_signed_by_the_authority() {
        let authority = Authority::generate(now()).unwrap();
        let leaf = authority.issue(&names(), now()).unwrap();
        let der = leaf.certified_key.end_entity_cert().unwrap();
        let (_, parsed) = X509Certificate::from_der(der).unwrap();
        let root = CertificateDer::from_pem_slice(authority.bundle().as_bytes()).unwrap();
        let (_, root) = X509Certificate::from_der(&root).unwrap();
        parsed.verify_signature(Some(root.public_key())).unwrap();
        assert!(!parsed.is_ca());
        let alternatives = parsed.subject_alternative_name().unwrap().unwrap();
        assert_eq!(alternatives.value.general_names.len(), 2);
    }

    #[rstest]
    #[case::nothing_there("tls.crt", None, "tls.crt is missing")]
    #[case::half_written("tls.key", None, "tls.key is missing")]
    #[case::no_bundle("ca.crt", None, "ca.crt is missing")]
    #[case::no_certificate("tls.crt", Some("hello"), "tls.crt is not a PEM certificate")]
    #[case::no_key("tls.key", Some("hello"), "tls.key is not a PEM private key")]
    #[case::no_list("ca.crt", Some("hello"), "ca.crt does not hold the certificate")]
    fn a_secret_that_is_not_ours_is_refused_by_key(
        #[case] key: &str,
        #[case] value: Option<&str>,
        #[case] problem: &str,
    ) {
        let mut data = Authority::generate(now()).unwrap().to_secret();
        match value {
            Some(value) => data.insert(key.to_owned(), value.into()),
            None => data.remove(key),
        };
        let error = Authority::from_secret(&data).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }

    #[test]
    fn a_key_of_another_authority_is_refused() {
        let mut data = Authority::generate(now()).unwrap().to_secret();
        let other = Authority::generate(now()).unwrap().to_secret();
        data.insert(keys::KEY.to_owned(), other[keys::KEY].clone());
        let error = Authority::from_secret(&data).unwrap_err().to_string();
        assert!(error.contains("does not belong"), "{error}");
    }

    #[test]
    fn a_server_certificate_is_no_authority() {
        let authority = Authority::generate(now()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = params(now(), now() + LEAF_LIFE)
            .signed_by(&key, &authority.issuer)
            .unwrap();
        let mut data = authority.to_secret();
        data.insert(keys::CERTIFICATE.to_owned(), leaf.pem().into_bytes());
        let error = Authority::from_secret(&data).unwrap_err().to_string();
        assert!(
            error.contains("not the certificate of an authority"),
            "{error}"
        );
    }

    #[test]
    fn a_bundle_of_two_is_kept_for_rotation() {
        let made = Authority::generate(now()).unwrap();
        let next = Authority::generate(now()).unwrap();
        let mut data = made.to_secret();
        let both = format!("{}{}", next.bundle(), made.bundle());
        data.insert(keys::BUNDLE.to_owned(), both.clone().into_bytes());
        assert_eq!(Authority::from_secret(&data).unwrap().bundle(), both);
    }

    #[test]
    fn no_leaf_outlives_its_authority() {
        let authority = Authority::generate(now()).unwrap();
        let late = now() + AUTHORITY_LIFE - LEAF_LIFE / 2;
        assert_eq!(
            authority.issue(&names(), late).unwrap().not_after,
            authority.not_after
        );
        let error = authority
            .issue(&names(), now() + AUTHORITY_LIFE)
            .unwrap_err();
        assert!(matches!(error, AuthorityError::Expired(_)));
    }

    #[rstest]
    #[case::fresh(0, false)]
    #[case::early(4 * 24, false)]
    #[case::two_thirds(7 * 24 * 2 / 3, true)]
    #[case::over(8 * 24, true)]
    #[case::slow_clock(-1, false)]
    #[case::clock_set_back(-24, true)]
    fn renewal_is_due_by_the_wall_clock(#[case] hours: i64, #[case] due: bool) {
        let leaf = Authority::generate(now())
            .unwrap()
            .issue(&names(), now())
            .unwrap();
        assert_eq!(leaf.is_due(now() + chrono::TimeDelta::hours(hours)), due);
    }

    #[test]
    fn debug_shows_no_key() {
        let authority = Authority::generate(now()).unwrap();
        assert!(!format!("{authority:?}").contains("PRIVATE"));
    }
}
