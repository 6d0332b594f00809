//! TLS, certificates, health: what every part that listens needs.
//!
//! ```text
//! store (Secret) ─► keeper ─► authorities ─► leaf ─► tls (slot) ─► server
//!                   │  ▲ └──► bundle ─► whoever registers it ─┐
//!     rotation (pure)  └──────────────── observed ◄───────────┘
//! mounted (files) ─────────────────────────────► tls (slot)
//! readiness ◄── conditions of the parts      admin ─► /healthz, /readyz, /metrics
//! liveness  ◄── loops that go round    reload ─► settings that follow their files
//! ```

pub mod admin;
mod api_cause;
pub mod authorities;
pub mod authority;
pub mod authority_secret;
pub mod expiry;
pub mod keeper;
pub mod limits;
pub mod liveness;
pub mod mounted;
pub mod observed;
pub mod places;
pub mod readiness;
pub mod ready_file;
pub mod reload;
pub mod rotation;
pub mod server;
pub mod tls;

pub use api_cause::api_cause;
