//! How tries lie in a block of the log. Pure.
//!
//! A block is written once and whole: its length, the CRC-32 of its record, the record, and the length again, so that
//! a file of blocks can be read from its end. In the record, what repeats from try to try (names, types, messages)
//! stands once, and times and places are counted from those of the block: a try that delivered takes some 50 bytes.

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::{AttemptEntry, AttemptFilter, LoggedAttempt, NamedTry};
use crate::domain::event::Seq;
use crate::domain::kept::Kept;
use crate::domain::outcome::{Attempt, Detail, Exchange, Outcome, OutcomeSet};
use crate::domain::time::Timestamp;
use crate::store::record::{self, Record, RecordError};

/// Bytes of a block beside its record.
pub const FRAME_BYTES: usize = 12;
/// Where the record of a block begins.
const RECORD_AT: usize = 8;
/// Tries in one block. One of 512 stays far below what a record may have, whatever texts are in it.
pub const TRIES_MAX: usize = 512;
/// Bytes of requests and answers in one block, where only failures keep any. When an endpoint fails by the thousand, the
/// first few show why; the others keep their numbers and their message, or else they would push days of history out of the
/// log.
const EVIDENCE_BYTES_MAX: usize = 32 << 10;
/// Bytes of requests and answers in one block, where every try keeps them: what goes beyond them goes into the next one.
const WHOLE_BYTES_MAX: usize = 1 << 20;
/// Bytes of captured values and notes on steps in one block; what goes beyond them is not logged.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// What a block is about, first in its record, so that a search can pass over it without reading the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockHead {
    /// The number of its first try; the others follow it.
    pub first_number: u64,
    /// How many tries.
    pub count: u32,
    /// When the earliest of them began, in milliseconds.
    pub earliest_ms: u64,
    /// When the latest of them began, in milliseconds.
    pub latest_ms: u64,
    /// How they ended.
    pub outcomes: OutcomeSet,
}

/// The tries of one commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptBlock {
    /// What it is about.
    pub head: BlockHead,
    /// The place of the first try's event.
    pub base_seq: u64,
    /// Names, types, sources and messages, each once.
    pub texts: Vec<Box<str>>,
    /// The tries, in order.
    pub rows: Vec<AttemptRow>,
    /// What was said in them, once for those that shared a request.
    pub evidence: Vec<Evidence>,
    /// What was kept of tries that have anything, with their places among the rows.
    pub kept: Vec<(u32, Box<Kept>)>,
}

/// One try of an [`AttemptBlock`]. `u16`s are places in the block's texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRow {
    /// The event's id.
    pub event_id: Box<str>,
    /// The event's place, counted from the block's.
    pub seq_delta: i64,
    /// The event's source.
    pub source: u16,
    /// The event's type.
    pub kind: u16,
    /// The endpoint's name.
    pub endpoint: u16,
    /// The id of a request with several events.
    pub batch: Option<u16>,
    /// 1 for the first try.
    pub number: u32,
    /// When it began, counted from the block's earliest, in milliseconds.
    pub started_delta_ms: u64,
    /// How long after its event was accepted, in milliseconds; below 0 when the clock was set back.
    pub waited_ms: i64,
    /// How it ended.
    pub outcome: Outcome,
    /// The answer's status.
    pub status: Option<u16>,
    /// What went wrong.
    pub message: u16,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// See [`Exchange`], as are the following.
    pub total_us: u64,
    /// Whether the connection was open already.
    pub reused: bool,
    /// Phases: dns, connect, tls, first byte, body.
    pub phases_us: [Option<u64>; 5],
    /// Bytes of the request's body.
    pub sent_bytes: u64,
    /// Bytes of the answer's body.
    pub received_bytes: u64,
    /// Request and answer, as their place in the block's evidence; `None`: they are not kept.
    pub evidence: Option<u16>,
}

/// What was said in a try.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Method and URL, secrets masked.
    pub request_line: String,
    /// Request headers, secrets masked.
    pub request_headers: Vec<(String, String)>,
    /// Answer headers.
    pub response_headers: Vec<(String, String)>,
    /// The beginning of the answer's body.
    pub response_excerpt: String,
}

impl From<Attempt> for Evidence {
    fn from(attempt: Attempt) -> Self {
        Self {
            request_line: attempt.request_line,
            request_headers: attempt.request_headers,
            response_headers: attempt.response_headers,
            response_excerpt: attempt.response_excerpt,
        }
    }
}

/// What was said in the tries of a block, as far as there is room.
struct Said {
    list: Vec<Evidence>,
    room: usize,
}

impl Said {
    /// The place of what was said in `attempt`; `None`: nothing was, or there is no room.
    fn place(&mut self, attempt: Attempt) -> Option<u16> {
        let bytes = attempt.exchange_bytes();
        if bytes == 0 {
            return None;
        }
        let evidence = Evidence::from(attempt);
        // The tries of a batch follow one another.
        if self.list.last() != Some(&evidence) {
            self.room = self.room.checked_sub(bytes)?;
            self.list.push(evidence);
        }
        u16::try_from(self.list.len() - 1).ok()
    }
}

