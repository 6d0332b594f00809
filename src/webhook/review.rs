//! `AdmissionReview` v1: the part of a request that is read, and the whole of an answer.
//!
//! The answer is `allowed: true` unless strict mode refuses a pod. What cannot be read is the caller's fault and what
//! fails is ours; both are told by the HTTP status, so that `failurePolicy` decides and not we.

use std::borrow::Cow;
use std::collections::BTreeMap;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use std::sync::LazyLock;

use base64::Engine;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
use base64::engine::general_purpose::STANDARD as ENCODER;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use base64::engine::{Simd, general_purpose::PAD};
use serde::{Deserialize, Serialize};

use super::json;
use super::names::may_be_namespace;
use crate::injection::decision::{Kind, Reason, Warning};
use crate::injection::mode::Mode;
use crate::injection::pod::{Pod, Text};
use crate::injection::seen::{Seen, object_shape};

/// Uses the vector instructions that the machine has: most of an answer is an encoded patch.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
static ENCODER: LazyLock<Simd> = LazyLock::new(|| Simd::standard(PAD));

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";
/// Room for everything in an answer but its patch, where there are no warnings.
const WITHOUT_PATCH: usize = 512;
/// Longest uid that is echoed; the API server's have 36 characters.
const MAX_UID: usize = 128;

/// A review that was asked for.
#[derive(Debug)]
pub struct Review<'a> {
    /// Ties the answer to the question.
    pub uid: Cow<'a, str>,
    /// Namespace of the request, which counts; the object's is often empty.
    pub namespace: Cow<'a, str>,
    /// Name of the object, where it has one already.
    pub name: Cow<'a, str>,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// The pod to be created or to get ephemeral containers; `None` when the request is about
    /// something else.
    pub pod: Option<Box<Pod<'a>>>,
    /// The pod as it was, where it gets ephemeral containers.
    pub before: Option<Box<Pod<'a>>>,
}

/// Why a body is no review.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// Not JSON, JSON that contradicts itself, or nested deeper than anything legal.
    #[error("the body is not a valid AdmissionReview: {0}")]
    Json(#[from] json::Error),
    /// Another version or kind.
    #[error("apiVersion and kind must be {API_VERSION} and {KIND}")]
    Version,
    /// A part is missing or has another shape.
    #[error("{0} is missing or not what it should be")]
    Part(&'static str),
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawReview<'a> {
    #[serde(borrow, default)]
    api_version: Text<'a>,
    #[serde(borrow, default)]
    kind: Text<'a>,
    #[serde(borrow, default)]
    request: Seen<Request<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    #[serde(borrow, default)]
    uid: Text<'a>,
    #[serde(borrow, default)]
    resource: Seen<Resource<'a>>,
    #[serde(borrow, default)]
    sub_resource: Text<'a>,
    #[serde(borrow, default)]
    operation: Text<'a>,
    #[serde(borrow, default)]
    namespace: Text<'a>,
    #[serde(borrow, default)]
    name: Text<'a>,
    #[serde(default)]
    dry_run: Seen<bool>,
    #[serde(borrow, default)]
    object: Seen<Box<Pod<'a>>>,
    #[serde(borrow, default)]
    old_object: Seen<Box<Pod<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
struct Resource<'a> {
    #[serde(borrow, default)]
    group: Text<'a>,
    #[serde(borrow, default)]
    version: Text<'a>,
    #[serde(rename = "resource", borrow, default)]
    plural: Text<'a>,
}

object_shape!(RawReview<'a>, Request<'a>, Resource<'a>);

impl<'a> Review<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// When the body is not a review that can be answered.
    pub fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let review: Seen<RawReview<'a>> = json::from_slice(body)?;
        let review = review.into_value().ok_or(Malformed::Part("the review"))?;
        if review.api_version.text() != Some(API_VERSION) || review.kind.text() != Some(KIND) {
            return Err(Malformed::Version);
        }
        let request = review
            .request
            .into_value()
            .ok_or(Malformed::Part("request"))?;
        let uid = request
            .uid
            .into_value()
            .ok_or(Malformed::Part("request.uid"))?;
        if uid.is_empty() || uid.len() > MAX_UID {
            return Err(Malformed::Part("request.uid"));
        }
        let resource = request
            .resource
            .value()
            .ok_or(Malformed::Part("request.resource"))?;
        let operation = request
            .operation
            .text()
            .ok_or(Malformed::Part("request.operation"))?;
        let sub_resource = request.sub_resource.text().unwrap_or_default();
        let (mut pod, mut before) = (None, None);
        match (operation, sub_resource) {
            _ if !resource.is_pods() => {}
            ("CREATE", "") => {
                let object = request.object.into_value();
                pod = Some(object.ok_or(Malformed::Part("request.object"))?);
            }
            ("UPDATE", "ephemeralcontainers") => {
                let object = request.object.into_value();
                pod = Some(object.ok_or(Malformed::Part("request.object"))?);
                let old = request.old_object.into_value();
                before = Some(old.ok_or(Malformed::Part("request.oldObject"))?);
            }
            _ => {}
        }
        let namespace = request.namespace.into_value().unwrap_or_default();
        if pod.is_some() && !may_be_namespace(&namespace) {
            return Err(Malformed::Part("request.namespace"));
        }
        let name = request.name.into_value().unwrap_or_default();
        Ok(Self {
            uid,
            namespace,
            name,
            dry_run: request.dry_run.value() == Some(&true),
            pod,
            before,
        })
    }
}

