//! The library against the simulators over loopback: what goes over the wire is accepted by an
//! independent implementation, and whatever comes back ends in credentials or in a typed error.
//!
//! Everything is logged at TRACE, by this crate and by those below it; when a test ends, nothing
//! that was issued or sent as a secret may be in the log or in an error (see `house`).

#[path = "protocol/assume_role.rs"]
mod assume_role;
#[path = "protocol/chain.rs"]
mod chain;
#[path = "protocol/chained.rs"]
mod chained;
#[path = "protocol/client.rs"]
mod client;
#[path = "protocol/credentials_uri.rs"]
mod credentials_uri;
#[path = "protocol/hostile.rs"]
mod hostile;
#[path = "protocol/house.rs"]
mod house;
#[path = "protocol/log.rs"]
mod log;
#[path = "protocol/logins.rs"]
mod logins;
#[path = "protocol/metadata.rs"]
mod metadata;
#[path = "protocol/oidc.rs"]
mod oidc;
#[path = "protocol/proxy.rs"]
mod proxy;
#[path = "protocol/retries.rs"]
mod retries;
#[path = "simulators/mod.rs"]
mod simulators;
