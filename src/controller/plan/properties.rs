//! Arbitrary specs, Secrets, memories and clocks: never a panic, and never a plan that takes working
//! credentials away.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::api::configuration::Configuration;
use crate::api::v1alpha1::{AlibabaRoleBinding, AlibabaRoleBindingStatus};
use crate::controller::announcement::announcement;
use crate::controller::status::{View, compose, tells_of_exchange};
use crate::controller::wanted::resolve;

fn configuration() -> Configuration {
    Configuration::parse(
        "accountId: '1'\noidcProviderArn: acs:ram::1:oidc-provider/p\nregion: cn-hangzhou\n\
         sts: {allowedHosts: ['sts.example.com:8443']}\ntokenFiles: {operator: /token}\n\
         delegation: [{namespaces: [team-a], roles: ['acs:ram::1:role/*'], externalId: word}]\n\
         ecsFallback: [{namespaces: [team-a], roles: ['acs:ram::1:role/*'], nodeRole: true}]\n",
    )
    .unwrap()
}

/// Any moment, most of them near the others, some absurd.
fn moment() -> impl Strategy<Value = DateTime<Utc>> {
    prop_oneof![
        8 => (0_i64..200).prop_map(|minutes| DateTime::UNIX_EPOCH + chrono::TimeDelta::minutes(minutes)),
        1 => Just(DateTime::<Utc>::MIN_UTC),
        1 => Just(DateTime::<Utc>::MAX_UTC),
    ]
}

