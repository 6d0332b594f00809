//! What a pod is to get: the rules of who names the role, in which mode, how long the token lives,
//! which containers are meant, and who wins when the pod sets a variable itself. Pure.
//!
//! Precedence everywhere: pod, ServiceAccount, namespace, configuration. Words are exact and
//! lower case; a near miss counts as absent and is told to the pod's author.

use std::collections::HashSet;
use std::time::Duration;

use super::bindings::{BindingFacts, Bindings};
use super::decision::{Holder, Reason, Warning};
use super::facts::{NamespaceFacts, ServiceAccountFacts};
use super::mode::Mode;
use super::patch::VolumeSource;
use super::pod::{Annotations, Container, Pod};
use super::role::role;
use super::settings::Settings;
use super::variables::{Value, Variable};
use crate::contract::annotations::{self, official};
use crate::contract::arn::{ProviderArn, RoleArn};
use crate::contract::{CREDENTIALS_MOUNT_PATH, secret_keys, token_volume};

/// What all annotations of a pod may take; the API server refuses one with more, but only after the webhooks.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// What a pod is to get.
#[derive(Debug, Clone)]
pub struct Injection<'a> {
    /// How it gets its credentials.
    pub mode: Mode,
    /// The role, where the pod or the agent takes it.
    pub role: Option<RoleArn>,
    /// The variables, in the order in which they are written.
    pub variables: Vec<(Variable, Value<'a>)>,
    /// What is mounted.
    pub volume: VolumeSource<'a>,
    /// Whether our variables win over the pod's own.
    pub override_env: bool,
    /// The containers that are meant.
    pub selection: Selection<'a>,
}

/// Which containers are meant.
#[derive(Debug, Clone, Default)]
pub struct Selection<'a> {
    only: Option<HashSet<&'a str>>,
    skip: Option<HashSet<&'a str>>,
}

/// Everything about a pod's surroundings that decides.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// The administrator's settings.
    pub settings: &'a Settings,
    /// Name of the namespace.
    pub namespace: &'a str,
    /// What is known of it.
    pub facts: &'a NamespaceFacts,
    /// What is known of the pod's ServiceAccount.
    pub account: &'a ServiceAccountFacts,
    /// The namespace's bindings.
    pub bindings: &'a Bindings,
}

/// Whether the pod or its namespace asks for injection.
///
/// # Errors
/// The reason for leaving the pod alone.
pub fn opted_in(pod: &Pod<'_>, namespace: &NamespaceFacts) -> Result<(), Reason> {
    if pod.is_mirror() {
        return Err(Reason::MirrorPod);
    }
    let annotations = pod.annotations();
    let inject = annotations.and_then(|annotations| annotations.inject.text());
    if inject == Some(annotations::INJECT_OFF) {
        return Err(Reason::OptedOut);
    }
    let on = Some(official::INJECTION_ON);
    let asked = pod.injection_label() == on
        || namespace.injection.as_deref() == on
        || annotations.is_some_and(|annotations| annotations.role_arn.text().is_some());
    if asked {
        Ok(())
    } else {
        Err(Reason::NotOptedIn)
    }
}

/// What a pod that has opted in is to get.
///
/// # Errors
/// The reason for injecting nothing. Both ways, `warnings` receives what its author can mend.
pub fn resolve<'a>(
    around: Surroundings<'a>,
    pod: &'a Pod<'_>,
    warnings: &mut Vec<Warning>,
) -> Result<Injection<'a>, Reason> {
    let none = Annotations::default();
    let own = pod.annotations().unwrap_or(&none);
    let account = around.account;
    warn_of_near_misses(pod, warnings);
    let mode = mode(own, account, warnings)?;
    warn_of_unread(mode, own, account, warnings);
    let (role, mut variables, volume) = match mode {
        Mode::Oidc => {
            let (role, provider) = role_of(around, own, pod, warnings)?;
            let variables = oidc(around, pod, &role, provider);
            let life = expiration(own, account, warnings);
            (Some(role), variables, VolumeSource::Token(life))
        }
        Mode::Secret => {
            let binding = binding(around.bindings, own, account, pod, warnings)?;
            let variables = files(binding, pod, warnings)?;
            (None, variables, VolumeSource::Secret(&binding.secret))
        }
        Mode::Agent => {
            let variables = agent(around.settings, warnings)?;
            let (role, _) = role_of(around, own, pod, warnings)?;
            let life = expiration(own, account, warnings);
            (Some(role), variables, VolumeSource::Token(life))
        }
    };
    variables.extend(metadata(around, mode, own, warnings));
    let annotations = pod.annotations();
    let list = |pick: fn(&'a Annotations<'_>) -> Option<&'a str>| annotations.and_then(pick);
    Ok(Injection {
        mode,
        role,
        variables,
        volume,
        override_env: override_env(own, around.facts, warnings),
        selection: Selection {
            only: list(|annotations| annotations.only_containers.text()).map(split),
            skip: list(|annotations| annotations.skip_containers.text()).map(split),
        },
    })
}

