//! A12: what is left in the folder is taken once, in order, and nothing of it is lost.

use std::time::Duration;

use tokio::sync::mpsc;

use super::*;
use crate::domain::time::Timestamp;
use crate::ingest::intake::RouteTable;
use crate::ingest::intake::tests::endpoint;
use crate::ingest::lines::Limits;
use crate::store::committer::{Clock, Committer};
use crate::store::memory::MemoryStore;
use crate::store::{Refusal, Store};

struct World {
    folder: tempfile::TempDir,
    store: Arc<MemoryStore>,
    intake: Arc<Intake>,
    _committer: Committer,
}

impl World {
    fn new() -> Self {
        let store = Arc::new(MemoryStore::new(Duration::from_secs(3600), 1000));
        let clock: Clock = Arc::new(|| Timestamp(1_736_937_000_000));
        let shared: Arc<dyn Store> = store.clone();
        let (tell, _) = mpsc::channel(4096);
        let (committer, queue) =
            Committer::start(shared, Arc::clone(&clock), Duration::from_secs(60), tell).unwrap();
        let lane = store.lane("orders").unwrap();
        let routes = RouteTable::new(vec![(endpoint("orders", "order.*", ""), lane)]);
        let limits = Limits {
            event_bytes_max: 200,
            batch_bytes_max: 400,
        };
        Self {
            folder: tempfile::tempdir().unwrap(),
            store,
            intake: Arc::new(Intake::new(queue, routes, limits, clock)),
            _committer: committer,
        }
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn reader(&self) -> Reader {
        Reader {
            folder: self.folder.path().to_owned(),
            intake: Arc::clone(&self.intake),
            stop: CancellationToken::new(),
            runtime: Handle::current(),
        }
    }

    /// One look; how long until the next is wanted.
    async fn look(&self) -> Option<Duration> {
        let reader = self.reader();
        match tokio::task::spawn_blocking(move || reader.look()).await.unwrap() {
            Look::Done => None,
            Look::Again(after) => Some(after),
        }
    }
}

fn event(id: &str) -> String {
    format!("{{\"type\":\"order.paid\",\"id\":\"{id}\"}}\n")
}

#[tokio::test]
async fn a12_files_are_taken_in_the_order_of_their_names_and_go() {
    let world = World::new();
    world.put("02.ndjson", &event("b"));
    world.put("01.ndjson", &(event("a") + &event("a2")));
    world.put(".03.tmp", &event("not whole"));
    world.put("notes.txt", "not ours");
    assert_eq!(world.look().await, None);
    assert_eq!(world.names(), [".03.tmp", "notes.txt"]);
    let seqs: Vec<_> = ["a", "a2", "b"]
        .iter()
        .map(|id| world.store.find(id, 9).unwrap()[0].seq)
        .collect();
    assert!(seqs.is_sorted());
    // The same file again, as after a crash before it was removed.
    world.put("01.ndjson", &(event("a") + &event("a2")));
    assert_eq!(world.look().await, None);
    assert_eq!(world.store.stats().events, 3);
    assert_eq!(world.intake.counters.duplicate.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a12_refused_lines_are_kept_with_their_reasons() {
    let world = World::new();
    let long = format!("{{\"type\":\"{}\"}}\n", "x".repeat(500));
    let text = event("a")
        + "nonsense\n{\"ack\":\"none\"}\n{\"type\":\"x\",\"endpoint\":\"gone\"}\n\n"
        + &long
        + &event("b");
    world.put("1.ndjson", &text);
    assert_eq!(world.look().await, None);
    assert_eq!(world.names(), ["1.ndjson.rejected"]);
    assert_eq!(world.store.stats().events, 2);
    let kept = fs::read_to_string(world.folder.path().join("1.ndjson.rejected")).unwrap();
    let lines: Vec<serde_json::Value> = kept
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let shown: Vec<_> = lines
        .iter()
        .map(|line| (line["line"].as_u64().unwrap(), line["code"].as_str().unwrap()))
        .collect();
    assert_eq!(
        shown,
        [
            (2, "invalid_json"),
            (3, "invalid_event"),
            (6, "too_large"),
            (4, "invalid_event")
        ]
    );
    assert_eq!(lines[0]["text"], "nonsense");
    assert_eq!(lines[3]["text"], "{\"type\":\"x\",\"endpoint\":\"gone\"}");
    assert!(lines[3]["message"].as_str().unwrap().contains("no endpoint"));
    world.look().await;
    assert_eq!(world.intake.counters.spool_rejected.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a12_what_cannot_be_taken_now_stays() {
    let world = World::new();
    world.put("1.ndjson", &(event("a") + "nonsense\n" + &event("b")));
    world.store.refuse(Some(Refusal::QueueFull));
    assert_eq!(world.look().await, Some(Duration::from_secs(5)));
    assert!(world.names().contains(&"1.ndjson".to_owned()));
    assert_eq!(world.intake.counters.spool_waiting.load(Ordering::Relaxed), 1);
    world.store.refuse(None);
    assert_eq!(world.look().await, None);
    assert_eq!(world.names(), ["1.ndjson.rejected"]);
    assert_eq!(world.store.stats().events, 2);
}

#[tokio::test]
async fn a12_links_and_pipes_are_not_followed() {
    let world = World::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let secret = elsewhere.path().join("secret");
    fs::write(&secret, event("stolen")).unwrap();
    std::os::unix::fs::symlink(&secret, world.folder.path().join("1.ndjson")).unwrap();
    fs::hard_link(&secret, world.folder.path().join("2.ndjson")).unwrap();
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        world.folder.path().join("3.ndjson"),
        rustix::fs::Mode::from(0o600),
    )
    .unwrap();
    world.put("4.ndjson", &event("a"));
    assert_eq!(world.look().await, Some(LOOK_AGAIN));
    assert_eq!(world.names(), ["1.ndjson", "2.ndjson", "3.ndjson"]);
    assert_eq!(world.store.stats().events, 1);
}

#[tokio::test]
async fn a12_files_are_taken_as_they_come() {
    let world = World::new();
    let spool = Spool::open(world.folder.path(), Arc::clone(&world.intake)).unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(spool.serve(stop.clone()));
    for id in ["a", "b", "c"] {
        let draft = world.folder.path().join(".draft.tmp");
        fs::write(&draft, event(id)).unwrap();
        fs::rename(&draft, world.folder.path().join(format!("{id}.ndjson"))).unwrap();
        while !world.names().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    assert_eq!(world.store.stats().events, 3);
    stop.cancel();
    serving.await.unwrap();
}
