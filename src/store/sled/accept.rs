//! Events coming in: which of them are new, and how they are packed into chunks.

use std::sync::Arc;

use super::bits::Mark;
use super::chunk::{self, Built, Entry, PART_BYTES_MAX};
use super::draft::Draft;
use super::ids::IdHash;
use super::index::Slot;
use super::keys;
use super::plan::Step;
use super::writer::Writer;
use crate::domain::event::Seq;
use crate::domain::several::Several;
use crate::domain::time::Timestamp;
use crate::store::record::{DeferralRecord, Intent, SlotEvent, SlotRecord};
use crate::store::{AcceptGroup, Accepted, DeliveryId, LaneId, NewEvent, Refusal, StoreError};

/// At most so many events share a slot, so that its record stays small.
pub const EVENTS_MAX: usize = 512;
/// At most so many bits of what is owed, for the same reason.
pub const OWED_BITS_MAX: usize = 1 << 16;
/// At most so many lanes named by the different sets of lanes, for the same reason: sixteen records share a
/// leaf, which has to stay far below a quarter segment.
pub const LANES_NAMED_MAX: usize = 1024;

/// An event that is new, ready to be packed.
struct Packed {
    entry: Entry,
    json_bytes: usize,
    id_hash: IdHash,
    lanes: Arc<[LaneId]>,
    deliver_at: Option<Timestamp>,
}

/// An event that is not to be delivered yet: which of its chunk, until when, and to whom.
type Delay = (usize, Timestamp, Arc<[LaneId]>);

/// The chunk being filled.
#[derive(Default)]
pub struct Packer {
    entries: Vec<Entry>,
    entry_bytes: usize,
    /// What the chunk's record says of its events.
    record: SlotRecord,
    /// The lane sets of the record, as the events have them.
    lane_sets: Vec<Arc<[LaneId]>>,
    delays: Vec<Delay>,
}

impl Packer {
    /// Whether `more` fit beside what is there. One alone always does, over several slots if it must.
    fn fits(&self, more: &[Packed]) -> bool {
        let events = self.entries.len() + more.len();
        let bytes = self.entry_bytes + more.iter().map(|packed| packed.entry.len()).sum::<usize>();
        let lanes = self.lanes_named(more);
        events <= EVENTS_MAX
            && chunk::chunk_bytes(events, bytes) <= PART_BYTES_MAX
            && lanes <= LANES_NAMED_MAX
            && events * lanes <= OWED_BITS_MAX
    }

    /// How many lanes the different sets name, with those of `more`.
    fn lanes_named(&self, more: &[Packed]) -> usize {
        // Mostly all of them are known, and then nothing is allocated.
        let mut new: Vec<&Arc<[LaneId]>> = Vec::new();
        for Packed { lanes, .. } in more {
            if !self.lane_sets.contains(lanes) && !new.contains(&lanes) {
                new.push(lanes);
            }
        }
        let known = self.lane_sets.iter().map(|set| set.len());
        known.chain(new.iter().map(|set| set.len())).sum()
    }

    fn add(&mut self, packed: Packed) {
        let at = self.entries.len();
        let lane_set = self.lane_set(&packed.lanes);
        self.record.events.push(SlotEvent {
            id_hash: packed.id_hash,
            seq_delta: at as u32,
            accepted_delta_ms: 0,
            lane_set: lane_set as u16,
        });
        self.record.json_bytes += packed.json_bytes as u64;
        self.entry_bytes += packed.entry.len();
        self.entries.push(packed.entry);
        let delay = packed.deliver_at.map(|due| (at, due, packed.lanes));
        self.delays.extend(delay);
    }

    /// The number of a set of lanes, given now if it is new.
    fn lane_set(&mut self, lanes: &Arc<[LaneId]>) -> usize {
        let known = self.lane_sets.iter().position(|set| set == lanes);
        known.unwrap_or_else(|| {
            self.record
                .lane_sets
                .push(lanes.iter().map(|lane| lane.0).collect());
            self.lane_sets.push(lanes.clone());
            self.lane_sets.len() - 1
        })
    }
}

