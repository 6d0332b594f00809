//! Which credentials: the options that all commands share, and the provider that they name.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser, TypedValueParser as _};

use crate::contract::env;
use crate::credentials::{
    Client, Config, CredentialsError, DefaultChain, Kind, Provider, RamRoleArn, Source,
};
use crate::world::{Env, NotUnicode, World};

#[expect(clippy::doc_markdown, reason = "help texts are no Markdown")]
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Which credentials")]
pub(super) struct SourceArgs {
    /// Ask this type instead of the default chain. Types that are not listed have no variables:
    /// put them into a profile, and name it with --profile.
    #[arg(
        long = "type",
        value_name = "TYPE",
        conflicts_with_all = ["profile", "only", "without"]
    )]
    kind: Option<Type>,
    /// Take the profile of this name, from the Alibaba Cloud CLI or else from the SDKs' ini file,
    /// as ALIBABA_CLOUD_PROFILE does. Other sources are not asked.
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    profile: Option<String>,
    /// Ask only these sources of the default chain, in its order; repeat it, or separate them by
    /// commas.
    #[arg(long, value_name = "SOURCE", value_delimiter = ',', value_parser = source_parser())]
    only: Vec<Source>,
    /// Leave these sources of the default chain out.
    #[arg(long, value_name = "SOURCE", value_delimiter = ',', value_parser = source_parser())]
    without: Vec<Source>,
    /// Assume this role (acs:ram::ACCOUNT:role/NAME) with the credentials that are found. With
    /// --type oidc_role_arn it is the role that the pod's token is for.
    #[arg(long, value_name = "ARN", value_parser = NonEmptyStringValueParser::new())]
    role_arn: Option<String>,
    /// Region whose STS is asked, such as cn-hangzhou; also the region in the format cli.
    #[arg(long, value_name = "REGION", value_parser = NonEmptyStringValueParser::new())]
    region: Option<String>,
}

/// The types that can be set up by variables alone.
#[expect(clippy::doc_markdown, reason = "help texts are no Markdown")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum Type {
    /// The access key of the environment, without a security token
    AccessKey,
    /// The temporary keys of the environment
    Sts,
    /// A role (--role-arn or ALIBABA_CLOUD_ROLE_ARN), assumed with the keys of the environment
    RamRoleArn,
    /// The role of a pod with RRSA, for the token of ALIBABA_CLOUD_OIDC_TOKEN_FILE
    OidcRoleArn,
    /// The role of this ECS instance
    EcsRamRole,
    /// What ALIBABA_CLOUD_CREDENTIALS_URI gives
    CredentialsUri,
}

impl Type {
    const fn kind(self) -> Kind {
        match self {
            Self::AccessKey => Kind::AccessKey,
            Self::Sts => Kind::Sts,
            Self::RamRoleArn => Kind::RamRoleArn,
            Self::OidcRoleArn => Kind::OidcRoleArn,
            Self::EcsRamRole => Kind::EcsRamRole,
            Self::CredentialsUri => Kind::CredentialsUri,
        }
    }
}

fn source_parser() -> impl clap::builder::TypedValueParser<Value = Source> {
    PossibleValuesParser::new(Source::ALL.map(Source::as_str))
        .try_map(|name| name.parse::<Source>())
}

/// What is asked, and the world to ask it in.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) world: World,
    pub(super) first: First,
    /// The role that is assumed with what comes out.
    pub(super) role_arn: Option<String>,
    pub(super) region: Option<String>,
}

/// Who gives the first credentials.
#[derive(Debug)]
pub(super) enum First {
    Chain(DefaultChain),
    /// A type is found to be misconfigured before it is asked.
    Type(Kind, Result<Arc<dyn Provider>, CredentialsError>),
}

impl SourceArgs {
    /// What these options ask for, on this machine.
    pub(super) fn on_this_machine(self) -> anyhow::Result<Asked> {
        self.in_world(World::system()?)
    }

    fn in_world(self, mut world: World) -> anyhow::Result<Asked> {
        let Self {
            kind,
            profile,
            only,
            without,
            mut role_arn,
            region,
        } = self;
        world.env = Arc::new(Changed::new(&world, profile.as_ref(), region.as_ref()));
        let first = if let Some(kind) = kind {
            let config = Config {
                kind: Some(kind.kind()),
                role_arn: match kind {
                    Type::RamRoleArn | Type::OidcRoleArn => role_arn.take(),
                    _ => None,
                },
                ..Config::default()
            };
            First::Type(kind.kind(), config.provider(&world))
        } else {
            let sources = sources(&only, &without, profile.is_some());
            anyhow::ensure!(
                !sources.is_empty(),
                "no source is left to ask; --profile asks cli_profile and profile, --only and \
                 --without narrow that"
            );
            First::Chain(DefaultChain::new(&world).only(&sources))
        };
        Ok(Asked {
            world,
            first,
            role_arn,
            region,
        })
    }
}

