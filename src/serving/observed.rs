//! What the clients of a server are known to trust, as whoever registers it sees it.
//!
//! A certificate may rely on an authority only when each client has had the time to learn of it.
//! What is registered is a fact that can be looked at; when the clients have heard of it is not, so
//! it counts since when it has been seen registered.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Observed(Arc<Mutex<State>>);

#[derive(Debug, Default)]
enum State {
    /// No client is known that could be disappointed.
    #[default]
    NoClient,
    /// There may be clients, and nothing has been seen of what they trust.
    Unknown,
    /// What all of them trust, and since when that has been seen.
    Trusted(Vec<(CertificateDer<'static>, DateTime<Utc>)>),
}

impl Observed {
    /// Nobody calls: nothing is registered, or it is somebody else's.
    pub fn no_client(&self) {
        *self.lock() = State::NoClient;
    }

    /// What is registered cannot be seen.
    pub fn unknown(&self) {
        *self.lock() = State::Unknown;
    }

    /// These bundles (PEM) are registered now; each client trusts one of them.
    pub fn registered<'a>(&self, bundles: impl Iterator<Item = &'a [u8]>, now: DateTime<Utc>) {
        let certificates = |bundle: &'a [u8]| -> Vec<CertificateDer<'static>> {
            CertificateDer::pem_slice_iter(bundle)
                .flatten()
                .map(CertificateDer::into_owned)
                .collect()
        };
        let mut common: Option<Vec<CertificateDer<'static>>> = None;
        for bundle in bundles {
            let these = certificates(bundle);
            common = Some(match common {
                Some(all) => all.into_iter().filter(|der| these.contains(der)).collect(),
                None => these,
            });
        }
        let mut state = self.lock();
        let Some(common) = common else {
            *state = State::NoClient;
            return;
        };
        let since = |der: &CertificateDer<'static>| match &*state {
            State::Trusted(known) => known
                .iter()
                .find(|(known, since)| known == der && *since <= now)
                .map_or(now, |(_, since)| *since),
            State::NoClient | State::Unknown => now,
        };
        let trusted = common
            .into_iter()
            .map(|der| {
                let since = since(&der);
                (der, since)
            })
            .collect();
        *state = State::Trusted(trusted);
    }

    /// Since when all clients are seen to trust the certificate; `Some(None)`: there are none.
    #[must_use]
    pub fn since(&self, der: &CertificateDer<'_>) -> Option<Option<DateTime<Utc>>> {
        match &*self.lock() {
            State::NoClient => Some(None),
            State::Unknown => None,
            State::Trusted(known) => known
                .iter()
                .find(|(known, _)| known == der)
                .map(|(_, since)| Some(*since)),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serving::authority::Authority;
    use std::time::Duration;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    #[test]
    fn trusted_is_what_every_entry_trusts_since_it_was_first_seen() {
        let make = || Authority::generate(at(0), Duration::from_hours(1)).unwrap();
        let (one, other) = (make(), make());
        let both = format!("{}{}", one.certificate(), other.certificate());
        let (both, only) = (both.as_bytes(), one.certificate().as_bytes());
        let observed = Observed::default();
        assert_eq!(observed.since(one.der()), Some(None));
        observed.unknown();
        assert_eq!(observed.since(one.der()), None);
        observed.registered([both, only].into_iter(), at(1));
        assert_eq!(observed.since(one.der()), Some(Some(at(1))));
        assert_eq!(observed.since(other.der()), None);
        observed.registered([both, both].into_iter(), at(2));
        assert_eq!(observed.since(one.der()), Some(Some(at(1))));
        assert_eq!(observed.since(other.der()), Some(Some(at(2))));
        // Emptied and mended: it counts anew. Nor does a time from the future count.
        observed.registered([both, b"".as_slice()].into_iter(), at(3));
        observed.registered([both, both].into_iter(), at(4));
        assert_eq!(observed.since(one.der()), Some(Some(at(4))));
        observed.registered([both].into_iter(), at(-100));
        assert_eq!(observed.since(one.der()), Some(Some(at(-100))));
        observed.registered(std::iter::empty(), at(5));
        assert_eq!(observed.since(one.der()), Some(None));
    }
}
