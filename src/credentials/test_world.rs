//! A world without an outside, for the unit tests of this room.

use std::error::Error;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::world::{
    BoxFuture, Clock, FixedEnv, Http, HttpError, Request, Response, SystemFiles, SystemProcesses,
    SystemRandom, World,
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
