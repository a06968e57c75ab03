//! How events lie in a chunk, and a chunk in slots. Pure.
//!
//! A chunk is a table (count, then offset, length and CRC-32 of each entry) and the entries: length of the
//! head, the head's record, the JSON. So one event can be read and checked without touching the rest. A
//! slot's value is a short header (which use of the slot, which part) and up to [`PART_BYTES_MAX`] of it.

use std::ops::Range;

use bytes::{Buf, Bytes};

use super::engine::Value;
use crate::domain::event::{Event, EventHead};
use crate::store::record::{self, RecordError};

/// Bytes of a chunk in one slot. Far below a quarter of sled's segment, past which it would write a file of
/// its own that it never makes durable.
pub const PART_BYTES_MAX: usize = 96 << 10;

/// A buffer that outgrew what a slot's value takes is not kept for the next chunk.
const KEPT_BUFFER_BYTES_MAX: usize = 2 * PART_BYTES_MAX;

const VERSION: u8 = 1;
const PART_HEADER_BYTES: usize = 1 + 8 + 2;
const TABLE_ENTRY_BYTES: usize = 12;
/// Most heads need no more.
const HEAD_BYTES_USUAL: usize = 160;

/// An event as it lies in a chunk. In two pieces until then, so that its JSON is copied only once.
#[derive(Debug)]
pub struct Entry {
    /// The length of the head, and the head's record.
    front: Vec<u8>,
    rest: Bytes,
}

impl Entry {
    /// The entry of `event`.
    ///
    /// # Errors
    /// As [`record::encode`].
    pub fn new(event: Event) -> Result<Self, RecordError> {
        let mut front = Vec::with_capacity(HEAD_BYTES_USUAL);
        front.extend([0; 4]);
        record::encode_into(&event.head, &mut front)?;
        let head_bytes = front.len() - 4;
        front[..4].copy_from_slice(&(head_bytes as u32).to_be_bytes());
        let rest = event.json;
        Ok(Self { front, rest })
    }

    /// An entry that was in a chunk before, as [`entry_at`] gave it.
    pub fn again(entry: Bytes) -> Self {
        let front = Vec::new();
        Self { front, rest: entry }
    }

    /// Its bytes.
    pub fn len(&self) -> usize {
        self.front.len() + self.rest.len()
    }
}

/// Bytes that `entries` entries of `bytes` bytes together take in a chunk.
pub fn chunk_bytes(entries: usize, bytes: usize) -> usize {
    2 + entries * TABLE_ENTRY_BYTES + bytes
}

/// A chunk, and the values of the slots that hold it.
#[derive(Debug)]
pub struct Built {
    /// The chunk.
    pub chunk: Bytes,
    /// One value a slot, in order. The chunk of most is a part of its only value.
    pub values: Vec<Value>,
}

/// Builds a chunk of `entries`, at most 65,535, for this use of its slots. It is put together in `buffer`, which is kept from
/// one to the next: memory that is taken anew costs more than the copy out of memory that is at hand.
pub fn build(entries: &[Entry], generation: u64, buffer: &mut Vec<u8>) -> Built {
    buffer.clear();
    buffer.reserve(PART_HEADER_BYTES + chunk_bytes(entries.len(), entries.iter().map(Entry::len).sum()));
    // Begun like the value of a first slot, in which the chunk of most lies as a whole.
    part_header(buffer, generation, 0);
    buffer.extend((entries.len() as u16).to_be_bytes());
    let table_at = buffer.len();
    buffer.resize(PART_HEADER_BYTES + chunk_bytes(entries.len(), 0), 0);
    for (index, entry) in entries.iter().enumerate() {
        let entry_at = buffer.len();
        buffer.extend_from_slice(&entry.front);
        buffer.extend_from_slice(&entry.rest);
        let offset = (entry_at - PART_HEADER_BYTES) as u32;
        let checksum = crc32fast::hash(&buffer[entry_at..]);
        let row = [offset, entry.len() as u32, checksum].map(u32::to_be_bytes);
        let row_at = table_at + index * TABLE_ENTRY_BYTES;
        buffer[row_at..row_at + TABLE_ENTRY_BYTES].copy_from_slice(row.as_flattened());
    }
    let value = Value::from(&buffer[..]);
    if buffer.capacity() > KEPT_BUFFER_BYTES_MAX {
        *buffer = Vec::new();
    }
    let chunk = Bytes::from_owner(value.clone()).slice(PART_HEADER_BYTES..);
    let values = match chunk.len() {
        ..=PART_BYTES_MAX => vec![value],
        _ => split(&chunk, generation),
    };
    Built { chunk, values }
}

