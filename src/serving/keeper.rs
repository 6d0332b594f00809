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
mod tests {
    use super::*;
    use crate::serving::readiness::Readiness;
    use chrono::{DateTime, Utc};
    use std::sync::Mutex as Lock;
    use std::time::Duration;

    #[derive(Debug, Default)]
    struct Shelf {
        stored: Lock<Option<Stored>>,
        writes: Lock<u32>,
        down: Lock<bool>,
        read_only: Lock<bool>,
    }

    impl Shelf {
        fn put(&self, data: SecretData) {
            let mut writes = self.writes.lock().unwrap();
            *writes += 1;
            let mut stored = self.stored.lock().unwrap();
            let request = stored.take().and_then(|stored| stored.request);
            *stored = Some(Stored {
                data,
                version: writes.to_string(),
                request,
            });
        }

        fn data(&self) -> SecretData {
            self.stored.lock().unwrap().clone().unwrap().data
        }

        fn ask_for_rotation(&self, text: &str) {
            let mut stored = self.stored.lock().unwrap();
            stored.as_mut().unwrap().request = Some(text.to_owned());
        }
    }

    impl AuthorityStore for Shelf {
        fn name(&self) -> String {
            "Secret rrsa-system/ca".to_owned()
        }

        fn load(&self) -> BoxFuture<'_, Result<Option<Stored>, StoreError>> {
            Box::pin(async {
                if *self.down.lock().unwrap() {
                    return Err(StoreError("down".to_owned()));
                }
                let stored = self.stored.lock().unwrap().clone();
                // Room for another replica between looking and making.
                tokio::task::yield_now().await;
                Ok(stored)
            })
        }

