//! CloudSSO and OAuth over TLS: no token of a login gets into the log or an error, however the
//! service answers. The server is STS's; it answers what the test says.

use std::sync::Arc;

use rrsa::credentials::{CloudSso, CloudSsoConfig, OAuth, OAuthConfig, Provider};
use rrsa::world::{BoxFuture, Http, HttpError, Request, Response, World};

use crate::house::{House, failure, story};
use crate::log;
use crate::simulators::faults::{Effect, Fault};

const ACCESS: &str = "access-token-of-a-login-1234567890";
const REFRESH: &str = "refresh-token-of-a-login-1234567890";
const NEW_ACCESS: &str = "renewed-access-token-1234567890";
const NEW_REFRESH: &str = "renewed-refresh-token-1234567890";
const SECRET: &str = "secret-of-a-login-1234567890";
const KEYS: &str = r#"{"AccessKeyId":"STS.N","AccessKeySecret":"secret-of-a-login-1234567890","SecurityToken":"CAIS","Expiration":"2999-01-02T04:04:05Z"}"#;

fn answer(house: &House, status: u16, body: String) {
    let effect = Effect::Raw {
        status,
        content_type: "application/json".to_owned(),
        body,
    };
    house.sts.faults().next(1, Fault::always(effect));
}

fn check_log() {
    for secret in [ACCESS, REFRESH, NEW_ACCESS, NEW_REFRESH, SECRET] {
        let line = log::find(secret);
        assert!(line.is_none(), "a secret is in the log: {line:?}…");
    }
}

#[tokio::test]
async fn a_cloud_sso_login_gives_credentials() {
    let house = House::start();
    let config = CloudSsoConfig {
        sign_in_url: Some(format!("https://{}/acme/login", house.sts.host())),
        account_id: Some("1234567890123456".to_owned()),
        access_configuration_id: Some("ac-1".to_owned()),
        access_token: Some(ACCESS.into()),
        access_token_expiration: Some("2999-01-01T00:00:00Z".parse().unwrap()),
    };
    let provider = CloudSso::new(config, &house.world()).unwrap();
    answer(&house, 200, format!(r#"{{"CloudCredential":{KEYS}}}"#));
    let credentials = provider.credentials().await.unwrap();
    assert_eq!(credentials.access_key_secret().expose(), SECRET);
    let echo = format!(r#"{{"ErrorCode":"Bad","ErrorMessage":"{ACCESS}"}}"#);
    answer(&house, 401, echo);
    let error = failure(provider.credentials()).await;
    assert!(story(&error).contains("code Bad"), "{error:?}");
    check_log();
}

/// Leads all requests to one host.
#[derive(Debug)]
struct LedTo {
    host: String,
    http: Arc<dyn Http>,
}

impl Http for LedTo {
    fn send(&self, mut request: Request) -> BoxFuture<'_, Result<Response, HttpError>> {
        let path = request.uri().path().to_owned();
        let uri = format!("https://{}{path}", self.host);
        *request.uri_mut() = uri.parse().expect("a URI");
        self.http.send(request)
    }
}

#[tokio::test]
async fn an_oauth_login_is_renewed_and_gives_credentials() {
    let house = House::start();
    let world = house.world();
    let world = World {
        http: Arc::new(LedTo {
            host: house.sts.host(),
            http: world.http,
        }),
        ..world
    };
    let config = OAuthConfig {
        access_token: Some(ACCESS.into()),
        refresh_token: Some(REFRESH.into()),
        ..OAuthConfig::default()
    };
    let provider = OAuth::new(config, &world).unwrap();
    let echo = format!(r#"{{"error":"invalid_grant","error_description":"{REFRESH}"}}"#);
    answer(&house, 400, echo);
    let error = failure(provider.credentials()).await;
    assert!(story(&error).contains("code invalid_grant"), "{error:?}");
    let renewed = format!(r#"{{"access_token":"{NEW_ACCESS}","refresh_token":"{NEW_REFRESH}"}}"#);
    answer(&house, 200, renewed);
    answer(&house, 200, KEYS.to_owned());
    let credentials = provider.credentials().await.unwrap();
    assert_eq!(credentials.access_key_secret().expose(), SECRET);
    log::add(&format!("{provider:?} {credentials:?}"));
    check_log();
}
