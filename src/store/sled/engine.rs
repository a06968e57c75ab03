//! sled itself: opened so that it survives what it is known not to, written to in plain steps. The only
//! file that knows its settings, its files and its errors.

use std::io;
use std::num::NonZeroU64;
use std::ops::RangeBounds;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::sled::{Db, IVec, Tree};

use super::crash::crash_point_after;
use super::plan::Plan;
use super::ring::CHANGES_TO_REWRITE;
use super::witness::{self, Witness};
use super::{durable, keys};
use crate::store::{StoreError, files};

/// sled's unit of allocation. A quarter of it is the largest leaf that stays inside the log.
const SEGMENT_BYTES: usize = 2 << 20;
/// Chunks are cached by the store itself, so this is for the small records beside them.
const CACHE_BYTES: u64 = 16 << 20;
/// How often sled collects garbage and syncs its file; durability does not hang on it. Each time costs a flush of the
/// disk, also when nothing has changed.
const BACKGROUND_MS: u64 = 1000;
/// sled keeps threads that wake up every second to find nothing to do. On an idle processor they may be so much late,
/// which lets it sleep; on a busy one they never are.
const LATE_NS: u64 = 20_000_000_000;
/// The tree with the count of flushes, and the key in it.
const FLUSHES: &[u8] = b"flushes";
/// The key beside it that is changed only to make sled go on with giving segments back.
const TIDIED: &[u8] = b"tidied";
/// How often the engine's file is looked at again while it is locked, and how long between.
const LOCK_TRIES: u32 = 500;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Bytes of a value. A clone shares them, and so does sled, which would else copy them.
pub type Value = IVec;

/// An open sled store in a folder of its own.
pub struct Engine {
    db: Db,
    /// The count of flushes in the log. A tree of its own, so that it shares no leaf with a chunk.
    flushes: Tree,
    witness: Witness,
    folder: PathBuf,
    #[cfg(test)]
    pub tape: std::sync::Mutex<Option<Vec<super::plan::Write>>>,
    /// Keys read one after the other.
    #[cfg(test)]
    pub read_in_ranges: std::sync::atomic::AtomicU64,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({})", self.folder.display())
    }
}

fn failed(error: ::sled::Error) -> StoreError {
    StoreError::Failed(error.to_string())
}

fn unreadable(error: ::sled::Error) -> EngineError {
    EngineError::Corrupt(error.to_string())
}

/// The count in a tree of flushes.
fn count(flushes: &Tree) -> Result<u64, ::sled::Error> {
    let stored = flushes.get(FLUSHES)?;
    Ok(stored
        .and_then(|bytes| Some(u64::from_be_bytes((*bytes).try_into().ok()?)))
        .unwrap_or(0))
}

/// Why sled did not open.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The disk or the file system said no; the queue itself may be in perfect order.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What is there is no store that sled can read.
    #[error("{0}")]
    Corrupt(String),
}

/// Opens sled on a thread of its own, because on a damaged folder it may panic.
fn open_guarded(folder: &Path) -> Result<Db, EngineError> {
    let config = ::sled::Config::new()
        .path(folder)
        .segment_size(SEGMENT_BYTES)
        .cache_capacity(CACHE_BYTES)
        .flush_every_ms(Some(BACKGROUND_MS))
        .use_compression(false);
    let opening = std::thread::Builder::new()
        .name("store-open".to_owned())
        .spawn(move || config.open())?;
    match opening.join() {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(::sled::Error::Io(error))) => Err(match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                EngineError::Corrupt(error.to_string())
            }
            _ => EngineError::Io(error),
        }),
        Ok(Err(error)) => Err(EngineError::Corrupt(error.to_string())),
        Err(panic) => Err(EngineError::Corrupt(
            panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
                .unwrap_or_else(|| "sled gave up".to_owned()),
        )),
    }
}

