//! What the daemon tells of itself: log lines and numbers.

pub mod log;
pub mod numbers;
