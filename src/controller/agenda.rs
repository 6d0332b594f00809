//! Which binding is looked at when. One entry a binding; the earlier of two times counts. Pure.

use std::collections::{BTreeSet, HashMap};

use tokio::time::Instant;

use super::bindings::Name;

/// The times of the next looks.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    order: BTreeSet<(Instant, Name)>,
    times: HashMap<Name, Instant>,
    /// Who is looked at now, and when again, if somebody asked for it meanwhile.
    looking: HashMap<Name, Option<Instant>>,
}

impl Agenda {
    /// Has a binding looked at by then. One that is looked at now is looked at again.
    pub(super) fn look_at(&mut self, name: Name, at: Instant) {
        if let Some(again) = self.looking.get_mut(&name) {
            *again = Some(again.map_or(at, |earlier| earlier.min(at)));
            return;
        }
        if let Some(known) = self.times.get_mut(&name) {
            if *known <= at {
                return;
            }
            self.order.remove(&(*known, name.clone()));
            *known = at;
        } else {
            self.times.insert(name.clone(), at);
        }
        self.order.insert((at, name));
    }

    /// When the next look is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes a binding whose look is due; [`Agenda::looked_at`] ends the look.
    pub(super) fn take(&mut self, now: Instant) -> Option<Name> {
        if self.next()? > now {
            return None;
        }
        let (_, name) = self.order.pop_first()?;
        self.times.remove(&name);
        self.looking.insert(name.clone(), None);
        Some(name)
    }

    /// A look has ended; the next one is wanted then.
    pub(super) fn looked_at(&mut self, name: Name, next: Option<Instant>) {
        let again = self.looking.remove(&name).flatten();
        if let Some(at) = [again, next].into_iter().flatten().min() {
            self.look_at(name, at);
        }
    }

    /// A binding is gone.
    pub(super) fn forget(&mut self, name: &Name) {
        if let Some(at) = self.times.remove(name) {
            self.order.remove(&(at, name.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::runtime_now;
    use proptest::prelude::*;
    use std::time::Duration;

    fn name(name: &str) -> Name {
        Name::new("team-a", name)
    }

    #[test]
    fn the_earlier_of_two_times_counts() {
        let (mut agenda, now) = (Agenda::default(), runtime_now());
        let second = Duration::from_secs(1);
        agenda.look_at(name("a"), now + 2 * second);
        agenda.look_at(name("b"), now + 3 * second);
        agenda.look_at(name("b"), now + second);
        agenda.look_at(name("a"), now + 5 * second);
        assert_eq!(agenda.take(now), None);
        assert_eq!(agenda.next(), Some(now + second));
        assert_eq!(agenda.take(now + 2 * second), Some(name("b")));
        assert_eq!(agenda.take(now + 2 * second), Some(name("a")));
        assert_eq!(agenda.next(), None);
    }

    #[test]
    fn nobody_is_looked_at_twice_at_once_and_no_wish_is_lost() {
        let (mut agenda, now) = (Agenda::default(), runtime_now());
        let minute = Duration::from_mins(1);
        agenda.look_at(name("a"), now);
        assert_eq!(agenda.take(now), Some(name("a")));
        agenda.look_at(name("a"), now);
        assert_eq!(agenda.take(now), None);
        agenda.looked_at(name("a"), Some(now + minute));
        assert_eq!(agenda.take(now), Some(name("a")));
        agenda.looked_at(name("a"), Some(now + minute));
        assert_eq!(agenda.take(now), None);
        agenda.forget(&name("a"));
        assert_eq!(agenda.next(), None);
    }

    proptest! {
        /// Whatever is asked in whatever order: each wish is met by a look that begins after it.
        #[test]
        fn it_keeps_its_books(steps in proptest::collection::vec((0_u8..4, 0_u8..4, 0_u64..9), 1..120)) {
            let (mut agenda, start) = (Agenda::default(), runtime_now());
            let mut looking: Vec<Name> = Vec::new();
            let mut wanted: HashMap<Name, Instant> = HashMap::new();
            for (step, who, at) in steps {
                let (who, at) = (name(&who.to_string()), start + Duration::from_secs(at));
                match step {
                    0 | 1 => {
                        agenda.look_at(who.clone(), at);
                        let known = wanted.entry(who).or_insert(at);
                        *known = at.min(*known);
                    }
                    2 => {
                        let taken = agenda.take(at);
                        let due = |name: &Name| !looking.contains(name) && wanted[name] <= at;
                        prop_assert_eq!(taken.is_some(), wanted.keys().any(due));
                        if let Some(taken) = taken {
                            prop_assert!(due(&taken));
                            wanted.remove(&taken);
                            looking.push(taken);
                        }
                    }
                    _ => {
                        if !looking.is_empty() {
                            agenda.looked_at(looking.remove(0), None);
                        }
                    }
                }
            }
            for taken in looking {
                agenda.looked_at(taken, None);
            }
            while let Some(taken) = agenda.take(start + Duration::from_mins(1)) {
                prop_assert!(wanted.remove(&taken).is_some());
                agenda.looked_at(taken, None);
            }
            prop_assert!(wanted.is_empty() && agenda.times.is_empty() && agenda.looking.is_empty());
        }
    }
}
