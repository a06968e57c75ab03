//! Tests of who writes when a producer is alone, and of what the committer makes of it.

use std::time::Duration;

use tokio::sync::mpsc::error::TryRecvError;

use super::pen::Pen;
use super::tests::{NOW, group, many, start, until_written};
use super::*;
use crate::store::memory::{MemoryStore, Reached};
use crate::store::{DeliveryId, SettleTo};

/// A committer over a store in memory with one lane, and room for so many lists of notices.
struct World {
    store: Arc<MemoryStore>,
    lane: LaneId,
    queue: Queue,
    committer: Committer,
    notices: async_mpsc::Receiver<Vec<Notice>>,
}

fn world(room: usize) -> World {
    let store = Arc::new(MemoryStore::new(Duration::from_secs(60), 1000));
    let lane = store.lane("one").unwrap();
    let (committer, queue, notices) = start(&store, room);
    World {
        store,
        lane,
        queue,
        committer,
        notices,
    }
}

impl World {
    /// Whether one try to write it is refused.
    fn goes_the_other_way(&self, id: &str) -> bool {
        let groups = vec![group(id, None, self.lane)];
        let back = self.queue.accept_here(groups);
        back.is_err_and(|groups| groups.len() == 1)
    }

    /// Tries until the committer's thread, which may be at its housekeeping, leaves the pen alone.
    fn accept_here(&self, id: &str) -> AcceptAnswer {
        let began = Instant::now();
        let mut groups = vec![group(id, None, self.lane)];
        loop {
            match self.queue.accept_here(groups) {
                Ok(answer) => return answer,
                Err(back) => groups = back,
            }
            assert!(began.elapsed() < Duration::from_secs(30), "never alone");
            thread::yield_now();
        }
    }
}

/// A2: the event is durable, told and answered when the call returns; settles ride along.
#[tokio::test]
async fn a2_one_who_is_alone_has_its_answer_when_the_disk_has() {
    let mut world = world(4);
    let accepted = world.accept_here("a").unwrap();
    let [Ok(accepted)] = &accepted[..] else {
        panic!("{accepted:?}");
    };
    let [Accepted::New(seq)] = accepted[..] else {
        panic!("{accepted:?}");
    };
    let told = world.notices.try_recv().unwrap();
    let is_it = |notice: &Notice| matches!(*notice, Notice::Accepted { seq: of, .. } if of == seq);
    assert!(told.len() == 1 && told.iter().all(is_it), "{told:?}");
    let again = world.accept_here("a").unwrap();
    assert_eq!(again, [Ok(vec![Accepted::Duplicate])]);
    assert_eq!(world.notices.try_recv(), Err(TryRecvError::Empty));
    let id = DeliveryId {
        lane: world.lane,
        seq,
    };
    let (was_due, to) = (None, SettleTo::Settled);
    world.queue.settle(Settle { id, was_due, to }, None);
    world.accept_here("b").unwrap();
    // By that commit, or by one of the committer's beside it.
    let mut told = Vec::new();
    while told.len() < 2 {
        told.extend(world.notices.recv().await.unwrap());
    }
    let is_it = |notice: &Notice| matches!(*notice, Notice::Committed { seq: of, .. } if of == seq);
    assert_eq!(told.iter().filter(|notice| is_it(notice)).count(), 1, "{told:?}");
    world.committer.stop();
}

/// A2: while anything is under way, or nobody has read what was told, the events go the other way.
#[test]
fn a2_nobody_goes_past_a_commit_that_is_under_way() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut world = world(1);
    let held = world.store.hold_disk();
    // So many that the flusher has them, and the committer waits for more with the pen put down.
    let first = runtime.spawn(world.queue.accept(many("first", world.lane)));
    until_written(&world.store, 1);
    for _ in 0..1000 {
        assert!(world.goes_the_other_way("second"));
        thread::yield_now();
    }
    assert!(!first.is_finished());
    drop(held);
    runtime.block_on(first).unwrap().unwrap();
    // What the first commit told fills the channel.
    for _ in 0..1000 {
        assert!(world.goes_the_other_way("second"));
        thread::yield_now();
    }
    assert_eq!(world.notices.try_recv().unwrap().len(), SMALL + 1);
    world.accept_here("second").unwrap();
    world.committer.stop();
}

