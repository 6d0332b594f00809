//! A certificate authority of our own, and the server certificates that it signs. Pure but for
//! randomness.
//!
//! Server certificates never leave the memory of the replica that uses them; how authorities are
//! kept is in [`super::authorities`].

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

/// How far certificates reach back, for clocks that run behind.
pub const SKEW: Duration = Duration::from_hours(1);
/// Name of the authority in its certificate.
const AUTHORITY_NAME: &str = "rrsa webhook authority";

/// Why there is no authority or certificate.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The authority's own time is over.
    #[error("its certificate ended at {0}")]
    Expired(DateTime<Utc>),
    /// A name that no certificate can carry, or a fault of the library.
    #[error("no certificate can be made: {0}")]
    Issue(String),
}

/// What is wrong with an authority in PEM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Its certificate.
    Certificate(&'static str),
    /// Its private key.
    Key(&'static str),
}

/// An authority.
#[derive(Debug)]
pub struct Authority {
    certificate: String,
    der: CertificateDer<'static>,
    key: SecretText,
    issuer: Issuer<'static, KeyPair>,
    not_before: DateTime<Utc>,
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
    pub fn generate(now: DateTime<Utc>, life: Duration) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).map_err(issue)?;
        let mut params = params(now, now + life);
        params
            .distinguished_name
            .push(DnType::CommonName, AUTHORITY_NAME);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(issue)?;
        Ok(Self {
            certificate: certificate.pem(),
            der: certificate.der().clone(),
            key: SecretText::new(key.serialize_pem()),
            issuer: Issuer::new(params, key),
            not_before: now - SKEW,
            not_after: now + life,
        })
    }

    /// Reads one from its certificate and key in PEM.
    ///
    /// # Errors
    /// What is wrong with which of the two; neither is quoted.
    pub fn from_pem(certificate: String, key: SecretText) -> Result<Self, Flaw> {
        let der = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|_| Flaw::Certificate("is not a PEM certificate"))?;
        let (_, parsed) = X509Certificate::from_der(&der)
            .map_err(|_| Flaw::Certificate("is not an X.509 certificate"))?;
        if !parsed.is_ca() {
            return Err(Flaw::Certificate("is not the certificate of an authority"));
        }
        let key_pair =
            KeyPair::from_pem(key.expose()).map_err(|_| Flaw::Key("is not a PEM private key"))?;
        if key_pair.subject_public_key_info() != parsed.public_key().raw {
            return Err(Flaw::Key("does not belong to its certificate"));
        }
        let time = |time: x509_parser::time::ASN1Time| {
            DateTime::from_timestamp(time.timestamp(), 0)
                .ok_or(Flaw::Certificate("has no sensible times"))
        };
        let (not_before, not_after) = (
            time(parsed.validity().not_before)?,
            time(parsed.validity().not_after)?,
        );
        let issuer = Issuer::from_ca_cert_der(&der, key_pair)
            .map_err(|_| Flaw::Certificate("cannot sign"))?;
        Ok(Self {
            certificate,
            der: der.into_owned(),
            key,
            issuer,
            not_before,
            not_after,
        })
    }

    /// Its certificate in PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Its certificate.
    #[must_use]
    pub const fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// Its key in PEM.
    #[must_use]
    pub const fn key(&self) -> &SecretText {
        &self.key
    }

    /// When it ends.
    #[must_use]
    pub const fn not_after(&self) -> DateTime<Utc> {
        self.not_after
    }

    /// Whether its time has begun and is not over.
    #[must_use]
    pub fn is_valid(&self, now: DateTime<Utc>) -> bool {
        self.not_before <= now && now < self.not_after
    }

    /// Whether a successor is due: after two thirds of its life, or when it was made by a clock
    /// that ran ahead.
    #[must_use]
    pub fn is_due(&self, now: DateTime<Utc>) -> bool {
        let life = self.not_after - self.not_before;
        now >= self.not_before + life * 2 / 3 || now < self.not_before
    }

    /// Makes a server certificate for these names (DNS names or addresses), which does not
    /// outlive the authority.
    ///
    /// # Errors
    /// [`AuthorityError::Expired`] when there is nothing to outlive, else
    /// [`AuthorityError::Issue`].
    pub fn issue(
        &self,
        names: &[String],
        now: DateTime<Utc>,
        life: Duration,
    ) -> Result<Leaf, AuthorityError> {
        if now >= self.not_after {
            return Err(AuthorityError::Expired(self.not_after));
        }
        let not_after = self.not_after.min(now + life);
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

#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn issue(error: impl ToString) -> AuthorityError {
    AuthorityError::Issue(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const YEAR: Duration = Duration::from_hours(365 * 24);
    const WEEK: Duration = Duration::from_hours(7 * 24);

    fn now() -> DateTime<Utc> {
        "2026-05-01T00:00:00Z".parse().unwrap()
    }

    fn names() -> Vec<String> {
        vec!["webhook.rrsa-system.svc".to_owned(), "127.0.0.1".to_owned()]
    }

    fn made() -> Authority {
        Authority::generate(now(), YEAR).unwrap()
    }

    #[test]
    fn an_authority_survives_pem() {
        let made = made();
        let read = Authority::from_pem(made.certificate().to_owned(), made.key().clone()).unwrap();
        assert_eq!(read.der(), made.der());
        assert_eq!(read.not_before, now() - SKEW);
        assert_eq!(read.not_after(), now() + YEAR);
        read.issue(&names(), now(), WEEK).unwrap();
    }

    #[test]
    fn a_leaf_names_its_server_and_is_signed_by_the_authority() {
        let authority = made();
        let leaf = authority.issue(&names(), now(), WEEK).unwrap();
        let der = leaf.certified_key.end_entity_cert().unwrap();
        let (_, parsed) = X509Certificate::from_der(der).unwrap();
        let (_, root) = X509Certificate::from_der(authority.der()).unwrap();
        parsed.verify_signature(Some(root.public_key())).unwrap();
        assert!(!parsed.is_ca());
        let alternatives = parsed.subject_alternative_name().unwrap().unwrap();
        assert_eq!(alternatives.value.general_names.len(), 2);
    }

    #[test]
    fn a_server_certificate_is_no_authority() {
        let key = KeyPair::generate().unwrap();
        let leaf = params(now(), now() + WEEK)
            .signed_by(&key, &made().issuer)
            .unwrap();
        let key = SecretText::new(key.serialize_pem());
        let flaw = Authority::from_pem(leaf.pem(), key).unwrap_err();
        assert_eq!(
            flaw,
            Flaw::Certificate("is not the certificate of an authority")
        );
    }

    #[test]
    fn a_key_of_another_authority_is_refused() {
        let (one, other) = (made(), made());
        let flaw = Authority::from_pem(one.certificate().to_owned(), other.key().clone());
        assert_eq!(
            flaw.unwrap_err(),
            Flaw::Key("does not belong to its certificate")
        );
    }

    #[test]
    fn no_leaf_outlives_its_authority() {
        let authority = made();
        let late = now() + YEAR - WEEK / 2;
        let leaf = authority.issue(&names(), late, WEEK).unwrap();
        assert_eq!(leaf.not_after, authority.not_after);
        let error = authority.issue(&names(), now() + YEAR, WEEK).unwrap_err();
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
        let leaf = made().issue(&names(), now(), WEEK).unwrap();
        assert_eq!(leaf.is_due(now() + chrono::TimeDelta::hours(hours)), due);
    }

    #[rstest]
    #[case::fresh(0, false)]
    #[case::half(182, false)]
    #[case::two_thirds(244, true)]
    #[case::made_by_a_clock_ahead(-2, true)]
    fn a_successor_is_due_by_the_wall_clock(#[case] days: i64, #[case] due: bool) {
        assert_eq!(made().is_due(now() + chrono::TimeDelta::days(days)), due);
    }

    #[test]
    fn debug_shows_no_key() {
        assert!(!format!("{:?}", made()).contains("PRIVATE"));
    }
}
