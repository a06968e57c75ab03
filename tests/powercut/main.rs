//! The power-cut test of the sled store: nothing acknowledged is lost when everything that was written and
//! not synced is.
//!
//! A child process (this test binary again) runs the real store under load while [`interpose`] records each
//! of its file operations, and the child's own acknowledgements, in one [`journal`]. Any first part of the
//! journal is the world at the moment of a power cut: the parent plays it onto a model of the disk
//! ([`image`]), which gives up what was not synced as a file system may, opens the store on what is left,
//! and holds it against what had been acknowledged ([`expect`], [`verify`]). Then the next child goes on from
//! there.
//!
//! `POSTHASTE_POWER_CUTS=50` makes fifty cuts instead of a handful. A failure names its seed;
//! `POSTHASTE_POWER_SEED` throws the same dice again (the store's own threads are not part of that).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of a test fail like the test itself"
)]

#[path = "../support/dice.rs"]
mod dice;
mod expect;
mod image;
mod interpose;
mod journal;
mod load;
mod verify;

use std::any::Any;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use posthaste::config::{FreeMin, StoreConfig};
use posthaste::store::Store;
use posthaste::store::sled::{OpenOptions, SledStore};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::dice::Dice;
use crate::expect::{Expected, Note};
use crate::image::Disk;
use crate::journal::{Entry, Recorded};
use crate::load::Load;

/// Carries [`Orders`] to the child.
const ORDERS: &str = "POSTHASTE_POWERCUT_ORDERS";
/// Cuts in the life of one child.
const CUTS_PER_CHILD: usize = 4;
/// Verbs that write, in the life of one child.
const STEPS_PER_CHILD: usize = 100;

/// What a child has to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Orders {
    folder: PathBuf,
    journal: PathBuf,
    seed: u64,
    round: u64,
    steps: usize,
    forget_syncs: bool,
}

/// Opens the store in `folder`.
fn open(folder: &Path) -> Result<Arc<dyn Store>, String> {
    let config = StoreConfig {
        path: folder.to_owned(),
        size_bytes_max: 1 << 34,
        free_min: FreeMin::Bytes(0),
        dedup_window: Duration::from_secs(24 * 3600),
        dedup_ids_max: 1_000_000,
        dead_keep: Duration::from_secs(24 * 3600),
        ..StoreConfig::default()
    };
    let opened = SledStore::open(&config, OpenOptions::default()).map_err(|error| error.to_string())?;
    Ok(Arc::new(opened))
}

/// What a panic said.
fn say(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("something that is no text").to_owned()
}

/// The child: loads the store until it dies as by SIGKILL.
#[test]
#[ignore = "started by the other tests, with its orders in the environment"]
fn child() {
    let Ok(orders) = std::env::var(ORDERS) else { return };
    let orders: Orders = serde_json::from_str(&orders).unwrap();
    interpose::start(&orders.folder, &orders.journal, orders.forget_syncs).unwrap();
    let mut load = Load::new(open(&orders.folder).unwrap(), orders.round, orders.seed);
    for _ in 0..orders.steps {
        load.step();
    }
    interpose::die();
}

