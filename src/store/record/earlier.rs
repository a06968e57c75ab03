//! Layouts that earlier versions wrote, each as a type of its own that becomes today's. Pure.

use serde::Deserialize;

use super::RecordError;
use crate::domain::delivery::DeadReason;
use crate::domain::outcome::{Attempt, Outcome};
use crate::domain::time::Timestamp;
use crate::store::DeadEvidence;
use crate::store::attempts::block::{AttemptBlock, AttemptRow, BlockHead};

/// [`DeadEvidence`] as version 1 has it: without what was kept of the last try.
#[derive(Deserialize)]
struct DeadEvidenceV1 {
    reason: DeadReason,
    since: Timestamp,
    tries: u32,
    first_attempt: Option<Timestamp>,
    last: Option<AttemptV1>,
    event_id: Box<str>,
    event_source: Box<str>,
    event_kind: Box<str>,
    accepted: Timestamp,
}

#[derive(Deserialize)]
struct AttemptV1 {
    number: u32,
    started: Timestamp,
    duration_ms: u64,
    outcome: Outcome,
    status: Option<u16>,
    message: String,
    request_line: String,
    request_headers: Vec<(String, String)>,
    response_headers: Vec<(String, String)>,
    response_excerpt: String,
}

/// [`AttemptBlock`] as version 1 has it: without what was kept of its tries.
#[derive(Deserialize)]
struct AttemptBlockV1 {
    head: BlockHead,
    base_seq: u64,
    texts: Vec<Box<str>>,
    rows: Vec<AttemptRow>,
}

impl From<AttemptV1> for Attempt {
    fn from(earlier: AttemptV1) -> Self {
        Self {
            number: earlier.number,
            started: earlier.started,
            duration_ms: earlier.duration_ms,
            outcome: earlier.outcome,
            status: earlier.status,
            message: earlier.message,
            request_line: earlier.request_line,
            request_headers: earlier.request_headers,
            response_headers: earlier.response_headers,
            response_excerpt: earlier.response_excerpt,
            kept: None,
        }
    }
}

/// Dead letters of version 1.
pub(super) fn dead(bytes: &[u8]) -> Result<DeadEvidence, RecordError> {
    let earlier: DeadEvidenceV1 = super::value(bytes)?;
    Ok(DeadEvidence {
        reason: earlier.reason,
        since: earlier.since,
        tries: earlier.tries,
        first_attempt: earlier.first_attempt,
        last: earlier.last.map(Into::into),
        event_id: earlier.event_id,
        event_source: earlier.event_source,
        event_kind: earlier.event_kind,
        accepted: earlier.accepted,
    })
}

/// Blocks of attempts of version 1.
pub(in crate::store) fn attempts(bytes: &[u8]) -> Result<AttemptBlock, RecordError> {
    let earlier: AttemptBlockV1 = super::value(bytes)?;
    Ok(AttemptBlock {
        head: earlier.head,
        base_seq: earlier.base_seq,
        texts: earlier.texts,
        rows: earlier.rows,
        kept: Vec::new(),
    })
}
