//! The controller: `AlibabaRoleBinding` objects become Secrets with fresh credentials.
//!
//! ```text
//! watches ─▶ secrets, service_accounts (facts)          run wires it, reconcile is one pass:
//!    │                    │
//!    ▼                    ▼
//! binding ─ wanted ─▶ plan::decide ─▶ exchange ─▶ content, template ─▶ write ─▶ status ─▶ report
//!            (pure)      (pure)         (I/O)           (pure)          (I/O)    (pure)    (I/O)
//! ```

mod api;
mod budget;
pub mod content;
pub mod delegation;
pub mod exchange;
pub mod gate;
pub mod plan;
pub mod reason;
pub mod reconcile;
pub mod refresh;
mod renewal;
pub mod report;
mod run;
pub mod secrets;
pub mod service_accounts;
pub mod status;
mod template;
pub mod wanted;
mod watches;
pub mod write;

pub use run::{Options, run};
