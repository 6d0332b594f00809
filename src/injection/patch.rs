//! JSON Patch operations, written by hand and straight to bytes.
//!
//! There are exactly the operations that injection needs: appending, making a list where there
//! is none, and, where the author asked for it, replacing or removing one of our own variables.
//! So no operation can exist that touches anything else of the pod. There is no `test`: the API
//! server applies the patch to the very object that it sent.

use std::time::Duration;

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

/// What an operation, or one variable of several in an operation, takes as a rule.
const PART: usize = 192;

/// The operations as the bytes of a JSON Patch.
#[must_use]
pub fn to_bytes(operations: &[Operation<'_>]) -> Vec<u8> {
    let variables = |operation: &Operation<'_>| match operation {
        Operation::CreateEnv(_, all) => all.len().max(1),
        _ => 1,
    };
    let parts: usize = operations.iter().map(variables).sum();
    let mut out = Writer(Vec::with_capacity(2 + parts * PART));
    out.list(operations, |out, operation| operation.write(out));
    out.0
}

impl Operation<'_> {
    fn write(&self, out: &mut Writer) {
        out.raw(match self {
            Self::ReplaceEnv(..) | Self::ReplaceAnnotation(_) => r#"{"op":"replace","path":""#,
            Self::RemoveEnv(..) => r#"{"op":"remove","path":""#,
            _ => r#"{"op":"add","path":""#,
        });
        self.path(out);
        if matches!(self, Self::RemoveEnv(..)) {
            out.raw(r#""}"#);
            return;
        }
        out.raw(r#"","value":"#);
        self.value(out);
        out.raw("}");
    }

    fn path(&self, out: &mut Writer) {
        match self {
            Self::CreateEnv(at, _) => {
                out.place(*at);
                out.raw("/env");
            }
            Self::AppendEnv(at, _) => {
                out.place(*at);
                out.raw("/env/-");
            }
            Self::ReplaceEnv(at, index, _) | Self::RemoveEnv(at, index) => {
                out.place(*at);
                out.raw("/env/");
                out.number(*index as u64);
            }
            Self::CreateMounts(at, _) => {
                out.place(*at);
                out.raw("/volumeMounts");
            }
            Self::AppendMount(at, _) => {
                out.place(*at);
                out.raw("/volumeMounts/-");
            }
            Self::CreateVolumes(_) => out.raw("/spec/volumes"),
            Self::AppendVolume(_) => out.raw("/spec/volumes/-"),
            Self::CreateMetadata(_) => out.raw("/metadata"),
            Self::CreateAnnotations(_) => out.raw("/metadata/annotations"),
            Self::AddAnnotation(_) | Self::ReplaceAnnotation(_) => {
                out.raw("/metadata/annotations/");
                out.raw(&INJECTED_ROLE_ARN.replace('/', "~1"));
            }
        }
    }

    fn value(&self, out: &mut Writer) {
        match self {
            Self::CreateEnv(_, all) => out.list(all, Writer::variable),
            Self::AppendEnv(_, one) | Self::ReplaceEnv(_, _, one) => out.variable(one),
            Self::RemoveEnv(..) => {}
            Self::CreateMounts(_, mount) => out.list(&[*mount], Writer::mount),
            Self::AppendMount(_, mount) => out.mount(mount),
            Self::CreateVolumes(source) => out.list(std::slice::from_ref(source), Writer::volume),
            Self::AppendVolume(source) => out.volume(source),
            Self::CreateMetadata(role) => {
                out.raw(r#"{"annotations":"#);
                out.annotations(role);
                out.raw("}");
            }
            Self::CreateAnnotations(role) => out.annotations(role),
            Self::AddAnnotation(role) | Self::ReplaceAnnotation(role) => out.text(role),
        }
    }
}

/// Receives JSON. A patch is written for each pod, and most of its bytes are the same each time: so
/// they are copied and not derived, and where they are known to the compiler in one piece, as they
/// are wherever possible, not even a copy is called.
struct Writer(Vec<u8>);

impl Writer {
    /// What is JSON already.
    #[inline]
    fn raw(&mut self, json: &str) {
        self.0.extend_from_slice(json.as_bytes());
    }

    /// A container's path.
    fn place(&mut self, Place { list, index }: Place) {
        match list {
            List::Containers => self.raw("/spec/containers/"),
            List::Init => self.raw("/spec/initContainers/"),
            List::Ephemeral => self.raw("/spec/ephemeralContainers/"),
        }
        self.number(index as u64);
    }

    fn number(&mut self, number: u64) {
        if number < 10 {
            // As nearly always.
            return self.0.push(b'0' + (number % 10) as u8);
        }
        let (mut digits, mut rest, mut at) = ([0; 20], number, 20);
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.0.extend_from_slice(&digits[at..]);
    }

    /// A text with its quotes.
    fn text(&mut self, text: &str) {
        self.raw("\"");
        if text
            .bytes()
            .fold(false, |found, byte| found | is_special(byte))
        {
            text.bytes().for_each(|byte| self.escaped(byte));
        } else {
            self.raw(text);
        }
        self.raw("\"");
    }

    fn escaped(&mut self, byte: u8) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        match byte {
            b'"' | b'\\' => self.0.extend_from_slice(&[b'\\', byte]),
            0..0x20 => {
                self.raw("\\u00");
                let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
                self.0.extend_from_slice(&[HEX[high], HEX[low]]);
            }
            _ => self.0.push(byte),
        }
    }

    fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        let mut separator = "[";
        for item in items {
            self.raw(separator);
            write(self, item);
            separator = ",";
        }
        self.raw(if items.is_empty() { "[]" } else { "]" });
    }

    fn variable(&mut self, (variable, setting): &Assignment<'_>) {
        self.raw(r#"{"name":""#);
        self.raw(variable.name());
        match setting {
            Setting::Text(text) => {
                self.raw(r#"","value":"#);
                self.text(text);
                self.raw("}");
            }
            Setting::Field(path) => {
                self.raw(r#"","valueFrom":{"fieldRef":{"apiVersion":"v1","fieldPath":"#);
                self.text(path);
                self.raw("}}}");
            }
        }
    }

    fn mount(&mut self, mount: &Mount) {
        self.raw(r#"{"name":"#);
        self.text(mount.volume);
        self.raw(r#","readOnly":true,"mountPath":"#);
        self.text(mount.path);
        self.raw("}");
    }

    fn volume(&mut self, source: &VolumeSource<'_>) {
        let mode = u64::from(token_volume::DEFAULT_MODE);
        self.raw(r#"{"name":"#);
        match source {
            VolumeSource::Token(life) => {
                self.text(token_volume::NAME);
                self.raw(r#","projected":{"defaultMode":"#);
                self.number(mode);
                self.raw(r#","sources":[{"serviceAccountToken":{"audience":"#);
                self.text(AUDIENCE);
                self.raw(r#","expirationSeconds":"#);
                self.number(life.as_secs());
                self.raw(r#","path":"#);
                self.text(token_volume::FILE);
                self.raw("}}]}}");
            }
            VolumeSource::Secret(name) => {
                self.text(CREDENTIALS_VOLUME);
                self.raw(r#","secret":{"secretName":"#);
                self.text(name);
                self.raw(r#","defaultMode":"#);
                self.number(mode);
                self.raw("}}");
            }
        }
    }

    fn annotations(&mut self, role: &str) {
        self.raw("{");
        self.text(INJECTED_ROLE_ARN);
        self.raw(":");
        self.text(role);
        self.raw("}");
    }
}

/// Whether a byte of a JSON string must be escaped.
const fn is_special(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | 0..0x20)
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

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
        String::from_utf8(to_bytes(&[operation])).unwrap()
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
    }

    #[test]
    fn several_operations_are_a_list_and_none_an_empty_one() {
        let both = [
            Operation::RemoveEnv(CONTAINER, 120),
            Operation::RemoveEnv(CONTAINER, 10),
        ];
        let list: serde_json::Value = serde_json::from_slice(&to_bytes(&both)).unwrap();
        assert_eq!(list[1]["path"], "/spec/containers/3/env/10");
        assert_eq!(list.as_array().unwrap().len(), 2);
        assert_eq!(to_bytes(&[]), b"[]");
    }

    proptest! {
        #[test]
        fn any_text_and_number_comes_back_from_a_parser(text: String, number: u64) {
            let mut out = Writer(Vec::new());
            out.list(&[text.as_str()], |out, text| out.text(text));
            prop_assert_eq!(serde_json::from_slice::<[String; 1]>(&out.0).unwrap(), [text]);
            let mut out = Writer(Vec::new());
            out.number(number);
            prop_assert_eq!(out.0, number.to_string().into_bytes());
        }
    }
}
