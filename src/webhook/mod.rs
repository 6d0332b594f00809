//! Annotated pods get what the official SDKs need to find their role.
//!
//! ```text
//! HTTP body ─ json ─ review ─► pod (borrowed view)
//!                                 │    caches (facts of namespace, ServiceAccount, bindings)
//!                                 ▼    ▼
//!                               injection ──► operations ─► answer
//! ```
//!
//! What a pod is to get is decided in the room `injection`, which is pure; `handler`, `caches`,
//! `registration` and `run` touch the world.

pub mod body;
pub mod budget;
pub mod caches;
pub mod handler;
pub mod json;
pub mod lookups;
mod metadata;
pub mod metrics;
mod names;
pub mod registration;
pub mod review;
pub mod run;
mod scan;

pub use run::{Certificates, Options, Own, run};
