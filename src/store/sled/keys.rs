//! The keys of the tree. Big-endian, so that the order of bytes is the order of numbers; the first byte is
//! the class. Pure.

use std::ops::Range;

use crate::domain::event::Seq;
use crate::domain::time::Timestamp;
use crate::store::{DeliveryId, LaneId};

/// Keys a slot of the ring has under [`CHUNK`]. Only the first is written again; the others see to it that
/// each chunk has a leaf of the tree to itself, so that no chunk is rewritten because its neighbour changed.
pub const KEYS_PER_SLOT: u8 = 8;

/// `class | slot | j`: part of a chunk.
pub const CHUNK: u8 = 0x01;
/// `class | slot`: what a slot holds; empty: it is free.
pub const SLOT: u8 = 0x02;
/// `class | lane | due | seq`: a delivery that waits. The order of these keys is the order of due times.
pub const DEFERRAL: u8 = 0x04;
/// `class | lane | seq`: a dead letter.
pub const DEAD: u8 = 0x05;
/// `class | lane`: a lane's name and pause.
pub const LANE: u8 = 0x06;
/// `class | page`: hashes of ids; empty: the page is free.
pub const IDS: u8 = 0x07;
/// `class | slot`: what a slot still owes.
pub const OWED: u8 = 0x08;
/// `class | n | j`: a record set aside; spread like chunks, because these are large too.
pub const QUARANTINE: u8 = 0x09;

/// The store's identity.
pub const IDENTITY: &[u8] = b"\x00identity";
/// Numbers given out.
pub const FLOORS: &[u8] = b"\x00floors";
/// A group being accepted.
pub const INTENT: &[u8] = b"\x00intent";
/// Written before the self-test of durability.
pub const PROBE: &[u8] = b"\x00probe";

fn with_u32(class: u8, number: u32) -> Vec<u8> {
    let mut key = Vec::with_capacity(6);
    key.push(class);
    key.extend(number.to_be_bytes());
    key
}

/// Key `j` of a slot's chunk.
pub fn chunk(slot: u32, j: u8) -> Vec<u8> {
    let mut key = with_u32(CHUNK, slot);
    key.push(j);
    key
}

/// Key of what a slot holds.
pub fn slot(slot: u32) -> Vec<u8> {
    with_u32(SLOT, slot)
}

/// Key of what a slot owes.
pub fn owed(slot: u32) -> Vec<u8> {
    with_u32(OWED, slot)
}

/// Key of a lane.
pub fn lane(lane: LaneId) -> Vec<u8> {
    with_u32(LANE, lane.0)
}

/// Key of a page of ids.
pub fn ids(page: u32) -> Vec<u8> {
    with_u32(IDS, page)
}

/// Key `j` of a record set aside.
pub fn quarantine(n: u32, j: u8) -> Vec<u8> {
    let mut key = with_u32(QUARANTINE, n);
    key.push(j);
    key
}

/// Key of a dead letter.
pub fn dead(id: DeliveryId) -> Vec<u8> {
    let mut key = with_u32(DEAD, id.lane.0);
    key.extend(id.seq.0.to_be_bytes());
    key
}

/// Key of a delivery that waits until `due`.
pub fn deferral(id: DeliveryId, due: Timestamp) -> Vec<u8> {
    let mut key = with_u32(DEFERRAL, id.lane.0);
    key.extend(due.0.to_be_bytes());
    key.extend(id.seq.0.to_be_bytes());
    key
}

/// Every key of a class.
pub fn class(class: u8) -> Range<Vec<u8>> {
    vec![class]..vec![class + 1]
}

/// Every delivery of a lane that waits.
pub fn deferrals_of(lane: LaneId) -> Range<Vec<u8>> {
    with_u32(DEFERRAL, lane.0)..after(with_u32(DEFERRAL, lane.0))
}

/// The first key behind all that begin with `prefix`.
fn after(mut prefix: Vec<u8>) -> Vec<u8> {
    while let Some(last) = prefix.pop() {
        if last < u8::MAX {
            prefix.push(last + 1);
            break;
        }
    }
    prefix
}

/// The number of a key that holds one number.
pub fn number(key: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(key.get(1..5)?.try_into().ok()?))
}

/// What a key made by [`deferral`] says.
pub fn parse_deferral(key: &[u8]) -> Option<(DeliveryId, Timestamp)> {
    let lane = LaneId(number(key)?);
    let due = Timestamp(u64::from_be_bytes(key.get(5..13)?.try_into().ok()?));
    let seq = Seq(u64::from_be_bytes(key.get(13..)?.try_into().ok()?));
    Some((DeliveryId { lane, seq }, due))
}

/// What a key made by [`dead`] says.
pub fn parse_dead(key: &[u8]) -> Option<DeliveryId> {
    let lane = LaneId(number(key)?);
    let seq = Seq(u64::from_be_bytes(key.get(5..)?.try_into().ok()?));
    Some(DeliveryId { lane, seq })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_say_what_they_were_made_of() {
        let id = DeliveryId {
            lane: LaneId(u32::MAX),
            seq: Seq(7),
        };
        assert_eq!(
            parse_deferral(&deferral(id, Timestamp(9))),
            Some((id, Timestamp(9)))
        );
        assert_eq!(parse_dead(&dead(id)), Some(id));
        assert_eq!(number(&ids(77)), Some(77));
        assert_eq!(parse_dead(&dead(id)[1..]), None);
    }

    #[test]
    fn the_order_of_keys_is_the_order_of_due_times_within_a_lane() {
        let key = |lane, due, seq| {
            deferral(
                DeliveryId {
                    lane: LaneId(lane),
                    seq: Seq(seq),
                },
                Timestamp(due),
            )
        };
        let sorted = [
            key(0, 255, 9),
            key(0, 256, 1),
            key(0, 256, 2),
            key(0, 1 << 40, 0),
            key(1, 0, 0),
        ];
        assert!(sorted.is_sorted());
        let lane = deferrals_of(LaneId(0));
        assert!(sorted[..4].iter().all(|key| lane.contains(key)));
        assert!(!lane.contains(&sorted[4]));
        assert!(deferrals_of(LaneId(u32::MAX)).contains(&key(u32::MAX, u64::MAX, u64::MAX)));
    }
}
