//! The integration module beneath an endpoint, and what the endpoint gives to it.

use crate::template::Given;

/// Which module an endpoint uses. What the module says has become the endpoint's own; what is left of it is its name, and
/// the values that templates read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Integration {
    /// `standard/json_post`; empty: none.
    pub name: Box<str>,
    /// What was given, for people: secrets are `***`.
    pub shown: serde_json::Map<String, serde_json::Value>,
    /// The same for templates, as `with`.
    pub given: Given,
}
