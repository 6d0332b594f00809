//! The provider of a profile, for as long as the profile stays the same: what it has learnt, such
//! as a token of the metadata service or a login's new tokens, is kept with it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::credentials::provider::Provider;

/// The last provider, and the settings that it was made of.
pub(super) struct Kept<T>(Mutex<Option<(T, Arc<dyn Provider>)>>);

impl<T: PartialEq> Kept<T> {
    /// The provider of these settings: the last one if they are still the same, else a new one.
    pub(super) fn provider<E>(
        &self,
        settings: T,
        make: impl FnOnce(&T) -> Result<Arc<dyn Provider>, E>,
    ) -> Result<Arc<dyn Provider>, E> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, provider)) = last.as_ref()
            && *of == settings
        {
            return Ok(Arc::clone(provider));
        }
        let provider = make(&settings)?;
        *last = Some((settings, Arc::clone(&provider)));
        Ok(provider)
    }
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> fmt::Debug for Kept<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::StaticAk;

    #[test]
    fn the_same_settings_keep_their_provider() {
        let kept = Kept::default();
        let of = |settings: &'static str| {
            kept.provider(settings, |id| {
                StaticAk::new(*id, "secret".into()).map(|p| Arc::new(p) as Arc<dyn Provider>)
            })
        };
        let first = of("a").unwrap();
        assert!(Arc::ptr_eq(&first, &of("a").unwrap()));
        assert!(of("").is_err());
        // A mistake in between is no reason to forget what was learnt.
        assert!(Arc::ptr_eq(&first, &of("a").unwrap()));
        assert!(!Arc::ptr_eq(&first, &of("b").unwrap()));
        assert!(!Arc::ptr_eq(&first, &of("a").unwrap()));
    }
}
