//! The parts of a pod that decide about injection, borrowed from the review's bytes.
//!
//! A typed pod knows only the fields of its own Kubernetes version, and everybody who re-encodes
//! one has dropped newer fields. So nothing here is ever written back: the views say what is
//! there and at which index, and the patch touches exactly that. Long lists are reduced while
//! they are read, so that memory follows what matters and not what was sent.

mod containers;
mod volumes;

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{Error, IgnoredAny, MapAccess};

pub use containers::{Container, Containers, Environment, Mount, Mounts, Own, Place, Setting};
pub use volumes::Volumes;

use super::seen::{Seen, Shape, object_shape};
use crate::contract::annotations::{self, official};

/// The annotation that the kubelet puts on the mirror of a static pod; its value does not matter.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// A text of the review.
pub type Text<'a> = Seen<Cow<'a, str>>;

/// A pod, or what was sent as one.
#[derive(Debug, Default, Deserialize)]
pub struct Pod<'a> {
    #[serde(borrow, default)]
    metadata: Seen<Metadata<'a>>,
    /// What runs.
    #[serde(borrow, default)]
    pub spec: Seen<Spec<'a>>,
}

#[derive(Debug, Default, Deserialize)]
struct Metadata<'a> {
    #[serde(borrow, default)]
    labels: Seen<Labels<'a>>,
    #[serde(borrow, default)]
    annotations: Seen<Annotations<'a>>,
}

/// The one label that counts.
#[derive(Debug, Default)]
struct Labels<'a> {
    injection: Text<'a>,
}

/// The annotations that count.
#[derive(Debug, Default)]
pub struct Annotations<'a> {
    /// `rrsa.io/role-arn`.
    pub role_arn: Text<'a>,
    /// `rrsa.io/inject`.
    pub inject: Text<'a>,
    /// `rrsa.io/mode`.
    pub mode: Text<'a>,
    /// `rrsa.io/fallback`.
    pub fallback: Text<'a>,
    /// `rrsa.io/binding`.
    pub binding: Text<'a>,
    /// `rrsa.io/injected-role-arn`.
    pub injected_role_arn: Text<'a>,
    /// `pod-identity.alibabacloud.com/override-env`.
    pub override_env: Text<'a>,
    /// `pod-identity.alibabacloud.com/service-account-token-expiration`.
    pub token_expiration: Text<'a>,
    /// `pod-identity.alibabacloud.com/only-containers`.
    pub only_containers: Text<'a>,
    /// `pod-identity.alibabacloud.com/skip-containers`.
    pub skip_containers: Text<'a>,
    mirror: Text<'a>,
}

/// The part of a pod's specification that decides.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec<'a> {
    #[serde(borrow, default)]
    service_account_name: Text<'a>,
    #[serde(borrow, default)]
    service_account: Text<'a>,
    /// The containers.
    #[serde(borrow, default)]
    pub containers: Seen<Containers<'a>>,
    /// The init containers, native sidecars among them.
    #[serde(borrow, default)]
    pub init_containers: Seen<Containers<'a>>,
    /// The ephemeral containers.
    #[serde(borrow, default)]
    pub ephemeral_containers: Seen<Containers<'a>>,
    /// The volumes.
    #[serde(borrow, default)]
    pub volumes: Seen<Volumes<'a>>,
    #[serde(borrow, default)]
    os: Seen<Os<'a>>,
    #[serde(borrow, default)]
    node_selector: Seen<NodeSelector<'a>>,
}

#[derive(Debug, Default, Deserialize)]
struct Os<'a> {
    #[serde(borrow, default)]
    name: Text<'a>,
}

#[derive(Debug, Default)]
struct NodeSelector<'a> {
    os: Text<'a>,
    beta_os: Text<'a>,
}

object_shape!(Pod<'a>, Metadata<'a>, Spec<'a>, Os<'a>);

impl<'a> Pod<'a> {
    /// The value of the label `pod-identity.alibabacloud.com/injection`.
    #[must_use]
    pub fn injection_label(&self) -> Option<&str> {
        self.metadata.value()?.labels.value()?.injection.text()
    }

