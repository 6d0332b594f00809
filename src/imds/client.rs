//! Asks the metadata service, with a token where there is one; the table stands in the room's
//! documentation.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};

use super::answer::{self, RoleCredentials};
use super::error::Error;
use super::question::{Question, RoleName};
use crate::secret::SecretText;
use crate::world::{Clock, Http, Request};

/// Where every ECS instance finds the service.
const ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)), 80);

const TOKEN: HeaderName = HeaderName::from_static("x-aliyun-ecs-metadata-token");
const TOKEN_TTL: HeaderName = HeaderName::from_static("x-aliyun-ecs-metadata-token-ttl-seconds");

/// Life of a token that is asked for: the longest there is.
const TOKEN_LIFE: Duration = Duration::from_hours(6);
/// A token is used so long: it is given up shortly before its end.
const TOKEN_USE: Duration = Duration::from_mins(6 * 60 - 1);

/// How a body is read.
type Read<T> = fn(&Question, &Bytes, DateTime<Utc>) -> Result<T, Error>;

/// Why asking with a token gave nothing.
enum WithToken {
    /// There is no token.
    NotHad(Error),
    /// There is one, and the question failed.
    Failed(Error),
}

/// A client of the metadata service. Clones share token and role name.
#[derive(Debug, Clone)]
pub struct Client {
    http: Arc<dyn Http>,
    clock: Arc<dyn Clock>,
    address: SocketAddr,
    plain_allowed: bool,
    kept: Arc<Mutex<Kept>>,
}

/// What is remembered between questions.
#[derive(Debug, Default)]
struct Kept {
    token: Option<(SecretText, DateTime<Utc>)>,
    role: Option<RoleName>,
}

impl Client {
    /// A client of the machine's service. `http` must be made for it:
    /// [`HttpOptions::metadata`](crate::world::HttpOptions::metadata).
    #[must_use]
    pub fn new(http: Arc<dyn Http>, clock: Arc<dyn Clock>) -> Self {
        Self::at(ADDRESS, http, clock)
    }

    /// A client of a service elsewhere: for tests, and for operators who serve metadata
    /// themselves. Whoever answers there decides whose credentials these are.
    #[must_use]
    pub fn at(address: SocketAddr, http: Arc<dyn Http>, clock: Arc<dyn Clock>) -> Self {
        Self {
            http,
            clock,
            address,
            plain_allowed: true,
            kept: Arc::default(),
        }
    }

    /// Forbids plain (IMDSv1) requests.
    #[must_use]
    pub fn disable_v1(mut self) -> Self {
        self.plain_allowed = false;
        self
    }

    /// Whether plain (IMDSv1) requests are forbidden.
    #[must_use]
    pub fn v1_is_disabled(&self) -> bool {
        !self.plain_allowed
    }

    /// The name of the machine's role; remembered until the service does not know it any more.
    ///
    /// # Errors
    /// [`Error::NoRole`] when the machine has none; else see [`Error`].
    pub async fn role_name(&self) -> Result<RoleName, Error> {
        let kept = self.kept().role.clone();
        match kept {
            Some(role) => Ok(role),
            None => self.discover_role().await,
        }
    }

    /// Credentials of the machine's role, whatever its name. When the role was replaced by another
    /// one, that one's.
    ///
    /// # Errors
    /// [`Error::NoRole`] when the machine has none; else see [`Error`].
    pub async fn credentials(&self) -> Result<RoleCredentials, Error> {
        let kept = self.kept().role.clone();
        if let Some(role) = kept {
            match self.credentials_of(&role).await {
                Err(Error::NoRole(_)) => self.kept().role = None,
                answer => return answer,
            }
        }
        let role = self.discover_role().await?;
        let answer = self.credentials_of(&role).await;
        if matches!(answer, Err(Error::NoRole(_))) {
            self.kept().role = None;
        }
        answer
    }

    /// Credentials of the role with this name.
    ///
    /// # Errors
    /// [`Error::NoRole`] when the machine does not have this role; else see [`Error`].
    pub async fn credentials_of(&self, role: &RoleName) -> Result<RoleCredentials, Error> {
        let question = Question::Credentials(role.clone());
        self.ask(&question, answer::credentials).await
    }

