//! How events lie in a chunk, and a chunk in slots. Pure.
//!
//! A chunk is a table (count, then offset, length and CRC-32 of each entry) and the entries: length of the
//! head, the head's record, the JSON. So one event can be read and checked without touching the rest. A
//! slot's value is a short header (which use of the slot, which part) and up to [`PART_BYTES_MAX`] of it.

use bytes::Bytes;

use crate::domain::event::{Event, EventHead};
use crate::store::record::{self, RecordError};

/// Bytes of a chunk in one slot. Far below a quarter of sled's segment, past which it would write a file of
/// its own that it never makes durable.
pub const PART_BYTES_MAX: usize = 96 << 10;

const VERSION: u8 = 1;
const PART_HEADER_BYTES: usize = 1 + 8 + 2;
const TABLE_ENTRY_BYTES: usize = 12;

/// The entry of `event` in a chunk.
///
/// # Errors
/// As [`record::encode`].
pub fn entry(event: &Event) -> Result<Vec<u8>, RecordError> {
    let head = record::encode(&event.head)?;
    let mut entry = Vec::with_capacity(4 + head.len() + event.json.len());
    entry.extend((head.len() as u32).to_be_bytes());
    entry.extend(head);
    entry.extend(&event.json);
    Ok(entry)
}

/// Bytes that `entries` entries of `bytes` bytes together take in a chunk.
pub fn chunk_bytes(entries: usize, bytes: usize) -> usize {
    2 + entries * TABLE_ENTRY_BYTES + bytes
}

/// Builds a chunk of `entries`, at most 65,535.
pub fn build(entries: &[Vec<u8>]) -> Bytes {
    let mut offset = 2 + entries.len() * TABLE_ENTRY_BYTES;
    let mut chunk = Vec::with_capacity(offset + entries.iter().map(Vec::len).sum::<usize>());
    chunk.extend((entries.len() as u16).to_be_bytes());
    for entry in entries {
        chunk.extend((offset as u32).to_be_bytes());
        chunk.extend((entry.len() as u32).to_be_bytes());
        chunk.extend(crc32fast::hash(entry).to_be_bytes());
        offset += entry.len();
    }
    entries.iter().for_each(|entry| chunk.extend(entry));
    Bytes::from(chunk)
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
    if offset.checked_add(len).is_none_or(|end| end > chunk.len()) {
        return Err(wrong("the table points outside"));
    }
    let entry = chunk.slice(offset..offset + len);
    if crc32fast::hash(&entry) as usize != crc {
        return Err(wrong("the checksum is wrong"));
    }
    Ok(entry)
}

/// The event in an entry; its JSON is a slice of the entry, not a copy.
///
/// # Errors
/// Says what is wrong with the head.
pub fn event(entry: &Bytes) -> Result<Event, RecordError> {
    let short = || RecordError("the entry is too short for its head".to_owned());
    let len = entry.get(..4).ok_or_else(short)?;
    let json_at = 4 + u32::from_be_bytes([len[0], len[1], len[2], len[3]]) as usize;
    let head: EventHead = record::decode(entry.get(4..json_at).ok_or_else(short)?)?;
    Ok(Event {
        head,
        json: entry.slice(json_at..),
    })
}

/// Splits a chunk into the values of as many slots as it needs.
pub fn split(chunk: &Bytes, generation: u64) -> Vec<Vec<u8>> {
    let part = |(number, bytes): (usize, &[u8])| {
        let mut value = Vec::with_capacity(PART_HEADER_BYTES + bytes.len());
        value.push(VERSION);
        value.extend(generation.to_be_bytes());
        value.extend((number as u16).to_be_bytes());
        value.extend(bytes);
        value
    };
    chunk.chunks(PART_BYTES_MAX).enumerate().map(part).collect()
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
        let head = EventHead {
            id: id.into(),
            source: "/test".into(),
            kind: "t".into(),
            accepted: Timestamp(5),
            deliver_at: None,
            expires: None,
            partition_key: None,
            tenant: None,
            traceparent: None,
            sender_uid: None,
        };
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
        let entries: Vec<_> = events.iter().map(|e| entry(e).unwrap()).collect();
        let built = build(&entries);
        assert_eq!(built.len(), chunk_bytes(3, entries.iter().map(Vec::len).sum()));
        let values = split(&built, 7);
        assert_eq!(values.len(), 3);
        let joined: Vec<u8> = values
            .iter()
            .enumerate()
            .flat_map(|(n, v)| part(v, 7, n).unwrap())
            .copied()
            .collect();
        let chunk = Bytes::from(joined);
        for (index, wanted) in events.iter().enumerate() {
            assert_eq!(&event(&entry_at(&chunk, index).unwrap()).unwrap(), wanted);
        }
        assert_eq!(part(&values[1], 7, 0), None, "another part");
        assert_eq!(part(&values[1], 8, 1), None, "another use of the slot");
    }

    #[test]
    fn a_flipped_byte_damages_its_own_event_only() {
        let entries = [
            entry(&sample("a", b"{\"n\":1}")).unwrap(),
            entry(&sample("b", b"{}")).unwrap(),
        ];
        let mut bytes = build(&entries).to_vec();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        let chunk = Bytes::from(bytes);
        assert!(entry_at(&chunk, 0).is_ok());
        assert!(entry_at(&chunk, 1).unwrap_err().0.contains("checksum"));
        assert!(entry_at(&chunk, 2).unwrap_err().0.contains("no such entry"));
        assert!(entry_at(&Bytes::from_static(b"\0\x01"), 0).is_err());
    }
}
