//! How an answer is read.

/// What counts as delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponsePolicy {
    /// Statuses that mean delivered; empty: 200 to 299.
    pub success_status: Vec<u16>,
}
