//! One exchange at a time, shared by all who wait for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::timeout;

use super::entry::Entry;
use super::schedule::wait_after;
use crate::credentials::error::CredentialsError;
use crate::credentials::provider::Provider;
use crate::credentials::snapshot::Credentials;
use crate::world::{BoxFuture, Clock, Random, Tick, World};

/// The longest exchange, in signs of life: beyond the bounds of all providers of this library
/// together, so it only ends somebody's own provider that hangs.
const LONGEST_EXCHANGE: u32 = 5 * 60;
/// How often an exchange under way gives a sign of life.
const BEAT: Duration = Duration::from_secs(1);
/// After so long without one it is left alone: its runtime stands still, as one of a single thread
/// does between two calls of `block_on`, and may never go on.
const LONGEST_SILENCE: Duration = Duration::from_secs(5);

/// How an exchange ended, for all who waited.
type Outcome = Result<Arc<Entry>, CredentialsError>;
/// Gets the outcome; until then each change is a sign of life.
type Awaited = watch::Receiver<Option<Outcome>>;

/// What all clones of a client share.
pub(super) struct Shared {
    provider: Arc<dyn Provider>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    current: ArcSwap<Entry>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The exchange that is under way.
    flight: Option<Awaited>,
    /// Failures in a row.
    failures: u32,
    /// The last of them, and when the source may be asked again.
    failed: Option<(CredentialsError, Tick)>,
}

impl State {
    fn is_under_way(&self, flight: &Awaited) -> bool {
        let current = self.flight.as_ref();
        current.is_some_and(|current| current.same_channel(flight))
    }
}

/// What a caller does next.
enum Step {
    Take(Guard<Arc<Entry>>),
    Fail(CredentialsError),
    Wait(Awaited),
    /// Begin an exchange, and take meanwhile what is there, if it is good enough.
    Begin(Flight, Option<Guard<Arc<Entry>>>),
}

#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error("there is no tokio runtime here; call it on one, or use credentials::blocking::Client")]
    NoRuntime,
    #[error("it gave no answer within {LONGEST_EXCHANGE} seconds")]
    TimedOut,
    #[error(
        "the exchange was broken off again and again, because it panicked or its runtime ended or \
         stood still"
    )]
    Abandoned,
}

impl Shared {
    pub(super) fn new(provider: Arc<dyn Provider>, world: &World) -> Self {
        Self {
            provider,
            clock: Arc::clone(&world.clock),
            random: Arc::clone(&world.random),
            current: ArcSwap::from_pointee(Entry::vacant()),
            state: Mutex::default(),
        }
    }

    pub(super) fn provider(&self) -> &Arc<dyn Provider> {
        &self.provider
    }

    /// What is kept, while nothing is to be done about it.
    #[inline]
    pub(super) fn fresh(&self) -> Option<Guard<Arc<Entry>>> {
        let entry = self.current.load();
        if entry.is_fresh(self.clock.as_ref()) {
            return Some(entry);
        }
        None
    }

    /// What is kept, or what an exchange gives.
    pub(super) async fn wait(self: &Arc<Self>) -> Result<Guard<Arc<Entry>>, CredentialsError> {
        // An exchange that is broken off tells nobody how it would have ended.
        for _ in 0..3 {
            let flight = match self.step() {
                Step::Take(entry) => return Ok(entry),
                Step::Fail(error) => return Err(error),
                Step::Wait(flight) => flight,
                Step::Begin(flight, meanwhile) => {
                    let outcome = flight.outcome.subscribe();
                    flight.begin();
                    if let Some(entry) = meanwhile {
                        return Ok(entry);
                    }
                    outcome
                }
            };
            if let Some(outcome) = self.outcome_of(flight).await {
                return outcome.map(Guard::from_inner);
            }
        }
        Err(self.interrupted(Interrupted::Abandoned))
    }

    /// How the exchange ends; none when it was broken off, or stands still.
    async fn outcome_of(&self, mut flight: Awaited) -> Option<Outcome> {
        loop {
            let outcome = flight.borrow_and_update().clone();
            if outcome.is_some() {
                return outcome;
            }
            let sign = flight.changed();
            // What is fixed ends at once, and there may be no timer here.
            let sign = if self.provider.is_fixed() {
                Ok(sign.await)
            } else {
                timeout(LONGEST_SILENCE, sign).await
            };
            match sign {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return None,
                Err(_) => {
                    self.leave(&flight);
                    return None;
                }
            }
        }
    }

    /// Makes room for another exchange in the place of this one.
    fn leave(&self, flight: &Awaited) {
        let mut state = self.state();
        if state.is_under_way(flight) {
            state.flight = None;
        }
    }

    fn step(self: &Arc<Self>) -> Step {
        let mut state = self.state();
        let entry = self.current.load();
        let tick = self.clock.tick();
        if !tick.has_reached(entry.due) {
            return Step::Take(entry);
        }
        let good_enough = (!tick.has_reached(entry.end)).then_some(entry);
        if let Some(flight) = &state.flight {
            return match good_enough {
                Some(entry) => Step::Take(entry),
                None => Step::Wait(flight.clone()),
            };
        }
        match (&state.failed, good_enough) {
            (Some((_, again)), Some(entry)) if !tick.has_reached(*again) => Step::Take(entry),
            (Some((error, again)), None) if !tick.has_reached(*again) => Step::Fail(error.clone()),
            (_, good_enough) => {
                let (outcome, flight) = watch::channel(None);
                state.flight = Some(flight);
                Step::Begin(
                    Flight {
                        shared: Arc::clone(self),
                        outcome,
                    },
                    good_enough,
                )
            }
        }
    }

