//! Keeps a server certificate valid: follows the authorities that the replicas share, makes them
//! when there are none, takes the steps of a rotation, and renews the own certificate in time, by
//! the wall clock.

use std::fmt::Debug;
use std::sync::Arc;

use tokio::sync::{Mutex, watch};

use super::authorities::{Authorities, Malformed, SecretData};
use super::authority::{Authority, AuthorityError, Leaf};
use super::expiry::Expiries;
use super::observed::Observed;
use super::readiness::Condition;
use super::rotation::{self, Circumstances, Step, Times};
use super::tls::CertificateSlot;
use crate::world::{BoxFuture, Clock};

/// Where the authorities are kept.
pub trait AuthorityStore: Debug + Send + Sync {
    /// Its name, for messages.
    fn name(&self) -> String;

    /// What is there; `None`: nothing.
    fn load(&self) -> BoxFuture<'_, Result<Option<Stored>, StoreError>>;

    /// Puts it there if nothing is; `false`: somebody was faster.
    fn create(&self, data: SecretData) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Replaces what was loaded; `false`: it is not there any more as it was.
    fn replace(&self, loaded: Stored, data: SecretData) -> BoxFuture<'_, Result<bool, StoreError>>;
}

/// What a store holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The content.
    pub data: SecretData,
    /// What has to be the same for it to be replaced.
    pub version: String,
    /// What asks for a rotation: each new value makes one.
    pub request: Option<String>,
}

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(pub String);

/// Why there is no fresh authority.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The store cannot be used.
    #[error("{name} cannot be read or written: {cause}")]
    Store {
        /// Name of the store.
        name: String,
        /// What it says.
        cause: StoreError,
    },
    /// What is stored cannot be read. It is somebody's, so it is not overwritten.
    #[error("{name}: {cause}; mend it, or delete it and it is made anew")]
    Malformed {
        /// Name of the store.
        name: String,
        /// What is wrong.
        cause: Malformed,
    },
    /// No certificate can be made.
    #[error("{name}: {cause}")]
    Authority {
        /// Name of the store.
        name: String,
        /// What is wrong.
        cause: AuthorityError,
    },
}

/// Keeps the certificate of one server.
#[derive(Debug)]
pub struct Keeper {
    store: Arc<dyn AuthorityStore>,
    names: Vec<String>,
    clock: Arc<dyn Clock>,
    times: Times,
    observed: Observed,
    slot: Arc<CertificateSlot>,
    bundle: watch::Sender<String>,
    expiries: Expiries,
    held: Mutex<Option<Held>>,
}

#[derive(Debug)]
struct Held {
    data: SecretData,
    authorities: Authorities,
    served: Option<Served>,
}

/// The certificate that is served, and who signed it.
#[derive(Debug)]
struct Served {
    authority: Arc<Authority>,
    leaf: Leaf,
}

impl Keeper {
    /// A keeper of a certificate for these names (DNS names or addresses).
    #[must_use]
    pub fn new(
        store: Arc<dyn AuthorityStore>,
        names: Vec<String>,
        clock: Arc<dyn Clock>,
        times: Times,
    ) -> Self {
        Self {
            store,
            names,
            clock,
            times,
            observed: Observed::default(),
            slot: Arc::default(),
            bundle: watch::Sender::default(),
            expiries: Expiries::default(),
            held: Mutex::default(),
        }
    }

    /// Where the certificate is.
    #[must_use]
    pub fn slot(&self) -> Arc<CertificateSlot> {
        Arc::clone(&self.slot)
    }

    /// When the certificates end.
    #[must_use]
    pub fn expiries(&self) -> Expiries {
        self.expiries.clone()
    }

    /// What clients must trust, as PEM; empty until it is known.
    #[must_use]
    pub fn bundle(&self) -> watch::Receiver<String> {
        self.bundle.subscribe()
    }

    /// Where to tell what clients do trust.
    #[must_use]
    pub fn observed(&self) -> Observed {
        self.observed.clone()
    }

    /// Follows the store, takes the step of a rotation that is due, and renews the certificate if
    /// that is due. When the store fails, the certificate is still renewed by the authority that
    /// was known last.
    ///
    /// # Errors
    /// See [`KeeperError`]; the certificate stays as it was.
    pub async fn refresh(&self) -> Result<(), KeeperError> {
        let mut held = self.held.lock().await;
        let followed = self.follow(&mut held).await;
        if let Some(held) = held.as_mut() {
            let signing = held.authorities.signing.not_after();
            self.expiries.authority(signing);
            self.serve(held)?;
            self.bundle.send_if_modified(|bundle| {
                let now = held.authorities.bundle();
                let changed = *bundle != now;
                *bundle = now;
                changed
            });
        }
        followed
    }

    /// Refreshes for ever and tells `condition` how it goes.
    pub async fn run(&self, condition: Condition) {
        loop {
            match self.refresh().await {
                Ok(()) => condition.ready(),
                Err(error) => self.report(&condition, &error).await,
            }
            tokio::time::sleep(self.times.interval()).await;
        }
    }

