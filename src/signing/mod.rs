//! Request signatures of Alibaba Cloud: pure functions over plain values. Nothing is sent, no clock
//! is read and no nonce is made here.
//!
//! ```text
//! rpc       HMAC-SHA1 over method and parameters ("V2"): what STS takes from every official SDK
//! acs3      HMAC-SHA256 over method, path, query, headers and body ("V3")
//! encoding  the percent-encoding that both rest on
//! ```
//!
//! Which of the two an API takes is on its page: with a path of its own ("ROA") only [`acs3`],
//! otherwise ("RPC") both, and `acs3` is the better one.
//!
//! # A call of an RPC API
//!
//! The query and, with `POST`, the form come signed out of [`rpc::Call`]:
//!
//! ```no_run
//! use rrsa::credentials::Client;
//! use rrsa::signing::{Signer, rpc};
//! use rrsa::world::World;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let world = World::system()?;
//! let credentials = Client::from_env()?.credentials().await?;
//! let nonce: String = world.random.bytes()?.iter().map(|b| format!("{b:02x}")).collect();
//! let call = rpc::Call {
//!     method: rpc::Method::Post,
//!     action: "DescribeInstances",
//!     version: "2014-05-26",
//!     parameters: &[("RegionId", "cn-hangzhou"), ("PageSize", "10")],
//!     signer: Signer {
//!         access_key_id: credentials.access_key_id(),
//!         access_key_secret: credentials.access_key_secret(),
//!         // Temporary credentials are worth nothing without it.
//!         security_token: credentials.security_token(),
//!     },
//!     // By the service's clock, as far as it is known: it refuses a time that is far off.
//!     time: world.clock.now() + credentials.issuer_is_ahead(),
//!     nonce: &nonce,
//! };
//! let request = http::Request::builder()
//!     .method(call.method.as_str())
//!     .uri(format!("https://ecs.cn-hangzhou.aliyuncs.com/?{}", call.query()))
//!     .header("content-type", "application/x-www-form-urlencoded")
//!     .body(call.form().into())?;
//! // Any HTTP client can send it; this one bounds time and size, and follows no redirect.
//! let answer = world.http.send(request).await?;
//! println!("{}", answer.status());
//! # Ok(())
//! # }
//! ```
//!
//! With [`rpc::Method::Get`] the same lines make a request whose form is empty; leave the content
//! type out then.
//!
//! # A call of a ROA API
//!
//! [`acs3::Request::sign`] gives all headers that the signature needs, so that what is sent is
//! what was signed. Path and query are sent in the spelling of [`encoding`]:
//!
//! ```no_run
//! use rrsa::credentials::Client;
//! use rrsa::signing::{Signer, acs3, encoding};
//! use rrsa::world::World;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let world = World::system()?;
//! let credentials = Client::from_env()?.credentials().await?;
//! let nonce: String = world.random.bytes()?.iter().map(|b| format!("{b:02x}")).collect();
//! let body = r#"{"replicas": 3}"#;
//! let signed = acs3::Request {
//!     method: "POST",
//!     host: "cs.cn-hangzhou.aliyuncs.com",
//!     path: &format!("/clusters/{}/nodepools", encoding::percent_encode("my cluster")),
//!     query: &[("dryRun", "true"), ("note", "a+b c")],
//!     action: "CreateClusterNodePool",
//!     version: "2015-12-15",
//!     content_type: Some("application/json"),
//!     body: body.as_bytes(),
//!     signer: Signer {
//!         access_key_id: credentials.access_key_id(),
//!         access_key_secret: credentials.access_key_secret(),
//!         security_token: credentials.security_token(),
//!     },
//!     time: world.clock.now() + credentials.issuer_is_ahead(),
//!     nonce: &nonce,
//! };
//! let (host, path, query) = (signed.host, signed.path, encoding::pairs(signed.query));
//! let mut request = http::Request::builder()
//!     .method(signed.method)
//!     .uri(format!("https://{host}{path}?{query}"));
//! for (name, value) in signed.sign().iter() {
//!     let mut value = http::HeaderValue::from_str(value)?;
//!     // HTTP libraries do not log it then: one of the headers is the security token.
//!     value.set_sensitive(true);
//!     request = request.header(name, value);
//! }
//! let answer = world.http.send(request.body(body.into())?).await?;
//! println!("{}", answer.status());
//! # Ok(())
//! # }
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
