//! The containers of a pod, their variables and mounts.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::SeqAccess;

use super::Text;
use crate::injection::mode;
use crate::injection::seen::{Seen, Shape, drain, object_shape};
use crate::injection::variables::{Value, Variable};

/// Our mounts.
const OURS: [mode::Mount; 2] = [mode::TOKEN, mode::CREDENTIALS];
/// Parts of the longest of our mount paths.
const OUR_DEPTH: usize = 8;
/// Most containers of one kind that are looked at: no node runs a pod with more, and the patch of each is
/// many times as long as the shortest container.
const MAX_CONTAINERS: usize = 1_000;

/// A list in which every element is a container with a name.
#[derive(Debug, Default)]
pub struct Containers<'a>(pub Vec<Container<'a>>);

/// One container.
#[derive(Debug)]
pub struct Container<'a> {
    /// Its name.
    pub name: Cow<'a, str>,
    /// Its variables.
    pub env: Seen<Environment<'a>>,
    /// Its mounts.
    pub mounts: Seen<Mounts<'a>>,
    /// The Secrets whose keys become variables of the same names.
    pub env_secrets: Vec<Cow<'a, str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawContainer<'a> {
    #[serde(borrow, default)]
    name: Text<'a>,
    #[serde(borrow, default)]
    env: Seen<Environment<'a>>,
    #[serde(borrow, default)]
    volume_mounts: Seen<Mounts<'a>>,
    #[serde(borrow, default)]
    env_from: Seen<EnvFrom<'a>>,
}

/// A container's own settings of variables that we know, in their order.
#[derive(Debug, Default)]
pub struct Environment<'a>(pub Vec<Setting<'a>>);

/// One setting of a variable that we know.
#[derive(Debug)]
pub struct Setting<'a> {
    /// Its place in the list.
    pub index: usize,
    /// Which variable.
    pub variable: Variable,
    /// What it is set to.
    pub value: Own<'a>,
}

/// What a container sets a variable to.
#[derive(Debug, PartialEq, Eq)]
pub enum Own<'a> {
    /// A literal text.
    Text(Cow<'a, str>),
    /// A field of the pod, by its path.
    Field(Cow<'a, str>),
    /// Something else.
    Elsewhere,
}

impl PartialEq<Value<'_>> for Own<'_> {
    fn eq(&self, value: &Value<'_>) -> bool {
        match (self, value) {
            (Self::Text(own), Value::Text(ours)) => own == ours,
            (Self::Field(own), Value::Field(ours)) => own == ours,
            _ => false,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawSetting<'a> {
    #[serde(borrow, default)]
    name: Text<'a>,
    #[serde(borrow, default)]
    value: Text<'a>,
    #[serde(default)]
    value_from: Seen<ValueFrom<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ValueFrom<'a> {
    #[serde(borrow, default)]
    field_ref: Seen<FieldRef<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct FieldRef<'a> {
    #[serde(borrow, default)]
    field_path: Text<'a>,
}

/// The Secrets whose keys become variables of the same names.
#[derive(Debug, Default)]
struct EnvFrom<'a>(Vec<Cow<'a, str>>);

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEnvFrom<'a> {
    #[serde(borrow, default)]
    prefix: Text<'a>,
    #[serde(borrow, default)]
    secret_ref: Seen<SecretRef<'a>>,
}

#[derive(Debug, Default, Deserialize)]
struct SecretRef<'a> {
    #[serde(borrow, default)]
    name: Text<'a>,
}

/// A container's mounts at one of our paths, and the first of those above or below each.
#[derive(Debug, Default)]
pub struct Mounts<'a>(pub Vec<Mount<'a>>);

/// One such mount.
#[derive(Debug)]
pub struct Mount<'a> {
    /// Name of the volume.
    pub volume: Cow<'a, str>,
    /// Where it lies.
    pub path: Cow<'a, str>,
    /// Whether only a part of the volume is mounted.
    pub partial: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMount<'a> {
    #[serde(borrow, default)]
    name: Text<'a>,
    #[serde(borrow, default)]
    mount_path: Text<'a>,
    #[serde(borrow, default)]
    sub_path: Text<'a>,
    #[serde(borrow, default)]
    sub_path_expr: Text<'a>,
}

