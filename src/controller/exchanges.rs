//! The exchanges that wait, and the few that run: the shell around the `FairQueue`.
//!
//! A look at a binding decides; where an exchange is needed, the binding waits here, as one small
//! entry. The dispatcher takes the next entry when the budget gives a call, and a worker looks
//! again before it exchanges: what was decided may be long over.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::SinkExt as _;
use kube::ResourceExt as _;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::bindings::Name;
use super::context::Context;
use super::gate::Permit;
use super::queue::{FairQueue, Taken, Waiting};
use super::reconcile::{Licence, exchange_now};
use super::watches::Wake;
use crate::api::v1alpha1::AlibabaRoleBinding;

/// Exchanges that run at the same time. At 100 calls a second that is room for answers that take
/// more than half a second each.
const WORKERS: usize = 64;
/// How many of them one namespace may hold.
const WORKERS_OF_A_NAMESPACE: usize = WORKERS / 4;
/// How long exchanges under way may take to end when the controller stops: token, STS and the
/// write of the Secret, each with a time-out of its own.
const DRAIN: Duration = Duration::from_secs(15);

/// How long the first look at all bindings may hold exchanges up; 10,000 take some two seconds.
const FIRST_ROUND: Duration = Duration::from_secs(5);

/// What waits and what runs.
#[derive(Debug)]
pub struct Exchanges {
    queue: Mutex<FairQueue>,
    changed: Notify,
}

impl Default for Exchanges {
    fn default() -> Self {
        Self {
            queue: Mutex::new(FairQueue::new(WORKERS_OF_A_NAMESPACE)),
            changed: Notify::new(),
        }
    }
}

impl Exchanges {
    fn queue(&self) -> MutexGuard<'_, FairQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many bindings wait for an exchange.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue().len()
    }

    /// Begins to look at a binding; `None` while it is being exchanged, which ends with a look.
    pub(super) fn look(&self, binding: &AlibabaRoleBinding) -> Option<Look<'_>> {
        let namespace = binding.namespace().unwrap_or_default();
        let name = binding.name_any();
        let begun = self.queue().begin_look(&namespace, &name);
        // Not `then_some`: one that is made and dropped would end what is under way.
        begun.then(|| Look {
            exchanges: self,
            namespace,
            name,
            outcome: None,
        })
    }

    /// Waits until there is something to take.
    async fn ready(&self) {
        loop {
            let changed = self.changed.notified();
            if self.queue().has_next() {
                return;
            }
            changed.await;
        }
    }
}

/// A look at a binding. When it ends, the binding waits for an exchange, or no longer does.
pub(super) struct Look<'a> {
    exchanges: &'a Exchanges,
    namespace: String,
    name: String,
    outcome: Option<Waiting>,
}

impl Look<'_> {
    pub(super) fn end(mut self, outcome: Option<Waiting>) {
        self.outcome = outcome;
    }
}

impl Drop for Look<'_> {
    fn drop(&mut self) {
        let outcome = self.outcome.take();
        self.exchanges
            .queue()
            .end_look(&self.namespace, &self.name, outcome);
        self.exchanges.changed.notify_one();
    }
}

/// A binding whose exchange runs.
struct Running {
    context: Arc<Context>,
    taken: Taken,
    over: bool,
}

impl Running {
    fn new(context: &Arc<Context>, taken: Taken) -> Self {
        Self {
            context: context.clone(),
            taken,
            over: false,
        }
    }

    fn name(&self) -> Name {
        Name::new(&self.taken.namespace, &self.taken.name)
    }

    fn binding(&self) -> Option<AlibabaRoleBinding> {
        self.context.bindings.get(&self.name())
    }

    /// Whether somebody came meanwhile and was sent away.
    fn finish(&mut self) -> bool {
        self.over = true;
        let came = self.context.exchanges.queue().finish(&self.taken);
        self.context.exchanges.changed.notify_one();
        came
    }

