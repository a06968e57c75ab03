//! Repairing a damaged queue, by the operator's wish: everything that can be read is copied into a fresh queue
//! beside it, which then becomes the current one. The damaged one is kept whole under another name, and what
//! can't be read is written out as files. First a plan, which changes nothing; then, if asked for, the work.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;

use super::engine::{Engine, EngineError};
use super::open::{OpenError, OpenOptions, attempts_folder, id_bounds, own, read_identity, wall_clock};
use super::recover::recover;
use super::rescue::Found;
use super::space::Space;
use super::{Lock, SledStore};
use crate::config::StoreConfig;
use crate::domain::time::Timestamp;
use crate::store::attempts::check::{self, DamagedSegment};
use crate::store::{CheckReport, Quarantined, Store, StoreError, files};

/// Where a queue that does not open is copied to, so that nothing in it changes while it is read.
const SCRATCH: &str = "repair.scratch";
/// The engine's log. Everything else in a queue's folder can be made from it.
const LOG: &str = "db";

/// A store that is to be repaired; it is locked as by a daemon.
#[derive(Debug)]
pub struct Repair {
    store: SledStore,
    config: StoreConfig,
    found: Found,
    plan: RepairPlan,
    now: Timestamp,
    /// The number of the queue that the repaired one takes the place of.
    number: u64,
    /// What `store` reads, if that is a copy; goes when that has gone.
    _scratch: Option<Scratch>,
}

/// What a repair would do, and why.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RepairPlan {
    /// The damaged queue's folder.
    pub from: PathBuf,
    /// Why that one does not open as it is; `null`: it does.
    pub unreadable: Option<String>,
    /// Events that the repaired queue will hold.
    pub events: u64,
    /// Deliveries that these owe, dead ones too.
    pub deliveries: u64,
    /// Events whose bytes are damaged; they can't be kept.
    pub events_lost: u64,
    /// Deliveries that these owe.
    pub deliveries_lost: u64,
    /// Events that can be read, but of which nobody knows whether they are still owed.
    pub strays: u64,
    /// Everything that will not decode: what it is, and why.
    pub damaged: Vec<Damaged>,
    /// Files of the log of attempts that are damaged.
    pub attempts: Vec<DamagedSegment>,
    /// Whether there is anything to repair.
    pub is_needed: bool,
    /// Whether the queue has to be written anew; else the log of attempts alone is mended.
    pub rewrites_queue: bool,
    /// The fresh queue's folder.
    pub into: PathBuf,
}

/// A record that is not kept.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Damaged {
    /// What kind of record, and which.
    pub what: String,
    /// Why it can't be read.
    pub why: String,
    /// How many bytes of it there are.
    pub bytes: u64,
}

/// What a repair has done.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Repaired {
    /// What the repaired queue holds.
    pub holds: CheckReport,
    /// The repaired queue.
    pub queue: PathBuf,
    /// The damaged one, whole; `null`: it was not damaged and is the same as before.
    pub kept: Option<PathBuf>,
    /// The folder with what could not be read; `None`: there was nothing.
    pub quarantine: Option<PathBuf>,
}

