//! What the official SDKs are held to by their own tests, as data: each vector is a case of
//! `tests/data/vectors`, is proved by a test that stands elsewhere, or does not apply here and
//! says why. `docs/vectors.md` is the table of all of them.
//!
//! ```text
//! case      what stands in a case.json
//! settings  the settings of a case, and the provider they make
//! scripted  a world that answers from a script and notes what is wrong with a question
//! request   whether a request is the expected one
//! source    runs the cases of sections 6.2 to 6.9
//! signing   runs the cases of section 6.1
//! proxy     RAM-22, which needs a real connection
//! coverage  each vector has its place; the table
//! ```
//!
//! Adding a case is adding a folder `tests/data/vectors/<section>/<id>[-<variant>]` with a
//! `case.json`, and, if the case needs files, a folder `files` that stands for `/`.

#![expect(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests read real files, and fail where they are not as expected"
)]

#[path = "vectors/case.rs"]
mod case;
#[path = "vectors/coverage.rs"]
mod coverage;
#[path = "vectors/proxy.rs"]
mod proxy;
#[path = "vectors/request.rs"]
mod request;
#[path = "vectors/scripted.rs"]
mod scripted;
#[path = "vectors/settings.rs"]
mod settings;
#[path = "vectors/signing.rs"]
mod signing;
#[path = "vectors/source.rs"]
mod source;
