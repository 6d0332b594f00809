//! What is to become of the authorities now. Pure but for the making of a key.
//!
//! A rotation never leaves a moment in which a certificate is served that some API server does not
//! trust yet, or still is served when it is trusted no more:
//!
//! 1. *prepared*: a successor is made and joins the bundle;
//! 2. the bundle is registered, and seen so for a while, since each API server hears of it in its
//!    own time;
//! 3. *promoted*: the successor signs; each replica takes a certificate of it, in memory;
//! 4. the certificates of the former authority run out;
//! 5. *retired*: the former authority leaves the bundle.
//!
//! Each step is one write of the Secret against the version that was looked at, so that any replica
//! may take it and only one does.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::authorities::{Authorities, Trusted};
use super::authority::{Authority, AuthorityError};

/// Lives and waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Life of an authority.
    pub authority: Duration,
    /// Life of a server certificate.
    pub leaf: Duration,
    /// How long a bundle must have been registered before a certificate relies on it.
    pub propagation: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            authority: Duration::from_hours(365 * 24),
            leaf: Duration::from_hours(7 * 24),
            propagation: Duration::from_secs(30),
        }
    }
}

impl Times {
    /// How often store and clock are looked at.
    #[must_use]
    pub fn interval(&self) -> Duration {
        const SHORTEST: Duration = Duration::from_millis(500);
        const LONGEST: Duration = Duration::from_secs(15);
        (self.leaf / 20)
            .min(self.propagation / 2)
            .clamp(SHORTEST, LONGEST)
    }

    /// How long a former authority stays trusted: its last certificate may have been renewed once
    /// more by a replica that could not read the Secret.
    fn overlap(&self) -> Duration {
        self.leaf * 2
    }
}

/// What has to be known for a decision.
pub(super) struct Circumstances<'a> {
    /// The present moment.
    pub now: DateTime<Utc>,
    /// Lives and waits.
    pub times: Times,
    /// The authority of the certificate that is served here.
    pub served: Option<&'a Authority>,
    /// What the annotation that asks for a rotation says.
    pub request: Option<&'a str>,
    /// Whether every client has had the time to learn of an authority.
    pub propagated: &'a dyn Fn(&Authority) -> bool,
}

/// A step that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The authority that signed is over: another signs at once, since nothing is lost by it.
    Replaced,
    /// Somebody put other authorities there; the one that is served here stays trusted meanwhile.
    Kept,
    /// A successor was made.
    Prepared,
    /// The successor signs.
    Promoted,
    /// The successor was of no use.
    Dropped,
    /// Former authorities are trusted no more.
    Retired,
}

/// The next step, if one is due, and what is to be stored then.
///
/// # Errors
/// When a key cannot be made.
pub(super) fn advance(
    stored: &Authorities,
    circumstances: &Circumstances<'_>,
) -> Result<Option<(Authorities, Step)>, AuthorityError> {
    let Circumstances {
        now,
        times,
        served,
        request,
        propagated,
    } = *circumstances;
    let mut next = stored.clone();
    if now >= stored.signing.not_after() {
        let usable = next.next.take().filter(|next| next.is_valid(now));
        next.signing = match usable {
            Some(successor) => successor,
            None => Arc::new(Authority::generate(now, times.authority)?),
        };
        trust(&mut next, |signing| Trusted::new(signing, None));
        next.trusted.retain(|trusted| now < trusted.not_after);
        return Ok(Some((next, Step::Replaced)));
    }
    if let Some(served) = served.filter(|served| served.is_valid(now))
        && !stored.trusts(served.der())
    {
        let until = Some(now + times.overlap());
        next.trusted.push(Trusted::new(served, until));
        return Ok(Some((next, Step::Kept)));
    }
    if let Some(successor) = &stored.next {
        if !successor.is_valid(now) || !stored.trusts(successor.der()) {
            next.next = None;
            next.trusted
                .retain(|trusted| trusted.der != *successor.der());
            return Ok(Some((next, Step::Dropped)));
        }
        if propagated(successor) {
            let until = Some(now + times.overlap());
            for former in &mut next.trusted {
                if former.der == *stored.signing.der() {
                    former.until = until;
                }
            }
            next.signing = Arc::clone(successor);
            next.next = None;
            return Ok(Some((next, Step::Promoted)));
        }
    } else if stored.signing.is_due(now)
        || request.is_some_and(|asked| stored.answered.as_deref() != Some(asked))
    {
        let successor = Authority::generate(now, times.authority)?;
        next.trusted.push(Trusted::new(&successor, None));
        next.next = Some(Arc::new(successor));
        next.answered = request.map(ToOwned::to_owned).or(next.answered);
        return Ok(Some((next, Step::Prepared)));
    }
    next.trusted.retain(|trusted| {
        let needed = trusted.der == *stored.signing.der()
            || stored
                .next
                .as_ref()
                .is_some_and(|next| *next.der() == trusted.der);
        let until = trusted.until.unwrap_or(trusted.not_after);
        needed || now < until.min(trusted.not_after)
    });
    Ok((next.trusted.len() < stored.trusted.len()).then_some((next, Step::Retired)))
}

