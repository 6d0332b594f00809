//! What came of a run, for people and for programs. Pure.

use std::fmt::Write as _;

use serde::Serialize;

use super::case::{Case, List};
use super::expected::Difference;
use super::parameters::Parameters;

/// What came of one case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Its name.
    pub name: String,
    /// What it stands on.
    pub list: List,
    /// What was tried.
    pub title: String,
    /// The sentence it stands on.
    pub says: String,
    /// How it ended.
    pub verdict: Verdict,
    /// Where the pod is not as expected.
    pub differences: Vec<Difference>,
    /// Why there is no pod to compare.
    pub problem: Option<String>,
}

/// How a case ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// As documented; in a corner: as rrsa does it.
    Pass,
    /// Not as documented.
    Fail,
    /// In a corner: not as rrsa does it, which is no failure.
    Differs,
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Whether any pod came back changed, that is, whether there is a webhook at all.
    pub answered: bool,
    /// What the pods were judged by.
    pub parameters: Parameters,
    /// Documented cases that are as documented.
    pub passed: usize,
    /// Documented cases that are not.
    pub failed: usize,
    /// Corners that are as rrsa's.
    pub corners_same: usize,
    /// Corners that differ.
    pub corners_different: usize,
    /// The cases.
    pub cases: Vec<Outcome>,
}

impl Outcome {
    /// Judges a case by the pod that came back, or by the reason why none did.
    #[must_use]
    pub fn of(case: &Case, compared: Result<Vec<Difference>, String>) -> Self {
        let (differences, problem) = match compared {
            Ok(differences) => (differences, None),
            Err(problem) => (Vec::new(), Some(problem)),
        };
        let verdict = match case.list {
            _ if differences.is_empty() && problem.is_none() => Verdict::Pass,
            List::Documented => Verdict::Fail,
            List::Corner => Verdict::Differs,
        };
        Self {
            name: case.name.to_owned(),
            list: case.list,
            title: case.body.title.clone(),
            says: case.body.says.clone(),
            verdict,
            differences,
            problem,
        }
    }
}

/// What is to be done where no pod came back changed.
const NO_ANSWER: &str = "\
No webhook answered: not one of the pods that ask for injection came back changed.
  Is a pod identity webhook installed, and are its pods ready?
    kubectl get mutatingwebhookconfigurations
  Does its namespaceSelector leave namespaces of this suite out, and does it serve dry runs
  (sideEffects None or NoneOnDryRun)?";

impl Report {
    /// Counts the outcomes.
    #[must_use]
    pub fn new(parameters: Parameters, answered: bool, cases: Vec<Outcome>) -> Self {
        let count = |list, pass| {
            let counted =
                |case: &&Outcome| case.list == list && (case.verdict == Verdict::Pass) == pass;
            cases.iter().filter(counted).count()
        };
        Self {
            answered,
            parameters,
            passed: count(List::Documented, true),
            failed: count(List::Documented, false),
            corners_same: count(List::Corner, true),
            corners_different: count(List::Corner, false),
            cases,
        }
    }

    /// Whether the webhook does everything that is documented.
    #[must_use]
    pub const fn conforms(&self) -> bool {
        self.answered && self.failed == 0
    }

    /// The report for a person.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let Parameters {
            account_id,
            oidc_provider_arn,
            region,
            vpc,
            auto_inject_sts_env_vars,
        } = &self.parameters;
        let network = if *vpc { "VPC" } else { "public" };
        let sts = if *auto_inject_sts_env_vars {
            "on"
        } else {
            "off"
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "As documented for ack-pod-identity-webhook 0.4.2, judged by account {account_id}, \
             provider {oidc_provider_arn}, region {region} ({network} endpoint), \
             AutoInjectSTSEnvVars {sts}\n"
        );
        if !self.answered {
            let _ = writeln!(text, "{NO_ANSWER}\n");
        }
        self.list(&mut text, List::Documented);
        if self.corners_same + self.corners_different > 0 {
            text.push_str(
                "\nCorners: the documentation is silent here. This is what rrsa does by choice; \
                 another webhook may differ without being wrong.\n\n",
            );
            self.list(&mut text, List::Corner);
        }
        let _ = write!(
            text,
            "\n{} of {} documented cases pass",
            self.passed,
            self.passed + self.failed
        );
        if self.failed > 0 {
            let _ = write!(text, ", {} fail", self.failed);
        }
        if self.corners_same + self.corners_different > 0 {
            let all = self.corners_same + self.corners_different;
            let _ = write!(
                text,
                "; {} of {all} corners are as rrsa's",
                self.corners_same
            );
        }
        text.push('\n');
        text
    }

    fn list(&self, text: &mut String, list: List) {
        let width = self.cases.iter().map(|case| case.name.len()).max();
        let width = width.unwrap_or_default();
        for case in self.cases.iter().filter(|case| case.list == list) {
            let word = match case.verdict {
                Verdict::Pass if case.list == List::Corner => "same   ",
                Verdict::Pass => "pass   ",
                Verdict::Fail => "FAIL   ",
                Verdict::Differs => "differs",
            };
            let _ = writeln!(text, "{word}  {:width$}  {}", case.name, case.title);
            // Without an answer every difference is the same one.
            if case.verdict == Verdict::Pass || !self.answered {
                continue;
            }
            let _ = writeln!(text, "           {}", case.says);
            if let Some(problem) = &case.problem {
                let _ = writeln!(text, "           {problem}");
            }
            for difference in &case.differences {
                let shown =
                    |side: &Option<String>| side.clone().unwrap_or_else(|| "nothing".to_owned());
                let _ = writeln!(text, "           {}", difference.path);
                let _ = writeln!(
                    text,
                    "             expected  {}",
                    shown(&difference.expected)
                );
                let _ = writeln!(text, "             seen      {}", shown(&difference.seen));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::suite::cases;
    use super::*;

    fn report(answered: bool, compared: &Result<Vec<Difference>, String>) -> Report {
        let provider = "acs:ram::42:oidc-provider/p".parse().unwrap();
        let outcomes = cases(true)
            .unwrap()
            .iter()
            .map(|case| Outcome::of(case, compared.clone()))
            .collect();
        Report::new(
            Parameters::new(&provider, "cn-hangzhou"),
            answered,
            outcomes,
        )
    }

    fn difference() -> Difference {
        Difference {
            path: "spec.volumes.v".to_owned(),
            expected: Some("1".to_owned()),
            seen: None,
        }
    }

    #[test]
    fn a_difference_in_a_corner_is_no_failure() {
        let mut all = report(true, &Ok(vec![difference()]));
        assert!(!all.conforms() && all.failed > 0);
        all.cases.retain(|case| case.list == List::Corner);
        let corners = Report::new(all.parameters, true, all.cases);
        assert!(corners.conforms());
        assert!(corners.corners_different > 0 && corners.failed == 0);
    }

    #[test]
    fn the_text_tells_the_sentence_and_the_difference_of_what_fails() {
        let text = report(true, &Ok(vec![difference()])).text();
        for part in [
            "FAIL",
            "namespace-on",
            "only-containers.",
            "spec.volumes.v",
            "nothing",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let refused = report(true, &Err("refused: quota".to_owned())).text();
        assert!(refused.contains("refused: quota"), "{refused}");
    }

    #[test]
    fn silence_is_no_conformance_and_the_text_says_where_to_look() {
        let silent = report(false, &Ok(Vec::new()));
        assert!(!silent.conforms());
        assert!(silent.text().contains("No webhook answered"));
        assert!(report(true, &Ok(Vec::new())).conforms());
    }
}
