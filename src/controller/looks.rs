//! The loop that has bindings looked at: when their watch shows them, when somebody wakes them, and
//! when the time has come that their last look named.

use std::sync::Arc;
use std::time::Duration;

use futures::channel::mpsc;
use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt as _};
use kube::runtime::watcher::Event;
use tokio::sync::oneshot;

use super::agenda::Agenda;
use super::bindings::{Change, Name};
use super::context::Context;
use super::reconcile::reconcile;
use crate::api::v1alpha1::AlibabaRoleBinding;
use crate::world::runtime_now;

/// Bindings that are looked at at the same time.
const CONCURRENCY: usize = 32;
/// How often the loop shows that it goes round.
const BEAT: Duration = Duration::from_secs(5);

/// What the loop is fed with, and whom it tells.
pub(super) struct Looks<E> {
    pub(super) context: Arc<Context>,
    /// The watch of bindings.
    pub(super) events: E,
    /// Bindings that somebody wants looked at now.
    pub(super) woken: mpsc::Receiver<Name>,
    /// Told when all bindings of the first list have been looked at, so that the most urgent of
    /// them are known.
    pub(super) all_seen: oneshot::Sender<()>,
}

impl<E: Stream<Item = Event<AlibabaRoleBinding>> + Unpin> Looks<E> {
    /// Goes round until `shutdown` completes, or the watch ends; looks under way are finished.
    /// `beat` shows that it goes round.
    pub(super) async fn go_round(self, mut beat: impl FnMut(), shutdown: impl Future<Output = ()>) {
        let Self {
            context,
            mut events,
            mut woken,
            all_seen,
        } = self;
        let mut all_seen = Some(all_seen);
        // Looks that the first list still wants; `None` before it is complete.
        let mut unseen: Option<usize> = None;
        let mut agenda = Agenda::default();
        let mut looks = FuturesUnordered::new();
        let mut beats = tokio::time::interval(BEAT);
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            // Before the first list is complete, a rival may not be known yet.
            while unseen.is_some()
                && looks.len() < CONCURRENCY
                && let Some(name) = agenda.take(runtime_now())
            {
                let context = context.clone();
                looks.push(async move {
                    let next = match context.bindings.get(&name) {
                        Some(binding) => reconcile(&binding, &context).await,
                        None => None,
                    };
                    (name, next)
                });
            }
            if unseen == Some(0)
                && let Some(all_seen) = all_seen.take()
            {
                // Nobody waits for it when the controller stops at once.
                let _ = all_seen.send(());
            }
            let due = agenda
                .next()
                .filter(|_| unseen.is_some() && looks.len() < CONCURRENCY);
            let time = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = &mut shutdown => break,
                event = events.next() => match event {
                    Some(event) => {
                        let listed = take_in(&context, &mut agenda, event);
                        if listed && unseen.is_none() {
                            unseen = Some(context.bindings.len());
                        }
                    }
                    None => break,
                },
                Some(name) = woken.next() => agenda.look_at(name, runtime_now()),
                Some((name, next)) = looks.next(), if !looks.is_empty() => {
                    unseen = unseen.map(|unseen| unseen.saturating_sub(1));
                    agenda.looked_at(name, next.map(|wait| runtime_now() + wait));
                }
                () = time => {}
                _ = beats.tick() => beat(),
            }
        }
        while looks.next().await.is_some() {}
    }
}

/// Takes in what the watch shows. Returns whether a list is complete.
fn take_in(context: &Context, agenda: &mut Agenda, event: Event<AlibabaRoleBinding>) -> bool {
    let now = runtime_now();
    // Those who ask for what somebody else asks for no more, or now.
    for (namespace, name) in context.claims.take_in(&event) {
        agenda.look_at(Name::new(&namespace, &name), now);
    }
    match context.bindings.take_in(event) {
        Change::Shown(name) => agenda.look_at(name, now),
        Change::Gone(names) => {
            for name in &names {
                agenda.forget(name);
            }
        }
        Change::Listed(gone) => {
            for name in &gone {
                agenda.forget(name);
            }
            return true;
        }
        Change::Listing => {}
    }
    false
}
