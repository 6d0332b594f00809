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
    /// Those that may lose their place, longest first. Entries of places that were given back stay
    /// until they come to the front.
    waiting: VecDeque<Arc<Ticket>>,
}

/// One place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    shared: Arc<Shared>,
    ticket: Arc<Ticket>,
}

#[derive(Debug, Default)]
struct Ticket {
    /// Told when the place is lost.
    lost: Notify,
    state: Mutex<Holding>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Holding {
    /// May lose its place.
    #[default]
    Waiting,
    /// Keeps its place.
    Working,
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
        state.forget();
        let ticket = Arc::new(Ticket::default());
        state.waiting.push_back(Arc::clone(&ticket));
        Some(Place {
            shared: Arc::clone(&self.0),
            ticket,
        })
    }
}

impl State {
    /// Takes a place from the one who waits longest.
    fn evict(&mut self) -> bool {
        while let Some(ticket) = self.waiting.pop_front() {
            let mut holding = lock(&ticket.state);
            if *holding == Holding::Waiting {
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
        let waits = |ticket: &Arc<Ticket>| *lock(&ticket.state) == Holding::Waiting;
        while self.waiting.front().is_some_and(|ticket| !waits(ticket)) {
            self.waiting.pop_front();
        }
        if self.waiting.len() > 2 * self.taken + 16 {
            self.waiting.retain(waits);
        }
    }
}

impl Place {
    /// Keeps the place from now on; `false`: it is lost already.
    #[must_use]
    pub fn work(&self) -> bool {
        let mut holding = lock(&self.ticket.state);
        if *holding == Holding::Gone {
            return false;
        }
        *holding = Holding::Working;
        true
    }

    /// Completes when the place is lost.
    pub async fn lost(&self) {
        self.ticket.lost.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The order of the locks is that of `take`.
        let mut state = lock(&self.shared.state);
        let mut holding = lock(&self.ticket.state);
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
    fn places_are_given_back_and_nothing_piles_up() {
        let places = Places::new(3);
        let _worker = places.take().filter(Place::work);
        for _ in 0..10_000 {
            let place = places.take().unwrap();
            assert!(place.work());
        }
        let state = lock(&places.0.state);
        assert_eq!(state.taken, 1);
        assert!(state.waiting.len() < 32, "{}", state.waiting.len());
    }
}
