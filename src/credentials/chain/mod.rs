//! `default`: whichever source is set up on this machine.
//!
//! | order | source | is set up when |
//! |---|---|---|
//! | 1 | `env` | one of `ALIBABA_CLOUD_ACCESS_KEY_ID`, `ALIBABA_CLOUD_ACCESS_KEY_SECRET`, `ALIBABA_CLOUD_SECURITY_TOKEN` is set |
//! | 2 | `oidc_role_arn` | one of `ALIBABA_CLOUD_ROLE_ARN`, `ALIBABA_CLOUD_OIDC_PROVIDER_ARN`, `ALIBABA_CLOUD_OIDC_TOKEN_FILE` is set |
//! | 3 | `cli_profile` | the CLI's file exists, and `ALIBABA_CLOUD_CLI_PROFILE_DISABLED` is not `true` |
//! | 4 | `profile` | the ini file has the section |
//! | 5 | `ecs_ram_role` | the metadata service answers, the instance has a role, and `ALIBABA_CLOUD_ECS_METADATA_DISABLED` is not `true` |
//! | 6 | `credential_uri` | `ALIBABA_CLOUD_CREDENTIALS_URI` is set |
//!
//! **A source that is set up but broken ends the search.** The official SDKs go on to the next
//! one, so that a pod whose role cannot be assumed works with the node's role instead. Here the
//! caller gets the error, and only what is not set up at all is passed over.
//!
//! The source that answered first is asked from then on; a failure is not remembered, so that what
//! is mended works without a restart.
//!
//! ```no_run
//! use rrsa::credentials::{DefaultChain, Provider, Source, Verdict};
//! use rrsa::world::World;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let world = World::system()?;
//!
//! // A program that runs in pods and on people's machines, and never as the node.
//! let chain = DefaultChain::new(&world).without(Source::EcsRamRole);
//! let credentials = chain.credentials().await?;
//! println!("{}", credentials.provider_name()); // such as default/oidc_role_arn
//!
//! // A program that runs in pods alone.
//! let pods = DefaultChain::new(&world).only(&[Source::OidcRoleArn]);
//! assert_eq!(pods.sources(), [Source::OidcRoleArn]);
//!
//! // Why it is this one, or none.
//! for (source, verdict) in chain.explain().await {
//!     match verdict {
//!         Verdict::PassedOver(why) => println!("{source} is not set up: {why}"),
//!         Verdict::Chosen(credentials) => println!("{source}: {}", credentials.access_key_id()),
//!         Verdict::Broken(error) => println!("{source} is broken: {}", error.chain()),
//!         Verdict::NotAsked => println!("{source} is not asked any more"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! ```no_run
//! use rrsa::credentials::{Client, DefaultChain, Source};
//! use rrsa::world::World;
//! use std::sync::Arc;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let world = World::system()?;
//! // Never the role of the machine.
//! let chain = DefaultChain::new(&world).without(Source::EcsRamRole);
//! for (source, verdict) in chain.explain().await {
//!     println!("{source}: {verdict:?}");
//! }
//! let client = Client::new(Arc::new(chain), &world);
//! // Only the role of this pod.
//! let pod = DefaultChain::new(&world).only(&[Source::OidcRoleArn]);
//! # Ok(())
//! # }
//! ```

mod source;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use super::error::{CredentialsError, PassedOver};
use super::provider::Provider;
use super::snapshot::Credentials;
use crate::contract::env;
use crate::world::{BoxFuture, World};

pub use source::{InvalidSource, Source};

const NAME: &str = "default";

/// The first source that is set up.
#[derive(Debug, Clone)]
pub struct DefaultChain {
    world: World,
    sources: Vec<Source>,
    /// The source that answered.
    found: Arc<OnceLock<Arc<dyn Provider>>>,
}

/// A profile that is nowhere. Its name may be mistyped, and must not end with the node's role.
#[derive(Debug, thiserror::Error)]
#[error("{why} (and the ini file, which may have the profile, is left out of the chain)")]
struct NoSuchProfile {
    why: String,
}

