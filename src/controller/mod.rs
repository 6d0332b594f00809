//! The controller: `AlibabaRoleBinding` objects become Secrets with fresh credentials.
//!
//! ```text
//! watches ─▶ secrets, service_accounts, claims (facts)  run wires it, reconcile is one look:
//!    │                    │
//!    ▼                    ▼
//! binding ─ wanted ─▶ plan::decide ─▶ status ─▶ report
//!            (pure)      (pure)       (pure)     (I/O)
//!                          │ an exchange is needed
//!                          ▼
//!                 queue (pure: fair, urgent first) ─ exchanges: one small entry a binding
//!                          │ budget, gate: a call of STS may be made
//!                          ▼
//!      the same look again ─▶ exchange ─▶ content, template ─▶ write ─▶ status ─▶ report
//!                              (I/O)           (pure)          (I/O)
//! ```
//!
//! A look never waits for STS. Nothing is done for one binding twice at the same time.
//!
//! Which binding is looked at when stands in the `agenda`, and `looks` goes round with it; the
//! bindings themselves are kept as texts (`bindings`), since ten thousand structures would be most of
//! this process's memory.

mod agenda;
pub mod announcement;
mod api;
pub mod bindings;
mod budget;
pub mod census;
pub mod chain;
pub mod claims;
pub mod clock;
pub mod content;
pub mod context;
pub mod delegation;
pub mod election;
mod events;
pub mod exchange;
pub mod exchanges;
mod failing;
pub mod fallback;
pub mod gate;
mod keys;
mod looks;
pub mod metrics;
mod oidc_watch;
pub mod opt_in;
pub mod plan;
mod pod_look;
mod process;
mod queue;
mod reach;
pub mod reason;
pub mod reconcile;
pub mod refresh;
mod renewal;
pub mod report;
mod run;
pub mod scope;
pub mod secrets;
pub mod service_accounts;
pub mod settings;
pub mod status;
mod template;
pub(crate) mod trust;
pub mod wanted;
mod watches;
pub mod write;

pub use process::{Options, run};
