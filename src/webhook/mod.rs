//! Annotated pods get what the official SDKs need to find their role.
//!
//! ```text
//! HTTP body ─ json ─ review ─► pod (borrowed view)
//!                                 │    caches (facts of namespace, ServiceAccount, bindings)
//!                                 ▼    ▼
//!                              resolve ─► Injection, or why not
//!                                 ▼
//!                              inject ──► operations ─ patch ─► answer
//! ```
//!
//! `pod`, `resolve`, `inject`, `patch` and `decision` are pure; `handler`, `caches`,
//! `registration` and `run` touch the world.

pub mod bindings;
pub mod caches;
pub mod decision;
pub mod facts;
pub mod handler;
pub mod inject;
pub mod json;
pub mod lookups;
pub mod patch;
pub mod pod;
pub mod registration;
pub mod resolve;
pub mod review;
pub mod run;
pub mod seen;
pub mod settings;
pub mod variables;

pub use run::{Options, run};
