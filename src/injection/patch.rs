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

use super::variables::Variable;
use crate::contract::{AUDIENCE, token_volume};

/// Which list a container stands in, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Whether it is an init container.
    pub init: bool,
    /// Its index.
    pub index: usize,
}

/// A variable and its value.
pub type Assignment<'a> = (Variable, &'a str);

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
    /// Gives a container without mounts that of the token.
    CreateMounts(Place),
    /// Appends the mount of the token.
    AppendMount(Place),
    /// Gives a pod without volumes that of the token, of this life.
    CreateVolumes(Duration),
    /// Appends the volume of the token, of this life.
    AppendVolume(Duration),
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
    Volumes([Volume; 1]),
    Volume(Volume),
}

#[derive(Serialize)]
struct EnvVar<'a> {
    name: &'static str,
    value: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct VolumeMount {
    name: &'static str,
    read_only: bool,
    mount_path: &'static str,
}

#[derive(Serialize)]
struct Volume {
    name: &'static str,
    projected: Projected,
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

const MOUNT: VolumeMount = VolumeMount {
    name: token_volume::NAME,
    read_only: true,
    mount_path: token_volume::MOUNT_PATH,
};

impl<'a> From<&Assignment<'a>> for EnvVar<'a> {
    fn from((variable, value): &Assignment<'a>) -> Self {
        Self {
            name: variable.name(),
            value,
        }
    }
}

impl From<Duration> for Volume {
    fn from(life: Duration) -> Self {
        let service_account_token = Token {
            audience: AUDIENCE,
            expiration_seconds: life.as_secs(),
            path: token_volume::FILE,
        };
        Self {
            name: token_volume::NAME,
            projected: Projected {
                default_mode: token_volume::DEFAULT_MODE,
                sources: [Source {
                    service_account_token,
                }],
            },
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = if self.init {
            "initContainers"
        } else {
            "containers"
        };
        write!(f, "/spec/{list}/{}", self.index)
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
            Operation::CreateMounts(at) => write!(f, "{at}/volumeMounts"),
            Operation::AppendMount(at) => write!(f, "{at}/volumeMounts/-"),
            Operation::CreateVolumes(_) => f.write_str("/spec/volumes"),
            Operation::AppendVolume(_) => f.write_str("/spec/volumes/-"),
        }
    }
}

impl<'a> Operation<'a> {
    fn verb(&self) -> &'static str {
        match self {
            Self::ReplaceEnv(..) => "replace",
            Self::RemoveEnv(..) => "remove",
            _ => "add",
        }
    }

    fn value(&self) -> Option<Value<'a>> {
        Some(match self {
            Self::CreateEnv(_, all) => Value::Variables(all.iter().map(EnvVar::from).collect()),
            Self::AppendEnv(_, one) | Self::ReplaceEnv(_, _, one) => Value::Variable(one.into()),
            Self::RemoveEnv(..) => return None,
            Self::CreateMounts(_) => Value::Mounts([MOUNT]),
            Self::AppendMount(_) => Value::Mount(MOUNT),
            Self::CreateVolumes(life) => Value::Volumes([Volume::from(*life)]),
            Self::AppendVolume(life) => Value::Volume(Volume::from(*life)),
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

    const CONTAINER: Place = Place {
        init: false,
        index: 3,
    };
    const INIT: Place = Place {
        init: true,
        index: 0,
    };

    fn written(operation: Operation<'_>) -> String {
        String::from_utf8(to_bytes(&[operation]).unwrap()).unwrap()
    }

    #[test]
    fn operations_are_written_as_rfc_6902_wants_them() {
        let role = (Variable::RoleArn, "a\"b\\");
        assert_eq!(
            written(Operation::CreateEnv(INIT, vec![role])),
            r#"[{"op":"add","path":"/spec/initContainers/0/env","value":[{"name":"ALIBABA_CLOUD_ROLE_ARN","value":"a\"b\\"}]}]"#
        );
        assert_eq!(
            written(Operation::RemoveEnv(CONTAINER, 7)),
            r#"[{"op":"remove","path":"/spec/containers/3/env/7"}]"#
        );
        assert_eq!(
            written(Operation::AppendMount(CONTAINER)),
            r#"[{"op":"add","path":"/spec/containers/3/volumeMounts/-","value":{"name":"rrsa-oidc-token","readOnly":true,"mountPath":"/var/run/secrets/ack.alibabacloud.com/rrsa-tokens"}}]"#
        );
        assert_eq!(
            written(Operation::CreateVolumes(Duration::from_mins(10))),
            r#"[{"op":"add","path":"/spec/volumes","value":[{"name":"rrsa-oidc-token","projected":{"defaultMode":420,"sources":[{"serviceAccountToken":{"audience":"sts.aliyuncs.com","expirationSeconds":600,"path":"token"}}]}}]}]"#
        );
    }
}
