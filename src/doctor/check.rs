//! Whether a stored pod has what the webhook would give it today. Pure.
//!
//! The question is put to the webhook's own rules: what it would still do to this pod is what the
//! pod lacks, and what it would warn of is what its author can mend.

use super::finding::{Note, Problem};
use super::keys::{self, almost_on, misplaced};
use super::listed::ListedPod;
use crate::contract::annotations::INJECTED_ROLE_ARN;
use crate::contract::annotations::official::{INJECTION, INJECTION_ON};
use crate::contract::arn::RoleArn;
use crate::injection::decision::{Reason, Warning};
use crate::injection::facts::NamespaceFacts;
use crate::injection::inject::{Target, inject};
use crate::injection::mode::{Mode, Mount};
use crate::injection::older_secret::older_secret;
use crate::injection::patch::VolumeSource;
use crate::injection::pod::{Container, Own, Place, Pod, Setting};
use crate::injection::resolve::{Injection, Surroundings, opted_in, resolve, warn_of_static_keys};
use crate::injection::variables::Variable;

/// What is wrong with the labels and annotations of a namespace.
#[must_use]
pub fn namespace<'a>(
    facts: &'a NamespaceFacts,
    never_served: bool,
    labels: impl Iterator<Item = &'a str> + 'a,
    annotations: impl Iterator<Item = &'a str> + 'a,
) -> Vec<Note> {
    let mut notes: Vec<Note> = misplaced(keys::Place::NamespaceLabel, labels)
        .chain(misplaced(keys::Place::NamespaceAnnotation, annotations))
        .collect();
    match facts.injection.as_deref() {
        Some(INJECTION_ON) if never_served => {
            let cause = "it is labelled for injection, but its pods are never sent to the webhook";
            let remedy =
                format!("run the pods in another namespace, and remove the label {INJECTION}");
            notes.push(Note::new(
                Problem::NamespaceNeverServed,
                cause.to_owned(),
                remedy,
            ));
        }
        Some(value) if almost_on(value) => notes.push(near_miss(value)),
        _ => {}
    }
    notes
}

fn near_miss(value: &str) -> Note {
    let value = value.escape_debug();
    let cause = format!("the label {INJECTION} is \"{value}\", and only \"{INJECTION_ON}\" counts");
    let remedy = format!("write \"{INJECTION_ON}\", then create the pods again");
    Note::new(Problem::NearMiss, cause, remedy)
}

/// What is wrong with a pod.
#[derive(Debug, Default)]
pub struct Checked {
    /// The gravest first.
    pub notes: Vec<Note>,
    /// Whether a binding could have given it a role or keys: then it is to be checked again with
    /// the bindings at hand.
    pub wants_bindings: bool,
}

impl Checked {
    /// Takes back what holds only if there is no binding.
    pub fn forget_missing_bindings(&mut self) {
        self.notes.retain(
            |note| !matches!(note.problem, Problem::Decision(reason) if reason.misses_a_binding()),
        );
    }
}

/// What is wrong with a pod.
#[must_use]
pub fn pod(
    around: Surroundings<'_>,
    account_exists: bool,
    pod: &Pod<'_>,
    listed: &ListedPod,
) -> Checked {
    let mut checked = Checked::default();
    if opted_in(pod, around.facts).is_ok() {
        if account_exists {
            asking(around, pod, listed, &mut checked);
        } else {
            let name = std::iter::once(pod.service_account());
            let warning = Warning::names(Reason::ServiceAccountMissing, "ServiceAccount", name);
            checked.notes.push(Note::from(&warning));
        }
    } else {
        // A word that clearly means "no" is no near miss where it has its way.
        let label = pod.injection_label().filter(|on| almost_on(on));
        checked.notes.extend(label.map(near_miss));
    }
    let metadata = &listed.metadata;
    let labels = metadata.labels.keys().map(String::as_str);
    let annotations = metadata.annotations.keys().map(String::as_str);
    checked
        .notes
        .extend(misplaced(keys::Place::PodLabel, labels));
    checked
        .notes
        .extend(misplaced(keys::Place::PodAnnotation, annotations));
    checked
}

