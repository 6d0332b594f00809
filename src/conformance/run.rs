//! Plays the cases on a cluster.

use std::time::Duration;

use kube::Client;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::case::{Case, List};
use super::expected::{Difference, differences, is_injected};
use super::parameters::Parameters;
use super::report::{Outcome, Report};
use super::stage::{Plan, Stage};
use super::suite;
use crate::world::Random;

/// Pause between two looks at a webhook that has not yet heard of the namespaces.
const PAUSE: Duration = Duration::from_secs(1);

/// How a run is done.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the pods are judged by.
    pub parameters: Parameters,
    /// Whether the corners are played, too.
    pub corners: bool,
    /// How the names of the namespaces begin.
    pub prefix: String,
    /// How long a webhook may take to hear of new namespaces and ServiceAccounts: the
    /// documentation does not promise that it is at once.
    pub patience: Duration,
}

/// Plays all cases and takes the namespaces away again, also when it fails or is told to stop.
///
/// # Errors
/// When the suite could not be played to its end, or something of it is left in the cluster.
pub async fn run(
    client: Client,
    random: &dyn Random,
    options: &Options,
    stop: &CancellationToken,
) -> anyhow::Result<Report> {
    let cases = suite::cases(options.corners)?;
    let [a, b, c, ..] = random.bytes()?;
    let run = format!("{a:02x}{b:02x}{c:02x}");
    let plan = Plan::new(&format!("{}-{run}", options.prefix), &cases);
    let stage = Stage::new(client, run);
    let play = Play {
        options,
        stop,
        cases: &cases,
        plan: &plan,
        stage: &stage,
    };
    let played = play.all().await;
    let cleared = stage.clear(&plan).await;
    let report = played?;
    cleared?;
    Ok(report)
}

/// Takes away what earlier runs left, and returns the names of the namespaces.
///
/// # Errors
/// When namespaces cannot be listed or deleted.
pub async fn cleanup(client: Client, prefix: &str) -> anyhow::Result<Vec<String>> {
    Stage::clear_all(client, prefix).await
}

struct Play<'a> {
    options: &'a Options,
    stop: &'a CancellationToken,
    cases: &'a [Case],
    plan: &'a Plan,
    stage: &'a Stage,
}

/// The last look at a case.
#[derive(Debug, Default)]
struct Look {
    /// The pod without injection.
    plain: Value,
    compared: Option<Result<Vec<Difference>, String>>,
    injected: bool,
}

impl Look {
    fn is_clean(&self) -> bool {
        matches!(&self.compared, Some(Ok(differences)) if differences.is_empty())
    }
}

impl Play<'_> {
    async fn all(&self) -> anyhow::Result<Report> {
        for namespace in self.plan.namespaces() {
            self.go_on()?;
            self.stage.set(self.plan, namespace).await?;
        }
        let mut looks: Vec<Look> = Vec::new();
        looks.resize_with(self.cases.len(), Look::default);
        // First what must change: when it all does, the webhook has heard of everything, and what
        // must not change is left alone for the right reason.
        let must_change = |case: &Case| case.list == List::Documented && case.body.expect.is_some();
        let mut open: Vec<usize> = self.numbers(must_change);
        let mut rest = self.options.patience;
        loop {
            for case in &open {
                self.look(*case, &mut looks[*case]).await?;
            }
            open.retain(|case| !looks[*case].is_clean());
            if open.is_empty() || rest.is_zero() {
                break;
            }
            let pause = rest.min(PAUSE);
            rest -= pause;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => {}
            }
        }
        for case in self.numbers(|case| !must_change(case)) {
            self.look(case, &mut looks[case]).await?;
        }
        let answered = looks.iter().any(|look| look.injected);
        let outcomes = self.cases.iter().zip(looks);
        let outcomes = outcomes.map(|(case, look)| {
            let compared = look.compared.unwrap_or(Ok(Vec::new()));
            Outcome::of(case, compared)
        });
        let parameters = self.options.parameters.clone();
        Ok(Report::new(parameters, answered, outcomes.collect()))
    }

    fn numbers(&self, chosen: impl Fn(&Case) -> bool) -> Vec<usize> {
        let cases = self.cases.iter().enumerate();
        cases
            .filter(|(_, case)| chosen(case))
            .map(|(number, _)| number)
            .collect()
    }

    async fn look(&self, number: usize, look: &mut Look) -> anyhow::Result<()> {
        let case = &self.cases[number];
        let (namespace, account) = self.plan.place(number);
        if look.plain.is_null() {
            self.go_on()?;
            let plain = case.plain_pod(account);
            look.plain = self.stage.dry_run(&self.plan.plain, plain).await.map_err(|error| {
                error.context(format!("the pod of case {} cannot be created even without asking for injection (it takes the right to create pods)", case.name))
            })?;
        }
        self.go_on()?;
        look.compared = Some(
            match self.stage.dry_run(namespace, case.pod(account)).await {
                Ok(seen) => {
                    look.injected = is_injected(&look.plain, &seen);
                    let parameters = &self.options.parameters;
                    Ok(differences(case, parameters, &look.plain, &seen))
                }
                // The same pod without injection was fine: this is the webhook's doing.
                Err(error) => Err(format!("the API server refuses the pod: {error:#}")),
            },
        );
        Ok(())
    }

    fn go_on(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            !self.stop.is_cancelled(),
            "told to stop before the end of the suite"
        );
        Ok(())
    }
}
