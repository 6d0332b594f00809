use super::*;
use crate::credentials::test_world::{HandClock, Script, cause, now, world};
use rstest::rstest;

const KEYS: &str = r#"{"AccessKeyId":"akid","AccessKeySecret":"sk-1","SecurityToken":"st-1","Expiration":"2026-01-02T04:04:05Z"}"#;
const RENEWED: &str = r#"{"access_token":"at-2-hidden","refresh_token":"rt-2-hidden","expires_in":7200,"token_type":"Bearer"}"#;

/// A login with this much life left in its access token, in seconds.
fn login(life: i64) -> OAuthConfig {
    OAuthConfig {
        access_token: Some("at-1-hidden".into()),
        access_token_expiration: Some(now() + TimeDelta::seconds(life)),
        refresh_token: Some("rt-1-hidden".into()),
        ..OAuthConfig::default()
    }
}

fn provider(config: OAuthConfig, script: &Arc<Script>) -> OAuth {
    let world = World {
        http: Arc::clone(script) as _,
        ..world(&[])
    };
    OAuth::new(config, &world).unwrap()
}

/// The paths that were asked, with what was shown of the login.
fn asked(script: &Script) -> Vec<String> {
    let line = |request: &Request| {
        let login = match request.headers().get(AUTHORIZATION) {
            Some(value) => value.to_str().unwrap().to_owned(),
            None => String::from_utf8(request.body().to_vec()).unwrap(),
        };
        format!("{} {login}", request.uri().path())
    };
    script.asked().iter().map(line).collect()
}

const EXCHANGE_1: &str = "/v1/exchange Bearer at-1-hidden";
const EXCHANGE_2: &str = "/v1/exchange Bearer at-2-hidden";

fn renewal(refresh_token: &str) -> String {
    format!(
        "/v1/token grant_type=refresh_token&refresh_token={refresh_token}&client_id=4038181954557748008&Timestamp=2026-01-02T03%3A04%3A05Z"
    )
}

fn check_hidden(error: &CredentialsError) {
    let shown = format!("{} {error:?}", error.chain());
    for hidden in ["hidden", "sk-1", "st-1", "<html"] {
        assert!(!shown.contains(hidden), "{shown}");
    }
}

#[test]
fn oa_2_differs_on_purpose_a_login_without_any_token_is_a_mistake() {
    for token in [None, Some("".into())] {
        let config = OAuthConfig {
            access_token: token.clone(),
            refresh_token: token,
            ..OAuthConfig::default()
        };
        let error = OAuth::new(config, &world(&[])).unwrap_err();
        assert!(matches!(error, CredentialsError::Misconfigured { .. }));
        assert!(cause(&error).contains("log in again"), "{error:?}");
    }
}

#[rstest]
#[case(1201)]
#[case(1500)]
#[case(2000)]
#[tokio::test]
async fn oa_3_an_access_token_that_lasts_is_swapped(#[case] life: i64) {
    let script = Script::of([(200, KEYS)]);
    let credentials = provider(login(life), &script).credentials().await.unwrap();
    assert_eq!(credentials.provider_name(), "oauth");
    assert_eq!(credentials.access_key_secret().expose(), "sk-1");
    assert_eq!(asked(&script), [EXCHANGE_1]);
}

#[rstest]
#[case::oa_4_short(login(900))]
#[case::oa_4_boundary(login(1200))]
#[case::oa_4_past(login(-1))]
#[case::oa_4_zero(OAuthConfig { access_token_expiration: Some(DateTime::UNIX_EPOCH), ..login(0) })]
#[case::oa_4_no_end(OAuthConfig { access_token_expiration: None, ..login(0) })]
#[case::oa_4_empty_token(OAuthConfig { access_token: Some("".into()), ..login(2000) })]
#[tokio::test]
async fn an_access_token_that_does_not_last_is_renewed_first(#[case] config: OAuthConfig) {
    let script = Script::of([(200, RENEWED), (200, KEYS), (200, KEYS)]);
    let provider = provider(config, &script);
    provider.credentials().await.unwrap();
    // The renewed token is remembered, and a clone knows it, too.
    provider.clone().credentials().await.unwrap();
    assert_eq!(
        asked(&script),
        [&renewal("rt-1-hidden"), EXCHANGE_2, EXCHANGE_2]
    );
}

