//! Saved test cases.

use crate::template::Expression;

/// A case that `posthaste test` runs against the endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedCase {
    /// For people.
    pub name: Box<str>,
    /// One event as JSON.
    pub event: Box<str>,
    /// What has to hold of `outcome`, `error_class` and `response`.
    pub expect: Expression,
}
