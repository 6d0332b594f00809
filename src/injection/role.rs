//! Who names the role of a pod. Pure.
//!
//! The pod's ARN, its ServiceAccount's ARN, the ServiceAccount's role name, the oldest binding
//! with `injectPods`; an illegal word never falls through to the next.

use super::bindings::{BindingFacts, Bindings, PodRole, RoleText};
use super::decision::{Holder, Reason, Warning};
use super::facts::ServiceAccountFacts;
use super::pod::{Annotations, Pod};
use super::resolve::first;
use super::settings::Settings;
use crate::contract::annotations::{self, official};
use crate::contract::arn::{ProviderArn, RoleArn};

/// The role, and the provider where it is not the operator's.
pub(super) fn role(
    settings: &Settings,
    account: &ServiceAccountFacts,
    bindings: &Bindings,
    own: &Annotations<'_>,
    pod: &Pod<'_>,
    warnings: &mut Vec<Warning>,
) -> Result<(RoleArn, Option<ProviderArn>), Reason> {
    if let Some((arn, holder)) = first(own.role_arn.text(), account.role_arn.as_deref()) {
        let role = by_arn(arn, annotations::ROLE_ARN, holder, warnings)?;
        return Ok((role, None));
    }
    if let Some(name) = account.role_name.as_deref() {
        let holder = Holder::ServiceAccount;
        let role = by_name(settings, name, official::ROLE_NAME, holder, warnings)?;
        return Ok((role, None));
    }
    let name = pod.service_account();
    if let Some((binding, role)) = injecting(bindings, name, warnings) {
        return of_binding(settings, binding, role, warnings);
    }
    // Under a namespace that opted in, pods without a role are normal. A pod that asks itself
    // expects one.
    let says_how = own.mode.text().or(own.fallback.text()).is_some();
    if says_how || pod.injection_label() == Some(official::INJECTION_ON) {
        let name = std::iter::once(name);
        warnings.push(Warning::names(Reason::NoRole, "ServiceAccount", name));
    }
    Err(Reason::NoRole)
}

/// The binding that decides for the pods of a ServiceAccount: of several the first, which is the
/// oldest.
fn injecting<'b>(
    bindings: &'b Bindings,
    account: &str,
    warnings: &mut Vec<Warning>,
) -> Option<(&'b BindingFacts, &'b PodRole)> {
    let found: Vec<_> = bindings.for_pods_of(account).collect();
    if found.len() > 1 {
        let names = found.iter().map(|(binding, _)| &*binding.name);
        warnings.push(Warning::names(Reason::SeveralBindings, "bindings", names));
    }
    found.first().copied()
}

fn of_binding(
    settings: &Settings,
    binding: &BindingFacts,
    given: &PodRole,
    warnings: &mut Vec<Warning>,
) -> Result<(RoleArn, Option<ProviderArn>), Reason> {
    if given.beyond_pods {
        let (reason, name) = (Reason::BindingBeyondPods, std::iter::once(&*binding.name));
        warnings.push(Warning::names(reason, "binding", name));
        return Err(reason);
    }
    let holder = Holder::Binding;
    let role = match &given.role {
        RoleText::Arn(arn) => by_arn(arn, "spec.role.arn", holder, warnings)?,
        RoleText::Name(name) => by_name(settings, name, "spec.role.name", holder, warnings)?,
    };
    let provider = given.provider.as_deref().map(str::parse).transpose();
    let provider = provider.map_err(|_| {
        let (reason, key) = (Reason::ProviderArnIllegal, "spec.oidcProviderArn");
        let arn = given.provider.as_deref().unwrap_or_default();
        warnings.push(Warning::value(reason, key, arn, holder));
        reason
    })?;
    Ok((role, provider))
}

fn by_arn(
    arn: &str,
    key: &str,
    holder: Holder,
    warnings: &mut Vec<Warning>,
) -> Result<RoleArn, Reason> {
    arn.parse().map_err(|_| {
        let reason = Reason::RoleArnIllegal;
        warnings.push(Warning::value(reason, key, arn, holder));
        reason
    })
}

fn by_name(
    settings: &Settings,
    name: &str,
    key: &str,
    holder: Holder,
    warnings: &mut Vec<Warning>,
) -> Result<RoleArn, Reason> {
    RoleArn::of(&settings.account_id, name).map_err(|_| {
        let reason = Reason::RoleNameIllegal;
        warnings.push(Warning::value(reason, key, name, holder));
        reason
    })
}