/// Warns of words that look like opting in or out and are neither.
pub fn warn_of_near_misses(pod: &Pod<'_>, warnings: &mut Vec<Warning>) {
    if let Some(label) = pod.injection_label()
        && label != official::INJECTION_ON
    {
        let reason = Reason::InjectionIllegal;
        warnings.push(Warning::value(
            reason,
            official::INJECTION,
            label,
            Holder::Pod,
        ));
    }
    if let Some(inject) = pod.annotations().and_then(|own| own.inject.text())
        && inject != annotations::INJECT_OFF
    {
        let reason = Reason::OptOutIllegal;
        warnings.push(Warning::value(
            reason,
            annotations::INJECT,
            inject,
            Holder::Pod,
        ));
    }
}

/// Warns of containers that take keys from a Secret of a binding as variables, which every SDK
/// prefers to what is injected and which do not follow a refresh.
pub fn warn_of_static_keys(pod: &Pod<'_>, bindings: &Bindings, warnings: &mut Vec<Warning>) {
    if bindings.is_empty() {
        return;
    }
    let taken = || {
        let all = pod
            .containers()
            .flat_map(|container| &container.env_secrets);
        all.map(|secret| &**secret)
    };
    // Both are as many as their authors like: each is gone through once.
    let wanted: HashSet<&str> = taken().collect();
    if wanted.is_empty() {
        return;
    }
    let mut held: HashSet<&str> = bindings
        .env_secrets()
        .filter(|secret| wanted.contains(secret))
        .collect();
    let found: Vec<&str> = taken().filter(|secret| held.remove(secret)).collect();
    if !found.is_empty() {
        let kind = if found.len() == 1 {
            "Secret"
        } else {
            "Secrets"
        };
        let names = found.into_iter();
        warnings.push(Warning::names(Reason::StaticKeys, kind, names));
    }
}

fn mode(
    own: &Annotations<'_>,
    account: &ServiceAccountFacts,
    warnings: &mut Vec<Warning>,
) -> Result<Mode, Reason> {
    let Some((word, holder)) = first(own.mode.text(), account.mode.as_deref()) else {
        return Ok(Mode::Oidc);
    };
    Mode::named(word).ok_or_else(|| {
        let reason = Reason::ModeIllegal;
        warnings.push(Warning::value(reason, annotations::MODE, word, holder));
        reason
    })
}

/// Warns of words that the mode does not read, where somebody must have expected another mode.
fn warn_of_unread(
    mode: Mode,
    own: &Annotations<'_>,
    account: &ServiceAccountFacts,
    warnings: &mut Vec<Warning>,
) {
    let unread = match mode {
        Mode::Secret => own
            .role_arn
            .text()
            .map(|arn| (annotations::ROLE_ARN, arn, Holder::Pod)),
        Mode::Oidc | Mode::Agent => {
            // A pod may well choose another mode than its ServiceAccount.
            let account = account
                .binding
                .as_deref()
                .filter(|_| account.mode.is_none() && own.mode.text().is_none());
            first(own.binding.text(), account)
                .map(|(name, holder)| (annotations::BINDING, name, holder))
        }
    };
    if let Some((key, value, holder)) = unread {
        warnings.push(Warning::value(Reason::AnnotationUnread, key, value, holder));
    }
}

fn role_of(
    around: Surroundings<'_>,
    own: &Annotations<'_>,
    pod: &Pod<'_>,
    warnings: &mut Vec<Warning>,
) -> Result<(RoleArn, Option<ProviderArn>), Reason> {
    let Surroundings {
        settings,
        account,
        bindings,
        ..
    } = around;
    role(settings, account, bindings, own, pod, warnings)
}