    /// Ends it, and has the binding looked at: for its next time, or for what changed meanwhile.
    async fn end(mut self, wake: &mut Wake) {
        self.finish();
        // An error means that the controller is gone.
        let _ = wake.send(self.name()).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.over {
            self.finish();
        }
    }
}

/// Makes the exchanges that wait, until `stop`; those under way are finished then. Begins when all that
/// wait are known (`all_seen`), so that the first exchanges are the most urgent ones.
pub(super) async fn dispatch(
    context: Arc<Context>,
    wake: Wake,
    all_seen: oneshot::Receiver<()>,
    stop: CancellationToken,
) {
    let all_seen = tokio::time::timeout(FIRST_ROUND, all_seen);
    // Late, or nobody tells any more: what is known will do.
    let _ = stop.run_until_cancelled(all_seen).await;
    let mut workers = JoinSet::new();
    let gate = &context.exchanger.gate;
    let next = async |workers: &mut JoinSet<()>| {
        while workers.len() >= WORKERS {
            workers.join_next().await;
        }
        context.exchanges.ready().await;
        let permit = gate.permit().await;
        // It may have been withdrawn while the permit was waited for.
        context
            .exchanges
            .queue()
            .take()
            .map(|taken| (permit, taken))
    };
    while let Some(next) = stop.run_until_cancelled(next(&mut workers)).await {
        while let Some(ended) = workers.try_join_next() {
            if let Err(error) = ended {
                warn!("an exchange broke off: {error}");
            }
        }
        let Some((permit, taken)) = next else {
            continue;
        };
        let running = Running::new(&context, taken);
        workers.spawn(work(running, permit, wake.clone()));
    }
    let drained = async { while workers.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        warn!("exchanges that did not end within {DRAIN:?} are broken off");
    }
}

async fn work(running: Running, permit: Permit, mut wake: Wake) {
    let context = running.context.clone();
    let mut turn = context.exchanger.gate.turn(permit);
    let mut answer = None;
    if let Some(binding) = running.binding() {
        let licence = Licence::Turn(&mut turn, &mut answer);
        exchange_now(&binding, &context, licence).await;
    }
    // Whoever waits for the same answer came before it.
    if let Some(answer) = answer {
        let asked = Taken {
            exchange: answer.key,
            ..running.taken.clone()
        };
        let sharers = context.exchanges.queue().take_sharers(&asked);
        for taken in sharers {
            let sharer = Running::new(&context, taken);
            if let Some(binding) = sharer.binding() {
                exchange_now(&binding, &context, Licence::Shared(&answer)).await;
            }
            sharer.end(&mut wake).await;
        }
    }
    running.end(&mut wake).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::AlibabaRoleBindingSpec;
    use crate::controller::plan::Cause;
    use crate::controller::queue::Urgency;

    #[test]
    fn whoever_comes_during_an_exchange_is_sent_away_and_changes_nothing() {
        let exchanges = Exchanges::default();
        let spec = serde_json::json!({"role": {"name": "a"}, "serviceAccountName": "a"});
        let spec: AlibabaRoleBindingSpec = serde_json::from_value(spec).unwrap();
        let named = |name: &str| {
            let mut binding = AlibabaRoleBinding::new(name, spec.clone());
            binding.metadata.namespace = Some("n".to_owned());
            binding
        };
        let waiting = Waiting {
            urgency: Urgency::of(Cause::Missing, None, chrono::DateTime::UNIX_EPOCH),
            calls: 1,
            exchange: [7; 16],
        };
        for name in ["first", "second"] {
            let look = exchanges.look(&named(name)).unwrap();
            look.end(Some(waiting.clone()));
        }
        let taken = exchanges.queue().take().unwrap();
        for _ in 0..3 {
            assert!(exchanges.look(&named("first")).is_none());
            // The second asks for the same, so it waits for the first one's answer.
            assert!(exchanges.queue().take().is_none());
        }
        assert_eq!(exchanges.queue().take_sharers(&taken).len(), 1);
        assert!(exchanges.queue().finish(&taken), "somebody came meanwhile");
        assert!(exchanges.look(&named("first")).is_some());
    }
}
