//! Makes what is born from an answer durable, before the delivery it comes from is settled: a crash in between repeats
//! the request, and the birth with it, under the same id, which is a duplicate then. While the queue takes no events the
//! delivery waits with its slot, so that neither the birth is lost nor the request repeated: only this endpoint is held up.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use crate::delivery::batch;
use crate::delivery::reading::Emission;
use crate::domain::access::Credentials;
use crate::domain::event::Event;
use crate::ingest::sender::Sender;
use crate::ingest::turn::Desk;
use crate::store::StoreError;

use super::Destination;

/// Births in a row, each from the answer to the one before; the next is left out, as a guard against circles.
const DEPTH_MAX: u64 = 8;
/// The attribute that counts them.
const DEPTH: &str = "emitdepth";
/// Waits before an event that the queue refused is offered again; the last one repeats.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
];

/// What an event says of its own births.
#[derive(Debug, Default, Deserialize)]
struct Ancestry {
    #[serde(default, rename = "emitdepth")]
    depth: serde_json::Value,
}

/// What the intake answers.
#[derive(Debug, Deserialize)]
struct Answer {
    status: Box<str>,
    #[serde(default)]
    message: Box<str>,
    retry_after_ms: Option<u64>,
}

/// Gives what is born from `parents`, in their order, to the intake. What can't become an event is logged and left out.
///
/// # Errors
/// The store has failed: nothing is known, so nothing may be settled.
pub(super) async fn accept(
    to: &Destination,
    parents: &[Event],
    emissions: Vec<Option<Result<Emission, String>>>,
) -> Result<(), StoreError> {
    let mut lines = Vec::new();
    for (parent, emission) in parents.iter().zip(emissions) {
        let Some(emission) = emission else { continue };
        match emission.and_then(|emission| line(&to.endpoint.name, parent, emission)) {
            Ok(line) => lines.push((parent, line)),
            Err(why) => left_out(to, parent, &why),
        }
    }
    if lines.is_empty() {
        return Ok(());
    }
    let sender = Sender {
        peer: Credentials::default(),
        source: source(&to.endpoint.name).into(),
    };
    let mut desk = Desk::of_daemon(Arc::clone(&to.intake), sender);
    for (parent, line) in lines {
        offer(to, &mut desk, parent, &line).await?;
    }
    Ok(())
}

/// Offers one event until it is taken or turns out to be none.
async fn offer(to: &Destination, desk: &mut Desk, parent: &Event, line: &[u8]) -> Result<(), StoreError> {
    for refusals in 0.. {
        let mut out = Vec::new();
        let turn = desk.turn_of(line);
        desk.answer(turn, &mut out).await?;
        let answer: Answer = serde_json::from_slice(&out)
            .map_err(|error| StoreError::Failed(format!("the intake's answer can't be read: {error}")))?;
        if &*answer.status != "rejected" {
            return Ok(());
        }
        if answer.retry_after_ms.is_none() {
            left_out(to, parent, &answer.message);
            return Ok(());
        }
        let pause = PAUSES[refusals.min(PAUSES.len() - 1)];
        tracing::warn!(
            endpoint = &*to.endpoint.name,
            event = &*parent.head.id,
            why = &*answer.message,
            "the event that is born from the answer is not taken yet; its delivery waits"
        );
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

fn left_out(to: &Destination, parent: &Event, why: &str) {
    tracing::error!(
        endpoint = &*to.endpoint.name,
        event = &*parent.head.id,
        why,
        "no event is born from the answer"
    );
}

fn source(endpoint: &str) -> String {
    format!("posthaste/{endpoint}")
}

/// The event as a line. Its id is worked out from its parent's id and source: the same whenever it is born again.
fn line(endpoint: &str, parent: &Event, emission: Emission) -> Result<Vec<u8>, String> {
    let ancestry: Ancestry = serde_json::from_slice(&parent.json).unwrap_or_default();
    let depth = ancestry.depth.as_u64().unwrap_or(0) + 1;
    if depth > DEPTH_MAX {
        return Err(format!(
            "{DEPTH_MAX} events in a row were born from answers: endpoints that feed each other would never end"
        ));
    }
    let id = batch::id(std::slice::from_ref(parent));
    let mut event = json!({
        "type": emission.kind,
        "id": format!("emit-{id}"),
        "source": source(endpoint),
        "causeid": &*parent.head.id,
        DEPTH: depth,
        "data": emission.data,
    });
    let head = &parent.head;
    for (name, value) in [
        ("tenant", &head.tenant),
        ("partitionkey", &head.partition_key),
        ("traceparent", &head.traceparent),
    ] {
        if let Some(value) = value {
            event[name] = (**value).into();
        }
    }
    serde_json::to_vec(&event).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::domain::event::EventHead;
    use crate::domain::time::Timestamp;

    fn parent(id: &str, source: &str, json: &str) -> Event {
        Event {
            head: EventHead {
                tenant: Some("acme".into()),
                ..EventHead::new(id, source, "lead.created", Timestamp(0))
            },
            json: Bytes::copy_from_slice(json.as_bytes()),
        }
    }

    fn born(parent: &Event) -> Result<serde_json::Value, String> {
        let emission = Emission {
            kind: "lead.scored".to_owned(),
            data: json!({ "score": 87 }),
        };
        line("crm", parent, emission).map(|line| serde_json::from_slice(&line).unwrap())
    }

    /// E7: the same birth has the same id, events of other sources have others; tenants stay apart.
    #[test]
    fn e7_births_are_the_same_whenever_they_are_repeated() {
        let one = born(&parent("a", "/x", "{}")).unwrap();
        assert_eq!(one, born(&parent("a", "/x", "{}")).unwrap());
        assert_ne!(one["id"], born(&parent("a", "/y", "{}")).unwrap()["id"]);
        assert_eq!(
            (
                &one["type"],
                &one["source"],
                &one["tenant"],
                &one["causeid"],
                &one["data"]
            ),
            (
                &json!("lead.scored"),
                &json!("posthaste/crm"),
                &json!("acme"),
                &json!("a"),
                &json!({ "score": 87 })
            )
        );
    }

    /// E7: endpoints that feed each other end.
    #[test]
    fn e7_births_in_a_row_have_a_bound() {
        for (json, expected) in [
            ("{}", Some(1)),
            (r#"{"emitdepth":1}"#, Some(2)),
            (r#"{"emitdepth":7}"#, Some(8)),
            (r#"{"emitdepth":"x"}"#, Some(1)),
            (r#"{"emitdepth":8}"#, None),
        ] {
            let depth = born(&parent("a", "/x", json)).map(|event| event["emitdepth"].as_u64());
            assert_eq!(depth.ok().flatten(), expected, "{json}");
        }
    }
}
