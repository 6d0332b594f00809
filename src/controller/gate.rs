//! The one gate through which every STS call of the controller passes, in order of arrival and at
//! the pace of the `Budget`.
//!
//! Whoever starts an exchange takes a [`Permit`] first, so that the choice of *which* exchange is
//! made when there is a call to make it with. The exchange makes its first call with that permit;
//! further ones (the steps of a chain) queue up for their own.
//!
//! Between permit and call a token is fetched. Where that falters, many calls would leave at once; so
//! they line up once more, and leave at the same pace.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::warn;

use super::budget::Budget;
use crate::api::configuration::CallsPerSecond;
use crate::sts::{self, AssumeRole, AssumeRoleWithOidc, Endpoint, Issued, Nonce, RefusalKind};
use crate::world::runtime_now;

/// The gate; clones are the same gate.
#[derive(Debug, Clone)]
pub struct StsGate {
    sts: sts::Client,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    opened: tokio::time::Instant,
    budget: Mutex<Budget>,
    /// Waiters for a permit stand in line here; only the first watches the budget.
    line: tokio::sync::Mutex<()>,
    /// The same for calls that are to leave.
    door: tokio::sync::Mutex<()>,
}

impl Shared {
    fn now(&self) -> Duration {
        runtime_now().saturating_duration_since(self.opened)
    }

    fn budget(&self) -> MutexGuard<'_, Budget> {
        // Every change of the budget is complete in itself.
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stands in that line until the budget gives what is asked of it.
    async fn queue_up(
        &self,
        line: &tokio::sync::Mutex<()>,
        ask: fn(&mut Budget, Duration) -> Result<(), Duration>,
    ) {
        let _first = line.lock().await;
        loop {
            let now = self.now();
            let given = ask(&mut self.budget(), now);
            match given {
                Ok(()) => return,
                Err(wait) => tokio::time::sleep(wait).await,
            }
        }
    }
}

/// The right to one call. Dropped unused, it goes back into the budget.
#[derive(Debug)]
pub struct Permit {
    gate: Arc<Shared>,
    used: bool,
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.used {
            let now = self.gate.now();
            self.gate.budget().give_back(now);
        }
    }
}

impl StsGate {
    /// A gate before `sts`.
    #[must_use]
    pub fn new(sts: sts::Client, pace: CallsPerSecond) -> Self {
        Self {
            sts,
            shared: Arc::new(Shared {
                opened: runtime_now(),
                budget: Mutex::new(Budget::new(pace, Duration::ZERO)),
                line: tokio::sync::Mutex::default(),
                door: tokio::sync::Mutex::default(),
            }),
        }
    }

    /// Another pace was configured.
    pub fn configure(&self, pace: CallsPerSecond) {
        let now = self.shared.now();
        self.shared.budget().configure(pace, now);
    }

    /// Calls a second at present; below the configured ones while STS throttles.
    #[must_use]
    pub fn pace(&self) -> f64 {
        let now = self.shared.now();
        self.shared.budget().pace(now)
    }

    /// Waits until one call may be made.
    pub async fn permit(&self) -> Permit {
        let shared = &self.shared;
        shared.queue_up(&shared.line, Budget::take).await;
        Permit {
            gate: shared.clone(),
            used: false,
        }
    }

    /// The calls of one exchange, the first of them with `permit`.
    #[must_use]
    pub fn turn(&self, permit: Permit) -> Turn {
        Turn {
            gate: self.clone(),
            permit: Some(permit),
        }
    }

    async fn pass<F>(&self, mut permit: Permit, call: F) -> Result<Issued, sts::Error>
    where
        F: Future<Output = Result<Issued, sts::Error>>,
    {
        let shared = &self.shared;
        shared.queue_up(&shared.door, Budget::leave).await;
        let sent = self.shared.now();
        // Before the call: one that is cancelled may have reached STS.
        permit.used = true;
        let outcome = call.await;
        match &outcome {
            // It was not sent.
            Err(sts::Error::InvalidRequest(_)) => {
                permit.used = false;
                self.shared.budget().stay(sent);
            }
            Err(sts::Error::Refused(refusal)) if refusal.kind() == RefusalKind::Throttled => {
                let now = self.shared.now();
                let mut budget = self.shared.budget();
                if budget.throttled(sent, now) {
                    let pace = budget.pace(now);
                    warn!(
                        code = refusal.code,
                        request_id = refusal.request_id,
                        "STS throttles this account; going on with {pace:.1} calls a second"
                    );
                }
            }
            _ => {}
        }
        outcome
    }
}

/// The STS calls of one exchange.
#[derive(Debug)]
pub struct Turn {
    gate: StsGate,
    permit: Option<Permit>,
}

