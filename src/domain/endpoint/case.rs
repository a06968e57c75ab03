//! Saved test cases.

use crate::template::Expression;

/// A case that `posthaste test` runs against the endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedCase {
    /// For people.
    pub name: Box<str>,
    /// One event as JSON.
    pub event: Box<str>,
    /// Answers that steps get in place of their requests.
    pub steps: Vec<CannedAnswer>,
    /// What has to hold of `outcome`, `error_class` and `response`.
    pub expect: Expression,
}

/// What a step is answered in a case, with no request made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CannedAnswer {
    /// The step's name.
    pub step: Box<str>,
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Box<str>,
    /// Whether the body says of itself that it is JSON.
    pub is_json: bool,
}
