//! What is known in memory of every slot in use: where each event lies and what it still owes, without its
//! bytes. Rebuilt at every start, changed only after what is on its way to the disk. Pure.

use std::collections::BTreeMap;

use super::bits::{Counts, LaneBits, Mark};
use crate::domain::event::Seq;
use crate::domain::time::Timestamp;
use crate::store::record::{LaneRecord, SlotRecord};
use crate::store::{DeliveryId, Due, DueAnswer, DueQuery, LaneId, Pause};

/// Chunks smaller than this are tiny.
pub const TINY_CHUNK_BYTES: u64 = 8 << 10;

/// Where an event stands that does not simply follow its neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Offset {
    seq: u32,
    accepted_ms: u32,
}

/// A slot in use: the head of one chunk.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Which use of the slot this is.
    pub generation: u64,
    /// Sequence number of the first event.
    pub first_seq: u64,
    /// How many events the chunk holds, done or not.
    pub events: usize,
    /// When the first event was accepted.
    pub accepted: Timestamp,
    /// Bytes of the events' JSON.
    pub json_bytes: u64,
    /// Bytes of the chunk.
    pub chunk_bytes: u64,
    /// Further slots that hold the rest of the chunk.
    pub parts: Box<[u32]>,
    /// `None`: the events follow each other without a gap, accepted at once.
    offsets: Option<Box<[Offset]>>,
    /// What is owed, by lane.
    pub lanes: Vec<LaneBits>,
}

impl Slot {
    /// The slot as its record says, owing all that it was accepted with.
    pub fn new(record: &SlotRecord) -> Self {
        let plain = |(at, event): (usize, &crate::store::record::SlotEvent)| {
            event.seq_delta as usize == at && event.accepted_delta_ms == 0
        };
        let offset = |event: &crate::store::record::SlotEvent| Offset {
            seq: event.seq_delta,
            accepted_ms: event.accepted_delta_ms,
        };
        let offsets = match record.events.iter().enumerate().all(plain) {
            true => None,
            false => Some(record.events.iter().map(offset).collect()),
        };
        let mut slot = Self {
            generation: record.generation,
            first_seq: record.first_seq,
            events: record.events.len(),
            accepted: Timestamp(record.accepted_ms),
            json_bytes: record.json_bytes,
            chunk_bytes: record.chunk_bytes,
            parts: record.parts.clone().into(),
            offsets,
            lanes: Vec::new(),
        };
        for (index, event) in record.events.iter().enumerate() {
            for lane in record
                .lane_sets
                .get(usize::from(event.lane_set))
                .into_iter()
                .flatten()
            {
                slot.bits_mut(LaneId(*lane)).set(Mark::Owed, index, true);
            }
        }
        slot
    }

    /// The bits of a lane, made if there are none yet.
    pub fn bits_mut(&mut self, lane: LaneId) -> &mut LaneBits {
        bits_mut(&mut self.lanes, lane, self.events)
    }

    /// The bits of a lane.
    pub fn bits(&self, lane: LaneId) -> Option<&LaneBits> {
        self.lanes.iter().find(|bits| bits.lane == lane)
    }

    /// The sequence number of event `index`.
    pub fn seq(&self, index: usize) -> Seq {
        let delta = match &self.offsets {
            None => index as u64,
            Some(offsets) => offsets.get(index).map_or(0, |offset| u64::from(offset.seq)),
        };
        Seq(self.first_seq + delta)
    }

    /// When event `index` was accepted.
    pub fn accepted(&self, index: usize) -> Timestamp {
        let offset = self.offsets.as_ref().and_then(|offsets| offsets.get(index));
        Timestamp(self.accepted.0 + offset.map_or(0, |offset| u64::from(offset.accepted_ms)))
    }

    /// The sequence number of the last event.
    pub fn last_seq(&self) -> u64 {
        self.seq(self.events.saturating_sub(1)).0
    }

