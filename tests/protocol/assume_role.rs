//! `AssumeRole` against STS: the signature is checked by an independent implementation.

use std::sync::Arc;
use std::time::Duration;

use rrsa::credentials::{Credentials, Provider as _};
use rrsa::sts::{AssumeRole, Caller, Client, DEFAULT_DURATION, Error, Issued, Nonce, RefusalKind};
use rrsa::world::{BoxFuture, Http, HttpError, Request, Response, SystemClock, SystemRandom};

use crate::house::{EXTERNAL_ID, FURTHER_ROLE, House, KEY_ID, KEY_SECRET, PATIENCE, ROLE, story};

fn user() -> Caller {
    Caller {
        access_key_id: KEY_ID.to_owned(),
        access_key_secret: KEY_SECRET.into(),
        security_token: None,
        provider_name: "static_ak".to_owned(),
    }
}

fn session(credentials: &Credentials) -> Caller {
    Caller {
        access_key_id: credentials.access_key_id().to_owned(),
        access_key_secret: credentials.access_key_secret().clone(),
        security_token: credentials.security_token().cloned(),
        provider_name: credentials.provider_name().to_owned(),
    }
}

fn request(caller: Caller, role: &str) -> AssumeRole {
    AssumeRole {
        caller,
        role_arn: role.parse().expect("a role ARN"),
        session_name: "test-session".to_owned(),
        duration: DEFAULT_DURATION,
        policy: None,
        external_id: None,
    }
}

async fn sent(client: &Client, house: &House, request: &AssumeRole) -> Result<Issued, Error> {
    let nonce = Nonce::new(&SystemRandom).expect("a nonce");
    let endpoint = house.endpoint();
    let answer = client.assume_role(&endpoint, request, nonce);
    tokio::time::timeout(PATIENCE, answer)
        .await
        .expect("every attempt is bounded")
}

#[tokio::test]
async fn a_user_assumes_a_role() {
    let house = House::start();
    let mut request = request(user(), FURTHER_ROLE);
    // Spaces and `+` are where signatures with form-style escaping fail.
    let policy = r#"{ "Version": "1", "Statement": [{"Effect": "Allow", "Action": "oss:*", "Resource": "a+b~*"}] }"#;
    request.policy = Some(policy.to_owned());
    request.external_id = Some(EXTERNAL_ID.into());
    request.duration = Duration::from_mins(15);
    let issued = sent(&house.sts_client(), &house, &request).await.unwrap();
    assert_eq!(
        issued.assumed_role_arn,
        format!("{FURTHER_ROLE}/test-session")
    );
    let keys = issued.credentials;
    let session = house
        .sts
        .verify(
            &keys.access_key_id,
            keys.access_key_secret.expose(),
            keys.security_token.expose(),
        )
        .unwrap();
    assert_eq!(session.policy.as_deref(), Some(policy));
    assert_eq!(session.role_arn, FURTHER_ROLE);
    let call = house.sts.calls().last().unwrap();
    assert_eq!(call.method, "POST");
    assert!(
        !call
            .in_url
            .iter()
            .any(|name| name == "Policy" || name == "ExternalId")
    );
}

#[tokio::test]
async fn a_session_assumes_a_further_role() {
    let house = House::start();
    let first = house.oidc().credentials().await.unwrap();
    let request = request(session(&first), FURTHER_ROLE);
    let issued = sent(&house.sts_client(), &house, &request).await.unwrap();
    assert!(issued.credentials.access_key_id.starts_with("STS."));
    assert_eq!(house.sts.calls().last().unwrap().action, "AssumeRole");
}

#[tokio::test]
async fn a_wrong_secret_is_refused() {
    let house = House::start();
    let mut caller = user();
    caller.access_key_secret = "another-secret-altogether".into();
    let error = sent(&house.sts_client(), &house, &request(caller, ROLE))
        .await
        .unwrap_err();
    let Error::Refused(refusal) = &error else {
        panic!("{error:?}")
    };
    assert_eq!(refusal.code, "SignatureDoesNotMatch");
    assert_eq!(refusal.kind(), RefusalKind::CallerRefused);
    assert_eq!(
        refusal.request_id,
        house.sts.calls().last().unwrap().request_id
    );
    story(&error);
}

/// Changes a request on its way.
#[derive(Debug)]
struct Tampering {
    http: Arc<dyn Http>,
    from: &'static str,
    to: &'static str,
}

impl Http for Tampering {
    fn send(&self, mut request: Request) -> BoxFuture<'_, Result<Response, HttpError>> {
        let body = String::from_utf8(request.body().to_vec()).expect("a form");
        let changed = body.replace(self.from, self.to);
        assert_ne!(changed, body, "there is something to change");
        *request.body_mut() = changed.into();
        self.http.send(request)
    }
}

#[tokio::test]
async fn a_request_that_was_tampered_with_is_refused_without_telling_the_token() {
    let house = House::start();
    let first = house.oidc().credentials().await.unwrap();
    let http = Arc::new(Tampering {
        http: house.world().http,
        from: "role%2Ffurther",
        to: "role%2Fapp",
    });
    let client = Client::new(http, Arc::new(SystemClock));
    let error = sent(&client, &house, &request(session(&first), FURTHER_ROLE))
        .await
        .unwrap_err();
    let Error::Refused(refusal) = &error else {
        panic!("{error:?}")
    };
    assert_eq!(refusal.code, "SignatureDoesNotMatch");
    // The service's own words go on with the text that it signed, security token included.
    assert!(
        refusal
            .message
            .ends_with("server string to sign is: [redacted]"),
        "{}",
        refusal.message
    );
    story(&error);
}

#[tokio::test]
async fn a_missing_external_id_is_a_matter_of_trust() {
    let house = House::start();
    let error = sent(&house.sts_client(), &house, &request(user(), FURTHER_ROLE))
        .await
        .unwrap_err();
    let Error::Refused(refusal) = &error else {
        panic!("{error:?}")
    };
    assert_eq!(refusal.kind(), RefusalKind::NotTrusted);
}

#[tokio::test]
async fn a_clock_that_is_off_is_told_from_a_wrong_secret() {
    let house = House::start();
    house
        .sts
        .update(|config| config.clock_ahead = Duration::from_mins(20));
    let error = sent(&house.sts_client(), &house, &request(user(), ROLE))
        .await
        .unwrap_err();
    let Error::Refused(refusal) = &error else {
        panic!("{error:?}")
    };
    assert_eq!(refusal.kind(), RefusalKind::ClockSkew);
}
