//! What the writing side knows and no reader asks for: free slots, numbers to give out, ids remembered, room left.

use std::collections::{HashMap, VecDeque};

use super::ids::{IdHasher, Ids};
use super::keys;
use super::pages::Pages;
use super::plan::{Plan, Step};
use super::rewrite::RecordBytes;
use super::ring::Ring;
use super::space::Space;
use crate::domain::event::Seq;
use crate::domain::time::Timestamp;
use crate::store::record::{self, Floors};
use crate::store::{LaneId, StoreError};

/// Numbers are reserved on disk in blocks of this size, so that a restart skips some instead of giving one
/// out twice.
const NUMBERS_PER_BLOCK: u64 = 1 << 20;
/// A freed slot costs its keys and a small value; so does every slot in use, beside its chunk.
const SLOT_OVERHEAD_BYTES: u64 = 2048;

/// Flushes remembered of each lane: more than there are while one request to an endpoint is under way.
const FLUSHES_KEPT: usize = 64;

/// When each lane was flushed lately. A delivery that was under way then is settled by the due time from
/// before; its deferral is found under one of these.
#[derive(Debug, Default)]
pub struct Flushes(HashMap<LaneId, VecDeque<Timestamp>>);

impl Flushes {
    /// Deliveries of `lane` were made due at `now`.
    pub fn note(&mut self, lane: LaneId, now: Timestamp) {
        let times = self.0.entry(lane).or_default();
        if times.front() != Some(&now) {
            times.push_front(now);
            times.truncate(FLUSHES_KEPT);
        }
    }

    /// The last flushes of `lane`, latest first.
    pub fn of(&self, lane: LaneId) -> impl Iterator<Item = Timestamp> + '_ {
        self.0.get(&lane).into_iter().flatten().copied()
    }
}

/// The state of the writing side.
#[derive(Debug)]
pub struct Writer {
    /// Slots.
    pub ring: Ring,
    /// Pages of ids.
    pub pages: Pages,
    /// Ids remembered.
    pub ids: Ids,
    /// Hashes them.
    pub hasher: IdHasher,
    /// Room on the disk.
    pub space: Space,
    /// What may have been given out, as it stands on disk.
    floors: Floors,
    /// What is given out next.
    next: Floors,
    /// Bytes of chunks in use, with what a slot costs beside.
    occupied: u64,
    /// When lanes were flushed.
    pub flushes: Flushes,
    /// Freed slots whose chunks are not cleared yet, the last one last. A crash costs nothing but their space, until they
    /// are used again.
    pub to_scrub: Vec<u32>,
    /// Where chunks are put together.
    pub chunk_buffer: Vec<u8>,
    /// The first number that no record set aside has.
    pub quarantine_next: u32,
    /// Whether there are slots whose record was lost; they must stay where they are.
    pub blocked_slots: bool,
    /// What records take beside their events.
    pub record_bytes: RecordBytes,
    /// The latest time a change was made at, for changes that are told none.
    pub latest: Timestamp,
    /// Pages that each change lets the engine move, so that its file stays small; none while it is.
    pub pages_to_tidy: u32,
    /// Set for ever by the first failure.
    pub failed: Option<StoreError>,
}

/// What a start has found for the writing side.
#[derive(Debug)]
pub struct Parts {
    /// Slots.
    pub ring: Ring,
    /// Pages of ids.
    pub pages: Pages,
    /// Ids remembered.
    pub ids: Ids,
    /// Hashes them.
    pub hasher: IdHasher,
    /// The first numbers not used.
    pub next: Floors,
    /// Bytes of the chunks in use, one a slot.
    pub chunk_bytes: Vec<u64>,
    /// The first number that no record set aside has.
    pub quarantine_next: u32,
    /// Whether there are slots whose record was lost.
    pub blocked_slots: bool,
    /// The time of the start.
    pub now: Timestamp,
}

impl Writer {
    /// The writing side of a store as a start has found it.
    pub fn new(parts: Parts, space: Space) -> Self {
        let mut writer = Self {
            ring: parts.ring,
            pages: parts.pages,
            ids: parts.ids,
            hasher: parts.hasher,
            space,
            floors: parts.next,
            next: parts.next,
            occupied: 0,
            flushes: Flushes::default(),
            to_scrub: Vec::new(),
            chunk_buffer: Vec::new(),
            quarantine_next: parts.quarantine_next,
            blocked_slots: parts.blocked_slots,
            record_bytes: RecordBytes::default(),
            latest: parts.now,
            pages_to_tidy: 0,
            failed: None,
        };
        parts
            .chunk_bytes
            .into_iter()
            .for_each(|bytes| writer.occupy(bytes));
        writer
    }

    /// Gives out `count` sequence numbers and returns the first.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub fn seqs(&mut self, count: u64, plan: &mut Plan) -> Result<u64, StoreError> {
        let first = self.next.seq;
        self.next.seq += count;
        self.reserve(plan)?;
        Ok(first)
    }

    /// Gives out a slot generation.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub fn generation(&mut self, plan: &mut Plan) -> Result<u64, StoreError> {
        let generation = self.next.generation;
        self.next.generation += 1;
        self.reserve(plan)?;
        Ok(generation)
    }

    /// The generation that comes next.
    pub fn next_generation(&self) -> u64 {
        self.next.generation
    }

    /// The sequence number that comes next.
    pub fn next_seq(&self) -> Seq {
        Seq(self.next.seq)
    }

    /// Nothing more is written; what stands by for a full disk is given up. The first failure is the one that is told.
    pub fn fail(&mut self, error: &StoreError) {
        self.failed.get_or_insert_with(|| error.clone());
        self.space.emergency();
    }

    fn reserve(&mut self, plan: &mut Plan) -> Result<(), StoreError> {
        if self.next.seq > self.floors.seq || self.next.generation > self.floors.generation {
            self.floors = Floors {
                seq: self.next.seq + NUMBERS_PER_BLOCK,
                generation: self.next.generation + NUMBERS_PER_BLOCK,
            };
            plan.put(Step::Floors, keys::FLOORS.to_vec(), record::encode(&self.floors)?);
        }
        Ok(())
    }

    /// Gives back on disk what was reserved and not given out.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub fn release_numbers(&mut self, plan: &mut Plan) -> Result<(), StoreError> {
        self.floors = self.next;
        plan.put(Step::Floors, keys::FLOORS.to_vec(), record::encode(&self.floors)?);
        Ok(())
    }

    /// Counts a chunk that came into use.
    pub fn occupy(&mut self, chunk_bytes: u64) {
        self.occupied += chunk_bytes + SLOT_OVERHEAD_BYTES;
    }

    /// Counts a chunk that went out of use.
    pub fn vacate(&mut self, chunk_bytes: u64) {
        self.occupied = self.occupied.saturating_sub(chunk_bytes + SLOT_OVERHEAD_BYTES);
    }

    /// Bytes that are in use, whatever the size of the file.
    pub fn occupied(&self) -> u64 {
        self.occupied
    }
}
