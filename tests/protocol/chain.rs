//! The default chain where services answer: whose refusal ends it.

use std::net::SocketAddr;
use std::sync::Arc;

use rrsa::credentials::{CredentialsError, DefaultChain, Provider as _, Source, Verdict};
use rrsa::world::{BoxFuture, FixedEnv, Http, HttpError, Request, Response, World};

use crate::house::{House, failure, story, token};

/// Sources that need no files of a user's home.
const SOURCES: [Source; 3] = [Source::Env, Source::OidcRoleArn, Source::EcsRamRole];

/// Sends what is meant for the fixed address of the metadata service to the simulator.
#[derive(Debug)]
struct Redirected {
    http: Arc<dyn Http>,
    to: SocketAddr,
}

impl Http for Redirected {
    fn send(&self, mut request: Request) -> BoxFuture<'_, Result<Response, HttpError>> {
        let path = request.uri().path().to_owned();
        *request.uri_mut() = format!("http://{}{path}", self.to).parse().expect("a URI");
        self.http.send(request)
    }
}

/// A pod with an injected role on a machine with a role of its own.
fn world(house: &House) -> World {
    let mut world = house.world();
    world.metadata = Arc::new(Redirected {
        http: Arc::clone(&world.metadata),
        to: house.metadata.address(),
    });
    world
}

#[tokio::test]
async fn a_pod_has_its_own_role() {
    let house = House::start();
    let chain = DefaultChain::new(&world(&house)).only(&SOURCES);
    let credentials = chain.credentials().await.unwrap();
    assert_eq!(credentials.provider_name(), "default/oidc_role_arn");
    assert!(house.metadata.calls().all().is_empty());
}

#[tokio::test]
async fn a_pod_whose_role_is_refused_does_not_get_the_machines() {
    let house = House::start();
    house.write_token(&token("system:serviceaccount:team-a:other"));
    let chain = DefaultChain::new(&world(&house)).only(&SOURCES);
    let error = failure(chain.credentials()).await;
    assert!(
        matches!(error, CredentialsError::Refused { .. }),
        "{error:?}"
    );
    assert_eq!(error.provider(), "oidc_role_arn");
    let last = house.sts.calls().last().unwrap();
    assert!(story(&error).contains(&last.request_id));
    assert!(house.metadata.calls().all().is_empty());

    let verdicts = chain.explain().await;
    assert!(matches!(verdicts[0].1, Verdict::PassedOver(_)));
    assert!(matches!(verdicts[1].1, Verdict::Broken(_)));
    assert!(matches!(verdicts[2].1, Verdict::NotAsked));

    // What is mended works without a restart.
    house.write_token(&token(crate::house::SUBJECT));
    chain.credentials().await.unwrap();
}

#[tokio::test]
async fn a_machine_without_anything_else_has_its_role() {
    let house = House::start();
    let mut world = world(&house);
    world.env = Arc::new(FixedEnv::default());
    let chain = DefaultChain::new(&world).only(&SOURCES);
    let credentials = chain.credentials().await.unwrap();
    assert_eq!(credentials.provider_name(), "default/ecs_ram_role");
    house.session_of(&credentials);

    house.metadata.update(|instance| instance.role = None);
    let error = failure(DefaultChain::new(&world).only(&SOURCES).credentials()).await;
    let CredentialsError::NoSource { sources } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(sources.len(), 3);
    assert!(sources[2].why.contains("no RAM role"), "{}", sources[2].why);
}