#[rstest]
#[case::oa_5_refused(
    400,
    r#"{"error":"invalid_grant","error_description":"hidden"}"#,
    "code invalid_grant; log in again",
    true
)]
#[case::oa_5_page(200, "<html>hidden</html>", "no JSON of that shape", false)]
#[case::oa_5_half(200, &RENEWED[..RENEWED.len() / 2], "no JSON of that shape", false)]
#[case::oa_5_empty_access_token(
    200,
    r#"{"access_token":"","refresh_token":"rt-2-hidden"}"#,
    "access_token is missing",
    false
)]
#[case::oa_5_no_refresh_token(
    200,
    r#"{"access_token":"at-2-hidden"}"#,
    "refresh_token is missing",
    false
)]
#[case::redirect(302, "hidden", "redirects are not followed", false)]
#[tokio::test]
async fn a_failed_renewal_leaves_the_tokens_as_they_were(
    #[case] status: u16,
    #[case] body: &str,
    #[case] expected: &str,
    #[case] for_good: bool,
) {
    let script = Script::of([(status, body), (200, RENEWED), (200, KEYS)]);
    let provider = provider(login(900), &script);
    let error = provider.credentials().await.unwrap_err();
    assert!(cause(&error).contains(expected), "{error:?}");
    assert_eq!(matches!(error, CredentialsError::Refused { .. }), for_good);
    check_hidden(&error);
    provider.credentials().await.unwrap();
    let renewal = renewal("rt-1-hidden");
    assert_eq!(asked(&script), [&renewal, &renewal, EXCHANGE_2]);
}

#[tokio::test]
async fn oa_5_without_the_network_the_tokens_stay_as_they_were() {
    let script = Script::new();
    script.then_silence().then(200, RENEWED).then(200, KEYS);
    let provider = provider(login(900), &script);
    let error = provider.credentials().await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    provider.credentials().await.unwrap();
}

#[tokio::test]
async fn a_second_attempt_does_not_renew_again() {
    let script = Script::of([(200, RENEWED), (503, ""), (200, KEYS)]);
    let provider = provider(login(900), &script);
    provider.credentials().await.unwrap();
    let renewal = renewal("rt-1-hidden");
    assert_eq!(asked(&script), [&renewal, EXCHANGE_2, EXCHANGE_2]);
}

#[tokio::test]
async fn callers_at_once_use_a_refresh_token_once() {
    let script = Script::of([(200, RENEWED), (200, KEYS), (200, KEYS)]);
    let provider = provider(login(900), &script);
    let (first, second) = tokio::join!(provider.credentials(), provider.credentials());
    assert_eq!(first.unwrap(), second.unwrap());
    assert_eq!(asked(&script)[1..], [EXCHANGE_2, EXCHANGE_2]);
}

#[rstest]
#[case::told("7200", 6000)]
#[case::untold("null", 2400)]
#[case::odd(r#""soon""#, 2400)]
#[case::huge("1e300", 2400)]
#[case::negative("-1", 2400)]
#[tokio::test]
async fn a_renewed_token_lives_as_long_as_the_service_says_else_an_hour(
    #[case] expires_in: &str,
    #[case] renewed_after: i64,
) {
    let (script, clock) = (Script::new(), HandClock::new());
    let world = World {
        http: Arc::clone(&script) as _,
        clock: Arc::clone(&clock) as _,
        ..world(&[])
    };
    let provider = OAuth::new(login(0), &world).unwrap();
    let keys = KEYS.replace("2026-01-02T04", "2026-01-03T04");
    let renewed = RENEWED.replace("7200", expires_in);
    script.then(200, &renewed).then(200, &keys);
    provider.credentials().await.unwrap();
    clock.advance(renewed_after - 1);
    script.then(200, &keys);
    provider.credentials().await.unwrap();
    clock.advance(1);
    script.then(200, &renewed).then(200, &keys);
    provider.credentials().await.unwrap();
    assert!(asked(&script)[3].contains("rt-2-hidden"));
}

fn issued(life: i64) -> Credentials {
    Credentials::new("before", "sk-0".into(), "profile")
        .with_security_token("st-0".into())
        .with_expiration(now() + TimeDelta::seconds(life))
}

#[tokio::test]
async fn oa_8_credentials_that_were_issued_before_are_given_without_asking() {
    let config = OAuthConfig {
        issued: Some(issued(61)),
        ..login(0)
    };
    let script = Script::new();
    let credentials = provider(config, &script).credentials().await.unwrap();
    assert_eq!(credentials.access_key_id(), "before");
    assert_eq!(credentials.provider_name(), "oauth");
    assert!(asked(&script).is_empty());
}

#[rstest]
#[case::oa_9_over(issued(-1))]
#[case::last_minute(issued(60))]
#[case::no_end(Credentials::new("before", "sk-0".into(), "profile"))]
#[tokio::test]
async fn credentials_that_do_not_last_are_not_given(#[case] issued: Credentials) {
    let config = OAuthConfig {
        issued: Some(issued),
        ..login(1500)
    };
    let script = Script::of([(200, KEYS)]);
    let credentials = provider(config, &script).credentials().await.unwrap();
    assert_eq!(credentials.access_key_id(), "akid");
    assert_eq!(asked(&script), [EXCHANGE_1]);
}

