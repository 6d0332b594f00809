//! Asks the API server, page by page.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use k8s_openapi::api::core::v1::{Namespace, Pod as ApiPod, ServiceAccount};
use kube::api::{ObjectMeta, Request};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde_json::value::RawValue;

use super::ask::{Asker, LookError, Pages};
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

/// What came of a look.
#[derive(Debug, Default)]
pub struct Looked {
    /// How much was looked at.
    pub tally: Tally,
    /// What was not, in order; what was found elsewhere counts all the same.
    pub missed: Vec<Missed>,
    /// Why the bindings of some namespace are not known.
    pub without_bindings: Option<LookError>,
}

impl Looked {
    /// What a person should know where bindings may not be listed.
    #[must_use]
    pub fn caveat(&self) -> Option<String> {
        let error = self.without_bindings.as_ref()?;
        Some(format!(
            "{error}; roles that only a binding names, and keys of a binding's Secret, are not \
             judged: give the right to list alibabarolebindings.rrsa.io, or take no notice where \
             the cluster has no bindings"
        ))
    }
}

/// Something that could not be looked at, or not to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missed {
    /// The namespace; `None`: the cluster, as far as no namespace of its own is looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Why.
    pub cause: String,
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(name) => write!(f, "namespace {name}: {}", self.cause),
            None => write!(f, "the cluster: {}", self.cause),
        }
    }
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
    asker: Asker,
    /// The namespaces that could not be looked at.
    missed: BTreeMap<String, LookError>,
    without_bindings: Option<LookError>,
}

impl fmt::Debug for Look<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
    bindings: Option<Known>,
}