    /// The region that the machine is in.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn region_id(&self) -> Result<String, Error> {
        self.ask(&Question::Region, answer::region).await
    }

    /// The account that owns the machine.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn owner_account_id(&self) -> Result<String, Error> {
        self.ask(&Question::Account, answer::account).await
    }

    async fn discover_role(&self) -> Result<RoleName, Error> {
        let role = self.ask(&Question::RoleName, answer::role_name).await?;
        self.kept().role = Some(role.clone());
        Ok(role)
    }

    async fn ask<T>(&self, question: &Question, read: Read<T>) -> Result<T, Error> {
        let failure = match self.ask_with_token(question, read).await {
            Ok(value) => return Ok(value),
            Err(failure) => failure,
        };
        if !self.plain_allowed {
            return Err(match failure {
                WithToken::NotHad(error) => Error::NoToken(Box::new(error)),
                WithToken::Failed(error) => error,
            });
        }
        let plain = self.get(question, None, read).await;
        plain.map_err(|plain| match failure {
            WithToken::NotHad(error) => plain.for_want_of_a_token(error),
            // The first failure says more: a hardened instance refuses every plain request.
            WithToken::Failed(error) => error,
        })
    }

    async fn ask_with_token<T>(&self, question: &Question, read: Read<T>) -> Result<T, WithToken> {
        if let Some(token) = self.kept_token() {
            match self.get(question, Some(&token), read).await {
                // The service was restarted, or the machine is another one now.
                Err(error) if error.token_is_unknown() => self.kept().token = None,
                answer => return answer.map_err(WithToken::Failed),
            }
        }
        let token = self.new_token().await.map_err(WithToken::NotHad)?;
        self.get(question, Some(&token), read)
            .await
            .map_err(WithToken::Failed)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // What is kept is whole after every statement, so a panic elsewhere spoils nothing.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept_token(&self) -> Option<SecretText> {
        let now = self.clock.now();
        let kept = self.kept();
        let (token, until) = kept.token.as_ref()?;
        (now < *until).then(|| token.clone())
    }

    async fn new_token(&self) -> Result<SecretText, Error> {
        let asked = self.clock.now();
        let mut request = self.request(Method::PUT, &Question::Token);
        let headers = request.headers_mut();
        headers.insert(TOKEN_TTL, HeaderValue::from(TOKEN_LIFE.as_secs()));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
        let token = self
            .exchange(&Question::Token, request, answer::token)
            .await?;
        self.kept().token = Some((token.clone(), asked + TOKEN_USE));
        Ok(token)
    }

    async fn get<T>(
        &self,
        question: &Question,
        token: Option<&SecretText>,
        read: Read<T>,
    ) -> Result<T, Error> {
        let mut request = self.request(Method::GET, question);
        if let Some(token) = token {
            let mut value =
                HeaderValue::from_str(token.expose()).map_err(|_| Error::Malformed {
                    question: Question::Token,
                    problem: "it cannot stand in a header".to_owned(),
                })?;
            // So that no HTTP library shows it.
            value.set_sensitive(true);
            request.headers_mut().insert(TOKEN, value);
        }
        self.exchange(question, request, read).await
    }

    fn request(&self, method: Method, question: &Question) -> Request {
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = method;
        *request.uri_mut() = format!("http://{}{}", self.address, question.path())
            .parse::<Uri>()
            .unwrap_or_else(|_| unreachable!("address and path hold only legal characters"));
        request
    }

    async fn exchange<T>(
        &self,
        question: &Question,
        request: Request,
        read: Read<T>,
    ) -> Result<T, Error> {
        let answer = self
            .http
            .send(request)
            .await
            .map_err(|source| Error::Unreachable {
                question: question.clone(),
                source,
            })?;
        match (answer.status(), question) {
            (StatusCode::OK, _) => read(question, answer.body(), self.clock.now()),
            (StatusCode::NOT_FOUND, Question::RoleName) => Err(Error::NoRole(None)),
            (StatusCode::NOT_FOUND, Question::Credentials(role)) => {
                Err(Error::NoRole(Some(role.clone())))
            }
            (status, _) => Err(Error::Status {
                question: question.clone(),
                status,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{BoxFuture, HttpError, Response};
    use std::collections::VecDeque;

    const ROLES: &str = "/latest/meta-data/ram/security-credentials/";
    const GOOD: &str = r#"{"Code":"Success","AccessKeyId":"STS.N","AccessKeySecret":"sk","SecurityToken":"st","Expiration":"2026-01-02T09:04:05Z"}"#;

    /// Answers in the order of a script, and notes what was asked.
    #[derive(Debug, Default)]
    struct Script {
        answers: Mutex<VecDeque<(u16, &'static str)>>,
        asked: Mutex<Vec<String>>,
    }

    impl Http for Script {
        fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, HttpError>> {
            let token = request.headers().get(TOKEN).map(|t| t.to_str().unwrap());
            let line = format!(
                "{} {}{}",
                request.method(),
                request.uri().path(),
                token.map(|t| format!(" {t}")).unwrap_or_default()
            );
            self.asked.lock().unwrap().push(line);
            let answer = self.answers.lock().unwrap().pop_front();
            Box::pin(async move {
                // Status 0 stands for a broken connection.
                match answer.expect("the script has an answer") {
                    (0, _) => Err(HttpError::Broken {
                        host: "100.100.100.200".to_owned(),
                        cause: "reset".to_owned(),
                    }),
                    (status, body) => {
                        let mut response = Response::new(Bytes::from_static(body.as_bytes()));
                        *response.status_mut() = StatusCode::from_u16(status).unwrap();
                        Ok(response)
                    }
                }
            })
        }
    }

    #[derive(Debug)]
    struct SetClock(Mutex<DateTime<Utc>>);

    impl Clock for SetClock {
        fn now(&self) -> DateTime<Utc> {
            *self.0.lock().unwrap()
        }
    }

    struct Scene {
        script: Arc<Script>,
        clock: Arc<SetClock>,
        client: Client,
    }

    impl Scene {
        fn new(answers: &[(u16, &'static str)]) -> Self {
            let script = Arc::new(Script::default());
            script.answers.lock().unwrap().extend(answers);
            let now = "2026-01-02T03:04:05Z".parse().unwrap();
            let clock = Arc::new(SetClock(Mutex::new(now)));
            let client = Client::new(script.clone(), clock.clone());
            Self {
                script,
                clock,
                client,
            }
        }

        fn hardened(mut self) -> Self {
            self.client = self.client.disable_v1();
            self
        }

        /// What was asked, and that the script is at its end.
        fn asked(&self) -> Vec<String> {
            assert!(self.script.answers.lock().unwrap().is_empty());
            std::mem::take(&mut *self.script.asked.lock().unwrap())
        }
    }

    fn node() -> RoleName {
        "node".parse().unwrap()
    }

    #[tokio::test]
    async fn token_and_role_name_are_remembered() {
        let scene = Scene::new(&[(200, "t1"), (200, "node\n"), (200, GOOD), (200, GOOD)]);
        scene.client.credentials().await.unwrap();
        scene.client.credentials().await.unwrap();
        let of_node = format!("GET {ROLES}node t1");
        assert_eq!(
            scene.asked(),
            [
                "PUT /latest/api/token",
                &format!("GET {ROLES} t1"),
                &of_node,
                &of_node
            ]
        );
    }

    #[tokio::test]
    async fn a_token_is_renewed_shortly_before_its_end() {
        let scene = Scene::new(&[(200, "t1"), (200, "r-1"), (200, "t2"), (200, "r-1")]);
        scene.client.region_id().await.unwrap();
        *scene.clock.0.lock().unwrap() += TOKEN_USE;
        scene.client.region_id().await.unwrap();
        assert_eq!(
            scene.asked(),
            [
                "PUT /latest/api/token",
                "GET /latest/meta-data/region-id t1",
                "PUT /latest/api/token",
                "GET /latest/meta-data/region-id t2",
            ]
        );
    }

    #[tokio::test]
    async fn a_kept_token_that_is_unknown_is_replaced() {
        let answers = [
            (200, "t1"),
            (200, "r-1"),
            (401, ""),
            (200, "t2"),
            (200, "r-1"),
        ];
        let scene = Scene::new(&answers).hardened();
        scene.client.region_id().await.unwrap();
        assert_eq!(scene.client.region_id().await.unwrap(), "r-1");
        assert_eq!(
            scene.asked().last().unwrap(),
            "GET /latest/meta-data/region-id t2"
        );
    }

    #[tokio::test]
    async fn without_a_token_the_question_is_asked_plainly() {
        for no_token in [(0, ""), (404, ""), (405, ""), (200, "<html> </html>")] {
            let scene = Scene::new(&[no_token, (200, GOOD)]);
            scene.client.credentials_of(&node()).await.unwrap();
            assert_eq!(
                scene.asked(),
                ["PUT /latest/api/token", &format!("GET {ROLES}node")]
            );
        }
    }

    #[tokio::test]
    async fn with_v1_switched_off_nothing_is_asked_without_a_token() {
        for no_token in [(0, ""), (404, "")] {
            let scene = Scene::new(&[no_token]).hardened();
            let error = scene.client.credentials_of(&node()).await.unwrap_err();
            assert!(matches!(error, Error::NoToken(_)), "{error:?}");
            assert_eq!(scene.asked(), ["PUT /latest/api/token"]);
        }
    }

    #[tokio::test]
    async fn a_question_that_failed_with_a_token_is_asked_once_more_without() {
        for failed in [
            (0, ""),
            (500, ""),
            (200, "{"),
            (200, r#"{"Code":"Failed"}"#),
        ] {
            let scene = Scene::new(&[(200, "t1"), failed, (200, GOOD)]);
            scene.client.credentials_of(&node()).await.unwrap();
            assert_eq!(
                scene.asked(),
                [
                    "PUT /latest/api/token",
                    &format!("GET {ROLES}node t1"),
                    &format!("GET {ROLES}node")
                ]
            );
            let scene = Scene::new(&[(200, "t1"), failed]).hardened();
            scene.client.credentials_of(&node()).await.unwrap_err();
            assert_eq!(scene.asked().len(), 2);
        }
    }

    #[tokio::test]
    async fn a_role_name_that_failed_with_a_token_is_asked_once_more_without() {
        let scene = Scene::new(&[(200, "t1"), (404, ""), (200, "node")]);
        assert_eq!(scene.client.role_name().await.unwrap(), node());
        assert_eq!(scene.client.role_name().await.unwrap(), node());
        assert_eq!(scene.asked().len(), 3);
    }

    #[tokio::test]
    async fn the_failure_that_says_more_is_reported() {
        // With a token: no such role. Without: a hardened instance refuses.
        let scene = Scene::new(&[(200, "t1"), (404, ""), (403, "")]);
        let error = scene.client.credentials_of(&node()).await.unwrap_err();
        assert!(matches!(error, Error::NoRole(Some(_))), "{error:?}");
        // No token, and the instance takes nothing else.
        let scene = Scene::new(&[(0, ""), (403, "")]);
        let error = scene.client.credentials_of(&node()).await.unwrap_err();
        assert!(matches!(error, Error::TokenRequired(_)), "{error:?}");
    }

    #[tokio::test]
    async fn a_role_that_was_replaced_is_found_again() {
        let scene = Scene::new(&[
            (200, "t1"),
            (200, "old"),
            (200, GOOD),
            (404, ""),
            (200, "new"),
            (200, GOOD),
        ])
        .hardened();
        scene.client.credentials().await.unwrap();
        scene.client.credentials().await.unwrap();
        assert_eq!(scene.asked().last().unwrap(), &format!("GET {ROLES}new t1"));
        assert_eq!(scene.client.role_name().await.unwrap().as_str(), "new");
    }

    #[tokio::test]
    async fn a_role_that_is_gone_is_forgotten() {
        let scene =
            Scene::new(&[(200, "t1"), (200, "old"), (200, GOOD), (404, ""), (404, "")]).hardened();
        scene.client.credentials().await.unwrap();
        let error = scene.client.credentials().await.unwrap_err();
        assert!(matches!(error, Error::NoRole(None)), "{error:?}");
        assert_eq!(scene.client.kept().role, None);
        scene.asked();
    }

    #[test]
    fn the_machines_own_service_has_a_fixed_address() {
        let request = Scene::new(&[])
            .client
            .request(Method::GET, &Question::Region);
        assert_eq!(
            request.uri(),
            "http://100.100.100.200:80/latest/meta-data/region-id"
        );
    }

    #[test]
    fn what_is_kept_is_not_shown() {
        let scene = Scene::new(&[]);
        scene.client.kept().token = Some(("hunter2".into(), DateTime::UNIX_EPOCH));
        assert!(!format!("{:?}", scene.client).contains("hunter2"));
    }
}
