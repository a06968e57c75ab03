//! In which order an endpoint gets its events.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::Endpoint;
use crate::domain::event::{Event, Seq};
use crate::template::{Expression, RenderError};

/// What has to be kept in order of acceptance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OrderPolicy {
    /// Nothing: as many at once as the limits allow.
    #[default]
    None,
    /// Everything: one request at a time.
    Endpoint,
    /// Events with the same key; those without one are free.
    Key,
}

/// What an endpoint keeps in order, and by which key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Order {
    /// What.
    pub policy: OrderPolicy,
    /// Gives the key of an event; `None`: its `partitionkey`.
    pub key: Option<Expression>,
}

/// What an event is kept in order with: events with the same one go one after the other. A hash, so two keys
/// may rarely share one, which only keeps them in order with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderKey(pub u64);

impl OrderPolicy {
    /// The key of an event, from its place and the text of its ordering key, if it has one.
    #[must_use]
    pub fn key(self, seq: Seq, partition_key: Option<&str>) -> OrderKey {
        match (self, partition_key) {
            (Self::Key, Some(text)) => hash((1, text)),
            (Self::Key, None) | (Self::None, _) => hash((2, seq)),
            (Self::Endpoint, _) => OrderKey(0),
        }
    }
}

impl Endpoint {
    /// What `event` is kept in order with. Time stands still at its acceptance, so the same comes out whenever it is
    /// worked out, also after a restart. An event whose key is undefined, null or empty is in order with nobody.
    ///
    /// # Errors
    /// When the key can't be worked out for this event.
    pub fn order_key(&self, seq: Seq, event: &Event) -> Result<OrderKey, RenderError> {
        let policy = self.order.policy;
        let Some(key) = self.order.key.as_ref().filter(|_| policy == OrderPolicy::Key) else {
            return Ok(policy.key(seq, event.head.partition_key.as_deref()));
        };
        let scope = self.scope(&event.json, event.head.accepted);
        // What is undefined has no text.
        let text = match key.eval(&scope)? {
            value if value.is_undefined() => String::new(),
            _ => key.text(&scope)?,
        };
        Ok(policy.key(seq, Some(text.as_str()).filter(|text| !text.is_empty())))
    }

    /// Whether events have the same keys for `other`, so that lines made for the one hold for the other.
    #[must_use]
    pub fn has_keys_of(&self, other: &Self) -> bool {
        let reads_same = || {
            let (a, b) = (self, other);
            (&a.name, &a.bind, &a.settings, &a.integration) == (&b.name, &b.bind, &b.settings, &b.integration)
        };
        self.order == other.order && (self.order.key.is_none() || reads_same())
    }
}

fn hash(of: impl Hash) -> OrderKey {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    OrderKey(hasher.finish())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::domain::endpoint::fixture;
    use crate::domain::event::EventHead;
    use crate::domain::time::Timestamp;

    fn event(json: &'static str) -> Event {
        let head = EventHead {
            partition_key: Some("p".into()),
            ..EventHead::new("e", "s", "k", Timestamp(5))
        };
        let json = Bytes::from_static(json.as_bytes());
        Event { head, json }
    }

    fn keyed_by(expression: &str) -> Endpoint {
        let mut endpoint = fixture::endpoint("crm", "http://localhost/");
        endpoint.order = Order {
            policy: OrderPolicy::Key,
            key: Some(Expression::compile(expression).unwrap()),
        };
        endpoint
    }

    /// F7: events for which the expression gives the same text share a line, and those for which it gives nothing are
    /// free; what can't be worked out is told.
    #[test]
    fn f7_keys_by_an_expression() {
        let endpoint = keyed_by("data.customer.id");
        let key = |seq, json| endpoint.order_key(Seq(seq), &event(json));
        let seven = key(1, r#"{"data":{"customer":{"id":7}}}"#).unwrap();
        for (json, shared) in [
            (r#"{"data":{"customer":{"id":7,"x":1}}}"#, true),
            (r#"{"data":{"customer":{"id":"7"}}}"#, true),
            (r#"{"data":{"customer":{"id":8}}}"#, false),
            (r#"{"data":{"customer":{"id":null}}}"#, false),
            (r#"{"data":{"customer":{"id":""}}}"#, false),
            (r#"{"data":{"customer":{}}}"#, false),
        ] {
            assert_eq!(key(2, json).unwrap() == seven, shared, "{json}");
        }
        let free = |seq| key(seq, r#"{"data":{"customer":{}}}"#).unwrap();
        assert!(free(1) == free(1) && free(1) != free(2));
        assert!(key(1, r#"{"data":{}}"#).unwrap_err().says.contains("undefined"));
    }

    /// F7: a reload makes new lines when, and only when, events may have other keys by it.
    #[test]
    fn f7_other_keys_after_a_reload() {
        let before = keyed_by("data.a");
        let with = |change: fn(&mut Endpoint)| {
            let mut after = before.clone();
            change(&mut after);
            before.has_keys_of(&after)
        };
        assert!(with(|after| after.enabled = false));
        assert!(!with(|after| after.order.key = None));
        assert!(!with(|after| after.order.policy = OrderPolicy::Endpoint));
        assert!(!with(|after| after.bind = "lead".into()));
        assert!(!with(|after| after.integration.name = "standard/json_post".into()));
        assert_ne!(before, keyed_by("data.b"));
        assert!(!before.has_keys_of(&keyed_by("data.b")));
    }

    /// F7: who is kept in order with whom.
    #[test]
    fn f7_keys() {
        for (policy, a, b, same) in [
            (OrderPolicy::Endpoint, Some("a"), Some("b"), true),
            (OrderPolicy::Endpoint, None, Some("b"), true),
            (OrderPolicy::Key, Some("a"), Some("a"), true),
            (OrderPolicy::Key, Some("a"), Some("b"), false),
            (OrderPolicy::Key, None, None, false),
            (OrderPolicy::None, Some("a"), Some("a"), false),
        ] {
            let keys = [(1, a), (2, b)].map(|(seq, key)| policy.key(Seq(seq), key));
            assert_eq!(keys[0] == keys[1], same, "{policy:?} {a:?} {b:?}");
        }
    }
}