impl Resource<'_> {
    fn is_pods(&self) -> bool {
        self.group.text().unwrap_or_default().is_empty()
            && self.version.text() == Some("v1")
            && self.plural.text() == Some("pods")
    }
}

/// What is answered.
#[derive(Debug)]
pub struct Verdict {
    /// The decision about the whole pod.
    pub reason: Reason,
    /// What the pod's author can mend.
    pub warnings: Vec<Warning>,
    /// The role, when one was injected.
    pub role: Option<String>,
    /// How the pod gets its credentials, when they were injected.
    pub mode: Option<Mode>,
    /// The JSON Patch, when there is something to do.
    pub patch: Option<Vec<u8>>,
}

impl Verdict {
    /// Leaves the object as it is.
    #[must_use]
    pub const fn untouched(reason: Reason, warnings: Vec<Warning>) -> Self {
        Self {
            reason,
            warnings,
            role: None,
            mode: None,
            patch: None,
        }
    }

    /// The verdict of strict mode: refused if one of the warnings is about an annotation.
    #[must_use]
    pub fn strict(self) -> Self {
        let wrong = |warning: &Warning| warning.reason.kind() == Kind::Annotation;
        if self.warnings.iter().any(wrong) {
            return Self::untouched(Reason::Denied, self.warnings);
        }
        self
    }

    /// The words of a refusal: every warning that led to it.
    fn refusal(&self) -> String {
        let wrong = |warning: &&Warning| warning.reason.kind() == Kind::Annotation;
        let sentences = self.warnings.iter().filter(wrong).map(Warning::sentence);
        sentences.collect::<Vec<_>>().join("; ")
    }

    /// The codes of the warnings, each once.
    #[must_use]
    pub fn warning_codes(&self) -> String {
        let mut codes: Vec<_> = self
            .warnings
            .iter()
            .map(|warning| warning.reason.code())
            .collect();
        codes.sort_unstable();
        codes.dedup();
        codes.join(",")
    }

    /// The body of the answer to the review of that uid.
    ///
    /// # Errors
    /// Never with plain text; the caller treats one as a fault of ours.
    pub fn to_body(&self, uid: &str) -> serde_json::Result<Vec<u8>> {
        let codes = self.warning_codes();
        let mut audit_annotations = BTreeMap::from([("decision", self.reason.code())]);
        if !codes.is_empty() {
            audit_annotations.insert("warnings", &codes);
        }
        if let Some(role) = &self.role {
            audit_annotations.insert("role", role);
        }
        if let Some(mode) = self.mode.filter(|mode| *mode != Mode::Oidc) {
            audit_annotations.insert("mode", mode.word());
        }
        let allowed = self.reason != Reason::Denied;
        let response = Response {
            uid,
            allowed,
            status: (!allowed).then(|| Status {
                code: 422,
                reason: "Invalid",
                message: self.refusal(),
            }),
            // What the refusal says need not be said twice.
            warnings: self
                .warnings
                .iter()
                .filter(|warning| allowed || warning.reason.kind() != Kind::Annotation)
                .map(Warning::sentence)
                .collect(),
            audit_annotations,
        };
        let patch = self.patch.as_deref();
        let mut body = Vec::with_capacity(WITHOUT_PATCH + patch.map_or(0, encoded_length));
        serde_json::to_writer(
            &mut body,
            &Answer {
                api_version: API_VERSION,
                kind: KIND,
                response,
            },
        )?;
        if let Some(patch) = patch {
            append_patch(&mut body, patch);
        }
        Ok(body)
    }
}

