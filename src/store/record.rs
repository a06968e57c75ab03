//! Bytes on disk to values and back. Pure: knows no engine, no key and no file.
//!
//! A record is one version byte and then the value as bincode writes it. A version is never changed in
//! place: when a type's layout has to change, its old layout stays here as a type of its own, a new version
//! byte is given out, and reading the old one converts ([`earlier`]). `tests/golden/` holds one record of every kind as
//! each version wrote it; a test reads them all, so a layout that changed by accident is noticed.

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::enc::write::Writer;
use bincode::error::{DecodeError, EncodeError};
use bincode::serde::{BorrowCompat, Compat};
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use super::attempts::block::AttemptBlock;
use super::{DeadEvidence, Deferral, Pause, Quarantined, StoreError};
use crate::domain::event::EventHead;

pub(in crate::store) mod earlier;

/// No record may ask for more memory than this while it is read.
const RECORD_BYTES_MAX: usize = 4 << 20;
/// Room a record is given to begin with; most need no more.
const RECORD_BYTES_USUAL: usize = 128;

/// Why bytes are no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RecordError(pub String);

impl From<RecordError> for StoreError {
    fn from(error: RecordError) -> Self {
        Self::Failed(error.0)
    }
}

/// A value that is kept on disk as a record of its own.
pub trait Record: Encode + Decode<()> {
    /// The version byte of this layout.
    const VERSION: u8 = 1;

    /// Reads the bytes behind the version byte of an earlier layout; `None`: there is no such version.
    fn of_earlier(_version: u8, _bytes: &[u8]) -> Option<Result<Self, RecordError>> {
        None
    }
}

/// The key of the id hashes, and what tells one store from another.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Identity {
    /// The layout of keys; a store with another one is not opened.
    pub schema: u32,
    /// Random, given once.
    pub uuid: [u8; 16],
    /// Random, given once: the SipHash key of the id hashes.
    pub hash_key: [u8; 16],
}

/// Numbers below these may have been given out before, whatever else the store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Floors {
    /// The first sequence number that was surely never used.
    pub seq: u64,
    /// The first slot generation that was surely never used.
    pub generation: u64,
}

/// Slots of these generations belong to a group that is being accepted: until this record is taken away,
/// none of them counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Intent {
    /// The first generation.
    pub from: u64,
    /// The one after the last.
    pub until: u64,
}

/// What one slot of the ring holds, written once, when its chunk is accepted. Its presence is what makes
/// the events, their ids and everything they owe exist.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct SlotRecord {
    /// Rises with every use of any slot; the chunk carries the same number.
    pub generation: u64,
    /// Sequence number of the first event.
    pub first_seq: u64,
    /// When the first event was accepted, in milliseconds.
    pub accepted_ms: u64,
    /// Bytes of the events' JSON.
    pub json_bytes: u64,
    /// Bytes of the chunk, all parts.
    pub chunk_bytes: u64,
    /// Further slots that hold the rest of the chunk, in order.
    pub parts: Vec<u32>,
    /// The different sets of lanes that events here are owed to.
    pub lane_sets: Vec<Vec<u32>>,
    /// The events, in order.
    pub events: Vec<SlotEvent>,
}

/// One event of a [`SlotRecord`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct SlotEvent {
    /// Keyed hash of (source, id).
    pub id_hash: [u8; 16],
    /// Sequence number, counted from the slot's first.
    pub seq_delta: u32,
    /// Milliseconds of acceptance, counted from the slot's.
    pub accepted_delta_ms: u32,
    /// Which of the lane sets.
    pub lane_set: u16,
}

/// What the events of a slot still owe; stands over the lane sets of the [`SlotRecord`] of the same
/// generation, and means nothing beside any other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct OwedRecord {
    /// The slot's generation.
    pub generation: u64,
    /// Per lane one bit an event, lowest bit first: owed to it (pending or dead).
    pub lanes: Vec<(u32, Vec<u64>)>,
}

/// A delivery that waits for a later try; when, stands in its key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeferralRecord {
    /// What is known of earlier tries; `None`: there were none since it was accepted or revived.
    pub tried: Option<Deferral>,
}

