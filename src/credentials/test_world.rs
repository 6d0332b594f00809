//! A world without an outside, for the unit tests of this room.

use std::error::Error;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};

use crate::world::{
    BoxFuture, Clock, Command, Finished, FixedEnv, Http, HttpError, ProcessError, Processes,
    Request, Response, SystemFiles, SystemProcesses, SystemRandom, World,
};

#[derive(Debug)]
struct Unplugged;

impl Http for Unplugged {
    fn send(&self, _: Request) -> BoxFuture<'_, Result<Response, HttpError>> {
        Box::pin(std::future::ready(Err(HttpError::Connect {
            host: "nowhere".to_owned(),
            cause: "unplugged".to_owned(),
        })))
    }
}

#[derive(Debug)]
struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> DateTime<Utc> {
        "2026-01-02T03:04:05Z".parse().unwrap()
    }
}

/// A world with these variables, no network and a stopped clock.
pub(super) fn world(variables: &[(&str, &str)]) -> World {
    World {
        clock: Arc::new(Stopped),
        env: Arc::new(FixedEnv::of(variables.iter().copied())),
        files: Arc::new(SystemFiles),
        random: Arc::new(SystemRandom),
        http: Arc::new(Unplugged),
        direct: Arc::new(Unplugged),
        processes: Arc::new(SystemProcesses),
        metadata: Arc::new(Unplugged),
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