/// Runs a child and reads its journal.
fn run_child(orders: &Orders) -> Vec<Recorded> {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(ORDERS, serde_json::to_string(orders).unwrap())
        .output()
        .unwrap();
    let killed = std::os::unix::process::ExitStatusExt::signal(&output.status) == Some(9);
    assert!(
        killed,
        "the child failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let journal = journal::read(&orders.journal).unwrap();
    let syncs = journal
        .iter()
        .filter(|(entry, _)| matches!(entry, Entry::Synced { .. }))
        .count();
    let acknowledged = journal
        .iter()
        .filter(|(entry, _)| matches!(entry, Entry::Note(Note::Done)))
        .count();
    assert!(
        acknowledged > orders.steps / 2,
        "only {acknowledged} commits were recorded"
    );
    assert!(
        orders.forget_syncs || syncs >= acknowledged,
        "{syncs} syncs for {acknowledged} commits: not all are seen"
    );
    journal
}

/// A moment to cut the power: any, or one of those that matter most, right before a sync takes effect and
/// right after an acknowledgement.
fn moment(journal: &[Recorded], dice: &mut Dice) -> usize {
    let before_sync =
        |(n, (entry, _)): (usize, &Recorded)| matches!(entry, Entry::Synced { .. }).then_some(n);
    let after_done =
        |(n, (entry, _)): (usize, &Recorded)| matches!(entry, Entry::Note(Note::Done)).then_some(n + 1);
    let some: Vec<usize> = match dice.below(3) {
        0 => journal.iter().enumerate().filter_map(before_sync).collect(),
        1 => journal.iter().enumerate().filter_map(after_done).collect(),
        _ => Vec::new(),
    };
    if some.is_empty() {
        dice.below(journal.len() + 1)
    } else {
        some[dice.below(some.len())]
    }
}

/// A disk on which a store may be, and what must be on it.
struct World {
    folder: TempDir,
    known: Expected,
}

/// Cuts the power of one child after another.
struct Saboteur {
    dice: Dice,
    forget_syncs: bool,
    cuts: usize,
}

impl Saboteur {
    /// Runs a child from `world` on and cuts its power several times, each time as if it were the first;
    /// gives the world after the last cut.
    fn one_life(&mut self, world: World) -> Result<World, String> {
        let before = Disk::of(world.folder.path()).unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let journal = run_child(&Orders {
            folder: world.folder.path().to_owned(),
            journal: scratch.path().join("journal"),
            seed: self.dice.any(),
            round: self.cuts as u64,
            steps: STEPS_PER_CHILD,
            forget_syncs: self.forget_syncs,
        });
        let mut after = world.known.clone();
        let mut left = None;
        for _ in 0..CUTS_PER_CHILD {
            let at = moment(&journal, &mut self.dice);
            let (mut disk, mut known) = (before.clone(), world.known.clone());
            play(&journal[..at], &mut disk, &mut known);
            let cut = self.cut(&disk, &mut known);
            let moment = format!("cut {}, at {at} of {}", self.cuts, journal.len());
            left = Some(cut.map_err(|problem| format!("{moment}: {problem}"))?);
            after = known;
            self.cuts += 1;
        }
        Ok(World {
            folder: left.unwrap_or(world.folder),
            known: after,
        })
    }

    /// Cuts the power of `disk`, and holds what is left against what is `known`.
    fn cut(&mut self, disk: &Disk, known: &mut Expected) -> Result<TempDir, String> {
        let (left, opened) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        // The same dice twice: looking at a store changes it, and the next child must find it as it was left.
        disk.cut(left.path(), &mut self.dice.clone()).unwrap();
        disk.cut(opened.path(), &mut self.dice).unwrap();
        let verdict = verify::verify(opened.path(), known);
        if !verdict.problems.is_empty() {
            let few: Vec<_> = verdict.problems.iter().take(10).collect();
            return Err(format!("{} problems, such as {few:#?}", verdict.problems.len()));
        }
        known.adopt(&verdict.seen);
        Ok(left)
    }
}

/// The world after the child did what `journal` says.
fn play(journal: &[Recorded], disk: &mut Disk, known: &mut Expected) {
    for recorded in journal {
        disk.play(recorded);
        if let Entry::Note(note) = &recorded.0 {
            known.hear(note);
        }
    }
}

/// Cuts the power at least `cuts` times, in as many lives as that takes; says what went wrong first.
fn cut_power(cuts: usize, seed: u64, forget_syncs: bool) -> Result<(), String> {
    let mut saboteur = Saboteur {
        dice: Dice::new(seed),
        forget_syncs,
        cuts: 0,
    };
    let mut world = World {
        folder: tempfile::tempdir().unwrap(),
        known: Expected::default(),
    };
    while saboteur.cuts < cuts {
        world = saboteur.one_life(world)?;
    }
    Ok(())
}

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

/// A2, I3: whenever the power goes, every store opens, and everything acknowledged is as it was.
#[test]
fn nothing_acknowledged_is_lost_in_a_power_cut() {
    let clock = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos() as u64;
    let seed = from_env("POSTHASTE_POWER_SEED").unwrap_or(clock);
    let cuts = from_env("POSTHASTE_POWER_CUTS").map_or(8, |cuts| cuts as usize);
    cut_power(cuts, seed, false).unwrap_or_else(|problem| panic!("POSTHASTE_POWER_SEED={seed}: {problem}"));
}

/// The journal is the whole truth: played to its end it gives the very files that the child left.
#[test]
fn every_operation_is_recorded() {
    let (folder, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut disk = Disk::of(folder.path()).unwrap();
    let journal = run_child(&Orders {
        folder: folder.path().to_owned(),
        journal: scratch.path().join("journal"),
        seed: 1,
        round: 0,
        steps: STEPS_PER_CHILD,
        forget_syncs: false,
    });
    play(&journal, &mut disk, &mut Expected::default());
    let (mut played, mut left) = (disk.without_cut(), Disk::of(folder.path()).unwrap().without_cut());
    // Space held by fallocate is no content.
    for files in [&mut played, &mut left] {
        files.remove(Path::new("ballast"));
    }
    assert_eq!(played.keys().collect::<Vec<_>>(), left.keys().collect::<Vec<_>>());
    for (path, content) in left {
        assert!(
            played[&path] == content,
            "{} was written past the recorder",
            path.display()
        );
    }
}

/// The first test can fail: over the same store, without the syncs.
#[test]
fn without_syncs_acknowledged_events_are_lost() {
    let problem = cut_power(12, 1, true).unwrap_err();
    assert!(
        problem.contains("acknowledged: ") || problem.contains("does not open"),
        "{problem}"
    );
}
