//! Whether the node's role may stand in for a token that cannot be exchanged. Pure; the one question
//! is whether the *cluster* cannot use OIDC, and a tenant must not be able to answer it.
//!
//! | the exchange | the fallback |
//! |---|---|
//! | the issuer is not the provider's, the provider is missing, the issuer's keys cannot be read | at once, unless another exchange succeeded within [`CONTRADICTED`] |
//! | STS unreachable | after [`PATIENCE`] without any answer of STS |
//! | refused for any other reason | never |
//! | with `oidcProviderArn`, `sts` or the operator's own token | never: it says nothing about the cluster |
//!
//! While OIDC is known not to work, bindings with the fallback do not ask in vain; one exchange of
//! the process in [`PROBE_EVERY`] tells when it does.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::chain::ExternalId;
use super::delegation;
use super::reason::{Problem, Reason};
use crate::api::configuration::Configuration;
use crate::api::v1alpha1::AlibabaRoleBindingSpec;
use crate::contract::arn::RoleArn;

/// STS must be out of reach for so long.
pub const PATIENCE: Duration = Duration::from_mins(5);
/// A success of this age proves that OIDC can work, whatever one binding is told.
pub const CONTRADICTED: Duration = Duration::from_mins(5);
/// How often OIDC is tried again while it does not work.
pub const PROBE_EVERY: Duration = Duration::from_mins(3);

/// What a binding's spec and the administrator say about the fallback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fallback {
    /// The binding does not ask for it.
    NotAsked,
    /// It asks and may not, for this reason.
    NotAllowed(String),
    /// It asks and may.
    Allowed(Grant),
}

/// What the administrator allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// What the binding's role may ask for besides the node's role.
    pub external_id: Option<ExternalId>,
    /// Whether the node's own credentials may be handed out, where its role is the one asked for.
    pub node_role: bool,
}

/// What holds for this spec. `delegated`: it uses the operator's own token.
pub(super) fn of(
    spec: &AlibabaRoleBindingSpec,
    configuration: &Configuration,
    namespace: &str,
    chain: &[&RoleArn],
    delegated: bool,
) -> Fallback {
    if spec.fallback.is_none() {
        return Fallback::NotAsked;
    }
    let own = if spec.oidc_provider_arn.is_some() {
        "spec.oidcProviderArn is set"
    } else if spec.sts.is_some() {
        "spec.sts is set"
    } else if delegated {
        "spec.tokenSource is File"
    } else {
        ""
    };
    if !own.is_empty() {
        return Fallback::NotAllowed(format!(
            "{own}, so a failure says nothing about OIDC in this cluster"
        ));
    }
    let entry = configuration
        .ecs_fallback
        .iter()
        .find(|entry| delegation::allows(&entry.namespaces, &entry.roles, namespace, chain));
    match entry {
        Some(entry) => Fallback::Allowed(Grant {
            external_id: ExternalId::of_administrator(entry.external_id.as_ref()),
            node_role: entry.node_role,
        }),
        None => Fallback::NotAllowed(format!(
            "no entry of ecsFallback in the operator's configuration allows namespace {namespace} every role of the binding"
        )),
    }
}

/// What is known about OIDC in this cluster: of exchanges on the operator's own terms only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Oidc {
    last_success: Option<DateTime<Utc>>,
    unreachable_since: Option<DateTime<Utc>>,
    broken: Option<Broken>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Broken {
    problem: Problem,
    tried: DateTime<Utc>,
}

/// Whether a failure of this kind can mean that OIDC cannot work in this cluster.
const fn may_mean_broken(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::IssuerMismatch
            | Reason::IssuerBroken
            | Reason::ProviderNotFound
            | Reason::StsUnreachable
    )
}

impl Oidc {
    /// An exchange succeeded. Returns whether it was thought that none could.
    pub fn worked(&mut self, now: DateTime<Utc>) -> bool {
        let was_broken = self.broken.is_some();
        *self = Self {
            last_success: Some(now),
            ..Self::default()
        };
        was_broken
    }

