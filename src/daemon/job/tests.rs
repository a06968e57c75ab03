//! Jobs that make no request: nothing here listens.

use std::cell::RefCell;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::*;
use crate::delivery::Couriers;
use crate::domain::endpoint::fixture;
use crate::domain::event::EventHead;
use crate::ingest::intake::RouteTable;
use crate::ingest::lines::Limits;
use crate::store::committer::Committer;
use crate::store::memory::MemoryStore;
use crate::store::{AcceptGroup, Accepted, Batch, NewEvent, Store};

const NOW: Timestamp = Timestamp(1_736_937_000_000);
const LIMITS: Limits = Limits {
    event_bytes_max: 4096,
    batch_bytes_max: 16384,
};

fn event(id: &str) -> Event {
    Event {
        head: EventHead::new(id, "/test", "lead.created", NOW),
        json: Bytes::from_static(b"{}"),
    }
}

/// A store of three events of two bytes each.
fn filled() -> (Arc<MemoryStore>, LaneId, Vec<Seq>) {
    let store = Arc::new(MemoryStore::new(Duration::from_secs(60), 100));
    let lane = store.lane("crm").unwrap();
    let events = ["a", "b", "c"].map(|id| NewEvent {
        event: event(id),
        lanes: [lane].into(),
    });
    let accept = Batch {
        accepts: vec![AcceptGroup {
            events: events.into(),
        }],
        settles: Vec::new(),
    };
    let accepted = store.commit(accept, NOW).unwrap().accepts.remove(0).unwrap();
    let seqs = accepted.iter().map(|accepted| match accepted {
        Accepted::New(seq) => *seq,
        Accepted::Duplicate => panic!("all ids differ"),
    });
    let seqs: Vec<Seq> = seqs.collect();
    (store, lane, seqs)
}

/// The same, but the first and the last are damaged, and the one between them can't be read.
fn store() -> (Arc<MemoryStore>, LaneId, Vec<Seq>) {
    let (store, lane, seqs) = filled();
    store.damage(seqs[0], "checksum");
    store.damage(seqs[2], "checksum");
    // Nobody is owed it any more, so that the store knows nothing of it.
    let gone = Settle {
        id: DeliveryId { lane, seq: seqs[1] },
        was_due: None,
        to: SettleTo::Settled,
    };
    let settle = Batch {
        accepts: Vec::new(),
        settles: vec![gone],
    };
    store.commit(settle, NOW).unwrap();
    (store, lane, seqs)
}

/// A job of all three for an endpoint that keeps the order of `policy`, and what it is carried out with.
pub(in crate::daemon) struct Scene {
    pub job: Job,
    pub to: Destination,
    pub queue: Queue,
    pub committer: Committer,
    _notices: mpsc::Receiver<Vec<crate::store::committer::Notice>>,
}

pub(in crate::daemon) fn scene(policy: OrderPolicy) -> Scene {
    let (store, lane, seqs) = store();
    let (notices, _notices) = mpsc::channel(100);
    let time: crate::store::committer::Clock = Arc::new(|| NOW);
    let (committer, queue) =
        Committer::start(store, Arc::clone(&time), Duration::from_secs(60), notices).unwrap();
    let mut endpoint = fixture::endpoint("crm", "http://127.0.0.1:1/");
    endpoint.order.policy = policy;
    let to = Destination {
        courier: Couriers::new().prepare(&endpoint).unwrap(),
        endpoint: Arc::new(endpoint),
        intake: Arc::new(Intake::new(
            queue.clone(),
            RouteTable::new(Vec::new()),
            LIMITS,
            time,
        )),
        numbers: Arc::default(),
        doubtful: false,
        rests_until: None,
        log_payloads: false,
        tracer: None,
    };
    let job = Job {
        lane,
        batch: seqs.iter().map(|seq| Due::fresh(*seq)).collect(),
        bytes_max: usize::MAX,
    };
    Scene {
        job,
        to,
        queue,
        committer,
        _notices,
    }
}

/// What the dispatcher hears of it: what is given back, and which ends are known.
async fn told(policy: OrderPolicy) -> (Vec<Vec<Seq>>, Vec<(Seq, bool)>) {
    let scene = scene(policy);
    let news = RefCell::new(Vec::new());
    let tell = |new| news.borrow_mut().push(new);
    carry_out(scene.job, &scene.to, &scene.queue, Clock::start(), &tell).await;
    scene.committer.stop();
    let (mut given_back, mut ends) = (Vec::new(), Vec::new());
    for new in news.into_inner() {
        match new {
            News::GivenBack { batch, .. } => given_back.push(batch.iter().map(|due| due.seq).collect()),
            News::Ended(ended) => ends.extend(ended.ends.iter().map(|end| (end.seq, end.settle.is_some()))),
        }
    }
    (given_back, ends)
}

/// F7: what stands behind an event that can't be read waits again with it, where order is kept; what stands before it
/// goes on. A damaged event holds up nobody: it goes to the dead letters.
#[tokio::test(start_paused = true)]
async fn f7_nothing_overtakes_what_could_not_be_read() {
    let (_, _, seqs) = store();
    let [first, unread, last] = seqs[..] else {
        panic!("three were accepted")
    };
    for policy in [OrderPolicy::Endpoint, OrderPolicy::Key] {
        let (given_back, ends) = told(policy).await;
        assert_eq!(given_back, [[last]], "{policy:?}");
        assert_eq!(ends, [(first, true), (unread, false)], "{policy:?}");
    }
    let (given_back, ends) = told(OrderPolicy::None).await;
    assert_eq!(given_back, Vec::<Vec<Seq>>::new());
    assert_eq!(ends, [(first, true), (unread, false), (last, true)]);
}

/// What a job keeps while it waits is there for each request under way: most of what it rarely needs stands in boxes.
#[tokio::test]
async fn a_job_is_small() {
    let scene = scene(OrderPolicy::None);
    let tell = |_: News| {};
    let job = carry_out(scene.job, &scene.to, &scene.queue, Clock::start(), &tell);
    let bytes = size_of_val(&job);
    assert!(bytes <= 8192, "{bytes} bytes");
}

/// C8: how large events are may show only when they are read, and no more is read than goes into one request.
#[test]
fn c8_no_more_is_read_than_goes_into_a_request() {
    let (store, lane, seqs) = filled();
    let batch: Vec<Due> = seqs.into_iter().map(Due::fresh).collect();
    for (bytes_max, count) in [(usize::MAX, 3), (6, 3), (5, 2), (2, 1), (0, 1)] {
        let read = read::up_to(bytes_max, &*store, lane, &batch);
        assert_eq!(read.len(), count, "{bytes_max}");
        assert!(read.iter().all(Result::is_ok));
    }
}