/// Splits a chunk into the values of as many slots as it needs.
fn split(chunk: &[u8], generation: u64) -> Vec<Value> {
    let part = |(number, bytes): (usize, &[u8])| {
        let mut value = Vec::with_capacity(PART_HEADER_BYTES + bytes.len());
        part_header(&mut value, generation, number);
        value.extend_from_slice(bytes);
        Value::from(value)
    };
    chunk.chunks(PART_BYTES_MAX).enumerate().map(part).collect()
}

fn part_header(value: &mut Vec<u8>, generation: u64, number: usize) {
    value.push(VERSION);
    value.extend(generation.to_be_bytes());
    value.extend((number as u16).to_be_bytes());
}

/// How many entries a chunk says it has.
pub fn entries(chunk: &[u8]) -> usize {
    chunk
        .get(..2)
        .map_or(0, |n| usize::from(u16::from_be_bytes([n[0], n[1]])))
}

/// The bytes of entry `index`, checked.
///
/// # Errors
/// Says what is wrong when the chunk has no such entry, or its checksum does not fit.
pub fn entry_at(chunk: &Bytes, index: usize) -> Result<Bytes, RecordError> {
    Ok(chunk.slice(place_of(chunk, index)?))
}

/// Where entry `index` is, checked.
fn place_of(chunk: &[u8], index: usize) -> Result<Range<usize>, RecordError> {
    let wrong = |what: &str| RecordError(format!("{what} in its chunk"));
    let number = |at: usize| -> Option<usize> {
        Some(u32::from_be_bytes(chunk.get(at..at + 4)?.try_into().ok()?) as usize)
    };
    if index >= entries(chunk) {
        return Err(wrong("there is no such entry"));
    }
    let at = 2 + index * TABLE_ENTRY_BYTES;
    let (Some(offset), Some(len), Some(crc)) = (number(at), number(at + 4), number(at + 8)) else {
        return Err(wrong("the table is cut short"));
    };
    let place = offset..offset.saturating_add(len);
    let entry = chunk
        .get(place.clone())
        .ok_or_else(|| wrong("the table points outside"))?;
    if crc32fast::hash(entry) as usize != crc {
        return Err(wrong("the checksum is wrong"));
    }
    Ok(place)
}

/// The event in entry `index` of `chunk`. Its JSON is what is left of this handle on the chunk: those who read the events of
/// one chunk at the same time would else fight for its count of handles.
///
/// # Errors
/// As [`entry_at`], and says what is wrong with its head.
pub fn event_at(mut chunk: Bytes, index: usize) -> Result<Event, RecordError> {
    let place = place_of(&chunk, index)?;
    let (head, json_at) = head(&chunk[place.clone()])?;
    chunk.truncate(place.end);
    chunk.advance(place.start + json_at);
    Ok(Event { head, json: chunk })
}

/// The head of an entry, and where its JSON begins.
fn head(entry: &[u8]) -> Result<(EventHead, usize), RecordError> {
    let short = || RecordError("the entry is too short for its head".to_owned());
    let len = entry.get(..4).ok_or_else(short)?;
    let json_at = 4 + u32::from_be_bytes([len[0], len[1], len[2], len[3]]) as usize;
    let head = record::decode(entry.get(4..json_at).ok_or_else(short)?)?;
    Ok((head, json_at))
}

