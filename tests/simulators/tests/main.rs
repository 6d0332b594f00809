//! The simulators proved.

#[path = "../mod.rs"]
mod simulators;
