//! Sends one request and reads its answer. Retrying is the caller's decision.

use std::sync::Arc;

use super::error::Error;
use super::request::{AssumeRoleWithOidc, Endpoint};
use super::response::{Issued, parse};
use crate::world::{Clock, Http};

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
        let http_request = request.to_http(endpoint, self.clock.now())?;
        let answer = self.http.send(http_request).await?;
        parse(
            &endpoint.to_string(),
            answer.status(),
            answer.body(),
            self.clock.now(),
        )
    }
}
