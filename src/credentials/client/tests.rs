//! The client against a source that answers as it is told, and a clock that is moved by hand.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Semaphore;

use super::{Client, blocking};
use crate::credentials::StaticAk;
use crate::credentials::error::CredentialsError;
use crate::credentials::provider::Provider;
use crate::credentials::snapshot::Credentials;
use crate::credentials::test_world::world;
use crate::world::{BoxFuture, Clock, NoRandomness, Random, Tick, World};

const PATIENCE: Duration = Duration::from_secs(20);
const HOUR: i64 = 3600;

fn start() -> DateTime<Utc> {
    "2026-01-02T03:04:05Z".parse().unwrap()
}

/// Two clocks, moved by hand.
#[derive(Debug, Default)]
struct Clocks {
    wall: AtomicI64,
    steady: AtomicI64,
}

impl Clocks {
    fn pass(&self, seconds: i64) {
        self.wall.fetch_add(seconds, Ordering::SeqCst);
        self.steady.fetch_add(seconds, Ordering::SeqCst);
    }

    fn set_wall(&self, seconds: i64) {
        self.wall.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for Clocks {
    fn now(&self) -> DateTime<Utc> {
        start() + TimeDelta::seconds(self.wall.load(Ordering::SeqCst))
    }

    fn tick(&self) -> Tick {
        let steady = u64::try_from(self.steady.load(Ordering::SeqCst)).unwrap();
        Tick {
            wall: Duration::from_secs(u64::try_from(self.now().timestamp()).unwrap()),
            steady: Duration::from_secs(steady),
        }
    }
}

/// No jitter.
#[derive(Debug)]
struct NoChance;

impl Random for NoChance {
    fn bytes(&self) -> Result<[u8; 16], NoRandomness> {
        Ok([u8::MAX; 16])
    }
}

#[derive(Debug, Clone, Copy)]
enum Mood {
    /// Credentials for this many seconds.
    Good(i64),
    /// Good ones of an issuer whose clock is an hour ahead.
    GoodOfAnotherClock(i64),
    /// Of an issuer whose clock is so far off that there is no such time.
    Timeless,
    /// Credentials without an end.
    Endless,
    Down,
    Misconfigured,
    Panics,
}

#[derive(Debug, thiserror::Error)]
#[error("no answer")]
struct NoAnswer;

/// A source that counts its calls and can be held back.
#[derive(Debug)]
struct Fake {
    clocks: Arc<Clocks>,
    calls: AtomicU32,
    mood: Mutex<Mood>,
    then: Mutex<Option<Mood>>,
    /// Permits to answer, where answers are held back.
    gate: Semaphore,
    gated: AtomicBool,
}

impl Fake {
    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::SeqCst)
    }

    fn hold_back(&self) {
        self.gated.store(true, Ordering::SeqCst);
    }

    fn hold_back_no_more(&self) {
        self.gated.store(false, Ordering::SeqCst);
    }

    /// How the next answer but one and all after it are, which are not held back.
    fn then(&self, mood: Mood) {
        *self.then.lock().unwrap() = Some(mood);
    }

    fn let_one_through(&self) {
        self.gate.add_permits(1);
    }

    async fn answer(&self) -> Result<Credentials, CredentialsError> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        if self.gated.load(Ordering::SeqCst) {
            self.gate.acquire().await.unwrap().forget();
        } else {
            // As a source that asks over the network: never at once.
            tokio::task::yield_now().await;
        }
        let given = Credentials::new(format!("id-{call}"), "secret".into(), "fake");
        let mood = *self.mood.lock().unwrap();
        if let Some(then) = self.then.lock().unwrap().take() {
            self.set(then);
            self.hold_back_no_more();
        }
        match mood {
            Mood::Good(life) => {
                Ok(given.with_expiration(self.clocks.now() + TimeDelta::seconds(life)))
            }
            Mood::GoodOfAnotherClock(life) => {
                let ahead = TimeDelta::hours(1);
                let issuers_now = self.clocks.now() + ahead;
                Ok(given
                    .with_expiration(issuers_now + TimeDelta::seconds(life))
                    .with_issuer_ahead(ahead))
            }
            Mood::Timeless => Ok(given
                .with_expiration(DateTime::<Utc>::MAX_UTC)
                .with_issuer_ahead(TimeDelta::MAX)),
            Mood::Endless => Ok(given),
            Mood::Down => Err(CredentialsError::unavailable("fake", NoAnswer)),
            Mood::Misconfigured => Err(CredentialsError::misconfigured("fake", NoAnswer)),
            Mood::Panics => panic!("as told"),
        }
    }
}

