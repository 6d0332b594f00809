//! The status a binding should show. Pure.

use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use super::fallback::Fallback;
use super::opt_in::Pods;
use super::plan::Failing;
use super::reason::{Problem, Reason};
use super::secrets::SecretFacts;
use super::wanted::Wanted;
use crate::api::v1alpha1::{
    AlibabaRoleBinding, AlibabaRoleBindingStatus, CredentialSource, Failure,
};
use crate::credentials::formats::timestamp;

/// Whether the status tells of an exchange into a Secret of this name.
#[must_use]
pub fn tells_of_exchange(status: Option<&AlibabaRoleBindingStatus>, secret_name: &str) -> bool {
    status.is_some_and(|status| {
        status.last_refresh_time.is_some() && status.secret_name.as_deref() == Some(secret_name)
    })
}

/// Condition types, in the order in which they are shown.
pub mod condition {
    /// The Secret holds valid credentials of what the spec asks for.
    pub const READY: &str = "Ready";
    /// The last exchange succeeded.
    pub const CREDENTIALS_ISSUED: &str = "CredentialsIssued";
    /// The Secret holds what was issued last.
    pub const SECRET_SYNCED: &str = "SecretSynced";
    /// With `spec.injectPods`: pods of the ServiceAccount get the role from the webhook.
    pub const PODS_INJECTED: &str = "PodsInjected";
}

/// A status for keeping in memory. The conditions of a binding with which all is well are most of
/// its status, and follow from the rest: of them only the first is kept, without its message.
pub(super) fn fold(mut status: AlibabaRoleBindingStatus) -> AlibabaRoleBindingStatus {
    let Some(first) = status.conditions.first() else {
        return status;
    };
    let all_is_well = all_is_well(first, &status);
    if all_is_well.as_ref() == Some(&status.conditions) {
        status.conditions.truncate(1);
        status.conditions[0].message = String::new();
        status.conditions.shrink_to_fit();
    }
    status
}

/// The status that was folded.
pub(super) fn unfold(mut status: AlibabaRoleBindingStatus) -> AlibabaRoleBindingStatus {
    if let [only] = status.conditions.as_slice()
        && only.message.is_empty()
        && let Some(conditions) = all_is_well(only, &status)
    {
        status.conditions = conditions;
    }
    status
}

/// The conditions of a binding with which all has been well since the first of them says so.
fn all_is_well(first: &Condition, status: &AlibabaRoleBindingStatus) -> Option<Vec<Condition>> {
    let (role, until) = (status.role_arn.as_ref()?, status.expiration.as_ref()?);
    Some(
        [
            (condition::READY, fresh(role, until)),
            (condition::CREDENTIALS_ISSUED, ISSUED.to_owned()),
            (condition::SECRET_SYNCED, SYNCED.to_owned()),
        ]
        .map(|(kind, message)| Condition {
            type_: kind.to_owned(),
            status: "True".to_owned(),
            reason: Reason::CredentialsFresh.as_str().to_owned(),
            message,
            last_transition_time: first.last_transition_time.clone(),
            observed_generation: first.observed_generation,
        })
        .into(),
    )
}

const ISSUED: &str = "the last exchange succeeded";
const SYNCED: &str = "the Secret holds what was issued last";

fn fresh(role: &str, until: &str) -> String {
    format!("credentials of {role} until {until}")
}

/// What a status is made from.
#[derive(Debug)]
pub struct View<'a> {
    /// The present moment.
    pub now: DateTime<Utc>,
    /// The binding.
    pub binding: &'a AlibabaRoleBinding,
    /// The status that is shown now: the watch may lag behind our own last write.
    pub shown: Option<&'a AlibabaRoleBindingStatus>,
    /// What the spec asks for, if it makes sense.
    pub wanted: Option<&'a Wanted>,
    /// The binding's own Secret.
    pub secret: Option<&'a SecretFacts>,
    /// Whether that Secret was made from what the spec asks for now.
    pub current: bool,
    /// The present failure.
    pub failing: Option<&'a Failing>,
    /// When the next exchange is planned.
    pub next: Option<DateTime<Utc>>,
    /// What comes of `injectPods`, if the binding asks for it.
    pub pods: Option<&'a Pods>,
    /// Session ARN and access key id of credentials that were issued just now.
    pub issued: Option<(&'a str, &'a str)>,
}

