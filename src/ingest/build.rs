//! An event with its defaults filled in. The producer's own members keep their order and their bytes; what
//! is missing is put before them. It refuses to know sockets and stores; the time is handed in.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use ulid::Ulid;

use super::frame::{Code, Line, Parsed, Refused, Timing, judge};
use super::lines::Limits;
use super::sender::Sender;
use crate::domain::event::{Event, EventHead};
use crate::domain::time::Timestamp;

/// The instant events are accepted at, written down once for all that share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    now: Timestamp,
    rfc3339: Arc<str>,
}

impl Moment {
    /// This instant.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self {
            now,
            rfc3339: now.to_string().into(),
        }
    }

    /// The instant itself.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }
}

/// Makes the event that is kept and sent: head, and JSON with `specversion`, `id`, `source` and `time`.
///
/// # Errors
/// `invalid_event` when it would expire before it may be delivered.
pub fn event(parsed: &Parsed<'_>, sender: &Sender, moment: &Moment) -> Result<Event, Refused> {
    let attributes = &parsed.attributes;
    let deliver_at = match attributes.timing {
        Timing::Now => None,
        Timing::After(delay) => Some(moment.now.plus(delay)),
        Timing::At(at) => Some(at),
    }
    .filter(|at| *at > moment.now);
    if let Some(expires) = attributes.expires {
        check_expiry(expires, deliver_at, moment)
            .map_err(|message| Refused::new(Code::InvalidEvent, message).about(attributes.id.as_deref()))?;
    }
    let head = EventHead {
        id: attributes
            .id
            .as_deref()
            .map_or_else(|| new_id(moment.now), Into::into),
        source: attributes.source.as_deref().unwrap_or(&sender.source).into(),
        kind: attributes.kind.as_ref().into(),
        accepted: moment.now,
        deliver_at,
        expires: attributes.expires,
        partition_key: attributes.partition_key.as_deref().map(Into::into),
        tenant: attributes.tenant.as_deref().map(Into::into),
        traceparent: attributes.traceparent.as_deref().map(Into::into),
        sender_uid: sender.peer.uid,
    };
    let json = json(parsed, &head, moment);
    Ok(Event { head, json })
}

/// The event that the one object in `text` gives when `sender` sends it at `now`; for those who want to see it, and
/// accept nothing.
///
/// # Errors
/// What a producer would be answered; and for an array or a control line, that it is not one event.
pub fn single(text: &[u8], limits: &Limits, sender: &Sender, now: Timestamp) -> Result<Event, Refused> {
    match judge(text, limits) {
        Line::Event(parsed) => event(&parsed, sender, &Moment::new(now)),
        Line::Refused(refused) => Err(refused),
        Line::Control(_) | Line::Batch(_) => Err(Refused::new(
            Code::InvalidEvent,
            "this takes one event: an object with a `type`",
        )),
    }
}

fn check_expiry(expires: Timestamp, deliver_at: Option<Timestamp>, moment: &Moment) -> Result<(), String> {
    if expires <= moment.now {
        return Err(format!(
            "`expirytime` {expires} has passed (it is {}); give a later one or leave it out",
            moment.rfc3339
        ));
    }
    match deliver_at {
        Some(at) if at >= expires => Err(format!(
            "`expirytime` {expires} is not after the time of delivery {at}; give a later one or a shorter delay"
        )),
        _ => Ok(()),
    }
}

/// A ULID: sorts by time, and needs no escaping anywhere.
fn new_id(now: Timestamp) -> Box<str> {
    let mut text = [0; ulid::ULID_LEN];
    let instant = UNIX_EPOCH + Duration::from_millis(now.0);
    let id: &str = Ulid::from_datetime(instant).array_to_str(&mut text);
    id.into()
}

/// The event's JSON: the producer's, with what is missing put in front.
fn json(parsed: &Parsed<'_>, head: &EventHead, moment: &Moment) -> Bytes {
    let attributes = &parsed.attributes;
    let given = parsed.json;
    let complete = attributes.has_specversion
        && attributes.id.is_some()
        && attributes.source.is_some()
        && attributes.has_time;
    if complete {
        return Bytes::copy_from_slice(given.as_bytes());
    }
    let mut json = Vec::with_capacity(given.len() + head.id.len() + head.source.len() + 96);
    json.push(b'{');
    if !attributes.has_specversion {
        json.extend_from_slice(b"\"specversion\":\"1.0\",");
    }
    if attributes.id.is_none() {
        member(&mut json, "id", &head.id);
    }
    if attributes.source.is_none() {
        member(&mut json, "source", &head.source);
    }
    if !attributes.has_time {
        member(&mut json, "time", &moment.rfc3339);
    }
    // The object holds a `type`, so a member follows the last comma.
    json.extend_from_slice(&given.as_bytes()[1..]);
    // Room that is left would have to be remembered, in memory of its own.
    Bytes::from(json.into_boxed_slice())
}

