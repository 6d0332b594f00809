//! Asks the API server, page by page.

use std::collections::HashMap;
use std::ops::AddAssign;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod as ApiPod, ServiceAccount};
use kube::api::{ListParams, ObjectMeta, Request};
use kube::core::{PartialObjectMeta, Status};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::check;
use super::finding::{Finding, Note};
use super::keys::{Place, misplaced};
use super::listed::{ListedPod, Page, PodMetadata};
use crate::contract::annotations::official::{INJECTION, INJECTION_ON};
use crate::injection::bindings::{BindingFacts, BindingView, Bindings};
use crate::injection::facts::{FromMetadata, NamespaceFacts, ServiceAccountFacts};
use crate::injection::pod::Pod;
use crate::injection::resolve::{Surroundings, opted_in};
use crate::injection::settings::Settings;

/// Objects a page.
const PAGE: u32 = 500;
/// How long one answer may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Which pods are looked at.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Only these namespaces, with all of their pods, whether they ask or not; empty: the pods of
    /// all namespaces that ask, and all pods that carry the label.
    pub namespaces: Vec<String>,
    /// Every pod of the cluster, so that those are found, too, that ask by nothing but an
    /// annotation, which the API server cannot select by.
    pub all_pods: bool,
    /// Namespaces that the webhook is never called for.
    pub never_served: Vec<String>,
}

/// How much was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    /// Namespaces.
    pub namespaces: usize,
    /// Pods.
    pub pods: usize,
    /// What was found.
    pub findings: usize,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, more: Self) {
        self.namespaces += more.namespaces;
        self.pods += more.pods;
        self.findings += more.findings;
    }
}

/// Why a look ended early.
#[derive(Debug, thiserror::Error)]
#[error("{what} cannot be read from the API server: {cause}")]
pub struct LookError {
    what: String,
    cause: String,
}

/// One look at a cluster.
pub struct Look<'a> {
    client: Client,
    settings: &'a Settings,
    scope: &'a Scope,
    found: &'a mut (dyn FnMut(Finding) + Send),
    tally: Tally,
    /// Namespaces that say something to us.
    namespaces: HashMap<String, NamespaceFacts>,
    at_hand: AtHand,
}

impl std::fmt::Debug for Look<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Look")
            .field("scope", self.scope)
            .field("tally", &self.tally)
            .finish_non_exhaustive()
    }
}

/// What is known of the namespace whose pods are being looked at.
#[derive(Debug, Default)]
struct AtHand {
    namespace: String,
    /// The ServiceAccounts that its pods have named so far.
    accounts: HashMap<String, Option<Account>>,
    /// Its bindings, if a pod needed them.
    bindings: Option<Bindings>,
}

#[derive(Debug)]
struct Account {
    facts: ServiceAccountFacts,
    /// What its own labels and annotations get wrong, until the first pod that needs it is told.
    notes: Vec<Note>,
}

impl<'a> Look<'a> {
    /// A look that hands over what it finds, one by one.
    #[must_use]
    pub fn new(
        client: Client,
        settings: &'a Settings,
        scope: &'a Scope,
        found: &'a mut (dyn FnMut(Finding) + Send),
    ) -> Self {
        Self {
            client,
            settings,
            scope,
            found,
            tally: Tally::default(),
            namespaces: HashMap::new(),
            at_hand: AtHand::default(),
        }
    }

    /// Looks.
    ///
    /// # Errors
    /// When something cannot be read; what was found before has been handed over.
    pub async fn run(mut self) -> Result<Tally, LookError> {
        if !self.scope.namespaces.is_empty() {
            for name in &self.scope.namespaces {
                self.one_namespace(name).await?;
                self.pods(Some(name), None).await?;
            }
            return Ok(self.tally);
        }
        self.all_namespaces().await?;
        if self.scope.all_pods {
            self.pods(None, None).await?;
            return Ok(self.tally);
        }
        let mut asking: Vec<String> = self
            .namespaces
            .iter()
            .filter(|(_, facts)| facts.injection.as_deref() == Some(INJECTION_ON))
            .map(|(name, _)| name.clone())
            .collect();
        asking.sort_unstable();
        for name in &asking {
            self.pods(Some(name), None).await?;
        }
        self.pods(None, Some(&asking)).await?;
        Ok(self.tally)
    }

    async fn one_namespace(&mut self, name: &str) -> Result<(), LookError> {
        let api = Api::<Namespace>::all(self.client.clone());
        let what = || format!("namespace {name}");
        match within(what, api.get_metadata_opt(name)).await? {
            Some(namespace) => self.namespace(&namespace.metadata),
            None => {
                return Err(LookError {
                    what: what(),
                    cause: "there is none of that name".to_owned(),
                });
            }
        }
        Ok(())
    }