#[tokio::test]
async fn oa_10_the_exchange_has_no_body() {
    let script = Script::of([(200, KEYS)]);
    let provider = provider(login(1500), &script);
    provider.credentials().await.unwrap();
    let [request] = &script.asked()[..] else {
        panic!("one request")
    };
    assert_eq!(request.method(), Method::POST);
    assert_eq!(request.uri(), "https://oauth.aliyun.com/v1/exchange");
    assert!(request.body().is_empty());
    let header = |name| request.headers().get(name).unwrap();
    assert_eq!(header(CONTENT_LENGTH), "0");
    assert_eq!(header(CONTENT_TYPE), "application/json");
    assert!(header(AUTHORIZATION).is_sensitive());
}

#[tokio::test]
async fn a_renewal_is_a_form() {
    let config = OAuthConfig {
        site: OAuthSite::International,
        ..login(0)
    };
    let script = Script::of([(200, RENEWED), (200, KEYS)]);
    provider(config, &script).credentials().await.unwrap();
    let [renewal, exchange] = &script.asked()[..] else {
        panic!("two requests")
    };
    assert_eq!(renewal.method(), Method::POST);
    assert_eq!(renewal.uri(), "https://oauth.alibabacloud.com/v1/token");
    assert_eq!(
        renewal.headers().get(CONTENT_TYPE).unwrap(),
        "application/x-www-form-urlencoded"
    );
    let form = std::str::from_utf8(renewal.body()).unwrap();
    assert!(form.contains("client_id=4103531455503354461"), "{form}");
    assert_eq!(exchange.uri(), "https://oauth.alibabacloud.com/v1/exchange");
}

#[rstest]
#[case("CN", Some(OAuthSite::China))]
#[case("intl", Some(OAuthSite::International))]
#[case("INVALID", None)]
#[case("", None)]
fn oa_12_a_site_has_a_name(#[case] text: &str, #[case] site: Option<OAuthSite>) {
    assert_eq!(text.parse().ok(), site);
}

#[tokio::test]
async fn both_spellings_of_the_keys_are_read() {
    let keys = KEYS
        .replace("AccessKey", "accessKey")
        .replace("SecurityToken", "securityToken")
        .replace("Expiration", "expiration");
    let script = Script::of([(200, keys.as_str())]);
    let credentials = provider(login(1500), &script).credentials().await.unwrap();
    assert_eq!(credentials.access_key_id(), "akid");
}

#[rstest]
#[case::error(200, r#"{"error":"server_error"}"#.to_owned(), "code server_error")]
#[case::error_beside_keys(200, KEYS.replace('{', r#"{"error":{"a":"hidden"},"#), "gave no credentials")]
#[case::page(200, "<html>hidden</html>".to_owned(), "no JSON of that shape")]
#[case::half(200, KEYS[..KEYS.len() - 1].to_owned(), "no JSON of that shape")]
#[case::no_token(200, KEYS.replace("st-1", ""), "SecurityToken is missing")]
#[case::over(200, KEYS.replace("T04", "T03"), "before they arrived")]
#[tokio::test]
async fn an_exchange_without_credentials_may_pass(
    #[case] status: u16,
    #[case] body: String,
    #[case] expected: &str,
) {
    let script = Script::of([(status, body.as_str())]);
    let error = provider(login(1500), &script)
        .credentials()
        .await
        .unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    assert!(cause(&error).contains(expected), "{error:?}");
    check_hidden(&error);
}

#[tokio::test]
async fn a_dead_access_token_is_refused_for_good() {
    let config = OAuthConfig {
        refresh_token: None,
        ..login(-1)
    };
    let script = Script::of([(401, r#"{"error":"invalid_token","requestId":"R-1"}"#)]);
    let error = provider(config, &script).credentials().await.unwrap_err();
    assert!(
        matches!(error, CredentialsError::Refused { .. }),
        "{error:?}"
    );
    assert!(
        cause(&error).ends_with(
            "code invalid_token, request id R-1; log in again with the Alibaba Cloud CLI"
        )
    );
    assert_eq!(asked(&script), [EXCHANGE_1]);
}

#[tokio::test]
async fn a_token_that_cannot_be_sent_is_a_mistake() {
    let config = OAuthConfig {
        access_token: Some("two\nhidden-lines".into()),
        ..login(1500)
    };
    let error = provider(config, &Script::new())
        .credentials()
        .await
        .unwrap_err();
    assert!(matches!(error, CredentialsError::Misconfigured { .. }));
    check_hidden(&error);
}

#[test]
fn debug_shows_no_token() {
    let config = OAuthConfig {
        issued: Some(issued(61)),
        ..login(1500)
    };
    let shown = format!("{config:?} {:?}", provider(config.clone(), &Script::new()));
    assert!(
        !shown.contains("hidden") && !shown.contains("sk-0"),
        "{shown}"
    );
}
