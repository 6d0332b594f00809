//! Every way to credentials that the official SDKs know, and the client that keeps them fresh.
//!
//! # Which one
//!
//! | `type` | provider | for | asks |
//! |---|---|---|---|
//! | — | [`DefaultChain`](chain) | a program that runs anywhere | whatever is set up |
//! | `oidc_role_arn` | [`OidcRoleArn`](providers::oidc_role_arn) | a pod with RRSA | STS |
//! | `ecs_ram_role` | [`EcsRamRole`](providers::ecs_ram_role) | an ECS instance with a role | the metadata service |
//! | `ram_role_arn` | [`RamRoleArn`](providers::ram_role_arn) | another role, with any other credentials | STS |
//! | `access_key` | [`StaticAk`](providers::static_keys) | a key that does not end | nobody |
//! | `sts` | [`StaticSts`](providers::static_keys) | temporary keys that somebody else renews | nobody |
//! | `bearer` | [`Bearer`](providers::bearer) | services that take a bearer token | nobody |
//! | `credentials_uri` | [`CredentialsUri`](providers::credentials_uri) | an agent that serves credentials | the URI |
//! | `external` | [`External`](providers::external) | a program that prints credentials | the program |
//! | `cloud_sso` | [`CloudSso`](providers::cloud_sso) | a person's login at CloudSSO | CloudSSO |
//! | `oauth` | [`OAuth`](providers::oauth) | a person's login in the browser | the sign-in service |
//! | — | [`Environment`](providers::environment) | the keys of the environment (a part of the chain) | nobody |
//! | — | [`CliProfile`](profiles::cli_profile) | a profile of the Alibaba Cloud CLI | what its mode says |
//! | — | [`IniProfile`](profiles::ini_profile) | a section of `~/.alibabacloud/credentials.ini` | what its type says |
//!
//! Each page has its settings, the variables that stand in for them, its defaults and an example.
//! `rsa_key_pair` is refused, and the [error](InvalidKind::RsaKeyPair) says why.
//!
//! # From a provider to credentials
//!
//! A [`Provider`] asks its source at each call. A [`Client`] keeps what a provider gave and renews
//! it in the background; this is what a program holds:
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use rrsa::credentials::{Client, OidcRoleArn, RamRoleArn};
//! use rrsa::world::World;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let world = World::system()?;
//! // The role of this pod, and with it a role of another account.
//! let pod = OidcRoleArn::from_env(&world)?;
//! let other = RamRoleArn::builder(Arc::new(pod))
//!     .role_arn("acs:ram::6543210987654321:role/reader")
//!     .build(&world)?;
//! let client = Client::new(Arc::new(other), &world);
//!
//! let credentials = client.credentials().await?;
//! assert_eq!(credentials.provider_name(), "ram_role_arn/oidc_role_arn");
//! # Ok(())
//! # }
//! ```
//!
//! Three ways to a client: [`Client::from_env`] for the default chain, [`Client::from_config`] for
//! the [flat settings](Config) of the official SDKs, [`Client::new`] for any provider, also
//! [one of your own](Provider). Without a tokio runtime: [`blocking`].
//!
//! What is given in code wins over the environment, and the environment over the default. Keys are
//! taken whole from one place: a key id of the code is never joined with a secret of the
//! environment.
//!
//! # When there are none
//!
//! [`CredentialsError`] says what may be done next. `NotConfigured`: this source is not set up, and
//! a chain goes on to the next one. `Misconfigured`: it is set up, but wrongly or by half; a chain
//! stops, because no other identity may take its place. `Refused`: the service said no, with its
//! code and request id. `Unavailable`: try later; a client does so by itself. The message names the
//! object, the cause and the remedy and holds no secret; [`CredentialsError::chain`] gives the whole
//! of it in one line.
//!
//! # How it is made
//!
//! ```text
//! client      credentials that are kept and renewed; the blocking way in
//! config      one flat set of settings for every type
//! chain       the default chain: whichever source is set up
//! providers   one file a source
//! profiles    the two files of profiles: ini, and the CLI's
//! snapshot    Credentials: one immutable answer
//! provider    the trait of all sources
//! error       why a source gave none, and whether another may be asked
//! exchange    the same of sources that are asked over HTTP
//! formats     credentials as other programs read them (feature `operator`)
//! session     what both ways to a role share
//! retry       one more try of an exchange
//! sts_host    which STS host
//! variables   the environment, with errors that name the variable
//! ```
//!
//! Everything outside comes through one [`World`](crate::world::World), so that a program can test
//! itself without a cloud: give it a [`FixedEnv`](crate::world::FixedEnv) and an
//! [`Http`](crate::world::Http) of your own.

pub mod chain;
pub mod client;
pub mod config;
mod error;
mod exchange;
#[cfg(feature = "operator")]
pub mod formats;
pub mod profiles;
mod provider;
pub mod providers;
mod retry;
mod session;
mod snapshot;
mod sts_host;
#[cfg(test)]
mod test_world;
mod variables;

pub use chain::{DefaultChain, Source, Verdict};
pub use client::{Client, Current, blocking};
pub use config::{Config, InvalidKind, Kind};
pub use error::{Cause, CauseChain, CredentialsError, PassedOver};
pub use exchange::ExchangeError;
pub use profiles::cli_profile::{CliProfile, CliProfileConfig};
pub use profiles::ini_profile::{IniProfile, IniProfileConfig};
pub use provider::Provider;
pub use providers::bearer::Bearer;
pub use providers::cloud_sso::{CloudSso, CloudSsoConfig};
pub use providers::credentials_uri::CredentialsUri;
pub use providers::ecs_ram_role::{EcsRamRole, EcsRamRoleConfig};
pub use providers::environment::Environment;
pub use providers::external::{External, ExternalConfig};
pub use providers::oauth::{OAuth, OAuthConfig, OAuthSite};
pub use providers::oidc_role_arn::{OidcRoleArn, OidcRoleArnBuilder};
pub use providers::ram_role_arn::{RamRoleArn, RamRoleArnBuilder};
pub use providers::static_keys::{StaticAk, StaticSts};
pub use snapshot::Credentials;
pub use sts_host::{StsHost, StsHostError};