impl DeferralRecord {
    /// Tries used so far.
    #[must_use]
    pub fn tries(&self) -> u32 {
        self.tried.as_ref().map_or(0, |tried| tried.tries)
    }
}

/// A lane's name and pause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneRecord {
    /// The endpoint's name.
    pub name: Box<str>,
    /// Set while paused.
    pub pause: Option<Pause>,
}

/// Hashes of ids whose events are gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct IdPage {
    /// When the oldest of them was accepted, in milliseconds.
    pub oldest_ms: u64,
    /// When the newest of them was accepted, in milliseconds.
    pub newest_ms: u64,
    /// The hashes.
    pub hashes: Vec<[u8; 16]>,
}

/// Gives types that only serde can take apart the layout that serde gives them. That is the same as bincode's own,
/// but arrays of bytes, like hashes, go through serde one byte at a time.
macro_rules! through_serde {
    ($($kind:ty),+) => {$(
        impl Encode for $kind {
            fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
                BorrowCompat(self).encode(encoder)
            }
        }

        impl<C> Decode<C> for $kind {
            fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
                Compat::decode(decoder).map(|Compat(value)| value)
            }
        }
    )+};
}

through_serde!(
    DeferralRecord,
    DeadEvidence,
    LaneRecord,
    Quarantined,
    EventHead,
    AttemptBlock
);

impl Record for Identity {}
impl Record for Floors {}
impl Record for Intent {}
impl Record for SlotRecord {}
impl Record for OwedRecord {}
impl Record for DeferralRecord {}
impl Record for DeadEvidence {
    const VERSION: u8 = 2;

    fn of_earlier(version: u8, bytes: &[u8]) -> Option<Result<Self, RecordError>> {
        (version == 1).then(|| earlier::dead(bytes))
    }
}
impl Record for LaneRecord {}
impl Record for IdPage {}
impl Record for Quarantined {}
impl Record for EventHead {}

/// Bytes that a record is appended to.
struct Appended<'a>(&'a mut Vec<u8>);

impl Writer for Appended<'_> {
    /// Most of what bincode writes is a single byte, which is cheaper to push than to copy.
    #[inline(always)]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        match bytes {
            [byte] => self.0.push(*byte),
            _ => self.0.extend_from_slice(bytes),
        }
        Ok(())
    }
}

/// Writes `value` as a record.
///
/// # Errors
/// When bincode can't express it, which no value of these types reaches.
pub fn encode<T: Record>(value: &T) -> Result<Vec<u8>, RecordError> {
    let mut bytes = Vec::with_capacity(RECORD_BYTES_USUAL);
    encode_into(value, &mut bytes)?;
    Ok(bytes)
}

/// Appends `value` as a record.
///
/// # Errors
/// As [`encode`].
pub fn encode_into<T: Record>(value: &T, bytes: &mut Vec<u8>) -> Result<(), RecordError> {
    bytes.push(T::VERSION);
    bincode::encode_into_writer(value, Appended(bytes), bincode::config::standard())
        .map_err(|error| RecordError(format!("can't be written as a record: {error}")))
}

/// Reads a record. Every byte must be used: bincode itself would take a longer, newer record for a shorter
/// one without a word.
///
/// # Errors
/// Says why when the version is unknown, or the bytes are too few, too many, or make no such value.
pub fn decode<T: Record>(bytes: &[u8]) -> Result<T, RecordError> {
    let (version, rest) = bytes
        .split_first()
        .ok_or_else(|| RecordError("it is empty".to_owned()))?;
    if *version != T::VERSION {
        return T::of_earlier(*version, rest).unwrap_or_else(|| {
            Err(RecordError(format!(
                "its version is {version}, this posthaste reads version {}",
                T::VERSION
            )))
        });
    }
    value(rest)
}

/// Reads what stands behind a version byte.
fn value<T: Decode<()>>(rest: &[u8]) -> Result<T, RecordError> {
    let config = bincode::config::standard().with_limit::<RECORD_BYTES_MAX>();
    let (value, used) = bincode::decode_from_slice(rest, config)
        .map_err(|error| RecordError(format!("it does not decode: {error}")))?;
    if used != rest.len() {
        return Err(RecordError(format!(
            "{} bytes are left over behind it",
            rest.len() - used
        )));
    }
    Ok(value)
}

