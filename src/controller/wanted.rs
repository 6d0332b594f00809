//! What a binding asks for, completed and checked: the one conversion from the spec that everything
//! after it trusts. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::delegation;
use super::reason::{Problem, Reason};
use crate::api::configuration::Configuration;
use crate::api::v1alpha1::{
    AlibabaRoleBinding, AlibabaRoleBindingSpec, DeletionPolicy, Format, Network, SecretSpec,
    Session, TokenSourceType, default_secret_name, shortened,
};
use crate::contract::arn::{ProviderArn, RoleArn};
use crate::contract::sts_hosts;
use crate::sts::{AssumeRoleWithOidc, Endpoint};

/// A spec with every default filled in and every name checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Namespace of the binding and all that belongs to it.
    pub namespace: String,
    /// The role.
    pub role_arn: RoleArn,
    /// The provider that vouches for the token.
    pub provider_arn: ProviderArn,
    /// Where the token comes from.
    pub token: TokenFrom,
    /// The STS host.
    pub endpoint: Endpoint,
    /// The region that templates and the CLI profile name.
    pub region: String,
    /// Name of the session.
    pub session_name: String,
    /// Life of the session.
    pub duration: Duration,
    /// Session policy.
    pub policy: Option<String>,
    /// Name of the Secret.
    pub secret_name: String,
    /// Shapes of the credentials in it.
    pub formats: BTreeSet<Format>,
    /// Further keys.
    pub template: BTreeMap<String, String>,
    /// Labels of the Secret.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the Secret.
    pub annotations: BTreeMap<String, String>,
}

/// Where the exchanged token comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenFrom {
    /// A `TokenRequest` for this `ServiceAccount`.
    ServiceAccount(String),
    /// The operator's own token of this name.
    File(String),
}

/// Completes and checks the spec.
///
/// # Errors
/// A [`Problem`] that names the field.
pub fn resolve(
    binding: &AlibabaRoleBinding,
    configuration: &Configuration,
) -> Result<Wanted, Problem> {
    let spec = &binding.spec;
    refuse_unsupported(spec)?;
    let namespace = binding.metadata.namespace.clone().unwrap_or_default();
    let name = binding.metadata.name.clone().unwrap_or_default();
    let role_arn = role_arn(spec, configuration)?;
    let token = token_from(spec, configuration, &namespace, &role_arn)?;
    let delegated = matches!(token, TokenFrom::File(_));
    let session = spec.session.clone().unwrap_or_default();
    if delegated && session.name.is_some() {
        return Err(Problem::new(
            Reason::InvalidSpec,
            "spec.session.name: with tokenSource type File the operator names the session, so that ActionTrail shows who used its identity",
        ));
    }
    let (endpoint, region) = endpoint(spec, configuration)?;
    let secret = spec.secret.clone().unwrap_or_default();
    Ok(Wanted {
        role_arn,
        provider_arn: provider_arn(spec, configuration)?,
        token,
        endpoint,
        region,
        session_name: session
            .name
            .clone()
            .unwrap_or_else(|| session_name(&namespace, &name)),
        duration: session.duration(),
        policy: checked_policy(&session)?,
        secret_name: secret
            .name
            .clone()
            .unwrap_or_else(|| default_secret_name(&name)),
        formats: formats(&secret),
        template: secret.template,
        labels: secret.labels,
        annotations: secret.annotations,
        namespace,
    })
}

impl Wanted {
    /// The names of the keys that the Secret will have.
    #[must_use]
    pub fn keys(&self) -> BTreeSet<&str> {
        let formats = self
            .formats
            .iter()
            .flat_map(|format| super::content::keys_of(*format));
        formats
            .copied()
            .chain(self.template.keys().map(String::as_str))
            .collect()
    }

    /// SHA-256 (hex) of everything that the credentials and the content are made from; with it on
    /// the Secret, a restart knows without asking anybody that nothing changed.
    #[must_use]
    pub fn hash(&self, service_account_uid: Option<&str>) -> String {
        let (token_kind, token_name) = match &self.token {
            TokenFrom::ServiceAccount(name) => ("ServiceAccount", name),
            TokenFrom::File(name) => ("File", name),
        };
        // Written out by name, so that renaming a field of this struct in a later release does not
        // renew every credential of every cluster at once.
        let inputs = serde_json::json!({
            "version": 1,
            "role": self.role_arn.as_str(),
            "provider": self.provider_arn.as_str(),
            "token": [token_kind, token_name, service_account_uid],
            "endpoint": self.endpoint.to_string(),
            "region": self.region,
            "session": [self.session_name, self.duration.as_secs(), self.policy],
            "secret": self.secret_name,
            "formats": self.formats,
            "template": self.template,
            "labels": self.labels,
            "annotations": self.annotations,
        });
        hex(&Sha256::digest(inputs.to_string().as_bytes()))
    }