/// How a path lies to that of a mount of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The same.
    Same,
    /// Above ours.
    Above,
    /// Below ours.
    Below,
    /// Somewhere else.
    Elsewhere,
}

object_shape!(
    RawContainer<'a>,
    RawSetting<'a>,
    RawMount<'a>,
    ValueFrom<'a>,
    FieldRef<'a>,
    RawEnvFrom<'a>,
    SecretRef<'a>
);

impl<'de: 'a, 'a> Shape<'de> for Containers<'a> {
    fn from_list<A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        let mut containers = Vec::new();
        while let Some(container) = list.next_element::<Seen<RawContainer<'de>>>()? {
            let container = container.into_value().and_then(Container::new);
            let (Some(container), true) = (container, containers.len() < MAX_CONTAINERS) else {
                drain(&mut list)?;
                return Ok(None);
            };
            containers.push(container);
        }
        Ok(Some(Self(containers)))
    }
}

impl<'a> Container<'a> {
    fn new(raw: RawContainer<'a>) -> Option<Self> {
        let name = raw.name.into_value()?;
        (!raw.env.is_other() && !raw.volume_mounts.is_other()).then_some(Self {
            name,
            env: raw.env,
            mounts: raw.volume_mounts,
            env_secrets: raw
                .env_from
                .into_value()
                .map_or_else(Vec::new, |from| from.0),
        })
    }
}

impl<'de: 'a, 'a> Shape<'de> for Environment<'a> {
    fn from_list<A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        let mut settings = Vec::new();
        let mut index = 0;
        while let Some(setting) = list.next_element::<Seen<RawSetting<'de>>>()? {
            if let Some(raw) = setting.into_value()
                && let Some(variable) = raw.name.text().and_then(Variable::named)
            {
                settings.push(Setting {
                    index,
                    variable,
                    value: raw.own(),
                });
            }
            index += 1;
        }
        Ok(Some(Self(settings)))
    }
}

impl<'de: 'a, 'a> Shape<'de> for EnvFrom<'a> {
    fn from_list<A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        let mut secrets = Vec::new();
        while let Some(source) = list.next_element::<Seen<RawEnvFrom<'de>>>()? {
            let Some(raw) = source.into_value() else {
                continue;
            };
            if raw.prefix.text().is_none_or(str::is_empty)
                && let Some(secret) = raw.secret_ref.into_value()
                && let Some(name) = secret.name.into_value()
            {
                secrets.push(name);
            }
        }
        Ok(Some(Self(secrets)))
    }
}

impl<'a> RawSetting<'a> {
    /// The value as the kubelet would set it: an absent one is empty.
    fn own(self) -> Own<'a> {
        match (self.value_from, self.value) {
            (Seen::Absent | Seen::Null, Seen::Value(text)) => Own::Text(text),
            (Seen::Absent | Seen::Null, Seen::Absent | Seen::Null) => Own::Text(Cow::Borrowed("")),
            (Seen::Value(from), Seen::Absent | Seen::Null) => {
                let field = from.field_ref.into_value();
                let path = field.and_then(|field| field.field_path.into_value());
                path.map_or(Own::Elsewhere, Own::Field)
            }
            _ => Own::Elsewhere,
        }
    }
}