/// How many of `tries`, from the first on, go into one block: at least one.
#[must_use]
pub fn fitting(tries: &[NamedTry], detail: Detail) -> usize {
    let most = tries.len().min(TRIES_MAX);
    if detail == Detail::Failed {
        return most;
    }
    let mut room = WHOLE_BYTES_MAX;
    let fits = |(_, entry): &&NamedTry| {
        let left = room.checked_sub(entry.attempt.exchange_bytes());
        room = left.unwrap_or_default();
        left.is_some()
    };
    tries[..most].iter().take_while(fits).count().max(1)
}

impl Record for AttemptBlock {
    const VERSION: u8 = 3;

    fn of_earlier(version: u8, bytes: &[u8]) -> Option<Result<Self, RecordError>> {
        match version {
            1 => Some(record::earlier::attempts_v1(bytes)),
            2 => Some(record::earlier::attempts_v2(bytes)),
            _ => None,
        }
    }
}

/// So many texts are looked through one after the other before the others are looked up: most blocks have no more.
const TEXTS_LOOKED_THROUGH: usize = 8;

/// Texts with the places given to them.
#[derive(Default)]
struct Texts {
    list: Vec<Box<str>>,
    places: FxHashMap<Box<str>, u16>,
}

impl Texts {
    /// The place of `text`. A block has at most five for each of its tries, so there is always one.
    fn place(&mut self, text: &str) -> u16 {
        let mut first = (0..).zip(self.list.iter().take(TEXTS_LOOKED_THROUGH));
        if let Some((place, _)) = first.find(|(_, of_it)| ***of_it == *text) {
            return place;
        }
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        let place = u16::try_from(self.list.len()).unwrap_or(u16::MAX);
        self.list.push(text.into());
        self.places.insert(text.into(), place);
        place
    }
}

/// Makes a block of as many tries (endpoint and try) as are [`fitting`], the first of which has this number in the log.
#[must_use]
pub fn build(first_number: u64, tries: Vec<NamedTry>, detail: Detail) -> AttemptBlock {
    let starts = tries.iter().map(|(_, entry)| entry.attempt.started.0);
    let head = BlockHead {
        first_number,
        count: tries.len() as u32,
        earliest_ms: starts.clone().min().unwrap_or(0),
        latest_ms: starts.max().unwrap_or(0),
        outcomes: tries.iter().map(|(_, entry)| entry.attempt.outcome).collect(),
    };
    let base_seq = tries.first().map_or(0, |(_, entry)| entry.seq.0);
    let mut texts = Texts::default();
    let mut said = Said {
        list: Vec::new(),
        room: match detail {
            Detail::Failed => EVIDENCE_BYTES_MAX,
            Detail::All => WHOLE_BYTES_MAX,
        },
    };
    let (mut kept, mut kept_room) = (Vec::new(), KEPT_BYTES_MAX);
    let rows = (0..)
        .zip(tries)
        .map(|(place, (endpoint, mut entry))| {
            if let Some(of_try) = entry.attempt.kept.take()
                && let Some(left) = kept_room.checked_sub(of_try.bytes())
            {
                kept_room = left;
                kept.push((place, of_try));
            }
            row(&head, base_seq, &endpoint, *entry, &mut texts, &mut said)
        })
        .collect();
    AttemptBlock {
        head,
        base_seq,
        texts: texts.list,
        rows,
        evidence: said.list,
        kept,
    }
}

fn row(
    head: &BlockHead,
    base_seq: u64,
    endpoint: &str,
    entry: AttemptEntry,
    texts: &mut Texts,
    said: &mut Said,
) -> AttemptRow {
    let AttemptEntry {
        attempt, exchange, ..
    } = entry;
    AttemptRow {
        event_id: entry.event_id,
        seq_delta: entry.seq.0.wrapping_sub(base_seq).cast_signed(),
        source: texts.place(&entry.event_source),
        kind: texts.place(&entry.event_kind),
        endpoint: texts.place(endpoint),
        batch: entry.batch.map(|id| texts.place(&id)),
        number: attempt.number,
        started_delta_ms: attempt.started.0.saturating_sub(head.earliest_ms),
        waited_ms: attempt.started.0.wrapping_sub(entry.accepted.0).cast_signed(),
        outcome: attempt.outcome,
        status: attempt.status,
        message: texts.place(&attempt.message),
        duration_ms: attempt.duration_ms,
        total_us: exchange.total_us,
        reused: exchange.reused,
        phases_us: [
            exchange.dns_us,
            exchange.connect_us,
            exchange.tls_us,
            exchange.first_byte_us,
            exchange.body_us,
        ],
        sent_bytes: exchange.sent_bytes,
        received_bytes: exchange.received_bytes,
        evidence: said.place(attempt),
    }
}

