//! A world without an outside, for the unit tests of this room.

use std::collections::VecDeque;
use std::error::Error;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderName, HeaderValue, StatusCode};

use crate::world::{
    BoxFuture, Clock, Command, Finished, FixedEnv, Http, HttpError, ProcessError, Processes,
    Request, Response, SystemFiles, SystemProcesses, World,
};

/// A service that answers from a list, and keeps the requests.
#[derive(Debug, Default)]
pub(super) struct Script {
    answers: Mutex<VecDeque<Result<Response, HttpError>>>,
    asked: Mutex<Vec<Request>>,
}

impl Script {
    /// One that has no answer yet: whoever asks it nevertheless fails the test.
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// These answers: status and body.
    pub(super) fn of<'a>(answers: impl IntoIterator<Item = (u16, &'a str)>) -> Arc<Self> {
        let script = Self::new();
        for (status, body) in answers {
            script.then(status, body);
        }
        script
    }

    /// One more answer.
    pub(super) fn then(&self, status: u16, body: &str) -> &Self {
        self.push(Ok(answer(status, body)))
    }

    /// One more answer, with a header.
    pub(super) fn then_with(
        &self,
        status: u16,
        body: &str,
        header: HeaderName,
        value: &'static str,
    ) -> &Self {
        let mut answer = answer(status, body);
        let value = HeaderValue::from_static(value);
        answer.headers_mut().insert(header, value);
        self.push(Ok(answer))
    }

    /// Then a reset of the connection.
    pub(super) fn then_reset(&self) -> &Self {
        self.push(Err(HttpError::Broken {
            host: "service.example".to_owned(),
            cause: "reset".to_owned(),
        }))
    }

    /// Then no answer in time.
    pub(super) fn then_silence(&self) -> &Self {
        self.push(Err(HttpError::TimedOut {
            host: "service.example".to_owned(),
            limit: crate::world::EXCHANGE_TIMEOUT,
        }))
    }

    fn push(&self, answer: Result<Response, HttpError>) -> &Self {
        self.answers.lock().unwrap().push_back(answer);
        self
    }

    /// The requests since this was last called; the list must be at its end.
    pub(super) fn asked(&self) -> Vec<Request> {
        assert!(self.answers.lock().unwrap().is_empty(), "answers are left");
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

fn answer(status: u16, body: &str) -> Response {
    let mut answer = Response::new(Bytes::from(body.to_owned()));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer
}

impl Http for Script {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, HttpError>> {
        self.asked.lock().unwrap().push(request);
        let answer = self.answers.lock().unwrap().pop_front();
        Box::pin(async move { answer.expect("the script has an answer") })
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub(super) struct HandClock(Mutex<DateTime<Utc>>);

impl HandClock {
    /// It shows the time of [`now`].
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(now())))
    }

    /// Moves it.
    pub(super) fn advance(&self, seconds: i64) {
        *self.0.lock().unwrap() += TimeDelta::seconds(seconds);
    }
}

impl Clock for HandClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap()
    }
}

/// The time in a [`world`].
pub(super) fn now() -> DateTime<Utc> {
    "2026-01-02T03:04:05Z".parse().unwrap()
}

/// A world with these variables, no network and a stopped clock. Tests put what they need in the
/// place of its parts: a [`Script`], a [`HandClock`].
pub(super) fn world(variables: &[(&str, &str)]) -> World {
    World {
        clock: HandClock::new(),
        files: Arc::new(SystemFiles),
        processes: Arc::new(SystemProcesses),
        ..World::sealed(FixedEnv::of(variables.iter().copied()))
    }
}

/// What the direct cause of an error says.
pub(super) fn cause(error: &dyn Error) -> String {
    error.source().map(ToString::to_string).unwrap_or_default()
}

/// Programs that all end alike, and what was run.
#[derive(Debug)]
pub(super) struct Printing {
    finished: Finished,
    ran: Mutex<Vec<Command>>,
}

impl Printing {
    /// Each program ends with this code and has printed this.
    pub(super) fn new(code: Option<i32>, stdout: &str) -> Self {
        Self {
            finished: Finished {
                code,
                stdout: stdout.as_bytes().to_vec().into(),
            },
            ran: Mutex::default(),
        }
    }

    /// What was run so far, in order.
    pub(super) fn ran(&self) -> Vec<Command> {
        self.ran.lock().unwrap().clone()
    }
}

impl Processes for Printing {
    fn run(&self, command: Command) -> BoxFuture<'_, Result<Finished, ProcessError>> {
        self.ran.lock().unwrap().push(command);
        Box::pin(std::future::ready(Ok(self.finished.clone())))
    }
}
