//! A service that gives credentials over HTTP: one question, one answer. Retrying is the
//! provider's decision.

use std::sync::Arc;

use http::header::{HeaderValue, InvalidHeaderValue};
use zeroize::Zeroizing;

use super::answer::Answer;
use crate::credentials::exchange::ExchangeError;
use crate::secret::SecretText;
use crate::world::{Clock, Http, Request, sender_is_ahead};

/// A service and the way to it.
#[derive(Debug, Clone)]
pub(super) struct Service {
    /// Scheme, host and port, for errors.
    pub(super) origin: String,
    /// What to do when it refuses for good.
    pub(super) remedy: &'static str,
    pub(super) http: Arc<dyn Http>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Service {
    /// Asks, and takes no other answer than HTTP 200.
    pub(super) async fn ask(&self, request: Request) -> Result<Answer<'_>, ExchangeError> {
        let response = self.http.send(request).await?;
        let now = self.clock.now();
        let ahead = sender_is_ahead(&response, now);
        Answer::of(self, response, now, ahead)
    }
}

/// The value of `Authorization` that shows a login.
pub(super) fn bearer(token: &SecretText) -> Result<HeaderValue, InvalidHeaderValue> {
    let text = Zeroizing::new(format!("Bearer {}", token.expose()));
    let mut value = HeaderValue::from_str(&text)?;
    // So that no HTTP library shows it, or keeps it for the compression of further headers.
    value.set_sensitive(true);
    Ok(value)
}