/// The bindings of a namespace.
#[derive(Debug)]
enum Known {
    /// Those that there are.
    Bindings(Bindings),
    /// Nobody may tell.
    Nothing,
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
            asker: Asker::default(),
            missed: BTreeMap::new(),
            without_bindings: None,
        }
    }

    /// Looks. What cannot be read of one namespace keeps no other from being looked at.
    pub async fn run(mut self) -> Looked {
        let mut of_cluster = None;
        if self.scope.namespaces.is_empty() {
            of_cluster = self.cluster().await.err();
        }
        for name in &self.scope.namespaces {
            if let Err(error) = self.whole_namespace(name).await {
                self.miss(name, error);
            }
        }
        let missed = |namespace, error: LookError| Missed {
            namespace,
            cause: error.to_string(),
        };
        let of_cluster = of_cluster.map(|error| missed(None, error));
        let of_namespaces = self.missed.into_iter();
        let of_namespaces = of_namespaces.map(|(name, error)| missed(Some(name), error));
        Looked {
            tally: self.tally,
            missed: of_cluster.into_iter().chain(of_namespaces).collect(),
            without_bindings: self.without_bindings,
        }
    }

    async fn cluster(&mut self) -> Result<(), LookError> {
        self.all_namespaces().await?;
        if self.scope.all_pods {
            return self.pods(None, None).await;
        }
        let mut asking: Vec<String> = self
            .namespaces
            .iter()
            .filter(|(_, facts)| facts.injection.as_deref() == Some(INJECTION_ON))
            .map(|(name, _)| name.clone())
            .collect();
        asking.sort_unstable();
        for name in &asking {
            if let Err(error) = self.pods(Some(name), None).await {
                self.miss(name, error);
            }
        }
        self.pods(None, Some(&asking)).await
    }

    async fn whole_namespace(&mut self, name: &str) -> Result<(), LookError> {
        self.one_namespace(name).await?;
        self.pods(Some(name), None).await
    }

    /// Gives a namespace up for this look.
    fn miss(&mut self, namespace: &str, error: LookError) {
        self.missed.entry(namespace.to_owned()).or_insert(error);
    }

    async fn one_namespace(&mut self, name: &str) -> Result<(), LookError> {
        let api = Api::<Namespace>::all(self.client.clone());
        let what = format!("namespace {name}");
        match self.asker.ask(api.get_metadata_opt(name)).await {
            Ok(Some(namespace)) => self.namespace(&namespace.metadata),
            Ok(None) => return Err(LookError::new(what, "there is none of that name")),
            Err(failure) => return Err(failure.of(what)),
        }
        Ok(())
    }

    async fn all_namespaces(&mut self) -> Result<(), LookError> {
        let api = Api::<Namespace>::all(self.client.clone());
        let mut pages = Pages::new();
        loop {
            let listed = match self.asker.ask(api.list_metadata(&pages.page)).await {
                Ok(listed) => listed,
                Err(failure) if pages.renew(&failure) => continue,
                Err(failure) => return Err(failure.of("the list of namespaces")),
            };
            for namespace in &listed.items {
                self.namespace(&namespace.metadata);
            }
            if !pages.turn(listed.metadata.continue_) {
                return Ok(());
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
        let mut pages = Pages::new();
        if seen.is_some() {
            pages = pages.labelled(INJECTION);
        }
        loop {
            let request = Request::new(&url)
                .list(&pages.page)
                .map_err(|error| LookError::new(what(), error.to_string()))?;
            let text = match self.asker.ask(self.client.request_text(request)).await {
                Ok(text) => text,
                Err(failure) if pages.renew(&failure) => continue,
                Err(failure) => return Err(failure.of(what())),
            };
            let listed: Page<'_> = serde_json::from_str(&text).map_err(|error| {
                LookError::new(what(), format!("the answer is not a list: {error}"))
            })?;
            for item in &listed.items {
                self.item(item, seen).await;
            }
            let missed = namespace.is_some_and(|name| self.missed.contains_key(name));
            if missed || !pages.turn(Some(listed.metadata.next)) {
                return Ok(());
            }
        }
    }

    async fn item(&mut self, item: &RawValue, seen: Option<&[String]>) {
        let (Ok(listed), Ok(pod)) = (
            serde_json::from_str::<ListedPod>(item.get()),
            serde_json::from_str::<Pod<'_>>(item.get()),
        ) else {
            // The API server validated it: it is of a shape newer than this release.
            return;
        };
        let namespace = &listed.metadata.namespace;
        let is_seen = |seen: &[String]| seen.binary_search(namespace).is_ok();
        let left_out = seen.is_some_and(is_seen)
            || self.scope.never_served.contains(namespace)
            || self.missed.contains_key(namespace);
        if left_out || listed.is_over() {
            return;
        }
        if let Err(error) = self.pod(&listed, &pod).await {
            self.miss(namespace, error);
        }
    }

    async fn pod(&mut self, listed: &ListedPod, pod: &Pod<'_>) -> Result<(), LookError> {
        let namespace = &listed.metadata.namespace;
        let facts = self.namespaces.get(namespace).cloned().unwrap_or_default();
        let asks = opted_in(pod, &facts).is_ok();
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
        let mut checked = check::pod(around, exists, pod, listed);
        if checked.wants_bindings {
            match self.bindings(namespace).await? {
                Some(bindings) => {
                    around.bindings = bindings;
                    checked = check::pod(around, exists, pod, listed);
                }
                None => checked.forget_missing_bindings(),
            }
        }
        self.tally.pods += 1;
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

    /// The bindings of a namespace; `None` where they may not be listed. A cluster with another
    /// webhook than ours has none, and the API server forbids to list what it does not know.
    async fn bindings(&mut self, namespace: &str) -> Result<Option<&Bindings>, LookError> {
        self.enter(namespace);
        if self.at_hand.bindings.is_none() {
            let known = self.list_bindings(namespace).await?;
            self.at_hand.bindings = Some(known);
        }
        Ok(match &self.at_hand.bindings {
            Some(Known::Bindings(bindings)) => Some(bindings),
            Some(Known::Nothing) | None => None,
        })
    }

    async fn list_bindings(&mut self, namespace: &str) -> Result<Known, LookError> {
        let api = Api::<BindingView>::namespaced(self.client.clone(), namespace);
        let what = || format!("the list of bindings of {namespace}");
        let mut pages = Pages::new();
        let mut bindings = Vec::new();
        loop {
            let listed = match self.asker.ask(api.list(&pages.page)).await {
                Ok(listed) => listed,
                Err(failure) if pages.renew(&failure) => continue,
                Err(failure) => match failure.code() {
                    Some(404) => break,
                    Some(403) => {
                        let error = failure.of(what());
                        self.without_bindings.get_or_insert(error);
                        return Ok(Known::Nothing);
                    }
                    _ => return Err(failure.of(what())),
                },
            };
            bindings.extend(listed.items.into_iter().map(BindingFacts::from));
            if !pages.turn(listed.metadata.continue_) {
                break;
            }
        }
        Ok(Known::Bindings(bindings.into_iter().collect()))
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
            let found = self.asker.ask(api.get_metadata_opt(name)).await;
            let found = found
                .map_err(|failure| failure.of(format!("ServiceAccount {namespace}/{name}")))?;
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

fn keys(texts: Option<&BTreeMap<String, String>>) -> impl Iterator<Item = &str> {
    texts
        .into_iter()
        .flat_map(|texts| texts.keys().map(String::as_str))
}

#[cfg(test)]
mod tests;