/// Mode `oidc`: the official webhook's variables in its order.
fn oidc<'a>(
    around: Surroundings<'a>,
    pod: &Pod<'_>,
    role: &RoleArn,
    provider: Option<ProviderArn>,
) -> Vec<(Variable, Value<'a>)> {
    let (settings, account) = (around.settings, around.account);
    let token_file = if pod.is_windows() {
        token_volume::TOKEN_FILE_WINDOWS
    } else {
        token_volume::TOKEN_FILE
    };
    let provider = provider.map_or(Value::from(settings.provider_arn.as_str()), |arn| {
        Value::from(arn.as_str().to_owned())
    });
    let mut variables = vec![
        (Variable::RoleArn, Value::from(role.as_str().to_owned())),
        (Variable::OidcProviderArn, provider),
        (Variable::OidcTokenFile, token_file.into()),
    ];
    let endpoint = account.inject_sts_endpoint.as_deref() == Some(official::INJECTION_ON);
    if settings.sts_variables || endpoint {
        let host = settings.sts_endpoint.as_str();
        variables.push((Variable::StsEndpoint, host.into()));
    }
    if settings.sts_variables {
        let vpc = if settings.vpc { "true" } else { "false" };
        variables.push((Variable::StsRegion, settings.region.as_str().into()));
        variables.push((Variable::VpcEndpointEnabled, vpc.into()));
    }
    variables
}

/// Mode `secret`: the binding whose Secret is mounted.
fn binding<'a>(
    bindings: &'a Bindings,
    own: &Annotations<'_>,
    account: &ServiceAccountFacts,
    pod: &Pod<'_>,
    warnings: &mut Vec<Warning>,
) -> Result<&'a BindingFacts, Reason> {
    if let Some((name, holder)) = first(own.binding.text(), account.binding.as_deref()) {
        return bindings.named(name).ok_or_else(|| {
            let reason = Reason::BindingMissing;
            warnings.push(Warning::value(reason, annotations::BINDING, name, holder));
            reason
        });
    }
    let name = pod.service_account();
    match bindings.of_account(name) {
        [only] => Ok(only),
        [] => {
            let (reason, name) = (Reason::BindingMissing, std::iter::once(name));
            warnings.push(Warning::names(reason, "ServiceAccount", name));
            Err(reason)
        }
        several => {
            let (reason, names) = (Reason::BindingAmbiguous, several.iter());
            let names = names.map(|binding| &*binding.name);
            warnings.push(Warning::names(reason, "bindings", names));
            Err(reason)
        }
    }
}

/// Mode `secret`: the files that the Secret holds.
fn files<'a>(
    binding: &BindingFacts,
    pod: &Pod<'_>,
    warnings: &mut Vec<Warning>,
) -> Result<Vec<(Variable, Value<'a>)>, Reason> {
    let (ini, cli) = (binding.formats.ini, binding.formats.cli);
    let keys = [
        (ini, Variable::CredentialsFile, secret_keys::INI),
        (cli, Variable::ConfigFile, secret_keys::CLI),
    ];
    let there = keys.into_iter().filter(|(there, ..)| *there);
    let variables: Vec<_> = there
        .map(|(_, variable, key)| (variable, Value::from(credentials_file(key, pod))))
        .collect();
    if variables.is_empty() {
        let (reason, name) = (Reason::SecretWithoutFiles, std::iter::once(&*binding.name));
        warnings.push(Warning::names(reason, "binding", name));
        return Err(reason);
    }
    Ok(variables)
}

/// A file of the Secret as the pod's containers see it.
fn credentials_file(key: &str, pod: &Pod<'_>) -> String {
    let path = format!("{CREDENTIALS_MOUNT_PATH}/{key}");
    if pod.is_windows() {
        return format!("C:{}", path.replace('/', "\\"));
    }
    path
}

/// Mode `agent`: the URI, made of what the kubelet fills in before it.
fn agent<'a>(
    settings: &Settings,
    warnings: &mut Vec<Warning>,
) -> Result<Vec<(Variable, Value<'a>)>, Reason> {
    let Some(agent) = &settings.agent else {
        let (reason, word) = (
            Reason::AgentAbsent,
            std::iter::once(annotations::MODE_AGENT),
        );
        warnings.push(Warning::names(reason, annotations::MODE, word));
        return Err(reason);
    };
    let host = if agent.ipv6 {
        "[$(RRSA_HOST_IP)]"
    } else {
        "$(RRSA_HOST_IP)"
    };
    let port = agent.port;
    let uri = format!("http://{host}:{port}/v1/pods/$(RRSA_POD_UID)/credentials");
    Ok(vec![
        (Variable::HostIp, Value::Field("status.hostIP")),
        (Variable::PodUid, Value::Field("metadata.uid")),
        (Variable::CredentialsUri, uri.into()),
    ])
}

