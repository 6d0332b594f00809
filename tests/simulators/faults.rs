//! Faults on demand: what a client must survive when the service or the way to it is ill.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;

use super::connection::Connection;
use super::live::locked;

/// Size of one piece of an endless body.
const PIECE: usize = 16 * 1024;
/// The pause before each byte of a dripping body.
const DRIP: Duration = Duration::from_millis(20);

/// How long an answer is kept back at most. Every client has gone by then.
const LONGEST_HOLD: Duration = Duration::from_mins(1);

/// Name of the header with the request id.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-acs-request-id");

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub(crate) enum Effect {
    /// This error in the service's own shape; nothing is checked or issued.
    Error {
        /// HTTP status.
        status: u16,
        /// `Code`.
        code: String,
        /// `Message`.
        message: String,
    },
    /// The genuine answer, so much later.
    Delay {
        /// How much later.
        #[serde(deserialize_with = "super::config::duration")]
        by: Duration,
    },
    /// The genuine answer, when the test lets it go.
    #[serde(skip)]
    Hold(Hold),
    /// No answer; the connection stays open.
    Hang,
    /// The connection is reset before an answer.
    Reset,
    /// Status 200 and a page of HTML, as a captive portal gives.
    Html,
    /// The first half of the genuine answer, as a complete HTTP message.
    Truncated,
    /// Status 200 and a body that never ends.
    Endless,
    /// The genuine answer, byte by byte with pauses: a time limit on each read never strikes.
    Drip,
    /// A redirect.
    Redirect {
        /// 301, 302, 307 or 308.
        status: u16,
        /// Where to.
        location: String,
    },
    /// A status with a page of HTML, as a load balancer gives.
    Status {
        /// HTTP status.
        status: u16,
    },
    /// Any answer.
    Raw {
        /// HTTP status.
        status: u16,
        /// `Content-Type`.
        content_type: String,
        /// The body.
        body: String,
    },
    /// The genuine answer without this member (`/Credentials/Expiration`).
    MissingField {
        /// JSON pointer to the member.
        pointer: String,
    },
    /// The genuine answer with an `Expiration` of years ago.
    ExpirationInPast,
}

impl Effect {
    /// What the call log says, when the effect takes the place of the genuine answer.
    pub(crate) fn replaces(&self) -> Option<(u16, String)> {
        match self {
            Self::Error { status, code, .. } => Some((*status, code.clone())),
            Self::Hang => Some((0, "Fault.Hang".to_owned())),
            Self::Reset => Some((0, "Fault.Reset".to_owned())),
            Self::Html => Some((200, "Fault.Html".to_owned())),
            Self::Endless => Some((200, "Fault.Endless".to_owned())),
            Self::Redirect { status, .. } => Some((*status, "Fault.Redirect".to_owned())),
            Self::Status { status } => Some((*status, "Fault.Status".to_owned())),
            Self::Raw { status, .. } => Some((*status, "Fault.Raw".to_owned())),
            Self::Delay { .. }
            | Self::Hold(_)
            | Self::Drip
            | Self::Truncated
            | Self::MissingField { .. }
            | Self::ExpirationInPast => None,
        }
    }
}

/// Keeps answers back until the test lets them go; clones are handles to the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hold(Arc<Held>);

#[derive(Debug, Default)]
struct Held {
    released: watch::Sender<bool>,
    given_up: AtomicBool,
}

impl PartialEq for Hold {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Hold {}

impl Hold {
    /// Lets the answers go. Returns whether nobody had given up waiting for one.
    pub(crate) fn release(&self) -> bool {
        self.0.released.send_replace(true);
        !self.0.given_up.load(Ordering::Relaxed)
    }

    async fn end(&self) {
        let mut wait = HeldBack {
            held: &self.0,
            over: false,
        };
        let mut released = self.0.released.subscribe();
        let released = released.wait_for(|released| *released);
        wait.over = tokio::time::timeout(LONGEST_HOLD, released).await.is_ok();
    }
}

/// An answer that is kept back. Dropped before the end, because its client has gone.
struct HeldBack<'a> {
    held: &'a Held,
    over: bool,
}