        fn create(&self, data: SecretData) -> BoxFuture<'_, Result<bool, StoreError>> {
            Box::pin(async {
                let free = self.stored.lock().unwrap().is_none();
                if free {
                    self.put(data);
                }
                Ok(free)
            })
        }

        fn replace(
            &self,
            loaded: Stored,
            data: SecretData,
        ) -> BoxFuture<'_, Result<bool, StoreError>> {
            Box::pin(async move {
                if *self.read_only.lock().unwrap() {
                    return Err(StoreError("forbidden".to_owned()));
                }
                let current = self.stored.lock().unwrap().clone();
                let same = current.is_some_and(|current| current.version == loaded.version);
                if same {
                    self.put(data);
                }
                Ok(same)
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
            let names = vec!["webhook.rrsa-system.svc".to_owned()];
            Keeper::new(store, names, clock, Times::default())
        }
    }

    async fn certificate(keeper: &Keeper) -> Vec<u8> {
        let held = keeper.held.lock().await;
        let served = held.as_ref().unwrap().served.as_ref().unwrap();
        let key = &served.leaf.certified_key;
        key.end_entity_cert().unwrap().to_vec()
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
        let before = rig.shelf.stored.lock().unwrap().take().unwrap();
        keeper.refresh().await.unwrap();
        assert_eq!(rig.shelf.data(), before.data);
    }

    /// Another authority is stored than the one that was used until now.
    fn restore_backup(rig: &Rig) -> Authorities {
        let now = *rig.clock.0.lock().unwrap();
        let life = Times::default().authority;
        let other = Authorities::new(Authority::generate(now, life).unwrap());
        rig.shelf.put(other.to_secret());
        other
    }

    #[tokio::test]
    async fn a_restored_backup_is_served_only_when_clients_trust_it() {
        let rig = Rig::new();
        let keeper = rig.replica();
        keeper.refresh().await.unwrap();
        let (first, trusted) = (certificate(&keeper).await, keeper.bundle().borrow().clone());
        let now = || *rig.clock.0.lock().unwrap();
        let observed = keeper.observed();
        observed.registered(std::iter::once(trusted.as_bytes()), now());
        let other = restore_backup(&rig);

        keeper.refresh().await.unwrap();
        assert_eq!(
            certificate(&keeper).await,
            first,
            "nobody trusts the other yet"
        );
        let both = keeper.bundle().borrow().clone();
        assert!(
            both.contains(&trusted) && both.contains(&other.bundle()),
            "{both}"
        );
        observed.registered(std::iter::once(both.as_bytes()), now());
        keeper.refresh().await.unwrap();
        assert_eq!(
            certificate(&keeper).await,
            first,
            "a moment ago is not long enough"
        );
        *rig.clock.0.lock().unwrap() += Times::default().propagation;
        keeper.refresh().await.unwrap();
        assert_ne!(certificate(&keeper).await, first);
    }

    #[tokio::test]
    async fn a_new_authority_is_followed_at_once_where_there_is_no_client() {
        let rig = Rig::new();
        let keeper = rig.replica();
        keeper.refresh().await.unwrap();
        let first = certificate(&keeper).await;
        restore_backup(&rig);
        keeper.refresh().await.unwrap();
        assert_ne!(certificate(&keeper).await, first);
    }

    #[tokio::test]
    async fn ten_replicas_rotate_together_and_always_serve_what_is_registered() {
        let rig = Rig::new();
        let replicas: Vec<_> = (0..10).map(|_| rig.replica()).collect();
        futures::future::try_join_all(replicas.iter().map(Keeper::refresh))
            .await
            .unwrap();
        let first = rig.shelf.data();
        let mut registered = replicas[0].bundle().borrow().clone();
        rig.shelf.ask_for_rotation("now");
        for round in 0..40 {
            *rig.clock.0.lock().unwrap() += Duration::from_secs(10);
            let now = *rig.clock.0.lock().unwrap();
            // Each replica sees what is registered, with the bundle of an earlier round.
            for replica in &replicas {
                let bundles = std::iter::once(registered.as_bytes());
                replica.observed().registered(bundles, now);
            }
            futures::future::try_join_all(replicas.iter().map(Keeper::refresh))
                .await
                .unwrap();
            for replica in &replicas {
                let held = replica.held.lock().await;
                let served = held.as_ref().unwrap().served.as_ref().unwrap();
                assert!(
                    registered.contains(served.authority.certificate()),
                    "round {round}: served but not registered"
                );
            }
            registered = replicas[round % 10].bundle().borrow().clone();
        }
        assert_ne!(rig.shelf.data()["tls.crt"], first["tls.crt"]);
        assert!(!rig.shelf.data().contains_key("next.crt"));
        assert_eq!(
            *rig.shelf.writes.lock().unwrap(),
            3,
            "made, prepared, promoted"
        );
    }

    #[tokio::test]
    async fn without_the_right_to_write_nothing_rotates_and_all_go_on() {
        let rig = Rig::new();
        let keeper = rig.replica();
        keeper.refresh().await.unwrap();
        *rig.shelf.read_only.lock().unwrap() = true;
        rig.shelf.ask_for_rotation("now");
        let first = certificate(&keeper).await;
        let error = keeper.refresh().await.unwrap_err().to_string();
        assert!(error.contains("forbidden"), "{error}");
        assert_eq!(certificate(&keeper).await, first);
        *rig.clock.0.lock().unwrap() += 5 * Duration::from_hours(24);
        assert!(keeper.refresh().await.is_err());
        assert_ne!(
            certificate(&keeper).await,
            first,
            "the own certificate is renewed"
        );
    }

    #[tokio::test]
    async fn an_expired_authority_is_replaced() {
        let rig = Rig::new();
        let keeper = rig.replica();
        keeper.refresh().await.unwrap();
        let first = rig.shelf.data();
        *rig.clock.0.lock().unwrap() += Times::default().authority;
        keeper.refresh().await.unwrap();
        assert_ne!(rig.shelf.data()["tls.crt"], first["tls.crt"]);
        // And the clock goes back to where it was: what was made then is from the future.
        *rig.clock.0.lock().unwrap() -= Times::default().authority;
        for _ in 0..3 {
            keeper.refresh().await.unwrap();
        }
        let stored = Authorities::from_secret(&rig.shelf.data()).unwrap();
        assert!(stored.signing.is_valid(*rig.clock.0.lock().unwrap()));
    }

    #[tokio::test]
    async fn a_broken_secret_is_named_kept_and_the_certificate_serves_on() {
        let rig = Rig::new();
        let keeper = rig.replica();
        keeper.refresh().await.unwrap();
        let first = certificate(&keeper).await;
        let broken = SecretData::from([("tls.crt".to_owned(), b"x".to_vec())]);
        rig.shelf.put(broken.clone());
        let error = keeper.refresh().await.unwrap_err().to_string();
        assert!(
            error.contains("Secret rrsa-system/ca") && error.contains("delete it"),
            "{error}"
        );
        assert_eq!(certificate(&keeper).await, first);
        assert_eq!(rig.shelf.data(), broken, "never overwritten");
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
        *rig.clock.0.lock().unwrap() += Times::default().leaf;
        keeper.report(&condition, &failed()).await;
        assert!(!readiness.report().is_ready());
    }
}
