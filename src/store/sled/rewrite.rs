//! Giving disk back. sled's file never shrinks, so a store that is mostly empty is copied into a fresh
//! folder, which then becomes the current one by a rename. Until that rename the old one counts, whole;
//! after it the new one does.

use std::sync::Arc;

use super::crash::crash_point;
use super::engine::Engine;
use super::ids::{IdHash, Ids};
use super::index::Index;
use super::open::id_bounds;
use super::pages::PageNumbers;
use super::plan::{Plan, Step};
use super::recover::recover;
use super::ring::Ring;
use super::space::Space;
use super::writer::Writer;
use super::{SledStore, keys, lock};
use crate::domain::time::Timestamp;
use crate::store::record::{self, SlotRecord};
use crate::store::{Store, StoreError, files};

/// When a file is rewritten.
#[derive(Clone, Copy, Debug)]
pub(super) struct Worth {
    /// A smaller file is not worth it.
    pub file_bytes_min: u64,
    /// The file has to be so many times what is kept.
    pub file_to_kept: f64,
}

impl Worth {
    fn is_met(self, file_bytes: u64, kept_bytes: u64) -> bool {
        file_bytes > self.file_bytes_min && file_bytes as f64 > kept_bytes as f64 * self.file_to_kept
    }
}

/// While events come and go: only a file that is mostly empty.
pub(super) const AT_WORK: Worth = Worth {
    file_bytes_min: 256 << 20,
    file_to_kept: 4.0,
};
/// At rest nobody waits, so less of a gain is worth it; but more than a copy itself leaves free.
pub(super) const AT_REST: Worth = Worth {
    file_bytes_min: 12 << 20,
    file_to_kept: 1.5,
};
/// More than this is not copied, because nothing else is written meanwhile: producers would wait for longer
/// than that takes.
const KEPT_BYTES_MAX: u64 = 32 << 20;
/// At work the engine is helped to use its file again before it would have to be rewritten.
const TIDY: Worth = Worth {
    file_bytes_min: 96 << 20,
    file_to_kept: 3.0,
};
/// Pages that each change moves then: some hundreds a second, of which a segment at work has about twenty.
const PAGES_TO_TIDY: u32 = 4;
/// Written at a time while copying.
const COPY_BYTES: usize = 4 << 20;

/// What a dead letter takes beside its event, and a deferral, on average. Measured by each copy: a store whose dead
/// letters are larger than thought would be rewritten for nothing, again and again.
#[derive(Clone, Copy, Debug)]
pub struct RecordBytes {
    dead: u64,
    deferral: u64,
}

impl Default for RecordBytes {
    /// More or less, for as long as none were measured by copying them.
    fn default() -> Self {
        let (dead, deferral) = (1024, 256);
        Self { dead, deferral }
    }
}

/// Copies from one engine to another in bounded steps.
pub(super) struct Copy<'a> {
    from: &'a Engine,
    to: &'a Engine,
    plan: Plan,
    bytes: usize,
}

impl<'a> Copy<'a> {
    pub(super) fn new(from: &'a Engine, to: &'a Engine) -> Self {
        Self {
            from,
            to,
            plan: Plan::default(),
            bytes: 0,
        }
    }

