//! Opening: the folder is made ours, leftovers are removed, sled is opened and proven durable, and what is
//! in it is read. What will not open is set aside whole, never deleted.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;

use super::cache::ChunkCache;
use super::crash::crash_point;
use super::engine::{Engine, EngineError, PatientThreads};
use super::recover::{IdBounds, recover};
use super::space::Space;
use super::{CACHE_BYTES, Damage, SledStore, keys};
use crate::config::StoreConfig;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::attempts::Retention;
use crate::store::attempts::log::AttemptLog;
use crate::store::files::{self, Ballast, Lock, LockError};
use crate::store::record::{self, Identity};

/// The layout of keys that this program reads and writes.
const SCHEMA: u32 = 1;

/// How to open a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// Begin with an empty queue when the one there will not open; that one is set aside first.
    pub start_empty: bool,
    /// Change nothing beyond what sled itself does at every open: for looking at a store.
    pub check_only: bool,
}

/// Why a store did not open, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{path}: {source}", path = path.display())]
    Locked {
        /// The store's folder.
        path: PathBuf,
        /// Who has it.
        source: LockError,
    },
    /// The folder can't be used.
    #[error("{path}: {source}; check that the folder exists on a working disk and belongs to this user", path = path.display())]
    Io {
        /// The store's folder.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The queue will not open, and was only looked at.
    #[error(
        "{path}: the queue does not open ({reason}); the daemon's next start will set it aside. To see what can be \
         saved of it: posthaste store repair", path = path.display()
    )]
    Unreadable {
        /// The queue's folder, still where it was.
        path: PathBuf,
        /// What the engine said.
        reason: String,
    },
    /// The queue will not open. It is kept under another name.
    #[error(
        "the queue would not open ({reason}); it is kept whole in {kept}. To see what can be saved of it: \
         posthaste store repair; to put that in its place: posthaste store repair --yes. To go on without it: \
         posthaste run --start-empty, once", kept = kept.display()
    )]
    Corrupt {
        /// What the engine said.
        reason: String,
        /// Where the queue is now.
        kept: PathBuf,
    },
    /// The queue named as current is not there.
    #[error(
        "{missing} is named as the current queue but is not there. Put it back; or, if a damaged one was set aside, \
         see what can be saved of it: posthaste store repair. To go on without it: posthaste run --start-empty, once", 
        missing = missing.display()
    )]
    Gone {
        /// The folder that is missing.
        missing: PathBuf,
    },
    /// Several queues, and nothing says which counts.
    #[error("{path}: it holds several queues and no file CURRENT; write the right one's name into CURRENT", path = path.display())]
    Ambiguous {
        /// The store's folder.
        path: PathBuf,
    },
    /// A repair can't begin.
    #[error("{path}: {why}", path = path.display())]
    Unrepairable {
        /// The queue's folder.
        path: PathBuf,
        /// What is in the way, and what else to do.
        why: String,
    },
    /// The layout is another version's.
    #[error("the store has layout {found}, this posthaste knows {SCHEMA}; use the version that wrote it")]
    Schema {
        /// The layout found.
        found: u32,
    },
    /// The engine failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The time of day, for the name of what is set aside and the age of ids.
