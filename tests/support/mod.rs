//! What the test programs share: a real Kubernetes, and patience with ceilings.
//!
//! ```text
//! kubernetes/   a control plane of real components, its users, processes beside it, namespaces
//! wait          conditions that come true later, each with a ceiling
//! link          the wire between a process and a server, which a test can cut
//! background    a runtime for what goes on between tests
//! logs          the ends of log files for a person, and the search for secrets in them
//! ```
//!
//! Each test program mounts this tree with `#[path = "../support/mod.rs"] mod support;` and uses
//! its part of it. `tests/support/main.rs` is the same tree as a program for people.
#![expect(
    clippy::disallowed_methods,
    reason = "tests stand outside the product: they read the real clock, environment and files"
)]

pub(crate) mod background;
pub(crate) mod kubernetes;
pub(crate) mod link;
pub(crate) mod logs;
pub(crate) mod wait;
