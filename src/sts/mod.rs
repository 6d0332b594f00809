//! The Security Token Service: requests built and answers parsed by pure functions, sent by a thin
//! client.
//!
//! ```text
//! request   AssumeRoleWithOidc → HTTP request        (pure)
//! response  status + body → Issued or Error          (pure)
//! error     which refusal means what                 (pure)
//! client    sends one request through world::Http
//! ```
//!
//! Source: STS 2015-04-01 API reference, `AssumeRoleWithOIDC`.

mod client;
mod error;
mod request;
mod response;

pub use client::Client;
pub use error::{Error, Refusal, RefusalKind};
pub use request::{AssumeRoleWithOidc, Endpoint, InvalidEndpoint, InvalidRequest};
pub use response::{Issued, TemporaryCredentials};