    /// Notes how this exchange ended, unless another one has taken its place.
    fn ended(&self, flight: &Awaited, answer: Result<Credentials, CredentialsError>) -> Outcome {
        let (clock, random) = (self.clock.as_ref(), self.random.as_ref());
        let outcome = answer.and_then(|credentials| {
            Entry::arrived(credentials, self.provider.is_fixed(), clock, random)
                .map(Arc::new)
                .map_err(|error| self.interrupted(error))
        });
        let mut state = self.state();
        if !state.is_under_way(flight) {
            return outcome;
        }
        state.flight = None;
        match &outcome {
            Ok(entry) => {
                self.current.store(Arc::clone(entry));
                if state.failures > 0 {
                    tracing::info!(
                        provider = self.provider.name(),
                        "credentials are renewed again"
                    );
                }
                (state.failures, state.failed) = (0, None);
            }
            // Others have been asked, and asking them again at once would not help.
            Err(
                error @ (CredentialsError::Unavailable { .. } | CredentialsError::Refused { .. }),
            ) => {
                state.failures = state.failures.saturating_add(1);
                let again = clock.tick().after(wait_after(state.failures, random));
                state.failed = Some((error.clone(), again));
                self.tell(error, state.failures);
            }
            Err(error) => {
                state.failed = None;
                self.tell(error, state.failures);
            }
        }
        outcome
    }

    /// Tells of a failure that no caller gets to see, because the old credentials are still good.
    fn tell(&self, error: &CredentialsError, failures: u32) {
        let entry = self.current.load();
        if self.clock.tick().has_reached(entry.end) {
            return;
        }
        let (provider, until) = (self.provider.name(), entry.credentials.expiration());
        let error = error.chain();
        if failures <= 1 {
            tracing::warn!(provider, ?until, %error, "credentials were not renewed; the old ones are used on");
        } else {
            tracing::debug!(provider, ?until, %error, failures, "credentials were not renewed");
        }
    }

    /// Whether an exchange is under way.
    #[cfg(test)]
    pub(super) fn is_asking(&self) -> bool {
        self.state().flight.is_some()
    }

    fn interrupted(
        &self,
        error: impl std::error::Error + Send + Sync + 'static,
    ) -> CredentialsError {
        CredentialsError::Unavailable {
            provider: self.provider.name().to_owned().into(),
            source: Arc::new(error),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is whole after every statement, so a panic elsewhere spoils nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to ask the source. There is at most one; when it goes without an end, another caller
/// may begin.
struct Flight {
    shared: Arc<Shared>,
    outcome: watch::Sender<Option<Outcome>>,
}

impl Flight {
    /// Asks the source: here as far as it gets without waiting, the rest in a task.
    fn begin(self) {
        let runtime = Handle::try_current();
        let provider = Arc::clone(&self.shared.provider);
        if runtime.is_err() && !provider.is_fixed() {
            // Whatever reaches outside would panic.
            let error = self.shared.interrupted(Interrupted::NoRuntime);
            return self.end(Err(error));
        }
        let mut exchange = ask(Arc::clone(&provider));
        let first = exchange
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        match (first, runtime) {
            (Poll::Ready(answer), _) => self.end(answer),
            (Poll::Pending, Ok(runtime)) => {
                runtime.spawn(async move {
                    let answer = self.rest_of(exchange).await;
                    self.end(answer);
                });
            }
            (Poll::Pending, Err(_)) => {
                let error = self.shared.interrupted(Interrupted::NoRuntime);
                self.end(Err(error));
            }
        }
    }

    /// The answer of an exchange that has begun. Where its runtime stood still meanwhile, its
    /// time-outs are over through no fault of the source, so it is asked once more.
    async fn rest_of(&self, mut exchange: Exchange) -> Result<Credentials, CredentialsError> {
        let clock = self.shared.clock.as_ref();
        let (mut last, mut stood_still, mut again) = (clock.steady(), false, false);
        for _ in 0..LONGEST_EXCHANGE {
            let answer = timeout(BEAT, &mut exchange).await;
            let now = clock.steady();
            stood_still |= now.saturating_sub(last) > LONGEST_SILENCE;
            last = now;
            match answer {
                Ok(Err(CredentialsError::Unavailable { .. }))
                    if stood_still && !again && self.is_under_way() =>
                {
                    again = true;
                    exchange = ask(Arc::clone(&self.shared.provider));
                }
                Ok(answer) => return answer,
                Err(_) => self.outcome.send_modify(|_| {}),
            }
        }
        Err(self.shared.interrupted(Interrupted::TimedOut))
    }

    fn is_under_way(&self) -> bool {
        let state = self.shared.state();
        state.is_under_way(&self.outcome.subscribe())
    }

    fn end(self, answer: Result<Credentials, CredentialsError>) {
        let outcome = self.shared.ended(&self.outcome.subscribe(), answer);
        self.outcome.send_replace(Some(outcome));
    }
}

/// A question to the source, under way.
type Exchange = BoxFuture<'static, Result<Credentials, CredentialsError>>;

fn ask(provider: Arc<dyn Provider>) -> Exchange {
    Box::pin(async move { provider.credentials().await })
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.outcome.borrow().is_none() {
            self.shared.leave(&self.outcome.subscribe());
        }
    }
}
