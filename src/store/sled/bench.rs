//! How fast the store is against the disk it is on: run by hand, with
//! `cargo test --release --lib store::sled::bench -- --ignored --nocapture --test-threads 1`.

use std::io::Write;
use std::time::{Duration, Instant};

use super::tests::{config, event, open, start};
use super::*;
use crate::store::{AcceptGroup, Accepted, NewEvent, Settle, SettleTo};

/// Batches that lie between the acceptance of an event and its end.
const LAG: usize = 16;
const SECONDS: Duration = Duration::from_secs(2);

fn batch(lane: LaneId, from: u64, events: usize) -> Vec<AcceptGroup> {
    let lanes: std::sync::Arc<[LaneId]> = [lane].into();
    (from..from + events as u64)
        .map(|n| AcceptGroup {
            events: vec![NewEvent {
                event: event(&format!("evt-{n:012}"), 980),
                lanes: lanes.clone(),
            }],
        })
        .collect()
}

/// Events a second appended and synced in batches.
fn raw(folder: &std::path::Path, events: usize) -> f64 {
    let mut file = std::fs::File::create(folder.join("raw")).unwrap();
    let bytes = vec![b'x'; 1024 * events];
    let (begin, mut done) = (Instant::now(), 0);
    while begin.elapsed() < SECONDS {
        file.write_all(&bytes).unwrap();
        file.sync_data().unwrap();
        done += events;
    }
    let rate = done as f64 / begin.elapsed().as_secs_f64();
    std::fs::remove_file(folder.join("raw")).unwrap();
    rate
}

/// Events a second accepted and settled, each commit doing both.
fn store_rate(folder: &std::path::Path, events: usize) -> f64 {
    let mut config = config(folder);
    config.size_bytes_max = 1 << 40;
    config.dedup_ids_max = 1_000_000;
    let store = SledStore::open(&config, OpenOptions::default()).unwrap();
    let lane = store.lane("a").unwrap();
    let mut open = std::collections::VecDeque::new();
    let (mut spent, mut done) = (Duration::ZERO, 0);
    while spent < SECONDS {
        let accepts = batch(lane, done as u64, events);
        let settles = if open.len() < LAG {
            Vec::new()
        } else {
            open.pop_front().unwrap_or_default()
        };
        let begin = Instant::now();
        let committed = store.commit(Batch { accepts, settles }, start()).unwrap();
        spent += begin.elapsed();
        done += events;
        let settle = |answer: Accepted| match answer {
            Accepted::New(seq) => Settle {
                id: DeliveryId { lane, seq },
                was_due: None,
                to: SettleTo::Settled,
            },
            Accepted::Duplicate => panic!("all ids are new"),
        };
        open.push_back(
            committed
                .accepts
                .into_iter()
                .flat_map(Result::unwrap)
                .map(settle)
                .collect::<Vec<_>>(),
        );
    }
    done as f64 / spent.as_secs_f64()
}

#[test]
#[ignore = "a measurement"]
fn accept_and_settle_against_append_and_sync() {
    println!(
        "{:>6} {:>12} {:>12} {:>6}",
        "batch", "raw ev/s", "store ev/s", "ratio"
    );
    for events in [1, 16, 64, 256, 2048] {
        let mut ratios = Vec::new();
        for _ in 0..3 {
            let folder = tempfile::tempdir_in(".").unwrap();
            let raw = (raw(folder.path(), events), store_rate(folder.path(), events));
            ratios.push((raw.1 / raw.0, raw.0, raw.1));
        }
        ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (ratio, raw, store) = ratios[1];
        println!("{events:>6} {raw:>12.0} {store:>12.0} {ratio:>6.2}");
    }
}

fn rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
#[ignore = "a measurement, run twice: the first process fills the store, the second opens it"]
fn restart_with_a_backlog() {
    let path = &std::env::temp_dir().join("posthaste-bench-backlog");
    if !path.exists() {
        let mut config = config(path);
        config.size_bytes_max = 1 << 40;
        config.dedup_ids_max = 1_000_000;
        let store = SledStore::open(&config, OpenOptions::default()).unwrap();
        let lane = store.lane("a").unwrap();
        for n in 0..2000 {
            let accepts = batch(lane, n * 1000, 1000);
            store
                .commit(
                    Batch {
                        accepts,
                        settles: Vec::new(),
                    },
                    start(),
                )
                .unwrap();
        }
        println!("filled; rss {} MiB", rss_kib() >> 10);
        return;
    }
    let before = rss_kib();
    let begin = Instant::now();
    let store = open(path);
    println!(
        "opened in {:?}, rss {} MiB (before {} MiB)",
        begin.elapsed(),
        rss_kib() >> 10,
        before >> 10
    );
    println!("{:?}", store.stats());
}
