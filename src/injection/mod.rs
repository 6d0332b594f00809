//! What a pod is to get, and why or why not. Pure: nothing here asks a cluster or a clock.
//!
//! ```text
//! pod (borrowed view)   facts, bindings (the cluster)   settings (configuration)
//!        └─────────────────────────┬─────────────────────────┘
//!                                resolve ─► Injection, or the reason why not
//!                                   ▼
//!                                inject ──► operations ─ patch ─► bytes
//! ```
//!
//! `mode` is the one table of the ways in which a pod gets credentials. The webhook carries it out on
//! pods that are being created and on the ephemeral containers that running ones get. `decision` is the one table of
//! reasons from which warnings, audit annotations and pages take their words.

pub mod bindings;
pub mod decision;
pub mod facts;
pub mod inject;
mod merge;
pub mod mode;
pub mod older_secret;
pub mod patch;
pub mod pod;
pub mod resolve;
mod role;
pub mod seen;
pub mod settings;
pub mod variables;
pub mod views;
