//! Tests of whose turn it is when verbs and producers wait together.

use std::time::Duration;

use super::tests::{group, start};
use super::*;
use crate::store::memory::MemoryStore;

/// An operator's verbs in a row let a producer's commit in between.
#[tokio::test]
async fn a_commit_waits_for_one_verb_at_most() {
    let store = Arc::new(MemoryStore::new(Duration::from_secs(60), 100));
    let lane = store.lane("one").unwrap();
    let (committer, queue, _notices) = start(&store, 4096);
    let (go, wait) = mpsc::channel::<()>();
    let blocked = queue.write(move |_| {
        let _ = wait.recv();
        Ok(())
    });
    let pending = |store: &dyn Store| Ok(store.lanes()[0].pending);
    let (_, accepted, first, second, ()) = tokio::join!(
        biased;
        blocked,
        async { queue.accept(vec![group("a", None, lane)]).await },
        queue.write(pending),
        queue.write(pending),
        // By now all of them are in the queue, in this order.
        async { drop(go) },
    );
    accepted.unwrap();
    assert_eq!((first, second), (Ok(0), Ok(1)), "pending when the verbs ran");
    committer.stop();
}
