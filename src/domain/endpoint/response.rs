//! How an answer is read: what of it means delivered or rejected, what is kept of it, and what is born from it.

use crate::template::{Expression, Template};

/// What becomes of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponsePolicy {
    /// Statuses that mean delivered; empty: 200 to 299.
    pub success_status: Vec<u16>,
    /// What the body is taken for.
    pub parse: Parse,
    /// Decides in place of the status whether it is delivered (E2).
    pub success: Option<Expression>,
    /// Whether the other side said no for good (E1); goes before `success`.
    pub rejected: Option<Expression>,
    /// Values kept of the answer by name (E3).
    pub capture: Vec<(Box<str>, Expression)>,
    /// What the answer says of its refusal (E4).
    pub error: ErrorFields,
    /// The event born from an answer that means delivered (E7).
    pub emit: Option<Emit>,
}

/// What a body is taken for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Parse {
    /// What its content type says; what then can't be read is text.
    #[default]
    Auto,
    /// JSON, and nothing else will do.
    Json,
    /// XML, and nothing else will do.
    Xml,
    /// Text.
    Text,
    /// Nothing: it is not looked at.
    None,
}

/// Where the answer says what is wrong; each part may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorFields {
    /// The other side's code for it.
    pub code: Option<Expression>,
    /// Its words for it.
    pub message: Option<Expression>,
    /// The field of the event that it blames.
    pub field: Option<Expression>,
}

/// What the event that is born from an answer looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emit {
    /// Its `type`.
    pub kind: Template,
    /// The members of its `data`; empty: the captures.
    pub data: Vec<(Box<str>, Expression)>,
}