    /// An exchange failed. Returns whether that means that OIDC cannot work here now.
    pub fn failed(&mut self, problem: &Problem, now: DateTime<Utc>) -> bool {
        if problem.reason == Reason::StsUnreachable {
            let since = *self.unreachable_since.get_or_insert(now);
            if !is_past(now, since, PATIENCE) && self.broken.is_none() {
                return false;
            }
        } else {
            self.unreachable_since = None;
        }
        if !may_mean_broken(problem.reason) {
            return false;
        }
        if self
            .last_success
            .is_some_and(|success| !is_past(now, success, CONTRADICTED))
        {
            return false;
        }
        self.broken = Some(Broken {
            problem: problem.clone(),
            tried: now,
        });
        true
    }

    /// Why an exchange now would be in vain, where that was found out a moment ago.
    #[must_use]
    pub fn known_broken(&self, now: DateTime<Utc>) -> Option<&Problem> {
        let broken = self.broken.as_ref()?;
        (!is_past(now, broken.tried, PROBE_EVERY)).then_some(&broken.problem)
    }

    /// Whether it is known to work: the fallback has served its time.
    #[must_use]
    pub const fn works(&self) -> bool {
        self.broken.is_none() && self.last_success.is_some()
    }
}

/// Whether `since` is that long ago; a clock that was set back counts as a long time.
fn is_past(now: DateTime<Utc>, since: DateTime<Utc>, span: Duration) -> bool {
    now < since || (now - since).to_std().is_ok_and(|passed| passed >= span)
}

/// What a binding does after its own exchange failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The failure stands.
    Stands,
    /// The failure stands, and the author is told why there is no fallback.
    Refused(Problem),
    /// The node's role stands in.
    FallBack(Grant),
}

