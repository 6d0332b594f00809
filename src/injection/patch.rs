//! JSON Patch operations, written by hand and straight to bytes.
//!
//! There are exactly the operations that injection needs: appending, making a list where there
//! is none, and, where the author asked for it, replacing or removing one of our own variables.
//! So no operation can exist that touches anything else of the pod. There is no `test`: the API
//! server applies the patch to the very object that it sent.

use std::fmt;
use std::time::Duration;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::mode::Mount;
use super::variables::{Value as Setting, Variable};
use crate::contract::annotations::INJECTED_ROLE_ARN;
use crate::contract::{AUDIENCE, CREDENTIALS_VOLUME, token_volume};

/// Which list a container stands in, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The list.
    pub list: List,
    /// Its index.
    pub index: usize,
}

/// The lists of containers in a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// The containers.
    Containers,
    /// The init containers, native sidecars among them.
    Init,
    /// The ephemeral containers.
    Ephemeral,
}

impl List {
    const fn field(self) -> &'static str {
        match self {
            Self::Containers => "containers",
            Self::Init => "initContainers",
            Self::Ephemeral => "ephemeralContainers",
        }
    }
}

/// A variable and its value.
pub type Assignment<'a> = (Variable, &'a Setting<'a>);

/// What a volume of ours holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeSource<'a> {
    /// A token of this life for STS.
    Token(Duration),
    /// The Secret of that name.
    Secret(&'a str),
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation<'a> {
    /// Gives a container without variables these.
    CreateEnv(Place, Vec<Assignment<'a>>),
    /// Appends a variable.
    AppendEnv(Place, Assignment<'a>),
    /// Replaces the variable at that index.
    ReplaceEnv(Place, usize, Assignment<'a>),
    /// Removes the variable at that index.
    RemoveEnv(Place, usize),
    /// Gives a container without mounts this one.
    CreateMounts(Place, Mount),
    /// Appends this mount.
    AppendMount(Place, Mount),
    /// Gives a pod without volumes ours.
    CreateVolumes(VolumeSource<'a>),
    /// Appends our volume.
    AppendVolume(VolumeSource<'a>),
    /// Gives a pod without metadata the annotation of this role.
    CreateMetadata(&'a str),
    /// Gives a pod without annotations that of this role.
    CreateAnnotations(&'a str),
    /// Adds the annotation of this role.
    AddAnnotation(&'a str),
    /// Corrects the annotation to this role.
    ReplaceAnnotation(&'a str),
}

/// The operations as the bytes of a JSON Patch.
///
/// # Errors
/// Never with the values of this room: plain text and numbers can always be written.
pub fn to_bytes(operations: &[Operation<'_>]) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(2 + operations.len() * 160);
    serde_json::to_writer(&mut bytes, operations)?;
    Ok(bytes)
}

/// What an operation writes.
#[derive(Serialize)]
#[serde(untagged)]
enum Value<'a> {
    Variables(Vec<EnvVar<'a>>),
    Variable(EnvVar<'a>),
    Mounts([VolumeMount; 1]),
    Mount(VolumeMount),
    Volumes([Volume<'a>; 1]),
    Volume(Volume<'a>),
    Metadata { annotations: Annotations<'a> },
    Annotations(Annotations<'a>),
    Text(&'a str),
}

#[derive(Serialize)]
struct Annotations<'a> {
    #[serde(rename = "rrsa.io/injected-role-arn")]
    role: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EnvVar<'a> {
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_from: Option<ValueFrom>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ValueFrom {
    field_ref: FieldRef,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FieldRef {
    api_version: &'static str,
    field_path: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct VolumeMount {
    name: &'static str,
    read_only: bool,
    mount_path: &'static str,
}

#[derive(Serialize)]
struct Volume<'a> {
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    projected: Option<Projected>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<SecretVolume<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SecretVolume<'a> {
    secret_name: &'a str,
    default_mode: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Projected {
    default_mode: u32,
    sources: [Source; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Source {
    service_account_token: Token,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Token {
    audience: &'static str,
    expiration_seconds: u64,
    path: &'static str,
}

impl From<Mount> for VolumeMount {
    fn from(mount: Mount) -> Self {
        Self {
            name: mount.volume,
            read_only: true,
            mount_path: mount.path,
        }
    }
}

impl<'a> From<&Assignment<'a>> for EnvVar<'a> {
    fn from((variable, setting): &Assignment<'a>) -> Self {
        let (value, value_from) = match setting {
            Setting::Text(text) => (Some(&**text), None),
            Setting::Field(field_path) => {
                let api_version = "v1";
                let field_ref = FieldRef {
                    api_version,
                    field_path,
                };
                (None, Some(ValueFrom { field_ref }))
            }
        };
        Self {
            name: variable.name(),
            value,
            value_from,
        }
    }
}

impl<'a> From<&VolumeSource<'a>> for Volume<'a> {
    fn from(source: &VolumeSource<'a>) -> Self {
        match source {
            VolumeSource::Token(life) => Self {
                name: token_volume::NAME,
                projected: Some(Projected::from(*life)),
                secret: None,
            },
            VolumeSource::Secret(secret_name) => Self {
                name: CREDENTIALS_VOLUME,
                projected: None,
                secret: Some(SecretVolume {
                    secret_name,
                    default_mode: token_volume::DEFAULT_MODE,
                }),
            },
        }
    }
}

impl From<Duration> for Projected {
    fn from(life: Duration) -> Self {
        let service_account_token = Token {
            audience: AUDIENCE,
            expiration_seconds: life.as_secs(),
            path: token_volume::FILE,
        };
        Self {
            default_mode: token_volume::DEFAULT_MODE,
            sources: [Source {
                service_account_token,
            }],
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/spec/{}/{}", self.list.field(), self.index)
    }
}

struct Path<'o, 'a>(&'o Operation<'a>);

impl fmt::Display for Path<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Operation::CreateEnv(at, _) => write!(f, "{at}/env"),
            Operation::AppendEnv(at, _) => write!(f, "{at}/env/-"),
            Operation::ReplaceEnv(at, index, _) | Operation::RemoveEnv(at, index) => {
                write!(f, "{at}/env/{index}")
            }
            Operation::CreateMounts(at, _) => write!(f, "{at}/volumeMounts"),
            Operation::AppendMount(at, _) => write!(f, "{at}/volumeMounts/-"),
            Operation::CreateVolumes(_) => f.write_str("/spec/volumes"),
            Operation::AppendVolume(_) => f.write_str("/spec/volumes/-"),
            Operation::CreateMetadata(_) => f.write_str("/metadata"),
            Operation::CreateAnnotations(_) => f.write_str("/metadata/annotations"),
            Operation::AddAnnotation(_) | Operation::ReplaceAnnotation(_) => {
                let key = INJECTED_ROLE_ARN.replace('/', "~1");
                write!(f, "/metadata/annotations/{key}")
            }
        }
    }
}

impl<'a> Operation<'a> {
    fn verb(&self) -> &'static str {
        match self {
            Self::ReplaceEnv(..) | Self::ReplaceAnnotation(_) => "replace",
            Self::RemoveEnv(..) => "remove",
            _ => "add",
        }
    }

    fn value(&self) -> Option<Value<'a>> {
        Some(match self {
            Self::CreateEnv(_, all) => Value::Variables(all.iter().map(EnvVar::from).collect()),
            Self::AppendEnv(_, one) | Self::ReplaceEnv(_, _, one) => Value::Variable(one.into()),
            Self::RemoveEnv(..) => return None,
            Self::CreateMounts(_, mount) => Value::Mounts([(*mount).into()]),
            Self::AppendMount(_, mount) => Value::Mount((*mount).into()),
            Self::CreateVolumes(source) => Value::Volumes([source.into()]),
            Self::AppendVolume(source) => Value::Volume(source.into()),
            Self::CreateMetadata(role) => {
                let annotations = Annotations { role };
                Value::Metadata { annotations }
            }
            Self::CreateAnnotations(role) => Value::Annotations(Annotations { role }),
            Self::AddAnnotation(role) | Self::ReplaceAnnotation(role) => Value::Text(role),
        })
    }
}

impl Serialize for Operation<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let value = self.value();
        let mut object = out.serialize_struct("Operation", 2 + usize::from(value.is_some()))?;
        object.serialize_field("op", self.verb())?;
        object.serialize_field("path", &format_args!("{}", Path(self)))?;
        if let Some(value) = &value {
            object.serialize_field("value", value)?;
        }
        object.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::injection::mode;

    const CONTAINER: Place = Place {
        list: List::Containers,
        index: 3,
    };
    const INIT: Place = Place {
        list: List::Init,
        index: 0,
    };

    fn written(operation: Operation<'_>) -> String {
        String::from_utf8(to_bytes(&[operation]).unwrap()).unwrap()
    }

    #[test]
    fn operations_are_written_as_rfc_6902_wants_them() {
        let value = Setting::from("a\"b\\");
        let role = (Variable::RoleArn, &value);
        assert_eq!(
            written(Operation::CreateEnv(INIT, vec![role])),
            r#"[{"op":"add","path":"/spec/initContainers/0/env","value":[{"name":"ALIBABA_CLOUD_ROLE_ARN","value":"a\"b\\"}]}]"#
        );
        assert_eq!(
            written(Operation::RemoveEnv(CONTAINER, 7)),
            r#"[{"op":"remove","path":"/spec/containers/3/env/7"}]"#
        );
        assert_eq!(
            written(Operation::AppendMount(CONTAINER, mode::TOKEN)),
            r#"[{"op":"add","path":"/spec/containers/3/volumeMounts/-","value":{"name":"rrsa-oidc-token","readOnly":true,"mountPath":"/var/run/secrets/ack.alibabacloud.com/rrsa-tokens"}}]"#
        );
        assert_eq!(
            written(Operation::CreateVolumes(VolumeSource::Token(
                Duration::from_mins(10)
            ))),
            r#"[{"op":"add","path":"/spec/volumes","value":[{"name":"rrsa-oidc-token","projected":{"defaultMode":420,"sources":[{"serviceAccountToken":{"audience":"sts.aliyuncs.com","expirationSeconds":600,"path":"token"}}]}}]}]"#
        );
    }

    #[test]
    fn fields_secrets_and_annotations_are_written() {
        let host = Setting::Field("status.hostIP");
        let ephemeral = Place {
            list: List::Ephemeral,
            index: 1,
        };
        assert_eq!(
            written(Operation::AppendEnv(ephemeral, (Variable::HostIp, &host))),
            r#"[{"op":"add","path":"/spec/ephemeralContainers/1/env/-","value":{"name":"RRSA_HOST_IP","valueFrom":{"fieldRef":{"apiVersion":"v1","fieldPath":"status.hostIP"}}}}]"#
        );
        assert_eq!(
            written(Operation::AppendVolume(VolumeSource::Secret("s"))),
            r#"[{"op":"add","path":"/spec/volumes/-","value":{"name":"rrsa-credentials","secret":{"secretName":"s","defaultMode":420}}}]"#
        );
        assert_eq!(
            written(Operation::CreateMetadata("arn")),
            r#"[{"op":"add","path":"/metadata","value":{"annotations":{"rrsa.io/injected-role-arn":"arn"}}}]"#
        );
        assert_eq!(
            written(Operation::ReplaceAnnotation("arn")),
            r#"[{"op":"replace","path":"/metadata/annotations/rrsa.io~1injected-role-arn","value":"arn"}]"#
        );
        // The key is spelt in an attribute, too.
        assert_eq!(INJECTED_ROLE_ARN, "rrsa.io/injected-role-arn");
    }
}
