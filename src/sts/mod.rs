//! The Security Token Service: requests built and answers parsed by pure functions, sent by a thin
//! client.
//!
//! ```text
//! endpoint               which host
//! request                limits and shape that both actions share
//! assume_role_with_oidc  token → HTTP request                 (pure)
//! assume_role            caller, time, nonce → HTTP request   (pure, signed by signing::rpc)
//! response               status + body → Issued or Error      (pure)
//! error                  which refusal means what
//! client                 sends one request through world::Http
//! ```
//!
//! Source: STS 2015-04-01 API reference, `AssumeRoleWithOIDC` and `AssumeRole`.

mod assume_role;
mod assume_role_with_oidc;
mod client;
mod endpoint;
mod error;
mod request;
mod response;

pub use assume_role::{AssumeRole, Caller, Nonce};
pub use assume_role_with_oidc::AssumeRoleWithOidc;
pub use client::Client;
pub use endpoint::{Endpoint, InvalidEndpoint};
pub use error::{Error, Refusal, RefusalKind};
pub use request::{DEFAULT_DURATION, InvalidRequest, MAX_DURATION, MIN_DURATION, check_session};
pub use response::{Issued, TemporaryCredentials};
