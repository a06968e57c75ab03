//! Layouts that earlier versions wrote, each as a type of its own that becomes today's. Pure.

use bincode::serde::Compat;
use serde::Deserialize;

use super::RecordError;
use crate::domain::delivery::DeadReason;
use crate::domain::kept::Kept;
use crate::domain::outcome::{Attempt, Outcome};
use crate::domain::time::Timestamp;
use crate::store::DeadEvidence;
use crate::store::attempts::block::{AttemptBlock, AttemptRow, BlockHead, Evidence};

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
    rows: Vec<AttemptRowV2>,
}

/// [`AttemptBlock`] as version 2 has it: with rows of their own.
#[derive(Deserialize)]
struct AttemptBlockV2 {
    head: BlockHead,
    base_seq: u64,
    texts: Vec<Box<str>>,
    rows: Vec<AttemptRowV2>,
    kept: Vec<(u32, Box<Kept>)>,
}

/// [`AttemptRow`] as versions 1 and 2 have it: connecting is with the TLS handshake, which can't be told from it.
#[derive(Deserialize)]
struct AttemptRowV2 {
    event_id: Box<str>,
    seq_delta: i64,
    source: u16,
    kind: u16,
    endpoint: u16,
    batch: Option<u16>,
    number: u32,
    started_delta_ms: u64,
    waited_ms: i64,
    outcome: Outcome,
    status: Option<u16>,
    message: u16,
    duration_ms: u64,
    total_us: u64,
    reused: bool,
    phases_us: [Option<u64>; 4],
    sent_bytes: u64,
    received_bytes: u64,
    evidence: Option<Evidence>,
}

/// Rows as they are today, and what was said in them.
fn rows(earlier: Vec<AttemptRowV2>) -> (Vec<AttemptRow>, Vec<Evidence>) {
    let mut said = Vec::new();
    let rows = earlier.into_iter().map(|earlier| {
        let [dns, connect, first_byte, body] = earlier.phases_us;
        let place = u16::try_from(said.len()).ok();
        let evidence = earlier.evidence.and_then(|evidence| {
            said.push(evidence);
            place
        });
        AttemptRow {
            event_id: earlier.event_id,
            seq_delta: earlier.seq_delta,
            source: earlier.source,
            kind: earlier.kind,
            endpoint: earlier.endpoint,
            batch: earlier.batch,
            number: earlier.number,
            started_delta_ms: earlier.started_delta_ms,
            waited_ms: earlier.waited_ms,
            outcome: earlier.outcome,
            status: earlier.status,
            message: earlier.message,
            duration_ms: earlier.duration_ms,
            total_us: earlier.total_us,
            reused: earlier.reused,
            phases_us: [dns, connect, None, first_byte, body],
            sent_bytes: earlier.sent_bytes,
            received_bytes: earlier.received_bytes,
            evidence,
        }
    });
    (rows.collect(), said)
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
    let Compat(earlier) = super::value::<Compat<DeadEvidenceV1>>(bytes)?;
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

impl From<AttemptBlockV2> for AttemptBlock {
    fn from(earlier: AttemptBlockV2) -> Self {
        let (rows, evidence) = rows(earlier.rows);
        Self {
            head: earlier.head,
            base_seq: earlier.base_seq,
            texts: earlier.texts,
            rows,
            evidence,
            kept: earlier.kept,
        }
    }
}

/// Blocks of attempts of version 1.
pub(in crate::store) fn attempts_v1(bytes: &[u8]) -> Result<AttemptBlock, RecordError> {
    let Compat(AttemptBlockV1 {
        head,
        base_seq,
        texts,
        rows,
    }) = super::value(bytes)?;
    let second = AttemptBlockV2 {
        head,
        base_seq,
        texts,
        rows,
        kept: Vec::new(),
    };
    Ok(second.into())
}

/// Blocks of attempts of version 2.
pub(in crate::store) fn attempts_v2(bytes: &[u8]) -> Result<AttemptBlock, RecordError> {
    super::value(bytes).map(|Compat(earlier): Compat<AttemptBlockV2>| earlier.into())
}