impl Provider for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>> {
        Box::pin(self.answer())
    }
}

struct Rig {
    clocks: Arc<Clocks>,
    fake: Arc<Fake>,
    client: Client,
}

fn rig(mood: Mood) -> Rig {
    let clocks = Arc::new(Clocks::default());
    let fake = Arc::new(Fake {
        clocks: Arc::clone(&clocks),
        calls: AtomicU32::new(0),
        mood: Mutex::new(mood),
        then: Mutex::default(),
        gate: Semaphore::new(0),
        gated: AtomicBool::new(false),
    });
    let world = World {
        clock: Arc::clone(&clocks) as Arc<dyn Clock>,
        random: Arc::new(NoChance),
        ..world(&[])
    };
    let client = Client::new(Arc::clone(&fake) as Arc<dyn Provider>, &world);
    Rig {
        clocks,
        fake,
        client,
    }
}

impl Rig {
    async fn id(&self) -> String {
        let answer = tokio::time::timeout(PATIENCE, self.client.credentials()).await;
        answer.unwrap().unwrap().access_key_id().to_owned()
    }

    async fn fails(&self) -> CredentialsError {
        let answer = tokio::time::timeout(PATIENCE, self.client.credentials()).await;
        answer.unwrap().unwrap_err()
    }

    /// Lets the exchange in the background end.
    async fn settled(&self) {
        let settled = async {
            while self.client.shared.is_asking() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, settled).await.unwrap();
    }