/// What is wrong with a pod that asks for a role.
fn asking(around: Surroundings<'_>, pod: &Pod<'_>, listed: &ListedPod, checked: &mut Checked) {
    let mut warnings = Vec::new();
    warn_of_static_keys(pod, around.bindings, &mut warnings);
    checked.wants_bindings = pod.containers().any(|one| !one.env_secrets.is_empty());
    match resolve(around, pod, &mut warnings) {
        Ok(injection) => checked
            .notes
            .extend(lacks(pod, listed, &injection, &mut warnings)),
        Err(reason) => checked.wants_bindings |= reason.misses_a_binding(),
    }
    checked.notes.extend(warnings.iter().map(Note::from));
}

/// What a pod does not have of what it is to get.
fn lacks(
    pod: &Pod<'_>,
    listed: &ListedPod,
    injection: &Injection<'_>,
    warnings: &mut Vec<Warning>,
) -> Option<Note> {
    let named = injection.role.as_ref().map(RoleArn::as_str);
    if let Some(named) = named
        && let Some(old) = older_role(pod, listed, injection, named)
    {
        let cause = format!("it has the role {old}, but {named} is named now");
        return Some(Note::create_again(Problem::OlderRole, cause));
    }
    // Asked before the webhook's rules, which take the volume of a new pod for its author's own.
    if let VolumeSource::Secret(named) = injection.volume
        && let Some(old) = pod
            .spec
            .value()
            .and_then(|spec| older_secret(spec, injection))
    {
        let cause = format!("it has the files of Secret {old}, but Secret {named} is named now");
        return Some(Note::create_again(Problem::OlderSecret, cause));
    }
    let needed = needed(injection);
    let missing = inject(pod, &Target::NewPod, &needed, warnings).operations;
    if missing.is_empty() {
        return None;
    }
    let asked = named.map_or_else(
        || format!("credentials in mode \"{}\"", injection.mode.word()),
        |role| format!("the role {role}"),
    );
    let mount = injection.mode.mount();
    if containers(pod).any(|container| is_mounted(container, mount)) {
        let cause = format!("it asks for {asked}, and has only a part of what that takes");
        return Some(Note::create_again(Problem::PartlyInjected, cause));
    }
    let cause = format!(
        "it asks for {asked} and has nothing of it: it was created before that was said, or while \
         no webhook answered"
    );
    Some(Note::create_again(Problem::NotInjected, cause))
}

/// The part of an injection without which the pod has no identity, or another. The rest is for
/// convenience: a change of the administrator's settings adds it to all later pods.
fn needed<'a>(injection: &Injection<'a>) -> Injection<'a> {
    let mode = injection.mode;
    // In the other modes the node's role would win.
    let closes = |variable| mode != Mode::Oidc && variable == Variable::EcsMetadataDisabled;
    let mut needed = injection.clone();
    let variables = &mut needed.variables;
    variables.retain(|(variable, _)| mode.is_identity(*variable) || closes(*variable));
    needed
}

/// The role that was injected, where it is not the one that is named now.
fn older_role<'p>(
    pod: &'p Pod<'_>,
    listed: &'p ListedPod,
    injection: &Injection<'_>,
    named: &str,
) -> Option<&'p str> {
    let old = match injection.mode {
        Mode::Agent => listed.metadata.annotations.get(INJECTED_ROLE_ARN)?.as_str(),
        Mode::Oidc | Mode::Secret => {
            let mount = injection.mode.mount();
            containers(pod)
                .filter(|container| injection.selection.chooses(&container.name))
                .filter(|container| is_mounted(container, mount))
                .filter_map(|container| role_of(container, injection.override_env))
                .find(|role| *role != named)?
        }
    };
    (old != named).then_some(old)
}