    async fn all_namespaces(&mut self) -> Result<(), LookError> {
        let api = Api::<Namespace>::all(self.client.clone());
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let listed = within(
                || "the list of namespaces".to_owned(),
                api.list_metadata(&page),
            )
            .await?;
            for namespace in &listed.items {
                self.namespace(&namespace.metadata);
            }
            match listed.metadata.continue_.filter(|next| !next.is_empty()) {
                Some(next) => page = page.continue_token(&next),
                None => return Ok(()),
            }
        }
    }

    fn namespace(&mut self, metadata: &ObjectMeta) {
        self.tally.namespaces += 1;
        let facts = NamespaceFacts::from_metadata(metadata);
        let name = metadata.name.clone().unwrap_or_default();
        let labels = keys(metadata.labels.as_ref());
        let annotations = keys(metadata.annotations.as_ref());
        let never_served = self.scope.never_served.contains(&name);
        for note in check::namespace(&facts, never_served, labels, annotations) {
            let of = Identity {
                namespace: &name,
                name: &name,
                uid: metadata.uid.as_deref().unwrap_or_default(),
            };
            let again = || "create its pods again".to_owned();
            self.tell("Namespace", of, note, again);
        }
        if facts != NamespaceFacts::default() {
            self.namespaces.insert(name, facts);
        }
    }

    /// Looks at pods page by page. `seen`: only those with the label, outside of these namespaces.
    async fn pods(
        &mut self,
        namespace: Option<&str>,
        seen: Option<&[String]>,
    ) -> Result<(), LookError> {
        let url = ApiPod::url_path(&(), namespace);
        let what = || match namespace {
            Some(namespace) => format!("the list of pods of {namespace}"),
            None => "the list of pods".to_owned(),
        };
        let mut page = ListParams::default().limit(PAGE);
        if seen.is_some() {
            page = page.labels(INJECTION);
        }
        loop {
            let request = Request::new(&url).list(&page).map_err(|error| LookError {
                what: what(),
                cause: error.to_string(),
            })?;
            let text = match timeout(CALL_TIMEOUT, self.client.request_text(request)).await {
                Ok(Ok(text)) => text,
                // Too much time has passed since the first page: the server tells how to go on
                // with what there is now.
                Ok(Err(kube::Error::Api(status))) if go_on_after(&status).is_some() => {
                    page.continue_token = go_on_after(&status);
                    continue;
                }
                other => return Err(unreadable(what(), other.map(|answer| answer.map(|_| ())))),
            };
            let listed: Page<'_> = serde_json::from_str(&text).map_err(|error| LookError {
                what: what(),
                cause: format!("the answer is not a list: {error}"),
            })?;
            for item in &listed.items {
                self.item(item, seen).await?;
            }
            if listed.metadata.next.is_empty() {
                return Ok(());
            }
            page.continue_token = Some(listed.metadata.next);
        }
    }

    async fn item(&mut self, item: &RawValue, seen: Option<&[String]>) -> Result<(), LookError> {
        let (Ok(listed), Ok(pod)) = (
            serde_json::from_str::<ListedPod>(item.get()),
            serde_json::from_str::<Pod<'_>>(item.get()),
        ) else {
            // The API server validated it: it is of a shape newer than this release.
            return Ok(());
        };
        let namespace = &listed.metadata.namespace;
        let is_seen = |seen: &[String]| seen.binary_search(namespace).is_ok();
        let never_served = self.scope.never_served.contains(namespace);
        if seen.is_some_and(is_seen) || never_served || listed.is_over() {
            return Ok(());
        }
        self.tally.pods += 1;
        let facts = self.namespaces.get(namespace).cloned().unwrap_or_default();
        let asks = opted_in(&pod, &facts).is_ok();
        let mut account = None;
        if asks {
            account = self.account(namespace, pod.service_account()).await?;
        }
        let (account, of_account) = account.unzip();
        let none = (Bindings::default(), ServiceAccountFacts::default());
        let mut around = Surroundings {
            settings: self.settings,
            namespace,
            facts: &facts,
            account: account.as_ref().unwrap_or(&none.1),
            bindings: &none.0,
        };
        let exists = account.is_some();
        let mut checked = check::pod(around, exists, &pod, &listed);
        if checked.misses_a_binding {
            around.bindings = self.bindings(namespace).await?;
            checked = check::pod(around, exists, &pod, &listed);
        }
        for note in checked
            .notes
            .into_iter()
            .chain(of_account.unwrap_or_default())
        {
            let PodMetadata {
                namespace,
                name,
                uid,
                ..
            } = &listed.metadata;
            let of = Identity {
                namespace,
                name,
                uid,
            };
            self.tell("Pod", of, note, || listed.create_again());
        }
        Ok(())
    }

    /// Forgets what was known of another namespace.
    fn enter(&mut self, namespace: &str) {
        if self.at_hand.namespace != namespace {
            self.at_hand = AtHand {
                namespace: namespace.to_owned(),
                ..AtHand::default()
            };
        }
    }

    /// The bindings of a namespace.
    async fn bindings(&mut self, namespace: &str) -> Result<&Bindings, LookError> {
        self.enter(namespace);
        if self.at_hand.bindings.is_none() {
            let api = Api::<BindingView>::namespaced(self.client.clone(), namespace);
            let what = || format!("the list of bindings of {namespace}");
            let mut page = ListParams::default().limit(PAGE);
            let mut bindings = Vec::new();
            loop {
                let listed = match timeout(CALL_TIMEOUT, api.list(&page)).await {
                    Ok(Ok(listed)) => listed,
                    // A cluster with another webhook than ours has no bindings.
                    Ok(Err(kube::Error::Api(status))) if status.code == 404 => break,
                    other => {
                        return Err(unreadable(what(), other.map(|answer| answer.map(|_| ()))));
                    }
                };
                bindings.extend(listed.items.into_iter().map(BindingFacts::from));
                match listed.metadata.continue_.filter(|next| !next.is_empty()) {
                    Some(next) => page = page.continue_token(&next),
                    None => break,
                }
            }
            self.at_hand.bindings = Some(bindings.into_iter().collect());
        }
        Ok(self.at_hand.bindings.get_or_insert_default())
    }

    /// The ServiceAccount of a pod, and what is to be told of it now.
    async fn account(
        &mut self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<(ServiceAccountFacts, Vec<Note>)>, LookError> {
        self.enter(namespace);
        if !self.at_hand.accounts.contains_key(name) {
            let api = Api::<ServiceAccount>::namespaced(self.client.clone(), namespace);
            let what = || format!("ServiceAccount {namespace}/{name}");
            let found = within(what, api.get_metadata_opt(name)).await?;
            let account = found.map(|found| Account::of(&found));
            self.at_hand.accounts.insert(name.to_owned(), account);
        }
        let account = self.at_hand.accounts.get_mut(name).and_then(Option::as_mut);
        Ok(account.map(|account| (account.facts.clone(), std::mem::take(&mut account.notes))))
    }

    fn tell(
        &mut self,
        kind: &'static str,
        of: Identity<'_>,
        note: Note,
        create_again: impl FnOnce() -> String,
    ) {
        self.tally.findings += 1;
        let Note {
            problem,
            cause,
            remedy,
        } = note;
        (self.found)(Finding {
            problem,
            kind,
            namespace: of.namespace.to_owned(),
            name: of.name.to_owned(),
            uid: of.uid.to_owned(),
            cause,
            remedy: remedy.unwrap_or_else(create_again),
        });
    }
}