    /// Which event of this slot has this sequence number.
    pub fn index_of(&self, seq: Seq) -> Option<usize> {
        let delta = seq.0.checked_sub(self.first_seq)?;
        match &self.offsets {
            None => usize::try_from(delta).ok().filter(|index| *index < self.events),
            Some(offsets) => {
                let delta = u32::try_from(delta).ok()?;
                offsets.binary_search_by_key(&delta, |offset| offset.seq).ok()
            }
        }
    }

    /// One bit an event: owed to anyone.
    fn live_words(&self) -> impl Iterator<Item = u64> + '_ {
        let any = |at: usize| {
            self.lanes
                .iter()
                .filter_map(|bits| bits.words(Mark::Owed).get(at))
                .fold(0, |all, word| all | word)
        };
        (0..self.events.div_ceil(64)).map(any)
    }

    /// Which events are owed to anyone, lowest first.
    pub fn live(&self) -> Vec<usize> {
        self.live_words()
            .enumerate()
            .flat_map(|(at, word)| super::bits::ones(at, word))
            .collect()
    }

    /// Bytes of the JSON of one of its events, taken as the mean of all.
    fn event_bytes(&self) -> u32 {
        u32::try_from(self.json_bytes / self.events.max(1) as u64).unwrap_or(u32::MAX)
    }

    /// What the slot adds to the size of the index.
    fn size(&self) -> Size {
        let events: u64 = self.live_words().map(|word| u64::from(word.count_ones())).sum();
        Size {
            events,
            json_bytes: self.json_bytes * events / self.events.max(1) as u64,
            tiny_chunks: u64::from(self.chunk_bytes < TINY_CHUNK_BYTES),
        }
    }
}

/// The bits of `lane` in `lanes`, made if there are none yet.
pub fn bits_mut(lanes: &mut Vec<LaneBits>, lane: LaneId, events: usize) -> &mut LaneBits {
    let at = lanes
        .iter()
        .position(|bits| bits.lane == lane)
        .unwrap_or_else(|| {
            lanes.push(LaneBits::new(lane, events));
            lanes.len() - 1
        });
    &mut lanes[at]
}

/// A lane and its numbers.
#[derive(Clone, Debug, Default)]
pub struct Lane {
    /// The endpoint's name; `None`: a number that no lane has.
    pub name: Option<Box<str>>,
    /// Set while paused.
    pub pause: Option<Pause>,
    /// Its deliveries.
    pub counts: Counts,
    /// No slot that begins before this owes it anything but dead letters.
    pending_from: u64,
}

/// Where to find an event's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventPlace {
    /// The head slot of its chunk.
    pub slot: u32,
    /// Which use of the slot.
    pub generation: u64,
    /// Further slots of the chunk.
    pub parts: Box<[u32]>,
    /// Which event of the chunk.
    pub index: usize,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    /// Events owed to anyone.
    events: u64,
    /// Bytes of their JSON.
    json_bytes: u64,
    /// Slots with a tiny chunk.
    tiny_chunks: u64,
}

/// Every slot in use and every lane.
#[derive(Debug, Default)]
pub struct Index {
    by_seq: BTreeMap<u64, u32>,
    slots: Vec<Option<Box<Slot>>>,
    lanes: Vec<Lane>,
    size: Size,
    /// Events from this one on may not be durable yet, so they are not given to anybody who delivers them.
    pub durable_next: Seq,
}

impl Index {
    /// Takes in a slot that came into use.
    pub fn insert(&mut self, number: u32, slot: Slot) {
        self.remove(number);
        self.count(&slot, true);
        self.by_seq.insert(slot.first_seq, number);
        let at = number as usize;
        if self.slots.len() <= at {
            self.slots.resize_with(at + 1, || None);
        }
        self.slots[at] = Some(Box::new(slot));
    }

    /// Forgets a slot that was freed.
    pub fn remove(&mut self, number: u32) -> Option<Box<Slot>> {
        let slot = self.slots.get_mut(number as usize)?.take()?;
        if self.by_seq.get(&slot.first_seq) == Some(&number) {
            self.by_seq.remove(&slot.first_seq);
        }
        self.count(&slot, false);
        Some(slot)
    }

