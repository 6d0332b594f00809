//! `rrsa doctor pods`.

use std::process::ExitCode;

use serde::Serialize;

use crate::cli::judged::{EXIT_CODES, Output, exit_code};
use crate::cli::kubeconfig::KubeconfigArgs;
use crate::cli::setup::SetupArgs;
use crate::cli::{operator, print};
use crate::doctor::{Finding, Look, Looked, Missed, Scope, Tally};
use crate::injection::settings::Settings;
use crate::world::SystemFiles;

/// Looks at the pods of namespaces that ask for injection, and at those that ask themselves by
/// the label.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXIT_CODES)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: KubeconfigArgs,
    #[command(flatten)]
    setup: SetupArgs,
    /// Look at all pods of this namespace, and nowhere else. May be given several times.
    #[arg(long = "namespace", short, value_name = "NAMESPACE")]
    namespaces: Vec<String>,
    /// Look at every pod of the cluster: that also finds pods that ask by nothing but an
    /// annotation, and keys in wrong places.
    #[arg(long, conflicts_with = "namespaces")]
    all_pods: bool,
    /// Namespace of the operator, whose pods are never injected.
    #[arg(long, value_name = "NAMESPACE", default_value = "rrsa-system")]
    operator_namespace: String,
    /// Shape of the report.
    #[arg(long, short, value_name = "SHAPE", default_value = "text")]
    output: Output,
}

/// The report for programs.
#[derive(Debug, Serialize)]
struct Report {
    looked: Tally,
    findings: Vec<Finding>,
    /// What could not be looked at.
    missed: Vec<Missed>,
}

impl Args {
    pub(super) fn run(self) -> ExitCode {
        exit_code(self.look())
    }

    fn look(self) -> anyhow::Result<bool> {
        let Self {
            cluster,
            setup,
            namespaces,
            all_pods,
            operator_namespace,
            output,
        } = self;
        operator::runtime()?.block_on(async {
            let client = cluster.client().await?;
            let configuration = setup.configuration(&SystemFiles, &client).await?;
            let settings = Settings::from(&configuration);
            let mut never_served = configuration.pod_look.never_served;
            never_served.push(operator_namespace);
            let scope = Scope {
                namespaces,
                all_pods,
                never_served,
            };
            let mut findings = Vec::new();
            let mut printed = Ok(());
            let mut found = |finding: Finding| match output {
                // As it goes, because a large cluster takes a while.
                Output::Text if printed.is_ok() => printed = print(&(text(&finding) + "\n")),
                Output::Text => {}
                Output::Json => findings.push(finding),
            };
            let looked = Look::new(client, &settings, &scope, &mut found).run().await;
            printed?;
            if let Some(caveat) = looked.caveat() {
                note(&caveat);
            }
            let complete = complete(&looked.missed);
            let nothing_found = looked.tally.findings == 0;
            match output {
                Output::Text => print(&(summary(&looked) + "\n"))?,
                Output::Json => {
                    let Looked { tally, missed, .. } = looked;
                    let report = Report {
                        looked: tally,
                        findings,
                        missed,
                    };
                    print(&(serde_json::to_string_pretty(&report)? + "\n"))?;
                }
            }
            complete?;
            Ok(nothing_found)
        })
    }
}

/// Says what is no finding: programs read those.
#[expect(
    clippy::print_stderr,
    reason = "standard output holds the report alone"
)]
fn note(text: &str) {
    eprintln!("rrsa: {text}");
}

/// An error that tells everything that could not be looked at, if there is something.
fn complete(missed: &[Missed]) -> anyhow::Result<()> {
    if missed.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = missed.iter().map(ToString::to_string).collect();
    let lines = lines.join("\n  ");
    anyhow::bail!(
        "not everything could be looked at; look again, with the rights that docs/doctor.md names:\n  {lines}"
    )
}

fn text(finding: &Finding) -> String {
    let Finding {
        problem,
        kind,
        namespace,
        name,
        cause,
        remedy,
        ..
    } = finding;
    let object = match *kind {
        "Namespace" => format!("namespace {name}"),
        _ => format!("pod {namespace}/{name}"),
    };
    format!("{object}: {problem}\n  cause   {cause}\n  remedy  {remedy}\n")
}

fn summary(looked: &Looked) -> String {
    let Tally {
        namespaces,
        pods,
        findings,
    } = looked.tally;
    let found = match findings {
        0 if !looked.missed.is_empty() => "nothing was found in what could be seen".to_owned(),
        0 => "nothing is wrong".to_owned(),
        1 => "1 finding".to_owned(),
        more => format!("{more} findings"),
    };
    format!("{found}; looked at {pods} pods and at the labels of {namespaces} namespaces")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Problem;

    #[test]
    fn a_finding_tells_object_problem_cause_and_remedy() {
        let finding = Finding {
            problem: Problem::OlderRole,
            kind: "Pod",
            namespace: "a".to_owned(),
            name: "p".to_owned(),
            uid: String::new(),
            cause: "because".to_owned(),
            remedy: "do".to_owned(),
        };
        assert_eq!(
            text(&finding),
            "pod a/p: OlderRole\n  cause   because\n  remedy  do\n"
        );
    }

    #[test]
    fn the_summary_counts_and_calls_nothing_well_that_was_not_seen() {
        let mut looked = Looked {
            tally: Tally {
                namespaces: 2,
                pods: 30,
                findings: 0,
            },
            ..Looked::default()
        };
        assert!(summary(&looked).starts_with("nothing is wrong; looked at 30 pods"));
        assert!(complete(&looked.missed).is_ok());
        looked.missed.push(Missed {
            namespace: Some("a".to_owned()),
            cause: "forbidden".to_owned(),
        });
        assert!(summary(&looked).starts_with("nothing was found in what could be seen"));
        let error = complete(&looked.missed).unwrap_err().to_string();
        assert!(error.contains("\n  namespace a: forbidden"), "{error}");
        let json = serde_json::to_value(&looked.missed).unwrap();
        assert_eq!(
            json,
            serde_json::json!([{"namespace": "a", "cause": "forbidden"}])
        );
    }
}