    pub(super) fn put(&mut self, step: Step, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError> {
        self.bytes += key.len() + value.len();
        self.plan.put(step, key, value);
        if self.bytes >= COPY_BYTES {
            self.write()
        } else {
            Ok(())
        }
    }

    pub(super) fn write(&mut self) -> Result<(), StoreError> {
        self.bytes = 0;
        self.to.write(std::mem::take(&mut self.plan))
    }

    /// Copies the store's identity and the numbers given out.
    pub(super) fn head(&mut self) -> Result<(), StoreError> {
        for key in [keys::IDENTITY, keys::FLOORS] {
            if let Some(value) = self.from.get(key)? {
                self.put(Step::Floors, key.to_vec(), value.to_vec())?;
            }
        }
        Ok(())
    }

    /// Copies what a slot holds into the next free slots of the new ring; returns the first of these.
    pub(super) fn slot(&mut self, ring: &mut Ring, number: u32) -> Result<u32, StoreError> {
        let bytes = self.from.get(&keys::slot(number))?.unwrap_or_default();
        let mut slot: SlotRecord = record::decode(&bytes)?;
        let old: Vec<u32> = [number].into_iter().chain(slot.parts.iter().copied()).collect();
        let new: Vec<u32> = old.iter().map(|_| ring.take(&mut self.plan)).collect();
        // New slots have to be there before the values in them, also when this plan is written in pieces.
        self.write()?;
        for (old, new) in old.iter().zip(&new) {
            let value = self.from.get(&keys::chunk(*old, 0))?.unwrap_or_default();
            self.put(Step::Chunks, keys::chunk(*new, 0), value.to_vec())?;
        }
        slot.parts = new[1..].to_vec();
        self.put(Step::Records, keys::slot(new[0]), record::encode(&slot)?)?;
        let owed = self.from.get(&keys::owed(number))?.unwrap_or_default();
        self.put(Step::Owed, keys::owed(new[0]), owed.to_vec())?;
        Ok(new[0])
    }

    /// Copies the records of a class whose values are `wanted`, each as it is, and says what they take on average.
    ///
    /// All keys go first: sled splits a leaf by writing anew what is in it, so what is there when it splits is
    /// written several times, and the space of all but the last is not given back before much else is written.
    pub(super) fn class(
        &mut self,
        class: u8,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Result<Option<u64>, StoreError> {
        for pair in self.from.range(keys::class(class)) {
            let (key, value) = pair?;
            if wanted(&value) {
                self.put(Step::Records, key.to_vec(), Vec::new())?;
            }
        }
        let (mut records, mut bytes) = (0, 0);
        for pair in self.from.range(keys::class(class)) {
            let (key, value) = pair?;
            if !value.is_empty() && wanted(&value) {
                records += 1;
                bytes += (key.len() + value.len()) as u64;
                self.put(Step::Records, key.to_vec(), value.to_vec())?;
            }
        }
        Ok(bytes.checked_div(records))
    }

    /// Copies the pages of ids that are `wanted`, numbered anew and without the free ones among them; new pages
    /// are made first, for the same reason.
    pub(super) fn ids(&mut self, wanted: impl Fn(&[u8]) -> bool) -> Result<(), StoreError> {
        let from = self.from;
        let pages = || {
            let all = from.range(keys::class(keys::IDS));
            all.map(|pair| pair.map(|(_, value)| value))
                .filter(|page| page.as_ref().map_or(true, |value| wanted(value)))
        };
        let mut count = 0;
        for page in pages() {
            page?;
            count += 1;
        }
        PageNumbers::make_room(&mut self.plan, count);
        self.write()?;
        for (number, page) in (0..).zip(pages()) {
            self.put(Step::Ids, keys::ids(number), page?.to_vec())?;
        }
        Ok(())
    }
}

/// Whether a record is there at all; the empty ones only keep a place.
fn is_there(value: &[u8]) -> bool {
    !value.is_empty()
}

impl SledStore {
    /// Rewrites the store if that is `worth` it; returns whether it did. Also decides by the same sizes whether changes help
    /// the engine to use its file again. Holds the committer while at most
    /// [`KEPT_BYTES_MAX`] are copied and synced: tenths of a second, and a second or two on a slow disk.
    pub(super) fn rewrite(&self, worth: Worth, now: Timestamp) -> Result<bool, StoreError> {
        self.sync()?;
        let mut writer = self.working_writer()?;
        let file = self.engine.load().disk_bytes();
        let kept = self.kept_bytes(&writer);
        writer.pages_to_tidy = match TIDY.is_met(file, kept) {
            true => PAGES_TO_TIDY,
            false => 0,
        };
        let worth = Worth {
            file_bytes_min: worth.file_bytes_min.min(self.rewrite_bytes_min),
            ..worth
        };
        let worth_it = worth.is_met(file, kept) && kept <= KEPT_BYTES_MAX;
        let room = writer.space.free_bytes() > kept.saturating_mul(3);
        if !worth_it || !room || writer.blocked_slots {
            return Ok(false);
        }
        let result = self.rewrite_now(&mut writer, now);
        if let Err(error) = &result {
            writer.fail(error);
        }
        result.map(|()| true)
    }

    /// What a copy would hold, about.
    fn kept_bytes(&self, writer: &Writer) -> u64 {
        let ids = writer.pages.ids() as u64 * size_of::<IdHash>() as u64;
        let bytes = writer.record_bytes;
        let lanes = |index: &Index| {
            let counts = index.lanes().map(|(_, lane)| lane.counts);
            counts
                .map(|counts| counts.dead * bytes.dead + counts.deferred * bytes.deferral)
                .sum::<u64>()
        };
        writer.occupied() + ids + lanes(&lock(&self.index))
    }

    pub(super) fn rewrite_now(&self, writer: &mut Writer, now: Timestamp) -> Result<(), StoreError> {
        let io_error = |error: std::io::Error| StoreError::Failed(format!("rewriting the queue: {error}"));
        let old = self.engine.load_full();
        let folder = &self.config.path;
        let number = files::current(folder).map_err(io_error)?.unwrap_or(0) + 1;
        let path = folder.join(files::queue_name(number));
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io_error(error)),
            _ => {}
        }
        let new = Engine::open(&path).map_err(|error| StoreError::Failed(error.to_string()))?;
        let record_bytes = self.copy(&old, &new)?;
        new.flush()?;
        files::sync_files(&path).map_err(io_error)?;
        let space = Space::new(folder, &self.config, true);
        // What is remembered is read anew; both at once would be more memory than all else takes.
        writer.ids = Ids::new(0, 0);
        let recovered = recover(&new, &self.identity, id_bounds(&self.config), space, now)?;
        new.write(recovered.repairs)?;
        new.flush()?;
        crash_point("rewrite-copied");
        files::set_current(folder, number).map_err(io_error)?;
        crash_point("rewrite-current");
        let flushes = std::mem::take(&mut writer.flushes);
        *writer = recovered.writer;
        writer.flushes = flushes;
        writer.record_bytes = record_bytes;
        self.move_readers(new, recovered.index);
        let old_folder = old.folder().to_owned();
        drop(old);
        if let Err(error) = std::fs::remove_dir_all(&old_folder) {
            // The next start removes it.
            tracing::warn!(folder = %old_folder.display(), %error, "the old queue could not be removed");
        }
        crash_point("rewrite-done");
        Ok(())
    }

