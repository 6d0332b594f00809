//! Pod identity for Alibaba Cloud on Kubernetes, and the credentials library it stands on.
//!
//! ```text
//! always      contract     the shared words: variables, annotations, ARNs, STS hosts
//!             secret       text that cannot be printed
//!             world        the only door to clock, environment, files and network
//!             signing      request signatures, pure
//!             sts          requests to and answers from the Security Token Service
//!             imds         the ECS metadata service: role credentials of the machine, region
//!             credentials  providers of credentials, each from one source
//! operator    api          AlibabaRoleBinding and the configuration file
//!             controller   bindings become Secrets with fresh credentials
//!             webhook      annotated pods get what the SDKs need
//!             serving      TLS, certificates, health
//!             telemetry    logs and metrics
//!             cli          the command line
//! ```
//!
//! Arrows point downwards only; `tests/architecture.rs` holds the table of what may import what.

pub mod contract;
pub mod credentials;
pub mod imds;
pub mod secret;
pub mod signing;
pub mod sts;
pub mod world;

#[cfg(feature = "operator")]
pub mod api;
#[cfg(feature = "operator")]
pub mod cli;
#[cfg(feature = "operator")]
pub mod controller;
#[cfg(feature = "operator")]
pub mod serving;
#[cfg(feature = "operator")]
pub mod telemetry;
#[cfg(feature = "operator")]
pub mod webhook;
