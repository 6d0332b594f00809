//! Pods that asked for a role and do not have it, and labels that only look like asking.
//!
//! ```text
//! pages of namespaces and pods ─ listed ─► check (the webhook's own rules) ─► findings
//! ```
//!
//! Nothing is kept from one page to the next but the facts of the namespaces that say something
//! to us. `check`, `finding` and `keys` are pure; `look` asks the API server, in the way
//! of `ask`. The command line
//! runs it for a person, the controller every ten minutes where its configuration says so.

mod ask;
pub mod check;
#[cfg(test)]
pub(crate) mod fake_api;
pub mod finding;
pub mod keys;
pub mod listed;
pub mod look;

pub use ask::LookError;
pub use finding::{Finding, Problem};
pub use look::{Look, Looked, Missed, Scope, Tally};
