//! The chain on a machine that can be changed, with a metadata service that only counts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rstest::rstest;

use super::{DefaultChain, InvalidSource, Source, Verdict};
use crate::contract::env;
use crate::credentials::error::CredentialsError;
use crate::credentials::provider::Provider as _;
use crate::credentials::test_world::world;
use crate::world::{BoxFuture, Env, Http, HttpError, NotUnicode, Request, Response, World};

/// Sources that read no files of a user's home.
const SOURCES: [Source; 3] = [Source::Env, Source::OidcRoleArn, Source::EcsRamRole];

const ID: (&str, &str) = (env::ACCESS_KEY_ID, "akid");
const SECRET: (&str, &str) = (env::ACCESS_KEY_SECRET, "aksecret");
const FILE: (&str, &str) = (env::OIDC_TOKEN_FILE, "/no/such/token");
const PROVIDER: (&str, &str) = (env::OIDC_PROVIDER_ARN, "acs:ram::1:oidc-provider/p");
const ROLE: (&str, &str) = (env::ROLE_ARN, "acs:ram::1:role/app");

/// Variables that change.
#[derive(Debug, Default)]
struct Variables(Mutex<BTreeMap<String, String>>);

impl Variables {
    fn set(&self, (name, value): (&str, &str)) {
        let mut variables = self.0.lock().unwrap();
        variables.insert(name.to_owned(), value.to_owned());
    }
}

impl Env for Variables {
    fn var(&self, name: &str) -> Result<Option<String>, NotUnicode> {
        let value = self.0.lock().unwrap().get(name).cloned();
        Ok(value.filter(|text| !text.is_empty()))
    }
}

/// A metadata service that is not there, and who asks for it.
#[derive(Debug, Default)]
struct NotThere(AtomicUsize);

impl Http for NotThere {
    fn send(&self, _: Request) -> BoxFuture<'_, Result<Response, HttpError>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Box::pin(std::future::ready(Err(HttpError::Connect {
            host: "nowhere".to_owned(),
            cause: "not there".to_owned(),
        })))
    }
}

struct Machine {
    variables: Arc<Variables>,
    metadata: Arc<NotThere>,
    world: World,
}

impl Machine {
    fn with(variables: &[(&str, &str)]) -> Self {
        let (given, metadata) = (variables, Arc::<NotThere>::default());
        let variables = Arc::<Variables>::default();
        for variable in given {
            variables.set(*variable);
        }
        let mut world = world(&[]);
        world.env = Arc::clone(&variables) as Arc<dyn Env>;
        world.metadata = Arc::clone(&metadata) as Arc<dyn Http>;
        Self {
            variables,
            metadata,
            world,
        }
    }

    fn chain(&self) -> DefaultChain {
        DefaultChain::new(&self.world).only(&SOURCES)
    }

    fn metadata_was_asked(&self) -> bool {
        self.metadata.0.load(Ordering::SeqCst) > 0
    }
}

#[test]
fn the_order_is_that_of_the_official_sdks() {
    let chain = DefaultChain::new(&world(&[]));
    let names: Vec<_> = chain.sources().iter().map(|s| s.as_str()).collect();
    assert_eq!(
        names,
        [
            "env",
            "oidc_role_arn",
            "cli_profile",
            "profile",
            "ecs_ram_role",
            "credential_uri"
        ]
    );
}

#[test]
fn the_chain_can_be_narrowed_but_not_reordered() {
    let chain = DefaultChain::new(&world(&[])).only(&[Source::EcsRamRole, Source::Env]);
    assert_eq!(chain.sources(), [Source::Env, Source::EcsRamRole]);
    let chain = chain.without(Source::Env).without(Source::Profile);
    assert_eq!(chain.sources(), [Source::EcsRamRole]);
}

#[test]
fn each_source_is_read_back_by_its_name() {
    for source in Source::ALL {
        assert_eq!(source.to_string().parse(), Ok(source));
    }
    let error: InvalidSource = "ecs".parse::<Source>().unwrap_err();
    assert!(error.to_string().contains("ecs_ram_role"), "{error}");
}

#[tokio::test]
async fn ch_6_the_first_source_that_is_set_up_answers() {
    let machine = Machine::with(&[ID, SECRET, FILE, PROVIDER, ROLE]);
    let chain = machine.chain();
    for _ in 0..2 {
        let credentials = chain.credentials().await.unwrap();
        assert_eq!(credentials.provider_name(), "default/env");
    }
    assert!(!machine.metadata_was_asked());
}

#[rstest]
#[case::half_a_key(&[ID, FILE, PROVIDER, ROLE], "env")]
#[case::half_the_trio(&[FILE, PROVIDER], "oidc_role_arn")]
#[case::role_only(&[ROLE], "oidc_role_arn")]
#[case::no_such_token(&[FILE, PROVIDER, ROLE], "oidc_role_arn")]
#[case::illegal_role_name(&[(env::ECS_METADATA, "../token")], "ecs_ram_role")]
#[tokio::test]
async fn a_source_that_is_set_up_but_broken_ends_the_search(
    #[case] variables: &[(&str, &str)],
    #[case] source: &str,
) {
    let machine = Machine::with(variables);
    let error = machine.chain().credentials().await.unwrap_err();
    assert!(
        matches!(error, CredentialsError::Misconfigured { .. }),
        "{error:?}"
    );
    assert_eq!(error.provider(), source);
    assert!(
        !machine.metadata_was_asked(),
        "no slide to the machine's role"
    );
}