impl Repair {
    /// Reads the store in `config.path` and plans its repair. `from` names a queue's folder that was set aside;
    /// without it the current one is meant, or if that is gone, the latest of its number that was set aside.
    ///
    /// # Errors
    /// When a daemon uses the store, or nothing of it can be read.
    pub fn plan(config: &StoreConfig, from: Option<&Path>) -> Result<Self, OpenError> {
        let folder = config.path.as_path();
        let failed = io_error(folder);
        let owner = own(folder)?;
        let number = files::current(folder)
            .map_err(&failed)?
            .ok_or_else(|| unrepairable(folder, "it holds no queue yet, so there is nothing to repair"))?;
        let in_place = folder.join(files::queue_name(number));
        let from = match from {
            Some(from) => from.to_owned(),
            None if in_place.is_dir() => in_place.clone(),
            None => files::latest_aside(folder, number)
                .map_err(&failed)?
                .ok_or_else(|| {
                    unrepairable(
                        &in_place,
                        "it is not there, and nothing was set aside; put a backup in its place",
                    )
                })?,
        };
        let (store, unreadable, scratch) = open_source(config, owner, &from, from == in_place)?;
        let now = wall_clock();
        let found = store.survey(now)?;
        let deliveries: u64 = store.lanes().iter().map(|lane| lane.pending + lane.dead).sum();
        let attempts = check::check(&attempts_folder(config)).damaged;
        let rewrites_queue = unreadable.is_some() || !found.broken.is_empty() || from != in_place;
        let plan = RepairPlan {
            events: store.stats().events - found.events_lost,
            deliveries: deliveries - found.deliveries_lost,
            events_lost: found.events_lost,
            deliveries_lost: found.deliveries_lost,
            strays: found.strays.len() as u64,
            damaged: found.broken.iter().map(Damaged::of).collect(),
            is_needed: rewrites_queue || !attempts.is_empty(),
            attempts,
            rewrites_queue,
            unreadable,
            into: folder.join(files::queue_name(number + 1)),
            from,
        };
        Ok(Self {
            store,
            config: config.clone(),
            found,
            plan,
            now,
            number,
            _scratch: scratch,
        })
    }

    /// What it would do.
    #[must_use]
    pub fn shown(&self) -> &RepairPlan {
        &self.plan
    }

    /// Does it. Until the very end the damaged queue is the current one.
    ///
    /// # Errors
    /// Of the file system and the engine. Had it come as far as renaming the damaged queue, doing it again goes on
    /// from there.
    pub fn carry_out(self) -> Result<Repaired, OpenError> {
        let folder = self.config.path.clone();
        let failed = io_error(&folder);
        let aside = folder.join(format!("quarantine-{}", self.now.unix_seconds()));
        if !self.plan.attempts.is_empty() {
            check::set_aside(&self.plan.attempts, &aside).map_err(&failed)?;
        }
        if !self.plan.rewrites_queue {
            return Ok(Repaired {
                holds: self.store.verify()?,
                queue: self.plan.from,
                kept: None,
                quarantine: Some(aside),
            });
        }
        let into = self.plan.into.clone();
        remove_if_there(&into).map_err(&failed)?;
        let fresh = Engine::open(&into).map_err(|error| StoreError::Failed(error.to_string()))?;
        self.found.copy(&self.store.engine.load(), &fresh)?;
        let space = Space::new(&folder, &self.config, false);
        let bounds = id_bounds(&self.config);
        let recovered = recover(&fresh, &self.store.identity, bounds, space, self.now)?;
        fresh.write(recovered.repairs)?;
        fresh.flush()?;
        files::sync_files(&into).map_err(&failed)?;
        drop(fresh);
        self.write_quarantine(&aside).map_err(&failed)?;
        let quarantine = aside.is_dir().then_some(aside);
        let SledStore { engine, _owner, .. } = self.store;
        drop(engine);
        let in_place = folder.join(files::queue_name(self.number));
        let word = match self.plan.unreadable {
            Some(_) => files::CORRUPT,
            None => files::REPLACED,
        };
        let kept = match in_place.is_dir() {
            true => files::set_aside(&folder, self.number, word, self.now.unix_seconds()).map_err(&failed)?,
            false => self.plan.from.clone(),
        };
        files::set_current(&folder, self.number + 1).map_err(&failed)?;
        drop(_owner);
        let look = OpenOptions {
            check_only: true,
            ..OpenOptions::default()
        };
        let holds = SledStore::open(&self.config, look)?.verify()?;
        Ok(Repaired {
            holds,
            queue: into,
            kept: Some(kept),
            quarantine,
        })
    }