impl Turn {
    async fn permit(&mut self) -> Permit {
        match self.permit.take() {
            Some(permit) => permit,
            None => self.gate.permit().await,
        }
    }

    /// Exchanges a token, when it is this call's turn.
    ///
    /// # Errors
    /// Those of [`sts::Client::assume_role_with_oidc`].
    pub async fn assume_role_with_oidc(
        &mut self,
        endpoint: &Endpoint,
        request: &AssumeRoleWithOidc,
    ) -> Result<Issued, sts::Error> {
        let permit = self.permit().await;
        let call = self.gate.sts.assume_role_with_oidc(endpoint, request);
        self.gate.pass(permit, call).await
    }

    /// Assumes a role, when it is this call's turn.
    ///
    /// # Errors
    /// Those of [`sts::Client::assume_role`].
    pub async fn assume_role(
        &mut self,
        endpoint: &Endpoint,
        request: &AssumeRole,
        nonce: Nonce,
    ) -> Result<Issued, sts::Error> {
        let permit = self.permit().await;
        let call = self.gate.sts.assume_role(endpoint, request, nonce);
        self.gate.pass(permit, call).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{BoxFuture, Http, HttpError, Request, Response, SystemClock};
    use bytes::Bytes;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// An STS that throttles every call.
    #[derive(Debug, Default)]
    struct Throttling(AtomicUsize);

    impl Http for Throttling {
        fn send(&self, _: Request) -> BoxFuture<'_, Result<Response, HttpError>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            let body = r#"{"Code": "Throttling.User", "Message": "no", "RequestId": "R"}"#;
            let mut answer = Response::new(Bytes::from_static(body.as_bytes()));
            *answer.status_mut() = http::StatusCode::BAD_REQUEST;
            Box::pin(async { Ok(answer) })
        }
    }

    fn gate(rate: u32) -> (Arc<Throttling>, StsGate) {
        let http = Arc::new(Throttling::default());
        let sts = sts::Client::new(http.clone(), Arc::new(SystemClock));
        (http, StsGate::new(sts, rate.try_into().unwrap()))
    }

    fn request() -> AssumeRoleWithOidc {
        AssumeRoleWithOidc {
            provider_arn: "acs:ram::1:oidc-provider/p".parse().unwrap(),
            role_arn: "acs:ram::1:role/app".parse().unwrap(),
            token: "a.b.c".into(),
            session_name: "session".to_owned(),
            duration: Duration::from_hours(1),
            policy: None,
        }
    }

    #[tokio::test]
    async fn calls_keep_the_pace_and_arrive_in_order() {
        let (_, gate) = gate(100);
        let order = Arc::new(Mutex::new(Vec::new()));
        let start = runtime_now();
        let tasks: Vec<_> = (0..20)
            .map(|number| {
                let (gate, order) = (gate.clone(), order.clone());
                tokio::spawn(async move {
                    gate.permit().await.used = true;
                    order.lock().unwrap().push(number);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), (0..20).collect::<Vec<_>>());
        let took = runtime_now() - start;
        assert!(took >= Duration::from_millis(180), "{took:?}");
    }

    #[tokio::test]
    async fn throttled_calls_do_not_become_a_storm() {
        let (http, gate) = gate(1000);
        let endpoint = "sts.aliyuncs.com".parse().unwrap();
        let callers: Vec<_> = (0..8)
            .map(|_| {
                let (gate, endpoint) = (gate.clone(), Endpoint::clone(&endpoint));
                tokio::spawn(async move {
                    loop {
                        let mut turn = gate.turn(gate.permit().await);
                        let error = turn.assume_role_with_oidc(&endpoint, &request()).await;
                        assert!(matches!(error, Err(sts::Error::Refused(_))));
                    }
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_secs(2)).await;
        for caller in callers {
            caller.abort();
        }
        // All eight before the first answer at most, then one after each pause, instead of 2000.
        let sent = http.0.load(Ordering::Relaxed);
        assert!((1..=12).contains(&sent), "{sent}");
    }

    #[tokio::test]
    async fn what_is_not_sent_costs_nothing() {
        let (http, gate) = gate(1);
        let endpoint = "sts.aliyuncs.com".parse().unwrap();
        let start = runtime_now();
        for _ in 0..20 {
            drop(gate.permit().await);
            let mut turn = gate.turn(gate.permit().await);
            let illegal = AssumeRoleWithOidc {
                session_name: String::new(),
                ..request()
            };
            let outcome = turn.assume_role_with_oidc(&endpoint, &illegal).await;
            assert!(matches!(outcome, Err(sts::Error::InvalidRequest(_))));
        }
        assert_eq!(http.0.load(Ordering::Relaxed), 0);
        // Forty calls that were made would have taken forty seconds.
        assert!(runtime_now() - start < Duration::from_secs(20));
    }
}
