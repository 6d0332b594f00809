//! One pass over one binding: observe, decide, act, report. The only place where the parts meet.

use std::time::Duration;

use chrono::{DateTime, Utc};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, ResourceExt};
use tracing::{Instrument, debug, info, info_span};

use super::api::{api_problem, within};
use super::context::Context;
use super::exchange::{Obtained, service_account_missing};
use super::failing::remember_failure;
use super::gate::Turn;
use super::plan::{Cause, Decision, Observed, decide};
use super::queue::{ExchangeKey, Urgency, Waiting};
use super::reason::{Problem, Reason};
use super::refresh;
use super::renewal::Renewal;
use super::secrets::SecretFacts;
use super::status::{View, compose, is_ready, tells_of_exchange};
use super::wanted::{TokenFrom, Wanted, resolve};
use crate::api::v1alpha1::AlibabaRoleBinding;
use crate::contract::annotations;
use crate::sts::Issued;
use crate::world::Clock;

/// A binding is looked at again at least this often: timers stand still while a machine sleeps,
/// expiry does not.
const LOOK_AGAIN: Duration = Duration::from_mins(5);
/// When a status that could not be written is tried again.
const REPORT_AGAIN: Duration = Duration::from_secs(10);
/// How often one pass looks at a Secret that it has to compare or to give another owner first.
const LOOKS: usize = 4;
/// The shortest wait between two looks.
const SHORTEST: Duration = Duration::from_millis(50);

/// What a pass came to.
struct Outcome {
    wanted: Option<Wanted>,
    /// Whether the Secret was made from what the spec asks for now.
    current: bool,
    /// The binding's own Secret.
    secret: Option<SecretFacts>,
    /// When to look again.
    next: Option<DateTime<Utc>>,
    issued: Option<Issued>,
    /// An exchange is needed and waits for its turn.
    waiting: Option<Waiting>,
}

/// What an exchange came to, for all who ask for the same.
pub(super) struct Answer {
    pub(super) key: ExchangeKey,
    pub(super) outcome: Result<Obtained, Problem>,
}

/// Why an exchange may be made now. Without one it waits for its turn.
pub(super) enum Licence<'a> {
    /// It is its turn. The answer is left for those who ask for the same.
    Turn(&'a mut Turn, &'a mut Option<Answer>),
    /// Somebody who asked for the same has the answer.
    Shared(&'a Answer),
}

/// Looks at one binding and does what is needed, but for an exchange: that waits for its turn.
/// Returns how long to wait until the next look; `None`: until something changes. Failures end in the
/// status and set the time of the next attempt.
pub async fn reconcile(binding: &AlibabaRoleBinding, context: &Context) -> Option<Duration> {
    // While it is being exchanged there is nothing to look at; that ends with another look.
    let look = context.exchanges.look(binding)?;
    let (next, waiting) = pass(binding, context, None).await;
    look.end(waiting);
    next
}

/// Looks at a binding whose turn it is, and exchanges if that is still needed.
pub(super) async fn exchange_now(
    binding: &AlibabaRoleBinding,
    context: &Context,
    licence: Licence<'_>,
) {
    pass(binding, context, Some(licence)).await;
}

async fn pass(
    binding: &AlibabaRoleBinding,
    context: &Context,
    licence: Option<Licence<'_>>,
) -> (Option<Duration>, Option<Waiting>) {
    let span = info_span!(
        "binding",
        namespace = binding.namespace().unwrap_or_default(),
        // Not `name`: in JSON that is the span's own.
        binding = binding.name_any()
    );
    let Some(uid) = binding.metadata.uid.as_deref() else {
        return (None, None);
    };
    if binding.metadata.deletion_timestamp.is_some() {
        return (None, None);
    }
    look_and_report(binding, uid, context, licence)
        .instrument(span)
        .await
}

