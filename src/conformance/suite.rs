//! The cases of this release, built into the binary.

use super::case::{Case, List, Unreadable};

macro_rules! cases {
    ($list:expr, $folder:literal, $($name:literal)*) => {
        &[$(($list, $name, include_str!(concat!("cases/", $folder, "/", $name, ".yaml"))),)*]
    };
}

type Text = (List, &'static str, &'static str);

#[rustfmt::skip]
const DOCUMENTED: &[Text] = cases!(List::Documented, "documented",
    "containers-all"
    "containers-only-one"
    "containers-only-two"
    "containers-skip-one"
    "containers-skip-two"
    "containers-skip-wins"
    "env-own-kept"
    "expiration-longest"
    "expiration-no-number"
    "expiration-pod"
    "expiration-pod-wins"
    "expiration-serviceaccount"
    "expiration-shortest"
    "expiration-too-long"
    "expiration-too-short"
    "namespace-on"
    "namespace-other"
    "namespace-unlabelled"
    "override-labelled-pod"
    "override-namespace"
    "override-namespace-false"
    "override-pod"
    "pod-on"
    "pod-on-namespace-off"
    "pod-other-namespace-off"
    "pod-other-namespace-on"
    "rest-untouched"
    "role-absent"
    "role-empty"
    "role-illegal"
    "sts-endpoint"
);

#[rustfmt::skip]
const CORNERS: &[Text] = cases!(List::Corner, "corners",
    "env-own-identity"
    "expiration-blanks"
    "expiration-leading-zeros"
    "expiration-plus-sign"
    "expiration-pod-illegal"
    "init-containers"
    "init-containers-lists"
    "injection-pod-upper-case"
    "injection-true"
    "injection-upper-case"
    "lists-blanks"
    "lists-case"
    "lists-only-empty"
    "lists-only-unknown"
    "lists-skip-all"
    "marks"
    "mount-equivalent"
    "mount-taken"
    "override-pod-false"
    "override-pod-junk"
    "override-upper-case"
    "role-name-arn"
    "role-name-blank"
    "role-name-longest"
    "role-name-too-long"
    "sts-endpoint-other"
    "volume-equivalent"
    "volume-other"
    "windows"
);

/// The documented cases, and the corners after them if they are asked for.
///
/// # Errors
/// When a file is not of the shape of [`Case`], which a test rules out.
pub fn cases(corners: bool) -> Result<Vec<Case>, Unreadable> {
    let corners = if corners { CORNERS } else { &[] };
    DOCUMENTED
        .iter()
        .chain(corners)
        .map(|(list, name, text)| Case::parse(*list, name, text))
        .collect()
}
