//! Which of the official keys, and of ours, has an effect where. Pure.

use super::finding::{Note, Problem};
use crate::contract::annotations::official::{
    INJECT_STS_ENDPOINT, INJECTION, INJECTION_ON, ONLY_CONTAINERS, OVERRIDE_ENV, ROLE_NAME,
    SKIP_CONTAINERS, TOKEN_EXPIRATION,
};
use crate::contract::annotations::{
    BINDING, CONFORMANCE, FALLBACK, INJECT, INJECTED_ROLE_ARN, MODE, REFRESH_REQUESTED_AT,
    ROLE_ARN, ROTATION_REQUESTED_AT, secret,
};

/// What carries a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Label of a namespace.
    NamespaceLabel,
    /// Annotation of a namespace.
    NamespaceAnnotation,
    /// Label of a ServiceAccount.
    AccountLabel,
    /// Annotation of a ServiceAccount.
    AccountAnnotation,
    /// Label of a pod.
    PodLabel,
    /// Annotation of a pod.
    PodAnnotation,
    /// Annotation of a binding.
    BindingAnnotation,
    /// Annotation of a Secret.
    SecretAnnotation,
}

impl Place {
    const fn words(self) -> &'static str {
        match self {
            Self::NamespaceLabel => "label of the namespace",
            Self::NamespaceAnnotation => "annotation of the namespace",
            Self::AccountLabel => "label of the ServiceAccount",
            Self::AccountAnnotation => "annotation of the ServiceAccount",
            Self::PodLabel => "label of the pod",
            Self::PodAnnotation => "annotation of the pod",
            Self::BindingAnnotation => "annotation of an AlibabaRoleBinding",
            Self::SecretAnnotation => "annotation of a Secret",
        }
    }
}

/// Where each key is read that is written to ask for something.
const READ: [(&str, &[Place]); 12] = [
    (INJECTION, &[Place::NamespaceLabel, Place::PodLabel]),
    (OVERRIDE_ENV, &[Place::NamespaceLabel, Place::PodAnnotation]),
    (ROLE_NAME, &[Place::AccountAnnotation]),
    (
        TOKEN_EXPIRATION,
        &[Place::AccountAnnotation, Place::PodAnnotation],
    ),
    (INJECT_STS_ENDPOINT, &[Place::AccountAnnotation]),
    (ONLY_CONTAINERS, &[Place::PodAnnotation]),
    (SKIP_CONTAINERS, &[Place::PodAnnotation]),
    (ROLE_ARN, ACCOUNT_OR_POD),
    (MODE, ACCOUNT_OR_POD),
    (BINDING, ACCOUNT_OR_POD),
    (FALLBACK, ACCOUNT_OR_POD),
    (INJECT, &[Place::PodAnnotation]),
];

const ACCOUNT_OR_POD: &[Place] = &[Place::AccountAnnotation, Place::PodAnnotation];

/// Where the other keys belong: those that we write, and those of objects that are not judged here.
const KEPT: [(&str, &[Place]); 11] = [
    (INJECTED_ROLE_ARN, &[Place::PodAnnotation]),
    (CONFORMANCE, &[Place::NamespaceLabel]),
    (REFRESH_REQUESTED_AT, &[Place::BindingAnnotation]),
    (ROTATION_REQUESTED_AT, &[Place::SecretAnnotation]),
    (secret::BINDING_UID, &[Place::SecretAnnotation]),
    (secret::ISSUED_AT, &[Place::SecretAnnotation]),
    (secret::EXPIRATION, &[Place::SecretAnnotation]),
    (secret::INPUTS_HASH, &[Place::SecretAnnotation]),
    (secret::DATA_HASH, &[Place::SecretAnnotation]),
    (secret::FALLBACK, &[Place::SecretAnnotation]),
    (secret::REFRESH_ANSWERED, &[Place::SecretAnnotation]),
];

/// Notes about keys that have no effect where they stand.
pub fn misplaced<'a>(
    place: Place,
    keys: impl Iterator<Item = &'a str> + 'a,
) -> impl Iterator<Item = Note> + 'a {
    keys.filter_map(move |key| about_key(place, key))
}

fn about_key(place: Place, key: &str) -> Option<Note> {
    let (prefix, name) = key.split_once('/')?;
    let (official, _) = INJECTION.split_once('/')?;
    let (ours, _) = ROLE_ARN.split_once('/')?;
    let mut all = READ.iter().chain(&KEPT);
    let known = all.find(|(known, _)| *known == key);
    let remedy = match known {
        Some((_, places)) if places.contains(&place) => return None,
        Some((_, places)) => {
            let places: Vec<_> = places.iter().map(|place| place.words()).collect();
            format!("it is read as {}", places.join(" or "))
        }
        None if prefix == official || prefix == ours => match nearest(prefix, name) {
            Some(nearest) => format!("{nearest} may be meant"),
            None => "there is no such key".to_owned(),
        },
        // The key's own name is right and what stands before it almost so.
        None if prefix.contains("pod-identity") => {
            let meant = format!("{official}/{name}");
            let (meant, _) = READ.iter().find(|(known, _)| *known == meant)?;
            format!("{meant} may be meant")
        }
        None => return None,
    };
    let cause = format!("{key} has no effect as {}", place.words());
    Some(Note::new(Problem::MisplacedKey, cause, remedy))
}

