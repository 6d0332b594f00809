//! A server certificate from mounted files, such as cert-manager's: for installations that bring
//! their own. Nothing is made, nothing is registered.
//!
//! The files are read again and again and compared by content, because a projected volume swaps a
//! symbolic link and no file of it ever changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::Mutex;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use super::expiry::Expiries;
use super::readiness::Condition;
use super::tls::CertificateSlot;
use crate::world::{Clock, Files};

/// Longest file; a chain of a few certificates is far below.
const MAX_FILE: usize = 256 * 1024;
/// How often the files are looked at.
const INTERVAL: std::time::Duration = std::time::Duration::from_secs(15);
/// How far the clock of whoever signed may be ahead of ours.
const SKEW: TimeDelta = TimeDelta::minutes(5);

/// Why the files are no certificate. Names the file, never its content.
#[derive(Debug, thiserror::Error)]
#[error("{} {problem}; the certificate in use stays", path.display())]
pub struct MountedError {
    path: PathBuf,
    problem: String,
}

/// Keeps the certificate of one server as two files have it.
#[derive(Debug)]
pub struct Mounted {
    certificate: PathBuf,
    key: PathBuf,
    files: Arc<dyn Files>,
    clock: Arc<dyn Clock>,
    slot: Arc<CertificateSlot>,
    expiries: Expiries,
    held: Mutex<Option<Held>>,
}

#[derive(Debug)]
struct Held {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    validity: Validity,
}

/// From when until when a certificate is valid.
#[derive(Debug, Clone, Copy)]
struct Validity {
    not_before: DateTime<Utc>,
    not_after: DateTime<Utc>,
}

impl Validity {
    fn of(certificate: &X509Certificate<'_>) -> Option<Self> {
        let validity = certificate.validity();
        Some(Self {
            not_before: DateTime::from_timestamp(validity.not_before.timestamp(), 0)?,
            not_after: DateTime::from_timestamp(validity.not_after.timestamp(), 0)?,
        })
    }

    /// What is wrong with it now, if anything is.
    fn fault(&self, now: DateTime<Utc>) -> Option<String> {
        if self.not_after <= now {
            return Some(format!("ended at {}; renew it", self.not_after));
        }
        let begins = self.not_before;
        (now + SKEW < begins).then(|| format!("is valid from {begins} on; check it and the clock"))
    }
}

