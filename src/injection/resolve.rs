//! What a pod is to get: the rules of who names the role, how long the token lives, which
//! containers are meant, and who wins when the pod sets a variable itself. Pure.
//!
//! Precedence everywhere: pod, ServiceAccount, namespace, configuration. Words are exact and
//! lower case; a near miss counts as absent and is told to the pod's author.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::bindings::{BindingFacts, Bindings, PodRole, RoleText};
use super::decision::{Holder, Reason, Warning};
use super::facts::{NamespaceFacts, ServiceAccountFacts};
use super::pod::{Annotations, Container, Pod};
use super::settings::Settings;
use super::variables::Variable;
use crate::contract::annotations::{self, official};
use crate::contract::arn::{ProviderArn, RoleArn};
use crate::contract::token_volume;

/// What a pod is to get.
#[derive(Debug, Clone)]
pub struct Injection<'a> {
    /// The role.
    pub role: RoleArn,
    /// The variables, in the order in which they are written.
    pub variables: Vec<(Variable, Cow<'a, str>)>,
    /// Life of the token.
    pub expiration: Duration,
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
    settings: &'a Settings,
    namespace: &NamespaceFacts,
    account: &ServiceAccountFacts,
    bindings: &Bindings,
    pod: &'a Pod<'_>,
    warnings: &mut Vec<Warning>,
) -> Result<Injection<'a>, Reason> {
    let none = Annotations::default();
    let own = pod.annotations().unwrap_or(&none);
    warn_of_near_misses(pod, warnings);
    mode(own, account, warnings)?;
    let (role, provider) = role(settings, account, bindings, own, pod, warnings)?;
    let annotations = pod.annotations();
    let list = |pick: fn(&'a Annotations<'_>) -> Option<&'a str>| annotations.and_then(pick);
    Ok(Injection {
        variables: variables(settings, account, pod, &role, provider),
        role,
        expiration: expiration(own, account, warnings),
        override_env: override_env(own, namespace, warnings),
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

fn mode(
    own: &Annotations<'_>,
    account: &ServiceAccountFacts,
    warnings: &mut Vec<Warning>,
) -> Result<(), Reason> {
    match first(own.mode.text(), account.mode.as_deref()) {
        None | Some((annotations::MODE_OIDC, _)) => Ok(()),
        Some((other, holder)) => {
            let reason = Reason::ModeUnsupported;
            warnings.push(Warning::value(reason, annotations::MODE, other, holder));
            Err(reason)
        }
    }
}

/// The role, and the provider where it is not the operator's.
fn role(
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
    if let Some((binding, role)) = injecting(bindings.of_account(name), warnings) {
        return of_binding(settings, binding, role, warnings);
    }
    // Under a namespace that opted in, pods without a role are normal. A pod that asks itself
    // expects one.
    if pod.injection_label() == Some(official::INJECTION_ON) {
        let name = std::iter::once(name);
        warnings.push(Warning::names(Reason::NoRole, "ServiceAccount", name));
    }
    Err(Reason::NoRole)
}

/// The binding that gives pods a role: of several the first, which is the oldest.
fn injecting<'b>(
    bindings: &'b [Arc<BindingFacts>],
    warnings: &mut Vec<Warning>,
) -> Option<(&'b BindingFacts, &'b PodRole)> {
    let found: Vec<_> = bindings
        .iter()
        .filter_map(|binding| Some((binding.as_ref(), binding.for_pods.as_deref()?)))
        .collect();
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

fn variables<'a>(
    settings: &'a Settings,
    account: &ServiceAccountFacts,
    pod: &Pod<'_>,
    role: &RoleArn,
    provider: Option<ProviderArn>,
) -> Vec<(Variable, Cow<'a, str>)> {
    let token_file = if pod.is_windows() {
        token_volume::TOKEN_FILE_WINDOWS
    } else {
        token_volume::TOKEN_FILE
    };
    let mut variables = Vec::with_capacity(Variable::ALL.len());
    variables.extend([
        (Variable::RoleArn, Cow::Owned(role.as_str().to_owned())),
        (
            Variable::OidcProviderArn,
            provider.map_or(Cow::Borrowed(settings.provider_arn.as_str()), |arn| {
                Cow::Owned(arn.as_str().to_owned())
            }),
        ),
        (Variable::OidcTokenFile, Cow::Borrowed(token_file)),
    ]);
    let endpoint = account.inject_sts_endpoint.as_deref() == Some(official::INJECTION_ON);
    if settings.sts_variables || endpoint {
        let host = settings.sts_endpoint.as_str();
        variables.push((Variable::StsEndpoint, Cow::Borrowed(host)));
    }
    if settings.sts_variables {
        let vpc = if settings.vpc { "true" } else { "false" };
        variables.push((Variable::StsRegion, Cow::Borrowed(settings.region.as_str())));
        variables.push((Variable::VpcEndpointEnabled, Cow::Borrowed(vpc)));
    }
    variables
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
fn first<'t>(pod: Option<&'t str>, account: Option<&'t str>) -> Option<(&'t str, Holder)> {
    pod.map(|text| (text, Holder::Pod))
        .or_else(|| account.map(|text| (text, Holder::ServiceAccount)))
}

fn split(list: &str) -> HashSet<&str> {
    list.split(',')
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
        let lists = [
            (&self.only, official::ONLY_CONTAINERS),
            (&self.skip, official::SKIP_CONTAINERS),
        ];
        if lists.iter().all(|(list, _)| list.is_none()) {
            return;
        }
        let known: HashSet<&str> = containers.map(|container| &*container.name).collect();
        for (list, key) in lists {
            let Some(list) = list else { continue };
            let mut unknown: Vec<&str> = list.difference(&known).copied().collect();
            if !unknown.is_empty() {
                unknown.sort_unstable();
                let names = unknown.into_iter();
                warnings.push(Warning::names(Reason::UnknownContainer, key, names));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::configuration::Configuration;
    use crate::injection::seen::Seen;
    use rstest::rstest;

    fn settings(extra: &str) -> Settings {
        let text = format!(
            "accountId: '42'\noidcProviderArn: acs:ram::42:oidc-provider/ack-rrsa-c1\n\
             region: cn-hangzhou\n{extra}"
        );
        Settings::from(&Configuration::parse(&text).unwrap())
    }

    fn account(role_name: &str) -> ServiceAccountFacts {
        ServiceAccountFacts {
            role_name: Some(role_name.into()),
            ..Default::default()
        }
    }

    /// Resolves a pod with these annotations; the outcome and the warnings' codes.
    fn resolved<T>(
        account: &ServiceAccountFacts,
        annotations: &[(&str, &str)],
        look: impl FnOnce(Result<&Injection<'_>, Reason>) -> T,
    ) -> (T, Vec<Reason>) {
        let map: std::collections::BTreeMap<_, _> = annotations.iter().copied().collect();
        let json = serde_json::json!({"metadata": {"annotations": map}}).to_string();
        let pod: Pod<'_> = serde_json::from_str(&json).unwrap();
        let (settings, mut warnings) = (settings(""), Vec::new());
        let namespace = NamespaceFacts::default();
        let injection = resolve(
            &settings,
            &namespace,
            account,
            &Bindings::default(),
            &pod,
            &mut warnings,
        );
        let looked = look(injection.as_ref().map_err(|reason| *reason));
        (
            looked,
            warnings.into_iter().map(|warning| warning.reason).collect(),
        )
    }

    fn role_of(injection: Result<&Injection<'_>, Reason>) -> Result<String, Reason> {
        injection.map(|injection| injection.role.to_string())
    }

    #[rstest]
    #[case::zero("0", None)]
    #[case::negative("-1", None)]
    #[case::below("599", None)]
    #[case::least("600", Some(600))]
    #[case::most("43200", Some(43200))]
    #[case::above("43201", None)]
    #[case::unit("3600s", None)]
    #[case::hours("1h", None)]
    #[case::exponent("1e4", None)]
    #[case::blanks(" 3600 ", None)]
    #[case::plus("+3600", Some(3600))]
    #[case::leading_zero("03600", Some(3600))]
    #[case::hex("0x10", None)]
    #[case::fraction("3600.0", None)]
    #[case::underscore("3_600", None)]
    #[case::full_width("９９９９", None)]
    #[case::two_to_the_63("9223372036854775808", None)]
    #[case::empty("", None)]
    #[case::sign_alone("+", None)]
    fn expirations_are_spelt_as_go_parses_them(#[case] text: &str, #[case] seconds: Option<u64>) {
        let life = |injection: Result<&Injection<'_>, Reason>| injection.unwrap().expiration;
        let (life, warnings) =
            resolved(&account("app"), &[(official::TOKEN_EXPIRATION, text)], life);
        assert_eq!(life.as_secs(), seconds.unwrap_or(3600));
        let expected = if seconds.is_some() {
            vec![]
        } else {
            vec![Reason::ExpirationIllegal]
        };
        assert_eq!(warnings, expected);
    }

    #[test]
    fn ten_thousand_digits_are_an_illegal_expiration() {
        assert_eq!(parse_expiration(&"9".repeat(10_000)), None);
    }

    #[test]
    fn the_pods_expiration_wins_even_when_it_is_illegal() {
        let account = ServiceAccountFacts {
            token_expiration: Some("7200".into()),
            ..account("app")
        };
        let life =
            |injection: Result<&Injection<'_>, Reason>| injection.unwrap().expiration.as_secs();
        assert_eq!(resolved(&account, &[], life), (7200, vec![]));
        let (seconds, warnings) = resolved(&account, &[(official::TOKEN_EXPIRATION, "x")], life);
        assert_eq!((seconds, warnings), (3600, vec![Reason::ExpirationIllegal]));
    }

    #[rstest]
    #[case::empty("")]
    #[case::blank("my role")]
    #[case::path("team/app")]
    #[case::dots("..")]
    #[case::prefix("role/app")]
    #[case::arn("acs:ram::42:role/app")]
    #[case::aws("arn:aws:iam::1:role/app")]
    #[case::long(&"a".repeat(65))]
    #[case::newline("app\n")]
    #[case::expansion("$(X)")]
    #[case::template("{{x}}")]
    #[case::quotes("\"app\"")]
    #[case::emoji("🦀")]
    #[case::nul("a\0b")]
    fn illegal_role_names_inject_nothing_and_warn(#[case] name: &str) {
        let (role, warnings) = resolved(&account(name), &[], role_of);
        assert_eq!(role, Err(Reason::RoleNameIllegal));
        assert_eq!(warnings, [Reason::RoleNameIllegal]);
    }

    #[test]
    fn the_role_comes_from_the_first_that_names_one() {
        let by_name = account("App.1_x-Y");
        assert_eq!(
            resolved(&by_name, &[], role_of).0.unwrap(),
            "acs:ram::42:role/App.1_x-Y"
        );
        let other = "acs:ram::7:role/team/other";
        let by_arn = ServiceAccountFacts {
            role_arn: Some(other.into()),
            ..by_name
        };
        assert_eq!(resolved(&by_arn, &[], role_of).0.unwrap(), other);
        let own = "acs:ram::8:role/own";
        let with_own = [(annotations::ROLE_ARN, own)];
        assert_eq!(resolved(&by_arn, &with_own, role_of).0.unwrap(), own);
    }

    #[test]
    fn an_illegal_arn_never_falls_through_to_another_role() {
        let (role, warnings) =
            resolved(&account("app"), &[(annotations::ROLE_ARN, "app")], role_of);
        assert_eq!(
            (role, warnings),
            (Err(Reason::RoleArnIllegal), vec![Reason::RoleArnIllegal])
        );
    }

    #[test]
    fn modes_of_later_releases_are_refused() {
        let (role, warnings) = resolved(&account("app"), &[(annotations::MODE, "secret")], role_of);
        assert_eq!(
            (role, warnings),
            (Err(Reason::ModeUnsupported), vec![Reason::ModeUnsupported])
        );
        assert!(
            resolved(&account("app"), &[(annotations::MODE, "oidc")], role_of)
                .0
                .is_ok()
        );
    }

    #[rstest]
    #[case(None, None, false, 0)]
    #[case(Some("true"), None, true, 0)]
    #[case(Some("false"), Some("true"), false, 0)]
    #[case(None, Some("true"), true, 0)]
    #[case(Some("True"), Some("true"), true, 1)]
    #[case(Some("1"), None, false, 1)]
    #[case(Some("yes"), Some("True"), false, 2)]
    fn override_is_exact_and_the_pod_comes_first(
        #[case] pod: Option<&str>,
        #[case] namespace: Option<&str>,
        #[case] expected: bool,
        #[case] warned: usize,
    ) {
        let mut own = Annotations::default();
        if let Some(text) = pod {
            own.override_env = Seen::Value(text.into());
        }
        let facts = NamespaceFacts {
            override_env: namespace.map(Into::into),
            ..Default::default()
        };
        let mut warnings = Vec::new();
        assert_eq!(override_env(&own, &facts, &mut warnings), expected);
        assert_eq!(warnings.len(), warned);
    }

    #[rstest]
    #[case::absent(None, None, "a b")]
    #[case::only(Some("a"), None, "a")]
    #[case::blanks_and_empties(Some(" a ,,\n b ,"), None, "a b")]
    #[case::skip_wins(Some("a,b"), Some("b"), "a")]
    #[case::only_unknown(Some("c"), None, "")]
    #[case::empty(Some(""), None, "")]
    #[case::commas(Some(",,"), None, "")]
    #[case::no_wildcard(Some("*"), None, "")]
    #[case::no_quotes(Some("\"a\""), None, "")]
    #[case::semicolon(Some("a;b"), None, "")]
    #[case::case_counts(Some("A"), None, "")]
    #[case::skip_unknown(None, Some("c"), "a b")]
    fn lists_choose_containers(
        #[case] only: Option<&str>,
        #[case] skip: Option<&str>,
        #[case] chosen: &str,
    ) {
        let selection = Selection {
            only: only.map(split),
            skip: skip.map(split),
        };
        let names: Vec<_> = ["a", "b"]
            .into_iter()
            .filter(|name| selection.chooses(name))
            .collect();
        assert_eq!(names.join(" "), chosen);
    }

    #[rstest]
    #[case::namespace("{}", Some("on"), Ok(()))]
    #[case::near_miss("{}", Some("On"), Err(Reason::NotOptedIn))]
    #[case::nothing("{}", None, Err(Reason::NotOptedIn))]
    #[case::pod(r#"{"labels":{"pod-identity.alibabacloud.com/injection":"on"}}"#, None, Ok(()))]
    #[case::pod_off(r#"{"labels":{"pod-identity.alibabacloud.com/injection":"off"}}"#, Some("on"), Ok(()))]
    #[case::pod_true(
        r#"{"labels":{"pod-identity.alibabacloud.com/injection":"true"}}"#,
        None,
        Err(Reason::NotOptedIn)
    )]
    #[case::arn(r#"{"annotations":{"rrsa.io/role-arn":""}}"#, None, Ok(()))]
    #[case::out(
        r#"{"annotations":{"rrsa.io/inject":"off"}}"#,
        Some("on"),
        Err(Reason::OptedOut)
    )]
    #[case::not_out(r#"{"annotations":{"rrsa.io/inject":"Off"}}"#, Some("on"), Ok(()))]
    #[case::mirror(
        r#"{"annotations":{"kubernetes.io/config.mirror":"x"}}"#,
        Some("on"),
        Err(Reason::MirrorPod)
    )]
    fn opting_in_is_the_namespaces_or_the_pods(
        #[case] metadata: &str,
        #[case] label: Option<&str>,
        #[case] expected: Result<(), Reason>,
    ) {
        let json = format!(r#"{{"metadata":{metadata}}}"#);
        let pod: Pod<'_> = serde_json::from_str(&json).unwrap();
        let facts = NamespaceFacts {
            injection: label.map(Into::into),
            ..Default::default()
        };
        assert_eq!(opted_in(&pod, &facts), expected);
    }

    #[rstest]
    #[case::default("", None, 6)]
    #[case::off("webhook: {autoInjectStsEnvVars: false}", None, 3)]
    #[case::off_but_wanted("webhook: {autoInjectStsEnvVars: false}", Some("on"), 4)]
    #[case::off_and_nearly_wanted("webhook: {autoInjectStsEnvVars: false}", Some("true"), 3)]
    fn sts_variables_follow_switch_and_service_account(
        #[case] extra: &str,
        #[case] endpoint: Option<&str>,
        #[case] count: usize,
    ) {
        let account = ServiceAccountFacts {
            inject_sts_endpoint: endpoint.map(Into::into),
            ..account("app")
        };
        let (settings, pod) = (settings(extra), Pod::default());
        let role = "acs:ram::42:role/app".parse().unwrap();
        let variables = variables(&settings, &account, &pod, &role, None);
        let order: Vec<_> = variables.iter().map(|(variable, _)| *variable).collect();
        assert_eq!(order, Variable::ALL[..count]);
    }
}