impl<'de: 'a, 'a> Shape<'de> for Mounts<'a> {
    fn from_list<A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        let mut mounts = Vec::new();
        let mut nested = OURS.map(|_| false);
        while let Some(mount) = list.next_element::<Seen<RawMount<'de>>>()? {
            let Some(raw) = mount.into_value() else {
                continue;
            };
            let Some(path) = raw.mount_path.into_value() else {
                continue;
            };
            let mut is_news = false;
            for (ours, nested) in OURS.iter().zip(&mut nested) {
                match Place::of(&path, ours.path) {
                    Place::Same => is_news = true,
                    // One of them says as much as thousands.
                    Place::Above | Place::Below => is_news |= !std::mem::replace(nested, true),
                    Place::Elsewhere => {}
                }
            }
            if !is_news {
                continue;
            }
            let given = |text: &Text<'_>| text.text().is_some_and(|text| !text.is_empty());
            let partial = given(&raw.sub_path) || given(&raw.sub_path_expr);
            let volume = raw.name.into_value().unwrap_or_default();
            mounts.push(Mount {
                volume,
                path,
                partial,
            });
        }
        Ok(Some(Self(mounts)))
    }
}

impl Place {
    /// Where a mount path lies, after lexical cleaning. Windows paths are compared as theirs are:
    /// without the drive, either slash, in any case.
    #[must_use]
    pub fn of(path: &str, ours: &str) -> Self {
        let drive = path.as_bytes().get(1) == Some(&b':');
        if drive || path.contains('\\') {
            let path = path.get(2..).filter(|_| drive).unwrap_or(path);
            return Self::of_posix(&path.replace('\\', "/").to_ascii_lowercase(), ours);
        }
        Self::of_posix(path, ours)
    }

