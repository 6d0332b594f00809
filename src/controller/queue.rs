//! Which exchange is next: one entry a binding, in a lane for each namespace. Pure.
//!
//! - Between namespaces: round robin. A lane that was served goes to the back, whatever waits in
//!   it, and an exchange of several STS calls (a chain) uses up as many of its rounds.
//! - Within a namespace: by the moment at which a workload is without credentials ([`Urgency`]).
//! - One lane holds at most a share of the workers: exchanges that hang are its own affair.
//! - Exchanges that ask STS for the same thing are made once: the others wait for the first one's
//!   result ([`FairQueue::take_sharers`]).
//!
//! A binding is either waiting here, or *busy*: looked at, or exchanged. Nothing is done for one
//! binding twice at the same time.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::plan::Cause;

/// How long a workload that has no credentials yet, or those of another spec, is reckoned to get
/// along. So it comes before refreshes in time, and after those of credentials that work and are
/// about to end.
const PATIENCE: TimeDelta = TimeDelta::minutes(5);

/// The moment at which somebody is without credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Urgency(i64);

impl Urgency {
    /// Of an exchange that is needed since `now`, while the credentials at hand, if any, end at
    /// `expiration`.
    pub(super) fn of(cause: Cause, expiration: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Self {
        let missed = now + PATIENCE;
        let moment = match (cause, expiration) {
            (Cause::Due | Cause::Requested | Cause::OidcWorks, Some(expiration)) => expiration,
            (_, Some(expiration)) => missed.min(expiration),
            (_, None) => missed,
        };
        Self(moment.timestamp_millis())
    }
}

/// What an exchange asks STS for, hashed.
pub(super) type ExchangeKey = [u8; 16];

/// A binding that waits for an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) urgency: Urgency,
    /// How many STS calls it takes.
    pub(super) calls: u32,
    pub(super) exchange: ExchangeKey,
}

/// An entry that was taken: its binding is busy until [`FairQueue::finish`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) exchange: ExchangeKey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Busy {
    /// Looked at.
    Look,
    /// Exchanged, or written from a shared result.
    Exchange(ExchangeKey),
}

type Place = (Urgency, u64);

#[derive(Debug)]
struct Lane {
    namespace: Arc<str>,
    order: BTreeMap<Place, Arc<str>>,
    waiting: HashMap<Arc<str>, (Place, Waiting)>,
    /// What is busy, and whether somebody came meanwhile in vain.
    busy: HashMap<Arc<str>, (Busy, bool)>,
    /// How many of the busy ones are exchanges.
    exchanging: usize,
    /// Rounds that are used up already.
    owed: u32,
    /// Whether the lane stands in the ring.
    queued: bool,
}

impl Lane {
    fn new(namespace: Arc<str>) -> Self {
        Self {
            namespace,
            order: BTreeMap::new(),
            waiting: HashMap::new(),
            busy: HashMap::new(),
            exchanging: 0,
            owed: 0,
            queued: false,
        }
    }

    fn remove(&mut self, name: &str) -> Option<(Place, Waiting)> {
        let entry = self.waiting.remove(name)?;
        self.order.remove(&entry.0);
        Some(entry)
    }

    fn is_exchanged(&self, key: &ExchangeKey) -> bool {
        self.busy
            .values()
            .any(|(busy, _)| matches!(busy, Busy::Exchange(other) if other == key))
    }

    /// The most urgent entry that nothing stands in the way of.
    fn next(&self) -> Option<Arc<str>> {
        self.order
            .values()
            .find(|name| {
                !self.busy.contains_key(*name)
                    && self
                        .waiting
                        .get(*name)
                        .is_some_and(|(_, waiting)| !self.is_exchanged(&waiting.exchange))
            })
            .cloned()
    }

    fn begin_exchange(&mut self, name: &Arc<str>, key: ExchangeKey) {
        self.busy.insert(name.clone(), (Busy::Exchange(key), false));
        self.exchanging += 1;
    }
}

