//! State that is shared by a running simulator and the test that steers it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// The content of a lock, also after a test panicked while holding it: the other tests of the
/// process must not fail for that.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A value that is read as one snapshot and may be changed while the simulator runs.
#[derive(Debug, Default)]
pub(crate) struct Live<T>(RwLock<Arc<T>>);

impl<T: Clone> Live<T> {
    /// Starts with `value`.
    pub(crate) fn new(value: T) -> Self {
        Self(RwLock::new(Arc::new(value)))
    }

    /// The value as it is now.
    pub(crate) fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the value; requests that started earlier keep the old one.
    pub(crate) fn update(&self, change: impl FnOnce(&mut T)) {
        let mut value = self.0.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut value));
    }
}
