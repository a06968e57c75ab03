//! Replaying a dead letter as a new event: to another endpoint, with another payload, or both. First the new event
//! becomes durable, then the dead letter goes; its id follows from what is asked for, so asking again after a crash in
//! between makes no second one.

use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::dead::{Names, letter_id};
use super::error::{ApiError, ApiResult};
use super::server::App;
use super::types::ChangeReport;
use crate::domain::event::Event;
use crate::domain::rate::Rate;
use crate::domain::time::Timestamp;
use crate::ingest::build::{self, Moment};
use crate::ingest::frame::{Line, judge};
use crate::ingest::lines::Limits;
use crate::ingest::rewrite::with_members;
use crate::ingest::sender::Sender;
use crate::store::{AcceptGroup, DeliveryId, LaneId, LoadError, NewEvent};

/// Attributes of the dead event that were meant for its first delivery alone.
const LEFT_BEHIND: [&str; 3] = ["delay", "deliverat", "expirytime"];

/// How dead letters are sent anew.
#[derive(Debug)]
pub struct Resend {
    /// The endpoint that gets the new event, and its lane.
    pub to: (Box<str>, LaneId),
    /// Its payload; `None`: that of the dead one.
    pub data: Option<Box<RawValue>>,
    /// Who asks.
    pub sender: Sender,
    /// Names of all lanes, for messages.
    pub names: Names,
    /// When the first becomes due.
    pub start: Timestamp,
    /// `None`: all at `start`.
    pub rate: Option<Rate>,
}

/// Sends a page of dead letters anew, and counts it.
///
/// # Errors
/// 503 when the store takes no new events now; what went before is done and counted in the message.
pub async fn page(
    app: &App,
    found: Vec<DeliveryId>,
    resend: &Resend,
    report: &mut ChangeReport,
) -> ApiResult<()> {
    let mut letters = Vec::with_capacity(found.len());
    for (id, event) in load(app, found).await? {
        let due = resend.rate.map(|rate| {
            resend
                .start
                .plus(rate.offset(report.changed + letters.len() as u64))
        });
        let made = event.and_then(|event| {
            let limits = &app.operator.intake().limits;
            anew(&event, id, resend, app.operator.now(), limits)
        });
        match made {
            Ok(mut event) => {
                event.head.deliver_at = due.filter(|due| *due > event.head.accepted);
                report.last_due = Some(due.unwrap_or(resend.start));
                letters.push((id, event));
            }
            Err(why) => {
                let name = resend.names.get(&id.lane).map_or("", |name| name);
                report.refused.push(format!("{}: {why}", letter_id(name, id.seq)));
            }
        }
    }
    report.changed += if report.dry_run {
        letters.len() as u64
    } else {
        accept_then_discard(app, letters, resend.to.1, report.changed).await?
    };
    Ok(())
}

/// The events of dead letters, or why they can't be read.
async fn load(app: &App, found: Vec<DeliveryId>) -> ApiResult<Vec<(DeliveryId, Result<Event, String>)>> {
    let read = app.operator.queue().read(move |store| {
        let seqs: Vec<_> = found.iter().map(|id| id.seq).collect();
        found.into_iter().zip(store.load(&seqs)).collect::<Vec<_>>()
    });
    read.await?
        .into_iter()
        .map(|(id, loaded)| match loaded {
            Ok(event) => Ok((id, Ok(event))),
            Err(LoadError::Store(error)) => Err(error.into()),
            Err(error) => Ok((id, Err(error.to_string()))),
        })
        .collect()
}

/// The new event: the dead one's attributes with another id, `replayof` for the old one, and the address.
fn anew(
    dead: &Event,
    letter: DeliveryId,
    resend: &Resend,
    now: Timestamp,
    limits: &Limits,
) -> Result<Event, String> {
    let id = new_id(dead, letter, resend);
    let set = [
        ("id", Some(&*id)),
        ("replayof", Some(&*dead.head.id)),
        ("endpoint", Some(&*resend.to.0)),
    ];
    let mut without = LEFT_BEHIND.to_vec();
    if resend.data.is_some() {
        without.extend(["data", "data_base64"]);
        if !is_json(dead) {
            without.push("datacontenttype");
        }
    }
    let mut text = with_members(&dead.json, &without, &set)?;
    if let Some(data) = &resend.data {
        // In front of the end of an object that has members.
        text.truncate(text.len() - 1);
        text.extend_from_slice(b",\"data\":");
        text.extend_from_slice(data.get().as_bytes());
        text.push(b'}');
    }
    match judge(&text, limits) {
        Line::Event(parsed) => {
            build::event(&parsed, &resend.sender, &Moment::new(now)).map_err(|refused| refused.message)
        }
        Line::Refused(refused) => Err(refused.message),
        Line::Batch(_) | Line::Control(_) => Err("it is no event".to_owned()),
    }
}

/// Whether the payload says that it is JSON, or says nothing, which means the same (CloudEvents JSON format 3.1).
fn is_json(event: &Event) -> bool {
    #[derive(Deserialize)]
    struct Typed {
        datacontenttype: Option<String>,
    }
    let typed = serde_json::from_slice::<Typed>(&event.json).ok();
    typed
        .and_then(|typed| typed.datacontenttype)
        .is_none_or(|kind| kind.contains("json"))
}

