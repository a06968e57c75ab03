//! What the daemon tells of itself: log lines, numbers and metrics, every name in one place.

pub mod alerts;
pub mod log;
pub mod metrics;
pub mod numbers;