/// The sources that are left. Who names a profile wants that one, not keys that happen to be in
/// the environment and come first in the chain.
fn sources(only: &[Source], without: &[Source], profile_named: bool) -> Vec<Source> {
    let is_profile = |source: &Source| matches!(source, Source::CliProfile | Source::Profile);
    Source::ALL
        .into_iter()
        .filter(|source| only.is_empty() || only.contains(source))
        .filter(|source| !without.contains(source))
        .filter(|source| !profile_named || is_profile(source))
        .collect()
}

impl Asked {
    /// A client for all of it.
    pub(super) fn client(self) -> Result<Client, CredentialsError> {
        let first: Arc<dyn Provider> = match self.first {
            First::Chain(chain) => Arc::new(chain),
            First::Type(_, provider) => provider?,
        };
        let last = match self.role_arn {
            Some(arn) => assume(first, arn, &self.world)?,
            None => first,
        };
        Ok(Client::new(last, &self.world))
    }
}

/// The role, assumed with these credentials.
pub(super) fn assume(
    previous: Arc<dyn Provider>,
    role_arn: String,
    world: &World,
) -> Result<Arc<dyn Provider>, CredentialsError> {
    let role = RamRoleArn::builder(previous).role_arn(role_arn);
    Ok(Arc::new(role.build(world)?))
}

/// The environment, with what options say in the place of variables.
#[derive(Debug)]
struct Changed {
    beneath: Arc<dyn Env>,
    changes: BTreeMap<&'static str, Option<String>>,
}

impl Changed {
    fn new(world: &World, profile: Option<&String>, region: Option<&String>) -> Self {
        let mut changes = BTreeMap::new();
        if let Some(profile) = profile {
            changes.insert(env::PROFILE, Some(profile.clone()));
        }
        if let Some(region) = region {
            changes.insert(env::STS_REGION, Some(region.clone()));
            // An injected host is that of another region.
            changes.insert(env::STS_ENDPOINT, None);
        }
        Self {
            beneath: Arc::clone(&world.env),
            changes,
        }
    }
}

impl Env for Changed {
    fn var(&self, name: &str) -> Result<Option<String>, NotUnicode> {
        match self.changes.get(name) {
            Some(change) => Ok(change.clone()),
            None => self.beneath.var(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::FixedEnv;
    use rstest::rstest;

    fn world(variables: &[(&str, &str)]) -> World {
        World {
            env: Arc::new(FixedEnv::of(variables.iter().copied())),
            ..World::system().unwrap()
        }
    }

    #[rstest]
    #[case::all(&[], &[], false, &Source::ALL)]
    #[case::order(&[Source::Profile, Source::Env], &[], false, &[Source::Env, Source::Profile])]
    #[case::both(&[Source::Profile, Source::Env], &[Source::Env], false, &[Source::Profile])]
    #[case::profile(&[], &[], true, &[Source::CliProfile, Source::Profile])]
    #[case::ini(&[Source::Profile], &[], true, &[Source::Profile])]
    #[case::nothing(&[Source::Env], &[], true, &[])]
    fn sources_are_narrowed(
        #[case] only: &[Source],
        #[case] without: &[Source],
        #[case] profile_named: bool,
        #[case] left: &[Source],
    ) {
        assert_eq!(sources(only, without, profile_named), left);
    }

    #[test]
    fn nothing_left_to_ask_is_an_error() {
        let args = SourceArgs {
            only: vec![Source::Env],
            profile: Some("reports".to_owned()),
            ..SourceArgs::default()
        };
        assert!(args.in_world(world(&[])).is_err());
    }

    #[test]
    fn options_stand_in_for_variables() {
        let args = SourceArgs {
            profile: Some("reports".to_owned()),
            region: Some("cn-beijing".to_owned()),
            ..SourceArgs::default()
        };
        let world = world(&[
            (env::PROFILE, "other"),
            (env::STS_ENDPOINT, "sts.injected.example"),
            (env::ROLE_ARN, "kept"),
        ]);
        let asked = args.in_world(world).unwrap();
        let value = |name| asked.world.env.var(name).unwrap();
        assert_eq!(value(env::PROFILE).as_deref(), Some("reports"));
        assert_eq!(value(env::STS_REGION).as_deref(), Some("cn-beijing"));
        assert_eq!(value(env::STS_ENDPOINT), None);
        assert_eq!(value(env::ROLE_ARN).as_deref(), Some("kept"));
    }

    #[rstest]
    #[case::its_own(Type::OidcRoleArn, false)]
    #[case::its_own_too(Type::RamRoleArn, false)]
    #[case::on_top(Type::EcsRamRole, true)]
    fn the_role_is_that_of_the_type_or_on_top_of_it(#[case] kind: Type, #[case] on_top: bool) {
        let args = SourceArgs {
            kind: Some(kind),
            role_arn: Some("acs:ram::1234567890123456:role/app".to_owned()),
            ..SourceArgs::default()
        };
        let asked = args.in_world(world(&[])).unwrap();
        assert_eq!(asked.role_arn.is_some(), on_top);
    }
}
