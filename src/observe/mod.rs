//! What the daemon shows of itself: logs and metrics, every name in one place.

pub mod metrics;
