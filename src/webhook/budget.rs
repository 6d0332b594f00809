//! Memory that many share: what is small is free, so that the few that are large cannot keep it out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Memory for large things that are held at once, beyond what each may take uncounted. Clones share it.
#[derive(Debug, Clone)]
pub struct Budget {
    left: Arc<AtomicUsize>,
    free: usize,
}

/// What one of them has taken, until it is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    taken: usize,
}

impl Budget {
    /// So many bytes in all, and so many for each that are not counted.
    #[must_use]
    pub fn new(bytes: usize, free: usize) -> Self {
        Self {
            left: Arc::new(AtomicUsize::new(bytes)),
            free,
        }
    }

    /// A share that has taken nothing yet.
    #[must_use]
    pub fn share(&self) -> Share {
        Share {
            budget: self.clone(),
            taken: 0,
        }
    }

    #[cfg(test)]
    pub(super) fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }
}

impl Share {
    /// Grows to what so many bytes take, or says that there is no room for them.
    #[must_use]
    pub fn grow(&mut self, bytes: usize) -> bool {
        let more = bytes
            .saturating_sub(self.budget.free)
            .saturating_sub(self.taken);
        if more == 0 {
            return true;
        }
        let take = |left: usize| left.checked_sub(more);
        let left = &self.budget.left;
        let room = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        if room.is_ok() {
            self.taken += more;
        }
        room.is_ok()
    }

    /// Whether anything of it is counted.
    #[must_use]
    pub fn is_counted(&self) -> bool {
        self.taken > 0
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.taken, Ordering::Relaxed);
    }
}