    /// A certificate that is still valid serves on, whatever became of the store.
    async fn report(&self, condition: &Condition, error: &KeeperError) {
        let now = self.clock.now();
        let held = self.held.lock().await;
        let served = held.as_ref().and_then(|held| held.served.as_ref());
        if served.is_some_and(|served| now < served.leaf.not_after) {
            tracing::warn!(%error, "the certificate authorities cannot be followed");
            condition.ready();
        } else {
            condition.not_ready(error.to_string());
        }
    }

    async fn follow(&self, held: &mut Option<Held>) -> Result<(), KeeperError> {
        let stored = self.load_or_create(held.as_ref()).await?;
        if held.as_ref().is_none_or(|held| held.data != stored.data) {
            let authorities = Authorities::from_secret(&stored.data).map_err(|cause| {
                let name = self.store.name();
                KeeperError::Malformed { name, cause }
            })?;
            take(held, &stored.data, authorities);
        }
        let Some(current) = held.as_ref() else {
            return Ok(());
        };
        let request = stored.request.as_deref();
        let step = self
            .advance(current, request)
            .map_err(|cause| self.unusable(cause))?;
        if let Some((authorities, step)) = step {
            let data = authorities.to_secret();
            if self.replace(stored, &data, step).await? {
                take(held, &data, authorities);
            }
        }
        Ok(())
    }

    fn advance(
        &self,
        current: &Held,
        request: Option<&str>,
    ) -> Result<Option<(Authorities, Step)>, AuthorityError> {
        let circumstances = Circumstances {
            now: self.clock.now(),
            times: self.times,
            served: current.served.as_ref().map(|served| &*served.authority),
            request,
            propagated: &|authority| self.propagated(authority),
        };
        rotation::advance(&current.authorities, &circumstances)
    }

    async fn replace(
        &self,
        loaded: Stored,
        data: &SecretData,
        step: Step,
    ) -> Result<bool, KeeperError> {
        let replaced = self.store.replace(loaded, data.clone()).await;
        let replaced = replaced.map_err(|cause| self.failed(cause))?;
        if replaced {
            tracing::info!(name = self.store.name(), ?step, "certificate authorities");
        }
        // Otherwise another replica has taken the step, or the Secret was edited: look again.
        Ok(replaced)
    }

    /// What is stored; when nothing is, the authorities that are trusted already, or a new one.
    async fn load_or_create(&self, held: Option<&Held>) -> Result<Stored, KeeperError> {
        let failed = |cause| self.failed(cause);
        if let Some(stored) = self.store.load().await.map_err(failed)? {
            return Ok(stored);
        }
        let data = match held {
            Some(held) => held.data.clone(),
            None => Authority::generate(self.clock.now(), self.times.authority)
                .map(Authorities::new)
                .map_err(|cause| self.unusable(cause))?
                .to_secret(),
        };
        if self.store.create(data).await.map_err(failed)? {
            tracing::info!(name = self.store.name(), "certificate authority made");
        }
        let vanished = || {
            failed(StoreError(
                "it appears and vanishes; trying again".to_owned(),
            ))
        };
        self.store
            .load()
            .await
            .map_err(failed)?
            .ok_or_else(vanished)
    }

    /// Whether all clients have had the time to learn of the authority.
    fn propagated(&self, authority: &Authority) -> bool {
        let age = |since| self.clock.now() - since;
        self.observed.since(authority.der()).is_some_and(|since| {
            since.is_none_or(|since| {
                age(since)
                    .to_std()
                    .is_ok_and(|age| age >= self.times.propagation)
            })
        })
    }

    /// Renews the certificate where that is due, or takes one of the authority that signs now.
    fn serve(&self, held: &mut Held) -> Result<(), KeeperError> {
        let (now, signing) = (self.clock.now(), &held.authorities.signing);
        let signer = match &held.served {
            Some(served) if served.authority.der() == signing.der() => {
                if !served.leaf.is_due(now) {
                    return Ok(());
                }
                Arc::clone(signing)
            }
            Some(served)
                if now < served.leaf.not_after.min(served.authority.not_after())
                    && !(signing.is_valid(now) && self.propagated(signing)) =>
            {
                if !served.leaf.is_due(now) {
                    return Ok(());
                }
                Arc::clone(&served.authority)
            }
            _ => Arc::clone(signing),
        };
        let leaf = signer
            .issue(&self.names, now, self.times.leaf)
            .map_err(|cause| self.unusable(cause))?;
        self.slot.set(Arc::clone(&leaf.certified_key));
        self.expiries.server(leaf.not_after);
        tracing::info!(not_after = %leaf.not_after, "server certificate issued");
        held.served = Some(Served {
            authority: signer,
            leaf,
        });
        Ok(())
    }

    fn failed(&self, cause: StoreError) -> KeeperError {
        let name = self.store.name();
        KeeperError::Store { name, cause }
    }

    fn unusable(&self, cause: AuthorityError) -> KeeperError {
        KeeperError::Authority {
            name: self.store.name(),
            cause,
        }
    }
}

/// Holds these authorities from now on; what is served stays.
fn take(held: &mut Option<Held>, data: &SecretData, authorities: Authorities) {
    let served = held.take().and_then(|held| held.served);
    *held = Some(Held {
        data: data.clone(),
        authorities,
        served,
    });
}

#[cfg(test)]
mod tests;