/// Composes the status.
#[must_use]
pub fn compose(view: &View<'_>) -> AlibabaRoleBindingStatus {
    let before = view.shown.cloned().unwrap_or_default();
    let (assumed_role_arn, access_key_id) = match (view.issued, view.secret) {
        (Some((arn, id)), _) => (Some(arn.to_owned()), Some(id.to_owned())),
        (None, Some(_)) => (
            before.assumed_role_arn.clone(),
            before.access_key_id.clone(),
        ),
        (None, None) => (None, None),
    };
    AlibabaRoleBindingStatus {
        observed_generation: view.binding.metadata.generation,
        conditions: conditions(view, &before.conditions),
        source: view.secret.map(|secret| match secret.fallback {
            None => CredentialSource::Oidc,
            Some(_) => CredentialSource::EcsMetadata,
        }),
        role_arn: view
            .wanted
            .map(|wanted| wanted.role_arn.to_string())
            .or(before.role_arn),
        assumed_role_arn,
        access_key_id,
        expiration: view
            .secret
            .and_then(|secret| secret.expiration)
            .map(timestamp),
        last_refresh_time: view
            .secret
            .and_then(|secret| secret.issued_at)
            .map(timestamp),
        next_refresh_time: view.next.map(timestamp),
        secret_name: view
            .wanted
            .map(|wanted| wanted.secret_name.clone())
            .or(before.secret_name),
        failure: view.failing.map(failure),
    }
}

/// Whether the status says that the credentials are as they should be.
pub(super) fn is_ready(status: &AlibabaRoleBindingStatus) -> bool {
    let ready = |c: &&Condition| c.type_ == condition::READY && c.status == "True";
    status.conditions.iter().find(ready).is_some()
}

fn failure(failing: &Failing) -> Failure {
    let Problem {
        code,
        message,
        remedy,
        request_id,
        ..
    } = failing.problem.clone();
    Failure {
        code,
        message,
        request_id,
        remedy,
        count: i32::try_from(failing.count).unwrap_or(i32::MAX),
        since: timestamp(failing.since),
    }
}

/// Status, reason and message of one condition.
type Said = (&'static str, Reason, String);

fn conditions(view: &View<'_>, before: &[Condition]) -> Vec<Condition> {
    [
        (condition::READY, Some(ready(view))),
        (condition::CREDENTIALS_ISSUED, issued(view)),
        (condition::SECRET_SYNCED, Some(synced(view))),
    ]
    .into_iter()
    .chain(
        view.pods
            .map(|pods| (condition::PODS_INJECTED, Some(pods.said()))),
    )
    .filter_map(|(kind, said)| {
        let old = before.iter().find(|condition| condition.type_ == kind);
        let Some((status, reason, message)) = said else {
            return old.cloned();
        };
        let since = old.filter(|old| old.status == status).map_or_else(
            || kubernetes_time(view.now),
            |old| old.last_transition_time.clone(),
        );
        Some(Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.as_str().to_owned(),
            message,
            last_transition_time: since,
            observed_generation: view.binding.metadata.generation,
        })
    })
    .collect()
}

fn ready(view: &View<'_>) -> Said {
    if view.binding.spec.suspend {
        let message = "spec.suspend is true: the Secret is left as it is".to_owned();
        return ("Unknown", Reason::Suspended, message);
    }
    let expiration = view.secret.and_then(|secret| secret.expiration);
    let valid = expiration.is_some_and(|expiration| view.now < expiration);
    let until = expiration.map(timestamp).unwrap_or_default();
    match view.failing {
        None if view.current && valid => {
            let role = view
                .wanted
                .map(|wanted| wanted.last_role().as_str())
                .unwrap_or_default();
            let message = fresh(role, &until);
            let (reason, message) = match view.secret.and_then(|secret| secret.fallback) {
                None => (Reason::CredentialsFresh, message),
                Some(because) => (Reason::FallbackInUse, by_node(&message, because)),
            };
            ("True", reason, message)
        }
        None if view.current => (
            "False",
            Reason::Expired,
            format!("the credentials ended at {until}"),
        ),
        None => ("False", Reason::Deferred, deferred()),
        Some(failing) if view.current && valid => (
            "True",
            Reason::RefreshFailing,
            format!(
                "valid until {until}, but not renewed: {}",
                told(&failing.problem)
            ),
        ),
        Some(failing) if view.current => (
            "False",
            Reason::Expired,
            format!(
                "the credentials ended at {until}: {}",
                told(&failing.problem)
            ),
        ),
        Some(failing) => ("False", failing.problem.reason, told(&failing.problem)),
    }
}

/// `None`: nothing was learnt about issuing, so the condition stays as it is.
fn issued(view: &View<'_>) -> Option<Said> {
    match view.failing {
        Some(failing) if is_about_secret(failing.problem.reason) => None,
        Some(failing) => Some(("False", failing.problem.reason, told(&failing.problem))),
        None if view.current => {
            let (reason, message) = match view.secret.and_then(|secret| secret.fallback) {
                None => (Reason::CredentialsFresh, ISSUED.to_owned()),
                Some(because) => (Reason::FallbackInUse, by_node(ISSUED, because)),
            };
            let message = match view.wanted.map(|wanted| &wanted.fallback) {
                // Better told now than on the day when it is needed.
                Some(Fallback::NotAllowed(why)) => {
                    format!(
                        "{message}; the fallback that spec.fallback asks for is not allowed: {why}"
                    )
                }
                _ => message,
            };
            Some(("True", reason, message))
        }
        None => None,
    }
}

