//! Which of the official keys has an effect where. Pure.

use super::finding::{Note, Problem};
use crate::contract::annotations::official::{
    INJECT_STS_ENDPOINT, INJECTION, INJECTION_ON, ONLY_CONTAINERS, OVERRIDE_ENV, ROLE_NAME,
    SKIP_CONTAINERS, TOKEN_EXPIRATION,
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
        }
    }
}

/// Where each key is read.
const READ: [(&str, &[Place]); 7] = [
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
    let known = READ.iter().find(|(known, _)| *known == key);
    let remedy = match known {
        Some((_, places)) if places.contains(&place) => return None,
        Some((_, places)) => {
            let places: Vec<_> = places.iter().map(|place| place.words()).collect();
            format!("it is read as {}", places.join(" or "))
        }
        None if prefix == official => match nearest(name) {
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

/// The known key that differs in few letters.
fn nearest(name: &str) -> Option<&'static str> {
    let names = READ.iter().map(|(key, _)| *key);
    names
        .map(|key| {
            let known = key.split_once('/').map_or(key, |(_, known)| known);
            (distance(known, name), key)
        })
        .filter(|(distance, _)| *distance <= 4)
        .min()
        .map(|(_, key)| key)
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
