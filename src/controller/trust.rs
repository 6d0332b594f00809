//! The statements that a role's trust policy needs, ready to paste. Pure.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::chain::ExternalId;
use super::reason::Reason;
use crate::contract::AUDIENCE;
use crate::contract::arn::{ProviderArn, RoleArn};
use crate::secret::SecretText;

/// Who asked for a role and was not trusted.
#[derive(Debug)]
pub(super) enum Asker<'a> {
    /// A token, vouched for by a provider.
    Token {
        /// The provider.
        provider: &'a ProviderArn,
        /// The token.
        token: &'a SecretText,
    },
    /// A session of a role.
    Role {
        /// The role.
        arn: &'a RoleArn,
        /// The external id that it gave.
        external_id: Option<&'a ExternalId>,
    },
}

impl Asker<'_> {
    /// What to do where the role does not trust this asker.
    pub(super) fn remedy(&self) -> String {
        let statement = self.statement();
        let add = Reason::NotTrusted.remedy();
        match self {
            Self::Token { .. } => format!("{add} {statement}"),
            // STS gives one answer for both.
            Self::Role { arn, .. } => {
                format!("Allow {arn} the action sts:AssumeRole. {add} {statement}")
            }
        }
    }

    fn statement(&self) -> Value {
        let mut statement = json!({"Action": "sts:AssumeRole", "Effect": "Allow"});
        match self {
            Self::Token { provider, token } => {
                let claims = Claims::of(token);
                return for_tokens(provider, &claims.iss, &[claims.sub]);
            }
            Self::Role { arn, external_id } => {
                statement["Principal"] = json!({"RAM": [arn.as_str()]});
                if let Some(id) = external_id {
                    let id = match id {
                        ExternalId::Author(id) => id.expose(),
                        ExternalId::Administrator(_) => {
                            "<externalId of the operator's configuration>"
                        }
                    };
                    statement["Condition"] = json!({"StringEquals": {"sts:ExternalId": id}});
                }
            }
        }
        statement
    }
}

/// The statement that lends a role to the subjects of a provider's tokens.
pub(crate) fn for_tokens(provider: &ProviderArn, issuer: &str, subjects: &[String]) -> Value {
    let subjects = match subjects {
        [one] => json!(one),
        several => json!(several),
    };
    json!({
        "Action": "sts:AssumeRole",
        "Effect": "Allow",
        "Principal": {"Federated": [provider.as_str()]},
        "Condition": {"StringEquals": {
            "oidc:aud": AUDIENCE,
            "oidc:iss": issuer,
            "oidc:sub": subjects,
        }},
    })
}

/// What a token says of itself. Not verified: it only words a remedy.
#[derive(Debug, Default, Deserialize)]
struct Claims {
    #[serde(default)]
    iss: String,
    #[serde(default)]
    sub: String,
}

impl Claims {
    fn of(token: &SecretText) -> Self {
        let payload = token.expose().split('.').nth(1).unwrap_or_default();
        BASE64_URL_SAFE_NO_PAD
            .decode(payload)
            .ok()
            .and_then(|json| serde_json::from_slice(&json).ok())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(remedy: &str) -> Value {
        serde_json::from_str(
            remedy
                .split_once(": {")
                .map(|(_, rest)| format!("{{{rest}"))
                .unwrap()
                .as_str(),
        )
        .unwrap()
    }

    #[test]
    fn the_statement_for_a_token_names_provider_issuer_and_subject_and_not_the_token() {
        let payload = BASE64_URL_SAFE_NO_PAD.encode(
            r#"{"iss":"https://issuer","sub":"system:serviceaccount:team-a:app","aud":["x"]}"#,
        );
        let token = SecretText::new(format!("header.{payload}.signature"));
        let provider = "acs:ram::1:oidc-provider/p".parse().unwrap();
        let remedy = Asker::Token {
            provider: &provider,
            token: &token,
        }
        .remedy();
        let statement = statement(&remedy);
        let condition = &statement["Condition"]["StringEquals"];
        assert_eq!(condition["oidc:sub"], "system:serviceaccount:team-a:app");
        assert_eq!(condition["oidc:iss"], "https://issuer");
        assert_eq!(
            statement["Principal"]["Federated"][0],
            "acs:ram::1:oidc-provider/p"
        );
        assert!(!remedy.contains("signature"));
    }

    #[test]
    fn the_statement_for_a_role_names_the_role_before_and_the_external_id_of_its_author_only() {
        let arn: RoleArn = "acs:ram::1:role/before".parse().unwrap();
        let remedy = |external_id: Option<&ExternalId>| {
            Asker::Role {
                arn: &arn,
                external_id,
            }
            .remedy()
        };
        let plain = statement(&remedy(None));
        assert_eq!(plain["Principal"]["RAM"][0], "acs:ram::1:role/before");
        assert!(plain.get("Condition").is_none());
        let mine = ExternalId::Author("mine-1".into());
        let named = statement(&remedy(Some(&mine)));
        assert_eq!(
            named["Condition"]["StringEquals"]["sts:ExternalId"],
            "mine-1"
        );
        let theirs = ExternalId::Administrator("theirs-1".into());
        assert!(!remedy(Some(&theirs)).contains("theirs-1"));
    }

    #[test]
    fn a_token_that_is_no_jwt_words_an_empty_statement() {
        assert_eq!(Claims::of(&"nonsense".into()).sub, "");
    }
}
