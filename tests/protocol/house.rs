//! What the tests stand on: STS and the metadata service, an account, a token file, and a world
//! that leads there.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rrsa::contract::env;
use rrsa::credentials::{
    Credentials, CredentialsError, EcsRamRole, OidcRoleArn, Provider, RamRoleArn, StaticAk,
};
use rrsa::imds;
use rrsa::sts;
use rrsa::world::{
    Clock, FixedEnv, HttpClient, HttpOptions, SystemClock, SystemFiles, SystemProcesses,
    SystemRandom, World,
};
use tempfile::TempDir;

use crate::log;
use crate::simulators::clock;
use crate::simulators::config::{
    AccessKey, PrincipalTrust, Provider as ProviderConfig, Role, SimulatorConfig, Trust,
};
use crate::simulators::issuance::Session;
use crate::simulators::metadata::{Metadata, MetadataConfig};
use crate::simulators::sts::Sts;
use crate::simulators::token_issuer::TokenIssuer;

pub(crate) const PROVIDER: &str = "acs:ram::1234567890123456:oidc-provider/ack-rrsa-c1";
pub(crate) const ROLE: &str = "acs:ram::1234567890123456:role/app";
pub(crate) const FURTHER_ROLE: &str = "acs:ram::1234567890123456:role/further";
pub(crate) const SUBJECT: &str = "system:serviceaccount:team-a:app";
pub(crate) const KEY_ID: &str = "LTAIadmin";
pub(crate) const KEY_SECRET: &str = "the-long-lived-secret-of-admin";
pub(crate) const EXTERNAL_ID: &str = "shared/word+1";
/// Every wait of these tests; far more than any bound of the library.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
/// How long an honest answer may take: no machine is so busy.
const ANSWER: Duration = Duration::from_secs(30);

/// Making an RSA key takes a while, so all tests share one issuer.
static CLUSTER: LazyLock<TokenIssuer> =
    LazyLock::new(|| TokenIssuer::rs256("https://oidc.example/c1").expect("an RSA issuer"));

/// A token of the cluster for this subject.
pub(crate) fn token(subject: &str) -> String {
    CLUSTER.token(subject).expect("a token")
}

/// The surroundings. When it is dropped, the log must be free of secrets.
pub(crate) struct House {
    pub(crate) sts: Sts,
    pub(crate) metadata: Metadata,
    folder: TempDir,
}

impl House {
    pub(crate) fn start() -> Self {
        log::start();
        let folder = tempfile::tempdir().expect("a folder");
        let jwks_file = folder.path().join("jwks.json");
        CLUSTER.write_jwks(&jwks_file).expect("a key set");
        let user = "acs:ram::1234567890123456:user/admin";
        let config = SimulatorConfig {
            providers: vec![ProviderConfig {
                arn: PROVIDER.to_owned(),
                issuer: CLUSTER.url().to_owned(),
                client_ids: vec!["sts.aliyuncs.com".to_owned()],
                jwks_file,
                ..ProviderConfig::default()
            }],
            roles: vec![
                Role::new(
                    ROLE,
                    vec![Trust::subject(PROVIDER, SUBJECT), Trust::principal(user)],
                ),
                Role::new(
                    FURTHER_ROLE,
                    vec![
                        Trust::principal(ROLE),
                        Trust::Principal(PrincipalTrust {
                            principal: user.to_owned(),
                            external_id: Some(EXTERNAL_ID.to_owned()),
                        }),
                    ],
                ),
            ],
            access_keys: vec![AccessKey {
                id: KEY_ID.to_owned(),
                secret: KEY_SECRET.to_owned(),
                principal: user.to_owned(),
                inactive: false,
            }],
            ..SimulatorConfig::default()
        };
        let sts = Sts::start(config).expect("an STS");
        let instance = MetadataConfig {
            role: Some("node".to_owned()),
            ..MetadataConfig::default()
        };
        let metadata = Metadata::start(instance, sts.issuance()).expect("a metadata service");
        let house = Self {
            sts,
            metadata,
            folder,
        };
        // As the kubelet does not write it: with a line end.
        house.write_token(&(token(SUBJECT) + "\n"));
        house
    }