/// Why the node's role stood in for a token.
fn by_node(message: &str, because: Reason) -> String {
    let entry = because.entry();
    format!(
        "{message}, through the node's RAM role, because OIDC cannot work ({}): {} Remedy: {}",
        entry.word, entry.meaning, entry.remedy
    )
}

fn synced(view: &View<'_>) -> Said {
    match view.failing {
        _ if view.current => ("True", Reason::CredentialsFresh, SYNCED.to_owned()),
        Some(failing) if is_about_secret(failing.problem.reason) => {
            ("False", failing.problem.reason, told(&failing.problem))
        }
        Some(failing) => (
            "False",
            failing.problem.reason,
            "the Secret was not written: nothing was issued for this spec".to_owned(),
        ),
        None if view.binding.spec.suspend => (
            "Unknown",
            Reason::Suspended,
            "the Secret is left as it is".to_owned(),
        ),
        None => ("False", Reason::Deferred, deferred()),
    }
}

fn deferred() -> String {
    format!(
        "the Secret is not as the spec asks. Remedy: {}",
        Reason::Deferred.remedy()
    )
}

/// Whether the failure lies in writing the Secret, not in getting credentials.
const fn is_about_secret(reason: Reason) -> bool {
    matches!(reason, Reason::SecretConflict | Reason::TemplateFailed)
}

fn told(problem: &Problem) -> String {
    format!("{} Remedy: {}", sentence(&problem.message), problem.remedy)
}

pub(super) fn sentence(text: &str) -> String {
    if text.ends_with(['.', '!', '?']) {
        text.to_owned()
    } else {
        format!("{text}.")
    }
}

