//! Names that are made of a binding's own.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// Longest name of a Secret.
const MAX_SECRET_NAME: usize = 253;
/// How many bytes of the digest stand at the end of a shortened text.
const DIGEST: usize = 4;

/// Name of the Secret of a binding that does not name one.
#[must_use]
pub fn default_secret_name(binding: &str) -> String {
    shortened(&format!("{binding}-credentials"), MAX_SECRET_NAME)
}

/// The text, or its start with 8 hex digits of its SHA-256 where it is longer than `limit`.
/// The text is ASCII, as names of Kubernetes objects are.
#[must_use]
pub fn shortened(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let mut short = format!("{}-", &text[..limit - 1 - 2 * DIGEST]);
    for byte in &Sha256::digest(text.as_bytes())[..DIGEST] {
        // Writing to a String cannot fail.
        let _ = write!(short, "{byte:02x}");
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_names_are_shortened() {
        assert_eq!(default_secret_name("app"), "app-credentials");
        let long = default_secret_name(&"a".repeat(253));
        assert_eq!(long.len(), MAX_SECRET_NAME);
        assert_ne!(long, default_secret_name(&"a".repeat(252)));
    }
}