async fn look_and_report(
    binding: &AlibabaRoleBinding,
    uid: &str,
    context: &Context,
    licence: Option<Licence<'_>>,
) -> (Option<Duration>, Option<Waiting>) {
    let Some(outcome) = settle(binding, uid, context, licence).await else {
        // The change that made the result void has woken the binding already.
        return (Some(LOOK_AGAIN), None);
    };
    let memory = context.remembered(uid);
    let now = context.clock.now();
    let shown = context.reporter.shown(binding);
    let status = compose(&View {
        now,
        binding,
        shown: shown.as_ref(),
        wanted: outcome.wanted.as_ref(),
        secret: outcome.secret.as_ref(),
        current: outcome.current,
        failing: memory.failing.as_deref(),
        next: outcome.next,
        pods: context.pods(binding).as_ref(),
        issued: outcome.issued.as_ref().map(|i| {
            (
                i.assumed_role_arn.as_str(),
                i.credentials.access_key_id.as_str(),
            )
        }),
    });
    // What waits for its turn is told by the outcome; but credentials that ended meanwhile must
    // not be called ready until then.
    let tell =
        outcome.waiting.is_none() || (shown.as_ref().is_some_and(is_ready) && !is_ready(&status));
    if tell {
        let failing = memory.failing.as_deref();
        let reporter = &context.reporter;
        let reported = reporter
            .report(binding, shown.as_ref(), &status, failing, now)
            .await;
        if !reported {
            return (Some(REPORT_AGAIN), outcome.waiting);
        }
    }
    // Expiry is a transition too: the status must say so when it comes.
    let expiry = outcome
        .secret
        .as_ref()
        .and_then(|s| s.expiration)
        .filter(|e| *e > now);
    let next = outcome.next.filter(|_| outcome.waiting.is_none());
    let wait = [next, expiry]
        .into_iter()
        .flatten()
        .min()
        .map_or(LOOK_AGAIN, |at| (at - now).to_std().unwrap_or_default());
    (Some(wait.clamp(SHORTEST, LOOK_AGAIN)), outcome.waiting)
}

/// Brings the Secret where it should be, and remembers a failure. `None`: the binding changed or
/// went meanwhile, and there is nothing to say about it.
async fn settle(
    binding: &AlibabaRoleBinding,
    uid: &str,
    context: &Context,
    licence: Option<Licence<'_>>,
) -> Option<Outcome> {
    let own_secret = |name: &str| context.own_secret(binding, uid, name);
    if binding.spec.suspend {
        context.remember(uid, |memory| memory.failing = None);
        let wanted = resolve(binding, &context.exchanger.configuration.configuration()).ok();
        let secret = wanted
            .as_ref()
            .and_then(|wanted| own_secret(&wanted.secret_name));
        return Some(Outcome {
            wanted,
            current: false,
            secret,
            next: None,
            issued: None,
            waiting: None,
        });
    }
    let wanted = match resolve(binding, &context.exchanger.configuration.configuration()) {
        Ok(wanted) => wanted,
        Err(problem) => {
            let secret = binding
                .status
                .as_ref()
                .and_then(|status| status.secret_name.as_deref())
                .and_then(own_secret);
            // Only a new spec or configuration can mend this: looking again is no new attempt.
            let known = context.remembered(uid).failing;
            if known.is_none_or(|known| known.problem != problem) {
                let expiration = secret.as_ref().and_then(|secret| secret.expiration);
                remember_failure(context, binding, problem, &generation(binding), expiration);
            }
            return Some(Outcome {
                wanted: None,
                current: false,
                secret,
                next: None,
                issued: None,
                waiting: None,
            });
        }
    };
    let result = act(binding, uid, &wanted, context, licence).await;
    let secret = own_secret(&wanted.secret_name);
    let settled = match result {
        Ok(Acted::Dropped) => return None,
        Ok(Acted::Settled(settled)) => settled,
        Err(Failed { hash, problem }) => {
            let attempt = hash
                .as_deref()
                .map_or_else(|| generation(binding), |hash| wanted.attempt(hash));
            let expiration = secret.as_ref().and_then(|secret| secret.expiration);
            Settled {
                next: remember_failure(context, binding, problem, &attempt, expiration),
                hash,
                intact: true,
                issued: None,
                waiting: None,
            }
        }
    };
    let current = settled.intact
        && secret
            .as_ref()
            .is_some_and(|s| s.inputs_hash.is_some() && s.inputs_hash == settled.hash);
    Some(Outcome {
        wanted: Some(wanted),
        current,
        secret,
        next: Some(settled.next),
        issued: settled.issued,
        waiting: settled.waiting,
    })
}

fn generation(binding: &AlibabaRoleBinding) -> String {
    format!(
        "generation {}",
        binding.metadata.generation.unwrap_or_default()
    )
}

