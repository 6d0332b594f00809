//! The commands that a person runs: the real binary with a clean environment, `rrsa credentials`
//! against the STS simulator.
#![expect(
    clippy::disallowed_methods,
    reason = "tests write real files, and send requests that no client of the library would"
)]

#[path = "command_line/cleanup.rs"]
mod cleanup;
#[path = "command_line/cluster.rs"]
mod cluster;
#[path = "command_line/config_check.rs"]
mod config_check;
#[path = "command_line/exec.rs"]
mod exec;
#[path = "command_line/get.rs"]
mod get;
#[path = "protocol/house.rs"]
#[expect(dead_code, reason = "the protocol's tests use more of it")]
mod house;
#[path = "protocol/log.rs"]
mod log;
#[path = "command_line/person.rs"]
mod person;
#[path = "command_line/serve.rs"]
mod serve;
#[path = "command_line/setup.rs"]
mod setup;
#[path = "simulators/mod.rs"]
mod simulators;
#[path = "command_line/trust_policy.rs"]
mod trust_policy;
#[path = "command_line/webhook.rs"]
mod webhook;
