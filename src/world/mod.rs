//! The only door to the outside: clock, environment, files and network come in through values of
//! this room, so that everything else can be tested without them. `clippy.toml` forbids the
//! ambient calls elsewhere.

mod clock;
mod files;
mod http;

pub use clock::{Clock, SystemClock};
pub use files::{Files, SystemFiles};
pub use http::{
    CONNECT_TIMEOUT, EXCHANGE_TIMEOUT, Http, HttpClient, HttpError, HttpOptions, MAX_BODY, Request,
    Response,
};

/// A boxed future, as object-safe async traits return it.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;