    fn of_posix(path: &str, ours: &str) -> Self {
        // Nearly all paths are clean and differ early on.
        let differs = || {
            path.bytes()
                .zip(ours.bytes())
                .any(|(one, other)| one != other)
        };
        let mut pairs = path.as_bytes().windows(2);
        if path.starts_with('/') && differs() && !pairs.any(|pair| matches!(pair, b"//" | b"/.")) {
            return Self::Elsewhere;
        }
        // Only as many parts as ours has can be equal; deeper ones are counted.
        let mut parts = [""; OUR_DEPTH];
        let mut depth = 0;
        for part in path.split('/') {
            match part {
                "" | "." => {}
                ".." => depth = usize::saturating_sub(depth, 1),
                _ => {
                    if let Some(place) = parts.get_mut(depth) {
                        *place = part;
                    }
                    depth += 1;
                }
            }
        }
        let mut parts = parts.into_iter().take(depth);
        let mut ours = ours.split('/').filter(|part| !part.is_empty());
        loop {
            match (parts.next(), ours.next()) {
                (None, None) if depth > OUR_DEPTH => return Self::Below,
                (None, None) => return Self::Same,
                (None, Some(_)) => return Self::Above,
                (Some(_), None) => return Self::Below,
                (Some(one), Some(other)) if one == other => {}
                (Some(_), Some(_)) => return Self::Elsewhere,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn containers(json: &str) -> Seen<Containers<'_>> {
        serde_json::from_str(json).unwrap()
    }

    #[rstest]
    #[case::null("null")]
    #[case::object(r#"{"name":"a"}"#)]
    #[case::null_element(r#"[{"name":"a"},null]"#)]
    #[case::nameless(r#"[{"image":"a"}]"#)]
    #[case::env_is_text(r#"[{"name":"a","env":"x"}]"#)]
    #[case::mounts_are_a_number(r#"[{"name":"a","volumeMounts":1}]"#)]
    fn containers_that_are_none_are_noticed(#[case] json: &str) {
        assert!(containers(json).value().is_none());
    }

    #[test]
    fn a_million_nulls_are_not_kept() {
        let json = format!("[{}null]", "null,".repeat(1_000_000));
        assert!(containers(&json).is_other());
    }

    #[test]
    fn settings_keep_their_place_among_odd_entries() {
        let json = r#"[{"name":"a","env":[null,{"value":"x"},
            {"name":"alibaba_cloud_role_arn"},
            {"name":"ALIBABA_CLOUD_ROLE_ARN","valueFrom":{"fieldRef":{}}},
            {"name":"ALIBABA_CLOUD_ROLE_ARN"}]}]"#;
        let containers = containers(json).into_value().unwrap();
        let settings = &containers.0[0].env.value().unwrap().0;
        let seen: Vec<_> = settings.iter().map(|s| (s.index, &s.value)).collect();
        let (elsewhere, empty) = (Own::Elsewhere, Own::Text("".into()));
        assert_eq!(seen, [(3, &elsewhere), (4, &empty)]);
    }

    #[rstest]
    #[case::text(r#"{"value":"x"}"#, Own::Text("x".into()))]
    #[case::field(r#"{"valueFrom":{"fieldRef":{"apiVersion":"v1","fieldPath":"status.hostIP"}}}"#,
        Own::Field("status.hostIP".into()))]
    #[case::secret(
        r#"{"valueFrom":{"secretKeyRef":{"name":"s","key":"k"}}}"#,
        Own::Elsewhere
    )]
    #[case::both(
        r#"{"value":"x","valueFrom":{"fieldRef":{"fieldPath":"a"}}}"#,
        Own::Elsewhere
    )]
    #[case::odd(r#"{"valueFrom":5}"#, Own::Elsewhere)]
    #[case::number(r#"{"value":5}"#, Own::Elsewhere)]
    fn values_are_texts_fields_or_something_else(#[case] json: &str, #[case] expected: Own<'_>) {
        let raw: RawSetting<'_> = serde_json::from_str(json).unwrap();
        assert_eq!(raw.own(), expected);
    }

    #[test]
    fn only_secrets_without_a_prefix_set_variables_of_their_keys_names() {
        let json = r#"[{"name":"a","envFrom":[{"secretRef":{"name":"s"}},null,{"secretRef":null},
            {"prefix":"","secretRef":{"name":"t"}},{"prefix":"X_","secretRef":{"name":"u"}},
            {"configMapRef":{"name":"c"}}]},{"name":"b","envFrom":5}]"#;
        let containers = containers(json).into_value().unwrap();
        assert_eq!(containers.0[0].env_secrets, ["s", "t"]);
        assert!(containers.0[1].env_secrets.is_empty());
    }

    #[test]
    fn of_many_mounts_above_and_below_the_first_is_kept() {
        let many = r#"{"name":"v","mountPath":"/"},"#.repeat(100_000);
        let json = format!(
            r#"[{{"name":"a","volumeMounts":[{many}{{"name":"w","mountPath":"{}"}},{{"name":"x","mountPath":"{}/y"}}]}}]"#,
            mode::TOKEN.path,
            mode::CREDENTIALS.path,
        );
        let containers = containers(&json).into_value().unwrap();
        let mounts = &containers.0[0].mounts.value().unwrap().0;
        let kept: Vec<_> = mounts.iter().map(|mount| &*mount.volume).collect();
        assert_eq!(kept, ["v", "w"]);
    }

    #[rstest]
    #[case("/var/run/secrets/ack.alibabacloud.com/rrsa-tokens", Place::Same)]
    #[case("/var/run/secrets/ack.alibabacloud.com/rrsa-tokens/", Place::Same)]
    #[case(
        "/var//run/./secrets/x/../ack.alibabacloud.com/rrsa-tokens",
        Place::Same
    )]
    #[case("/../var/run/secrets/ack.alibabacloud.com/rrsa-tokens", Place::Same)]
    #[case(r"C:\Var\run\secrets\ack.alibabacloud.com\rrsa-tokens", Place::Same)]
    #[case("/var/run/secrets", Place::Above)]
    #[case("/", Place::Above)]
    #[case(
        "/var/run/secrets/ack.alibabacloud.com/rrsa-tokens/token",
        Place::Below
    )]
    #[case("/var/run/secrets/ack.alibabacloud.com/rrsa-tokens2", Place::Elsewhere)]
    #[case("/Var/run/secrets/ack.alibabacloud.com/rrsa-tokens", Place::Elsewhere)]
    #[case("/var/run/secrets/kubernetes.io/serviceaccount", Place::Elsewhere)]
    #[case("", Place::Above)]
    fn paths_are_compared_after_cleaning(#[case] path: &str, #[case] place: Place) {
        assert_eq!(Place::of(path, mode::TOKEN.path), place, "{path}");
    }
}
