//! The only door to the outside: clock, environment, files and network come in through values of
//! this room, so that everything else can be tested without them. `clippy.toml` forbids the
//! ambient calls elsewhere.

mod clock;
mod env;
mod files;
mod http;
mod process;
mod random;
mod sealed;
mod server_time;

use std::sync::Arc;

pub use clock::{Clock, SystemClock, Tick, runtime_now};
pub use env::{Env, FixedEnv, NotUnicode, SystemEnv};
pub use files::{Files, SystemFiles};
pub use http::{
    CONNECT_TIMEOUT, EXCHANGE_TIMEOUT, Http, HttpClient, HttpError, HttpOptions, MAX_BODY,
    MAX_METADATA_BODY, METADATA_TIMEOUT, Request, Response, Route,
};
pub use process::{Command, Finished, ProcessError, Processes, SystemProcesses};
pub use random::{NoRandomness, Random, SystemRandom};
pub use server_time::sender_is_ahead;

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
    /// The way to a credentials URI over plain HTTP ([`Route::Direct`]).
    pub direct: Arc<dyn Http>,
    /// The way to the metadata service ([`Route::Direct`], with its short bounds).
    pub metadata: Arc<dyn Http>,
    /// Other programs.
    pub processes: Arc<dyn Processes>,
}

impl World {
    /// A world in which nothing outside is there but these variables and the system's clock and
    /// randomness: no file, no program, no network. Tests replace the one door that they need.
    ///
    /// ```
    /// use rrsa::credentials::{CredentialsError, DefaultChain, Provider};
    /// use rrsa::world::{FixedEnv, World};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let world = World::sealed(FixedEnv::of([
    ///     ("ALIBABA_CLOUD_ACCESS_KEY_ID", "akid"),
    ///     ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "aksecret"),
    /// ]));
    /// let credentials = DefaultChain::new(&world).credentials().await.unwrap();
    /// assert_eq!(credentials.provider_name(), "default/env");
    ///
    /// let nothing = World::sealed(FixedEnv::default());
    /// let error = DefaultChain::new(&nothing).credentials().await.unwrap_err();
    /// assert!(matches!(error, CredentialsError::NoSource { .. }));
    /// # }
    /// ```
    #[must_use]
    pub fn sealed(env: FixedEnv) -> Self {
        Self {
            clock: Arc::new(SystemClock),
            env: Arc::new(env),
            files: Arc::new(sealed::NoFiles),
            random: Arc::new(SystemRandom),
            http: Arc::new(sealed::NoNetwork),
            direct: Arc::new(sealed::NoNetwork),
            metadata: Arc::new(sealed::NoNetwork),
            processes: Arc::new(sealed::NoPrograms),
        }
    }

    /// The machine as it is, with the usual bounds.
    ///
    /// # Errors
    /// [`HttpError::Setup`] when no HTTP client can be made.
    pub fn system() -> Result<Self, HttpError> {
        Self::system_with(&HttpOptions::default())
    }

    /// The machine as it is; cloud services are asked with these options. A credentials URI over
    /// plain HTTP has the same time-outs, but no proxy; the metadata service keeps its own.
    ///
    /// # Errors
    /// [`HttpError::Setup`] when no HTTP client can be made of the options.
    pub fn system_with(options: &HttpOptions) -> Result<Self, HttpError> {
        let direct = HttpOptions {
            route: Route::Direct,
            ..options.clone()
        };
        Ok(Self {
            clock: Arc::new(SystemClock),
            env: Arc::new(SystemEnv),
            files: Arc::new(SystemFiles),
            random: Arc::new(SystemRandom),
            http: Arc::new(HttpClient::new(options)?),
            direct: Arc::new(HttpClient::new(&direct)?),
            processes: Arc::new(SystemProcesses),
            metadata: Arc::new(HttpClient::new(&HttpOptions::metadata())?),
        })
    }
}
