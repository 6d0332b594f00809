use super::*;
use crate::api::v1alpha1::{AssumeStep, Role, StsSpec, TokenSource};
use rstest::rstest;

fn configuration() -> Configuration {
    Configuration::parse(
        "accountId: '1'\noidcProviderArn: acs:ram::1:oidc-provider/p\nregion: cn-hangzhou\n\
             sts: {allowedHosts: ['sts.example.com:8443']}\n\
             tokenFiles: {operator: /token}\n\
             delegation: [{namespaces: [team-a], roles: ['acs:ram::1:role/app']}]\n",
    )
    .unwrap()
}

fn binding(namespace: &str) -> AlibabaRoleBinding {
    let mut binding = AlibabaRoleBinding::new(
        "app",
        AlibabaRoleBindingSpec {
            role: Role {
                arn: None,
                name: Some("app".to_owned()),
            },
            service_account_name: Some("app".to_owned()),
            oidc_provider_arn: None,
            token_source: None,
            session: None,
            assume: Vec::new(),
            sts: None,
            fallback: None,
            secret: None,
            inject_pods: false,
            suspend: false,
        },
    );
    binding.metadata.namespace = Some(namespace.to_owned());
    binding
}

#[test]
fn the_smallest_spec_has_the_documented_defaults() {
    let wanted = resolve(&binding("team-a"), &configuration()).unwrap();
    assert_eq!(wanted.role_arn.as_str(), "acs:ram::1:role/app");
    assert_eq!(wanted.provider_arn.as_str(), "acs:ram::1:oidc-provider/p");
    assert_eq!(
        wanted.endpoint.to_string(),
        "sts-vpc.cn-hangzhou.aliyuncs.com"
    );
    assert_eq!(wanted.session_name, "team-a.app");
    assert_eq!(wanted.duration, Duration::from_hours(1));
    assert_eq!(wanted.secret_name, "app-credentials");
    assert_eq!(wanted.formats.len(), 4);
}

fn with_file(namespace: &str, file: &str) -> AlibabaRoleBinding {
    let mut binding = binding(namespace);
    binding.spec.token_source = Some(TokenSource {
        kind: TokenSourceType::File,
        file: Some(file.to_owned()),
    });
    binding
}

#[test]
fn the_operators_token_needs_a_delegation() {
    let configuration = configuration();
    assert_eq!(
        resolve(&with_file("team-a", "operator"), &configuration)
            .unwrap()
            .token,
        TokenFrom::File("operator".to_owned())
    );
    for (namespace, file) in [("team-b", "operator"), ("team-a", "other")] {
        let problem = resolve(&with_file(namespace, file), &configuration).unwrap_err();
        assert_eq!(problem.reason, Reason::NotDelegated, "{namespace} {file}");
    }
}

#[test]
fn the_operators_token_needs_one_entry_for_the_whole_chain() {
    let step = |arn: &str| AssumeStep {
        arn: arn.to_owned(),
        external_id: None,
        duration_seconds: None,
        policy: None,
    };
    let mut binding = with_file("team-a", "operator");
    binding.spec.assume = vec![step("acs:ram::1:role/elsewhere")];
    let problem = resolve(&binding, &configuration()).unwrap_err();
    assert_eq!(problem.reason, Reason::NotDelegated);
    assert!(
        problem.message.contains("role/elsewhere"),
        "{}",
        problem.message
    );
    binding.spec.assume = vec![step("acs:ram::1:role/app")];
    let wanted = resolve(&binding, &configuration()).unwrap();
    assert_eq!(wanted.chain.len(), 1);
    assert!(!wanted.usual);
}

#[test]
fn a_chain_is_an_input_and_a_word_of_the_administrator_is_none() {
    let mut binding = binding("team-a");
    let plain = resolve(&binding, &configuration()).unwrap();
    binding.spec.assume = vec![AssumeStep {
        arn: "acs:ram::1:role/b".to_owned(),
        external_id: Some("mine".to_owned()),
        duration_seconds: None,
        policy: None,
    }];
    let chained = resolve(&binding, &configuration()).unwrap();
    assert_ne!(plain.hash(None), chained.hash(None));
    assert_eq!(chained.last_role().as_str(), "acs:ram::1:role/b");
    // The hash stands on the Secret: whoever reads it could try out words until one fits.
    let mut secret_words = chained.clone();
    let mut others = chained.clone();
    secret_words.chain[0].external_id = Some(chain::ExternalId::Administrator("a".into()));
    others.chain[0].external_id = Some(chain::ExternalId::Administrator("b".into()));
    assert_eq!(secret_words.hash(None), others.hash(None));
    assert_ne!(secret_words.hash(None), chained.hash(None));
}

#[test]
fn a_delegated_session_is_named_by_the_operator() {
    let mut binding = with_file("team-a", "operator");
    binding.spec.session = Some(Session {
        name: Some("someone-else".to_owned()),
        ..Session::default()
    });
    assert_eq!(
        resolve(&binding, &configuration()).unwrap_err().reason,
        Reason::InvalidSpec
    );
}