/// I4: a flush that fails is the last one for everybody, whoever asked for it.
#[tokio::test]
async fn i4_a_failure_of_one_who_is_alone_is_everybodys() {
    let mut world = world(4);
    world.accept_here("a").unwrap();
    world.notices.try_recv().unwrap();
    world.store.fail_commit(1, Reached::Nothing);
    let error = world.accept_here("b").unwrap_err();
    assert_eq!(world.queue.failure().borrow().clone(), Some(error.clone()));
    assert!(world.notices.try_recv().is_err());
    assert!(world.goes_the_other_way("c"));
    let groups = vec![group("c", None, world.lane)];
    assert_eq!(world.queue.accept(groups).await, Err(error));
    world.committer.stop();
}

/// I4: nor does the daemon go on without a pen: a panic is told as a failure, whoever held it.
#[tokio::test]
async fn i4_a_panic_is_told() {
    let world = world(4);
    let verb = world
        .queue
        .write(|_| -> Result<(), StoreError> { panic!("a verb that panics") });
    assert!(verb.await.is_err());
    let mut failure = world.queue.failure();
    let told = failure.wait_for(Option::is_some);
    let told = tokio::time::timeout(Duration::from_secs(30), told).await;
    assert!(told.is_ok_and(|told| told.is_ok()), "nobody was told");
    let groups = vec![group("a", None, world.lane)];
    assert!(world.queue.accept(groups).await.is_err());

    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Duration::from_secs(60), 1000));
    let lane = store.lane("one").unwrap();
    let (tell, _notices) = async_mpsc::channel(4);
    let here = thread::current().id();
    let clock = move || {
        assert!(thread::current().id() != here, "a clock that panics");
        NOW
    };
    let (committer, queue) = Committer::start(store, Arc::new(clock), Duration::from_secs(60), tell).unwrap();
    let broke_off = || {
        let tried = || queue.accept_here(vec![group("a", None, lane)]);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(tried)).is_err()
    };
    while !broke_off() {
        thread::yield_now();
    }
    assert!(queue.failure().borrow().is_some());
    committer.stop();
}

#[tokio::test]
async fn nobody_writes_once_the_store_is_closed() {
    let World {
        lane,
        queue,
        committer,
        ..
    } = world(4);
    committer.stop();
    assert!(queue.accept_here(vec![group("a", None, lane)]).is_err());
}

/// What a producer writes by itself keeps the committer from believing that nothing happens; and one that sleeps is woken.
#[test]
fn a_producer_who_is_alone_keeps_the_committer_up() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Duration::from_secs(60), 1000));
    let lane = store.lane("one").unwrap();
    let (tell, _notices) = async_mpsc::channel(4);
    let (failed, _) = watch::channel(None);
    let flusher = Flusher::start(Arc::clone(&store), tell, Arc::new(failed)).unwrap();
    let upkeep = Upkeep {
        dead_keep: Duration::from_secs(60),
        at_rest: || {},
    };
    let mut pen = Pen::new(store, Arc::new(|| NOW), upkeep, flusher, Arc::default());
    let write = |pen: &mut Pen, id: &str| {
        let groups = vec![group(id, None, lane)];
        pen.commit_here(groups).unwrap().unwrap();
    };
    for (wrote, idle, next, wakes) in [
        (false, Idle::Maintain, Idle::Rest, false),
        (true, Idle::Rest, Idle::Maintain, false),
        (false, Idle::Maintain, Idle::Rest, false),
        (false, Idle::Rest, Idle::Sleep, true),
        (false, Idle::Sleep, Idle::Sleep, false),
        (true, Idle::Sleep, Idle::Maintain, false),
    ] {
        if wrote {
            write(&mut pen, &format!("{idle:?}"));
        }
        assert_eq!((pen.while_idle(idle).unwrap(), pen.has_to_wake()), (next, wakes));
    }
}
