//! A bounded number of places for what may take its time. When all are taken, whoever has held one
//! longest without coming to the point loses it to the newcomer: so nobody can keep others out by
//! doing nothing.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// So many places. Clones share them.
#[derive(Debug, Clone)]
pub struct Places(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    /// How often somebody has begun to wait.
    waits: u64,
    /// Those that may lose their place, longest first, each with the number of its wait. Entries
    /// of waits that are over stay until they come to the front.
    waiting: VecDeque<(u64, Arc<Ticket>)>,
}

/// One place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    shared: Arc<Shared>,
    ticket: Arc<Ticket>,
}

#[derive(Debug)]
struct Ticket {
    /// Told when the place is lost.
    lost: Notify,
    holding: Mutex<Holding>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holding {
    /// May lose its place; the number is that of the wait.
    Waiting(u64),
    /// Keeps its place while so many things are under way.
    Working(usize),
    /// Has none any more.
    Gone,
}

impl Places {
    /// So many places, all free.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Shared {
            limit,
            state: Mutex::default(),
        }))
    }

    /// A free place, or that of the one who waits longest. `None`: all are at work.
    #[must_use]
    pub fn take(&self) -> Option<Place> {
        let mut state = lock(&self.0.state);
        if state.taken >= self.0.limit && !state.evict() {
            return None;
        }
        state.taken += 1;
        let ticket = Arc::new(Ticket {
            lost: Notify::new(),
            holding: Mutex::new(Holding::Gone),
        });
        state.wait(&ticket);
        Some(Place {
            shared: Arc::clone(&self.0),
            ticket,
        })
    }
}

impl State {
    /// Lets a ticket wait behind all others.
    fn wait(&mut self, ticket: &Arc<Ticket>) {
        self.waits += 1;
        *lock(&ticket.holding) = Holding::Waiting(self.waits);
        self.waiting.push_back((self.waits, Arc::clone(ticket)));
        self.forget();
    }

    /// Takes a place from the one who waits longest.
    fn evict(&mut self) -> bool {
        while let Some((wait, ticket)) = self.waiting.pop_front() {
            let mut holding = lock(&ticket.holding);
            if *holding == Holding::Waiting(wait) {
                *holding = Holding::Gone;
                drop(holding);
                self.taken -= 1;
                ticket.lost.notify_one();
                return true;
            }
        }
        false
    }

    /// Drops entries that mean nothing any more: those at the front at once, the others when they
    /// are most of the list.
    fn forget(&mut self) {
        let waits =
            |(wait, ticket): &(u64, Arc<Ticket>)| *lock(&ticket.holding) == Holding::Waiting(*wait);
        while self.waiting.front().is_some_and(|entry| !waits(entry)) {
            self.waiting.pop_front();
        }
        if self.waiting.len() > 2 * self.taken + 16 {
            self.waiting.retain(waits);
        }
    }
}

impl Place {
    /// Keeps the place until as many calls of [`rest`](Self::rest); `false`: it is lost already.
    #[must_use]
    pub fn work(&self) -> bool {
        let mut holding = lock(&self.ticket.holding);
        *holding = match *holding {
            Holding::Gone => return false,
            Holding::Waiting(_) => Holding::Working(1),
            Holding::Working(things) => Holding::Working(things + 1),
        };
        true
    }

    /// One thing is done. After the last one the place may be lost again, but those that have
    /// waited longer go first.
    pub fn rest(&self) {
        // The order of the locks is always this one.
        let mut state = lock(&self.shared.state);
        let mut holding = lock(&self.ticket.holding);
        match *holding {
            Holding::Working(things) if things > 1 => *holding = Holding::Working(things - 1),
            Holding::Working(_) => {
                drop(holding);
                state.wait(&self.ticket);
            }
            Holding::Waiting(_) | Holding::Gone => {}
        }
    }

    /// Completes when the place is lost.
    pub async fn lost(&self) {
        self.ticket.lost.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        let mut holding = lock(&self.ticket.holding);
        if *holding != Holding::Gone {
            *holding = Holding::Gone;
            state.taken -= 1;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn is_lost(place: &Place) -> bool {
        place.lost().now_or_never().is_some()
    }

    #[test]
    fn who_waits_longest_makes_room() {
        let places = Places::new(2);
        let (first, second) = (places.take().unwrap(), places.take().unwrap());
        let third = places.take().unwrap();
        assert!(is_lost(&first) && !first.work());
        assert!(!is_lost(&second) && second.work());
        drop(first);
        let fourth = places.take().unwrap();
        assert!(is_lost(&third) && !is_lost(&second));
        assert!(fourth.work());
        assert!(places.take().is_none(), "all are at work");
        drop(second);
        assert!(places.take().is_some());
    }

    #[test]
    fn who_has_worked_waits_behind_those_who_wait_already() {
        let places = Places::new(2);
        let (first, second) = (places.take().unwrap(), places.take().unwrap());
        assert!(first.work() && first.work());
        first.rest();
        let third = places.take().unwrap();
        assert!(
            is_lost(&second) && !is_lost(&first),
            "one thing is still under way"
        );
        first.rest();
        let _fourth = places.take().unwrap();
        assert!(is_lost(&third) && !is_lost(&first));
        let _fifth = places.take().unwrap();
        assert!(is_lost(&first));
        first.rest();
        assert!(!first.work());
    }

    #[test]
    fn places_are_given_back_and_nothing_piles_up() {
        let places = Places::new(3);
        let _worker = places.take().filter(Place::work);
        for _ in 0..10_000 {
            let place = places.take().unwrap();
            assert!(place.work());
            place.rest();
        }
        let state = lock(&places.0.state);
        assert_eq!(state.taken, 1);
        assert!(state.waiting.len() < 32, "{}", state.waiting.len());
    }
}
