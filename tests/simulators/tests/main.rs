//! Proof of the simulators themselves, over real connections on loopback: what they refuse is as
//! important as what they grant, because every other test leans on it.

#[path = "../mod.rs"]
mod simulators;

mod account;
mod binary;
mod exchange;
mod faults;
mod metadata;
mod protocol;
mod signed;
mod tokens;