    /// Takes over what a slot owes now.
    pub fn replace(&mut self, number: u32, lanes: Vec<LaneBits>) {
        let Some(mut slot) = self.slots.get_mut(number as usize).and_then(Option::take) else {
            return;
        };
        self.count(&slot, false);
        slot.lanes = lanes;
        self.count(&slot, true);
        self.slots[number as usize] = Some(slot);
    }

    fn count(&mut self, slot: &Slot, coming: bool) {
        let (size, total) = (slot.size(), &mut self.size);
        if coming {
            total.events += size.events;
            total.json_bytes += size.json_bytes;
            total.tiny_chunks += size.tiny_chunks;
        } else {
            total.events -= size.events;
            total.json_bytes -= size.json_bytes;
            total.tiny_chunks -= size.tiny_chunks;
        }
        for bits in &slot.lanes {
            let counts = bits.counts();
            let lane = self.lane_mut(bits.lane);
            let total = &mut lane.counts;
            if coming {
                total.pending += counts.pending;
                total.deferred += counts.deferred;
                total.dead += counts.dead;
                if counts.pending > 0 {
                    lane.pending_from = lane.pending_from.min(slot.first_seq);
                }
            } else {
                total.pending -= counts.pending;
                total.deferred -= counts.deferred;
                total.dead -= counts.dead;
            }
        }
    }

    /// The slot of this number, if it is in use.
    pub fn slot(&self, number: u32) -> Option<&Slot> {
        self.slots.get(number as usize)?.as_deref()
    }

    /// Slots in use in the order of their events, from the one that holds `seq` or follows it.
    pub fn slots_from(&self, seq: u64) -> impl Iterator<Item = (u32, &Slot)> {
        let start = self
            .by_seq
            .range(..=seq)
            .next_back()
            .map_or(seq, |(first, _)| *first);
        self.by_seq
            .range(start..)
            .filter_map(|(_, number)| Some((*number, self.slot(*number)?)))
    }

    /// Slots in use in the order of their events, those that begin with `seq` or later.
    pub fn slots_beginning_at(&self, seq: u64) -> impl Iterator<Item = (u32, &Slot)> {
        self.by_seq
            .range(seq..)
            .filter_map(|(_, number)| Some((*number, self.slot(*number)?)))
    }

    /// Slots in use that begin before `seq`, the latest first.
    pub fn slots_below(&self, seq: u64) -> impl Iterator<Item = &Slot> {
        let numbers = self.by_seq.range(..seq).rev();
        numbers.filter_map(|(_, number)| self.slot(*number))
    }

    /// The slot that holds `seq`, and which of its events that is.
    pub fn find(&self, seq: Seq) -> Option<(u32, &Slot, usize)> {
        let number = *self.by_seq.range(..=seq.0).next_back()?.1;
        let slot = self.slot(number)?;
        Some((number, slot, slot.index_of(seq)?))
    }

    /// Where the bytes of an event are, if it is still owed to anyone.
    pub fn place(&self, seq: Seq) -> Option<EventPlace> {
        let (number, slot, index) = self.find(seq)?;
        let owed = slot.lanes.iter().any(|bits| bits.get(Mark::Owed, index));
        owed.then(|| EventPlace {
            slot: number,
            generation: slot.generation,
            parts: slot.parts.clone(),
            index,
        })
    }

    /// Whether a delivery is marked so.
    pub fn is(&self, mark: Mark, id: DeliveryId) -> bool {
        self.find(id.seq)
            .and_then(|(_, slot, index)| Some(slot.bits(id.lane)?.get(mark, index)))
            .unwrap_or(false)
    }

    fn lane_mut(&mut self, id: LaneId) -> &mut Lane {
        let at = id.0 as usize;
        if self.lanes.len() <= at {
            self.lanes.resize_with(at + 1, || Lane {
                pending_from: u64::MAX,
                ..Lane::default()
            });
        }
        &mut self.lanes[at]
    }

    /// Names a lane and sets its pause.
    pub fn set_lane(&mut self, id: LaneId, record: LaneRecord) {
        let lane = self.lane_mut(id);
        lane.name = Some(record.name);
        lane.pause = record.pause;
    }

    /// The lane of this number, if it was ever registered.
    pub fn lane(&self, id: LaneId) -> Option<&Lane> {
        self.lanes.get(id.0 as usize).filter(|lane| lane.name.is_some())
    }

