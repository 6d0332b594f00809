//! HTTP around the decision: who may ask what, how long it may take, and what a failure is.
//!
//! | answer | when |
//! |---|---|
//! | 200 | decided: `allowed: true`, unless strict mode refuses |
//! | 400 | the body is no review |
//! | 404, 405 | another path, another method |
//! | 408 | the body did not arrive in time |
//! | 413 | the body is longer than 7 MiB |
//! | 415 | not `application/json`, or compressed |
//! | 500 | namespace, ServiceAccount or bindings cannot be read, or a fault of ours |
//! | 503 | more reviews, large ones or unread long answers at once than are served |

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::body::{Bytes, HttpBody};
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use tokio::time::timeout;
use tower_service::Service;

use super::body::{self, BodyError};
use super::budget::{Budget, Share};
use super::metrics::{Metrics, status_label};
use super::names;
use super::review::{Review, Verdict};
use crate::injection::decision::{Reason, Warning};
use crate::injection::facts::{Cluster, LookupError, NamespaceFacts, ServiceAccountFacts};
use crate::injection::inject::{Target, inject};
use crate::injection::patch;
use crate::injection::pod::Pod;
use crate::injection::resolve::{
    Surroundings, opted_in, resolve, warn_of_near_misses, warn_of_static_keys,
};
use crate::injection::settings::Settings;
use crate::serving::places::Places;
use crate::telemetry::flood::FloodGate;
use crate::world::{BoxFuture, runtime_now};

/// The path that the API server calls.
pub const PATH: &str = "/mutate";
/// Longest body: two objects of 3 MiB, which etcd does not take, and 1 MiB around them.
pub const MAX_BODY: usize = 7 * 1024 * 1024;
/// How long a body may take to arrive.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a decision may take; the API server waits for 5 s in all.
pub const DECISION_TIMEOUT: Duration = Duration::from_millis(2500);
/// Most requests at once. When there are more, one that still waits for its body is given up.
pub const MAX_REVIEWS: usize = 256;
/// How long failures of one status are silent after a line.
const FAILURE_SILENCE: Duration = Duration::from_secs(10);
/// Memory for large bodies that arrive at once: four of the longest.
const LARGE_BODIES: usize = 4 * MAX_BODY;
/// What every body may take beyond that; nearly all reviews fit.
const SMALL_BODY: usize = 64 * 1024;
/// Memory for long answers that are not read yet: four for pods with the most containers.
const LONG_ANSWERS: usize = 8 * 1024 * 1024;
/// What every answer may take beyond that; those for pods with a dozen containers fit.
const SHORT_ANSWER: usize = 16 * 1024;

/// What every review needs. As a service it answers every request; there is one path, so no router stands
/// before it.
#[derive(Debug, Clone)]
pub struct Reviewer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Swapped when the configuration changes; a review takes them once.
    settings: ArcSwap<Settings>,
    cluster: Arc<dyn Cluster>,
    metrics: Metrics,
    places: Places,
    large_bodies: Budget,
    long_answers: Budget,
    failures: FloodGate<&'static str>,
}

impl Reviewer {
    /// A reviewer with these settings who asks that cluster.
    #[must_use]
    pub fn new(settings: Settings, cluster: Arc<dyn Cluster>, metrics: Metrics) -> Self {
        Self(Arc::new(Shared {
            settings: ArcSwap::from_pointee(settings),
            cluster,
            metrics,
            places: Places::new(MAX_REVIEWS),
            large_bodies: Budget::new(LARGE_BODIES, SMALL_BODY),
            long_answers: Budget::new(LONG_ANSWERS, SHORT_ANSWER),
            failures: FloodGate::new(1, FAILURE_SILENCE),
        }))
    }

    /// Reviews that begin from now on are made with these settings.
    pub fn configure(&self, settings: Settings) {
        self.0.settings.store(Arc::new(settings));
    }

    /// Decides about one body and writes the answer.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn review(&self, body: &[u8]) -> Result<Vec<u8>, Failure> {
        let start = runtime_now();
        let answer = self.answer(body).await;
        self.0.metrics.took(start.elapsed());
        answer
    }

    async fn answer(&self, body: &[u8]) -> Result<Vec<u8>, Failure> {
        let review = Review::parse(body)?;
        let settings = self.0.settings.load_full();
        let verdict = match &review.pod {
            Some(pod) => {
                let target = review.before.as_ref().map_or(Target::NewPod, |before| {
                    Target::NewEphemeral(before.ephemeral_names().collect())
                });
                let decision = pin!(self.0.decide(&settings, &review.namespace, pod, &target));
                timeout(DECISION_TIMEOUT, decision)
                    .await
                    .map_err(|_| Failure::TooSlow)??
            }
            None => Verdict::untouched(Reason::NotHandled, Vec::new()),
        };
        let verdict = if settings.strict {
            verdict.strict()
        } else {
            verdict
        };
        let (reason, warnings) = (verdict.reason, &verdict.warnings);
        self.0.metrics.answered(reason, warnings, review.dry_run);
        log(&review, &verdict);
        verdict.to_body(&review.uid).map_err(|_| Failure::Fault)
    }
}