#[cfg(test)]
pub(in crate::store) mod tests {
    use super::*;
    use crate::domain::delivery::DeadReason;
    use crate::domain::kept::{Kept, StepEnd, StepNote};
    use crate::domain::outcome::{Attempt, ErrorClass, Outcome};
    use crate::domain::time::Timestamp;

    /// Compares `value` with its golden file, both ways. `POSTHASTE_GOLDEN=write` makes files that are not
    /// there yet.
    pub(in crate::store) fn golden<T: Record + PartialEq + std::fmt::Debug>(name: &str, value: &T) {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/golden")
            .join(name);
        let bytes = encode(value).unwrap();
        if !path.exists() && std::env::var_os("POSTHASTE_GOLDEN").is_some() {
            std::fs::write(&path, &bytes).unwrap();
        }
        let kept = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(&decode::<T>(&kept).unwrap(), value, "{name} reads differently");
        assert_eq!(
            kept, bytes,
            "{name} is written differently: that needs a new version"
        );
    }

    /// Reads the golden file of an earlier layout, which is not written any more.
    pub(in crate::store) fn golden_earlier<T: Record + PartialEq + std::fmt::Debug>(name: &str, value: &T) {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/golden")
            .join(name);
        let kept = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(&decode::<T>(&kept).unwrap(), value, "{name} reads differently");
    }

    /// What is kept of a try with steps.
    pub(in crate::store) fn kept() -> Kept {
        Kept {
            captured: r#"{"lead_id":"L-7"}"#.into(),
            steps: vec![StepNote {
                step: "validate".into(),
                end: StepEnd::Default,
                status: Some(503),
                duration_ms: 40,
                message: "validate.example:443 answered 503 Service Unavailable".into(),
            }],
            flags: vec!["review".into()],
        }
    }

    fn deferral() -> Deferral {
        Deferral {
            due: Timestamp(1_736_937_060_000),
            tries: 3,
            first_attempt: Timestamp(1_736_937_000_000),
            last_attempt: Timestamp(1_736_937_030_000),
            last_status: Some(503),
            last_class: Some(ErrorClass::Http5xx),
            last_message: "503 Service Unavailable".into(),
        }
    }

    fn evidence() -> DeadEvidence {
        DeadEvidence {
            reason: DeadReason::MaxAttempts,
            since: Timestamp(1_736_937_090_000),
            tries: 10,
            first_attempt: Some(Timestamp(1_736_937_000_000)),
            last: Some(Attempt {
                number: 10,
                started: Timestamp(1_736_937_089_000),
                duration_ms: 250,
                outcome: Outcome::Error(ErrorClass::Timeout),
                status: None,
                message: "no answer within 30 s".into(),
                request_line: "POST https://example.com/hook".into(),
                request_headers: vec![("content-type".into(), "application/json".into())],
                response_headers: Vec::new(),
                response_excerpt: String::new(),
                kept: None,
            }),
            event_id: "evt-1".into(),
            event_source: "/local/www-data".into(),
            event_kind: "contact.created".into(),
            accepted: Timestamp(1_736_937_000_000),
        }
    }

    fn slot() -> SlotRecord {
        let event = |n: u8| SlotEvent {
            id_hash: [n; 16],
            seq_delta: u32::from(n),
            accepted_delta_ms: 7,
            lane_set: 1,
        };
        SlotRecord {
            generation: 9,
            first_seq: 1_000_001,
            accepted_ms: 1_736_937_000_000,
            json_bytes: 300,
            chunk_bytes: 400,
            parts: vec![4, 5],
            lane_sets: vec![vec![0], vec![1, 2]],
            events: vec![event(0), event(3)],
        }
    }