/// What a patch takes once it is encoded.
const fn encoded_length(patch: &[u8]) -> usize {
    patch.len().div_ceil(3) * 4
}

/// Makes a patch the last field of an answer that is written already. It is most of the answer, and
/// its encoding needs no escapes, so it is written into its place instead of through a text.
fn append_patch(body: &mut Vec<u8>, patch: &[u8]) {
    // The brackets of the response and of the answer.
    body.truncate(body.len() - 2);
    body.extend_from_slice(br#","patchType":"JSONPatch","patch":""#);
    let start = body.len();
    body.resize(start + encoded_length(patch), 0);
    // There is exactly as much room as the encoding takes.
    let written = ENCODER.encode_slice(patch, &mut body[start..]);
    body.truncate(start + written.unwrap_or_default());
    body.extend_from_slice(b"\"}}");
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    audit_annotations: BTreeMap<&'static str, &'a str>,
}

#[derive(Serialize)]
struct Status {
    code: u16,
    reason: &'static str,
    message: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn review() -> Value {
        json!({"apiVersion": API_VERSION, "kind": KIND, "request": {
            "uid": "u-1", "operation": "CREATE", "namespace": "team-a",
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "object": {"metadata": {"namespace": "other"}}}})
    }

    fn changed(pointer: &str, value: Value) -> String {
        let mut review = review();
        *review.pointer_mut(pointer).unwrap() = value;
        review.to_string()
    }

    #[test]
    fn the_requests_namespace_counts() {
        let text = review().to_string();
        let review = Review::parse(text.as_bytes()).unwrap();
        assert_eq!((&*review.uid, &*review.namespace), ("u-1", "team-a"));
        assert!(review.pod.is_some());
    }

    #[rstest]
    #[case::update("/request/operation", json!("UPDATE"))]
    #[case::delete("/request/operation", json!("DELETE"))]
    #[case::connect("/request/operation", json!("CONNECT"))]
    #[case::services("/request/resource/resource", json!("services"))]
    #[case::group("/request/resource/group", json!("example.com"))]
    fn other_requests_are_not_about_a_new_pod(#[case] pointer: &str, #[case] value: Value) {
        let text = changed(pointer, value);
        assert!(Review::parse(text.as_bytes()).unwrap().pod.is_none());
    }

    #[rstest]
    #[case("binding")]
    #[case("exec")]
    #[case("status")]
    #[case("resize")]
    fn subresources_are_not_about_a_new_pod(#[case] sub: &str) {
        let mut review = review();
        review["request"]["subResource"] = json!(sub);
        assert!(
            Review::parse(review.to_string().as_bytes())
                .unwrap()
                .pod
                .is_none()
        );
    }

    #[test]
    fn new_ephemeral_containers_come_with_the_pod_as_it_was() {
        let mut review = review();
        review["request"]["subResource"] = json!("ephemeralcontainers");
        review["request"]["operation"] = json!("UPDATE");
        assert!(Review::parse(review.to_string().as_bytes()).is_err());
        review["request"]["oldObject"] = json!({"spec": {}});
        let text = review.to_string();
        let parsed = Review::parse(text.as_bytes()).unwrap();
        assert!(parsed.pod.is_some() && parsed.before.is_some());
    }

    #[test]
    fn strict_mode_refuses_only_what_an_annotation_can_mend() {
        let about = |reason| Warning::names(reason, "thing", std::iter::once("a"));
        let served = Verdict::untouched(Reason::Injected, vec![about(Reason::VariablesMixed)]);
        assert_eq!(served.strict().reason, Reason::Injected);
        let reasons = [Reason::VariablesMixed, Reason::ExpirationIllegal];
        let refused = Verdict::untouched(Reason::Injected, reasons.map(about).into()).strict();
        let body: Value = serde_json::from_slice(&refused.to_body("u-1").unwrap()).unwrap();
        let response = &body["response"];
        assert_eq!(
            (&response["allowed"], &response["uid"]),
            (&json!(false), &json!("u-1"))
        );
        let message = response["status"]["message"].as_str().unwrap();
        assert!(message.contains("\"7200\"") && !message.contains("VariablesMixed"));
        assert!(response.get("patch").is_none());
    }

    #[rstest]
    #[case::no_request("/request", Value::Null)]
    #[case::empty_uid("/request/uid", json!(""))]
    #[case::no_uid("/request/uid", Value::Null)]
    #[case::numeric_uid("/request/uid", json!(5))]
    #[case::long_uid("/request/uid", json!("u".repeat(1 << 20)))]
    #[case::null_object("/request/object", Value::Null)]
    #[case::list_object("/request/object", json!([]))]
    #[case::text_object("/request/object", json!("pod"))]
    #[case::old_version("/apiVersion", json!("admission.k8s.io/v1beta1"))]
    #[case::new_version("/apiVersion", json!("admission.k8s.io/v2"))]
    #[case::other_kind("/kind", json!("ConversionReview"))]
    #[case::other_case("/kind", json!("admissionreview"))]
    fn odd_reviews_are_malformed(#[case] pointer: &str, #[case] value: Value) {
        assert!(Review::parse(changed(pointer, value).as_bytes()).is_err());
    }

    #[rstest]
    #[case::empty("")]
    #[case::no_json("hello")]
    #[case::truncated(r#"{"apiVersion":"admission.k8s.io/v1","#)]
    #[case::list("[]")]
    #[case::deep(&"[".repeat(10_000))]
    fn what_is_no_json_object_is_malformed(#[case] body: &str) {
        assert!(Review::parse(body.as_bytes()).is_err());
    }

    #[test]
    fn trailing_bytes_and_doubled_keys_are_malformed() {
        assert!(Review::parse(format!("{}x", review()).as_bytes()).is_err());
        let doubled = review()
            .to_string()
            .replacen(r#""uid""#, r#""uid":"u-0","uid""#, 1);
        assert!(Review::parse(doubled.as_bytes()).is_err());
    }

    #[test]
    fn a_depth_of_10_000_below_an_ignored_key_is_malformed() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        let text = review()
            .to_string()
            .replacen(r#""uid""#, &format!(r#""x":{deep},"uid""#), 1);
        assert!(matches!(
            Review::parse(text.as_bytes()),
            Err(Malformed::Json(json::Error {
                problem: json::Problem::Depth,
                ..
            }))
        ));
    }

    #[test]
    fn an_error_never_quotes_the_body() {
        let text = review().to_string().replacen("u-1", r"secret\ud800", 1);
        let error = Review::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn a_patch_is_the_last_field_whatever_its_length() {
        for length in 0..200 {
            let patch = vec![b'x'; length];
            let verdict = Verdict {
                patch: Some(patch.clone()),
                ..Verdict::untouched(Reason::Injected, Vec::new())
            };
            let answer: Value = serde_json::from_slice(&verdict.to_body("u-1").unwrap()).unwrap();
            let response = &answer["response"];
            assert_eq!(response["patchType"], "JSONPatch");
            assert_eq!(response["patch"], STANDARD.encode(&patch));
            assert_eq!(response["auditAnnotations"]["decision"], "Injected");
        }
    }

    #[test]
    fn nothing_to_do_means_no_patch_field() {
        let body = Verdict::untouched(Reason::NoRole, Vec::new())
            .to_body("u-1")
            .unwrap();
        assert_eq!(
            String::from_utf8(body).unwrap(),
            r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"u-1","allowed":true,"auditAnnotations":{"decision":"NoRole"}}}"#
        );
    }
}