    /// Writes what could not be read into a folder of its own: the bytes, a list of what they are, and the events
    /// of which nobody knows whether they are owed.
    fn write_quarantine(&self, folder: &Path) -> io::Result<()> {
        if self.found.broken.is_empty() && self.found.strays.is_empty() {
            return Ok(());
        }
        files::create_folder(folder)?;
        let mut list = File::create(folder.join("list.jsonl"))?;
        for (number, record) in self.found.broken.iter().enumerate() {
            let name = format!("{number:04}.bin");
            fs::write(folder.join(&name), &record.bytes)?;
            let line = serde_json::json!({ "file": name, "what": record.what, "why": record.why });
            writeln!(list, "{line}")?;
        }
        let mut strays = File::create(folder.join("events.ndjson"))?;
        for event in &self.found.strays {
            strays.write_all(&event.json)?;
            strays.write_all(b"\n")?;
        }
        drop((list, strays));
        files::sync_files(folder)?;
        files::sync_folder(&self.config.path)
    }
}

impl Damaged {
    fn of(record: &Quarantined) -> Self {
        Self {
            what: record.what.clone(),
            why: record.why.clone(),
            bytes: record.bytes.len() as u64,
        }
    }
}

/// Opens the queue in `from` for reading: where it is, if it opens there, and else a copy of its log alone, from
/// which the engine makes everything else anew. Also says why it did not open.
fn open_source(
    config: &StoreConfig,
    owner: Lock,
    from: &Path,
    is_current: bool,
) -> Result<(SledStore, Option<String>, Option<Scratch>), OpenError> {
    let look = OpenOptions {
        check_only: true,
        ..OpenOptions::default()
    };
    let reason = match is_current.then(|| Engine::open(from)) {
        Some(Ok(engine)) => match read_identity(&engine)? {
            Ok(identity) => {
                let store = SledStore::on(engine, identity, config, owner, look)?;
                return Ok((store, None, None));
            }
            Err(reason) => reason,
        },
        Some(Err(EngineError::Io(error))) => return Err(io_error(from)(error)),
        Some(Err(EngineError::Corrupt(reason))) => reason,
        None => "it did not open and was set aside".to_owned(),
    };
    let scratch = copy_log(&config.path, from)?;
    let nothing = |why: String| {
        let next = "put a backup in its place, or go on without it: posthaste run --start-empty, once";
        unrepairable(from, format!("nothing of it can be read ({why}); {next}"))
    };
    let engine = Engine::open(&scratch.0).map_err(|error| nothing(error.to_string()))?;
    let identity = read_identity(&engine)?.map_err(nothing)?;
    let store = SledStore::on(engine, identity, config, owner, look)?;
    Ok((store, Some(reason), Some(scratch)))
}

/// Copies the log of the queue in `from` into a folder beside the queues.
fn copy_log(folder: &Path, from: &Path) -> Result<Scratch, OpenError> {
    let failed = io_error(from);
    let log = from.join(LOG);
    let needed = fs::metadata(&log).map_err(&failed)?.len();
    let (free, _) = files::free_space(folder).map_err(&failed)?;
    if free < needed.saturating_mul(2) {
        return Err(unrepairable(
            from,
            format!(
                "a repair needs room for two copies of its {needed} bytes, and {free} are free; make room first"
            ),
        ));
    }
    let scratch = Scratch(folder.join(SCRATCH));
    remove_if_there(&scratch.0).map_err(&failed)?;
    files::create_folder(&scratch.0).map_err(&failed)?;
    fs::copy(&log, scratch.0.join(LOG)).map_err(&failed)?;
    Ok(scratch)
}

/// Whoever planned and did not go on leaves nothing behind.
impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The copy of a queue, removed when it has been read.
#[derive(Debug)]
struct Scratch(PathBuf);

fn io_error(path: &Path) -> impl Fn(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io {
        path: path.clone(),
        source,
    }
}

fn unrepairable(path: &Path, why: impl Into<String>) -> OpenError {
    OpenError::Unrepairable {
        path: path.to_owned(),
        why: why.into(),
    }
}

fn remove_if_there(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
