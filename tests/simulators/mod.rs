//! Simulators of Alibaba Cloud STS and of the ECS metadata service, strict rather than friendly.
//!
//! They are an independent implementation: nothing here comes from the crate under test, so a
//! mistake in its signing or parsing cannot hide behind the same mistake here. Test programs
//! include this tree with `#[path = "../simulators/mod.rs"] mod simulators;`; the dev binary
//! (`cargo run --example simulators`) serves both for the demo and the benches.
//!
//! | file | what it is |
//! |---|---|
//! | [`sts`] | STS over HTTPS: `AssumeRoleWithOIDC`, `AssumeRole`, `GetCallerIdentity` |
//! | [`metadata`] | the ECS metadata service over HTTP: v1, v2, hardened |
//! | [`config`] | the trust file: providers, roles, access keys, limits; changeable live |
//! | [`token_issuer`] | a cluster's token issuer for tests that have no cluster |
//! | [`issuance`] | what was issued, remembered so that it can be verified |
//! | [`calls`] | the log of calls that tests assert on; holds no secret |
//! | [`faults`] | faults on demand |
//! | [`proxy`] | an HTTP proxy that writes down where it led |
//! | [`authority`] | the certificate authority of the STS simulator |
//! | [`listener`], [`connection`] | serving on loopback; cutting a connection |
//! | [`clock`], [`live`], [`random`] | time, shared state, randomness |
//!
//! What they do not do: RAM is not simulated (roles come from the trust file), and permissions of
//! a session are recorded, not evaluated.
#![allow(
    dead_code,
    reason = "each test program uses another part of this tree, so no single expectation holds"
)]

pub(crate) mod authority;
pub(crate) mod calls;
pub(crate) mod clock;
pub(crate) mod config;
pub(crate) mod connection;
pub(crate) mod faults;
pub(crate) mod issuance;
pub(crate) mod listener;
pub(crate) mod live;
pub(crate) mod metadata;
pub(crate) mod proxy;
pub(crate) mod random;
pub(crate) mod sts;
pub(crate) mod token_issuer;
