//! Flow control of an account: a token bucket, kept as the time at which it would be full.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::refusal::Refusal;
use crate::simulators::config::SimulatorConfig;

/// The buckets of all accounts.
#[derive(Default)]
pub(crate) struct FlowControl(HashMap<String, DateTime<Utc>>);

impl FlowControl {
    /// Lets one request of `account` through, or refuses it.
    pub(crate) fn admit(
        &mut self,
        account: &str,
        config: &SimulatorConfig,
        now: DateTime<Utc>,
    ) -> Result<(), Refusal> {
        let Some(rate) = config.requests_per_second else {
            return Ok(());
        };
        let burst = config.burst.unwrap_or(rate);
        let apart = TimeDelta::nanoseconds(1_000_000_000 / i64::from(rate.get()));
        let room = TimeDelta::nanoseconds(
            apart
                .num_nanoseconds()
                .unwrap_or(i64::MAX)
                .saturating_mul(i64::from(burst.get()) - 1),
        );
        let full = self.0.get(account).copied().unwrap_or(now).max(now);
        if full - now > room {
            return Err(Refusal::throttled());
        }
        self.0.insert(account.to_owned(), full + apart);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::FlowControl;
    use crate::simulators::clock;
    use crate::simulators::config::SimulatorConfig;

    #[test]
    fn rate_holds_after_the_burst() {
        let config = SimulatorConfig {
            requests_per_second: std::num::NonZeroU32::new(10),
            burst: std::num::NonZeroU32::new(3),
            ..SimulatorConfig::default()
        };
        let (start, mut flow) = (clock::now(), FlowControl::default());
        let admitted = (0..1000)
            .filter(|millisecond| {
                let now = start + TimeDelta::milliseconds(*millisecond);
                flow.admit("1", &config, now).is_ok()
            })
            .count();
        // Three at once, then one each 100 ms: at 100, 200, …, 900.
        assert_eq!(admitted, 12);
        assert!(
            flow.admit("2", &config, start).is_ok(),
            "accounts do not share a bucket"
        );
    }
}
