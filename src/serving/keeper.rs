//! Keeps a server certificate valid: follows the authority that the replicas share, makes it
//! when there is none, and renews the own certificate in time, by the wall clock.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};

use super::authority::{Authority, AuthorityError, Leaf, SecretData};
use super::readiness::Condition;
use super::tls::CertificateSlot;
use crate::world::{BoxFuture, Clock};

/// How often the store and the clock are looked at.
pub const INTERVAL: Duration = Duration::from_secs(15);

/// Where the authority is kept.
pub trait AuthorityStore: Debug + Send + Sync {
    /// Its name, for messages.
    fn name(&self) -> String;

    /// What is there; `None`: nothing.
    fn load(&self) -> BoxFuture<'_, Result<Option<SecretData>, StoreError>>;

    /// Puts it there if nothing is; `false`: somebody was faster.
    fn create(&self, data: SecretData) -> BoxFuture<'_, Result<bool, StoreError>>;
}

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(pub String);

/// Why there is no fresh authority.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The store cannot be used.
    #[error("{name} cannot be read or made: {cause}")]
    Store {
        /// Name of the store.
        name: String,
        /// What it says.
        cause: StoreError,
    },
    /// What is stored cannot be used. It is somebody's, so it is not overwritten.
    #[error("{name}: {cause}; mend it, or delete it and a new authority is made")]
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
    slot: Arc<CertificateSlot>,
    bundle: watch::Sender<String>,
    held: Mutex<Option<Held>>,
}

#[derive(Debug)]
struct Held {
    data: SecretData,
    authority: Authority,
    leaf: Leaf,
}

impl Keeper {
    /// A keeper of a certificate for these names (DNS names or addresses).
    #[must_use]
    pub fn new(store: Arc<dyn AuthorityStore>, names: Vec<String>, clock: Arc<dyn Clock>) -> Self {
        Self {
            store,
            names,
            clock,
            slot: Arc::default(),
            bundle: watch::Sender::default(),
            held: Mutex::default(),
        }
    }

    /// Where the certificate is.
    #[must_use]
    pub fn slot(&self) -> Arc<CertificateSlot> {
        Arc::clone(&self.slot)
    }

    /// What clients must trust, as PEM; empty until it is known.
    #[must_use]
    pub fn bundle(&self) -> watch::Receiver<String> {
        self.bundle.subscribe()
    }

    /// Follows the store and renews the certificate if that is due. When the store fails, the
    /// certificate is still renewed by the authority that was known last.
    ///
    /// # Errors
    /// See [`KeeperError`]; the certificate stays as it was.
    pub async fn refresh(&self) -> Result<(), KeeperError> {
        let mut held = self.held.lock().await;
        let followed = self.follow(&mut held).await;
        if let Some(held) = held.as_mut()
            && held.leaf.is_due(self.clock.now())
        {
            held.leaf = self.issue(&held.authority)?;
            self.slot.set(Arc::clone(&held.leaf.certified_key));
            tracing::info!(not_after = %held.leaf.not_after, "server certificate renewed");
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
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// A certificate that is still valid serves on, whatever became of the store.
    async fn report(&self, condition: &Condition, error: &KeeperError) {
        let now = self.clock.now();
        let valid = self
            .held
            .lock()
            .await
            .as_ref()
            .is_some_and(|held| now < held.leaf.not_after);
        if valid {
            tracing::warn!(%error, "the certificate authority cannot be followed");
        } else {
            condition.not_ready(error.to_string());
        }
    }

    async fn follow(&self, held: &mut Option<Held>) -> Result<(), KeeperError> {
        let data = self.load_or_create(held.as_ref()).await?;
        if held.as_ref().is_some_and(|held| held.data == data) {
            return Ok(());
        }
        let authority = Authority::from_secret(&data).map_err(|cause| self.unusable(cause))?;
        let leaf = self.issue(&authority)?;
        self.slot.set(Arc::clone(&leaf.certified_key));
        tracing::info!(not_after = %leaf.not_after, "server certificate issued");
        self.bundle.send_replace(authority.bundle().to_owned());
        *held = Some(Held {
            data,
            authority,
            leaf,
        });
        Ok(())
    }

    /// What is stored; when nothing is, the authority that is trusted already, or a new one.
    async fn load_or_create(&self, held: Option<&Held>) -> Result<SecretData, KeeperError> {
        let failed = |cause| KeeperError::Store {
            name: self.store.name(),
            cause,
        };
        if let Some(data) = self.store.load().await.map_err(failed)? {
            return Ok(data);
        }
        let data = match held {
            Some(held) => held.data.clone(),
            None => Authority::generate(self.clock.now())
                .map_err(|cause| self.unusable(cause))?
                .to_secret(),
        };
        if self.store.create(data.clone()).await.map_err(failed)? {
            tracing::info!(name = self.store.name(), "certificate authority made");
            return Ok(data);
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

    fn issue(&self, authority: &Authority) -> Result<Leaf, KeeperError> {
        authority
            .issue(&self.names, self.clock.now())
            .map_err(|cause| self.unusable(cause))
    }

    fn unusable(&self, cause: AuthorityError) -> KeeperError {
        KeeperError::Authority {
            name: self.store.name(),
            cause,
        }
    }
}
