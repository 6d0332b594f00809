//! A world without an outside: every door is shut.

use std::io;
use std::path::Path;

use super::{
    BoxFuture, Command, Files, Finished, Http, HttpError, ProcessError, Processes, Request,
    Response,
};

/// Nobody is there.
#[derive(Debug, Clone, Copy)]
pub(super) struct NoNetwork;

impl Http for NoNetwork {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, HttpError>> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        Box::pin(std::future::ready(Err(HttpError::Connect {
            host,
            cause: "this world is sealed".to_owned(),
        })))
    }
}

/// No file exists.
#[derive(Debug, Clone, Copy)]
pub(super) struct NoFiles;

impl Files for NoFiles {
    fn read(&self, _: &Path, _: usize) -> io::Result<Vec<u8>> {
        Err(io::Error::from(io::ErrorKind::NotFound))
    }
}

/// No program can be started.
#[derive(Debug, Clone, Copy)]
pub(super) struct NoPrograms;

impl Processes for NoPrograms {
    fn run(&self, command: Command) -> BoxFuture<'_, Result<Finished, ProcessError>> {
        Box::pin(std::future::ready(Err(ProcessError::Start {
            program: command.program(),
            source: io::Error::from(io::ErrorKind::NotFound),
        })))
    }
}