    /// How many calls of STS an exchange makes.
    #[must_use]
    pub const fn calls(&self) -> u32 {
        1
    }

    /// Names what STS is asked for: two bindings with the same key may have one answer. Everything
    /// of [`hash`](Self::hash) counts but how the Secret looks, and the namespace always does.
    #[must_use]
    pub fn exchange_key(&self, service_account_uid: Option<&str>) -> [u8; 16] {
        let asked = Self {
            secret_name: String::new(),
            formats: BTreeSet::new(),
            template: BTreeMap::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            ..self.clone()
        };
        let text = format!("{}/{}", self.namespace, asked.hash(service_account_uid));
        let digest = Sha256::digest(text.as_bytes());
        let mut key = [0; 16];
        key.copy_from_slice(&digest[..16]);
        key
    }
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn refuse_unsupported(spec: &AlibabaRoleBindingSpec) -> Result<(), Problem> {
    let retain = spec
        .secret
        .as_ref()
        .is_some_and(|secret| secret.deletion_policy == Some(DeletionPolicy::Retain));
    let field = if !spec.assume.is_empty() {
        "spec.assume"
    } else if spec.fallback.is_some() {
        "spec.fallback"
    } else if spec.inject_pods {
        "spec.injectPods"
    } else if retain {
        "spec.secret.deletionPolicy: Retain"
    } else {
        return Ok(());
    };
    Err(Problem::new(
        Reason::Unsupported,
        format!(
            "{field} is not supported by rrsa {}",
            env!("CARGO_PKG_VERSION")
        ),
    ))
}

fn invalid(field: &str, problem: impl std::fmt::Display) -> Problem {
    Problem::new(Reason::InvalidSpec, format!("{field}: {problem}"))
}

fn role_arn(
    spec: &AlibabaRoleBindingSpec,
    configuration: &Configuration,
) -> Result<RoleArn, Problem> {
    match (&spec.role.arn, &spec.role.name) {
        (Some(arn), None) => arn.parse().map_err(|error| invalid("spec.role.arn", error)),
        (None, Some(name)) => RoleArn::of(&configuration.account_id, name)
            .map_err(|error| invalid("spec.role.name", error)),
        _ => Err(invalid("spec.role", "give exactly one of arn and name")),
    }
}

fn provider_arn(
    spec: &AlibabaRoleBindingSpec,
    configuration: &Configuration,
) -> Result<ProviderArn, Problem> {
    spec.oidc_provider_arn.as_ref().map_or_else(
        || Ok(configuration.oidc_provider_arn.clone()),
        |arn| {
            arn.parse()
                .map_err(|error| invalid("spec.oidcProviderArn", error))
        },
    )
}

fn token_from(
    spec: &AlibabaRoleBindingSpec,
    configuration: &Configuration,
    namespace: &str,
    role: &RoleArn,
) -> Result<TokenFrom, Problem> {
    let source = spec.token_source.as_ref();
    if source.is_none_or(|source| source.kind == TokenSourceType::ServiceAccount) {
        return spec
            .service_account_name
            .clone()
            .map(TokenFrom::ServiceAccount)
            .ok_or_else(|| invalid("spec.serviceAccountName", "is required"));
    }
    let file = source
        .and_then(|source| source.file.clone())
        .ok_or_else(|| invalid("spec.tokenSource.file", "is required with type File"))?;
    // One answer for an unknown name and for a missing permission: the names of the operator's
    // files are nobody else's business.
    let allowed = configuration.token_files.contains_key(&file)
        && delegation::permission(&configuration.delegation, namespace, &[role]).is_some();
    if !allowed {
        return Err(Problem::new(
            Reason::NotDelegated,
            format!(
                "the operator's token file {file:?} is not delegated to namespace {namespace} for {role}"
            ),
        ));
    }
    Ok(TokenFrom::File(file))
}

/// The STS host, and the region that stands for it.
fn endpoint(
    spec: &AlibabaRoleBindingSpec,
    configuration: &Configuration,
) -> Result<(Endpoint, String), Problem> {
    let sts = spec.sts.clone().unwrap_or_default();
    let parse = |field: &str, host: &str| {
        host.parse::<Endpoint>()
            .map_err(|error| invalid(field, error))
    };
    if let Some(host) = &sts.endpoint {
        if !configuration.sts.allowed_hosts.contains(host) {
            return Err(invalid(
                "spec.sts.endpoint",
                format!(
                    "{host:?} is not among the STS hosts that the operator's configuration allows (sts.allowedHosts)"
                ),
            ));
        }
        return Ok((
            parse("spec.sts.endpoint", host)?,
            configuration.region.clone(),
        ));
    }
    if sts.region.is_none()
        && sts.network.is_none()
        && let Some(host) = &configuration.sts.endpoint
    {
        return Ok((
            parse("sts.endpoint of the configuration", host)?,
            configuration.region.clone(),
        ));
    }
    let region = sts.region.unwrap_or_else(|| configuration.region.clone());
    if !sts_hosts::is_known(&region, &configuration.sts.extra_regions) {
        return Err(invalid(
            "spec.sts.region",
            format!("{region:?} is not a region with STS"),
        ));
    }
    let vpc = sts.network.unwrap_or(configuration.network) == Network::Vpc;
    Ok((
        parse("spec.sts.region", &sts_hosts::regional(&region, vpc))?,
        region,
    ))
}

fn checked_policy(session: &Session) -> Result<Option<String>, Problem> {
    if let Some(policy) = &session.policy
        && let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(policy)
    {
        return Err(invalid(
            "spec.session.policy",
            format!("is no JSON: {error}"),
        ));
    }
    let duration = session.duration();
    if !(AssumeRoleWithOidc::MIN_DURATION..=AssumeRoleWithOidc::MAX_DURATION).contains(&duration) {
        return Err(invalid(
            "spec.session.durationSeconds",
            "must be 900 to 43200",
        ));
    }
    Ok(session.policy.clone())
}

fn formats(secret: &SecretSpec) -> BTreeSet<Format> {
    let mut formats: BTreeSet<_> = secret
        .formats
        .as_deref()
        .unwrap_or(&Format::ALL)
        .iter()
        .copied()
        .collect();
    // The CLI profile reads credentials.json, so it is nothing without it.
    if formats.contains(&Format::Cli) {
        formats.insert(Format::Json);
    }
    formats
}

/// Longest session name of STS.
const MAX_SESSION_NAME: usize = 64;

/// `<namespace>.<name>` in STS's alphabet.
fn session_name(namespace: &str, name: &str) -> String {
    // Names of Kubernetes objects hold nothing that STS forbids.
    shortened(&format!("{namespace}.{name}"), MAX_SESSION_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::{AssumeStep, Fallback, FallbackType, Role, StsSpec, TokenSource};
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

    #[rstest]
    #[case::assume(|b: &mut AlibabaRoleBinding| b.spec.assume.push(AssumeStep { arn: "acs:ram::1:role/b".into(), external_id: None, duration_seconds: None, policy: None }), "spec.assume")]
    #[case::fallback(|b: &mut AlibabaRoleBinding| b.spec.fallback = Some(Fallback { kind: FallbackType::EcsMetadata }), "spec.fallback")]
    #[case::inject(|b: &mut AlibabaRoleBinding| b.spec.inject_pods = true, "spec.injectPods")]
    #[case::retain(|b: &mut AlibabaRoleBinding| b.spec.secret = Some(SecretSpec { deletion_policy: Some(DeletionPolicy::Retain), ..SecretSpec::default() }), "Retain")]
    fn what_does_not_exist_yet_is_refused_by_name(
        #[case] change: fn(&mut AlibabaRoleBinding),
        #[case] field: &str,
    ) {
        let mut binding = binding("team-a");
        change(&mut binding);
        let problem = resolve(&binding, &configuration()).unwrap_err();
        assert_eq!(problem.reason, Reason::Unsupported);
        assert!(problem.message.contains(field), "{}", problem.message);
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

    #[rstest]
    #[case::region(StsSpec { region: Some("eu-central-1".into()), network: Some(Network::Public), endpoint: None }, Some("sts.eu-central-1.aliyuncs.com"))]
    #[case::unknown_region(StsSpec { region: Some("oss-x".into()), ..StsSpec::default() }, None)]
    #[case::allowed(StsSpec { endpoint: Some("sts.example.com:8443".into()), ..StsSpec::default() }, Some("sts.example.com:8443"))]
    #[case::other_port(StsSpec { endpoint: Some("sts.example.com".into()), ..StsSpec::default() }, None)]
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
}
