//! What the daemon tells of itself: log lines and numbers.

pub mod log;
pub mod numbers;
//! What the daemon shows of itself: logs and metrics, every name in one place.

pub mod metrics;