impl Draft<'_> {
    /// Takes in groups in order; the answers come in the same order.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub fn accept(
        &mut self,
        groups: Vec<AcceptGroup>,
    ) -> Result<Vec<Result<Vec<Accepted>, Refusal>>, StoreError> {
        self.writer.ids.expire(self.now);
        let looked_up = self.look_up(&groups);
        let mut looked_up = &looked_up[..];
        let mut packer = Packer::default();
        let first_generation = self.writer.next_generation();
        let mut large = false;
        let mut answers = Vec::with_capacity(groups.len());
        for group in groups {
            let (ids, others) = looked_up.split_at(group.events.len());
            looked_up = others;
            answers.push(self.accept_group(group, ids, &mut packer, &mut large)?);
        }
        self.close_chunk(&mut packer)?;
        if large {
            // Everything accepted by this commit counts only once all of it is written; that is a little
            // more than the large group needs, and nothing of it is answered before.
            let intent = Intent {
                from: first_generation,
                until: self.writer.next_generation(),
            };
            self.put(Step::Intent, keys::INTENT.to_vec(), &intent)?;
            self.plan.remove(Step::IntentDone, keys::INTENT.to_vec());
        }
        Ok(answers)
    }

    /// The hash of each event's id, and whether it is known. All are looked for in a row, so that the processor fetches what
    /// it needs for them from memory at the same time: one by one, in between other work, a tenth of a commit was waiting.
    fn look_up(&self, groups: &[AcceptGroup]) -> Vec<(IdHash, bool)> {
        let Writer { hasher, ids, .. } = &*self.writer;
        let events = groups.iter().flat_map(|group| &group.events);
        let hashes = events.map(|new| hasher.hash(&new.event.head.source, &new.event.head.id));
        let mut looked_up: Vec<_> = hashes.map(|hash| (hash, false)).collect();
        for (hash, is_known) in &mut looked_up {
            *is_known = ids.contains(hash);
        }
        looked_up
    }

    /// Takes in one group, whose ids were looked up.
    fn accept_group(
        &mut self,
        group: AcceptGroup,
        ids: &[(IdHash, bool)],
        packer: &mut Packer,
        large: &mut bool,
    ) -> Result<Result<Vec<Accepted>, Refusal>, StoreError> {
        let bytes: u64 = group.events.iter().map(|new| new.event.json.len() as u64).sum();
        if let Some(refusal) = self.writer.space.refusal(self.writer.occupied(), bytes) {
            return Ok(Err(refusal));
        }
        let mut answers = Vec::with_capacity(group.events.len());
        let mut fresh = Several::with_capacity(group.events.len());
        for (new, id) in group.events.into_iter().zip(ids) {
            match self.prepare(new, *id)? {
                Some(packed) => {
                    answers.push(Accepted::New(Seq(0)));
                    fresh.push(packed);
                }
                None => answers.push(Accepted::Duplicate),
            }
        }
        let first_seq = self.writer.seqs(fresh.len() as u64, &mut self.plan)?;
        self.pack(fresh, first_seq, packer, large)?;
        let new = answers
            .iter_mut()
            .filter(|answer| **answer != Accepted::Duplicate);
        new.zip(first_seq..)
            .for_each(|(answer, seq)| *answer = Accepted::New(Seq(seq)));
        Ok(Ok(answers))
    }

    /// Makes an event ready to be packed; `None`: its id is known, by now.
    fn prepare(
        &mut self,
        new: NewEvent,
        (id_hash, is_known): (IdHash, bool),
    ) -> Result<Option<Packed>, StoreError> {
        let NewEvent { event, lanes } = new;
        if is_known || !self.writer.ids.insert(id_hash, self.now) {
            return Ok(None);
        }
        let deliver_at = event.head.deliver_at.filter(|at| *at > self.now);
        let json_bytes = event.json.len();
        let entry = Entry::new(event)?;
        self.writer.space.wrote(entry.len() as u64);
        Ok(Some(Packed {
            entry,
            json_bytes,
            id_hash,
            lanes,
            deliver_at,
        }))
    }

    /// Packs the new events of one group: into the open chunk if all fit, else into a new one, else into as
    /// many as it takes.
    fn pack(
        &mut self,
        fresh: Several<Packed>,
        first_seq: u64,
        packer: &mut Packer,
        large: &mut bool,
    ) -> Result<(), StoreError> {
        let mut all_fit = packer.fits(&fresh);
        if !all_fit {
            self.close_chunk(packer)?;
            all_fit = packer.fits(&fresh);
        }
        *large |= fresh.len() > 1 && !all_fit;
        for (packed, seq) in fresh.into_iter().zip(first_seq..) {
            if !all_fit && !packer.fits(std::slice::from_ref(&packed)) {
                self.close_chunk(packer)?;
            }
            if packer.entries.is_empty() {
                packer.record.first_seq = seq;
            }
            packer.add(packed);
        }
        Ok(())
    }

    /// Gives the open chunk its slots and adds its writes.
    fn close_chunk(&mut self, packer: &mut Packer) -> Result<(), StoreError> {
        let Packer {
            entries,
            mut record,
            delays,
            ..
        } = std::mem::take(packer);
        if entries.is_empty() {
            return Ok(());
        }
        record.accepted_ms = self.now.0;
        let slot = self.place(record, &entries)?;
        self.delay(slot, &delays)
    }

    /// Writes a chunk of `entries` into free slots, with the record that makes it count; the generation, the
    /// sizes and the parts of `record` are filled in here. Returns its place among the effects.
    pub(super) fn place(&mut self, mut record: SlotRecord, entries: &[Entry]) -> Result<usize, StoreError> {
        record.generation = self.writer.generation(&mut self.plan)?;
        let Built { chunk, values } = chunk::build(entries, record.generation, &mut self.writer.chunk_buffer);
        record.chunk_bytes = chunk.len() as u64;
        let mut slots = Vec::with_capacity(values.len());
        for value in values {
            let slot = self.take_slot();
            self.plan.put(Step::Chunks, keys::chunk(slot, 0), value);
            slots.push(slot);
        }
        let head = slots[0];
        record.parts = slots.split_off(1);
        self.put(Step::Records, keys::slot(head), &record)?;
        self.writer.occupy(record.chunk_bytes);
        self.effects.inserted.push((head, Slot::new(&record), chunk));
        Ok(self.effects.inserted.len() - 1)
    }

    /// A free slot; best the one that was freed last and not cleared yet, because then it need not be.
    fn take_slot(&mut self) -> u32 {
        while let Some(number) = self.writer.to_scrub.pop() {
            if self.writer.ring.take_this(number) {
                return number;
            }
        }
        self.writer.ring.take(&mut self.plan)
    }

    /// Defers events that are not to be delivered yet.
    fn delay(&mut self, inserted: usize, delays: &[Delay]) -> Result<(), StoreError> {
        for (at, due, lanes) in delays {
            let slot = &mut self.effects.inserted[inserted].1;
            let seq = slot.seq(*at);
            lanes
                .iter()
                .for_each(|lane| slot.bits_mut(*lane).set(Mark::Deferred, *at, true));
            for lane in lanes.iter() {
                let key = keys::deferral(DeliveryId { lane: *lane, seq }, *due);
                self.put(Step::Delays, key, &DeferralRecord::default())?;
            }
        }
        Ok(())
    }
}
