//! `/v1/dead`: dead letters with their evidence, and what is asked of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::attempt::ExchangeView;
use super::rfc3339;
use super::schema::{Class, Instant, Reason};
use crate::domain::delivery::DeadReason;
use crate::domain::kept::{Kept, StepNote};
use crate::domain::outcome::{Attempt, ErrorClass};
use crate::domain::time::Timestamp;

/// A delivery that was given up, with everything needed to judge it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetterView {
    /// `<endpoint>:<number>`; never used twice.
    pub id: String,
    /// To whom it was owed.
    pub endpoint: String,
    /// Why it was given up.
    #[schemars(with = "Reason")]
    pub reason: DeadReason,
    /// Since when it is dead.
    #[serde(with = "rfc3339")]
    #[schemars(with = "Instant")]
    pub since: Timestamp,
    /// Tries used.
    pub tries: u32,
    /// When the first try began; `null`: there was none.
    #[serde(with = "rfc3339::option")]
    #[schemars(with = "Option<Instant>")]
    pub first_attempt: Option<Timestamp>,
    /// The last try, request and answer; `null`: there was none.
    pub last: Option<AttemptView>,
    /// The event's id.
    pub event_id: String,
    /// The event's source.
    pub event_source: String,
    /// The event's type.
    pub event_type: String,
    /// When the event was accepted.
    #[serde(with = "rfc3339")]
    #[schemars(with = "Instant")]
    pub accepted: Timestamp,
    /// The event as CloudEvents JSON; only where it was asked for (`GET /v1/dead/{id}`, or `with=event`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub event: Option<Box<RawValue>>,
    /// Why the event cannot be shown though it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_problem: Option<String>,
}

/// One try: what was sent, what came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptView {
    /// 1 for the first try.
    pub number: u32,
    /// When it began.
    #[serde(with = "rfc3339")]
    #[schemars(with = "Instant")]
    pub started: Timestamp,
    /// How long it took, the answer's body included.
    pub duration_ms: u64,
    /// `delivered` `rejected` `error` `skipped`.
    pub outcome: String,
    /// The kind of error; `null` for other outcomes.
    #[schemars(with = "Option<Class>")]
    pub class: Option<ErrorClass>,
    /// What to look at first; `null` for other outcomes.
    pub hint: Option<String>,
    /// The answer's status; `null`: none came.
    pub status: Option<u16>,
    /// What went wrong, in one sentence.
    pub message: String,
    /// Method and URL, secrets masked.
    pub request_line: String,
    /// Request headers as sent, secrets masked.
    pub request_headers: Vec<(String, String)>,
    /// Answer headers.
    pub response_headers: Vec<(String, String)>,
    /// The beginning of the answer's body.
    pub response_excerpt: String,
    /// How long its parts took; `null` where only the dead letter tells of it.
    #[serde(default)]
    pub exchange: Option<ExchangeView>,
    /// The values of `response.capture`, secrets masked; `null`: none.
    #[serde(default)]
    pub captured: Option<serde_json::Value>,
    /// What became of its steps, in the order written; those that had no turn are not there.
    #[serde(default)]
    pub steps: Vec<StepNoteView>,
    /// The flags of steps whose default was used.
    #[serde(default)]
    pub flags: Vec<String>,
}

/// What became of one step of a try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepNoteView {
    /// Its name.
    pub step: String,
    /// `done` (it was answered), `cached` (an earlier answer was used), `skipped` (by its `when`), and of those that failed
    /// `last_good`, `default`, `left_out` (the delivery went on) or `failed` (it did not).
    pub end: String,
    /// The status it was answered with; `null`: there was no answer, or no request.
    pub status: Option<u16>,
    /// How long it took.
    pub duration_ms: u64,
    /// Why it was skipped or failed; empty else.
    pub message: String,
}

impl From<&StepNote> for StepNoteView {
    fn from(note: &StepNote) -> Self {
        Self {
            step: note.step.to_string(),
            end: note.end.name().to_owned(),
            status: note.status,
            duration_ms: note.duration_ms,
            message: note.message.to_string(),
        }
    }
}

impl From<&Attempt> for AttemptView {
    fn from(attempt: &Attempt) -> Self {
        let class = attempt.outcome.class();
        let nothing = Kept::default();
        let kept = attempt.kept.as_deref().unwrap_or(&nothing);
        Self {
            number: attempt.number,
            started: attempt.started,
            duration_ms: attempt.duration_ms,
            outcome: attempt.outcome.name().to_owned(),
            class,
            hint: class.map(|class| class.hint().to_owned()),
            status: attempt.status,
            message: attempt.message.clone(),
            request_line: attempt.request_line.clone(),
            request_headers: attempt.request_headers.clone(),
            response_headers: attempt.response_headers.clone(),
            response_excerpt: attempt.response_excerpt.clone(),
            exchange: None,
            captured: serde_json::from_str(&kept.captured).ok(),
            steps: kept.steps.iter().map(Into::into).collect(),
            flags: kept.flags.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Which dead letters; every field narrows, none given means all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeadSelect {
    /// One endpoint only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Event type, exact or with wildcards as in subscriptions (`contact.*`, `**`).
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The name of a reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The last answer's status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Dead since this instant or later: RFC 3339, or how long ago (`2h`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Dead before this instant: RFC 3339, or how long ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

impl DeadSelect {
    /// Whether nothing narrows it: it means every dead letter there is.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }
}

/// `POST /v1/dead/replay` and `/v1/dead/purge`: `ids` or `filter`, never both.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Dead letters by id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<String>>,
    /// Dead letters by what they are; `{}` is all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<DeadSelect>,
    /// Count, change nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Replay only: at most so many become due per second or minute (`"50/s"`, `"600/m"`); absent: all at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// Replay only: to this endpoint instead. A new event is made of each dead letter, with the same type, source and
    /// data, an id of its own, and the old id as `replayof`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Replay only: with this payload instead, as a new event; for one id alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<serde_json::Value>,
}

/// What a replay or a purge did, or with `dry_run` would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChangeReport {
    /// Whether it only counted.
    pub dry_run: bool,
    /// Dead letters that were asked for and found.
    pub matched: u64,
    /// Dead letters replayed or purged (with `dry_run`: that would be).
    pub changed: u64,
    /// Found, but their endpoint is orphaned, so there is nowhere to replay them to.
    pub orphaned: u64,
    /// Dead letters of which no new event could be made, each with why.
    #[serde(default)]
    pub refused: Vec<String>,
    /// Ids that name no dead letter (any more).
    pub not_found: Vec<String>,
    /// When the last of a paced replay becomes due; `null`: nothing is replayed.
    #[serde(with = "rfc3339::option")]
    #[schemars(with = "Option<Instant>")]
    pub last_due: Option<Timestamp>,
}