/// The role that the webhook gave a container.
fn role_of<'p>(container: &'p Container<'_>, override_env: bool) -> Option<&'p str> {
    let settings = &container.env.value()?.0;
    let at = settings
        .iter()
        .rposition(|setting| setting.variable == Variable::RoleArn)?;
    let Own::Text(role) = &settings[at].value else {
        return None;
    };
    // The webhook writes role, provider and token file in a row; a role that stands elsewhere is
    // the author's own and meant.
    (override_env || in_a_row(&settings[at..])).then_some(role)
}

fn in_a_row(settings: &[Setting<'_>]) -> bool {
    let row = [
        Variable::RoleArn,
        Variable::OidcProviderArn,
        Variable::OidcTokenFile,
    ];
    settings.len() >= row.len()
        && settings
            .iter()
            .zip(row)
            .enumerate()
            .all(|(n, (setting, variable))| {
                setting.variable == variable && setting.index == settings[0].index + n
            })
}

/// Whether our volume is mounted in the container.
fn is_mounted(container: &Container<'_>, ours: Mount) -> bool {
    let mounts = container.mounts.value();
    mounts.is_some_and(|mounts| {
        mounts.0.iter().any(|mount| {
            mount.volume == ours.volume && Place::of(&mount.path, ours.path) == Place::Same
        })
    })
}

fn containers<'p>(pod: &'p Pod<'_>) -> impl Iterator<Item = &'p Container<'p>> {
    let spec = pod.spec.value();
    let lists = spec.map(|spec| [&spec.init_containers, &spec.containers]);
    lists
        .into_iter()
        .flatten()
        .filter_map(|list| list.value())
        .flat_map(|list| &list.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::configuration::Configuration;
    use crate::contract::token_volume;
    use crate::injection::bindings::{BindingFacts, BindingView, Bindings};
    use crate::injection::facts::ServiceAccountFacts;
    use crate::injection::settings::Settings;
    use rstest::rstest;
    use serde_json::{Value, json};

    const ROLE: &str = "acs:ram::42:role/app";
    const PROVIDER: &str = "acs:ram::42:oidc-provider/p";

    fn settings(webhook: &str) -> Settings {
        let text = format!(
            "accountId: '42'\noidcProviderArn: {PROVIDER}\nregion: cn-hangzhou\n\
             webhook: {{{webhook}}}\n"
        );
        Settings::from(&Configuration::parse(&text).unwrap())
    }

    fn account(role: Option<&str>) -> ServiceAccountFacts {
        ServiceAccountFacts {
            role_name: role.map(Into::into),
            ..ServiceAccountFacts::default()
        }
    }

    fn on() -> NamespaceFacts {
        NamespaceFacts {
            injection: Some(INJECTION_ON.into()),
            ..NamespaceFacts::default()
        }
    }

    fn variables(role: &str) -> Value {
        json!([
            {"name": "A", "value": "1"},
            {"name": "ALIBABA_CLOUD_ROLE_ARN", "value": role},
            {"name": "ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "value": PROVIDER},
            {"name": "ALIBABA_CLOUD_OIDC_TOKEN_FILE", "value": token_volume::TOKEN_FILE},
        ])
    }

    fn container(name: &str, env: &Value) -> Value {
        json!({"name": name, "env": env, "volumeMounts": [
            {"name": token_volume::NAME, "mountPath": token_volume::MOUNT_PATH}]})
    }

    /// A pod with these containers and the volume.
    fn injected(containers: &Value) -> Value {
        json!({"metadata": {"name": "p", "namespace": "a"}, "spec": {
            "containers": containers,
            "volumes": [{"name": token_volume::NAME, "projected": {"sources": [
                {"serviceAccountToken": {"audience": "sts.aliyuncs.com", "path": "token"}}]}}]}})
    }

    fn bare() -> Value {
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "app"}]}})
    }

    fn check(
        namespace: &NamespaceFacts,
        account: Option<&ServiceAccountFacts>,
        bindings: &Bindings,
        pod: &Value,
    ) -> Checked {
        let settings = settings("autoInjectStsEnvVars: false");
        check_by(&settings, namespace, account, bindings, pod)
    }

    fn check_by(
        settings: &Settings,
        namespace: &NamespaceFacts,
        account: Option<&ServiceAccountFacts>,
        bindings: &Bindings,
        pod: &Value,
    ) -> Checked {
        let text = pod.to_string();
        let none = ServiceAccountFacts::default();
        let around = Surroundings {
            settings,
            namespace: "a",
            facts: namespace,
            account: account.unwrap_or(&none),
            bindings,
        };
        super::pod(
            around,
            account.is_some(),
            &serde_json::from_str(&text).unwrap(),
            &serde_json::from_str(&text).unwrap(),
        )
    }

    fn problems(namespace: &NamespaceFacts, role: Option<&str>, pod: &Value) -> Vec<Problem> {
        let checked = check(namespace, Some(&account(role)), &Bindings::default(), pod);
        checked.notes.iter().map(|note| note.problem).collect()
    }

    #[rstest]
    #[case::as_it_should_be(injected(&json!([container("app", &variables(ROLE))])), &[])]
    #[case::bare(bare(), &[Problem::NotInjected])]
    #[case::a_sidecar_came_later(
        injected(&json!([container("app", &variables(ROLE)), {"name": "proxy"}])),
        &[Problem::PartlyInjected]
    )]
    #[case::older_role(
        injected(&json!([container("app", &variables("acs:ram::42:role/old"))])),
        &[Problem::OlderRole]
    )]
    #[case::own_role_before(
        injected(&json!([container("app", &json!([
            {"name": "ALIBABA_CLOUD_ROLE_ARN", "value": "acs:ram::1:role/own"},
            {"name": "B", "value": "2"},
            {"name": "ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "value": PROVIDER},
            {"name": "ALIBABA_CLOUD_OIDC_TOKEN_FILE", "value": token_volume::TOKEN_FILE}]))])),
        &[]
    )]
    fn a_pod_that_asks_must_have_what_is_named_now(
        #[case] pod: Value,
        #[case] expected: &[Problem],
    ) {
        assert_eq!(problems(&on(), Some("app"), &pod), expected);
    }

    /// A binding of the ServiceAccount `default`.
    fn binding(inject_pods: bool) -> Bindings {
        let view: BindingView = serde_json::from_value(json!({
            "metadata": {"name": "b"},
            "spec": {"role": {"arn": ROLE}, "serviceAccountName": "default",
                "injectPods": inject_pods},
        }))
        .unwrap();
        [BindingFacts::from(view)].into_iter().collect()
    }

    #[rstest]
    #[case::sts_variables("autoInjectStsEnvVars: true")]
    #[case::metadata("autoInjectStsEnvVars: true, disableMetadata: true")]
    fn a_pod_with_its_identity_lacks_nothing_whatever_else_is_injected_now(#[case] webhook: &str) {
        let settings = settings(webhook);
        let (account, none) = (account(Some("app")), Bindings::default());
        let problems = |pod: &Value| -> Vec<Problem> {
            let checked = check_by(&settings, &on(), Some(&account), &none, pod);
            checked.notes.iter().map(|note| note.problem).collect()
        };
        let pod = injected(&json!([container("app", &variables(ROLE))]));
        assert_eq!(problems(&pod), []);
        // Each part of the identity counts.
        for part in 1..4 {
            let mut pod = pod.clone();
            let env = &mut pod["spec"]["containers"][0]["env"];
            env.as_array_mut().unwrap().remove(part);
            assert_eq!(problems(&pod)[0], Problem::PartlyInjected, "{part}");
        }
        let mut unmounted = pod;
        unmounted["spec"]["containers"][0]["volumeMounts"] = json!([]);
        assert_eq!(problems(&unmounted), [Problem::NotInjected]);
    }

    /// A pod in mode `secret` that was injected with this Secret.
    fn with_files_of(secret: &str) -> Value {
        let path = "/var/run/secrets/rrsa.io/credentials";
        json!({"metadata": {"name": "p", "namespace": "a"}, "spec": {
            "containers": [{"name": "app",
                "env": [
                    {"name": "ALIBABA_CLOUD_CREDENTIALS_FILE", "value": format!("{path}/credentials.ini")},
                    {"name": "ALIBABA_CLOUD_CONFIG_FILE", "value": format!("{path}/config.json")},
                    {"name": "ALIBABA_CLOUD_ECS_METADATA_DISABLED", "value": "true"}],
                "volumeMounts": [{"name": "rrsa-credentials", "mountPath": path}]}],
            "volumes": [{"name": "rrsa-credentials",
                "secret": {"secretName": secret, "defaultMode": 420}}]}})
    }

    fn found_in_mode_secret(pod: &Value) -> Vec<Note> {
        let settings = settings("autoInjectStsEnvVars: true");
        let account = ServiceAccountFacts {
            mode: Some("secret".into()),
            ..account(None)
        };
        check_by(&settings, &on(), Some(&account), &binding(false), pod).notes
    }

    fn problems_in_mode_secret(pod: &Value) -> Vec<Problem> {
        let notes = found_in_mode_secret(pod);
        notes.iter().map(|note| note.problem).collect()
    }

    #[test]
    fn in_mode_secret_the_way_to_the_nodes_role_must_be_closed() {
        let mut pod = with_files_of("b-credentials");
        assert_eq!(problems_in_mode_secret(&pod), []);
        let env = &mut pod["spec"]["containers"][0]["env"];
        env.as_array_mut().unwrap().remove(2);
        assert_eq!(problems_in_mode_secret(&pod), [Problem::PartlyInjected]);
    }

    #[test]
    fn files_of_an_earlier_secret_need_a_new_pod() {
        let [note] = &found_in_mode_secret(&with_files_of("old"))[..] else {
            panic!("one finding");
        };
        assert_eq!(note.problem, Problem::OlderSecret);
        assert_eq!(note.remedy, None, "create it again");
        for name in ["old", "b-credentials"] {
            assert!(note.cause.contains(name), "{}", note.cause);
        }
    }

    #[rstest]
    #[case::part_of_a_secret(
        "/spec/volumes/0/secret",
        json!({"secretName": "old", "items": [{"key": "a", "path": "a"}]})
    )]
    #[case::another_source("/spec/volumes/0", json!({"name": "rrsa-credentials", "emptyDir": {}}))]
    #[case::mounted_elsewhere("/spec/containers/0/volumeMounts/0/mountPath", json!("/own"))]
    #[case::without_variables("/spec/containers/0/env", json!([]))]
    fn a_volume_of_the_authors_own_is_to_be_renamed(#[case] place: &str, #[case] own: Value) {
        let mut pod = with_files_of("old");
        *pod.pointer_mut(place).unwrap() = own;
        let expected = [Problem::Decision(Reason::VolumeNameTaken)];
        assert_eq!(problems_in_mode_secret(&pod), expected);
    }

    #[test]
    fn keys_from_a_secret_of_a_binding_are_told() {
        let mut app = container("app", &variables(ROLE));
        app["envFrom"] = json!([{"secretRef": {"name": "b-credentials"}}]);
        let pod = injected(&json!([app]));
        let account = account(Some("app"));
        let without = check(&on(), Some(&account), &Bindings::default(), &pod);
        assert!(without.wants_bindings && without.notes.is_empty());
        let with = check(&on(), Some(&account), &binding(false), &pod);
        assert_eq!(
            with.notes[0].problem,
            Problem::Decision(Reason::StaticKeys),
            "{:?}",
            with.notes
        );
        // Nobody who does not ask is asked about.
        let quiet = check(
            &NamespaceFacts::default(),
            Some(&account),
            &binding(false),
            &pod,
        );
        assert!(!quiet.wants_bindings && quiet.notes.is_empty());
    }

    #[test]
    fn who_may_not_see_bindings_does_not_miss_one() {
        let mut pod = bare();
        pod["metadata"]["labels"] = json!({INJECTION: "on"});
        pod["metadata"]["annotations"] = json!({"rrsa.io/inject": "no"});
        let none = Bindings::default();
        let mut checked = check(&on(), Some(&account(None)), &none, &pod);
        assert!(checked.wants_bindings);
        checked.forget_missing_bindings();
        let left: Vec<_> = checked.notes.iter().map(|note| note.problem).collect();
        assert_eq!(left, [Problem::Decision(Reason::OptOutIllegal)]);
    }

    #[test]
    fn who_does_not_ask_lacks_nothing_and_who_almost_asks_is_told() {
        let namespace = NamespaceFacts::default();
        assert_eq!(problems(&namespace, Some("app"), &bare()), []);
        for (value, expected) in [("ON", &[Problem::NearMiss][..]), ("off", &[])] {
            let mut pod = bare();
            pod["metadata"]["labels"] = json!({INJECTION: value});
            assert_eq!(problems(&namespace, Some("app"), &pod), expected, "{value}");
        }
    }

    #[test]
    fn keys_in_wrong_places_are_told_of_any_pod() {
        let mut pod = bare();
        pod["metadata"]["annotations"] = json!({INJECTION: "on"});
        let found = problems(&NamespaceFacts::default(), Some("app"), &pod);
        assert_eq!(found, [Problem::MisplacedKey]);
    }

    #[test]
    fn what_the_webhook_would_warn_of_is_told() {
        let illegal = problems(&on(), Some("not a name"), &bare());
        assert_eq!(illegal, [Problem::Decision(Reason::RoleNameIllegal)]);
        // A pod without a role in a namespace that asks is normal; one that asks itself is not.
        assert_eq!(problems(&on(), None, &bare()), []);
        let mut pod = bare();
        pod["metadata"]["labels"] = json!({INJECTION: "on"});
        assert_eq!(
            problems(&on(), None, &pod),
            [Problem::Decision(Reason::NoRole)]
        );
        let missing = check(&on(), None, &Bindings::default(), &bare());
        assert_eq!(
            missing.notes[0].problem,
            Problem::Decision(Reason::ServiceAccountMissing)
        );
    }

    #[test]
    fn a_role_of_a_binding_is_asked_for_and_counts() {
        let without = check(&on(), Some(&account(None)), &Bindings::default(), &bare());
        assert!(without.wants_bindings && without.notes.is_empty());
        let with = check(&on(), Some(&account(None)), &binding(true), &bare());
        assert_eq!(with.notes[0].problem, Problem::NotInjected);
        assert!(with.notes[0].cause.contains(ROLE), "{:?}", with.notes);
    }

    #[rstest]
    #[case::on("on", false, &[])]
    #[case::off("off", false, &[])]
    #[case::near("Enabled", false, &[Problem::NearMiss])]
    #[case::never_served("on", true, &[Problem::NamespaceNeverServed])]
    fn the_label_of_a_namespace_is_judged(
        #[case] value: &str,
        #[case] never_served: bool,
        #[case] expected: &[Problem],
    ) {
        let facts = NamespaceFacts {
            injection: Some(value.into()),
            ..NamespaceFacts::default()
        };
        let labels = std::iter::once(INJECTION);
        let notes = namespace(&facts, never_served, labels, std::iter::empty());
        let problems: Vec<_> = notes.iter().map(|note| note.problem).collect();
        assert_eq!(problems, expected);
    }
}
