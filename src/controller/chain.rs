//! The roles after the first one: each is assumed with the session of the one before. Pure.

use std::time::Duration;

use super::reason::{Problem, Reason};
use super::wanted::checked_policy;
use crate::api::configuration::Delegation;
use crate::api::v1alpha1::AssumeStep;
use crate::contract::arn::RoleArn;
use crate::secret::SecretText;

/// Longest session of a role that a session of another role assumes.
pub const MAX_DURATION: Duration = Duration::from_hours(1);

/// One step of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The role.
    pub role_arn: RoleArn,
    /// What its trust policy may ask for besides the role before it.
    pub external_id: Option<ExternalId>,
    /// Life of the session.
    pub duration: Duration,
    /// Session policy.
    pub policy: Option<String>,
}

/// An external id and who chose it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExternalId {
    /// The binding's author, in the spec.
    Author(SecretText),
    /// The cluster's administrator. Authors of bindings are not shown it.
    Administrator(SecretText),
}

impl ExternalId {
    /// The text for STS.
    #[must_use]
    pub const fn text(&self) -> &SecretText {
        match self {
            Self::Author(text) | Self::Administrator(text) => text,
        }
    }

    /// The administrator's, if there is one.
    #[must_use]
    pub fn of_administrator(text: Option<&String>) -> Option<Self> {
        text.map(|text| Self::Administrator(text.as_str().into()))
    }
}

impl Step {
    /// What the credentials depend on. A word of the administrator is left out: the hash of the
    /// inputs can be read by authors, who could try out words until one fits.
    pub(super) fn inputs(&self) -> serde_json::Value {
        let external_id = match &self.external_id {
            None => serde_json::Value::Null,
            Some(ExternalId::Author(id)) => id.expose().into(),
            Some(ExternalId::Administrator(_)) => true.into(),
        };
        serde_json::json!([
            self.role_arn.as_str(),
            external_id,
            self.duration.as_secs(),
            self.policy,
        ])
    }
}

/// The ARNs of the steps, checked.
pub(super) fn roles(steps: &[AssumeStep]) -> Result<Vec<RoleArn>, Problem> {
    let role = |(number, step): (usize, &AssumeStep)| {
        step.arn
            .parse()
            .map_err(|error| invalid(number, "arn", error))
    };
    steps.iter().enumerate().map(role).collect()
}

/// The steps, completed. With the operator's own token only the administrator chooses external ids.
pub(super) fn steps(
    steps: &[AssumeStep],
    roles: Vec<RoleArn>,
    delegation: Option<&Delegation>,
) -> Result<Vec<Step>, Problem> {
    let complete = |(number, (step, role_arn)): (usize, (&AssumeStep, RoleArn))| {
        let external_id = match (delegation, &step.external_id) {
            (Some(_), Some(_)) => {
                return Err(invalid(
                    number,
                    "externalId",
                    "with tokenSource type File it comes from the administrator's delegation entry",
                ));
            }
            (Some(entry), None) => ExternalId::of_administrator(entry.external_id.as_ref()),
            (None, id) => id.as_deref().map(|id| ExternalId::Author(id.into())),
        };
        let duration = step
            .duration_seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map_or(MAX_DURATION, Duration::from_secs);
        if !(crate::sts::MIN_DURATION..=MAX_DURATION).contains(&duration) {
            return Err(invalid(number, "durationSeconds", "must be 900 to 3600"));
        }
        Ok(Step {
            role_arn,
            external_id,
            duration,
            policy: checked_policy(
                &format!("spec.assume[{number}].policy"),
                step.policy.as_ref(),
            )?,
        })
    };
    let pairs = steps.iter().zip(roles);
    pairs.enumerate().map(complete).collect()
}

fn invalid(number: usize, field: &str, problem: impl std::fmt::Display) -> Problem {
    Problem::new(
        Reason::InvalidSpec,
        format!("spec.assume[{number}].{field}: {problem}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn resolved(
        spec: serde_json::Value,
        delegation: Option<&Delegation>,
    ) -> Result<Vec<Step>, Problem> {
        let spec: Vec<AssumeStep> = serde_json::from_value(spec).unwrap();
        let roles = roles(&spec)?;
        steps(&spec, roles, delegation)
    }

    #[test]
    fn what_is_left_out_has_the_documented_default() {
        let steps = resolved(
            json!([{"arn": "acs:ram::1:role/b", "externalId": "id"}]),
            None,
        )
        .unwrap();
        assert_eq!(steps[0].duration, Duration::from_hours(1));
        assert_eq!(steps[0].external_id, Some(ExternalId::Author("id".into())));
    }

    #[test]
    fn a_mistake_names_its_step() {
        for (step, field) in [
            (json!({"arn": "nonsense"}), "spec.assume[1].arn"),
            (
                json!({"arn": "acs:ram::1:role/b", "policy": "{"}),
                "spec.assume[1].policy",
            ),
            (
                json!({"arn": "acs:ram::1:role/b", "durationSeconds": 7200}),
                "spec.assume[1].durationSeconds",
            ),
        ] {
            let problem = resolved(json!([{"arn": "acs:ram::1:role/a"}, step]), None).unwrap_err();
            assert_eq!(problem.reason, Reason::InvalidSpec);
            assert!(problem.message.contains(field), "{}", problem.message);
        }
    }

    #[test]
    fn with_the_operators_token_the_administrator_chooses_the_external_id() {
        let entry = Delegation {
            namespaces: vec![],
            roles: vec![],
            external_id: Some("theirs".to_owned()),
        };
        let steps = resolved(json!([{"arn": "acs:ram::1:role/b"}]), Some(&entry)).unwrap();
        assert_eq!(
            steps[0].external_id,
            Some(ExternalId::Administrator("theirs".into()))
        );
        let chosen = json!([{"arn": "acs:ram::1:role/b", "externalId": "mine"}]);
        assert_eq!(
            resolved(chosen, Some(&entry)).unwrap_err().reason,
            Reason::InvalidSpec
        );
    }
}
