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
    let around = Surroundings {
        settings: &settings,
        namespace: "team-a",
        facts: &namespace,
        account,
        bindings: &Bindings::default(),
    };
    let injection = resolve(around, &pod, &mut warnings);
    let looked = look(injection.as_ref().map_err(|reason| *reason));
    (
        looked,
        warnings.into_iter().map(|warning| warning.reason).collect(),
    )
}

fn role_of(injection: Result<&Injection<'_>, Reason>) -> Result<String, Reason> {
    injection.map(|injection| injection.role.as_ref().unwrap().to_string())
}

fn life_of(injection: Result<&Injection<'_>, Reason>) -> u64 {
    match &injection.unwrap().volume {
        VolumeSource::Token(life) => life.as_secs(),
        VolumeSource::Secret(_) => panic!("no token"),
    }
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
    let (life, warnings) = resolved(
        &account("app"),
        &[(official::TOKEN_EXPIRATION, text)],
        life_of,
    );
    assert_eq!(life, seconds.unwrap_or(3600));
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
    assert_eq!(resolved(&account, &[], life_of), (7200, vec![]));
    let (seconds, warnings) = resolved(&account, &[(official::TOKEN_EXPIRATION, "x")], life_of);
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
    let (role, warnings) = resolved(&account("app"), &[(annotations::ROLE_ARN, "app")], role_of);
    assert_eq!(
        (role, warnings),
        (Err(Reason::RoleArnIllegal), vec![Reason::RoleArnIllegal])
    );
}

#[rstest]
#[case::oidc("oidc", None)]
#[case::other("vault", Some(Reason::ModeIllegal))]
#[case::upper("OIDC", Some(Reason::ModeIllegal))]
#[case::empty("", Some(Reason::ModeIllegal))]
#[case::without_a_binding("secret", Some(Reason::BindingMissing))]
#[case::without_an_agent("agent", Some(Reason::AgentAbsent))]
fn modes_are_exact_words(#[case] word: &str, #[case] refused: Option<Reason>) {
    let (role, warnings) = resolved(&account("app"), &[(annotations::MODE, word)], role_of);
    assert_eq!(role.err(), refused);
    assert_eq!(warnings, Vec::from_iter(refused));
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
#[case::upper("{}", Some("ON"), Err(Reason::NotOptedIn))]
#[case::enabled("{}", Some("enabled"), Err(Reason::NotOptedIn))]
#[case::empty("{}", Some(""), Err(Reason::NotOptedIn))]
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
#[case::on("on", true)]
#[case::capital("On", false)]
#[case::upper("ON", false)]
#[case::bool("true", false)]
#[case::enabled("enabled", false)]
#[case::off("off", false)]
#[case::empty("", false)]
fn a_label_of_the_pod_that_is_not_on_asks_for_nothing_and_is_warned_about(
    #[case] label: &str,
    #[case] asks: bool,
) {
    let labels = serde_json::json!({official::INJECTION: label});
    let json = serde_json::json!({"metadata": {"labels": labels}}).to_string();
    let pod: Pod<'_> = serde_json::from_str(&json).unwrap();
    let mut warnings = Vec::new();
    warn_of_near_misses(&pod, &mut warnings);
    let warned: Vec<_> = warnings.iter().map(|warning| warning.reason).collect();
    let (expected, warning) = if asks {
        (Ok(()), None)
    } else {
        (Err(Reason::NotOptedIn), Some(Reason::InjectionIllegal))
    };
    assert_eq!(opted_in(&pod, &NamespaceFacts::default()), expected);
    assert_eq!(warned, Vec::from_iter(warning));
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
    let around = Surroundings {
        settings: &settings,
        namespace: "team-a",
        facts: &NamespaceFacts::default(),
        account: &account,
        bindings: &Bindings::default(),
    };
    let role = "acs:ram::42:role/app".parse().unwrap();
    let variables = oidc(around, &pod, &role, None);
    let order: Vec<_> = variables.iter().map(|(variable, _)| *variable).collect();
    assert_eq!(order, Variable::ALL[..count]);
}