#[rstest]
#[case::no_such_profile(Some(r#"{"current":"p","profiles":[{"name":"p","mode":"AK"}]}"#))]
#[case::no_file(None)]
#[tokio::test]
async fn a_mistyped_profile_does_not_end_with_the_machines_role(#[case] file: Option<&str>) {
    let home = tempfile::tempdir().unwrap();
    if let Some(content) = file {
        std::fs::create_dir(home.path().join(".aliyun")).unwrap();
        std::fs::write(home.path().join(".aliyun/config.json"), content).unwrap();
    }
    let home = ("HOME", home.path().to_str().unwrap());
    let machine = Machine::with(&[home, (env::PROFILE, "prdo")]);
    let all = DefaultChain::new(&machine.world);
    for (chain, source) in [
        (all.clone(), "profile"),
        (all.clone().without(Source::Profile), "cli_profile"),
        (all.without(Source::CliProfile), "profile"),
    ] {
        let error = chain.credentials().await.unwrap_err();
        assert!(
            matches!(error, CredentialsError::Misconfigured { .. }),
            "{error:?}"
        );
        assert_eq!(error.provider(), source);
    }
    assert!(!machine.metadata_was_asked());
}

#[tokio::test]
async fn ch_9_where_nothing_is_set_up_each_source_says_why() {
    let machine = Machine::with(&[]);
    let error = machine.chain().credentials().await.unwrap_err();
    let CredentialsError::NoSource { sources } = &error else {
        panic!("{error:?}")
    };
    let names: Vec<_> = sources.iter().map(|s| s.source.as_ref()).collect();
    assert_eq!(names, ["env", "oidc_role_arn", "ecs_ram_role"]);
    let text = error.to_string();
    for part in [
        "env: set ALIBABA_CLOUD_ACCESS_KEY_ID",
        "oidc_role_arn: set ALIBABA_CLOUD_OIDC_TOKEN_FILE",
        "ecs_ram_role: no metadata service answers",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(error.provider(), "default");
    assert!(!error.is_transient());
}

#[tokio::test]
async fn a_metadata_service_that_is_not_there_is_passed_over_where_a_token_is_demanded() {
    let machine = Machine::with(&[(env::IMDSV1_DISABLED, "true")]);
    let error = machine.chain().credentials().await.unwrap_err();
    assert!(
        matches!(error, CredentialsError::NoSource { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_metadata_service_that_was_promised_must_be_there() {
    let machine = Machine::with(&[(env::ECS_METADATA, "node")]);
    let error = machine.chain().credentials().await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    assert_eq!(error.provider(), "ecs_ram_role");
}

#[tokio::test]
async fn ch_4_a_metadata_service_that_is_switched_off_is_not_asked() {
    let off = (env::ECS_METADATA_DISABLED, "true");
    let machine = Machine::with(&[off, (env::ECS_METADATA, "node")]);
    let error = machine.chain().credentials().await.unwrap_err();
    assert!(error.to_string().contains(env::ECS_METADATA_DISABLED));
    assert!(!machine.metadata_was_asked());
}

#[tokio::test]
async fn only_success_is_remembered() {
    let machine = Machine::with(&[]);
    let chain = machine.chain();
    chain.credentials().await.unwrap_err();
    machine.variables.set(ID);
    chain.credentials().await.unwrap_err();
    machine.variables.set(SECRET);
    assert_eq!(
        chain.credentials().await.unwrap().provider_name(),
        "default/env"
    );
}

#[tokio::test]
async fn ch_10_the_source_that_answered_is_asked_from_then_on() {
    let machine = Machine::with(&[ID, SECRET]);
    let chain = machine.chain();
    chain.credentials().await.unwrap();
    machine.variables.set((SECRET.0, ""));
    let error = chain.clone().credentials().await.unwrap_err();
    assert_eq!(error.provider(), "env", "clones share what was found");
    machine.variables.set((ID.0, ""));
    chain.credentials().await.unwrap_err();
    assert!(!machine.metadata_was_asked());
}

#[tokio::test]
async fn explain_tells_what_each_source_said() {
    let verdicts = |variables: &[(&str, &str)]| {
        let chain = Machine::with(variables).chain();
        async move {
            let verdicts = chain.explain().await;
            let told: Vec<_> = verdicts
                .into_iter()
                .map(|(source, verdict)| match verdict {
                    Verdict::PassedOver(why) => format!("{source} passed over, {why}"),
                    Verdict::Chosen(found) => format!("{source} {}", found.provider_name()),
                    Verdict::Broken(error) => format!("{source} broken, {error}"),
                    Verdict::NotAsked => format!("{source} not asked"),
                })
                .collect();
            told
        }
    };
    let told = verdicts(&[ID, SECRET]).await;
    assert_eq!(
        told,
        [
            "env default/env",
            "oidc_role_arn not asked",
            "ecs_ram_role not asked"
        ]
    );
    let told = verdicts(&[ROLE]).await;
    assert!(told[0].starts_with("env passed over, set "), "{told:?}");
    assert_eq!(
        told[1..],
        [
            "oidc_role_arn broken, oidc_role_arn is misconfigured",
            "ecs_ram_role not asked"
        ]
    );
    let told = verdicts(&[]).await;
    assert!(
        told[2].starts_with("ecs_ram_role passed over, no metadata"),
        "{told:?}"
    );
}

#[tokio::test]
async fn explaining_does_not_decide() {
    let machine = Machine::with(&[ID, SECRET]);
    let chain = machine.chain();
    chain.explain().await;
    machine.variables.set((ID.0, ""));
    machine.variables.set((SECRET.0, ""));
    let error = chain.credentials().await.unwrap_err();
    assert!(matches!(error, CredentialsError::NoSource { .. }));
}