impl Drop for HeldBack<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.held.given_up.store(true, Ordering::Relaxed);
        }
    }
}

/// An effect and the requests that it is for.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Fault {
    /// Only this action (or kind of metadata request).
    #[serde(default)]
    pub(crate) action: Option<String>,
    /// Only requests about this role's ARN.
    #[serde(default)]
    pub(crate) role: Option<String>,
    /// What goes wrong.
    pub(crate) effect: Effect,
}

impl Fault {
    /// For every request.
    pub(crate) fn always(effect: Effect) -> Self {
        Self {
            action: None,
            role: None,
            effect,
        }
    }

    /// For every request of this action.
    pub(crate) fn on(action: &str, effect: Effect) -> Self {
        Self {
            action: Some(action.to_owned()),
            role: None,
            effect,
        }
    }

    /// For every request about this role.
    pub(crate) fn for_role(role: &str, effect: Effect) -> Self {
        Self {
            action: None,
            role: Some(role.to_owned()),
            effect,
        }
    }

    fn is_for(&self, action: &str, role: Option<&str>) -> bool {
        self.action.as_deref().is_none_or(|only| only == action)
            && self.role.as_deref().is_none_or(|only| Some(only) == role)
    }
}

struct Queued {
    fault: Fault,
    left: Option<u32>,
}

/// The faults that a test has asked for; clones are handles to the same queue. The first one that
/// is for a request takes it; the standing ones of the configuration come last.
#[derive(Clone, Default)]
pub(crate) struct Faults {
    queue: Arc<Mutex<Vec<Queued>>>,
    poured: Arc<AtomicUsize>,
}

impl Faults {
    /// For the next `n` requests that it is for.
    pub(crate) fn next(&self, n: u32, fault: Fault) {
        locked(&self.queue).push(Queued {
            fault,
            left: Some(n),
        });
    }

    /// Until [`clear`](Self::clear).
    pub(crate) fn until_cleared(&self, fault: Fault) {
        locked(&self.queue).push(Queued { fault, left: None });
    }

    /// Whether a fault of the queue waits for a request about this role.
    pub(crate) fn awaits(&self, role: &str) -> bool {
        let queue = locked(&self.queue);
        queue
            .iter()
            .any(|queued| queued.left != Some(0) && queued.fault.role.as_deref() == Some(role))
    }

    /// Ends all faults of the queue.
    pub(crate) fn clear(&self) {
        locked(&self.queue).clear();
    }

    /// The effect for this request; uses up one turn of a counted fault.
    pub(crate) fn take(
        &self,
        action: &str,
        role: Option<&str>,
        standing: &[Fault],
    ) -> Option<Effect> {
        let mut queue = locked(&self.queue);
        queue.retain(|queued| queued.left != Some(0));
        if let Some(queued) = queue
            .iter_mut()
            .find(|queued| queued.fault.is_for(action, role))
        {
            queued.left = queued.left.map(|left| left.saturating_sub(1));
            return Some(queued.fault.effect.clone());
        }
        let stands = standing.iter().find(|fault| fault.is_for(action, role))?;
        Some(stands.effect.clone())
    }

    /// How many bytes of endless bodies the connections have taken so far.
    pub(crate) fn poured(&self) -> usize {
        self.poured.load(Ordering::Relaxed)
    }
}

/// A genuine answer, before a fault has been at it.
#[derive(Clone)]
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: StatusCode,
    /// `Content-Type`.
    pub(crate) content_type: String,
    /// The body.
    pub(crate) body: String,
    /// The request id, for services that have one.
    pub(crate) request_id: Option<String>,
}