impl Mounted {
    /// The certificate (with its chain) and the key of these files, in PEM.
    #[must_use]
    pub fn new(
        certificate: PathBuf,
        key: PathBuf,
        files: Arc<dyn Files>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            certificate,
            key,
            files,
            clock,
            slot: Arc::default(),
            expiries: Expiries::default(),
            held: Mutex::default(),
        }
    }

    /// Where the certificate is.
    #[must_use]
    pub fn slot(&self) -> Arc<CertificateSlot> {
        Arc::clone(&self.slot)
    }

    /// When the certificate ends.
    #[must_use]
    pub fn expiries(&self) -> Expiries {
        self.expiries.clone()
    }

    /// Takes over what the files hold now, if that is another certificate with its key, and none
    /// that is not valid while the one before still is.
    ///
    /// # Errors
    /// When it is not; the certificate stays as it was.
    pub async fn refresh(&self) -> Result<(), MountedError> {
        let (certificate, key) = (
            self.read(&self.certificate)?,
            Zeroizing::new(self.read(&self.key)?),
        );
        let mut held = self.held.lock().await;
        if held
            .as_ref()
            .is_some_and(|held| held.certificate == certificate && held.key == key)
        {
            return Ok(());
        }
        let wrong = |path: &Path, problem: &str| MountedError {
            path: path.to_owned(),
            problem: problem.to_owned(),
        };
        let of_certificate = |problem| wrong(&self.certificate, problem);
        let chain = CertificateDer::pem_slice_iter(&certificate)
            .map(|der| der.map(CertificateDer::into_owned))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| of_certificate("holds no PEM certificates"))?;
        let first = chain
            .first()
            .ok_or_else(|| of_certificate("holds no PEM certificate"))?;
        let (_, parsed) = X509Certificate::from_der(first)
            .map_err(|_| of_certificate("holds no X.509 certificate"))?;
        let validity =
            Validity::of(&parsed).ok_or_else(|| of_certificate("has no sensible validity"))?;
        let private = PrivateKeyDer::from_pem_slice(&key)
            .map_err(|_| wrong(&self.key, "holds no PEM private key"))?;
        let provider = aws_lc_rs::default_provider();
        // Refuses a key of another certificate: the two files are read one after another.
        let certified_key = CertifiedKey::from_der(chain, private, &provider)
            .map_err(|_| wrong(&self.key, "does not belong to the certificate"))?;
        let now = self.clock.now();
        if let Some(fault) = validity.fault(now)
            && held
                .as_ref()
                .is_some_and(|held| held.validity.fault(now).is_none())
        {
            return Err(of_certificate(&fault));
        }
        let not_after = validity.not_after;
        self.slot.set(Arc::new(certified_key));
        self.expiries.server(not_after);
        tracing::info!(%not_after, path = %self.certificate.display(), "server certificate read");
        *held = Some(Held {
            certificate,
            key,
            validity,
        });
        Ok(())
    }

    /// Refreshes for ever and tells `condition` how it goes.
    pub async fn run(&self, condition: Condition) {
        loop {
            let outcome = self.refresh().await;
            self.report(&condition, outcome).await;
            tokio::time::sleep(INTERVAL).await;
        }
    }

    async fn report(&self, condition: &Condition, outcome: Result<(), MountedError>) {
        let now = self.clock.now();
        let held = self.held.lock().await;
        let fault = held.as_ref().map(|held| held.validity.fault(now));
        match (outcome, fault) {
            (Ok(()), Some(Some(fault))) => {
                condition.not_ready(format!("{} {fault}", self.certificate.display()));
            }
            (Ok(()), _) => condition.ready(),
            (Err(error), Some(None)) => {
                tracing::warn!(%error, "the mounted certificate is not taken over");
            }
            (Err(error), _) => condition.not_ready(error.to_string()),
        }
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, MountedError> {
        self.files
            .read(path, MAX_FILE)
            .map_err(|error| MountedError {
                path: path.to_owned(),
                problem: format!("cannot be read: {error}"),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serving::readiness::Readiness;
    use crate::world::{SystemClock, SystemFiles};
    use rcgen::{CertificateParams, KeyPair};
    use rstest::rstest;
    use std::time::Duration;

    /// A certificate and its key in PEM that ends in so many seconds.
    fn pair(seconds: i64) -> (String, String) {
        pair_of(-36_000, seconds)
    }

    /// One that is valid from then, and until then, in so many seconds.
    fn pair_of(from: i64, until: i64) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let at = |seconds: i64| {
            let time = SystemClock.now().timestamp() + seconds;
            rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(time.unsigned_abs())
        };
        (params.not_before, params.not_after) = (at(from), at(until));
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn write(folder: &Path, (certificate, key): &(String, String)) {
        std::fs::write(folder.join("tls.crt"), certificate).unwrap();
        std::fs::write(folder.join("tls.key"), key).unwrap();
    }

    fn mounted(folder: &Path) -> Mounted {
        Mounted::new(
            folder.join("tls.crt"),
            folder.join("tls.key"),
            Arc::new(SystemFiles),
            Arc::new(SystemClock),
        )
    }

    async fn look(mounted: &Mounted, condition: &Condition) {
        let outcome = mounted.refresh().await;
        mounted.report(condition, outcome).await;
    }

    #[tokio::test]
    async fn a_renewed_certificate_is_taken_over_through_the_symbolic_link() {
        let folder = tempfile::tempdir().unwrap();
        for (version, seconds) in [("one", 3600), ("two", 7200)] {
            let versioned = folder.path().join(version);
            std::fs::create_dir(&versioned).unwrap();
            write(&versioned, &pair(seconds));
        }
        // As the kubelet does it: `tls.crt` is a link into `..data`, which is a link itself.
        let data = folder.path().join("..data");
        for file in ["tls.crt", "tls.key"] {
            std::os::unix::fs::symlink(Path::new("..data").join(file), folder.path().join(file))
                .unwrap();
        }
        std::os::unix::fs::symlink("one", &data).unwrap();
        let (mounted, readiness) = (mounted(folder.path()), Readiness::new());
        let condition = readiness.condition("certificate", "not read yet");
        look(&mounted, &condition).await;
        assert!(readiness.report().is_ready());
        let end = || async {
            let held = mounted.held.lock().await;
            held.as_ref().unwrap().validity.not_after
        };
        let first = end().await;
        std::fs::remove_file(&data).unwrap();
        std::os::unix::fs::symlink("two", &data).unwrap();
        look(&mounted, &condition).await;
        assert!(end().await > first);
    }

    #[rstest]
    #[case::empty("", "", "tls.crt holds no PEM certificate")]
    #[case::no_certificate("hello", "hello", "tls.crt holds no PEM certificate")]
    #[case::no_key("", "hello", "tls.key holds no PEM private key")]
    #[tokio::test]
    async fn what_is_no_pair_is_refused_and_the_last_one_serves_on(
        #[case] certificate: &str,
        #[case] key: &str,
        #[case] problem: &str,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let good = pair(3600);
        let bad = match certificate {
            "" if key == "hello" => (good.0.clone(), key.to_owned()),
            _ => (certificate.to_owned(), key.to_owned()),
        };
        let (mounted, readiness) = (mounted(folder.path()), Readiness::new());
        let condition = readiness.condition("certificate", "not read yet");
        write(folder.path(), &bad);
        look(&mounted, &condition).await;
        let report = readiness.report().to_string();
        assert!(report.contains(problem), "{report}");
        write(folder.path(), &good);
        look(&mounted, &condition).await;
        assert!(readiness.report().is_ready());
        write(folder.path(), &bad);
        look(&mounted, &condition).await;
        assert!(readiness.report().is_ready(), "the last good one is valid");
    }

    #[tokio::test]
    async fn halves_of_two_pairs_and_missing_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mounted = mounted(folder.path());
        let error = mounted.refresh().await.unwrap_err().to_string();
        assert!(error.contains("tls.crt cannot be read"), "{error}");
        write(folder.path(), &(pair(3600).0, pair(3600).1));
        let error = mounted.refresh().await.unwrap_err().to_string();
        assert!(
            error.contains("does not belong to the certificate"),
            "{error}"
        );
    }

    #[rstest]
    #[case::ended(pair(-5), "renew it")]
    #[case::not_yet(pair_of(3600, 7200), "check it and the clock")]
    #[tokio::test]
    async fn a_certificate_that_is_not_valid_is_not_ready_and_replaces_none_that_is(
        #[case] invalid: (String, String),
        #[case] remedy: &str,
    ) {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &invalid);
        let (mounted, readiness) = (mounted(folder.path()), Readiness::new());
        let condition = readiness.condition("certificate", "not read yet");
        look(&mounted, &condition).await;
        assert!(readiness.report().to_string().contains(remedy));
        let good = pair(3600);
        write(folder.path(), &good);
        look(&mounted, &condition).await;
        assert!(readiness.report().is_ready());
        write(folder.path(), &invalid);
        let error = mounted.refresh().await.unwrap_err().to_string();
        assert!(
            error.contains("tls.crt") && error.contains(remedy),
            "{error}"
        );
        look(&mounted, &condition).await;
        assert!(readiness.report().is_ready(), "the valid one serves on");
        let held = mounted.held.lock().await;
        assert_eq!(held.as_ref().unwrap().certificate, good.0.as_bytes());
    }
}
