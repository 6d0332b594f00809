//! What every pass over a binding needs, and what the process remembers of bindings.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kube::ResourceExt;

use super::bindings::{Bindings, Name};
use super::claims::{self, Claims};
use super::clock::ServiceClock;
use super::exchange::Exchanger;
use super::exchanges::Exchanges;
use super::metrics::Metrics;
use super::opt_in::{OptedIn, Pods};
use super::plan::{Memory, is_proven};
use super::reason::Reason;
use super::report::Reporter;
use super::secrets::{SecretFacts, SecretIndex, Tenure};
use super::service_accounts::ServiceAccountIndex;
use super::status::tells_of_exchange;
use super::wanted::Wanted;
use super::write::Writer;
use crate::api::v1alpha1::AlibabaRoleBinding;
use crate::injection::bindings::Bindings as WebhookBindings;
use crate::telemetry::flood::FloodGate;

/// Everything a pass needs.
#[derive(Debug)]
pub struct Context {
    /// The time that decisions are made by.
    pub clock: ServiceClock,
    /// Gets credentials.
    pub exchanger: Exchanger,
    /// Writes statuses and events.
    pub reporter: Reporter,
    /// What is known of our Secrets.
    pub secrets: Arc<SecretIndex>,
    /// What is known of `ServiceAccount`s.
    pub service_accounts: Arc<ServiceAccountIndex>,
    /// The bindings as the watch shows them.
    pub bindings: Bindings,
    /// Which of them ask for the same Secret, or the same pods.
    pub claims: Arc<Claims>,
    /// Which namespaces opted in to injection.
    pub opted_in: Arc<OptedIn>,
    /// What this process remembers of each binding, by UID.
    pub memory: Mutex<HashMap<String, Memory>>,
    /// The exchanges that wait and run.
    pub exchanges: Exchanges,
    /// Which lines are said in the log.
    pub lines: FloodGate<Reason>,
    /// What is counted.
    pub metrics: Metrics,
}

impl Context {
    pub(super) fn remembered(&self, uid: &str) -> Memory {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.get(uid).cloned().unwrap_or_default()
    }

    pub(super) fn remember(&self, uid: &str, change: impl FnOnce(&mut Memory)) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = memory.get(uid).cloned().unwrap_or_default();
        change(&mut known);
        // Most bindings have nothing to be remembered for.
        if known == Memory::default() {
            memory.remove(uid);
        } else {
            memory.insert(uid.to_owned(), known);
        }
    }

    /// Forgets bindings that are gone.
    pub(super) fn forget_the_gone(&self) {
        let alive = self.bindings.uids();
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.retain(|uid, _| alive.contains(uid));
        drop(memory);
        self.reporter.forget_all_but(&alive);
    }

    pub(super) fn writer(&self, namespace: &str) -> Writer {
        Writer::new(self.exchanger.client.clone(), namespace)
    }

    /// The facts of the Secret of this name, where it is the binding's own.
    pub(super) fn own_secret(
        &self,
        binding: &AlibabaRoleBinding,
        uid: &str,
        secret_name: &str,
    ) -> Option<SecretFacts> {
        let secret = self
            .secrets
            .get(&binding.namespace().unwrap_or_default(), secret_name)?;
        let own = secret.tenure(&binding.name_any(), uid) == Tenure::Own
            && is_proven(
                &secret,
                tells_of_exchange(self.reporter.shown(binding).as_ref(), secret_name),
                &self.remembered(uid),
            );
        own.then_some(secret)
    }

    /// The other binding that is to make the Secret, where nobody owns it. One that is suspended makes
    /// none, so it keeps nobody from it.
    pub(super) fn rival(&self, binding: &AlibabaRoleBinding, wanted: &Wanted) -> Option<String> {
        let names = self
            .claims
            .claimants(&wanted.namespace, &wanted.secret_name);
        if names.len() < 2 {
            return None;
        }
        let rivals: Vec<_> = names
            .iter()
            .filter_map(|name| self.bindings.get(&Name::new(&wanted.namespace, name)))
            .collect();
        claims::first(rivals.iter().filter(|rival| !rival.spec.suspend))
            .map(ResourceExt::name_any)
            .filter(|first| *first != binding.name_any())
    }

    /// What comes of `injectPods`, if the binding asks for it.
    pub(super) fn pods(&self, binding: &AlibabaRoleBinding) -> Option<Pods> {
        let account = binding.spec.service_account_name.as_deref();
        let account = account.filter(|_| binding.spec.inject_pods)?;
        let namespace = binding.namespace().unwrap_or_default();
        let names = self.claims.claimants_of_pods(&namespace, account);
        let asking: WebhookBindings = names
            .iter()
            .filter_map(|name| self.bindings.facts(&Name::new(&namespace, name)))
            .collect();
        let opted_in = self.opted_in.contains(&namespace);
        Pods::of(&binding.name_any(), &asking, account, opted_in)
    }

    /// Whether the binding is still the one that was looked at.
    pub(super) fn is_unchanged(&self, binding: &AlibabaRoleBinding) -> bool {
        self.bindings.get(&Name::of(binding)).is_some_and(|now| {
            now.metadata.uid == binding.metadata.uid
                && now.metadata.generation == binding.metadata.generation
                && now.metadata.deletion_timestamp.is_none()
        })
    }
}
