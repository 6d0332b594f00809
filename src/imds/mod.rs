//! The ECS metadata service: the machine's own role, where the machine is and whose.
//!
//! ```text
//! question  what can be asked, and where it stands          (pure)
//! answer    body → token, role name, credentials, region, account (pure)
//! client    token first, plain requests where they may be   (through world::Http)
//! error     why there is no answer
//! ```
//!
//! Requests go to one fixed, link-local address, over plain HTTP and never through a proxy; the
//! [`Http`](crate::world::Http) that is handed in must be set up so
//! ([`HttpOptions::metadata`](crate::world::HttpOptions::metadata)).
//!
//! **Token or plain request.** Each question is asked with an IMDSv2 token, which is kept until
//! shortly before its end. What happens when that fails depends on whether plain (IMDSv1) requests
//! are allowed:
//!
//! | what failed | allowed (default) | not allowed |
//! |---|---|---|
//! | the request for a token, for any reason | asked without a token | error |
//! | the question with a token: transport, status, body | asked once more without a token | error |
//! | the question with a kept token: status 401 | asked once more with a new token, then as above | the same |
//! | the question without a token | error | — |
//!
//! Source: the instance metadata page of the ECS guide; the table is what the official Python SDK
//! does, with the token kept.

mod answer;
mod client;
mod error;
mod question;

pub use answer::RoleCredentials;
pub use client::Client;
pub use error::Error;
pub use question::{InvalidRoleName, Question, RoleName};