    /// Every registered lane.
    pub fn lanes(&self) -> impl Iterator<Item = (LaneId, &Lane)> {
        (0..)
            .map(LaneId)
            .zip(&self.lanes)
            .filter(|(_, lane)| lane.name.is_some())
    }

    /// The first number that no lane has.
    pub fn next_lane(&self) -> LaneId {
        LaneId(u32::try_from(self.lanes.len()).unwrap_or(u32::MAX))
    }

    /// When the oldest event still pending for a lane was accepted.
    pub fn oldest_pending(&mut self, id: LaneId) -> Option<Timestamp> {
        let from = self.lane(id).filter(|lane| lane.counts.pending > 0)?.pending_from;
        let oldest = self.slots_from(from).find_map(|(_, slot)| {
            let index = slot.bits(id)?.pending().next()?;
            Some((slot.first_seq, slot.accepted(index)))
        });
        let (first_seq, accepted) = oldest?;
        self.lane_mut(id).pending_from = first_seq;
        Some(accepted)
    }

    /// The oldest fresh deliveries of a lane, at most `limit`.
    pub fn oldest_fresh(&mut self, id: LaneId, limit: usize) -> Vec<Seq> {
        // This also finds where to begin.
        self.oldest_pending(id);
        let lane = self
            .lane(id)
            .filter(|lane| lane.counts.pending > lane.counts.deferred);
        let Some(from) = lane.map(|lane| lane.pending_from) else {
            return Vec::new();
        };
        let mut oldest = Vec::new();
        for (_, slot) in self.slots_from(from) {
            let Some(bits) = slot.bits(id) else { continue };
            oldest.extend(bits.fresh().take(limit - oldest.len()).map(|at| slot.seq(at)));
            if oldest.len() == limit {
                break;
            }
        }
        oldest
    }

    /// The fresh half of the answer to `query`.
    pub fn fresh(&self, lane: LaneId, query: &DueQuery) -> DueAnswer {
        let mut answer = DueAnswer {
            fresh_next: self.durable_next.max(query.fresh_from),
            ..DueAnswer::default()
        };
        let counts = self
            .lanes
            .get(lane.0 as usize)
            .map_or_else(Counts::default, |lane| lane.counts);
        if counts.pending == counts.deferred {
            return answer;
        }
        for (_, slot) in self.slots_from(query.fresh_from.0) {
            let Some(bits) = slot.bits(lane) else { continue };
            for seq in bits.fresh().map(|index| slot.seq(index)) {
                if seq < query.fresh_from || seq >= self.durable_next || query.held.contains(&seq) {
                    continue;
                }
                if answer.fresh.len() == query.fresh_max {
                    answer.fresh_more = true;
                    answer.fresh_next = seq;
                    return answer;
                }
                answer.fresh.push(Due {
                    bytes: slot.event_bytes(),
                    ..Due::fresh(seq)
                });
            }
        }
        answer
    }

    /// Events kept, bytes of their JSON (in a chunk that is partly done, in proportion).
    pub fn size(&self) -> (u64, u64) {
        (self.size.events, self.size.json_bytes)
    }

