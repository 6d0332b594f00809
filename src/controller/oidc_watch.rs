//! While bindings live on the fallback, one exchange of the process in a while asks whether OIDC
//! works, and all of them look again as soon as it does.

use std::sync::Arc;
use std::time::Duration;

use futures::SinkExt;
use kube::ResourceExt;
use tracing::{debug, info};

use super::bindings::Name;
use super::context::Context;
use super::fallback::{Fallback, PROBE_EVERY};
use super::wanted::resolve;
use super::watches::Wake;
use crate::world::runtime_now;

/// How soon it is noticed that some exchange succeeded.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Asks and wakes for ever.
pub(super) async fn watch_oidc(context: Arc<Context>, mut wake: Wake) {
    let mut worked = false;
    let mut asked = runtime_now();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let works = context.exchanger.oidc().works();
        if works && !worked {
            for name in on_fallback(&context) {
                // An error means that the controller is gone, and this task ends with it.
                let _ = wake.send(name).await;
            }
        } else if !works && runtime_now().duration_since(asked) >= PROBE_EVERY {
            asked = runtime_now();
            ask(&context).await;
        }
        worked = works;
    }
}

fn on_fallback(context: &Context) -> Vec<Name> {
    context.bindings.names(|standing| standing.on_fallback)
}

/// Exchanges the token of the first binding that can tell; what comes of it is not used. The
/// exchanger keeps in mind whether it worked.
async fn ask(context: &Context) {
    for name in on_fallback(context) {
        let binding = context.bindings.get(&name);
        let Some(binding) = binding.filter(|binding| !binding.spec.suspend) else {
            continue;
        };
        let Ok(wanted) = resolve(&binding, &context.exchanger.configuration.configuration()) else {
            continue;
        };
        if !matches!(wanted.fallback, Fallback::Allowed(_)) {
            continue;
        }
        let gate = &context.exchanger.gate;
        let mut turn = gate.turn(gate.permit().await);
        match context.exchanger.by_token(&wanted, &mut turn).await {
            Ok(_) => info!(
                binding = binding.name_any(),
                "asked whether OIDC works: it does"
            ),
            Err((problem, _)) => debug!(
                binding = binding.name_any(),
                reason = problem.reason.as_str(),
                "asked whether OIDC works: it does not"
            ),
        }
        return;
    }
}