impl Answer {
    fn whole(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        if let Ok(value) = HeaderValue::from_str(&self.content_type) {
            response.headers_mut().insert(header::CONTENT_TYPE, value);
        }
        if let Some(value) = self
            .request_id
            .and_then(|id| HeaderValue::from_str(&id).ok())
        {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        response
    }

    fn with_json(mut self, change: impl FnOnce(&mut Value)) -> Self {
        if let Ok(mut json) = serde_json::from_str(&self.body) {
            change(&mut json);
            self.body = json.to_string();
        }
        self
    }
}

/// Sends the genuine answer, or what `effect` makes of it. For an effect that takes its place,
/// `answer` is the service's own error when the effect is [`Effect::Error`], and unused otherwise.
pub(crate) async fn send(
    faults: &Faults,
    answer: Answer,
    effect: Option<Effect>,
    connection: &Connection,
) -> Response {
    match effect {
        None | Some(Effect::Error { .. }) => answer.whole(),
        Some(Effect::Delay { by }) => {
            tokio::time::sleep(by).await;
            answer.whole()
        }
        Some(Effect::Hold(hold)) => {
            hold.end().await;
            answer.whole()
        }
        // The client, or the end of the simulator, ends the wait.
        Some(Effect::Hang) => std::future::pending().await,
        Some(Effect::Reset) => {
            connection.cut();
            Response::new(Body::empty())
        }
        Some(Effect::Html) => page(StatusCode::OK).whole(),
        Some(Effect::Endless) => endless(Arc::clone(&faults.poured)),
        Some(Effect::Drip) => dripping(answer),
        Some(Effect::Redirect { status, location }) => {
            let mut response = page(status_of(status)).whole();
            if let Ok(location) = HeaderValue::from_str(&location) {
                response.headers_mut().insert(header::LOCATION, location);
            }
            response
        }
        Some(Effect::Status { status }) => page(status_of(status)).whole(),
        Some(Effect::Raw {
            status,
            content_type,
            body,
        }) => Answer {
            status: status_of(status),
            content_type,
            body,
            request_id: None,
        }
        .whole(),
        Some(Effect::Truncated) => {
            let half = answer
                .body
                .chars()
                .take(answer.body.chars().count() / 2)
                .collect();
            Answer {
                body: half,
                ..answer
            }
            .whole()
        }
        Some(Effect::MissingField { pointer }) => {
            answer.with_json(|json| remove(json, &pointer)).whole()
        }
        Some(Effect::ExpirationInPast) => answer
            .with_json(|json| {
                for pointer in ["/Credentials/Expiration", "/Expiration"] {
                    if let Some(expiration) = json.pointer_mut(pointer) {
                        *expiration = "2015-04-09T11:52:19Z".into();
                    }
                }
            })
            .whole(),
    }
}

fn status_of(number: u16) -> StatusCode {
    StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn page(status: StatusCode) -> Answer {
    Answer {
        status,
        content_type: "text/html; charset=utf-8".to_owned(),
        body: format!("<!DOCTYPE html><html><head><title>{status}</title></head></html>"),
        request_id: None,
    }
}

fn dripping(answer: Answer) -> Response {
    let bytes = Bytes::from(answer.body.clone());
    let body = stream::unfold(bytes, async |mut rest| {
        tokio::time::sleep(DRIP).await;
        (!rest.is_empty()).then(|| (Ok::<_, Infallible>(rest.split_to(1)), rest))
    });
    let mut response = answer.whole();
    *response.body_mut() = Body::from_stream(body);
    response
}

fn endless(poured: Arc<AtomicUsize>) -> Response {
    let piece = Bytes::from(vec![b' '; PIECE]);
    let start = Bytes::from_static(br#"{"RequestId":""#);
    let body = stream::unfold((start, piece, poured), async |(now, piece, poured)| {
        // Slow enough not to keep a core busy, fast enough to reach any cap within a second.
        tokio::time::sleep(Duration::from_micros(500)).await;
        poured.fetch_add(now.len(), Ordering::Relaxed);
        Some((Ok::<_, Infallible>(now), (piece.clone(), piece, poured)))
    });
    let mut response = Response::new(Body::from_stream(body));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

fn remove(json: &mut Value, pointer: &str) {
    let Some((parent, member)) = pointer.rsplit_once('/') else {
        return;
    };
    if let Some(Value::Object(members)) = json.pointer_mut(parent) {
        members.remove(member);
    }
}
