//! The only door to the outside: clock, environment, files and network come in through values of
//! this room, so that everything else can be tested without them. `clippy.toml` forbids the
//! ambient calls elsewhere.

mod clock;
mod env;
mod files;
mod http;
mod random;

use std::sync::Arc;

pub use clock::{Clock, SystemClock};
pub use env::{Env, FixedEnv, NotUnicode, SystemEnv};
pub use files::{Files, SystemFiles};
pub use http::{
    CONNECT_TIMEOUT, EXCHANGE_TIMEOUT, Http, HttpClient, HttpError, HttpOptions, MAX_BODY,
    MAX_METADATA_BODY, METADATA_TIMEOUT, Request, Response, Route,
};
pub use random::{NoRandomness, Random, SystemRandom};

/// A boxed future, as object-safe async traits return it.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The whole outside in one value, for whoever needs most of it.
#[derive(Debug, Clone)]
pub struct World {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Variables of the process.
    pub env: Arc<dyn Env>,
    /// Files.
    pub files: Arc<dyn Files>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// The way to cloud services ([`Route::Internet`]).
    pub http: Arc<dyn Http>,
    /// The way to the metadata service ([`Route::Metadata`]).
    pub metadata: Arc<dyn Http>,
}

impl World {
    /// The machine as it is, with the usual bounds.
    ///
    /// # Errors
    /// [`HttpError::Setup`] when no HTTP client can be made.
    pub fn system() -> Result<Self, HttpError> {
        Ok(Self {
            clock: Arc::new(SystemClock),
            env: Arc::new(SystemEnv),
            files: Arc::new(SystemFiles),
            random: Arc::new(SystemRandom),
            http: Arc::new(HttpClient::new(&HttpOptions::default())?),
            metadata: Arc::new(HttpClient::new(&HttpOptions::metadata())?),
        })
    }
}
