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

    fn replace(&self, loaded: Stored, data: SecretData) -> BoxFuture<'_, Result<bool, StoreError>> {
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

/// Killed after it wrote the Secret and before it registered anything, in whatever round.
#[tokio::test]
async fn a_replica_that_is_killed_in_a_rotation_is_followed_by_one_that_ends_it() {
    for killed in 0..40 {
        let rig = Rig::new();
        let mut replica = rig.replica();
        replica.refresh().await.unwrap();
        let first = rig.shelf.data();
        let mut registered = replica.bundle().borrow().clone();
        rig.shelf.ask_for_rotation("now");
        for round in 0..40 {
            *rig.clock.0.lock().unwrap() += Duration::from_secs(10);
            let now = *rig.clock.0.lock().unwrap();
            let goes = if round == killed { 2 } else { 1 };
            for go in 0..goes {
                if go == 1 {
                    replica = rig.replica();
                }
                let bundles = std::iter::once(registered.as_bytes());
                replica.observed().registered(bundles, now);
                replica.refresh().await.unwrap();
                let held = replica.held.lock().await;
                let served = held.as_ref().unwrap().served.as_ref().unwrap();
                assert!(
                    registered.contains(served.authority.certificate()),
                    "killed in round {killed}, round {round}: served but not registered"
                );
            }
            registered = replica.bundle().borrow().clone();
        }
        assert_ne!(rig.shelf.data()["tls.crt"], first["tls.crt"], "{killed}");
        assert!(!rig.shelf.data().contains_key("next.crt"), "{killed}");
        assert_eq!(*rig.shelf.writes.lock().unwrap(), 3, "{killed}");
    }
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
    keeper.report(&condition, &failed()).await;
    assert!(
        readiness.report().is_ready(),
        "a valid certificate serves on"
    );
    *rig.clock.0.lock().unwrap() += Times::default().leaf;
    keeper.report(&condition, &failed()).await;
    assert!(!readiness.report().is_ready());
}
