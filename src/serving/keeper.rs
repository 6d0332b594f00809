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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serving::readiness::Readiness;
    use chrono::{DateTime, Utc};
    use std::sync::Mutex as Lock;

    #[derive(Debug, Default)]
    struct Shelf {
        data: Lock<Option<SecretData>>,
        down: Lock<bool>,
    }

    impl AuthorityStore for Shelf {
        fn name(&self) -> String {
            "Secret rrsa-system/ca".to_owned()
        }

        fn load(&self) -> BoxFuture<'_, Result<Option<SecretData>, StoreError>> {
            Box::pin(async {
                if *self.down.lock().unwrap() {
                    return Err(StoreError("down".to_owned()));
                }
                let data = self.data.lock().unwrap().clone();
                // Room for another replica between looking and making.
                tokio::task::yield_now().await;
                Ok(data)
            })
        }

        fn create(&self, data: SecretData) -> BoxFuture<'_, Result<bool, StoreError>> {
            Box::pin(async {
                let mut stored = self.data.lock().unwrap();
                let free = stored.is_none();
                stored.get_or_insert(data);
                Ok(free)
            })
        }
    }

    #[derive(Debug)]
    struct SetClock(Lock<DateTime<Utc>>);

    impl Clock for SetClock {
        fn now(&self) -> DateTime<Utc> {
            *self.0.lock().unwrap()
        }
    }

    struct Rig {
        shelf: Arc<Shelf>,
        clock: Arc<SetClock>,
    }

    impl Rig {
        fn new() -> Self {
            let start = "2026-05-01T00:00:00Z".parse().unwrap();
            Self {
                shelf: Arc::default(),
                clock: Arc::new(SetClock(Lock::new(start))),
            }
        }

        fn replica(&self) -> Keeper {
            let (store, clock) = (Arc::clone(&self.shelf), Arc::clone(&self.clock));
            Keeper::new(store, vec!["webhook.rrsa-system.svc".to_owned()], clock)
        }
    }

    async fn certificate(keeper: &Keeper) -> Vec<u8> {
        let held = keeper.held.lock().await;
        let leaf = &held.as_ref().unwrap().leaf;
        leaf.certified_key.end_entity_cert().unwrap().to_vec()
    }

    #[tokio::test]
    async fn ten_replicas_on_an_empty_cluster_agree() {
        let rig = Rig::new();
        let replicas: Vec<_> = (0..10).map(|_| rig.replica()).collect();
        let refreshed = replicas.iter().map(Keeper::refresh);
        futures::future::try_join_all(refreshed).await.unwrap();
        let first = replicas[0].bundle().borrow().clone();
        assert!(!first.is_empty());
        assert!(
            replicas
                .iter()
                .all(|replica| *replica.bundle().borrow() == first)
        );
    }

    #[tokio::test]
    async fn a_leaf_is_renewed_in_time_and_not_before() {
        let (rig, day) = (Rig::new(), Duration::from_hours(24));
        let keeper = rig.replica();
        keeper.refresh().await.unwrap();
        let first = certificate(&keeper).await;
        *rig.clock.0.lock().unwrap() += 4 * day;
        keeper.refresh().await.unwrap();
        assert_eq!(certificate(&keeper).await, first);
        *rig.clock.0.lock().unwrap() += day;
        *rig.shelf.down.lock().unwrap() = true;
        assert!(keeper.refresh().await.is_err());
        assert_ne!(
            certificate(&keeper).await,
            first,
            "renewed though the store is down"
        );
    }

    #[tokio::test]
    async fn a_deleted_authority_comes_back_the_same() {
        let rig = Rig::new();
        let keeper = rig.replica();
        keeper.refresh().await.unwrap();
        let before = rig.shelf.data.lock().unwrap().take();
        keeper.refresh().await.unwrap();
        assert_eq!(*rig.shelf.data.lock().unwrap(), before);
    }

    #[tokio::test]
    async fn a_new_authority_is_followed() {
        let rig = Rig::new();
        let keeper = rig.replica();
        keeper.refresh().await.unwrap();
        let (first, trusted) = (certificate(&keeper).await, keeper.bundle().borrow().clone());
        let other = Authority::generate(rig.clock.now()).unwrap();
        *rig.shelf.data.lock().unwrap() = Some(other.to_secret());
        keeper.refresh().await.unwrap();
        assert_ne!(certificate(&keeper).await, first);
        assert_ne!(*keeper.bundle().borrow(), trusted);
        assert_eq!(*keeper.bundle().borrow(), other.bundle());
    }

    #[tokio::test]
    async fn a_broken_authority_is_named_kept_and_serves_on() {
        let rig = Rig::new();
        let keeper = rig.replica();
        keeper.refresh().await.unwrap();
        let first = certificate(&keeper).await;
        let broken = SecretData::from([("tls.crt".to_owned(), b"x".to_vec())]);
        *rig.shelf.data.lock().unwrap() = Some(broken.clone());
        let error = keeper.refresh().await.unwrap_err().to_string();
        assert!(
            error.contains("Secret rrsa-system/ca") && error.contains("delete it"),
            "{error}"
        );
        assert_eq!(certificate(&keeper).await, first);
        assert_eq!(
            *rig.shelf.data.lock().unwrap(),
            Some(broken),
            "never overwritten"
        );
    }

    #[tokio::test]
    async fn ready_means_that_there_is_a_valid_certificate() {
        let (rig, readiness) = (Rig::new(), Readiness::new());
        let keeper = rig.replica();
        let condition = readiness.condition("certificate", "not issued yet");
        let failed = || KeeperError::Store {
            name: "Secret".to_owned(),
            cause: StoreError("down".to_owned()),
        };
        keeper.report(&condition, &failed()).await;
        assert!(readiness.report().to_string().contains("down"));
        keeper.refresh().await.unwrap();
        condition.ready();
        keeper.report(&condition, &failed()).await;
        assert!(
            readiness.report().is_ready(),
            "a valid certificate serves on"
        );
        *rig.clock.0.lock().unwrap() += crate::serving::authority::LEAF_LIFE;
        keeper.report(&condition, &failed()).await;
        assert!(!readiness.report().is_ready());
    }
}
