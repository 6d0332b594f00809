//! Request signatures of Alibaba Cloud: pure functions over plain values. Nothing is sent, no clock
//! is read and no nonce is made here.
//!
//! ```text
//! rpc       HMAC-SHA1 over method and parameters ("V2"): what STS takes from every official SDK
//! acs3      HMAC-SHA256 over method, path, query, headers and body ("V3")
//! encoding  the percent-encoding that both rest on
//! ```

pub mod acs3;
pub mod encoding;
pub mod rpc;

use crate::secret::SecretText;

/// Who signs.
#[derive(Debug, Clone, Copy)]
pub struct Signer<'a> {
    /// Access key id.
    pub access_key_id: &'a str,
    /// Secret of the access key; it goes into the signature only.
    pub access_key_secret: &'a SecretText,
    /// Security token of a temporary credential; it is sent and signed.
    pub security_token: Option<&'a SecretText>,
}
