//! The webhook through its real router, without a cluster.
//!
//! `admission` walks `tests/data/admission`, `hostile` sends what nobody should, `properties`
//! makes pods up, `fuzzed` is what the fuzzer holds any bytes against, `logs` reads what is logged,
//! `certificates`, `running`, `motion`, `registered`, `outages`, `leaving` and `transport` serve over real TLS. `rows` holds the list of bad
//! inputs against all of these. Adding a case of admission is adding a folder; see `admission.rs`.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a rig that cannot go on has failed its test"
)]

#[path = "webhook/admission.rs"]
mod admission;
#[path = "webhook/certificates.rs"]
mod certificates;
#[path = "webhook/conformance.rs"]
mod conformance;
#[path = "webhook/fake_api.rs"]
mod fake_api;
#[path = "webhook/fuzzed.rs"]
mod fuzzed;
#[path = "webhook/hostile.rs"]
mod hostile;
#[path = "webhook/leaving.rs"]
mod leaving;
#[path = "webhook/logs.rs"]
mod logs;
#[path = "webhook/manifests.rs"]
mod manifests;
#[path = "webhook/motion.rs"]
mod motion;
#[path = "webhook/outages.rs"]
mod outages;
#[path = "webhook/properties.rs"]
mod properties;
#[path = "webhook/registered.rs"]
mod registered;
#[path = "webhook/rig.rs"]
mod rig;
#[path = "webhook/rows.rs"]
mod rows;
#[path = "webhook/running.rs"]
mod running;
#[path = "webhook/transport.rs"]
mod transport;