/// A failure, with the hash of the inputs where it was known already.
struct Failed {
    hash: Option<String>,
    problem: Problem,
}

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Self {
        Self {
            hash: None,
            problem,
        }
    }
}

/// What acting came to.
enum Acted {
    /// The Secret is as it should be, or something will be done about it.
    Settled(Settled),
    /// The binding changed or went during the exchange.
    Dropped,
}

struct Settled {
    /// Hash of the inputs, where it is known.
    hash: Option<String>,
    /// When to look again.
    next: DateTime<Utc>,
    /// Whether nobody is known to have spoilt the Secret.
    intact: bool,
    /// What was issued just now.
    issued: Option<Issued>,
    /// An exchange is needed and waits for its turn.
    waiting: Option<Waiting>,
}

impl Settled {
    fn until(next: DateTime<Utc>, hash: String) -> Acted {
        Acted::Settled(Self {
            hash: Some(hash),
            next,
            intact: true,
            issued: None,
            waiting: None,
        })
    }

    fn issued(issued: Issued, next: DateTime<Utc>, hash: String) -> Acted {
        Acted::Settled(Self {
            hash: Some(hash),
            next,
            intact: true,
            issued: Some(issued),
            waiting: None,
        })
    }

    fn deferred(cause: Cause, until: DateTime<Utc>, hash: String) -> Acted {
        Acted::Settled(Self {
            hash: Some(hash),
            next: until,
            intact: matches!(cause, Cause::Requested | Cause::OidcWorks),
            issued: None,
            waiting: None,
        })
    }

    fn when_it_is_its_turn(
        waiting: Waiting,
        cause: Cause,
        now: DateTime<Utc>,
        hash: String,
    ) -> Acted {
        Acted::Settled(Self {
            hash: Some(hash),
            next: now,
            intact: matches!(cause, Cause::Due | Cause::Requested | Cause::OidcWorks),
            issued: None,
            waiting: Some(waiting),
        })
    }
}

/// Observes, decides and acts.
async fn act(
    binding: &AlibabaRoleBinding,
    uid: &str,
    wanted: &Wanted,
    context: &Context,
    licence: Option<Licence<'_>>,
) -> Result<Acted, Failed> {
    let account_uid = service_account_uid(wanted, context).await?;
    let hash = wanted.hash(account_uid.as_deref());
    let attempt = wanted.attempt(&hash);
    let failed = |problem| Failed {
        hash: Some(hash.clone()),
        problem,
    };
    let annotations = binding.annotations();
    let requested = annotations
        .get(annotations::REFRESH_REQUESTED_AT)
        .map(String::as_str);
    let keys = wanted.keys();
    let name = binding.name_any();
    let shown = context.reporter.shown(binding);
    let exchange = wanted.exchange_key(account_uid.as_deref());
    let renewal = Renewal {
        binding,
        uid,
        wanted,
        hash: &hash,
        exchange,
        requested,
        context,
    };
    for _ in 0..LOOKS {
        let secret = context.secrets.get(&wanted.namespace, &wanted.secret_name);
        let rival = match secret {
            None => context.rival(binding, wanted),
            Some(_) => None,
        };
        let memory = context.remembered(uid);
        let now = context.clock.now();
        let decision = decide(&Observed {
            now,
            name: &name,
            uid,
            deletion_policy: wanted.deletion_policy,
            issued_before: tells_of_exchange(shown.as_ref(), &wanted.secret_name),
            rival: rival.as_deref(),
            inputs_hash: &hash,
            attempt: &attempt,
            oidc_works: context.exchanger.oidc().works(),
            keys: keys.len(),
            refresh_requested: requested,
            secret_name: &wanted.secret_name,
            secret: secret.as_ref(),
            memory: &memory,
        });
        debug!(?decision, "decided");
        return match decision {
            Decision::Fresh { due } => {
                context.remember(uid, |memory| memory.failing = None);
                Ok(Settled::until(due, hash))
            }
            Decision::BackOff { until } => Ok(Settled::until(until, hash)),
            Decision::Defer { until, cause } => {
                context.remember(uid, |memory| memory.failing = None);
                Ok(Settled::deferred(cause, until, hash))
            }
            Decision::Conflict(problem) => Err(failed(problem)),
            Decision::Verify => {
                verify(uid, wanted, secret.as_ref(), context)
                    .await
                    .map_err(failed)?;
                continue;
            }
            Decision::ChangeOwner => {
                if let Some(secret) = &secret {
                    renewal.change_owner(secret).await.map_err(failed)?;
                }
                continue;
            }
            Decision::Exchange(cause) => exchange_or_wait(&renewal, cause, licence, now)
                .await
                .map_err(failed),
        };
    }
    Err(failed(Problem::new(
        Reason::ApiServerUnavailable,
        format!(
            "Secret {}/{} changes faster than it can be looked at",
            wanted.namespace, wanted.secret_name
        ),
    )))
}