/// The key that may be meant: one that shares a whole part with the name, or differs in few letters.
fn nearest(prefix: &str, name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let is_part = |part: &str, whole: &str| {
        part.len() > 2 && (whole.starts_with(part) || whole.ends_with(part))
    };
    let keys = READ.iter().filter_map(|(key, _)| {
        let (home, known) = key.split_once('/')?;
        let distance = distance(known, &name);
        let is_near = distance <= (known.len() / 3).min(4) || is_part(known, &name);
        let same = home == prefix;
        let rank = if same && is_part(&name, known) {
            0
        } else if distance == 0 {
            // The name is right, and of the other family.
            1
        } else if is_near {
            if same { 2 } else { 3 }
        } else {
            return None;
        };
        Some((rank, distance, *key))
    });
    keys.min().map(|(.., key)| key)
}

/// How many letters have to be changed, added or left out.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, one) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let change = diagonal + usize::from(one != *other);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Whether a value that is not `on` looks as if `on` were meant.
#[must_use]
pub fn almost_on(value: &str) -> bool {
    let word = value.trim().to_ascii_lowercase();
    value != INJECTION_ON
        && matches!(
            word.as_str(),
            "on" | "true" | "yes" | "y" | "1" | "enable" | "enabled" | "inject"
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::at_home(Place::NamespaceLabel, INJECTION, None)]
    #[case::annotation(
        Place::NamespaceAnnotation,
        INJECTION,
        Some("label of the namespace or label of the pod")
    )]
    #[case::role_on_pod(
        Place::PodAnnotation,
        ROLE_NAME,
        Some("annotation of the ServiceAccount")
    )]
    #[case::role_as_label(
        Place::AccountLabel,
        ROLE_NAME,
        Some("annotation of the ServiceAccount")
    )]
    #[case::misspelt(
        Place::PodLabel,
        "pod-identity.alibabacloud.com/inject",
        Some("pod-identity.alibabacloud.com/injection may be meant")
    )]
    #[case::unknown(
        Place::PodLabel,
        "pod-identity.alibabacloud.com/something-else-entirely",
        Some("there is no such key")
    )]
    #[case::other_prefix(
        Place::PodLabel,
        "pod-identity.aliyun.com/injection",
        Some("pod-identity.alibabacloud.com/injection may be meant")
    )]
    #[case::opt_out_as_label(Place::PodLabel, "rrsa.io/inject", Some("annotation of the pod"))]
    #[case::opt_out_at_home(Place::PodAnnotation, "rrsa.io/inject", None)]
    #[case::our_role_on_a_namespace(
        Place::NamespaceAnnotation,
        "rrsa.io/role-arn",
        Some("annotation of the ServiceAccount or annotation of the pod")
    )]
    #[case::our_role_at_home(Place::AccountAnnotation, "rrsa.io/role-arn", None)]
    #[case::our_role_misspelt(
        Place::PodAnnotation,
        "rrsa.io/rolearn",
        Some("rrsa.io/role-arn may be meant")
    )]
    #[case::our_role_in_short(
        Place::PodAnnotation,
        "rrsa.io/role",
        Some("rrsa.io/role-arn may be meant")
    )]
    #[case::in_capitals(
        Place::PodAnnotation,
        "rrsa.io/Mode",
        Some("rrsa.io/mode may be meant")
    )]
    #[case::official_name(
        Place::AccountAnnotation,
        "rrsa.io/role-name",
        Some("pod-identity.alibabacloud.com/role-name may be meant")
    )]
    #[case::our_name_for_theirs(
        Place::PodAnnotation,
        "pod-identity.alibabacloud.com/role-arn",
        Some("rrsa.io/role-arn may be meant")
    )]
    #[case::far_from_all(Place::PodLabel, "rrsa.io/team", Some("there is no such key"))]
    #[case::written_by_the_webhook(Place::PodAnnotation, "rrsa.io/injected-role-arn", None)]
    #[case::written_and_no_hint(
        Place::PodAnnotation,
        "rrsa.io/inject-role-arn",
        Some("rrsa.io/role-arn may be meant")
    )]
    #[case::written_by_conformance(Place::NamespaceLabel, "rrsa.io/conformance", None)]
    #[case::of_a_binding(
        Place::PodAnnotation,
        "rrsa.io/refresh-requested-at",
        Some("annotation of an AlibabaRoleBinding")
    )]
    #[case::of_a_secret(
        Place::AccountAnnotation,
        "rrsa.io/expiration",
        Some("annotation of a Secret")
    )]
    #[case::ours_below(Place::PodLabel, "team.rrsa.io/mode", None)]
    #[case::of_others(Place::PodLabel, "azure.workload.identity/use", None)]
    #[case::of_others_like_ours(Place::PodLabel, "eks-pod-identity.example.com/token", None)]
    #[case::without_prefix(Place::PodLabel, "injection", None)]
    fn a_key_is_read_in_its_places_alone(
        #[case] place: Place,
        #[case] key: &str,
        #[case] remedy: Option<&str>,
    ) {
        let note = misplaced(place, std::iter::once(key)).next();
        match (note, remedy) {
            (None, None) => {}
            (Some(note), Some(part)) => {
                assert!(note.remedy.unwrap().contains(part), "{}", note.cause);
            }
            (note, _) => panic!("{note:?}"),
        }
    }

    #[rstest]
    #[case("On", true)]
    #[case("true", true)]
    #[case(" on", true)]
    #[case("on", false)]
    #[case("off", false)]
    #[case("", false)]
    fn only_what_looks_like_on_is_a_near_miss(#[case] value: &str, #[case] near: bool) {
        assert_eq!(almost_on(value), near);
    }
}