pub(super) fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl SledStore {
    /// Opens the store in `config.path`, or makes one there.
    ///
    /// # Errors
    /// [`OpenError`], each with what to do.
    pub fn open(config: &StoreConfig, options: OpenOptions) -> Result<Self, OpenError> {
        let folder = config.path.as_path();
        let io_error = |source| OpenError::Io {
            path: folder.to_owned(),
            source,
        };
        files::create_folder(folder).map_err(io_error)?;
        let owner = own(folder)?;
        let _patient = PatientThreads::begin();
        let (engine, identity) = open_queue(folder, options)?;
        Self::on(engine, identity, config, owner, options)
    }

    /// The store that `engine` holds.
    pub(super) fn on(
        engine: Engine,
        identity: Identity,
        config: &StoreConfig,
        owner: Lock,
        options: OpenOptions,
    ) -> Result<Self, OpenError> {
        engine.prove_durable()?;
        if engine.blob_files() > 0 {
            tracing::error!(
                blob_files = engine.blob_files(),
                "sled keeps values outside its log, not durably"
            );
        }
        let bounds = id_bounds(config);
        let now = wall_clock();
        let space = Space::new(&config.path, config, !options.check_only);
        let recovered = recover(&engine, &identity, bounds, space, now)?;
        for note in &recovered.notes {
            tracing::info!(note, "put right after the last stop");
        }
        let repairs = recovered.repairs;
        if !options.check_only && !repairs.is_empty() {
            engine.write(repairs)?;
            crash_point("repairs-written");
            engine.flush()?;
        }
        let store = Self {
            engine: ArcSwap::new(Arc::new(engine)),
            identity,
            config: config.clone(),
            writer: Mutex::new(recovered.writer),
            index: Mutex::new(recovered.index),
            cache: Mutex::new(ChunkCache::new(CACHE_BYTES)),
            damage: Mutex::new(match options.check_only {
                // Shown as the next commit would write them, which does not come.
                true => Damage {
                    quarantined: recovered.quarantined - recovered.broken.len() as u64,
                    waiting: recovered.broken,
                    ..Damage::default()
                },
                false => Damage {
                    quarantined: recovered.quarantined,
                    ..Damage::default()
                },
            }),
            read_only: options.check_only,
            numbers: Mutex::default(),
            sweep: Mutex::default(),
            search: Mutex::default(),
            staged: Mutex::default(),
            flushing: Mutex::default(),
            attempts: Mutex::new(attempt_log(config, !options.check_only)),
            rewrite_bytes_min: u64::MAX,
            _owner: owner,
        }
        .with_numbers();
        if !options.check_only {
            store.rewrite(super::rewrite::AT_WORK, now)?;
        }
        Ok(store)
    }
}

/// Takes the store's folder, which no other process may use meanwhile.
pub(super) fn own(folder: &Path) -> Result<Lock, OpenError> {
    Lock::take(folder).map_err(|source| match source {
        LockError::Io(source) => OpenError::Io {
            path: folder.to_owned(),
            source,
        },
        held => OpenError::Locked {
            path: folder.to_owned(),
            source: held,
        },
    })
}

/// The log of attempts beside the queue.
fn attempt_log(config: &StoreConfig, writable: bool) -> AttemptLog {
    let retention = Retention {
        keep_ms: u64::try_from(config.attempts_keep.as_millis()).unwrap_or(u64::MAX),
        bytes_max: config.attempts_bytes_max,
        detail: config.attempts_detail,
    };
    AttemptLog::open(&attempts_folder(config), retention, writable)
}

/// Where the log of attempts is.
pub(super) fn attempts_folder(config: &StoreConfig) -> PathBuf {
    config.path.join("attempts")
}

/// How ids are remembered, as configured.
pub fn id_bounds(config: &StoreConfig) -> IdBounds {
    let window_ms = u64::try_from(config.dedup_window.as_millis()).unwrap_or(u64::MAX);
    IdBounds {
        window_ms,
        len_max: config.dedup_ids_max,
    }
}

