//! The node tier: tests on a Kubernetes with a real node, where pods really run.
//!
//! The program starts itself once more inside `namespace.sh`, on a machine of its own, and the tests
//! run there, one after the other, on one cluster. Where that is not possible (it needs root, Linux,
//! containerd) every test is reported as ignored, with the reasons; with `RRSA_REQUIRE_NODE=1`, as
//! CI sets it, the program fails instead.
#![expect(
    clippy::disallowed_methods,
    reason = "tests stand outside the product's world"
)]

#[path = "../simulators/mod.rs"]
#[allow(
    unused_imports,
    reason = "its unit tests are run by another program, this one is its own main"
)]
mod simulators;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "each program uses its part of the support tree")]
mod support;

mod basics;
mod fallback;
mod image;
mod lifecycle;
mod makers;
mod rrsa;
mod sdks;
mod secrets;
mod stage;

use std::env;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::{Arguments, Trial};

use stage::trial;
use support::kubernetes::node;

/// Set where the tests must not be skipped.
const REQUIRE: &str = "RRSA_REQUIRE_NODE";

/// In the order in which they run.
fn trials() -> Vec<Trial> {
    vec![
        trial(
            "a_pod_runs_with_its_token_and_logs_and_exec_work",
            basics::a_pod_runs,
        ),
        trial(
            "nothing_of_a_node_that_was_killed_stays",
            basics::nothing_stays,
        ),
        trial(
            "the_image_holds_the_program_and_nothing_else",
            image::holds_nothing_else,
        ),
        trial(
            "the_chart_installs_the_image_and_helm_test_is_content",
            lifecycle::is_installed,
        ),
        // Before OIDC has worked for anybody: then its failure is believed at once.
        trial(
            "the_nodes_role_stands_in_where_oidc_cannot_work",
            fallback::stands_in,
        ),
        trial(
            "pods_with_the_official_sdks_get_their_own_roles_and_follow_new_tokens",
            sdks::each_gets_its_role,
        ),
        trial("tenants_get_nobody_elses_role", sdks::tenants_are_apart),
        trial(
            "a_mounted_secret_follows_refreshes_and_a_job_reads_its_variables",
            secrets::are_followed,
        ),
        trial(
            "sdks_follow_a_secret_through_the_profile_of_the_cli",
            secrets::profiles_are_followed,
        ),
        trial(
            "no_pod_is_refused_or_forgotten_while_replicas_restart",
            lifecycle::replicas_restart,
        ),
        trial(
            "upgrade_and_rollback_under_pods_that_go_on_being_made",
            lifecycle::is_upgraded_and_rolled_back,
        ),
        trial(
            "all_recovers_from_a_loss_of_power",
            lifecycle::survives_a_loss_of_power,
        ),
        trial(
            "an_uninstallation_takes_nobodys_credentials",
            lifecycle::is_uninstalled,
        ),
    ]
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    if arguments.list || node::is_inside() {
        return one_by_one(arguments, trials());
    }
    match enter() {
        Ok(missing) => skip(arguments, &missing),
        Err(error) => {
            complain(&format!("the node tier cannot run: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Becomes this program on a machine of its own. Returns only where that cannot be: with what is
/// missing.
fn enter() -> Result<String> {
    let check = Command::new(node::NAMESPACE)
        .arg("--check")
        .output()
        .with_context(|| format!("run {}", node::NAMESPACE))?;
    ensure!(
        check.status.success(),
        "{} --check failed: {}",
        node::NAMESPACE,
        String::from_utf8_lossy(&check.stderr)
    );
    let missing = String::from_utf8(check.stdout)?;
    if !missing.trim().is_empty() {
        return Ok(missing);
    }
    let error = Command::new(node::NAMESPACE)
        .arg(env::current_exe()?)
        .args(env::args_os().skip(1))
        .exec();
    bail!("run {}: {error}", node::NAMESPACE)
}

/// Reports every test as ignored, loudly.
fn skip(arguments: Arguments, missing: &str) -> ExitCode {
    let missing = missing.trim().replace('\n', "; ");
    complain(&format!(
        "\n!!! SKIPPED: the tests with a real node need {missing}\n"
    ));
    if env::var_os(REQUIRE).is_some() {
        complain(&format!("and {REQUIRE} says that they must run"));
        return ExitCode::FAILURE;
    }
    let ignored = trials()
        .into_iter()
        .map(|trial| trial.with_ignored_flag(true))
        .collect();
    one_by_one(
        Arguments {
            ignored: false,
            include_ignored: false,
            ..arguments
        },
        ignored,
    )
}

/// The tests share one node, and some of them turn it off.
fn one_by_one(arguments: Arguments, trials: Vec<Trial>) -> ExitCode {
    let arguments = Arguments {
        test_threads: Some(1),
        ..arguments
    };
    libtest_mimic::run(&arguments, trials).exit_code()
}

#[expect(
    clippy::print_stderr,
    reason = "a person must see why tests were skipped"
)]
fn complain(text: &str) {
    eprintln!("{text}");
}
