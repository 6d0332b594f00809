//! The client that keeps credentials, against STS: how often it asks, and what its callers get.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use rrsa::credentials::{Client, CredentialsError, OidcRoleArn, blocking};
use rrsa::world::{Clock, World};
use tokio::runtime::Runtime;

use crate::house::{House, PATIENCE, failure};
use crate::simulators::clock;
use crate::simulators::faults::{Effect, Fault};

/// A clock that only the test moves: however slow the machine is, no back-off ends meanwhile.
#[derive(Debug)]
struct SetClock(Mutex<DateTime<Utc>>);

impl Clock for SetClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().expect("no panic elsewhere")
    }
}

struct Rig {
    house: House,
    clock: Arc<SetClock>,
    client: Client,
}

fn rig() -> Rig {
    let house = House::start();
    let clock = Arc::new(SetClock(Mutex::new(clock::now())));
    let world = World {
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        ..house.world()
    };
    let provider = OidcRoleArn::from_env(&world).expect("the environment is complete");
    Rig {
        client: Client::new(Arc::new(provider), &world),
        house,
        clock,
    }
}

impl Rig {
    fn pass(&self, time: Duration) {
        *self.clock.0.lock().expect("no panic elsewhere") += time;
    }

    fn calls(&self) -> usize {
        self.house.sts.calls().all().len()
    }

    fn down(&self) {
        let down = Effect::Error {
            status: 503,
            code: "ServiceUnavailable".to_owned(),
            message: "down".to_owned(),
        };
        self.house.sts.faults().until_cleared(Fault::always(down));
    }

    async fn id(&self) -> String {
        let answer = tokio::time::timeout(PATIENCE, self.client.credentials()).await;
        let current = answer.expect("in time").expect("credentials");
        self.house.session_of(&current);
        current.access_key_id().to_owned()
    }

    /// A thousand callers at once.
    async fn crowd(&self) -> Vec<Result<String, CredentialsError>> {
        let tasks: Vec<_> = (0..1000)
            .map(|_| {
                let client = self.client.clone();
                tokio::spawn(async move {
                    let current = client.credentials().await?;
                    Ok(current.access_key_id().to_owned())
                })
            })
            .collect();
        let mut answers = Vec::with_capacity(tasks.len());
        for task in tasks {
            let answer = tokio::time::timeout(PATIENCE, task).await;
            answers.push(answer.expect("in time").expect("no panic"));
        }
        answers
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn a_thousand_callers_make_one_call_at_start_and_one_at_renewal() {
    let rig = rig();
    let first: Vec<_> = rig.crowd().await.into_iter().map(Result::unwrap).collect();
    assert_eq!(rig.calls(), 1);
    assert!(first.iter().all(|id| *id == first[0]));

    rig.pass(Duration::from_mins(50));
    let second = rig.crowd().await;
    assert!(second.iter().all(Result::is_ok));
    rig.house.sts.calls().wait_for(2, PATIENCE).await.unwrap();
    let renewed = async {
        while rig.id().await == first[0] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, renewed).await.unwrap();
    let third = rig.crowd().await;
    assert!(third.iter().all(|id| *id.as_ref().unwrap() != first[0]));
    assert_eq!(rig.calls(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn a_thousand_callers_of_an_sts_that_is_down_make_one_attempt_for_each_back_off() {
    let rig = rig();
    rig.down();
    for attempts in 1..=3 {
        for _ in 0..2 {
            assert!(rig.crowd().await.iter().all(Result::is_err));
            // An attempt is a call and its one retry.
            assert_eq!(rig.calls(), 2 * attempts);
        }
        // More than the longest wait so far.
        rig.pass(Duration::from_secs(8));
    }
    rig.house.sts.faults().clear();
    rig.id().await;
}

#[tokio::test]
async fn valid_credentials_are_served_while_sts_is_down_and_never_after_their_end() {
    let rig = rig();
    let first = rig.id().await;
    rig.down();
    rig.pass(Duration::from_mins(50));
    assert_eq!(rig.id().await, first);
    rig.house.sts.calls().wait_for(3, PATIENCE).await.unwrap();
    rig.pass(Duration::from_mins(9));
    assert_eq!(rig.id().await, first);
    rig.pass(Duration::from_mins(2));
    let error = failure(rig.client.credentials()).await;
    assert!(error.is_transient(), "{error:?}");
    rig.house.sts.faults().clear();
    rig.pass(Duration::from_mins(2));
    assert_ne!(rig.id().await, first);
}

#[test]
fn a_client_outlives_the_runtimes_that_it_was_used_on() {
    let servers = Runtime::new().unwrap();
    let rig = servers.block_on(async { rig() });
    let mut ids = Vec::new();
    for _ in 0..3 {
        // The connections of the last exchange ended with its runtime.
        ids.push(Runtime::new().unwrap().block_on(rig.id()));
        rig.pass(Duration::from_hours(2));
    }
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

#[test]
fn the_blocking_client_asks_sts_without_a_runtime() {
    let servers = Runtime::new().unwrap();
    let rig = servers.block_on(async { rig() });
    let client = blocking::Client::new(rig.client.clone()).unwrap();
    let ids: Vec<_> = std::thread::scope(|scope| {
        let call = || client.credentials().unwrap().access_key_id().to_owned();
        let threads: Vec<_> = (0..20).map(|_| scope.spawn(call)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(rig.calls(), 1);
}
