//! Randomness, for what must never come twice.

use std::fmt::Debug;

/// A source of unguessable bytes.
pub trait Random: Debug + Send + Sync {
    /// Sixteen new bytes.
    ///
    /// # Errors
    /// [`NoRandomness`] when the system has none to give.
    fn bytes(&self) -> Result<[u8; 16], NoRandomness>;
}

/// The system's random source did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system's random source gave nothing; check getrandom(2) and /dev/urandom")]
pub struct NoRandomness;

/// The system's source, as the TLS library reads it.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn bytes(&self) -> Result<[u8; 16], NoRandomness> {
        let mut bytes = [0; 16];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bytes_come_twice() {
        assert_ne!(SystemRandom.bytes().unwrap(), SystemRandom.bytes().unwrap());
    }
}