fn of_region(region: &str) -> StsSpec {
    StsSpec {
        region: Some(region.into()),
        ..StsSpec::default()
    }
}

fn of_host(host: &str) -> StsSpec {
    StsSpec {
        endpoint: Some(host.into()),
        ..StsSpec::default()
    }
}

/// An administrator's slip must not become a call to another place, either.
#[rstest]
#[case::scheme("https://sts.example.com")]
#[case::path("sts.example.com/x")]
#[case::user("me@sts.example.com")]
#[case::ipv6("[fd00::1]:443")]
fn an_allowed_host_that_is_none_is_not_asked(#[case] host: &str) {
    let mut configuration = configuration();
    configuration.sts.allowed_hosts = vec![host.to_owned()];
    let mut binding = binding("team-a");
    binding.spec.sts = Some(of_host(host));
    let problem = resolve(&binding, &configuration).unwrap_err();
    assert_eq!(problem.reason, Reason::InvalidSpec);
}

#[rstest]
#[case::region(StsSpec { region: Some("eu-central-1".into()), network: Some(Network::Public), endpoint: None }, Some("sts.eu-central-1.aliyuncs.com"))]
#[case::unknown_region(StsSpec { region: Some("oss-x".into()), ..StsSpec::default() }, None)]
#[case::allowed(StsSpec { endpoint: Some("sts.example.com:8443".into()), ..StsSpec::default() }, Some("sts.example.com:8443"))]
#[case::other_port(StsSpec { endpoint: Some("sts.example.com".into()), ..StsSpec::default() }, None)]
#[case::finance(
    of_region("cn-hangzhou-finance"),
    Some("sts-vpc.cn-hangzhou.aliyuncs.com")
)]
#[case::no_region(of_region(""), None)]
#[case::region_that_ends_the_host(of_region("evil.com/"), None)]
#[case::region_with_a_port(of_region("cn-hangzhou:443"), None)]
#[case::scheme(of_host("https://sts.example.com:8443"), None)]
#[case::path(of_host("sts.example.com:8443/x"), None)]
#[case::user(of_host("me@sts.example.com:8443"), None)]
#[case::address(of_host("192.0.2.1"), None)]
#[case::metadata_service(of_host("100.100.100.200"), None)]
#[case::no_host(of_host(""), None)]
fn only_known_sts_hosts_are_asked(#[case] sts: StsSpec, #[case] host: Option<&str>) {
    let mut binding = binding("team-a");
    binding.spec.sts = Some(sts);
    let resolved = resolve(&binding, &configuration());
    assert_eq!(
        resolved.ok().map(|w| w.endpoint.to_string()).as_deref(),
        host
    );
}

#[test]
fn long_session_names_are_cut_and_stay_distinct() {
    let long = "n".repeat(63);
    let (a, b) = (session_name(&long, "app-a"), session_name(&long, "app-b"));
    assert_eq!(a.len(), 64);
    assert_ne!(a, b);
}

#[test]
fn only_what_sts_is_asked_for_tells_exchanges_apart() {
    let key = |change: fn(&mut Wanted)| {
        let mut wanted = resolve(&binding("team-a"), &configuration()).unwrap();
        change(&mut wanted);
        wanted.exchange_key(Some("1"))
    };
    let same = key(|_| {});
    for look in [
        |w: &mut Wanted| w.secret_name.push('x'),
        |w: &mut Wanted| w.formats.clear(),
        |w: &mut Wanted| w.template.extend([("a".to_owned(), "b".to_owned())]),
    ] {
        assert_eq!(key(look), same);
    }
    for asked in [
        |w: &mut Wanted| w.namespace.push('x'),
        |w: &mut Wanted| w.session_name.push('x'),
        |w: &mut Wanted| w.duration = Duration::from_mins(15),
        |w: &mut Wanted| w.policy = Some("{}".to_owned()),
        |w: &mut Wanted| w.token = TokenFrom::ServiceAccount("other".to_owned()),
        |w: &mut Wanted| w.role_arn = "acs:ram::1:role/other".parse().unwrap(),
        |w: &mut Wanted| w.provider_arn = "acs:ram::1:oidc-provider/q".parse().unwrap(),
        |w: &mut Wanted| w.endpoint = "sts.aliyuncs.com".parse().unwrap(),
    ] {
        assert_ne!(key(asked), same);
    }
    let wanted = resolve(&binding("team-a"), &configuration()).unwrap();
    assert_ne!(wanted.exchange_key(Some("2")), same);
}

#[test]
fn the_hash_changes_with_spec_and_service_account() {
    let wanted = resolve(&binding("team-a"), &configuration()).unwrap();
    let mut other = wanted.clone();
    other.session_name.push('x');
    assert_ne!(wanted.hash(Some("1")), other.hash(Some("1")));
    assert_ne!(wanted.hash(Some("1")), wanted.hash(Some("2")));
    assert_eq!(wanted.hash(Some("1")), wanted.clone().hash(Some("1")));
}
