//! Which events an endpoint gets beyond their type and tenant.

use crate::domain::filter::{EventJson, Filter};
use crate::template::{Expression, RenderError, Scope, Template};

/// The conditions that an event has to meet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    /// Looked at when the event is accepted: an event that does not match is not owed.
    pub filter: Option<Filter>,
    /// Looked at before every try: an event for which it is false is skipped, which settles its delivery.
    pub when: Option<Expression>,
    /// Why it was skipped, for the log.
    pub skip_reason: Option<Template>,
}

/// What [`Selection::judge`] finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It goes out.
    Send,
    /// It is skipped, for this reason.
    Skip(String),
}

impl Selection {
    /// Whether an event is owed as far as `filter` says (B3). One that is addressed passes every filter: its sender has
    /// chosen, and nobody asks.
    #[must_use]
    pub fn lets_pass(&self, event: &EventJson<'_>) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.matches(event))
    }

    /// Whether the event of `scope` goes out (B2).
    ///
    /// # Errors
    /// When `when` or `skip_reason` can't be worked out for this event; then nobody can say whether it was wanted.
    pub fn judge(&self, scope: &Scope) -> Result<Judgement, RenderError> {
        let Some(when) = &self.when else {
            return Ok(Judgement::Send);
        };
        if when.test(scope)? {
            return Ok(Judgement::Send);
        }
        Ok(Judgement::Skip(match &self.skip_reason {
            Some(reason) => reason.render(&scope.masked())?,
            None => format!("not {}", when.source()),
        }))
    }
}
