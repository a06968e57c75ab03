//! What a request with several events is called. Pure.

use sha2::{Digest, Sha256};

use crate::domain::event::Event;

/// The `webhook-id` of a batch: worked out from the events in it, so that the same set has the same id whenever it
/// is tried, and any other set another one. Looks like a ULID, but its beginning is no time.
#[must_use]
pub fn id(events: &[Event]) -> String {
    let mut hash = Sha256::new();
    for event in events {
        // Lengths keep "ab" + "c" apart from "a" + "bc".
        for part in [&event.head.source, &event.head.id] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
    }
    let digest = hash.finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    ulid::Ulid::from_bytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::tests::event;

    /// C8: the same set has the same id, and only the same set.
    #[test]
    fn c8_ids_are_those_of_the_set() {
        let [a, b, ab] = ["a", "b", "ab"].map(|id| event(id, "{}"));
        let ids = [
            id(&[a.clone(), b.clone()]),
            id(&[b.clone(), a.clone()]),
            id(std::slice::from_ref(&a)),
            id(std::slice::from_ref(&ab)),
            id(&[ab, b.clone()]),
        ];
        let different: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(different.len(), ids.len());
        assert!(ids.iter().all(|id| id.len() == 26), "{ids:?}");
        assert_eq!(ids[0], id(&[a, b]));
    }
}