/// Exchanges with a licence, and waits for one without.
async fn exchange_or_wait(
    renewal: &Renewal<'_>,
    cause: Cause,
    licence: Option<Licence<'_>>,
    now: DateTime<Utc>,
) -> Result<Acted, Problem> {
    let Renewal {
        uid,
        wanted,
        hash,
        exchange,
        context,
        ..
    } = renewal;
    let secret = || context.secrets.get(&wanted.namespace, &wanted.secret_name);
    let licence = licence.filter(|licence| match licence {
        Licence::Turn(..) => true,
        // It may ask for something else by now.
        Licence::Shared(answer) => answer.key == *exchange,
    });
    let Some(licence) = licence else {
        let expiration = secret().and_then(|secret| secret.expiration);
        let waiting = Waiting {
            urgency: Urgency::of(cause, expiration, now),
            calls: wanted.calls(),
            exchange: *exchange,
        };
        let hash = (*hash).to_owned();
        return Ok(Settled::when_it_is_its_turn(waiting, cause, now, hash));
    };
    let Some(issued) = renewal.run(cause, secret().as_ref(), licence).await? else {
        return Ok(Acted::Dropped);
    };
    context.remember(uid, |memory| memory.failing = None);
    // From the Secret itself, as every later look will reckon it.
    let next = secret()
        .and_then(|s| Some(refresh::due(uid, s.issued_at?, s.expiration?)))
        .unwrap_or_else(|| context.clock.now());
    Ok(Settled::issued(issued, next, (*hash).to_owned()))
}

/// The UID of the identity that is exchanged; `None` where it is the operator's.
async fn service_account_uid(
    wanted: &Wanted,
    context: &Context,
) -> Result<Option<String>, Problem> {
    let TokenFrom::ServiceAccount(name) = &wanted.token else {
        return Ok(None);
    };
    if let Some(uid) = context.service_accounts.uid(&wanted.namespace, name) {
        return Ok(Some(uid));
    }
    // The watch may lag behind a ServiceAccount that was made in the same breath as the binding.
    let api =
        Api::<ServiceAccount>::namespaced(context.exchanger.client.clone(), &wanted.namespace);
    let action = format!("read ServiceAccount {}/{name}", wanted.namespace);
    let found = within(&action, api.get_metadata_opt(name))
        .await?
        .map_err(|error| api_problem(&action, &error))?
        .and_then(|account| account.metadata.uid);
    found
        .map(Some)
        .ok_or_else(|| service_account_missing(&wanted.namespace, name))
}

/// Compares the data of a Secret that somebody else wrote to with what we wrote.
async fn verify(
    uid: &str,
    wanted: &Wanted,
    secret: Option<&SecretFacts>,
    context: &Context,
) -> Result<(), Problem> {
    let Some(secret) = secret else { return Ok(()) };
    let keys = wanted.keys();
    let found = context
        .writer(&wanted.namespace)
        .data_hash(&wanted.secret_name, &keys)
        .await?;
    match found {
        Some((hash, _)) if Some(&hash) == secret.data_hash.as_ref() => {
            let version = secret.resource_version.clone();
            context.remember(uid, |memory| memory.verified_version = Some(version));
        }
        // A count of keys that no Secret has makes the next decision an exchange.
        Some((_, version)) => {
            info!(
                "somebody else changed the data of Secret {}",
                wanted.secret_name
            );
            let edited = SecretFacts {
                own_keys: usize::MAX,
                resource_version: version,
                ..secret.clone()
            };
            context
                .secrets
                .put(&wanted.namespace, &wanted.secret_name, edited);
        }
        None => context
            .secrets
            .remove(&wanted.namespace, &wanted.secret_name, &secret.uid),
    }
    Ok(())
}