/// Opens the current queue, or makes the first one.
fn open_queue(folder: &Path, options: OpenOptions) -> Result<(Engine, Identity), OpenError> {
    let io_error = |source| OpenError::Io {
        path: folder.to_owned(),
        source,
    };
    let present = files::queues(folder).map_err(io_error)?;
    let number = match (files::current(folder).map_err(io_error)?, &present[..]) {
        (Some(number), present) if present.contains(&number) => number,
        (Some(number), _) if options.start_empty => return make_queue(folder, number + 1),
        (Some(number), _) => {
            return Err(OpenError::Gone {
                missing: folder.join(files::queue_name(number)),
            });
        }
        // The first start may have been interrupted before its queue became the current one.
        (None, []) => return make_queue(folder, 1),
        (None, [number]) => return make_queue(folder, *number),
        (None, _) => {
            return Err(OpenError::Ambiguous {
                path: folder.to_owned(),
            });
        }
    };
    if !options.check_only {
        files::remove_other_queues(folder, number).map_err(io_error)?;
    }
    let reason = match open_engine(folder, number) {
        Ok(engine) => match read_identity(&engine)? {
            Ok(identity) => return Ok((engine, identity)),
            Err(reason) => reason,
        },
        Err(EngineError::Io(source)) => return Err(io_error(source)),
        Err(EngineError::Corrupt(reason)) => reason,
    };
    if options.check_only {
        return Err(OpenError::Unreadable {
            path: folder.join(files::queue_name(number)),
            reason,
        });
    }
    let kept =
        files::set_aside(folder, number, files::CORRUPT, wall_clock().unix_seconds()).map_err(io_error)?;
    tracing::error!(reason, kept = %kept.display(), "the queue would not open and is set aside");
    match options.start_empty {
        true => make_queue(folder, number + 1),
        false => Err(OpenError::Corrupt { reason, kept }),
    }
}

/// Opens a queue. sled has to write when it opens, so on a full disk the ballast is given up for it.
fn open_engine(folder: &Path, number: u64) -> Result<Engine, EngineError> {
    let path = folder.join(files::queue_name(number));
    match Engine::open(&path) {
        Err(EngineError::Io(error)) if error.kind() == io::ErrorKind::StorageFull => {
            Ballast::find(folder).release();
            Engine::open(&path)
        }
        result => result,
    }
}

/// The store's identity, or why there is none.
pub(super) fn read_identity(engine: &Engine) -> Result<Result<Identity, String>, OpenError> {
    let Some(bytes) = engine.get(keys::IDENTITY)? else {
        return Ok(Err("it has no identity record".to_owned()));
    };
    match record::decode::<Identity>(&bytes) {
        Ok(identity) if identity.schema == SCHEMA => Ok(Ok(identity)),
        Ok(identity) => Err(OpenError::Schema {
            found: identity.schema,
        }),
        Err(error) => Ok(Err(format!("its identity record: {error}"))),
    }
}

/// Makes an empty queue and then the current one.
fn make_queue(folder: &Path, number: u64) -> Result<(Engine, Identity), OpenError> {
    let io_error = |source| OpenError::Io {
        path: folder.to_owned(),
        source,
    };
    let path = folder.join(files::queue_name(number));
    let engine = open_engine(folder, number).map_err(|error| match error {
        EngineError::Io(source) => io_error(source),
        EngineError::Corrupt(reason) => OpenError::Store(StoreError::Failed(reason)),
    })?;
    let identity = match read_identity(&engine)? {
        Ok(identity) => identity,
        Err(_) => {
            let (uuid, hash_key) = random_pair().map_err(io_error)?;
            Identity {
                schema: SCHEMA,
                uuid,
                hash_key,
            }
        }
    };
    let mut plan = super::plan::Plan::default();
    let bytes = record::encode(&identity).map_err(StoreError::from)?;
    plan.put(super::plan::Step::Floors, keys::IDENTITY.to_vec(), bytes);
    engine.write(plan)?;
    engine.flush()?;
    files::sync_files(&path).map_err(io_error)?;
    crash_point("queue-made");
    files::set_current(folder, number).map_err(io_error)?;
    crash_point("queue-current");
    Ok((engine, identity))
}

/// Two random numbers from the kernel.
fn random_pair() -> io::Result<([u8; 16], [u8; 16])> {
    use std::io::Read;
    let mut random = std::fs::File::open("/dev/urandom")?;
    let (mut first, mut second) = ([0; 16], [0; 16]);
    random.read_exact(&mut first)?;
    random.read_exact(&mut second)?;
    Ok((first, second))
}
