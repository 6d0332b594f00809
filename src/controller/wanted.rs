//! What a binding asks for, completed and checked: the one conversion from the spec that everything
//! after it trusts. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::chain::{self, Step};
use super::delegation;
use super::fallback::{self, Fallback};
use super::keys;
use super::reason::{Problem, Reason};
use crate::api::configuration::{Configuration, Delegation};
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
    /// Its name where the author does not choose it.
    pub default_session_name: String,
    /// Life of the session.
    pub duration: Duration,
    /// Session policy.
    pub policy: Option<String>,
    /// Further roles, each assumed with the session of the one before.
    pub chain: Vec<Step>,
    /// Whether the node's role may stand in where no token can be exchanged.
    pub fallback: Fallback,
    /// Whether provider and STS host are the operator's and the token is the `ServiceAccount`'s, so
    /// that the outcome tells something about OIDC in this cluster.
    pub usual: bool,
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
    /// What becomes of the Secret when the binding goes.
    pub deletion_policy: DeletionPolicy,
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
    let namespace = binding.metadata.namespace.clone().unwrap_or_default();
    let name = binding.metadata.name.clone().unwrap_or_default();
    let role_arn = role_arn(spec, configuration)?;
    let further = chain::roles(&spec.assume)?;
    let roles: Vec<&RoleArn> = std::iter::once(&role_arn).chain(&further).collect();
    let (token, delegation) = token_from(spec, configuration, &namespace, &roles)?;
    let delegated = delegation.is_some();
    let fallback = fallback::of(spec, configuration, &namespace, &roles, delegated);
    let session = spec.session.clone().unwrap_or_default();
    if delegated && session.name.is_some() {
        return Err(Problem::new(
            Reason::InvalidSpec,
            "spec.session.name: with tokenSource type File the operator names the session, so that ActionTrail shows who used its identity",
        ));
    }
    let (endpoint, region) = endpoint(spec, configuration)?;
    let secret = spec.secret.clone().unwrap_or_default();
    keys::check(&secret)?;
    Ok(Wanted {
        chain: chain::steps(&spec.assume, further, delegation)?,
        fallback,
        usual: spec.oidc_provider_arn.is_none() && spec.sts.is_none() && !delegated,
        role_arn,
        provider_arn: provider_arn(spec, configuration)?,
        token,
        endpoint,
        region,
        session_name: session
            .name
            .clone()
            .unwrap_or_else(|| session_name(&namespace, &name)),
        default_session_name: session_name(&namespace, &name),
        duration: duration(&session)?,
        policy: checked_policy("spec.session.policy", session.policy.as_ref())?,
        secret_name: secret_name(binding),
        deletion_policy: secret.deletion_policy.unwrap_or_default(),
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
        let mut inputs = inputs;
        if !self.chain.is_empty() {
            inputs["assume"] = self.chain.iter().map(Step::inputs).collect();
        }
        hex(&Sha256::digest(inputs.to_string().as_bytes()))
    }

    /// How many calls of STS an exchange makes.
    #[must_use]
    pub fn calls(&self) -> u32 {
        let steps = u32::try_from(self.chain.len()).unwrap_or(u32::MAX);
        steps.saturating_add(1)
    }

    /// Names what STS is asked for: two bindings with the same key may have one answer. Everything
    /// of [`hash`](Self::hash) counts but how the Secret looks, and the namespace always does; with a
    /// fallback also what it leads to.
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
        let session = match &self.fallback {
            Fallback::Allowed(_) => self.default_session_name.as_str(),
            Fallback::NotAsked | Fallback::NotAllowed(_) => "",
        };
        let attempt = self.attempt(&asked.hash(service_account_uid));
        let text = format!("{}/{session}/{attempt}", self.namespace);
        let digest = Sha256::digest(text.as_bytes());
        let mut key = [0; 16];
        key.copy_from_slice(&digest[..16]);
        key
    }

    /// What a failure belongs to: with other inputs, or with a fallback, the next attempt may
    /// succeed and is made at once.
    #[must_use]
    pub fn attempt(&self, hash: &str) -> String {
        match &self.fallback {
            Fallback::NotAsked => hash.to_owned(),
            Fallback::NotAllowed(_) => format!("{hash} without fallback"),
            Fallback::Allowed(_) => format!("{hash} with fallback"),
        }
    }

    /// The role whose credentials the Secret holds.
    #[must_use]
    pub fn last_role(&self) -> &RoleArn {
        self.chain
            .last()
            .map_or(&self.role_arn, |step| &step.role_arn)
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

/// The source of the token, with the permission where it is the operator's.
fn token_from<'a>(
    spec: &AlibabaRoleBindingSpec,
    configuration: &'a Configuration,
    namespace: &str,
    roles: &[&RoleArn],
) -> Result<(TokenFrom, Option<&'a Delegation>), Problem> {
    let source = spec.token_source.as_ref();
    if source.is_none_or(|source| source.kind == TokenSourceType::ServiceAccount) {
        return spec
            .service_account_name
            .clone()
            .map(|name| (TokenFrom::ServiceAccount(name), None))
            .ok_or_else(|| invalid("spec.serviceAccountName", "is required"));
    }
    let file = source
        .and_then(|source| source.file.clone())
        .ok_or_else(|| invalid("spec.tokenSource.file", "is required with type File"))?;
    // One answer for an unknown name and for a missing permission: the names of the operator's
    // files are nobody else's business.
    let permission = delegation::permission(&configuration.delegation, namespace, roles)
        .filter(|_| configuration.token_files.contains_key(&file));
    if permission.is_none() {
        let roles: Vec<_> = roles.iter().map(|role| role.as_str()).collect();
        return Err(Problem::new(
            Reason::NotDelegated,
            format!(
                "the operator's token file {file:?} is not delegated to namespace {namespace} for {} by one entry",
                roles.join(", ")
            ),
        ));
    }
    Ok((TokenFrom::File(file), permission))
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

/// The policy, if it is JSON.
pub(super) fn checked_policy(
    field: &str,
    policy: Option<&String>,
) -> Result<Option<String>, Problem> {
    if let Some(policy) = policy
        && let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(policy)
    {
        return Err(invalid(field, format!("is no JSON: {error}")));
    }
    Ok(policy.cloned())
}

fn duration(session: &Session) -> Result<Duration, Problem> {
    let duration = session.duration();
    if (AssumeRoleWithOidc::MIN_DURATION..=AssumeRoleWithOidc::MAX_DURATION).contains(&duration) {
        Ok(duration)
    } else {
        Err(invalid(
            "spec.session.durationSeconds",
            "must be 900 to 43200",
        ))
    }
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

/// The name of the Secret that a binding asks for.
pub(super) fn secret_name(binding: &AlibabaRoleBinding) -> String {
    let secret = binding.spec.secret.as_ref();
    secret
        .and_then(|secret| secret.name.clone())
        .unwrap_or_else(|| {
            default_secret_name(binding.metadata.name.as_deref().unwrap_or_default())
        })
}

/// `<namespace>.<name>` in STS's alphabet.
fn session_name(namespace: &str, name: &str) -> String {
    // Names of Kubernetes objects hold nothing that STS forbids.
    shortened(&format!("{namespace}.{name}"), MAX_SESSION_NAME)
}

#[cfg(test)]
mod tests;