    /// Readers look up a place and take the engine it is in under the index's lock, so both change under it.
    fn move_readers(&self, new: Engine, new_index: Index) {
        let mut index = lock(&self.index);
        self.engine.store(Arc::new(new));
        let old_index = std::mem::replace(&mut *index, new_index);
        drop(index);
        // It may be large, and nobody has to wait for it to go.
        drop(old_index);
    }

    fn copy(&self, from: &Engine, to: &Engine) -> Result<RecordBytes, StoreError> {
        let mut copy = Copy::new(from, to);
        copy.head()?;
        let slots: Vec<u32> = lock(&self.index)
            .slots_from(0)
            .map(|(number, _)| number)
            .collect();
        let mut ring = Ring::default();
        for number in slots {
            copy.slot(&mut ring, number)?;
        }
        let mut sizes = RecordBytes::default();
        sizes.deferral = copy.class(keys::DEFERRAL, is_there)?.unwrap_or(sizes.deferral);
        sizes.dead = copy.class(keys::DEAD, is_there)?.unwrap_or(sizes.dead);
        copy.class(keys::LANE, is_there)?;
        copy.ids(is_there)?;
        // Here the empty ones are needed too: they keep the large ones apart.
        copy.class(keys::QUARANTINE, |_| true)?;
        copy.write()?;
        Ok(sizes)
    }
}