/// The queue.
#[derive(Debug)]
pub(super) struct FairQueue {
    lanes: HashMap<Arc<str>, Lane>,
    /// Lanes in which something waits, in the order of their turns.
    ring: VecDeque<Arc<str>>,
    /// Tells equally urgent entries apart by their arrival.
    arrivals: u64,
    waiting: usize,
    /// How many exchanges of one lane run at the same time.
    share: usize,
}

impl FairQueue {
    pub(super) fn new(share: usize) -> Self {
        Self {
            lanes: HashMap::new(),
            ring: VecDeque::new(),
            arrivals: 0,
            waiting: 0,
            share,
        }
    }

    /// How many bindings wait.
    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    /// Begins to look at a binding. `false`: it is being exchanged; it will be looked at after
    /// that, because [`FairQueue::finish`] says so.
    pub(super) fn begin_look(&mut self, namespace: &str, name: &str) -> bool {
        if !self.lanes.contains_key(namespace) {
            let namespace: Arc<str> = namespace.into();
            self.lanes.insert(namespace.clone(), Lane::new(namespace));
        }
        let Some(lane) = self.lanes.get_mut(namespace) else {
            return false;
        };
        if let Some((_, in_vain)) = lane.busy.get_mut(name) {
            *in_vain = true;
            return false;
        }
        // The name that the entry has already, if there is one.
        let name = lane
            .waiting
            .get_key_value(name)
            .map_or_else(|| name.into(), |(name, _)| name.clone());
        lane.busy.insert(name, (Busy::Look, false));
        true
    }

    /// Ends the look at a binding: it waits for an exchange now, or no longer does. Who waits for
    /// the same thing as before keeps the place.
    pub(super) fn end_look(&mut self, namespace: &str, name: &str, outcome: Option<Waiting>) {
        let Some(lane) = self.lanes.get_mut(namespace) else {
            return;
        };
        let held = lane.busy.remove_entry(name);
        let before = lane.remove(name);
        self.waiting -= usize::from(before.is_some());
        if let Some(mut waiting) = outcome {
            self.arrivals += 1;
            let mut arrival = self.arrivals;
            if let Some(((_, arrived), before)) = before
                && before.exchange == waiting.exchange
            {
                waiting.urgency = waiting.urgency.min(before.urgency);
                arrival = arrived;
            }
            let name = held.map_or_else(|| name.into(), |(name, _)| name);
            let place = (waiting.urgency, arrival);
            lane.order.insert(place, name.clone());
            lane.waiting.insert(name, (place, waiting));
            self.waiting += 1;
            if !lane.queued {
                lane.queued = true;
                self.ring.push_back(lane.namespace.clone());
            }
        }
        self.tidy(namespace);
    }

    /// Whether there is an entry that [`FairQueue::take`] would give.
    pub(super) fn has_next(&self) -> bool {
        self.ring
            .iter()
            .filter_map(|namespace| self.lanes.get(namespace))
            .any(|lane| lane.exchanging < self.share && lane.next().is_some())
    }

    /// Takes the next entry, if there is one that nothing stands in the way of.
    pub(super) fn take(&mut self) -> Option<Taken> {
        let mut position = 0;
        // Each step goes past a lane or lets one pay a round, so this ends.
        while let Some(namespace) = self.ring.get(position).cloned() {
            let lane = self.lanes.get_mut(&namespace)?;
            let next = (lane.exchanging < self.share)
                .then(|| lane.next())
                .flatten();
            let Some(name) = next else {
                // It keeps its turn.
                position += 1;
                continue;
            };
            self.ring.remove(position);
            if lane.owed > 0 {
                lane.owed -= 1;
                self.ring.push_back(namespace);
                continue;
            }
            let (_, waiting) = lane.remove(&name)?;
            self.waiting -= 1;
            lane.owed = waiting.calls.saturating_sub(1);
            lane.begin_exchange(&name, waiting.exchange);
            lane.queued = !lane.order.is_empty();
            if lane.queued {
                self.ring.push_back(namespace.clone());
            }
            return Some(Taken {
                namespace,
                name,
                exchange: waiting.exchange,
            });
        }
        None
    }