/// By what an object is named.
#[derive(Debug, Clone, Copy)]
struct Identity<'a> {
    namespace: &'a str,
    name: &'a str,
    uid: &'a str,
}

impl Account {
    fn of(found: &PartialObjectMeta<ServiceAccount>) -> Self {
        let labels = misplaced(Place::AccountLabel, keys(Some(found.labels())));
        let annotations = misplaced(Place::AccountAnnotation, keys(Some(found.annotations())));
        let notes = labels.chain(annotations).map(|mut note| {
            note.cause = format!("ServiceAccount {}: {}", found.name_any(), note.cause);
            note
        });
        Self {
            facts: ServiceAccountFacts::from_metadata(&found.metadata),
            notes: notes.collect(),
        }
    }
}

fn keys(texts: Option<&std::collections::BTreeMap<String, String>>) -> impl Iterator<Item = &str> {
    texts
        .into_iter()
        .flat_map(|texts| texts.keys().map(String::as_str))
}

fn go_on_after(status: &Status) -> Option<String> {
    let metadata = status.metadata.as_ref().filter(|_| status.code == 410)?;
    metadata.continue_.clone().filter(|next| !next.is_empty())
}

async fn within<T>(
    what: impl Fn() -> String,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, LookError> {
    match timeout(CALL_TIMEOUT, call).await {
        Ok(Ok(value)) => Ok(value),
        other => Err(unreadable(what(), other.map(|answer| answer.map(|_| ())))),
    }
}

fn unreadable(
    what: String,
    answer: Result<kube::Result<()>, tokio::time::error::Elapsed>,
) -> LookError {
    let cause = match answer {
        Ok(Err(kube::Error::Api(status))) => format!("{} ({})", status.message, status.code),
        Ok(Err(error)) => error.to_string(),
        Ok(Ok(())) | Err(_) => format!("no answer within {CALL_TIMEOUT:?}"),
    };
    LookError { what, cause }
}
