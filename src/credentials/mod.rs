//! Credentials, and the sources they come from.
//!
//! ```text
//! client      credentials that are kept and renewed; the blocking way in
//! config      one flat set of settings for every type
//! chain       the default chain: whichever source is set up
//! providers   one file a source: env, static_ak, static_sts, bearer, ram_role_arn,
//!             oidc_role_arn, ecs_ram_role, credential_uri, external, cloud_sso, oauth
//! profiles    the two files of profiles: ini, and the CLI's
//! snapshot    Credentials: one immutable answer
//! provider    the trait of all sources
//! error       why a source gave none, and whether another may be asked
//! session     what both ways to a role share
//! retry       one more try of an exchange
//! sts_host    which STS host
//! variables   the environment, with errors that name the variable
//! ```
//!
//! A provider gets everything outside of it from one [`World`](crate::world::World), which
//! [`World::system`](crate::world::World::system) makes from the machine:
//!
//! ```no_run
//! use rrsa::credentials::{EcsRamRole, EcsRamRoleConfig, Provider};
//! use rrsa::world::World;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let world = World::system()?;
//! let provider = EcsRamRole::new(EcsRamRoleConfig::default(), &world)?;
//! let credentials = provider.credentials().await?;
//! println!("{} until {:?}", credentials.access_key_id(), credentials.expiration());
//! # Ok(())
//! # }
//! ```
//!
//! **Each call asks the source.** Nothing here remembers credentials, retries, refreshes in the
//! background or goes from one source to the next: the cache, the default chain and the other
//! types of the official SDKs are on the roadmap as one piece and will be built from these
//! providers. Until then a program keeps what it got until shortly before
//! [`expiration`](Credentials::expiration).

mod chain;
mod client;
mod config;
mod error;
mod profiles;
mod provider;
mod providers;
mod retry;
mod session;
mod snapshot;
mod sts_host;
#[cfg(test)]
mod test_world;
mod variables;

pub use chain::{DefaultChain, InvalidSource, Source, Verdict};
pub use client::{Client, Current, blocking};
pub use config::{Config, InvalidKind, Kind};
pub use error::{Cause, CauseChain, CredentialsError, PassedOver};
pub use profiles::{CliProfile, CliProfileConfig, IniProfile, IniProfileConfig};
pub use provider::Provider;
pub use providers::{
    Bearer, CloudSso, CloudSsoConfig, CommandLineError, CredentialsUri, EcsRamRole,
    EcsRamRoleConfig, Environment, External, ExternalConfig, ExternalError, OAuth, OAuthConfig,
    OAuthSite, OidcRoleArn, OidcRoleArnBuilder, OidcRoleArnError, RamRoleArn, RamRoleArnBuilder,
    RamRoleArnError, StaticAk, StaticKeysError, StaticSts,
};
pub use snapshot::Credentials;
pub use sts_host::{StsHost, StsHostError};