impl Shared {
    /// Counts a failure, and tells of the first of a flood.
    fn failed(&self, failure: &Failure) {
        let status = failure.status();
        self.metrics.failed(status);
        if let Some(more) = self.failures.pass(status_label(status), runtime_now()) {
            let status = status.as_u16();
            tracing::warn!(status, error = %failure, more_before = more, "a review was not answered");
        }
    }

    async fn decide(
        &self,
        settings: &Settings,
        namespace: &str,
        pod: &Pod<'_>,
        target: &Target<'_>,
    ) -> Result<Verdict, Failure> {
        let facts = match self.opted_in(namespace, pod).await? {
            Ok(facts) => facts,
            Err(verdict) => return Ok(verdict),
        };
        let name = pod.service_account();
        let Some(account) = self.service_account(namespace, name).await? else {
            let reason = Reason::ServiceAccountMissing;
            let warning = Warning::names(reason, "ServiceAccount", std::iter::once(name));
            return Ok(Verdict::untouched(reason, vec![warning]));
        };
        let cached = self.cluster.cached_bindings(namespace);
        let around = Surroundings {
            settings,
            namespace,
            facts: &facts,
            account: &account,
            bindings: &cached,
        };
        let verdict = verdict(around, pod, target);
        if !verdict.reason.misses_a_binding() {
            return Ok(verdict);
        }
        // The pod asked and comes away without a role, for want of a binding or an annotation that
        // may be younger than the cache.
        let (bindings, fresh) = tokio::try_join!(
            self.cluster.bindings(namespace),
            self.cluster.service_account(namespace, name),
        )?;
        if bindings.is_none() && fresh.as_ref().is_none_or(|fresh| *fresh == account) {
            return Ok(verdict);
        }
        let around = Surroundings {
            bindings: bindings.as_ref().unwrap_or(&cached),
            account: fresh.as_ref().unwrap_or(&account),
            ..around
        };
        Ok(self::verdict(around, pod, target))
    }

    /// The namespace's facts if the pod is to be looked at, or else the answer.
    async fn opted_in(
        &self,
        name: &str,
        pod: &Pod<'_>,
    ) -> Result<Result<Arc<NamespaceFacts>, Verdict>, Failure> {
        if let Some(facts) = self.cluster.cached_namespace(name) {
            match opted_in(pod, &facts) {
                Ok(()) => return Ok(Ok(facts)),
                // The API server sends only pods that have opted in, so this namespace was
                // labelled after the cache last heard of it: look again.
                Err(Reason::NotOptedIn) => {}
                Err(reason) => return Ok(Err(Verdict::untouched(reason, Vec::new()))),
            }
        }
        let Some(facts) = self.cluster.namespace(name).await? else {
            let reason = Reason::NamespaceMissing;
            let warning = Warning::names(reason, "namespace", std::iter::once(name));
            return Ok(Err(Verdict::untouched(reason, vec![warning])));
        };
        Ok(match opted_in(pod, &facts) {
            Ok(()) => Ok(facts),
            Err(reason) => {
                let mut warnings = Vec::new();
                if reason == Reason::NotOptedIn {
                    warn_of_near_misses(pod, &mut warnings);
                }
                Err(Verdict::untouched(reason, warnings))
            }
        })
    }

    async fn service_account(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<ServiceAccountFacts>>, LookupError> {
        match self.cluster.cached_service_account(namespace, name) {
            Some(facts) => Ok(Some(facts)),
            None if names::may_be_object(name) => {
                self.cluster.service_account(namespace, name).await
            }
            None => Ok(None),
        }
    }
}

/// What comes of a pod that has opted in.
fn verdict(around: Surroundings<'_>, pod: &Pod<'_>, target: &Target<'_>) -> Verdict {
    let mut warnings = Vec::new();
    warn_of_static_keys(pod, around.bindings, &mut warnings);
    let injection = match resolve(around, pod, &mut warnings) {
        Ok(injection) => injection,
        Err(reason) => return Verdict::untouched(reason, warnings),
    };
    let injected = inject(pod, target, &injection, &mut warnings);
    if injected.operations.is_empty() {
        return Verdict::untouched(injected.reason, warnings);
    }
    Verdict {
        reason: injected.reason,
        warnings,
        role: injection.role.as_ref().map(ToString::to_string),
        mode: Some(injection.mode),
        patch: Some(patch::to_bytes(&injected.operations)),
    }
}

/// Why there is no answer, so that `failurePolicy` decides.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The body is no review.
    #[error(transparent)]
    Malformed(#[from] super::review::Malformed),
    /// The cluster could not be asked.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// The decision took too long.
    #[error(
        "no decision within {DECISION_TIMEOUT:?}: the API server was slow to answer about namespace, ServiceAccount or \
         bindings; the pod can be created again"
    )]
    TooSlow,
    /// Something of ours broke.
    #[error("internal fault; the pod can be created again")]
    Fault,
    /// The body's type is not JSON.
    #[error("the body must be application/json, not compressed")]
    MediaType,
    /// The body did not arrive.
    #[error("the body did not arrive within {BODY_TIMEOUT:?}")]
    BodyTooSlow,
    /// The body broke off or is too long.
    #[error("the body cannot be read; at most {MAX_BODY} bytes are taken, and few such at once")]
    Body(BodyError),
    /// Too many reviews at once.
    #[error("more than {MAX_REVIEWS} reviews at once; the pod can be created again")]
    Busy,
    /// Too much is not read.
    #[error("too many long answers wait to be read; the pod can be created again")]
    Unread,
}