/// The bytes of a block as they stand in a file.
///
/// # Errors
/// [`RecordError`], which no block reaches that [`build`] made.
pub fn frame(block: &AttemptBlock) -> Result<Vec<u8>, RecordError> {
    let record = record::encode(block)?;
    let length = u32::try_from(record.len()).map_err(|_| RecordError("it is too long".to_owned()))?;
    let mut bytes = Vec::with_capacity(FRAME_BYTES + record.len());
    bytes.extend(length.to_be_bytes());
    bytes.extend(crc32fast::hash(&record).to_be_bytes());
    bytes.extend(record);
    bytes.extend(length.to_be_bytes());
    Ok(bytes)
}

fn number_at(bytes: &[u8], at: usize) -> Option<usize> {
    let number = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(number.try_into().ok()?) as usize)
}

/// The length of the block that begins `bytes`; `None`: they are too few to tell.
#[must_use]
pub fn length_of_first(bytes: &[u8]) -> Option<usize> {
    Some(number_at(bytes, 0)? + FRAME_BYTES)
}

/// The length of the block that ends `bytes`; `None`: they are too few to tell.
#[must_use]
pub fn length_of_last(bytes: &[u8]) -> Option<usize> {
    Some(number_at(bytes, bytes.len().checked_sub(4)?)? + FRAME_BYTES)
}

/// The record in the bytes of one whole block; `None`: it is torn or damaged.
#[must_use]
pub fn open(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.len().checked_sub(4).filter(|end| *end > RECORD_AT)?;
    let length = end - RECORD_AT;
    let record = &bytes[RECORD_AT..end];
    let whole = number_at(bytes, 0) == Some(length) && number_at(bytes, end) == Some(length);
    (whole && number_at(bytes, 4) == Some(crc32fast::hash(record) as usize)).then_some(record)
}

/// What a block is about; `None`: its record is another version's.
#[must_use]
pub fn head(record: &[u8]) -> Option<BlockHead> {
    let (version, rest) = record.split_first()?;
    if !(1..=AttemptBlock::VERSION).contains(version) {
        return None;
    }
    let decoded = bincode::serde::decode_from_slice(rest, bincode::config::standard());
    decoded.ok().map(|(head, _)| head)
}

/// Whether there may be something in the block that `filter` asks for. Looks for names among the bytes, where they
/// stand as they are.
#[must_use]
pub fn may_match(record: &[u8], head: &BlockHead, filter: &AttemptFilter) -> bool {
    filter
        .outcomes
        .is_none_or(|outcomes| outcomes.meets(head.outcomes))
        && filter.since.is_none_or(|since| head.latest_ms >= since.0)
        && filter.until.is_none_or(|until| head.earliest_ms < until.0)
        && [&filter.event_id, &filter.endpoint]
            .into_iter()
            .flatten()
            .all(|name| memchr::memmem::find(record, name.as_bytes()).is_some())
}

/// The tries in a record, in order.
///
/// # Errors
/// [`RecordError`].
pub fn tries(record: &[u8]) -> Result<Vec<LoggedAttempt>, RecordError> {
    let AttemptBlock {
        head,
        base_seq,
        texts,
        rows,
        evidence,
        kept,
    } = record::decode(record)?;
    let text = |place: u16| -> Box<str> { texts.get(usize::from(place)).cloned().unwrap_or_default() };
    let mut kept: FxHashMap<u32, Box<Kept>> = kept.into_iter().collect();
    let tries = (head.first_number..)
        .zip(0..)
        .zip(rows)
        .map(|((number, place), row)| {
            let started = head.earliest_ms.saturating_add(row.started_delta_ms);
            let evidence = row.evidence.and_then(|place| evidence.get(usize::from(place)));
            let evidence = evidence.cloned().unwrap_or_default();
            let [dns_us, connect_us, tls_us, first_byte_us, body_us] = row.phases_us;
            let entry = AttemptEntry {
                seq: Seq(base_seq.wrapping_add_signed(row.seq_delta)),
                event_id: row.event_id,
                event_source: text(row.source),
                event_kind: text(row.kind),
                batch: row.batch.map(text),
                accepted: Timestamp(started.wrapping_sub(row.waited_ms.cast_unsigned())),
                attempt: Attempt {
                    number: row.number,
                    started: Timestamp(started),
                    duration_ms: row.duration_ms,
                    outcome: row.outcome,
                    status: row.status,
                    message: text(row.message).into(),
                    request_line: evidence.request_line,
                    request_headers: evidence.request_headers,
                    response_headers: evidence.response_headers,
                    response_excerpt: evidence.response_excerpt,
                    kept: kept.remove(&place),
                },
                exchange: Exchange {
                    total_us: row.total_us,
                    reused: row.reused,
                    dns_us,
                    connect_us,
                    tls_us,
                    first_byte_us,
                    body_us,
                    sent_bytes: row.sent_bytes,
                    received_bytes: row.received_bytes,
                },
            };
            LoggedAttempt {
                number,
                endpoint: text(row.endpoint),
                entry,
            }
        });
    Ok(tries.collect())
}

#[cfg(test)]
pub(super) mod tests;
