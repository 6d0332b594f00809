//! The client for programs without a runtime.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use tokio::runtime::{self, Handle};
use tokio::sync::oneshot;

use super::Current;
use crate::credentials::config::Config;
use crate::credentials::error::CredentialsError;

/// [`credentials::Client`](super::Client) for callers that block. Exchanges run on one thread of
/// its own, which ends with the last clone, so it may be used anywhere, also inside a runtime.
///
/// ```no_run
/// use rrsa::credentials::blocking;
///
/// # fn example() -> Result<(), rrsa::credentials::CredentialsError> {
/// let client = blocking::Client::from_env()?;
/// let credentials = client.credentials()?;
/// println!("{}", credentials.access_key_id());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    client: super::Client,
    worker: Arc<Worker>,
}

#[derive(Debug, thiserror::Error)]
enum WorkerError {
    #[error("the thread for exchanges cannot be started")]
    Start(#[source] std::io::Error),
    #[error("the exchange was broken off")]
    BrokenOff,
}

impl Client {
    /// Gives out what this client keeps.
    ///
    /// # Errors
    /// [`CredentialsError::Unavailable`] when the system gives no thread.
    pub fn new(client: super::Client) -> Result<Self, CredentialsError> {
        let worker = Worker::start().map_err(|error| unavailable(WorkerError::Start(error)))?;
        Ok(Self {
            client,
            worker: Arc::new(worker),
        })
    }

    /// The [default chain](crate::credentials::DefaultChain) on this machine.
    ///
    /// # Errors
    /// See [`super::Client::from_env`] and [`Client::new`].
    pub fn from_env() -> Result<Self, CredentialsError> {
        Self::new(super::Client::from_env()?)
    }

    /// What this configuration names, on this machine.
    ///
    /// # Errors
    /// See [`super::Client::from_config`] and [`Client::new`].
    pub fn from_config(config: Config) -> Result<Self, CredentialsError> {
        Self::new(super::Client::from_config(config)?)
    }

    /// Credentials that are valid now; blocks only where there are none.
    ///
    /// # Errors
    /// See [`CredentialsError`].
    pub fn credentials(&self) -> Result<Current, CredentialsError> {
        if let Some(entry) = self.client.shared.fresh() {
            return Ok(Current(entry));
        }
        let (answer, answered) = mpsc::sync_channel(1);
        let client = self.client.clone();
        self.worker.handle.spawn(async move {
            // Nobody may be waiting any more.
            let _ = answer.send(client.credentials().await);
        });
        answered
            .recv()
            .unwrap_or_else(|_| Err(unavailable(WorkerError::BrokenOff)))
    }
}

fn unavailable(error: WorkerError) -> CredentialsError {
    CredentialsError::unavailable("blocking", error)
}

/// A thread that drives a runtime until it is dropped.
#[derive(Debug)]
struct Worker {
    handle: Handle,
    /// Dropping it ends the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    fn start() -> std::io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::Builder::new()
            .name("rrsa-credentials".to_owned())
            .spawn(move || {
                // The sender sends nothing: it goes.
                let _ = runtime.block_on(stopped);
                // A look-up of a name cannot be broken off, and nobody waits for it.
                runtime.shutdown_background();
            })?;
        Ok(Self {
            handle,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It panics only where a provider did, and that was told there.
            let _ = thread.join();
        }
    }
}
