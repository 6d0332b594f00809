//! Sends one request and reads its answer. Retrying is the caller's decision.

use std::sync::Arc;

use super::assume_role::{AssumeRole, Nonce};
use super::assume_role_with_oidc::AssumeRoleWithOidc;
use super::endpoint::Endpoint;
use super::error::Error;
use super::response::{Issued, Sent, parse};
use crate::secret::SecretText;
use crate::world::{Clock, Http, Request};

/// An STS client.
#[derive(Debug, Clone)]
pub struct Client {
    http: Arc<dyn Http>,
    clock: Arc<dyn Clock>,
}

impl Client {
    /// A client that sends through `http`.
    #[must_use]
    pub fn new(http: Arc<dyn Http>, clock: Arc<dyn Clock>) -> Self {
        Self { http, clock }
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
        let http = request.to_http(endpoint, self.clock.now())?;
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
        let http = request.to_http(endpoint, self.clock.now(), &nonce)?;
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
        let sent = Sent {
            host: &endpoint.to_string(),
            secret,
        };
        parse(&sent, answer.status(), answer.body(), self.clock.now())
    }
}
