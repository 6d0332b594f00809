//! Random texts in the shapes that the cloud uses.

use std::fmt::Write as _;

const ALPHANUMERIC: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// `count` random bytes.
///
/// # Panics
/// When the system has no randomness left to give: nothing can be simulated then.
#[expect(
    clippy::expect_used,
    reason = "without randomness no credential can be issued"
)]
fn bytes(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut bytes)
        .expect("the system's random source answers");
    bytes
}

/// `count` letters and digits.
pub(crate) fn alphanumeric(count: usize) -> String {
    // 62 does not divide 256, so a few characters come a little more often: these are not real
    // secrets, they only have to be unlike each other.
    bytes(count)
        .into_iter()
        .map(|byte| char::from(ALPHANUMERIC[usize::from(byte) % ALPHANUMERIC.len()]))
        .collect()
}

/// A request id: a random UUID in capitals.
pub(crate) fn request_id() -> String {
    let mut id = String::with_capacity(36);
    for (position, byte) in bytes(16).into_iter().enumerate() {
        if matches!(position, 4 | 6 | 8 | 10) {
            id.push('-');
        }
        // Version 4, variant 1.
        let byte = match position {
            6 => (byte & 0x0f) | 0x40,
            8 => (byte & 0x3f) | 0x80,
            _ => byte,
        };
        // Writing to a String cannot fail.
        let _ = write!(id, "{byte:02X}");
    }
    id
}