    /// How many slots hold a tiny chunk.
    pub fn tiny_chunks(&self) -> usize {
        usize::try_from(self.size.tiny_chunks).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use rustc_hash::FxHashSet;

    use super::*;
    use crate::store::record::SlotEvent;

    fn record(first_seq: u64, deltas: &[u32], lanes: &[u32]) -> SlotRecord {
        let event = |delta: &u32| SlotEvent {
            seq_delta: *delta,
            ..SlotEvent::default()
        };
        SlotRecord {
            generation: first_seq,
            first_seq,
            accepted_ms: first_seq * 10,
            json_bytes: 100 * deltas.len() as u64,
            lane_sets: vec![lanes.to_vec()],
            events: deltas.iter().map(event).collect(),
            ..SlotRecord::default()
        }
    }

    fn sample() -> Index {
        let mut index = Index::default();
        index.insert(0, Slot::new(&record(10, &[0, 1, 2], &[0, 1])));
        index.insert(5, Slot::new(&record(20, &[0, 4, 9], &[1])));
        index.durable_next = Seq(30);
        index
    }

    fn fresh(index: &Index, lane: u32, from: u64, max: usize, held: &[u64]) -> (Vec<u64>, u64, bool) {
        let query = DueQuery {
            fresh_from: Seq(from),
            fresh_max: max,
            now: Timestamp(0),
            deferred_max: 0,
            held: held.iter().map(|seq| Seq(*seq)).collect::<FxHashSet<_>>(),
            tried_max: 0,
        };
        let answer = index.fresh(LaneId(lane), &query);
        (
            answer.fresh.iter().map(|due| due.seq.0).collect(),
            answer.fresh_next.0,
            answer.fresh_more,
        )
    }

    #[test]
    fn events_are_found_by_number_with_and_without_gaps() {
        let index = sample();
        let at = |seq| index.find(Seq(seq)).map(|(slot, _, at)| (slot, at));
        for (seq, wanted) in [
            (9, None),
            (10, Some((0, 0))),
            (12, Some((0, 2))),
            (13, None),
            (20, Some((5, 0))),
            (21, None),
            (24, Some((5, 1))),
            (29, Some((5, 2))),
            (30, None),
        ] {
            assert_eq!(at(seq), wanted, "{seq}");
        }
    }

    #[test]
    fn fresh_deliveries_come_in_order_page_by_page() {
        let index = sample();
        for (lane, from, max, held, wanted) in [
            (1, 0, 9, &[][..], (vec![10, 11, 12, 20, 24, 29], 30, false)),
            (1, 11, 2, &[], (vec![11, 12], 20, true)),
            (1, 0, 2, &[10, 12], (vec![11, 20], 24, true)),
            (1, 22, 9, &[], (vec![24, 29], 30, false)),
            (0, 13, 9, &[], (vec![], 30, false)),
            (1, 0, 0, &[], (vec![], 10, true)),
            (1, 99, 5, &[], (vec![], 99, false)),
            (7, 0, 5, &[], (vec![], 30, false)),
        ] {
            assert_eq!(
                fresh(&index, lane, from, max, held),
                wanted,
                "lane {lane} from {from} max {max}"
            );
        }
    }

    #[test]
    fn numbers_follow_what_comes_and_goes() {
        let mut index = sample();
        index.set_lane(
            LaneId(1),
            LaneRecord {
                name: "b".into(),
                pause: None,
            },
        );
        let counts = |index: &Index| index.lane(LaneId(1)).map(|lane| lane.counts);
        assert_eq!(
            counts(&index),
            Some(Counts {
                pending: 6,
                deferred: 0,
                dead: 0
            })
        );
        assert_eq!(index.oldest_pending(LaneId(1)), Some(Timestamp(100)));
        let mut lanes = index.slot(0).unwrap().lanes.clone();
        for at in 0..3 {
            bits_mut(&mut lanes, LaneId(1), 3).set(Mark::Dead, at, true);
        }
        index.replace(0, lanes);
        assert_eq!(
            counts(&index),
            Some(Counts {
                pending: 3,
                deferred: 0,
                dead: 3
            })
        );
        assert_eq!(index.oldest_pending(LaneId(1)), Some(Timestamp(200)));
        assert_eq!((index.size(), index.tiny_chunks()), ((6, 600), 2));
        let mut lanes = index.slot(5).unwrap().lanes.clone();
        bits_mut(&mut lanes, LaneId(1), 3).clear(0);
        index.replace(5, lanes.clone());
        assert_eq!(index.size(), (5, 500));
        bits_mut(&mut lanes, LaneId(1), 3).set(Mark::Owed, 0, true);
        index.replace(5, lanes);
        index.remove(0);
        assert_eq!((index.size(), index.tiny_chunks()), ((3, 300), 1));
        assert_eq!(
            counts(&index),
            Some(Counts {
                pending: 3,
                deferred: 0,
                dead: 0
            })
        );
        assert!(index.place(Seq(10)).is_none() && index.place(Seq(24)).is_some());
    }
}