    /// The annotations, if there are any.
    #[must_use]
    pub fn annotations(&self) -> Option<&Annotations<'a>> {
        self.metadata.value()?.annotations.value()
    }

    /// Where an annotation of ours would go.
    #[must_use]
    pub fn annotations_place(&self) -> AnnotationsPlace<'_> {
        match &self.metadata {
            Seen::Absent | Seen::Null => AnnotationsPlace::NoMetadata,
            Seen::Other => AnnotationsPlace::Malformed,
            Seen::Value(metadata) => match &metadata.annotations {
                Seen::Absent | Seen::Null => AnnotationsPlace::NoAnnotations,
                Seen::Other => AnnotationsPlace::Malformed,
                Seen::Value(annotations) => {
                    AnnotationsPlace::Annotations(&annotations.injected_role_arn)
                }
            },
        }
    }

    /// All containers of every kind.
    pub fn containers(&self) -> impl Iterator<Item = &Container<'a>> {
        let spec = self.spec.value();
        let lists = spec.map(|spec| {
            [
                &spec.containers,
                &spec.init_containers,
                &spec.ephemeral_containers,
            ]
        });
        let lists = lists.into_iter().flatten().filter_map(Seen::value);
        lists.flat_map(|containers| &containers.0)
    }

    /// The names of the ephemeral containers.
    pub fn ephemeral_names(&self) -> impl Iterator<Item = &str> {
        let list = self
            .spec
            .value()
            .and_then(|spec| spec.ephemeral_containers.value());
        let all = list.map_or(&[][..], |containers| &containers.0);
        all.iter().map(|container| &*container.name)
    }

    /// Whether the kubelet made this pod as the mirror of a static one.
    #[must_use]
    pub fn is_mirror(&self) -> bool {
        self.annotations()
            .is_some_and(|annotations| !matches!(annotations.mirror, Seen::Absent))
    }

    /// Name of the ServiceAccount. The admission plugin fills it in before webhooks are called,
    /// but that may be switched off.
    #[must_use]
    pub fn service_account(&self) -> &str {
        let spec = self.spec.value();
        spec.and_then(|spec| spec.service_account_name.text())
            .filter(|name| !name.is_empty())
            .or_else(|| spec.and_then(|spec| spec.service_account.text()))
            .filter(|name| !name.is_empty())
            .unwrap_or("default")
    }

    /// Whether the pod is for Windows: it says so, or else it selects such nodes.
    #[must_use]
    pub fn is_windows(&self) -> bool {
        let Some(spec) = self.spec.value() else {
            return false;
        };
        let selected = || {
            let selector = spec.node_selector.value()?;
            selector.os.text().or_else(|| selector.beta_os.text())
        };
        let said = spec.os.value().and_then(|os| os.name.text());
        said.or_else(selected) == Some("windows")
    }
}

/// Where an annotation of ours would go.
#[derive(Debug)]
pub enum AnnotationsPlace<'p> {
    /// There is no metadata.
    NoMetadata,
    /// There are no annotations.
    NoAnnotations,
    /// There are annotations, with this value of ours.
    Annotations(&'p Text<'p>),
    /// What is there cannot take one.
    Malformed,
}

/// An object of texts of which a few keys count.
trait Keys<'a>: Default {
    /// Where the value of that key belongs; `None`: it does not count.
    fn slot(&mut self, key: &str) -> Option<&mut Text<'a>>;
}

impl<'a> Keys<'a> for Labels<'a> {
    fn slot(&mut self, key: &str) -> Option<&mut Text<'a>> {
        (key == official::INJECTION).then_some(&mut self.injection)
    }
}

