//! Credentials, and the sources they come from.
//!
//! ```text
//! snapshot       Credentials: one immutable answer
//! provider       the trait of all sources
//! error          why a source gave none, and whether another may be asked
//! static_keys    static_ak, static_sts     keys that are simply given
//! oidc_role_arn  a token file, swapped at STS for credentials of a role
//! ecs_ram_role   the role of the ECS instance, from its metadata service
//! sts_host       which STS host
//! variables      the environment, with errors that name the variable
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

mod ecs_ram_role;
mod error;
mod oidc_role_arn;
mod provider;
mod snapshot;
mod static_keys;
mod sts_host;
#[cfg(test)]
mod test_world;
mod variables;

pub use ecs_ram_role::{EcsRamRole, EcsRamRoleConfig};
pub use error::{BoxError, CredentialsError};
pub use oidc_role_arn::{OidcRoleArn, OidcRoleArnBuilder, OidcRoleArnError};
pub use provider::Provider;
pub use snapshot::Credentials;
pub use static_keys::{StaticAk, StaticKeysError, StaticSts};
pub use sts_host::{StsHost, StsHostError};