fn word(values: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop_oneof![
        6 => prop::sample::select(values).prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

fn maybe<S: Strategy + 'static>(strategy: S) -> impl Strategy<Value = Option<S::Value>>
where
    S::Value: Clone + std::fmt::Debug + 'static,
{
    prop::option::of(strategy)
}

fn secret() -> impl Strategy<Value = SecretFacts> {
    let identity = (
        maybe(word(&["uid", "earlier"])),
        maybe(word(&["app", "other"])),
        any::<bool>(),
        word(&["secret-uid", "another"]),
    );
    let content = (
        maybe(moment()),
        maybe(moment()),
        maybe(word(&["hash", "old"])),
        maybe(word(&["now", "before"])),
        any::<bool>(),
        prop_oneof![Just(7_usize), any::<usize>()],
        maybe(prop::sample::select(Reason::ALL)),
    );
    (identity, content).prop_map(
        |(
            (owner_uid, owner_name, retained, uid),
            (
                issued_at,
                expiration,
                inputs_hash,
                refresh_answered,
                foreign_data,
                own_keys,
                fallback,
            ),
        )| SecretFacts {
            uid,
            resource_version: "7".into(),
            owner_uid,
            owner_name,
            retained,
            issued_at,
            expiration,
            inputs_hash,
            data_hash: None,
            refresh_answered,
            fallback,
            foreign_data,
            own_keys,
        },
    )
}

fn memory() -> impl Strategy<Value = Memory> {
    let failing = (
        prop::sample::select(Reason::ALL),
        any::<u32>(),
        moment(),
        moment(),
        word(&["hash", "old"]),
    )
        .prop_map(|(reason, count, since, not_before, attempt)| {
            Box::new(Failing {
                problem: Problem::new(reason, "it failed"),
                count,
                since,
                not_before,
                attempt,
            })
        });
    (
        maybe(failing),
        maybe(moment()),
        maybe(word(&["7", "6"])),
        maybe(word(&["secret-uid", "another"])),
        maybe(moment()),
    )
        .prop_map(
            |(failing, last_forced, verified_version, written, due)| Memory {
                failing,
                last_forced,
                due,
                verified_version,
                written,
            },
        )
}

#[derive(Debug, Clone)]
struct Scene {
    now: DateTime<Utc>,
    requested: Option<String>,
    policy: DeletionPolicy,
    issued_before: bool,
    rival: Option<String>,
    oidc_works: bool,
    secret: Option<SecretFacts>,
    memory: Memory,
}

fn scene() -> impl Strategy<Value = Scene> {
    (
        moment(),
        maybe(word(&["now", "before"])),
        prop::sample::select(&[DeletionPolicy::Delete, DeletionPolicy::Retain][..]),
        any::<bool>(),
        maybe(word(&["older"])),
        any::<bool>(),
        maybe(secret()),
        memory(),
    )
        .prop_map(
            |(now, requested, policy, issued_before, rival, oidc_works, secret, memory)| Scene {
                now,
                requested,
                policy,
                issued_before,
                rival,
                oidc_works,
                secret,
                memory,
            },
        )
}

impl Scene {
    fn observed(&self) -> Observed<'_> {
        Observed {
            now: self.now,
            name: "app",
            uid: "uid",
            inputs_hash: "hash",
            attempt: "hash",
            oidc_works: self.oidc_works,
            keys: 7,
            refresh_requested: self.requested.as_deref(),
            secret_name: "app-credentials",
            deletion_policy: self.policy,
            issued_before: self.issued_before,
            rival: self.rival.as_deref(),
            secret: self.secret.as_ref(),
            memory: &self.memory,
        }
    }
}

/// A spec of the schema's shape with anything in it.
fn spec() -> impl Strategy<Value = Value> {
    const ARNS: &[&str] = &["acs:ram::1:role/app", "acs:ram::2:role/x/y", "nonsense", ""];
    let seconds = || maybe(prop_oneof![900_i32..43_200, any::<i32>()]);
    let step = (word(ARNS), maybe(any::<String>()), seconds(), maybe(word(&["{}", "{"])))
        .prop_map(|(arn, id, seconds, policy)| {
            json!({"arn": arn, "externalId": id, "durationSeconds": seconds, "policy": policy})
        });
    let identity = (
        maybe(word(ARNS)),
        maybe(word(&["app", "a/b"])),
        maybe(word(&["app"])),
        maybe(word(&["acs:ram::1:oidc-provider/p", "nonsense"])),
        maybe(maybe(word(&["operator", "/etc/passwd"]))),
    );
    let session = (
        maybe(word(&["chosen"])),
        seconds(),
        maybe(word(&["{}", "{"])),
        prop::collection::vec(step, 0..5),
        any::<bool>(),
    );
    let place = (
        maybe(word(&["cn-beijing", "bucket"])),
        maybe(prop::sample::select(&["Vpc", "Public"][..])),
        maybe(word(&["sts.example.com:8443", "evil"])),
        maybe(word(&["mine"])),
        prop::collection::vec(
            prop::sample::select(&["env", "ini", "cli", "json"][..]),
            0..4,
        ),
        prop::collection::btree_map(any::<String>(), any::<String>(), 0..3),
        prop::sample::select(&["Delete", "Retain"][..]),
        any::<bool>(),
    );
    (identity, session, place).prop_map(
        |(
            (arn, name, account, provider, file),
            (session, seconds, policy, assume, fallback),
            (region, network, endpoint, secret, formats, template, deletion, suspend),
        )| {
            json!({
                "role": {"arn": arn, "name": name},
                "serviceAccountName": account,
                "oidcProviderArn": provider,
                "tokenSource": file.map(|file| json!({"type": "File", "file": file})),
                "session": {"name": session, "durationSeconds": seconds, "policy": policy},
                "assume": assume,
                "sts": {"region": region, "network": network, "endpoint": endpoint},
                "fallback": fallback.then(|| json!({"type": "EcsMetadata"})),
                "secret": {"name": secret, "formats": formats, "template": template,
                    "deletionPolicy": deletion},
                "suspend": suspend,
            })
        },
    )
}

proptest! {
    #[test]
    fn a_plan_touches_only_what_is_the_bindings_and_only_with_new_credentials(scene in scene()) {
        let decision = decide(&scene.observed());
        let effect = decision.effect(scene.secret.is_some());
        match &scene.secret {
            Some(secret) => match (secret.tenure("app", "uid"), effect) {
                (Tenure::Foreign, effect) => prop_assert_eq!(effect, Effect::Nothing),
                // Nobody else's work is kept as if it were ours.
                (Tenure::Inherited, Effect::Nothing) => prop_assert!(
                    matches!(decision, Decision::BackOff { .. } | Decision::Defer { .. }),
                    "{:?}", decision
                ),
                (Tenure::Inherited, effect) => prop_assert_eq!(effect, Effect::Replace),
                (Tenure::Own, effect) => prop_assert_ne!(effect, Effect::Create),
            },
            None => prop_assert!(matches!(effect, Effect::Nothing | Effect::Create)),
        }
    }

    #[test]
    fn working_credentials_that_nobody_touched_stay(
        minute in 0_i64..29,
        requested in maybe(word(&["now"])),
        memory in memory(),
        rival in maybe(word(&["older"])),
    ) {
        let now = DateTime::UNIX_EPOCH + chrono::TimeDelta::minutes(minute);
        let secret = SecretFacts {
            uid: "secret-uid".into(),
            resource_version: "7".into(),
            owner_uid: Some("uid".into()),
            owner_name: Some("app".into()),
            retained: false,
            issued_at: Some(DateTime::UNIX_EPOCH),
            expiration: Some(DateTime::UNIX_EPOCH + chrono::TimeDelta::hours(1)),
            inputs_hash: Some("hash".into()),
            data_hash: None,
            refresh_answered: requested.clone(),
            fallback: None,
            foreign_data: false,
            own_keys: 7,
        };
        let scene = Scene {
            now,
            requested,
            policy: DeletionPolicy::Delete,
            issued_before: true,
            rival,
            oidc_works: true,
            secret: Some(secret),
            memory,
        };
        let decision = decide(&scene.observed());
        prop_assert!(matches!(decision, Decision::Fresh { due } if due > now), "{:?}", decision);
    }

    #[test]
    fn a_wait_ends_later_than_now(scene in scene()) {
        match decide(&scene.observed()) {
            Decision::Fresh { due: until }
            | Decision::BackOff { until }
            | Decision::Defer { until, .. } => prop_assert!(until > scene.now),
            _ => {}
        }
    }

    #[test]
    fn what_is_deleted_is_the_bindings_own_of_a_former_name(
        secrets in prop::collection::vec((word(&["app-credentials", "former"]), secret()), 0..5),
        retain in any::<bool>(),
    ) {
        let policy = if retain { DeletionPolicy::Retain } else { DeletionPolicy::Delete };
        for (name, facts) in leftovers(secrets, "app-credentials", policy) {
            prop_assert!(name != "app-credentials" && !facts.retained && !retain);
        }
    }

    #[test]
    fn any_spec_is_resolved_planned_and_reported_without_a_panic(
        spec in spec(),
        scene in scene(),
        expired in any::<bool>(),
    ) {
        let object = json!({
            "apiVersion": "rrsa.io/v1alpha1", "kind": "AlibabaRoleBinding",
            "metadata": {"name": "app", "namespace": "team-a", "uid": "uid", "generation": 1},
            "spec": spec,
        });
        let binding: AlibabaRoleBinding = serde_json::from_value(object).unwrap();
        let wanted = resolve(&binding, &configuration());
        let shown = AlibabaRoleBindingStatus {
            last_refresh_time: expired.then(String::new),
            secret_name: wanted.as_ref().ok().map(|wanted| wanted.secret_name.clone()),
            ..AlibabaRoleBindingStatus::default()
        };
        let (hash, attempt, keys) = wanted.as_ref().map_or_else(
            |_| (String::new(), String::new(), 0),
            |wanted| {
                let hash = wanted.hash(Some("account"));
                let attempt = wanted.attempt(&hash);
                (hash, attempt, wanted.keys().len())
            },
        );
        if let Ok(wanted) = &wanted {
            let decision = decide(&Observed {
                inputs_hash: &hash,
                attempt: &attempt,
                keys,
                deletion_policy: wanted.deletion_policy,
                secret_name: &wanted.secret_name,
                issued_before: tells_of_exchange(Some(&shown), &wanted.secret_name),
                ..scene.observed()
            });
            let _ = decision.effect(scene.secret.is_some());
        }
        let status = compose(&View {
            now: scene.now,
            binding: &binding,
            shown: Some(&shown),
            wanted: wanted.as_ref().ok(),
            secret: scene.secret.as_ref(),
            current: expired,
            failing: scene.memory.failing.as_deref(),
            next: scene.memory.last_forced,
            pods: None,
            issued: None,
        });
        let told = announcement(Some(&shown), &status, scene.memory.failing.as_deref());
        prop_assert!(told.is_none_or(|told| told.note.len() <= 1024));
    }
}