    pub(crate) fn token_file(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    pub(crate) fn write_token(&self, text: &str) {
        std::fs::write(self.token_file(), text).expect("a token file");
    }

    /// Options of a client that trusts this STS.
    pub(crate) fn options(&self) -> HttpOptions {
        HttpOptions {
            extra_roots: Some(self.sts.ca_pem().as_bytes().to_vec()),
            ..patient(HttpOptions::default())
        }
    }

    /// A world like that of a pod with an injected role, with these options for the way to STS.
    pub(crate) fn world_with(&self, options: &HttpOptions) -> World {
        let file = self.token_file();
        let host = self.sts.host();
        let patient = |options| Arc::new(HttpClient::new(&patient(options)).expect("a client"));
        World {
            clock: Arc::new(SystemClock),
            env: Arc::new(FixedEnv::of([
                (env::ROLE_ARN, ROLE),
                (env::OIDC_PROVIDER_ARN, PROVIDER),
                (env::OIDC_TOKEN_FILE, file.to_str().expect("a UTF-8 path")),
                (env::STS_ENDPOINT, &host),
            ])),
            files: Arc::new(SystemFiles),
            random: Arc::new(SystemRandom),
            http: Arc::new(HttpClient::new(options).expect("a client")),
            direct: patient(HttpOptions::direct()),
            processes: Arc::new(SystemProcesses),
            metadata: patient(HttpOptions::metadata()),
        }
    }

    pub(crate) fn world(&self) -> World {
        self.world_with(&self.options())
    }

    /// The provider of a pod with an injected role.
    pub(crate) fn oidc(&self) -> OidcRoleArn {
        OidcRoleArn::from_env(&self.world()).expect("the environment is complete")
    }

    /// Both ways to a role through STS.
    pub(crate) fn ways_to_a_role(&self, options: &HttpOptions) -> [Box<dyn Provider>; 2] {
        let world = self.world_with(options);
        let oidc = OidcRoleArn::from_env(&world).expect("the environment is complete");
        [Box::new(oidc), Box::new(ram(&world))]
    }

    /// A client of STS.
    pub(crate) fn sts_client(&self) -> sts::Client {
        sts::Client::new(self.world().http, Arc::new(SystemClock))
    }

    pub(crate) fn endpoint(&self) -> sts::Endpoint {
        self.sts.host().parse().expect("an endpoint")
    }

    /// A client of the metadata service that waits for its answers.
    pub(crate) fn imds(&self) -> imds::Client {
        imds_at(self.metadata.address(), &patient(HttpOptions::metadata()))
    }

    /// The provider of a machine.
    pub(crate) fn ecs(&self) -> EcsRamRole {
        EcsRamRole::with_client(self.imds(), None)
    }

    /// What these credentials stand for.
    pub(crate) fn session_of(&self, credentials: &Credentials) -> Session {
        self.sts
            .verify(
                credentials.access_key_id(),
                credentials.access_key_secret().expose(),
                credentials.security_token().expect("a token").expose(),
            )
            .expect("they were issued here")
    }

    /// How often the metadata service was asked for this.
    pub(crate) fn asked(&self, action: &str) -> usize {
        self.metadata.calls().count(|call| call.action == action)
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mut secrets = self.sts.issued_secrets();
        secrets.push(KEY_SECRET.to_owned());
        for secret in secrets {
            // Long texts may have been cut on their way to a log; their beginning is enough. All
            // of a JWT's beginning is its header, so of those the signature is looked for.
            let part = secret.rsplit('.').next().unwrap_or(&secret);
            let part: String = part.chars().take(40).collect();
            let line = log::find(&part);
            assert!(line.is_none(), "a secret is in the log: {line:?}…");
        }
    }
}

/// The access key of a user who may assume roles.
pub(crate) fn key() -> Arc<StaticAk> {
    Arc::new(StaticAk::new(KEY_ID, KEY_SECRET.into()).expect("a key"))
}

/// The provider of a program that has an access key and assumes a role with it.
pub(crate) fn ram(world: &World) -> RamRoleArn {
    RamRoleArn::builder(key()).build(world).expect("a role")
}

/// The clock of a machine that is off by this much.
#[derive(Debug)]
pub(crate) struct OffBy(pub(crate) TimeDelta);

impl Clock for OffBy {
    fn now(&self) -> DateTime<Utc> {
        clock::now() + self.0
    }
}

/// These options, but for the time that an answer may take: the product's own are so short that a
/// busy machine exceeds them. They are for answers that never come.
pub(crate) fn patient(options: HttpOptions) -> HttpOptions {
    HttpOptions {
        connect_timeout: ANSWER,
        total_timeout: ANSWER,
        ..options
    }
}

/// A client of the metadata service there.
pub(crate) fn imds_at(address: SocketAddr, options: &HttpOptions) -> imds::Client {
    let http = Arc::new(HttpClient::new(options).expect("a client"));
    imds::Client::at(address, http, Arc::new(SystemClock))
}

/// The whole story of an error, as a log would show it; it is searched for secrets like the log.
pub(crate) fn story(error: &(dyn std::error::Error + 'static)) -> String {
    let mut story = format!("{error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        story = format!("{story}: {error}");
        cause = error.source();
    }
    log::add(&format!("{story}\n{error:?}\n"));
    story
}

/// What comes of this in the end, where the time for an attempt is short: a busy machine may take it away.
pub(crate) async fn in_the_end<T, E: std::fmt::Debug>(
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let mut last = None;
    let attempts = async {
        loop {
            match attempt().await {
                Ok(value) => return value,
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let outcome = tokio::time::timeout(PATIENCE, attempts).await;
    assert!(
        outcome.is_ok(),
        "no attempt succeeded; the last error: {last:?}"
    );
    outcome.expect("just seen")
}

/// The error of an attempt, which must come within [`PATIENCE`].
pub(crate) async fn failure<T: std::fmt::Debug>(
    attempt: impl Future<Output = Result<T, CredentialsError>>,
) -> CredentialsError {
    tokio::time::timeout(PATIENCE, attempt)
        .await
        .expect("every attempt is bounded")
        .expect_err("this cannot succeed")
}
