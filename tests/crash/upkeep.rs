//! SIGKILL while the store merges sparse chunks or is rewritten into a smaller one.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::daemon::{Site, copy_folder, eventually};
use crate::load::Sink;
use crate::points::{REWRITING, die_at};

/// Sparse chunks younger than this are left alone.
const SPARSE_AGE: Duration = Duration::from_secs(10);
/// The store is not rewritten before its file is larger.
const REWRITE_BYTES: usize = 64 << 20;
/// Batches sent; with as many chunks, merging takes more than one round.
const BATCHES: usize = 60;
/// Large ones.
const LARGE_BATCHES: usize = 10;

/// `kept` gets its events and is sent nothing; `taken` takes all of the others.
fn endpoints(receiver: SocketAddr) -> String {
    let endpoint = |name: &str, more: &str| {
        format!(
            "[[endpoint]]\nname = \"{name}\"\nevents = [\"{name}\"]\nurl = \"http://{receiver}/ok?{name}\"\n{more}\n"
        )
    };
    format!("{}{}", endpoint("kept", "enabled = false"), endpoint("taken", ""))
}

/// As [`endpoints`], and `kept` is sent what it is owed.
fn all_enabled(receiver: SocketAddr) -> String {
    endpoints(receiver).replace("enabled = false", "enabled = true")
}

/// As [`endpoints`], and `taken` is sent nothing either.
fn none_enabled(receiver: SocketAddr) -> String {
    format!("{}enabled = false\n", endpoints(receiver))
}

/// Sends batches, each of `taken` events and one that is kept, all with so many bytes; waits for the answers.
fn send(site: &Site, batches: usize, taken: usize, bytes: usize) {
    let mut socket = UnixStream::connect(site.ingest()).expect("the daemon is ready");
    let mut answers = BufReader::new(socket.try_clone().expect("a socket can be cloned"));
    for n in 0..batches {
        let event = |kind: &str, at: usize| json!({ "type": kind, "id": format!("{kind}-{n}-{at}"), "data": "x".repeat(bytes) });
        let mut batch: Vec<_> = (0..taken).map(|at| event("taken", at)).collect();
        batch.push(event("kept", 0));
        writeln!(socket, "{}", json!(batch)).expect("the daemon reads");
        let mut answer = String::new();
        answers.read_line(&mut answer).expect("the daemon answers");
        assert!(answer.contains("accepted"), "{answer}");
    }
}

/// Waits until only what is kept is left.
fn wait_for_taken(site: &Site, kept: usize) {
    eventually("all others are taken", || {
        (site.json(&["status"])[0]["totals"]["pending"] == kept).then_some(())
    });
}

/// Each event that was kept is still there, once.
fn assert_kept(site: &mut Site, sink: &Sink, kept: usize) {
    sink.take_ids();
    site.set_endpoints(all_enabled);
    let daemon = site.start();
    site.drained();
    daemon.stop();
    site.assert_sound();
    let mut delivered = Vec::new();
    eventually("the kept events arrive", || {
        delivered.extend(sink.take_ids().into_iter().filter(|id| id.starts_with("kept-")));
        (delivered.len() >= kept).then_some(())
    });
    let different: HashSet<_> = delivered.iter().collect();
    assert_eq!(
        (different.len(), delivered.len()),
        (kept, kept),
        "each kept event is delivered once"
    );
    site.set_endpoints(endpoints);
}

/// Chunks with few events left are merged a while after they were written: at every point of that, every event
/// stays.
#[test]
fn merging_chunks_loses_nothing_at_any_point() {
    let sink = Sink::start();
    let mut site = Site::new(endpoints, sink.addr);
    let daemon = site.start();
    send(&site, BATCHES, 9, 3000);
    wait_for_taken(&site, BATCHES);
    thread::sleep(SPARSE_AGE);
    daemon.kill();
    let good = site.file("good");
    copy_folder(&site.store(), &good);
    for point in [
        "after-chunks",
        "after-records",
        "after-ids",
        "after-freed",
        "after-cleared",
        "before-flush",
        "after-flush",
    ] {
        fs::remove_dir_all(site.store()).expect("the store can be removed");
        copy_folder(&good, &site.store());
        // Nothing else is written: `kept` is sent nothing, and no producer is there.
        die_at(&mut site, point);
        assert_kept(&mut site, &sink, BATCHES);
    }
}

/// A store that is mostly empty is rewritten: at every point of that, the one or the other counts, whole.
#[test]
fn rewriting_the_store_loses_nothing_at_any_point() {
    let sink = Sink::start();
    let mut site = Site::new(none_enabled, sink.addr);
    let daemon = site.start();
    send(&site, LARGE_BATCHES, 8, REWRITE_BYTES / 80);
    daemon.kill();
    site.set_endpoints(endpoints);
    let good = site.file("good");
    copy_folder(&site.store(), &good);
    for point in REWRITING {
        fs::remove_dir_all(site.store()).expect("the store can be removed");
        copy_folder(&good, &site.store());
        // As soon as the others are taken, the file is mostly empty.
        die_at(&mut site, point);
        assert_kept(&mut site, &sink, LARGE_BATCHES);
    }
}