/// What a source of the chain said, for a person who wonders.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// It is not set up, and was passed over.
    PassedOver(String),
    /// It gave these credentials, so the chain takes them.
    Chosen(Credentials),
    /// It is set up but broken, so the chain ends here.
    Broken(CredentialsError),
    /// The chain never gets here.
    NotAsked,
}

impl DefaultChain {
    /// All sources.
    #[must_use]
    pub fn new(world: &World) -> Self {
        Self {
            world: world.clone(),
            sources: Source::ALL.to_vec(),
            found: Arc::default(),
        }
    }

    /// Only these sources, in the chain's order.
    #[must_use]
    pub fn only(mut self, sources: &[Source]) -> Self {
        self.sources.retain(|source| sources.contains(source));
        self
    }

    /// All but this source.
    #[must_use]
    pub fn without(mut self, left_out: Source) -> Self {
        self.sources.retain(|source| *source != left_out);
        self
    }

    /// The sources that are left, in order.
    #[must_use]
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// Asks the sources in order, up to the one that decides, and tells what each said. What was
    /// found before is not used.
    pub async fn explain(&self) -> Vec<(Source, Verdict)> {
        let mut verdicts = Vec::with_capacity(self.sources.len());
        let mut decided = false;
        for source in &self.sources {
            let verdict = if decided {
                Verdict::NotAsked
            } else {
                match self.ask(*source).await {
                    Ok(Ok((_, credentials))) => Verdict::Chosen(credentials),
                    Ok(Err(why)) => Verdict::PassedOver(why),
                    Err(error) => Verdict::Broken(error),
                }
            };
            decided |= matches!(verdict, Verdict::Chosen(_) | Verdict::Broken(_));
            verdicts.push((*source, verdict));
        }
        verdicts
    }

    async fn search(&self) -> Result<Credentials, CredentialsError> {
        if let Some(provider) = self.found.get() {
            return Ok(provider.credentials().await?.through(NAME));
        }
        let mut passed_over = Vec::new();
        for source in &self.sources {
            match self.ask(*source).await? {
                Ok((provider, credentials)) => {
                    // Of two searches at once the first one decides for both from now on.
                    let _ = self.found.set(provider);
                    return Ok(credentials);
                }
                Err(why) => passed_over.push(PassedOver {
                    source: source.as_str().into(),
                    why,
                }),
            }
        }
        Err(CredentialsError::NoSource {
            sources: passed_over,
        })
    }

    /// What this source gives; inside, why it is passed over.
    async fn ask(
        &self,
        source: Source,
    ) -> Result<Result<(Arc<dyn Provider>, Credentials), String>, CredentialsError> {
        let answer = match source.provider(&self.world) {
            Ok(provider) => provider
                .credentials()
                .await
                .map(|credentials| (provider, credentials.through(NAME))),
            Err(error) => Err(error),
        };
        match answer {
            Ok(found) => Ok(Ok(found)),
            Err(error) => match source.absence(&error, &self.world) {
                Some(why) if self.relies_on(source) => Err(CredentialsError::misconfigured(
                    source.as_str(),
                    NoSuchProfile { why },
                )),
                Some(why) => Ok(Err(why)),
                None => Err(error),
            },
        }
    }

    /// Whether somebody named a profile that only this source can have now: both files share the
    /// variable, and the ini file, which is asked last, may be left out.
    fn relies_on(&self, source: Source) -> bool {
        let set = |name| !matches!(self.world.env.var(name), Ok(None));
        source == Source::CliProfile
            && !self.sources.contains(&Source::Profile)
            && set(env::PROFILE)
            && !set(env::CLI_PROFILE_DISABLED)
    }
}

impl Provider for DefaultChain {
    fn name(&self) -> &str {
        NAME
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>> {
        Box::pin(self.search())
    }
}
