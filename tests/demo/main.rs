//! `make demo`: shows on a real Kubernetes what rrsa does, the way a user would look at it, and ends
//! by itself. The exit code is 0 only if every step was really seen.

#[path = "../installation/mod.rs"]
mod installation;
#[path = "../simulators/mod.rs"]
mod simulators;
#[expect(dead_code, reason = "the demo uses a part of what the tests share")]
#[path = "../support/mod.rs"]
mod support;

mod node;
mod stage;
mod story;

use std::process::ExitCode;
use std::time::Duration;

/// Longer than the demo may ever take: the ceilings of its steps add up to less.
const CEILING: Duration = Duration::from_mins(25);

#[tokio::main]
async fn main() -> ExitCode {
    let tell = async {
        if support::kubernetes::node::is_inside() {
            return node::tell().await;
        }
        story::tell().await
    };
    let outcome = tokio::time::timeout(CEILING, tell).await;
    let error = match outcome {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => error,
        Err(_) => anyhow::anyhow!("the demo did not end within {CEILING:?}"),
    };
    stage::failed(&error);
    ExitCode::FAILURE
}
