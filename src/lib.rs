//! Pod identity for Alibaba Cloud on Kubernetes, and a complete credentials library for Alibaba
//! Cloud.
//!
//! # Credentials in a program
//!
//! ```toml
//! [dependencies]
//! rrsa = { path = "../rrsa", default-features = false }
//! ```
//!
//! ```no_run
//! use rrsa::credentials::Client;
//!
//! # async fn example() -> Result<(), rrsa::credentials::CredentialsError> {
//! // Keys of the environment, the role of a pod with RRSA, a profile of the CLI or of the ini
//! // file, the role of the ECS instance, a credentials URI: whichever is set up here.
//! let client = Client::from_env()?;
//! let credentials = client.credentials().await?;
//! println!("{} from {}", credentials.access_key_id(), credentials.provider_name());
//! # Ok(())
//! # }
//! ```
//!
//! The crate is not published yet, and one of the same name in the public registry is another
//! project: clone this one, and name its path. Rust 1.95 or later; beside it a program wants `tokio`
//! (features `rt` and `macros`), and `http` where it signs requests.
//!
//! Keep the client and ask it before each request: it gives what it has in some nanoseconds, and
//! renews it in the background. [`credentials`] is the guide: every type with an example, the
//! chain, what happens when something fails. [`signing`] signs requests with what came out. A
//! program without a runtime takes [`credentials::blocking`].
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | — | | the library: `credentials`, `signing`, `sts`, `imds` and what they stand on; builds for static musl targets, too |
//! | `operator` | yes | the operator and the command line `rrsa`: Kubernetes, HTTP servers, templates. Its rooms are public for its own binary and tests and promise nothing |
//!
//! # Rooms
//!
//! ```text
//! always      contract     the shared words: variables, annotations, ARNs, STS hosts
//!             secret       text that cannot be printed
//!             world        the only door to clock, environment, files, programs and network
//!             signing      request signatures, pure
//!             sts          requests to and answers from the Security Token Service
//!             imds         the ECS metadata service: role credentials of the machine, region
//!             credentials  every type of credentials, the default chain, the client that renews
//! operator    api          AlibabaRoleBinding and the configuration file
//!             injection    what a pod is to get, and why or why not; pure
//!             controller   bindings become Secrets with fresh credentials
//!             webhook      annotated pods get what the SDKs need
//!             conformance  whether a webhook does what is documented
//!             doctor       pods that asked for a role and do not have it
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
pub mod conformance;
#[cfg(feature = "operator")]
pub mod controller;
#[cfg(feature = "operator")]
pub mod doctor;
#[cfg(feature = "operator")]
pub mod injection;
#[cfg(feature = "operator")]
pub mod serving;
#[cfg(feature = "operator")]
pub mod telemetry;
#[cfg(feature = "operator")]
pub mod webhook;