/// The one place where a time of ours becomes one of Kubernetes'.
pub(super) fn kubernetes_time(time: DateTime<Utc>) -> Time {
    Time(Timestamp::from_second(time.timestamp()).unwrap_or(Timestamp::UNIX_EPOCH))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::controller::announcement::announcement;
    use crate::controller::content::tests::wanted;
    use serde_json::json;

    fn binding() -> AlibabaRoleBinding {
        serde_json::from_value(json!({
            "apiVersion": "rrsa.io/v1alpha1", "kind": "AlibabaRoleBinding",
            "metadata": {"name": "app", "namespace": "team-a", "generation": 3},
            "spec": {"role": {"name": "app"}, "serviceAccountName": "app"},
        }))
        .unwrap()
    }

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + chrono::TimeDelta::minutes(minutes)
    }

    fn secret() -> SecretFacts {
        SecretFacts {
            uid: "s".into(),
            resource_version: "1".into(),
            owner_uid: Some("u".into()),
            owner_name: Some("app".into()),
            retained: false,
            issued_at: Some(at(0)),
            expiration: Some(at(60)),
            inputs_hash: None,
            data_hash: None,
            refresh_answered: None,
            fallback: None,
            foreign_data: false,
            own_keys: 7,
        }
    }

    pub(in crate::controller) fn failing(reason: Reason) -> Failing {
        Failing {
            problem: Problem::new(reason, "it failed"),
            count: 2,
            since: at(30),
            not_before: at(50),
            attempt: String::new(),
        }
    }

    pub(in crate::controller) fn composed(
        minutes: i64,
        status: Option<&AlibabaRoleBindingStatus>,
        current: bool,
        failing: Option<&Failing>,
    ) -> AlibabaRoleBindingStatus {
        compose(&View {
            now: at(minutes),
            binding: &binding(),
            shown: status,
            wanted: Some(&wanted()),
            secret: Some(&secret()),
            current,
            failing,
            next: None,
            pods: None,
            issued: None,
        })
    }

    fn ready_of(status: &AlibabaRoleBindingStatus) -> (&str, &str) {
        (&status.conditions[0].status, &status.conditions[0].reason)
    }

    #[test]
    fn ready_tells_valid_from_renewed_and_from_ended() {
        let refused = failing(Reason::NotTrusted);
        assert_eq!(
            ready_of(&composed(1, None, true, None)),
            ("True", "CredentialsFresh")
        );
        assert_eq!(
            ready_of(&composed(40, None, true, Some(&refused))),
            ("True", "RefreshFailing")
        );
        assert_eq!(
            ready_of(&composed(60, None, true, Some(&refused))),
            ("False", "Expired")
        );
        // Still valid, but of what the spec asked for before.
        assert_eq!(
            ready_of(&composed(40, None, false, Some(&refused))),
            ("False", "NotTrusted")
        );
    }

    #[test]
    fn a_status_is_kept_small_and_comes_back_whole() {
        let fresh = composed(1, None, true, None);
        let folded = fold(fresh.clone());
        assert_eq!(folded.conditions.len(), 1);
        assert_eq!(unfold(folded), fresh);
        // Whatever is not just well is kept as it is.
        let refused = failing(Reason::NotTrusted);
        let mut edited = fresh.clone();
        edited.conditions[2].message.push('x');
        for status in [
            composed(40, Some(&fresh), true, Some(&refused)),
            composed(1, None, false, None),
            edited,
            AlibabaRoleBindingStatus::default(),
        ] {
            assert_eq!(fold(status.clone()), status);
            assert_eq!(unfold(status.clone()), status);
        }
    }

    #[test]
    fn a_fallback_in_use_is_ready_and_says_why_and_how_to_end_it() {
        let by_node = SecretFacts {
            fallback: Some(Reason::IssuerBroken),
            ..secret()
        };
        let wanted = wanted();
        let view = View {
            now: at(1),
            binding: &binding(),
            shown: None,
            wanted: Some(&wanted),
            secret: Some(&by_node),
            current: true,
            failing: None,
            next: None,
            pods: None,
            issued: None,
        };
        let status = compose(&view);
        assert_eq!(ready_of(&status), ("True", "FallbackInUse"));
        assert_eq!(status.source, Some(CredentialSource::EcsMetadata));
        assert!(status.conditions[0].message.contains("IssuerBroken"));
        let told = announcement(None, &status, None).unwrap();
        assert!(told.warning && told.reason == "FallbackInUse");
        // Back to OIDC is a transition, too.
        let fresh = composed(35, Some(&status), true, None);
        let told = announcement(Some(&status), &fresh, None).unwrap();
        assert!(!told.warning && told.reason == "CredentialsIssued");
    }

    #[test]
    fn a_fallback_that_is_not_allowed_is_told_before_it_is_needed() {
        let wanted = Wanted {
            fallback: Fallback::NotAllowed("it is not".into()),
            ..wanted()
        };
        let secret = secret();
        let status = compose(&View {
            now: at(1),
            binding: &binding(),
            shown: None,
            wanted: Some(&wanted),
            secret: Some(&secret),
            current: true,
            failing: None,
            next: None,
            pods: None,
            issued: None,
        });
        assert_eq!(ready_of(&status), ("True", "CredentialsFresh"));
        assert!(
            status.conditions[1]
                .message
                .contains("not allowed: it is not")
        );
    }

    #[test]
    fn pods_have_a_condition_where_they_are_asked_for() {
        let (wanted, secret) = (wanted(), secret());
        let view = View {
            now: at(1),
            binding: &binding(),
            shown: None,
            wanted: Some(&wanted),
            secret: Some(&secret),
            current: true,
            failing: None,
            next: None,
            pods: Some(&Pods::NotOptedIn),
            issued: None,
        };
        let status = compose(&view);
        let said = &status.conditions[3];
        assert_eq!((&*said.type_, &*said.status), ("PodsInjected", "False"));
        assert!(
            said.message
                .contains("pod-identity.alibabacloud.com/injection")
        );
        let without = compose(&View {
            pods: None,
            shown: Some(&status),
            ..view
        });
        assert_eq!(without.conditions.len(), 3);
    }

    #[test]
    fn a_change_that_waits_is_called_deferred() {
        assert_eq!(
            ready_of(&composed(1, None, false, None)),
            ("False", "Deferred")
        );
    }

    #[test]
    fn a_conflict_says_nothing_about_issuing() {
        let before = composed(1, None, true, None);
        let after = composed(
            2,
            Some(&before),
            false,
            Some(&failing(Reason::SecretConflict)),
        );
        let said: Vec<_> = after
            .conditions
            .iter()
            .map(|c| (c.type_.as_str(), c.status.as_str()))
            .collect();
        assert_eq!(
            said,
            [
                ("Ready", "False"),
                ("CredentialsIssued", "True"),
                ("SecretSynced", "False")
            ]
        );
    }

    #[test]
    fn the_transition_time_moves_with_the_status_only() {
        let first = composed(1, None, true, None);
        let later = composed(40, Some(&first), true, Some(&failing(Reason::Throttled)));
        assert_eq!(
            later.conditions[0].last_transition_time,
            first.conditions[0].last_transition_time
        );
        assert_eq!(
            later.conditions[1].last_transition_time,
            kubernetes_time(at(40))
        );
    }
}