/// Waits until nobody has the engine's file locked, for a few seconds at most. A store that was closed a
/// moment ago, here or in another process, keeps its lock until sled's own threads have ended; that must not
/// be taken for a damaged store.
fn wait_for_lock(folder: &Path) -> io::Result<()> {
    let Ok(file) = std::fs::File::open(folder.join("db")) else {
        return Ok(());
    };
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return file.unlock(),
            Err(std::fs::TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(std::fs::TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(())
}

/// While this lives, threads that are begun by this one, or by those, have timers that may be late. sled begins its
/// threads when it is opened and when it flushes for the first time.
#[derive(Debug)]
pub struct PatientThreads(());

impl PatientThreads {
    /// From now on.
    pub fn begin() -> Self {
        // Without it they only wake up more often.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(LATE_NS));
        Self(())
    }
}

impl Drop for PatientThreads {
    fn drop(&mut self) {
        let _ = rustix::thread::set_current_timer_slack(None);
    }
}

impl Engine {
    /// Opens the store in `folder`, or makes one there. If it does not open with sled's snapshot, it is
    /// tried without: then the whole log is read.
    ///
    /// # Errors
    /// What sled said, the second time.
    pub fn open(folder: &Path) -> Result<Self, EngineError> {
        files::create_folder(folder)?;
        for leftover in files::snapshots(folder, true)? {
            std::fs::remove_file(leftover)?;
        }
        wait_for_lock(folder)?;
        let db = match open_guarded(folder) {
            Err(EngineError::Corrupt(reason)) => {
                tracing::warn!(folder = %folder.display(), reason, "reading the whole log instead");
                for snapshot in files::snapshots(folder, false)? {
                    let name = snapshot
                        .file_name()
                        .unwrap_or_default()
                        .to_string_lossy()
                        .into_owned();
                    std::fs::rename(&snapshot, folder.join(format!("aside.{name}")))?;
                }
                open_guarded(folder)?
            }
            result => result?,
        };
        let flushes = db.open_tree(FLUSHES).map_err(unreadable)?;
        let (witness, noted) = Witness::open(folder)?;
        let found = count(&flushes).map_err(unreadable)?;
        if found < noted {
            return Err(EngineError::Corrupt(format!(
                "its log can be read up to flush {found} of {noted}, so what was accepted or delivered after \
                 that is missing; to go on with the rest, give the folder its name back and remove {} in it",
                witness::FILE_NAME
            )));
        }
        // sled syncs neither its configuration nor any folder.
        files::sync_files(folder)?;
        Ok(Self {
            db,
            flushes,
            witness,
            folder: folder.to_owned(),
            #[cfg(test)]
            tape: std::sync::Mutex::default(),
            #[cfg(test)]
            read_in_ranges: std::sync::atomic::AtomicU64::default(),
        })
    }

    /// Writes something new and sees whether that made sled's log durable.
    ///
    /// # Errors
    /// When it did not: then this program is not to be trusted with events.
    pub fn prove_durable(&self) -> Result<(), StoreError> {
        let before = durable::syncs();
        let probe = self
            .get(keys::PROBE)?
            .and_then(|v| Some(u64::from_be_bytes((*v).try_into().ok()?)));
        let next = probe.unwrap_or(0).wrapping_add(1).to_be_bytes();
        self.db.insert(keys::PROBE, &next).map_err(failed)?;
        self.flush()?;
        if durable::syncs() == before {
            return Err(StoreError::Failed(
                "this build does not make sled's log durable: sync_file_range is not the program's own. \
                 Build it as a normal Linux executable, without linker options that hide its symbols"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// Writes a plan, step by step. Not durable before [`Engine::flush`].
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub fn write(&self, plan: Plan) -> Result<(), StoreError> {
        for (crash_point_behind, writes) in plan.into_steps() {
            for write in writes {
                #[cfg(test)]
                if let Some(tape) = self.tape.lock().unwrap().as_mut() {
                    tape.push(write.clone());
                }
                match write.value {
                    Some(value) => self.db.insert(write.key, value),
                    None => self.db.remove(write.key),
                }
                .map_err(failed)?;
            }
            // sled keeps the last writes in memory; a crash is only interesting with this step on the disk.
            crash_point_after(crash_point_behind, || drop(self.flush()));
        }
        Ok(())
    }

    /// Writes part of a tape, as a process would have that was killed then.
    #[cfg(test)]
    pub fn replay(&self, writes: &[super::plan::Write]) {
        for write in writes.iter().cloned() {
            match write.value {
                Some(value) => self.db.insert(write.key, value).unwrap(),
                None => self.db.remove(write.key).unwrap(),
            };
        }
        self.flush().unwrap();
    }

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub fn flush(&self) -> Result<(), StoreError> {
        let flushes = count(&self.flushes).map_err(failed)? + 1;
        self.flushes
            .insert(FLUSHES, &flushes.to_be_bytes())
            .map_err(failed)?;
        self.db.flush().map_err(failed)?;
        self.witness.note(flushes);
        Ok(())
    }

    /// Wakes whoever waits for a flush that has failed: where somebody was writing when the flush began, sled keeps the
    /// failure and tells nobody before the next change.
    ///
    /// # Errors
    /// That failure.
    pub fn nudge(&self) -> Result<(), StoreError> {
        let now = self.db.generate_id().map_err(failed)?;
        self.flushes.insert(TIDIED, &now.to_be_bytes()).map_err(failed)?;
        Ok(())
    }

    /// Lets sled move up to so many `pages` out of segments that are mostly empty, so that these can be used again.
    ///
    /// It moves one with each leaf that it rewrites, and some once a second. At work, with few but large writes, that is
    /// less than becomes empty, and its file would grow without end.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub fn tidy(&self, pages: u32) -> Result<(), StoreError> {
        for change in 0..pages * u32::from(CHANGES_TO_REWRITE) {
            self.flushes
                .insert(TIDIED, &change.to_be_bytes())
                .map_err(failed)?;
        }
        Ok(())
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub fn get(&self, key: &[u8]) -> Result<Option<Value>, StoreError> {
        self.db.get(key).map_err(failed)
    }

    /// Keys and values in order.
    pub fn range(
        &self,
        range: impl RangeBounds<Vec<u8>>,
    ) -> impl DoubleEndedIterator<Item = Result<(Value, Value), StoreError>> {
        self.db.range(range).map(|pair| {
            #[cfg(test)]
            self.read_in_ranges
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            pair.map_err(failed)
        })
    }

    /// The folder it is in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Bytes of its log on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.db.size_on_disk().unwrap_or(0)
    }

    /// Values that sled put into files of their own, which it never makes durable. There must be none.
    pub fn blob_files(&self) -> u64 {
        std::fs::read_dir(self.folder.join("blobs")).map_or(0, |files| files.count() as u64)
    }
}