/// The bytes in one slot's value, if it is part `number` of the chunk of this generation.
pub fn part(value: &[u8], generation: u64, number: usize) -> Option<&[u8]> {
    let (header, bytes) = value.split_at_checked(PART_HEADER_BYTES)?;
    let fits = header[0] == VERSION
        && header[1..9] == generation.to_be_bytes()
        && header[9..] == (number as u16).to_be_bytes();
    fits.then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;

    fn sample(id: &str, json: &[u8]) -> Event {
        let head = EventHead::new(id, "/test", "t", Timestamp(5));
        Event {
            head,
            json: Bytes::copy_from_slice(json),
        }
    }

    #[test]
    fn events_come_back_from_a_chunk_split_over_slots() {
        let events = [
            sample("a", b"{}"),
            sample("b", &vec![b'x'; 250_000]),
            sample("c", b"[]"),
        ];
        let entries: Vec<_> = events.iter().map(|e| Entry::new(e.clone()).unwrap()).collect();
        let Built { chunk, values } = build(&entries, 7, &mut Vec::new());
        assert_eq!(chunk.len(), chunk_bytes(3, entries.iter().map(Entry::len).sum()));
        assert_eq!(values.len(), 3);
        let joined: Vec<u8> = values
            .iter()
            .enumerate()
            .flat_map(|(n, v)| part(v, 7, n).unwrap())
            .copied()
            .collect();
        assert_eq!(chunk, joined);
        for (index, wanted) in events.iter().enumerate() {
            assert_eq!(&event_at(chunk.clone(), index).unwrap(), wanted);
        }
        assert_eq!(part(&values[1], 7, 0), None, "another part");
        assert_eq!(part(&values[1], 8, 1), None, "another use of the slot");
    }

    #[test]
    fn a_chunk_for_one_slot_lies_in_its_value_and_entries_can_move() {
        let events = [sample("a", b"{\"n\":1}"), sample("b", b"{}")];
        let entries: Vec<_> = events.iter().map(|e| Entry::new(e.clone()).unwrap()).collect();
        let Built { chunk, values } = build(&entries, 7, &mut Vec::new());
        assert_eq!(part(&values[0], 7, 0), Some(&chunk[..]));
        assert_eq!(values.len(), 1);
        let moved = build(&[Entry::again(entry_at(&chunk, 1).unwrap())], 8, &mut Vec::new());
        assert_eq!(event_at(moved.chunk, 0).unwrap(), events[1]);
    }

    #[test]
    fn a_flipped_byte_damages_its_own_event_only() {
        let entries = [
            Entry::new(sample("a", b"{\"n\":1}")).unwrap(),
            Entry::new(sample("b", b"{}")).unwrap(),
        ];
        let mut bytes = build(&entries, 1, &mut Vec::new()).chunk.to_vec();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        let chunk = Bytes::from(bytes);
        assert!(entry_at(&chunk, 0).is_ok());
        assert!(entry_at(&chunk, 1).unwrap_err().0.contains("checksum"));
        assert!(entry_at(&chunk, 2).unwrap_err().0.contains("no such entry"));
        assert!(entry_at(&Bytes::from_static(b"\0\x01"), 0).is_err());
    }

    #[test]
    fn a_slot_is_written_as_each_version_wrote_it() {
        let events = [
            sample("a", b"{\"n\":1}"),
            sample("b", &[b' '; 300]),
            sample("c", b""),
        ];
        let entries: Vec<_> = events.iter().map(|e| Entry::new(e.clone()).unwrap()).collect();
        let kept = include_bytes!("../../../tests/golden/chunk.v1");
        let values = build(&entries, 7 << 40, &mut Vec::new()).values;
        assert_eq!(
            values.iter().map(|value| &value[..]).collect::<Vec<_>>(),
            [&kept[..]]
        );
    }
}