/// The same for the same request, and for no other.
fn new_id(dead: &Event, letter: DeliveryId, resend: &Resend) -> String {
    let mut hasher = Sha256::new();
    let data = resend.data.as_ref().map_or("", |data| data.get());
    let place = format!("{}.{}", letter.lane.0, letter.seq.0);
    for part in [&*dead.head.source, &*dead.head.id, &*place, &*resend.to.0, data] {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let digest = hasher.finalize();
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("replay-{hex}")
}

/// The new events first, each by itself; then the dead letters of those that are on disk now. Returns how many.
async fn accept_then_discard(
    app: &App,
    letters: Vec<(DeliveryId, Event)>,
    to: LaneId,
    before: u64,
) -> ApiResult<u64> {
    let (ids, events): (Vec<_>, Vec<_>) = letters.into_iter().unzip();
    if ids.is_empty() {
        return Ok(0);
    }
    let groups = events.into_iter().map(|event| AcceptGroup {
        events: vec![NewEvent {
            event,
            lanes: [to].into(),
        }],
    });
    let queue = app.operator.queue();
    let accepted = queue.accept(groups.collect()).await?;
    let refusal = accepted.iter().find_map(|group| group.as_ref().err().copied());
    let taken: Vec<_> = ids
        .into_iter()
        .zip(&accepted)
        .filter_map(|(id, group)| group.is_ok().then_some(id))
        .collect();
    let discarded = queue.write(move |store| store.discard(&taken)).await?;
    match refusal {
        None => Ok(discarded),
        Some(refusal) => Err(ApiError::unavailable(
            "queue_full",
            format!("{refusal}; {} were replayed before", before + discarded),
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::access::Credentials;
    use crate::domain::event::Seq;

    const NOW: Timestamp = Timestamp(1_736_937_000_000);
    const LIMITS: Limits = Limits {
        event_bytes_max: 300,
        batch_bytes_max: 300,
    };
    const LETTER: DeliveryId = DeliveryId {
        lane: LaneId(3),
        seq: Seq(7),
    };

    fn event(more: &str) -> Event {
        let text = format!(r#"{{"type":"a","id":"e1","source":"/s","time":"2025-01-01T00:00:00Z",{more}}}"#);
        let Line::Event(parsed) = judge(text.as_bytes(), &LIMITS) else {
            panic!("no event: {text}");
        };
        let sender = Sender::local(Credentials::default(), None);
        build::event(&parsed, &sender, &Moment::new(Timestamp(0))).unwrap()
    }

    fn resend(data: Option<&str>) -> Resend {
        Resend {
            to: ("other".into(), LaneId(4)),
            data: data.map(|text| serde_json::from_str(text).unwrap()),
            sender: Sender::local(
                Credentials {
                    uid: Some(7),
                    gid: None,
                },
                None,
            ),
            names: Names::new(),
            start: NOW,
            rate: None,
        }
    }

    fn made(more: &str, data: Option<&str>) -> Result<Value, String> {
        let event = anew(&event(more), LETTER, &resend(data), NOW, &LIMITS)?;
        assert_eq!((event.head.sender_uid, event.head.accepted), (Some(7), NOW));
        let mut json: Value = serde_json::from_slice(&event.json).unwrap();
        for (name, value) in [
            ("type", "a"),
            ("source", "/s"),
            ("replayof", "e1"),
            ("endpoint", "other"),
            ("time", "2025-01-01T00:00:00Z"),
            ("specversion", "1.0"),
        ] {
            assert_eq!(json[name], value, "{json}");
            json.as_object_mut().unwrap().remove(name);
        }
        assert!(json["id"].as_str().unwrap().starts_with("replay-"));
        json.as_object_mut().unwrap().remove("id");
        Ok(json)
    }

    /// G3: what the new event keeps, and what belonged to the old delivery alone.
    #[test]
    fn g3_a_new_event_is_made_of_the_dead_one() {
        for (more, data, expected) in [
            (r#""data":{"n":1.50}"#, None, json!({ "data": { "n": 1.5 } })),
            (
                r#""data":1,"tenant":"t","delay":"1h","expirytime":"2026-01-01T00:00:00Z","replayof":"e0""#,
                Some("2"),
                json!({ "data": 2, "tenant": "t" }),
            ),
            (
                r#""data_base64":"YQ==","datacontenttype":"text/plain""#,
                Some("{}"),
                json!({ "data": {} }),
            ),
            (
                r#""data":1,"datacontenttype":"application/vnd.x+json""#,
                Some("2"),
                json!({ "data": 2, "datacontenttype": "application/vnd.x+json" }),
            ),
            (
                r#""data_base64":"YQ==","datacontenttype":"text/plain""#,
                None,
                json!({ "data_base64": "YQ==", "datacontenttype": "text/plain" }),
            ),
        ] {
            assert_eq!(made(more, data), Ok(expected), "{more} {data:?}");
        }
        let long = format!("\"{}\"", "x".repeat(300));
        assert!(
            made(r#""data":1"#, Some(&long))
                .unwrap_err()
                .contains("longer than")
        );
    }

    /// G3: asked again, it is the same event; anything else about it makes another.
    #[test]
    fn g3_ids_follow_from_the_request() {
        let dead = event(r#""data":1"#);
        let id = |letter, resend: &Resend| new_id(&dead, letter, resend);
        let first = id(LETTER, &resend(None));
        assert_eq!(first, id(LETTER, &resend(None)));
        let other_letter = DeliveryId {
            seq: Seq(8),
            ..LETTER
        };
        let mut elsewhere = resend(None);
        elsewhere.to.0 = "third".into();
        for other in [
            id(other_letter, &resend(None)),
            id(LETTER, &resend(Some("1"))),
            id(LETTER, &elsewhere),
        ] {
            assert_ne!(first, other);
        }
    }
}
