//! Which replica does the work: one Lease, held by one and watched by the others.
//!
//! ```text
//! candidate   what is known of the Lease, who may take it and what is written   (pure)
//! lease       reads and writes it, each call with a time-out
//! mod         the two loops: wait until it is ours; keep it until told to let go
//! ```
//!
//! **Clocks.** No replica compares its clock with another's. A candidate counts from the moment at
//! which *it* saw the Lease change last, by its steady clock; the times in the Lease are for people.
//! The holder counts from before it sent the last renewal that succeeded. So it gives up, at the
//! latest, the renew deadline after a moment that lies before the one from which the others count
//! the lease's duration.
//!
//! Written here because the crates that exist fit neither this kube nor machines whose clocks
//! differ.

mod candidate;
mod lease;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::{info, warn};

use candidate::{Candidate, Claim};
pub use candidate::{InvalidTiming, Timing};
use lease::{Denied, LeaseObject};

use crate::world::Clock;

/// What an election is about.
pub struct Election {
    /// Talks to the API server.
    pub client: kube::Client,
    /// Namespace of the Lease.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// This replica, unlike any other and any earlier run of its own.
    pub identity: String,
    /// How long everything takes.
    pub timing: Timing,
    /// For its steady clock.
    pub clock: Arc<dyn Clock>,
}

/// The Lease is not ours any more, and the work must end at once.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// Another replica took it.
    #[error("another replica, {0}, has taken the Lease")]
    Taken(String),
    /// It could not be renewed in time.
    #[error("the Lease could not be renewed for {0:?}: {1}")]
    NotRenewed(Duration, String),
}

/// The Lease while it is ours.
#[derive(Debug)]
pub struct Leadership {
    object: LeaseObject,
    candidate: Candidate,
    timing: Timing,
    clock: Arc<dyn Clock>,
    /// Before the last renewal that succeeded was sent, by the steady clock.
    renewed: Duration,
}

impl std::fmt::Debug for Election {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Election")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl Election {
    /// Waits until the Lease is ours. `standing_by` is told each time that the Lease was seen in
    /// another's hand, and `trouble` why it could not be seen or taken.
    pub async fn win(
        self,
        mut standing_by: impl FnMut(&str),
        mut trouble: impl FnMut(&str),
    ) -> Leadership {
        let Self {
            client,
            namespace,
            name,
            identity,
            timing,
            clock,
        } = self;
        let mut object = LeaseObject::new(client, &namespace, &name, timing.call());
        let mut candidate = Candidate::new(identity, timing);
        info!(
            namespace,
            name,
            identity = candidate.identity(),
            "waiting for the Lease"
        );
        loop {
            let seen = object.read().await;
            let tried = match seen {
                Ok(seen) => match candidate.observe(seen, clock.steady()) {
                    Claim::Wait { holder } => {
                        standing_by(&holder);
                        tokio::time::sleep(timing.retry_period).await;
                        continue;
                    }
                    Claim::Take(record) => {
                        let asked = clock.steady();
                        object.write(&record, clock.now()).await.map(|()| asked)
                    }
                },
                Err(error) => Err(error),
            };
            match tried {
                Ok(renewed) => {
                    info!(namespace, name, "the Lease is ours");
                    return Leadership {
                        object,
                        candidate,
                        timing,
                        clock,
                        renewed,
                    };
                }
                // Somebody was faster; the next look tells who.
                Err(Denied::Conflict) => {}
                Err(Denied::Failed(cause)) => {
                    warn!(namespace, name, "the Lease cannot be had: {cause}");
                    trouble(&cause);
                }
            }
            tokio::time::sleep(timing.retry_period).await;
        }
    }
}

impl Leadership {
    /// Renews until it is lost, or until `release` says that the work has ended; then the Lease is
    /// given back, so that the next replica need not wait.
    ///
    /// # Errors
    /// [`Lost`]: the work must end before anything else is written.
    pub async fn keep(mut self, mut release: oneshot::Receiver<()>) -> Result<(), Lost> {
        loop {
            tokio::select! {
                // An error means that whoever works is gone, which is an end as well.
                _ = &mut release => {
                    self.give_back().await;
                    return Ok(());
                }
                () = tokio::time::sleep(self.timing.retry_period) => self.renew().await?,
            }
        }
    }

    /// Tries until it has succeeded or the deadline has passed.
    async fn renew(&mut self) -> Result<(), Lost> {
        let mut cause = "no answer from the API server in time".to_owned();
        loop {
            let asked = self.clock.steady();
            let left = (self.renewed + self.timing.renew_deadline).saturating_sub(asked);
            if left.is_zero() {
                return Err(Lost::NotRenewed(self.timing.renew_deadline, cause));
            }
            let record = self.candidate.renewal();
            match tokio::time::timeout(left, self.object.write(&record, self.clock.now())).await {
                Ok(Ok(())) => {
                    self.renewed = asked;
                    return Ok(());
                }
                // An answer that was lost on the way may have been a success: look.
                Ok(Err(Denied::Conflict)) => match self.object.read().await {
                    Ok(seen) => self
                        .candidate
                        .still_ours(seen.as_ref())
                        .map_err(Lost::Taken)?,
                    Err(Denied::Failed(why)) => cause = why,
                    Err(Denied::Conflict) => {}
                },
                Ok(Err(Denied::Failed(why))) => {
                    warn!("the Lease was not renewed: {why}");
                    cause = why;
                }
                Err(_) => {}
            }
            let pause = self.timing.retry_period.min(self.timing.renew_deadline / 8);
            tokio::time::sleep(pause).await;
        }
    }

    async fn give_back(&mut self) {
        let record = self.candidate.release();
        match self.object.write(&record, self.clock.now()).await {
            Ok(()) => info!("the Lease is given back"),
            Err(Denied::Conflict) => info!("the Lease was another's already"),
            Err(Denied::Failed(cause)) => {
                warn!(
                    "the Lease could not be given back, the next replica waits for its end: {cause}"
                );
            }
        }
    }
}
