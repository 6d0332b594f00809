//! Sends one request and reads its answer. Retrying is the caller's decision.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};

use super::assume_role::{AssumeRole, Nonce};
use super::assume_role_with_oidc::AssumeRoleWithOidc;
use super::endpoint::Endpoint;
use super::error::Error;
use super::response::{Issued, Sent, parse};
use crate::secret::SecretText;
use crate::world::{Clock, Http, Request, sender_is_ahead};

/// An STS client. Where this machine's clock is wrong, it takes the time from the answers: the
/// request after a refused one is stamped with the service's time, and expiry is judged by it.
#[derive(Debug, Clone)]
pub struct Client {
    http: Arc<dyn Http>,
    clock: Arc<dyn Clock>,
    /// Milliseconds by which the service's clock is ahead, as its last answer told. Clones share
    /// it; one word without company, so no ordering is needed.
    ahead: Arc<AtomicI64>,
}

impl Client {
    /// A client that sends through `http`.
    #[must_use]
    pub fn new(http: Arc<dyn Http>, clock: Arc<dyn Clock>) -> Self {
        Self {
            http,
            clock,
            ahead: Arc::default(),
        }
    }

    /// The service's time, as well as it is known.
    fn now(&self) -> DateTime<Utc> {
        self.clock.now() + TimeDelta::milliseconds(self.ahead.load(Ordering::Relaxed))
    }

    /// Exchanges a token.
    ///
    /// # Errors
    /// See [`Error`]; it names the cause and holds no secret.
    pub async fn assume_role_with_oidc(
        &self,
        endpoint: &Endpoint,
        request: &AssumeRoleWithOidc,
    ) -> Result<Issued, Error> {
        let http = request.to_http(endpoint, self.now())?;
        self.exchange(endpoint, http, Some(&request.token)).await
    }

    /// Assumes a role. The nonce is used up, also when the exchange fails.
    ///
    /// # Errors
    /// See [`Error`]; it names the cause and holds no secret.
    pub async fn assume_role(
        &self,
        endpoint: &Endpoint,
        request: &AssumeRole,
        nonce: Nonce,
    ) -> Result<Issued, Error> {
        let http = request.to_http(endpoint, self.now(), &nonce)?;
        let token = request.caller.security_token.as_ref();
        self.exchange(endpoint, http, token).await
    }

    async fn exchange(
        &self,
        endpoint: &Endpoint,
        request: Request,
        secret: Option<&SecretText>,
    ) -> Result<Issued, Error> {
        let answer = self.http.send(request).await?;
        let now = self.clock.now();
        let ahead = sender_is_ahead(&answer, now);
        let sent = Sent {
            host: &endpoint.to_string(),
            secret,
        };
        let issued = parse(&sent, answer.status(), answer.body(), now + ahead);
        // A gateway in between has a clock of its own, and no say about the time at STS.
        if !matches!(issued, Err(Error::Malformed { .. })) {
            self.ahead
                .store(ahead.num_milliseconds(), Ordering::Relaxed);
        }
        Ok(Issued {
            issuer_is_ahead: ahead,
            ..issued?
        })
    }
}