/// Decides. `broken`: what [`Oidc::failed`] made of the failure.
#[must_use]
pub fn verdict(fallback: &Fallback, problem: &Problem, broken: bool) -> Verdict {
    match fallback {
        Fallback::NotAllowed(why) if may_mean_broken(problem.reason) => {
            let message = format!(
                "{} The fallback is not allowed: {why}",
                super::status::sentence(&problem.message)
            );
            Verdict::Refused(Problem {
                code: problem.code.clone(),
                request_id: problem.request_id.clone(),
                ..Problem::new(Reason::FallbackNotAllowed, message)
            })
        }
        Fallback::Allowed(grant) if broken => Verdict::FallBack(grant.clone()),
        Fallback::NotAsked | Fallback::NotAllowed(_) | Fallback::Allowed(_) => Verdict::Stands,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::AlibabaRoleBindingSpec;
    use rstest::rstest;
    use serde_json::json;

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + chrono::TimeDelta::minutes(minutes)
    }

    fn problem(reason: Reason) -> Problem {
        Problem::new(reason, "it failed")
    }

    fn grant() -> Grant {
        Grant {
            external_id: None,
            node_role: false,
        }
    }

    #[test]
    fn only_failures_that_blame_the_cluster_fall_back() {
        let blaming = [
            Reason::IssuerMismatch,
            Reason::IssuerBroken,
            Reason::ProviderNotFound,
        ];
        for reason in Reason::ALL {
            let problem = problem(*reason);
            let broken = Oidc::default().failed(&problem, at(0));
            assert_eq!(broken, blaming.contains(reason), "{}", reason.as_str());
            let verdict = verdict(&Fallback::Allowed(grant()), &problem, broken);
            let expected = if broken {
                Verdict::FallBack(grant())
            } else {
                Verdict::Stands
            };
            assert_eq!(verdict, expected, "{}", reason.as_str());
        }
    }

    #[test]
    fn an_unreachable_sts_must_be_so_for_long_and_without_any_answer() {
        let unreachable = problem(Reason::StsUnreachable);
        let mut oidc = Oidc::default();
        assert!(!oidc.failed(&unreachable, at(0)));
        assert!(!oidc.failed(&unreachable, at(4)));
        assert!(oidc.failed(&unreachable, at(5)));
        // Any answer, also a refusal, begins the count anew.
        let mut oidc = Oidc::default();
        oidc.failed(&unreachable, at(0));
        oidc.failed(&problem(Reason::NotTrusted), at(4));
        assert!(!oidc.failed(&unreachable, at(6)));
        assert!(oidc.failed(&unreachable, at(11)));
    }

    #[test]
    fn what_works_for_others_is_not_broken_for_one() {
        let mut oidc = Oidc::default();
        oidc.worked(at(0));
        assert!(!oidc.failed(&problem(Reason::ProviderNotFound), at(4)));
        assert!(oidc.works());
        assert!(oidc.failed(&problem(Reason::ProviderNotFound), at(5)));
        assert!(!oidc.works());
    }

    #[test]
    fn while_it_is_broken_one_exchange_in_a_while_asks_again() {
        let mut oidc = Oidc::default();
        assert_eq!(oidc.known_broken(at(0)), None);
        oidc.failed(&problem(Reason::IssuerBroken), at(0));
        assert!(oidc.known_broken(at(2)).is_some());
        assert_eq!(oidc.known_broken(at(3)), None);
        oidc.failed(&problem(Reason::IssuerBroken), at(3));
        assert!(oidc.known_broken(at(5)).is_some());
        assert!(oidc.worked(at(6)));
        assert_eq!(oidc.known_broken(at(6)), None);
        assert!(oidc.works() && !oidc.worked(at(7)));
    }

    #[test]
    fn nothing_is_known_at_the_start() {
        assert!(!Oidc::default().works());
    }

    #[rstest]
    #[case::not_asked(json!({"fallback": null}), "team-a", None)]
    #[case::allowed(json!({}), "team-a", Some(""))]
    #[case::other_namespace(json!({}), "team-b", Some("no entry of ecsFallback"))]
    #[case::other_role(json!({"role": {"arn": "acs:ram::1:role/other"}}), "team-a", Some("no entry of ecsFallback"))]
    #[case::provider(json!({"oidcProviderArn": "acs:ram::1:oidc-provider/p"}), "team-a", Some("spec.oidcProviderArn is set"))]
    #[case::sts(json!({"sts": {"region": "cn-beijing"}}), "team-a", Some("spec.sts is set"))]
    #[case::chain(json!({"assume": [{"arn": "acs:ram::1:role/fb-b"}]}), "team-a", Some(""))]
    #[case::chain_leads_away(json!({"assume": [{"arn": "acs:ram::2:role/fb-b"}]}), "team-a", Some("no entry of ecsFallback"))]
    fn the_administrator_allows_namespace_and_every_role_and_the_author_chooses_nothing(
        #[case] change: serde_json::Value,
        #[case] namespace: &str,
        #[case] refusal: Option<&str>,
    ) {
        let configuration = Configuration::parse(
            "accountId: '1'\noidcProviderArn: acs:ram::1:oidc-provider/p\nregion: cn-hangzhou\n\
             ecsFallback: [{namespaces: [team-a], roles: ['acs:ram::1:role/fb-*'], externalId: word}]\n",
        )
        .unwrap();
        let mut spec = json!({
            "role": {"arn": "acs:ram::1:role/fb-a"}, "serviceAccountName": "app",
            "fallback": {"type": "EcsMetadata"},
        });
        for (key, value) in change.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let spec: AlibabaRoleBindingSpec = serde_json::from_value(spec).unwrap();
        let arns = [spec.role.arn.clone().unwrap()]
            .into_iter()
            .chain(spec.assume.iter().map(|step| step.arn.clone()));
        let chain: Vec<RoleArn> = arns.map(|arn| arn.parse().unwrap()).collect();
        let chain: Vec<&RoleArn> = chain.iter().collect();
        let fallback = of(&spec, &configuration, namespace, &chain, false);
        match (refusal, &fallback) {
            (None, Fallback::NotAsked) => {}
            (Some(""), Fallback::Allowed(grant)) => {
                assert_eq!(
                    grant.external_id,
                    Some(ExternalId::Administrator("word".into()))
                );
            }
            (Some(expected), Fallback::NotAllowed(why)) if !expected.is_empty() => {
                assert!(why.contains(expected), "{why}");
                let refused = verdict(&fallback, &problem(Reason::IssuerBroken), true);
                let Verdict::Refused(told) = refused else {
                    panic!("{refused:?}")
                };
                assert_eq!(told.reason, Reason::FallbackNotAllowed);
                assert!(told.message.contains("it failed"), "{}", told.message);
                // It was refused by STS for another reason: that is what the author must hear.
                let stands = verdict(&fallback, &problem(Reason::NotTrusted), false);
                assert_eq!(stands, Verdict::Stands);
            }
            _ => panic!("{fallback:?}"),
        }
        if spec.fallback.is_some() {
            let delegated = of(&spec, &configuration, namespace, &chain, true);
            assert!(
                matches!(delegated, Fallback::NotAllowed(_)),
                "{delegated:?}"
            );
        }
    }
}