impl Failure {
    fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) | Self::Body(BodyError::Broken) => StatusCode::BAD_REQUEST,
            Self::Lookup(_) | Self::TooSlow | Self::Fault => StatusCode::INTERNAL_SERVER_ERROR,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Body(BodyError::TooLong) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Body(BodyError::NoRoom) | Self::Busy | Self::Unread => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status(), self.to_string()).into_response()
    }
}

impl<B> Service<Request<B>> for Reviewer
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let reviewer = self.clone();
        Box::pin(async move { Ok(mutate(&reviewer, request).await) })
    }
}

async fn mutate<B>(reviewer: &Reviewer, request: Request<B>) -> Response
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    if request.uri().path() != PATH {
        return (StatusCode::NOT_FOUND, "reviews go to /mutate").into_response();
    }
    if request.method() != Method::POST {
        let allow = [(header::ALLOW, "POST")];
        return (StatusCode::METHOD_NOT_ALLOWED, allow, "reviews are posted").into_response();
    }
    match answer(reviewer, request).await {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(failure) => {
            reviewer.0.failed(&failure);
            failure.into_response()
        }
    }
}

async fn answer<B>(reviewer: &Reviewer, request: Request<B>) -> Result<Bytes, Failure>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    if !is_plain_json(request.headers()) {
        return Err(Failure::MediaType);
    }
    let place = reviewer.0.places.take().ok_or(Failure::Busy)?;
    let body = {
        let bytes = request.into_body();
        let receiving = pin!(body::receive(bytes, MAX_BODY, &reviewer.0.large_bodies));
        tokio::select! {
            biased;
            received = timeout(BODY_TIMEOUT, receiving) => {
                received.map_err(|_| Failure::BodyTooSlow)?.map_err(Failure::Body)?
            }
            () = place.lost() => return Err(Failure::Busy),
        }
    };
    if !place.work() {
        return Err(Failure::Busy);
    }
    // A panic is a bug, but one pod's bug is not to take the connection of the others down.
    let answer = AssertUnwindSafe(pin!(reviewer.review(&body.bytes)))
        .catch_unwind()
        .await
        .unwrap_or(Err(Failure::Fault))?;
    held(answer, &reviewer.0.long_answers)
}

/// A long answer has its share of that budget until the last of it is written: whoever asks and does not
/// read must not fill the memory.
fn held(answer: Vec<u8>, budget: &Budget) -> Result<Bytes, Failure> {
    let mut share = budget.share();
    if !share.grow(answer.len()) {
        return Err(Failure::Unread);
    }
    if share.is_counted() {
        return Ok(Bytes::from_owner(Held(answer, share)));
    }
    Ok(answer.into())
}

struct Held(
    Vec<u8>,
    #[expect(dead_code, reason = "given back when it is dropped")] Share,
);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Whether the body is JSON as it is. Parameters such as a charset do not matter, nor does case.
fn is_plain_json(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let essence = text(header::CONTENT_TYPE)
        .and_then(|value| value.split(';').next())
        .unwrap_or_default();
    let encoding = text(header::CONTENT_ENCODING).unwrap_or("identity");
    essence.trim().eq_ignore_ascii_case("application/json")
        && encoding.trim().eq_ignore_ascii_case("identity")
}

/// One line a review: names and codes, nothing of the object.
fn log(review: &Review<'_>, verdict: &Verdict) {
    let (uid, namespace, name) = (&*review.uid, &*review.namespace, names::cut(&review.name));
    let decision = verdict.reason.code();
    if verdict.warnings.is_empty() {
        tracing::debug!(uid, namespace, name, decision, "reviewed");
    } else {
        let warnings = verdict.warning_codes();
        tracing::info!(uid, namespace, name, decision, warnings, "reviewed");
    }
}