    /// Takes all entries of the lane that wait for the same result.
    pub(super) fn take_sharers(&mut self, leader: &Taken) -> Vec<Taken> {
        let Some(lane) = self.lanes.get_mut(&leader.namespace) else {
            return Vec::new();
        };
        let names: Vec<_> = lane
            .waiting
            .iter()
            .filter(|(name, (_, waiting))| {
                waiting.exchange == leader.exchange && !lane.busy.contains_key(*name)
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in &names {
            lane.remove(name);
            lane.begin_exchange(name, leader.exchange);
        }
        self.waiting -= names.len();
        self.tidy(&leader.namespace);
        names
            .into_iter()
            .map(|name| Taken {
                name,
                ..leader.clone()
            })
            .collect()
    }

    /// The exchange of a binding is over. Returns whether somebody came meanwhile and was sent
    /// away.
    pub(super) fn finish(&mut self, taken: &Taken) -> bool {
        let Some(lane) = self.lanes.get_mut(&taken.namespace) else {
            return false;
        };
        let in_vain = lane.busy.remove(&taken.name).is_some_and(|(_, came)| came);
        lane.exchanging = lane.exchanging.saturating_sub(1);
        self.tidy(&taken.namespace);
        in_vain
    }

    /// Lanes in which nothing is left cost nothing.
    fn tidy(&mut self, namespace: &str) {
        let Some(lane) = self.lanes.get_mut(namespace) else {
            return;
        };
        if !lane.order.is_empty() {
            return;
        }
        if lane.queued {
            lane.queued = false;
            self.ring.retain(|waiting| **waiting != *namespace);
        }
        if lane.busy.is_empty() {
            self.lanes.remove(namespace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    /// A refresh in time of credentials that end after `seconds`; nobody else asks for the same.
    fn refresh(seconds: i64, name: &str) -> Waiting {
        let mut exchange = [0; 16];
        for (to, from) in exchange.iter_mut().zip(name.bytes().rev()) {
            *to = from;
        }
        Waiting {
            urgency: Urgency::of(Cause::Due, Some(at(seconds)), at(0)),
            calls: 1,
            exchange,
        }
    }

    fn put(queue: &mut FairQueue, namespace: &str, name: &str, waiting: Waiting) {
        assert!(queue.begin_look(namespace, name));
        queue.end_look(namespace, name, Some(waiting));
    }

    fn filled(entries: &[(&str, &str, i64)]) -> FairQueue {
        let mut queue = FairQueue::new(100);
        for (namespace, name, seconds) in entries {
            let waiting = refresh(*seconds, &format!("{namespace}{name}"));
            put(&mut queue, namespace, name, waiting);
        }
        queue
    }

    fn drained(queue: &mut FairQueue) -> Vec<String> {
        std::iter::from_fn(|| queue.take())
            .map(|taken| format!("{}/{}", taken.namespace, taken.name))
            .collect()
    }

    #[test]
    fn namespaces_take_turns_whatever_waits_in_them() {
        let mut queue = filled(&[
            ("a", "1", 10),
            ("a", "2", 20),
            ("a", "3", 30),
            ("b", "1", 9000),
            ("c", "1", 5000),
        ]);
        assert_eq!(drained(&mut queue), ["a/1", "b/1", "c/1", "a/2", "a/3"]);
    }

    #[test]
    fn what_ends_soonest_goes_first_in_its_namespace() {
        let now = at(0);
        let of = |cause, expiration: Option<i64>| Urgency::of(cause, expiration.map(at), now);
        let order = [
            of(Cause::Due, Some(-10)),
            of(Cause::Due, Some(299)),
            of(Cause::Missing, None),
            of(Cause::Due, Some(301)),
            of(Cause::Requested, Some(3000)),
        ];
        assert!(order.is_sorted());
        // Credentials of another spec are as good as none, or worse if they end before.
        assert_eq!(
            of(Cause::InputsChanged, Some(3000)),
            of(Cause::Missing, None)
        );
        assert_eq!(of(Cause::ForeignEdit, Some(7)), of(Cause::Due, Some(7)));
    }

    #[test]
    fn a_binding_waits_once_and_keeps_its_place() {
        let mut queue = filled(&[("a", "1", 10), ("a", "2", 10), ("b", "1", 10)]);
        put(&mut queue, "a", "1", refresh(50, "a1"));
        assert_eq!(queue.len(), 3);
        assert_eq!(drained(&mut queue), ["a/1", "b/1", "a/2"]);
        // Another exchange is another wait.
        let mut queue = filled(&[("a", "1", 10), ("a", "2", 10)]);
        put(&mut queue, "a", "1", refresh(50, "other"));
        assert_eq!(drained(&mut queue), ["a/2", "a/1"]);
    }

    #[test]
    fn what_no_longer_needs_anything_leaves() {
        let mut queue = filled(&[("a", "1", 10), ("b", "1", 10)]);
        assert!(queue.begin_look("a", "1"));
        queue.end_look("a", "1", None);
        assert_eq!(drained(&mut queue), ["b/1"]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn a_binding_is_looked_at_or_exchanged_but_never_both() {
        let mut queue = filled(&[("a", "1", 10)]);
        assert!(queue.begin_look("a", "1"));
        assert_eq!(queue.take(), None);
        queue.end_look("a", "1", Some(refresh(10, "a1")));
        let taken = queue.take().unwrap();
        assert!(!queue.begin_look("a", "1"));
        assert!(queue.finish(&taken), "somebody came");
        assert!(queue.begin_look("a", "1"));
        queue.end_look("a", "1", None);
        assert!(queue.lanes.is_empty() && queue.ring.is_empty());
    }

    #[test]
    fn hanging_exchanges_hold_up_their_own_namespace_only() {
        let mut queue = FairQueue::new(2);
        for name in ["1", "2", "3", "4"] {
            put(&mut queue, "a", name, refresh(10, name));
        }
        put(&mut queue, "b", "1", refresh(10, "b1"));
        assert_eq!(queue.take().map(|t| t.name), Some("1".into()));
        assert_eq!(queue.take().map(|t| t.namespace), Some("b".into()));
        let second = queue.take().unwrap();
        assert_eq!(queue.take(), None);
        queue.finish(&second);
        assert_eq!(queue.take().map(|t| t.name), Some("3".into()));
    }

    #[test]
    fn a_chain_uses_up_as_many_rounds_as_it_makes_calls() {
        let mut queue = FairQueue::new(100);
        for name in ["1", "2"] {
            let chain = Waiting {
                calls: 3,
                ..refresh(10, name)
            };
            put(&mut queue, "chains", name, chain);
        }
        for name in ["1", "2", "3", "4"] {
            put(&mut queue, "b", name, refresh(10, &format!("b{name}")));
        }
        assert_eq!(
            drained(&mut queue),
            ["chains/1", "b/1", "b/2", "b/3", "chains/2", "b/4"]
        );
    }

    #[test]
    fn identical_exchanges_wait_for_the_first_ones_result() {
        let mut queue = FairQueue::new(100);
        for (namespace, name) in [("a", "1"), ("a", "2"), ("a", "3"), ("b", "1")] {
            put(&mut queue, namespace, name, refresh(10, "same"));
        }
        let leader = queue.take().unwrap();
        // Another namespace never shares, whatever the key says.
        let other = queue.take().unwrap();
        assert_eq!(&*other.namespace, "b");
        assert_eq!(queue.take(), None);
        let mut shared: Vec<_> = queue
            .take_sharers(&leader)
            .into_iter()
            .map(|taken| (taken.namespace.to_string(), taken.name.to_string()))
            .collect();
        shared.sort();
        assert_eq!(shared, [("a".into(), "2".into()), ("a".into(), "3".into())]);
        assert!(queue.take_sharers(&other).is_empty());
        assert_eq!(queue.len(), 0);
    }

    proptest! {
        /// Who stands at place `p` of its lane is served within `p` rounds over all namespaces,
        /// while the busiest tenant goes on adding what is more urgent.
        #[test]
        fn nobody_starves(
            lanes in proptest::collection::vec(1_usize..6, 1..12),
            adding in 0_usize..12,
        ) {
            let mut queue = FairQueue::new(usize::MAX);
            for (lane, count) in lanes.iter().enumerate() {
                for entry in 0..*count {
                    let (namespace, name) = (format!("ns{lane}"), format!("{entry}"));
                    let seconds = i64::try_from(entry).unwrap() * 100;
                    let waiting = refresh(seconds, &format!("{lane}/{entry}"));
                    put(&mut queue, &namespace, &name, waiting);
                }
            }
            let greedy = format!("ns{}", adding % lanes.len());
            let mut places: HashMap<String, usize> = HashMap::new();
            let total: usize = lanes.iter().sum();
            for turn in 0..total * 2 {
                let added = format!("extra{turn}");
                put(&mut queue, &greedy, &added, refresh(-1, &added));
                let Some(taken) = queue.take() else { break };
                let place = places.entry(taken.namespace.to_string()).or_default();
                *place += 1;
                prop_assert!(turn < *place * lanes.len(), "{taken:?} at turn {turn}");
                queue.finish(&taken);
            }
            for (lane, count) in lanes.iter().enumerate() {
                let namespace = format!("ns{lane}");
                if namespace != greedy {
                    prop_assert_eq!(places.get(&namespace), Some(count));
                }
            }
        }

        /// Whatever happens in whatever order: nothing is lost or served twice, within a namespace
        /// the most urgent goes first, and nothing stays behind.
        #[test]
        fn it_keeps_its_books(
            steps in proptest::collection::vec((0_u8..4, 0_u8..3, 0_u8..5, 0_i64..50), 1..200)
        ) {
            let mut queue = FairQueue::new(2);
            let mut waiting: BTreeMap<(String, String), Urgency> = BTreeMap::new();
            let mut running: Vec<Taken> = Vec::new();
            for (step, namespace, name, seconds) in steps {
                let key = (format!("ns{namespace}"), format!("{name}"));
                match step {
                    0 | 1 => {
                        let busy = running
                            .iter()
                            .any(|taken| *taken.namespace == *key.0 && *taken.name == *key.1);
                        prop_assert_eq!(queue.begin_look(&key.0, &key.1), !busy);
                        if busy {
                            continue;
                        }
                        let wanted = (step == 0)
                            .then(|| refresh(seconds, &format!("{namespace}/{name}")));
                        match &wanted {
                            Some(new) => {
                                let known = waiting.entry(key.clone()).or_insert(new.urgency);
                                *known = new.urgency.min(*known);
                            }
                            None => {
                                waiting.remove(&key);
                            }
                        }
                        queue.end_look(&key.0, &key.1, wanted);
                    }
                    2 => {
                        let Some(taken) = queue.take() else {
                            for (namespace, _) in waiting.keys() {
                                let running = running.iter().filter(|t| *t.namespace == **namespace);
                                prop_assert!(running.count() >= 2, "{namespace} could go on");
                            }
                            continue;
                        };
                        let key = (taken.namespace.to_string(), taken.name.to_string());
                        let urgency = waiting.remove(&key);
                        prop_assert!(urgency.is_some(), "{key:?} was not waiting");
                        for ((namespace, _), other) in &waiting {
                            prop_assert!(*namespace != key.0 || urgency <= Some(*other));
                        }
                        running.push(taken);
                    }
                    _ => {
                        if !running.is_empty() {
                            queue.finish(&running.remove(0));
                        }
                    }
                }
                prop_assert_eq!(queue.len(), waiting.len());
            }
            for taken in running {
                queue.finish(&taken);
            }
            while let Some(taken) = queue.take() {
                queue.finish(&taken);
            }
            prop_assert!(queue.lanes.is_empty() && queue.ring.is_empty());
        }
    }
}