    #[test]
    fn every_kind_of_record_reads_as_each_version_wrote_it() {
        let (uuid, hash_key) = ([1; 16], [2; 16]);
        golden(
            "identity.v1",
            &Identity {
                schema: 1,
                uuid,
                hash_key,
            },
        );
        golden(
            "floors.v1",
            &Floors {
                seq: 1 << 40,
                generation: 77,
            },
        );
        golden("intent.v1", &Intent { from: 5, until: 8 });
        golden("slot.v1", &slot());
        let lanes = vec![(0, vec![0b101]), (300, vec![u64::MAX, 1])];
        golden("owed.v1", &OwedRecord { generation: 9, lanes });
        golden(
            "deferral.v1",
            &DeferralRecord {
                tried: Some(deferral()),
            },
        );
        golden("deferral-untried.v1", &DeferralRecord { tried: None });
        golden_earlier("dead.v1", &evidence());
        golden("dead.v2", &evidence());
        let mut with_steps = evidence();
        with_steps.last.as_mut().unwrap().kept = kept().if_any();
        golden("dead-kept.v2", &with_steps);
        let pause = Pause {
            by: "operator".into(),
            reason: "maintenance".into(),
            since: Timestamp(5),
            until: None,
        };
        golden(
            "lane.v1",
            &LaneRecord {
                name: "crm-sync".into(),
                pause: Some(pause),
            },
        );
        let hashes = vec![[3; 16], [4; 16]];
        golden(
            "ids.v1",
            &IdPage {
                oldest_ms: 1,
                newest_ms: 2,
                hashes,
            },
        );
        let quarantined = Quarantined {
            found: Timestamp(5),
            what: "event 7".into(),
            why: "its checksum is wrong".into(),
            bytes: vec![0, 255],
        };
        golden("quarantined.v1", &quarantined);
        let head = EventHead {
            id: "evt-1".into(),
            source: "/local/www-data".into(),
            kind: "contact.created".into(),
            accepted: Timestamp(1_736_937_000_000),
            deliver_at: Some(Timestamp(1_736_937_300_000)),
            expires: None,
            partition_key: Some("k".into()),
            tenant: None,
            traceparent: None,
            sender_uid: Some(33),
        };
        golden("head.v1", &head);
    }

    /// Numbers of every length that bincode gives them.
    const LENGTHS: [u64; 6] = [250, 251, 1 << 16, 1 << 32, u64::MAX - 1, u64::MAX];

    fn hash(n: u16) -> [u8; 16] {
        std::array::from_fn(|at| (usize::from(n) * 31 + at * 7) as u8)
    }

    #[test]
    fn full_slots_and_pages_read_as_each_version_wrote_them() {
        let event = |n: u16| SlotEvent {
            id_hash: hash(n),
            seq_delta: LENGTHS[usize::from(n) % 6] as u32,
            accepted_delta_ms: u32::from(n) << 9,
            lane_set: n * 100,
        };
        for (name, length) in ["slot-full-1.v1", "slot-full-2.v1"].into_iter().zip([1, 4]) {
            let slot = SlotRecord {
                generation: LENGTHS[length],
                first_seq: LENGTHS[length + 1],
                accepted_ms: LENGTHS[3],
                json_bytes: LENGTHS[0],
                chunk_bytes: LENGTHS[2],
                parts: (240..260).collect(),
                lane_sets: vec![vec![], (0..300).map(|n| n << 10).collect()],
                events: (0..300).map(event).collect(),
            };
            golden(name, &slot);
        }
        let page = IdPage {
            oldest_ms: LENGTHS[3],
            newest_ms: LENGTHS[5],
            hashes: (0..512).map(hash).collect(),
        };
        golden("ids-full.v1", &page);
        let lanes = (0..70).map(|n| (n << 12, LENGTHS.to_vec())).collect();
        golden(
            "owed-full.v1",
            &OwedRecord {
                generation: LENGTHS[5],
                lanes,
            },
        );
    }

    #[test]
    fn damaged_records_say_what_is_wrong() {
        let good = encode(&slot()).unwrap();
        let longer = [&good[..], &[0]].concat();
        let newer = [&[9], &good[1..]].concat();
        for (bytes, message) in [
            (&b""[..], "empty"),
            (&newer, "version is 9"),
            (&longer, "1 bytes are left over"),
            (&good[..good.len() - 1], "does not decode"),
            // A length of 2^64 must not be believed.
            (
                &[1, 1, 1, 1, 1, 1, 253, 255, 255, 255, 255, 255, 255, 255, 255],
                "does not decode",
            ),
        ] {
            let error = decode::<SlotRecord>(bytes).unwrap_err();
            assert!(error.0.contains(message), "{bytes:?}: {error}");
        }
    }
}