/// Sees to it that the authority that signs is trusted, for as long as it does.
fn trust(authorities: &mut Authorities, trusted: impl FnOnce(&Authority) -> Trusted) {
    let signing = Arc::clone(&authorities.signing);
    let known = authorities
        .trusted
        .iter_mut()
        .find(|trusted| trusted.der == *signing.der());
    match known {
        Some(known) => known.until = None,
        None => authorities.trusted.push(trusted(&signing)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    fn start() -> DateTime<Utc> {
        "2026-05-01T00:00:00Z".parse().unwrap()
    }

    /// Authorities that live through their steps.
    struct Life {
        stored: Authorities,
        now: DateTime<Utc>,
        request: Option<&'static str>,
        propagated: bool,
        served: Option<Arc<Authority>>,
    }

    impl Life {
        fn new() -> Self {
            let times = Times::default();
            Self {
                stored: Authorities::new(Authority::generate(start(), times.authority).unwrap()),
                now: start(),
                request: None,
                propagated: false,
                served: None,
            }
        }

        /// Takes the step that is due.
        fn step(&mut self) -> Option<Step> {
            let circumstances = Circumstances {
                now: self.now,
                times: Times::default(),
                served: self.served.as_deref(),
                request: self.request,
                propagated: &|_| self.propagated,
            };
            let (stored, step) = advance(&self.stored, &circumstances).unwrap()?;
            // Whatever is decided can be stored and read again.
            self.stored = Authorities::from_secret(&stored.to_secret()).unwrap();
            Some(step)
        }

        fn days(&mut self, days: i64) {
            self.now += TimeDelta::days(days);
        }
    }

    #[test]
    fn an_authority_is_succeeded_in_time_and_both_are_trusted_meanwhile() {
        let mut life = Life::new();
        let first = Arc::clone(&life.stored.signing);
        life.days(240);
        assert_eq!(life.step(), None, "not yet");
        life.days(5);
        assert_eq!(life.step(), Some(Step::Prepared));
        let next = Arc::clone(life.stored.next.as_ref().unwrap());
        assert_eq!(life.stored.signing.der(), first.der());
        assert!(life.stored.trusts(first.der()) && life.stored.trusts(next.der()));
        assert_eq!(
            life.step(),
            None,
            "nobody relies on what is not known everywhere"
        );
        life.propagated = true;
        assert_eq!(life.step(), Some(Step::Promoted));
        assert_eq!(life.stored.signing.der(), next.der());
        assert!(
            life.stored.trusts(first.der()),
            "its certificates still serve"
        );
        life.days(13);
        assert_eq!(life.step(), None);
        life.days(2);
        assert_eq!(life.step(), Some(Step::Retired));
        assert!(!life.stored.trusts(first.der()) && life.stored.trusts(next.der()));
        assert_eq!(life.step(), None);
    }

    #[test]
    fn a_request_makes_one_rotation() {
        let mut life = Life::new();
        life.request = Some("today");
        life.propagated = true;
        assert_eq!(life.step(), Some(Step::Prepared));
        assert_eq!(life.step(), Some(Step::Promoted));
        assert_eq!(life.step(), None);
        life.request = Some("again");
        assert_eq!(life.step(), Some(Step::Prepared));
        assert_eq!(
            life.stored.trusted.len(),
            3,
            "one overlap need not wait for another"
        );
    }

    #[test]
    fn an_authority_that_is_over_is_replaced_at_once() {
        let mut life = Life::new();
        life.days(366);
        assert_eq!(life.step(), Some(Step::Replaced));
        assert!(life.stored.signing.is_valid(life.now));
        assert_eq!(life.stored.trusted.len(), 1);
        assert_eq!(life.step(), None);
    }

    #[test]
    fn a_successor_that_waits_takes_the_place_of_one_that_is_over() {
        let mut life = Life::new();
        life.days(300);
        assert_eq!(life.step(), Some(Step::Prepared));
        let next = Arc::clone(life.stored.next.as_ref().unwrap());
        life.days(66);
        assert_eq!(life.step(), Some(Step::Replaced));
        assert_eq!(life.stored.signing.der(), next.der());
        assert!(life.stored.next.is_none());
    }

    #[test]
    fn a_restored_backup_leaves_the_served_authority_trusted() {
        let mut life = Life::new();
        let served = Arc::clone(&life.stored.signing);
        life.served = Some(Arc::clone(&served));
        assert_eq!(life.step(), None);
        life.stored = Life::new().stored;
        assert_eq!(life.step(), Some(Step::Kept));
        assert!(life.stored.trusts(served.der()));
        assert_ne!(life.stored.signing.der(), served.der());
        assert_eq!(life.step(), None);
        life.served = None;
        life.days(15);
        assert_eq!(life.step(), Some(Step::Retired));
        assert!(!life.stored.trusts(served.der()));
    }

    #[test]
    fn an_authority_from_the_future_is_succeeded_but_goes_on_meanwhile() {
        let mut life = Life::new();
        life.days(-2);
        assert_eq!(life.step(), Some(Step::Prepared));
        assert!(life.stored.next.as_ref().unwrap().is_valid(life.now));
        life.propagated = true;
        assert_eq!(life.step(), Some(Step::Promoted));
        assert_eq!(life.step(), None);
    }

    #[test]
    fn a_successor_of_no_use_is_dropped_and_made_anew() {
        let mut life = Life::new();
        life.request = Some("today");
        assert_eq!(life.step(), Some(Step::Prepared));
        life.propagated = true;
        life.days(-2);
        assert_eq!(life.step(), Some(Step::Dropped));
        assert_eq!(life.stored.trusted.len(), 1);
    }

    #[test]
    fn nothing_is_due_on_an_ordinary_day() {
        let mut life = Life::new();
        life.propagated = true;
        for _ in 0..200 {
            life.days(1);
            assert_eq!(life.step(), None);
        }
    }
}