fn member(json: &mut Vec<u8>, name: &str, value: &str) {
    super::answer::string(json, name);
    json.push(b':');
    super::answer::string(json, value);
    json.push(b',');
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::access::Credentials;

    const LIMITS: Limits = Limits {
        event_bytes_max: 1 << 20,
        batch_bytes_max: 16 << 20,
    };
    /// 2025-01-15T10:30:00.000Z
    const NOW: Timestamp = Timestamp(1_736_937_000_000);

    fn build(line: &str) -> Result<Event, Refused> {
        let Line::Event(parsed) = judge(line.as_bytes(), &LIMITS) else {
            panic!("not an event: {line}");
        };
        event(
            &parsed,
            &Sender::local(
                Credentials {
                    uid: Some(33),
                    gid: Some(33),
                },
                Some("www-data"),
            ),
            &Moment::new(NOW),
        )
    }

    /// A3: only `type` is required, the rest gets defaults.
    #[test]
    fn a3_defaults_are_filled_in() {
        let event = build(r#" {"type":"contact.created" , "data":{"a": 1}} "#).unwrap();
        let parsed: Value = serde_json::from_slice(&event.json).unwrap();
        assert_eq!(parsed["id"].as_str(), Some(&*event.head.id));
        assert_eq!(event.head.id.len(), 26);
        assert_eq!(
            parsed,
            json!({"specversion": "1.0", "id": &*event.head.id, "source": "/local/www-data",
                   "time": "2025-01-15T10:30:00.000Z", "type": "contact.created", "data": {"a": 1}})
        );
        assert!(
            event
                .json
                .ends_with(br#","type":"contact.created" , "data":{"a": 1}}"#)
        );
        assert_eq!((event.head.accepted, event.head.sender_uid), (NOW, Some(33)));
        assert_eq!((event.head.deliver_at, event.head.expires), (None, None));
    }

    /// A3: what the producer wrote is taken byte for byte, extensions too.
    #[test]
    fn a3_given_members_are_untouched() {
        let line = r#"{ "id":"a\u0041/","specversion":"1.0","time":"2020-01-01T00:00:00Z","source":"s","type":"t","shard":7,"data":1e400 }"#;
        let event = build(line).unwrap();
        assert_eq!(event.json, line.as_bytes());
        assert_eq!(&*event.head.id, "aA/");
        let event = build(r#"{"type":"t","id":"x","tenant":"acme","partitionkey":"k"}"#).unwrap();
        assert!(
            event
                .json
                .ends_with(br#","type":"t","id":"x","tenant":"acme","partitionkey":"k"}"#)
        );
        assert_eq!(event.head.tenant.as_deref(), Some("acme"));
        assert_eq!(event.head.partition_key.as_deref(), Some("k"));
    }

    /// A6: delays count from now, and an instant in the past means at once.
    #[test]
    fn a6_delivery_times() {
        for (members, expected) in [
            (r#""delay":"5m""#, Some(300_000)),
            (r#""delay":"1h30m""#, Some(5_400_000)),
            (r#""delay":"500ms""#, Some(500)),
            (r#""delay":"0s""#, None),
            (r#""deliverat":"2025-01-15T10:30:01Z""#, Some(1000)),
            (r#""deliverat":"2025-01-15T12:30:01+02:00""#, Some(1000)),
            (r#""deliverat":"2024-01-15T10:30:01Z""#, None),
            (r#""deliverat":"1950-01-15T10:30:01Z""#, None),
        ] {
            let event = build(&format!(r#"{{"type":"t",{members}}}"#)).unwrap();
            let expected = expected.map(|ms| NOW.plus(Duration::from_millis(ms)));
            assert_eq!(event.head.deliver_at, expected, "{members}");
        }
    }

    /// A6: an event that could only expire is refused, with its id.
    #[test]
    fn a6_expired_events_are_refused() {
        let event = build(r#"{"type":"t","expirytime":"2025-01-15T10:30:01Z"}"#).unwrap();
        assert_eq!(event.head.expires, Some(NOW.plus(Duration::from_secs(1))));
        for (members, message) in [
            (r#""expirytime":"2025-01-15T10:30:00Z""#, "has passed"),
            (r#""expirytime":"1960-01-15T10:30:00Z""#, "has passed"),
            (
                r#""expirytime":"2025-01-15T10:31:00Z","delay":"60s""#,
                "not after",
            ),
        ] {
            let refused = build(&format!(r#"{{"type":"t","id":"e1",{members}}}"#)).unwrap_err();
            assert_eq!(refused.code, Code::InvalidEvent);
            assert_eq!(refused.id.as_deref(), Some("e1"));
            assert!(refused.message.contains(message), "{}", refused.message);
        }
    }
}
