//! Bodies of STS: JSON when asked for, XML otherwise.

use std::fmt::Write as _;

use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::arn::RamArn;
use super::caller::Caller;
use super::refusal::Refusal;
use super::request::Format;
use super::session_request::SessionRequest;
use super::token::Claims;
use crate::simulators::clock;
use crate::simulators::faults::Answer;
use crate::simulators::issuance::IssuedCredentials;

/// The id of a role: a long number. It is derived, so it is the same in each run.
pub(crate) fn role_id(role_arn: &str) -> String {
    let digest = Sha256::digest(role_arn.as_bytes());
    let number = digest
        .iter()
        .take(7)
        .fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    format!("3{number:017}")
}

/// The result of both ways to assume a role.
pub(crate) fn assumed(
    request: &SessionRequest,
    credentials: &IssuedCredentials,
    claims: Option<&Claims>,
) -> Value {
    let SessionRequest {
        role_arn,
        session_name,
        ..
    } = request;
    let mut result = json!({
        "AssumedRoleUser": {
            "Arn": format!("{role_arn}/{session_name}"),
            "AssumedRoleId": format!("{}:{session_name}", role_id(role_arn)),
        },
        "Credentials": {
            "AccessKeyId": credentials.access_key_id,
            "AccessKeySecret": credentials.access_key_secret,
            "SecurityToken": credentials.security_token,
            "Expiration": clock::written(credentials.expiration),
        },
    });
    if let Some(claims) = claims {
        result["OIDCTokenInfo"] = json!({
            "Subject": claims.subject,
            "Issuer": claims.issuer,
            "ClientIds": claims.audiences.join(","),
            "IssuanceTime": clock::written(claims.issued),
            "ExpirationTime": clock::written(claims.expires),
            "VerificationInfo": "Success",
        });
    }
    result
}

/// The result of `GetCallerIdentity`.
pub(crate) fn identity(caller: &Caller) -> Value {
    let account = caller.account();
    match caller {
        Caller::LongLived { principal } => {
            let kind = if principal.ends_with(":root") {
                "Account"
            } else {
                "RAMUser"
            };
            let id = role_id(principal);
            json!({
                "AccountId": account, "Arn": principal, "IdentityType": kind,
                "PrincipalId": id, "UserId": id,
            })
        }
        Caller::Session(session) => {
            let role = RamArn::parse(&session.role_arn).map_or("", |arn| arn.name);
            let id = role_id(&session.role_arn);
            json!({
                "AccountId": account,
                "Arn": format!("acs:ram::{account}:assumed-role/{role}/{}", session.name),
                "IdentityType": "AssumedRoleUser",
                "PrincipalId": format!("{id}:{}", session.name),
                "RoleId": id,
            })
        }
    }
}

/// The answer of a request that succeeded.
pub(crate) fn success(action: &str, result: Value, format: Format, request_id: &str) -> Answer {
    let mut members = match result {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    members.insert("RequestId".to_owned(), request_id.into());
    written(
        StatusCode::OK,
        &format!("{action}Response"),
        &members,
        format,
        request_id,
    )
}

/// The answer of a request that was refused.
pub(crate) fn failure(refusal: &Refusal, format: Format, request_id: &str, host: &str) -> Answer {
    let mut members = Map::new();
    members.insert("RequestId".to_owned(), request_id.into());
    members.insert("HostId".to_owned(), host.into());
    members.insert("Code".to_owned(), refusal.code.as_str().into());
    members.insert("Message".to_owned(), refusal.message.as_str().into());
    members.insert(
        "Recommend".to_owned(),
        format!(
            "https://api.aliyun.com/troubleshoot?q={}&product=Sts",
            refusal.code
        )
        .into(),
    );
    written(refusal.status, "Error", &members, format, request_id)
}

fn written(
    status: StatusCode,
    root: &str,
    members: &Map<String, Value>,
    format: Format,
    request_id: &str,
) -> Answer {
    let (content_type, body) = match format {
        Format::Json => {
            let json = serde_json::to_string(members).unwrap_or_default();
            ("application/json;charset=utf-8", json)
        }
        Format::Xml => {
            let mut xml = "<?xml version='1.0' encoding='UTF-8'?>".to_owned();
            write_element(&mut xml, root, members);
            ("text/xml;charset=utf-8", xml)
        }
    };
    Answer {
        status,
        content_type: content_type.to_owned(),
        body,
        request_id: Some(request_id.to_owned()),
    }
}

/// Writing to a String cannot fail, so the results are not looked at.
fn write_element(xml: &mut String, name: &str, members: &Map<String, Value>) {
    let _ = write!(xml, "<{name}>");
    for (member, value) in members {
        match value {
            Value::Object(inner) => write_element(xml, member, inner),
            Value::String(text) => {
                let text = text
                    .replace('&', "&amp;")
                    .replace('<', "&lt;")
                    .replace('>', "&gt;");
                let _ = write!(xml, "<{member}>{text}</{member}>");
            }
            other => {
                let _ = write!(xml, "<{member}>{other}</{member}>");
            }
        }
    }
    let _ = write!(xml, "</{name}>");
}
