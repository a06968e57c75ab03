//! In which order an endpoint gets its events.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::domain::event::{Event, Seq};

/// What has to be kept in order of acceptance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OrderPolicy {
    /// Nothing: as many at once as the limits allow.
    #[default]
    None,
    /// Everything: one request at a time.
    Endpoint,
    /// Events with the same `partitionkey`; those without one are free.
    Key,
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

    /// The key of a whole event.
    #[must_use]
    pub fn key_of(self, seq: Seq, event: &Event) -> OrderKey {
        self.key(seq, event.head.partition_key.as_deref())
    }
}

fn hash(of: impl Hash) -> OrderKey {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    OrderKey(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

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
