//! One exchange and the write that follows it.

use kube::ResourceExt;
use tracing::{debug, info, warn};

use super::content;
use super::context::Context;
use super::exchange::Obtained;
use super::gate::Turn;
use super::plan::{Cause, Effect, Memory, conflict, leftovers};
use super::queue::ExchangeKey;
use super::reason::{Class, Problem, Reason};
use super::reconcile::{Answer, Licence};
use super::refresh;
use super::secrets::{SecretFacts, Tenure};
use super::wanted::Wanted;
use super::write::{Mode, Refresh, WriteError};
use crate::api::v1alpha1::AlibabaRoleBinding;
use crate::sts::Issued;
use crate::world::{Clock as _, runtime_now};

/// What a renewal works with.
pub(super) struct Renewal<'a> {
    pub(super) binding: &'a AlibabaRoleBinding,
    pub(super) uid: &'a str,
    pub(super) wanted: &'a Wanted,
    pub(super) hash: &'a str,
    pub(super) exchange: ExchangeKey,
    pub(super) requested: Option<&'a str>,
    pub(super) context: &'a Context,
}

impl Renewal<'_> {
    /// `None`: the binding changed or went meanwhile, the result was dropped.
    pub(super) async fn run(
        &self,
        cause: Cause,
        secret: Option<&SecretFacts>,
        licence: Licence<'_>,
    ) -> Result<Option<Issued>, Problem> {
        let Self {
            uid,
            wanted,
            context,
            ..
        } = self;
        let memory = context.remembered(uid);
        let was_taken = memory
            .failing
            .as_ref()
            .is_some_and(|failing| failing.problem.reason == Reason::SecretConflict);
        // Known to be taken: look first, so that waiting for the name costs STS nothing.
        if secret.is_none() && was_taken {
            self.look_again().await?;
        }
        let first_ever = matches!(cause, Cause::Missing | Cause::Inherited | Cause::Unproven)
            && memory.due.is_none()
            && self
                .binding
                .status
                .as_ref()
                .is_none_or(|s| s.last_refresh_time.is_none());
        let now = context.clock.now();
        let in_time = cause == Cause::Due && memory.due.is_none_or(|due| due <= now);
        if !in_time && !first_ever {
            context.remember(uid, |memory| memory.last_forced = Some(now));
        }
        debug!(?cause, role = %wanted.role_arn, "exchanging");
        // Who asks by hand wants to know, also where a token was sent in vain a moment ago.
        let insist = cause == Cause::Requested;
        let obtained = self.issue(licence, &memory, insist).await?;
        let content = content::render(wanted, &obtained.issued.credentials)?;
        if !context.is_unchanged(self.binding) {
            info!("the binding changed or went during the exchange; the result is dropped");
            return Ok(None);
        }
        self.write(cause, &obtained, &content).await?;
        self.delete_former_secrets().await;
        Ok(Some(obtained.issued))
    }

    /// One attempt, counted.
    async fn exchange(&self, turn: &mut Turn, insist: bool) -> Result<Obtained, Problem> {
        let Self {
            wanted, context, ..
        } = self;
        let started = context.clock.steady();
        let outcome = context.exchanger.exchange(wanted, turn, insist).await;
        let took = context.clock.steady().saturating_sub(started);
        let counted = outcome.as_ref().map(drop).map_err(|problem| problem.reason);
        context.metrics.exchanged(counted, took);
        outcome
    }

    /// Exchanges, or takes what somebody else got for the same question.
    async fn issue(
        &self,
        licence: Licence<'_>,
        memory: &Memory,
        insist: bool,
    ) -> Result<Obtained, Problem> {
        let (turn, answer) = match licence {
            Licence::Turn(turn, answer) => (turn, answer),
            Licence::Shared(answer) => return answer.outcome.clone(),
        };
        let mut outcome = self.exchange(turn, insist).await;
        // A token may be refused for what was true at the moment: a key that the issuer had just
        // begun to use, a file that was read as it was renewed. One new token tells.
        if let Err(problem) = &outcome
            && problem.reason.class() == Class::FreshToken
            && memory
                .failing
                .as_ref()
                .map(|failing| failing.problem.reason)
                != Some(problem.reason)
        {
            info!(code = problem.code, "refused; trying once with a new token");
            outcome = self.exchange(turn, insist).await;
        }
        *answer = Some(Answer {
            key: self.exchange,
            outcome: outcome.clone(),
        });
        outcome
    }

    async fn write(
        &self,
        cause: Cause,
        obtained: &Obtained,
        content: &content::Content,
    ) -> Result<(), Problem> {
        let Self {
            uid,
            wanted,
            context,
            ..
        } = self;
        // The node's own credentials come without a word of STS about its time.
        if !obtained.issued.request_id.is_empty() {
            context.clock.learn(obtained.issued.issuer_is_ahead);
        }
        let (namespace, name) = (&wanted.namespace, &wanted.secret_name);
        let writer = context.writer(namespace);
        let renewed = Refresh {
            binding: self.binding,
            wanted,
            content,
            inputs_hash: self.hash,
            issued_at: context.clock.now(),
            expiration: obtained.issued.credentials.expiration,
            fallback: obtained.fallback,
            answers: self.requested,
        };
        // Twice: what was observed may be overtaken once, by a label or a deletion. Who changes
        // the Secret faster than that is waited for like any other failure.
        for _ in 0..2 {
            let secret = context.secrets.get(namespace, name);
            let mode = match &secret {
                None => Mode::Create,
                Some(secret)
                    if cause.effect(true) == Effect::Renew
                        && secret.fallback.is_some() == obtained.fallback.is_some() =>
                {
                    Mode::Renew(secret)
                }
                Some(secret) => Mode::Replace(secret),
            };
            match writer.write(&renewed, mode).await {
                Ok(facts) => {
                    let due = refresh::due(uid, renewed.issued_at, renewed.expiration);
                    let written = facts.uid.clone();
                    context.remember(uid, |memory| {
                        memory.due = Some(due);
                        memory.written = Some(written);
                    });
                    context.secrets.put(namespace, name, facts);
                    self.tell(&renewed);
                    return Ok(());
                }
                Err(WriteError::Problem(problem)) => return Err(problem),
                Err(WriteError::Exists | WriteError::Changed) => self.look_again().await?,
            }
        }
        Err(Problem::new(
            Reason::ApiServerUnavailable,
            format!("Secret {namespace}/{name} changes faster than it can be written"),
        ))
    }

    /// Says in the log that the Secret was written.
    fn tell(&self, renewed: &Refresh<'_>) {
        let (secret, expiration) = (&self.wanted.secret_name, renewed.expiration);
        let reason = Reason::CredentialsFresh;
        match self.context.lines.pass(reason, runtime_now()) {
            Some(0) => info!(secret, %expiration, "refreshed"),
            None => debug!(secret, %expiration, "refreshed"),
            Some(unsaid) => {
                info!(secret, %expiration, "refreshed; {unsaid} more since the last line");
            }
        }
    }

    /// Lets the Secret go with the binding or outlive it, as the spec says now.
    pub(super) async fn change_owner(&self, secret: &SecretFacts) -> Result<(), Problem> {
        let Self {
            wanted, context, ..
        } = self;
        let (namespace, name) = (&wanted.namespace, &wanted.secret_name);
        let writer = context.writer(namespace);
        match writer.change_owner(self.binding, wanted, secret).await {
            Ok(facts) => {
                info!(secret = name, policy = ?wanted.deletion_policy, "changed the owner");
                context.secrets.put(namespace, name, facts);
                Ok(())
            }
            Err(WriteError::Problem(problem)) => Err(problem),
            Err(WriteError::Exists | WriteError::Changed) => self.look_again().await,
        }
    }

    /// Looks at the live Secret of the wanted name: ours (its label was lost, or the watch lags),
    /// left to us, absent, or somebody else's.
    async fn look_again(&self) -> Result<(), Problem> {
        let Self {
            wanted,
            context,
            uid,
            ..
        } = self;
        let (namespace, name) = (&wanted.namespace, &wanted.secret_name);
        let known = context.secrets.get(namespace, name);
        let live = context.writer(namespace).look(name).await?;
        match live
            .as_ref()
            .and_then(|live| SecretFacts::of(&live.metadata))
        {
            Some(facts) if facts.tenure(&self.binding.name_any(), uid) != Tenure::Foreign => {
                if let Some(known) = known.filter(|known| known.uid != facts.uid) {
                    context.secrets.remove(namespace, name, &known.uid);
                }
                context.secrets.put(namespace, name, facts);
                Ok(())
            }
            None => {
                if let Some(known) = known {
                    context.secrets.remove(namespace, name, &known.uid);
                }
                Ok(())
            }
            Some(facts) => Err(conflict(name, &facts)),
        }
    }

    /// The binding's Secrets under earlier names hold live credentials that nobody renews. Those
    /// that are to outlive it stay.
    async fn delete_former_secrets(&self) {
        let Self {
            wanted,
            context,
            uid,
            ..
        } = self;
        let owned = context.secrets.owned_by(&wanted.namespace, uid);
        for (name, facts) in leftovers(owned, &wanted.secret_name, wanted.deletion_policy) {
            match context
                .writer(&wanted.namespace)
                .delete(&name, &facts)
                .await
            {
                Ok(()) => info!(secret = name, "deleted the Secret of the former name"),
                Err(problem) => warn!(secret = name, "{}", problem.message),
            }
        }
    }
}
