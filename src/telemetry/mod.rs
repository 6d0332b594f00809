//! Logs and metrics.

pub mod flood;
pub mod logs;
pub mod metrics;
