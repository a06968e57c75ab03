//! Several events in one body, and what such a request is called. Pure.

use bytes::{BufMut, Bytes, BytesMut};
use sha2::{Digest, Sha256};

use crate::domain::endpoint::BatchShape;
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

/// The media type of a body of this shape.
#[must_use]
pub fn content_type(shape: &BatchShape) -> &'static str {
    match shape {
        BatchShape::Array | BatchShape::Wrapped(_) => "application/json",
        BatchShape::Ndjson => "application/x-ndjson",
    }
}

/// The events as one body.
#[must_use]
pub fn body(shape: &BatchShape, events: &[Event]) -> Bytes {
    let (before, between, after) = match shape {
        BatchShape::Array => ("[".to_owned(), ",", "]"),
        BatchShape::Ndjson => (String::new(), "\n", "\n"),
        BatchShape::Wrapped(field) => (format!("{{{}:[", serde_json::json!(field)), ",", "]}"),
    };
    let bytes: usize = events.iter().map(|event| event.json.len() + between.len()).sum();
    let mut body = BytesMut::with_capacity(before.len() + bytes + after.len());
    body.put_slice(before.as_bytes());
    for (at, event) in events.iter().enumerate() {
        if at > 0 {
            body.put_slice(between.as_bytes());
        }
        body.put_slice(&event.json);
    }
    body.put_slice(after.as_bytes());
    body.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::tests::event;

    /// C8: every shape, with one event and with several.
    #[test]
    fn c8_shapes() {
        let events = [event("a", r#"{"n":1}"#), event("b", r#"{"n":2}"#)];
        let wrapped = |field: &str| BatchShape::Wrapped(field.into());
        for (shape, one, two) in [
            (BatchShape::Array, r#"[{"n":1}]"#, r#"[{"n":1},{"n":2}]"#),
            (BatchShape::Ndjson, "{\"n\":1}\n", "{\"n\":1}\n{\"n\":2}\n"),
            (
                wrapped("leads"),
                r#"{"leads":[{"n":1}]}"#,
                r#"{"leads":[{"n":1},{"n":2}]}"#,
            ),
            (
                wrapped("a\"b"),
                r#"{"a\"b":[{"n":1}]}"#,
                r#"{"a\"b":[{"n":1},{"n":2}]}"#,
            ),
        ] {
            assert_eq!(body(&shape, &events[..1]), one);
            assert_eq!(body(&shape, &events), two);
        }
    }

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