impl<'a> Keys<'a> for Annotations<'a> {
    fn slot(&mut self, key: &str) -> Option<&mut Text<'a>> {
        Some(match key {
            annotations::ROLE_ARN => &mut self.role_arn,
            annotations::INJECT => &mut self.inject,
            annotations::MODE => &mut self.mode,
            annotations::FALLBACK => &mut self.fallback,
            annotations::BINDING => &mut self.binding,
            annotations::INJECTED_ROLE_ARN => &mut self.injected_role_arn,
            official::OVERRIDE_ENV => &mut self.override_env,
            official::TOKEN_EXPIRATION => &mut self.token_expiration,
            official::ONLY_CONTAINERS => &mut self.only_containers,
            official::SKIP_CONTAINERS => &mut self.skip_containers,
            MIRROR => &mut self.mirror,
            _ => return None,
        })
    }
}

impl<'a> Keys<'a> for NodeSelector<'a> {
    fn slot(&mut self, key: &str) -> Option<&mut Text<'a>> {
        match key {
            "kubernetes.io/os" => Some(&mut self.os),
            "beta.kubernetes.io/os" => Some(&mut self.beta_os),
            _ => None,
        }
    }
}

fn read_keys<'de: 'a, 'a, T, A>(mut map: A) -> Result<Option<T>, A::Error>
where
    T: Keys<'a>,
    A: MapAccess<'de>,
{
    let mut keys = T::default();
    while let Some(key) = map.next_key::<Text<'de>>()? {
        match key.text().and_then(|key| keys.slot(key)) {
            Some(slot @ Seen::Absent) => *slot = map.next_value()?,
            // Nobody can say which of two values the API server would take.
            Some(_) => return Err(Error::custom("a key stands twice in one object")),
            None => {
                map.next_value::<IgnoredAny>()?;
            }
        }
    }
    Ok(Some(keys))
}

macro_rules! keys_shape {
    ($($name:ident),*) => {$(
        impl<'de: 'a, 'a> Shape<'de> for $name<'a> {
            fn from_map<A: MapAccess<'de>>(map: A) -> Result<Option<Self>, A::Error> {
                read_keys(map)
            }
        }
    )*};
}
keys_shape!(Labels, Annotations, NodeSelector);

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn pod(json: &str) -> Seen<Pod<'_>> {
        serde_json::from_str(json).unwrap()
    }

    #[rstest]
    #[case::said(r#"{"os":{"name":"windows"}}"#, true)]
    #[case::said_wins(
        r#"{"os":{"name":"linux"},"nodeSelector":{"kubernetes.io/os":"windows"}}"#,
        false
    )]
    #[case::selected(r#"{"nodeSelector":{"kubernetes.io/os":"windows"}}"#, true)]
    #[case::beta(r#"{"nodeSelector":{"beta.kubernetes.io/os":"windows"}}"#, true)]
    #[case::nothing("{}", false)]
    fn windows_is_said_or_selected(#[case] json: &str, #[case] windows: bool) {
        let json = format!(r#"{{"spec":{json}}}"#);
        assert_eq!(pod(&json).value().unwrap().is_windows(), windows);
    }

    #[rstest]
    #[case::name(r#"{"serviceAccountName":"a","serviceAccount":"b"}"#, "a")]
    #[case::old_field(r#"{"serviceAccount":"b"}"#, "b")]
    #[case::empty(r#"{"serviceAccountName":""}"#, "default")]
    #[case::absent("{}", "default")]
    fn the_service_account_is_found(#[case] json: &str, #[case] name: &str) {
        let json = format!(r#"{{"spec":{json}}}"#);
        assert_eq!(pod(&json).value().unwrap().service_account(), name);
    }

    #[test]
    fn a_doubled_annotation_is_refused_and_an_odd_one_ignored() {
        let doubled =
            r#"{"metadata":{"annotations":{"rrsa.io/inject":"on","rrsa.io/inject":"off"}}}"#;
        assert!(serde_json::from_str::<Seen<Pod<'_>>>(doubled).is_err());
        let odd = r#"{"metadata":{"labels":null,"annotations":{"rrsa.io/inject":5,"x":{}}}}"#;
        assert!(
            pod(odd)
                .value()
                .unwrap()
                .annotations()
                .unwrap()
                .inject
                .is_other()
        );
    }
}