/// Whether the pod is kept from the ECS metadata service, or may use it.
fn metadata<'a>(
    around: Surroundings<'a>,
    mode: Mode,
    own: &Annotations<'_>,
    warnings: &mut Vec<Warning>,
) -> Option<(Variable, Value<'a>)> {
    // Every official chain asks for the node's role before it asks a URI, and would answer with it.
    let disabled = || (Variable::EcsMetadataDisabled, Value::from("true"));
    let default = (mode != Mode::Oidc || around.settings.disable_metadata).then(disabled);
    let account = around.account.fallback.as_deref();
    let Some((word, holder)) = first(own.fallback.text(), account) else {
        return default;
    };
    let reason = if word != annotations::FALLBACK_ECS_METADATA {
        Reason::FallbackIllegal
    } else if mode != Mode::Oidc {
        Reason::FallbackWithoutOidc
    } else {
        match around.settings.fallback_role(around.namespace) {
            Some(role) => return Some((Variable::EcsMetadata, role.into())),
            None => Reason::FallbackNotAllowed,
        }
    };
    warnings.push(Warning::value(reason, annotations::FALLBACK, word, holder));
    default
}

fn expiration(
    own: &Annotations<'_>,
    account: &ServiceAccountFacts,
    warnings: &mut Vec<Warning>,
) -> Duration {
    let Some((text, holder)) = first(
        own.token_expiration.text(),
        account.token_expiration.as_deref(),
    ) else {
        return token_volume::DEFAULT_EXPIRATION;
    };
    parse_expiration(text).unwrap_or_else(|| {
        let (reason, key) = (Reason::ExpirationIllegal, official::TOKEN_EXPIRATION);
        warnings.push(Warning::value(reason, key, text, holder));
        token_volume::DEFAULT_EXPIRATION
    })
}

/// Whole seconds in the spelling of Go's `ParseInt` in base 10: a sign and leading zeros are
/// legal, blanks, underscores and digits of other scripts are not. Rust's parser agrees.
fn parse_expiration(text: &str) -> Option<Duration> {
    let seconds = text.parse::<i64>().ok()?;
    let life = Duration::from_secs(u64::try_from(seconds).ok()?);
    let legal = token_volume::MIN_EXPIRATION..=token_volume::MAX_EXPIRATION;
    legal.contains(&life).then_some(life)
}

fn override_env(
    own: &Annotations<'_>,
    namespace: &NamespaceFacts,
    warnings: &mut Vec<Warning>,
) -> bool {
    let levels = [
        (own.override_env.text(), Holder::Pod),
        (namespace.override_env.as_deref(), Holder::Namespace),
    ];
    for (value, holder) in levels {
        match value {
            Some("true") => return true,
            Some("false") => return false,
            Some(other) => {
                let (reason, key) = (Reason::OverrideIllegal, official::OVERRIDE_ENV);
                warnings.push(Warning::value(reason, key, other, holder));
            }
            None => {}
        }
    }
    false
}

/// The pod's word, or else that of its ServiceAccount.
pub(super) fn first<'t>(
    pod: Option<&'t str>,
    account: Option<&'t str>,
) -> Option<(&'t str, Holder)> {
    pod.map(|text| (text, Holder::Pod))
        .or_else(|| account.map(|text| (text, Holder::ServiceAccount)))
}

fn split(list: &str) -> HashSet<&str> {
    list[..list.floor_char_boundary(MAX_ANNOTATIONS)]
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect()
}

impl Selection<'_> {
    /// Whether the container is meant: skipping wins, and an absent list of the only ones means
    /// all.
    #[must_use]
    pub fn chooses(&self, name: &str) -> bool {
        let contains = |list: &HashSet<&str>| list.contains(name);
        !self.skip.as_ref().is_some_and(contains) && self.only.as_ref().is_none_or(contains)
    }

    /// Whether there is a list of the only containers that are meant.
    #[must_use]
    pub const fn names_the_only_ones(&self) -> bool {
        self.only.is_some()
    }

    /// Warns once for each list that names containers which the pod does not have.
    pub fn warn_of_unknown<'c>(
        &self,
        containers: impl Iterator<Item = &'c Container<'c>>,
        warnings: &mut Vec<Warning>,
    ) {
        let (only, skip) = (official::ONLY_CONTAINERS, official::SKIP_CONTAINERS);
        let lists = [
            (&self.only, only, Reason::UnknownContainer),
            (&self.skip, skip, Reason::UnknownSkipped),
        ];
        if lists.iter().all(|(list, ..)| list.is_none()) {
            return;
        }
        let known: HashSet<&str> = containers.map(|container| &*container.name).collect();
        for (list, key, reason) in lists {
            let Some(list) = list else { continue };
            let mut unknown: Vec<&str> = list.difference(&known).copied().collect();
            if !unknown.is_empty() {
                unknown.sort_unstable();
                let names = unknown.into_iter();
                warnings.push(Warning::names(reason, key, names));
            }
        }
    }
}

#[cfg(test)]
mod tests;
