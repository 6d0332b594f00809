//! Whether a webhook does what the documentation of ack-pod-identity-webhook 0.4.2 says.
//!
//! ```text
//! cases/*.yaml ─ case ─► stage: namespaces and ServiceAccounts for a moment
//!                          │     two dry runs a case: opted out and opted in
//!                          ▼
//!                       expected: the first, and the documented additions
//!                          ▼
//!                       difference to the second ─► report
//! ```
//!
//! The suite knows no webhook: it asks the API server and looks at what comes back, so that it
//! can be run against any of them. `cases/documented` holds what the documentation says;
//! `cases/corners` what it leaves open and how rrsa chose, where a difference is no failure.
//! `case`, `expected` and `report` are pure; `stage` and `run` talk to the cluster.

pub mod case;
pub mod expected;
pub mod parameters;
pub mod report;
pub mod run;
pub mod stage;
pub mod suite;

pub use parameters::Parameters;
pub use report::Report;
pub use run::{Options, cleanup, run};