    /// So many callers at once; how many got which id, or failed.
    async fn crowd(&self, callers: usize) -> Vec<Result<String, CredentialsError>> {
        let tasks: Vec<_> = (0..callers)
            .map(|_| {
                let client = self.client.clone();
                tokio::spawn(async move {
                    let got = client.credentials().await?;
                    Ok(got.access_key_id().to_owned())
                })
            })
            .collect();
        let mut answers = Vec::with_capacity(callers);
        for task in tasks {
            answers.push(tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap());
        }
        answers
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn a_thousand_callers_at_start_make_one_call() {
    let rig = rig(Mood::Good(HOUR));
    rig.fake.hold_back();
    let first = tokio::spawn({
        let client = rig.client.clone();
        async move { client.credentials().await.map(|_| ()) }
    });
    let crowd = rig.crowd(1000);
    let release = async {
        while rig.fake.calls() == 0 {
            tokio::task::yield_now().await;
        }
        rig.fake.let_one_through();
    };
    let (answers, ()) = tokio::join!(crowd, release);
    first.await.unwrap().unwrap();
    assert!(answers.iter().all(|id| id.as_ref().unwrap() == "id-1"));
    assert_eq!(rig.fake.calls(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn a_thousand_callers_at_renewal_make_one_call_and_none_waits() {
    let rig = rig(Mood::Good(HOUR));
    assert_eq!(rig.id().await, "id-1");
    rig.fake.hold_back();
    rig.clocks.pass(50 * 60);
    // The new answer is held back, so whoever waited for it would wait for ever.
    let answers = rig.crowd(1000).await;
    assert!(answers.iter().all(|id| id.as_ref().unwrap() == "id-1"));
    assert_eq!(rig.fake.calls(), 2);
    rig.fake.let_one_through();
    rig.settled().await;
    assert_eq!(rig.id().await, "id-2");
    assert_eq!(rig.fake.calls(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn a_source_that_is_down_is_asked_as_often_as_the_back_off_says() {
    let rig = rig(Mood::Down);
    let mut expected = 0;
    for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
        // A thousand at once, and again at every half of the wait.
        expected += 1;
        for _ in 0..2 {
            let answers = rig.crowd(1000).await;
            assert!(
                answers
                    .iter()
                    .all(|answer| { matches!(answer, Err(CredentialsError::Unavailable { .. })) })
            );
            assert_eq!(rig.fake.calls(), expected);
            if wait > 1 {
                rig.clocks.pass(wait / 2);
            }
        }
        if wait == 1 {
            rig.clocks.pass(1);
        }
    }
    rig.fake.set(Mood::Good(HOUR));
    assert_eq!(rig.id().await, format!("id-{}", expected + 1));
}

#[tokio::test]
async fn fresh_credentials_are_given_without_a_call() {
    let rig = rig(Mood::Good(HOUR));
    assert_eq!(rig.id().await, "id-1");
    rig.clocks.pass(41 * 60);
    assert_eq!(rig.id().await, "id-1");
    assert_eq!(rig.fake.calls(), 1);
}

#[tokio::test]
async fn the_old_credentials_serve_while_renewal_fails_and_never_after_their_end() {
    let rig = rig(Mood::Good(HOUR));
    assert_eq!(rig.id().await, "id-1");
    rig.fake.set(Mood::Down);
    rig.clocks.pass(50 * 60);
    for _ in 0..5 {
        assert_eq!(rig.id().await, "id-1");
        rig.settled().await;
    }
    assert_eq!(rig.fake.calls(), 2, "one failure, then its wait");
    rig.clocks.pass(9 * 60 + 49);
    assert_eq!(rig.id().await, "id-1");
    rig.settled().await;
    // Ten seconds before the end.
    rig.clocks.pass(61);
    let error = rig.fails().await;
    assert!(matches!(error, CredentialsError::Unavailable { .. }));
    rig.fake.set(Mood::Good(HOUR));
    rig.clocks.pass(61);
    assert!(rig.id().await.starts_with("id-"));
}

#[tokio::test]
async fn a_clock_that_is_set_keeps_nothing_alive() {
    for (pass, set_wall) in [(2 * HOUR, -2 * HOUR), (1, 2 * HOUR)] {
        let rig = rig(Mood::Good(HOUR));
        assert_eq!(rig.id().await, "id-1");
        rig.clocks.pass(pass);
        rig.clocks.set_wall(set_wall);
        assert_eq!(rig.id().await, "id-2", "passed {pass}, set {set_wall}");
    }
}

#[tokio::test]
async fn the_end_is_a_time_of_the_issuers_clock() {
    let rig = rig(Mood::GoodOfAnotherClock(HOUR));
    assert_eq!(rig.id().await, "id-1");
    rig.clocks.pass(41 * 60);
    assert_eq!(rig.id().await, "id-1");
    rig.fake.set(Mood::Down);
    rig.clocks.pass(19 * 60);
    // By this machine's clock they would be good for another hour.
    rig.fails().await;
}

#[tokio::test]
async fn a_time_that_does_not_exist_is_an_error_and_no_panic() {
    let rig = rig(Mood::Timeless);
    let error = rig.fails().await.chain().to_string();
    assert!(error.contains("check this machine's clock"), "{error}");
    assert_eq!(rig.fake.calls(), 1);
}

#[tokio::test]
async fn what_is_over_when_it_comes_is_an_error() {
    let rig = rig(Mood::Good(-1));
    let error = rig.fails().await;
    assert!(error.chain().to_string().contains("ended at"), "{error:?}");
    assert!(error.is_transient());
}

#[tokio::test]
async fn credentials_without_an_end_are_asked_for_each_time() {
    let rig = rig(Mood::Endless);
    assert_eq!(rig.id().await, "id-1");
    assert_eq!(rig.id().await, "id-2");
}

#[tokio::test]
async fn a_mistake_is_not_remembered() {
    let rig = rig(Mood::Misconfigured);
    rig.fails().await;
    rig.fake.set(Mood::Good(HOUR));
    assert_eq!(rig.id().await, "id-2");
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_nobody_elses_wait() {
    let rig = rig(Mood::Good(HOUR));
    rig.fake.hold_back();
    {
        let mut impatient = Box::pin(rig.client.credentials());
        let waited = tokio::time::timeout(Duration::from_millis(10), &mut impatient).await;
        assert!(waited.is_err());
    }
    rig.fake.let_one_through();
    assert_eq!(rig.id().await, "id-1");
    assert_eq!(rig.fake.calls(), 1);
}

#[test]
fn a_runtime_that_ends_takes_no_other_callers_with_it() {
    let rig = rig(Mood::Good(HOUR));
    rig.fake.hold_back();
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let first = runtime();
    first.block_on(async {
        let wait = tokio::time::timeout(Duration::from_millis(10), rig.client.credentials());
        assert!(wait.await.is_err());
    });
    assert_eq!(rig.fake.calls(), 1);
    drop(first);
    rig.fake.let_one_through();
    assert_eq!(runtime().block_on(rig.id()), "id-2");
}

#[test]
fn a_runtime_that_stands_still_keeps_no_other_callers_waiting() {
    let rig = rig(Mood::Good(HOUR));
    rig.fake.hold_back();
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    // It lives on, but nobody drives it.
    let first = runtime();
    first.block_on(async {
        let wait = tokio::time::timeout(Duration::from_millis(10), rig.client.credentials());
        assert!(wait.await.is_err());
    });
    rig.fake.hold_back_no_more();
    assert_eq!(runtime().block_on(rig.id()), "id-2");
    // What it gets at last is older than what is there.
    rig.fake.let_one_through();
    first.block_on(async { tokio::time::sleep(Duration::from_millis(50)).await });
    assert_eq!(first.block_on(rig.id()), "id-2");
}

#[test]
fn a_runtime_that_stood_still_is_no_failure_of_the_source() {
    let rig = rig(Mood::Down);
    rig.fake.hold_back();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let wait = tokio::time::timeout(Duration::from_millis(10), rig.client.credentials());
        assert!(wait.await.is_err());
    });
    rig.clocks.pass(20);
    rig.fake.let_one_through();
    // The first exchange fails, as one does whose time-out is over; the second is a new one.
    rig.fake.then(Mood::Good(HOUR));
    assert_eq!(runtime.block_on(rig.id()), "id-2");
}

#[tokio::test]
async fn a_source_that_panics_is_an_error_and_not_a_hang() {
    let rig = rig(Mood::Panics);
    let error = rig.fails().await;
    assert!(error.chain().to_string().contains("broken off"), "{error}");
    rig.fake.set(Mood::Good(HOUR));
    assert!(rig.id().await.starts_with("id-"));
}

#[test]
fn fixed_keys_need_no_runtime() {
    let provider = StaticAk::new("akid", "aksecret".into()).unwrap();
    let client = Client::new(Arc::new(provider), &world(&[]));
    let mut call = Box::pin(client.credentials());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(answer) = call.as_mut().poll(&mut context) else {
        panic!("it waits");
    };
    assert_eq!(answer.unwrap().access_key_id(), "akid");
    assert!(client.shared.fresh().is_some(), "fixed keys are kept");
}

#[test]
fn without_a_runtime_the_error_says_what_to_use() {
    let rig = rig(Mood::Good(HOUR));
    let mut call = Box::pin(rig.client.credentials());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(answer) = call.as_mut().poll(&mut context) else {
        panic!("it waits");
    };
    let text = answer.unwrap_err().chain().to_string();
    assert!(text.contains("blocking::Client"), "{text}");
}

#[test]
fn the_blocking_client_needs_no_runtime() {
    let rig = rig(Mood::Good(HOUR));
    let client = blocking::Client::new(rig.client.clone()).unwrap();
    let ids: Vec<_> = std::thread::scope(|scope| {
        let call = || client.credentials().unwrap().access_key_id().to_owned();
        let threads: Vec<_> = (0..50).map(|_| scope.spawn(call)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|id| id == "id-1"), "{ids:?}");
    assert_eq!(rig.fake.calls(), 1);
}

#[tokio::test]
async fn the_blocking_client_works_inside_a_runtime() {
    let rig = rig(Mood::Good(HOUR));
    let client = blocking::Client::new(rig.client.clone()).unwrap();
    assert_eq!(client.credentials().unwrap().access_key_id(), "id-1");
}

#[tokio::test]
async fn debug_shows_no_secret() {
    let rig = rig(Mood::Good(HOUR));
    let current = rig.client.credentials().await.unwrap();
    let shown = format!("{:?} {current:?}", rig.client);
    assert!(!shown.contains("\"secret\""), "{shown}");
    assert!(shown.contains("id-1"), "{shown}");
}
