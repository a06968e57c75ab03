//! Order, told through the three verbs.

use super::*;

/// A lane that keeps order among events with one of `keys` keys, in a small window; it has heard that the store is
/// empty.
pub(super) fn ordered(order: OrderPolicy, keys: u64) -> World {
    let mut world = World::new(small(), vec![ordered_config(order)]);
    world.keys = keys;
    assert!(world.poll().is_empty());
    world
}

pub(super) fn ordered_config(order: OrderPolicy) -> LaneConfig {
    let mut config = lane_config(0, 50, 50);
    config.order = order;
    config.breaker.failures = 0;
    config
}

pub(super) fn small() -> SchedulerConfig {
    SchedulerConfig {
        window_max: 16,
        ..SchedulerConfig::default()
    }
}

/// The same store under a new scheduler.
fn restarted(world: World, order: OrderPolicy) -> World {
    let mut next = World::new(small(), vec![ordered_config(order)]);
    (next.store, next.keys, next.now) = (world.store, world.keys, world.now);
    next.handle(Input::Configure(vec![ordered_config(order)]));
    next
}

/// Delivers everything that can go, in the order in which it went.
pub(super) fn deliver_all(world: &mut World) -> Vec<u64> {
    let mut went = Vec::new();
    loop {
        let jobs = world.poll();
        if jobs.is_empty() {
            return went;
        }
        went.extend(seqs(&jobs));
        jobs.into_iter().for_each(|job| world.end(job, OK, secs(0)));
    }
}

/// F7: one request at a time, and the next only when the end of the one before is durable.
#[test]
fn f7_an_endpoint_in_order_gets_one_after_the_other() {
    let mut world = ordered(OrderPolicy::Endpoint, 1);
    world.accept_many(A, 100);
    for seq in 0..100 {
        let mut jobs = world.poll();
        assert_eq!(seqs(&jobs), [seq]);
        let job = jobs.remove(0);
        world.finish(&job, seen(OK));
        assert!(world.poll().is_empty(), "not durable yet");
        world.commit(job, None);
    }
    assert!(world.poll().is_empty());
    assert_eq!(world.scheduler.wake_in(world.now), None);
}

/// F7: keys go on beside each other; a head that has to be tried again holds up its own key alone, however much
/// stands behind it, and costs no more memory than itself.
#[test]
fn f7_a_held_up_key_holds_up_nobody_else() {
    let mut world = ordered(OrderPolicy::Key, 4);
    world.accept_many(A, 4000);
    let mut jobs = world.poll();
    assert_eq!(seqs(&jobs), [0, 1, 2, 3]);
    let failed = jobs.remove(0);
    world.end(failed, DOWN, secs(3600));
    jobs.into_iter().for_each(|job| world.end(job, OK, secs(0)));
    let went = deliver_all(&mut world);
    let others: Vec<u64> = (4..4000).filter(|seq| seq % 4 != 0).collect();
    assert_eq!(went, others);
    assert_eq!((world.view(A).window, world.view(A).held_up), (1, 1));
    world.pass(secs(3601));
    let own: Vec<u64> = (0..4000).filter(|seq| seq % 4 == 0).collect();
    assert_eq!(deliver_all(&mut world), own);
}

/// F7: a retry keeps its place also over a restart, when nothing but the store remembers it.
#[test]
fn f7_order_survives_a_restart() {
    for (order, keys, held_up) in [(OrderPolicy::Endpoint, 1, 40), (OrderPolicy::Key, 4, 10)] {
        let mut world = ordered(order, keys);
        world.accept_many(A, 40);
        let first = world.poll().remove(0);
        world.end(first, DOWN, secs(60));
        let mut world = restarted(world, order);
        let went = deliver_all(&mut world);
        assert_eq!(went.len(), 40 - held_up, "{order:?}");
        assert!(went.iter().all(|seq| seq % keys != 0));
        assert!(world.sleep() <= secs(60));
        let rest: Vec<u64> = (0..40).filter(|seq| seq % keys == 0).collect();
        assert_eq!(deliver_all(&mut world), rest, "{order:?}");
    }
}

/// F7: a head that becomes a dead letter lets its line go on; replayed it takes its place among what has not left.
#[test]
fn f7_a_dead_head_lets_the_line_go_on() {
    let mut world = ordered(OrderPolicy::Endpoint, 1);
    world.accept_many(A, 3);
    let head = world.poll().remove(0);
    world.finish(&head, seen(Outcome::Rejected));
    world.commit(head, None);
    let next = world.poll().remove(0);
    assert_eq!(next.batch[0].seq, Seq(1));
    let owed = world.store.lanes.get_mut(&A).unwrap();
    owed.deferred.insert((world.now.wall, Seq(0)), 0);
    world.handle(Input::Revived {
        lane: A,
        from: Seq(0),
    });
    assert!(world.poll().is_empty(), "one at a time");
    world.end(next, OK, secs(0));
    assert_eq!(deliver_all(&mut world), [0, 2]);
}

/// A6, F7: a delayed event holds up nobody while it waits for its time, and goes first when that has come.
#[test]
fn a6_f7_a_delayed_event_takes_its_place_when_it_is_due() {
    let mut world = ordered(OrderPolicy::Endpoint, 1);
    world.accept(A, Some(Timestamp(START + 5000)));
    world.accept_many(A, 2);
    assert_eq!(deliver_all(&mut world), [1, 2]);
    world.accept(A, None);
    let flying = world.poll().remove(0);
    world.accept(A, None);
    world.pass(secs(6));
    assert!(world.poll().is_empty());
    world.end(flying, OK, secs(0));
    assert_eq!(deliver_all(&mut world), [0, 4]);
}

/// F7: millions of keys cost a window; thousands that are held up cost a bound, past which nothing new leaves.
#[test]
fn f7_memory_is_bounded_whatever_the_keys() {
    let mut world = ordered(OrderPolicy::Key, u64::MAX);
    world.accept_many(A, 3000);
    let mut held_up = 0;
    loop {
        let jobs = world.poll();
        if jobs.is_empty() {
            break;
        }
        held_up += jobs.len();
        jobs.into_iter().for_each(|job| world.end(job, DOWN, secs(60)));
        assert!(world.view(A).window <= 17 * 16 + 50);
    }
    assert!((256..=306).contains(&held_up), "{held_up}");
    assert_eq!(world.sleep(), secs(60));
    let mut went = deliver_all(&mut world);
    went.sort_unstable();
    assert!(went.into_iter().eq(0..3000));
}

/// C8, F7: a batch keeps the order inside, and what failed in one goes again in one before anything behind it.
#[test]
fn c8_f7_batches_keep_the_order() {
    let mut config = ordered_config(OrderPolicy::Key);
    config.batch = Some(BatchPolicy {
        events_max: 6,
        bytes_max: 1000,
        wait_max: secs(1),
        shape: crate::domain::endpoint::BatchShape::Array,
        items: None,
    });
    let mut world = World::new(small(), vec![config]);
    world.keys = 3;
    world.poll();
    world.accept_many(A, 12);
    let mut jobs = world.poll();
    assert_eq!(seqs(&jobs), [0, 1, 3, 4, 6, 9], "the first lines, each in order");
    world.end(jobs.remove(0), DOWN, secs(5));
    assert!(world.poll().is_empty());
    world.pass(secs(2));
    assert_eq!(
        seqs(&world.poll()),
        [2, 5, 8, 11],
        "those that are not held up, after their wait"
    );
    world.pass(secs(4));
    assert_eq!(seqs(&world.poll()), [0, 1, 3, 4, 6, 9]);
}

/// Another order is adopted once nothing of the old one is in hand, and nothing is forgotten on the way.
#[test]
fn another_order_takes_over_between_requests() {
    let mut world = World::new(small(), vec![ordered_config(OrderPolicy::None)]);
    world.poll();
    world.accept_many(A, 60);
    let jobs = world.poll();
    assert_eq!(jobs.len(), 50);
    world.handle(Input::Configure(vec![ordered_config(OrderPolicy::Endpoint)]));
    assert!(world.poll().is_empty());
    jobs.into_iter().for_each(|job| world.end(job, OK, secs(0)));
    assert_eq!(world.poll().len(), 1);
}

/// What is accepted meanwhile waits in the store, or it would be in hand for ever and the other order never begin.
#[test]
fn f7_what_comes_while_the_order_changes_does_not_hold_it_up() {
    let mut world = World::new(small(), vec![ordered_config(OrderPolicy::None)]);
    world.poll();
    world.accept_many(A, 5);
    let jobs = world.poll();
    assert_eq!(jobs.len(), 5);
    world.handle(Input::Configure(vec![ordered_config(OrderPolicy::Endpoint)]));
    world.accept_many(A, 3);
    assert!(world.poll().is_empty());
    jobs.into_iter().for_each(|job| world.end(job, OK, secs(0)));
    assert_eq!(seqs(&world.poll()), [5]);
}

/// F7: a pause forgets nothing of how far the queue has been read, or a delayed event would wait for news that never come.
#[test]
fn f7_a_delayed_event_goes_after_a_pause_though_nothing_new_comes() {
    let mut world = ordered(OrderPolicy::Key, 4);
    let later = world.now.wall.plus(secs(10));
    world.accept(A, Some(later));
    world.handle(Input::Paused { lane: A, until: None });
    assert!(world.poll().is_empty());
    world.handle(Input::Resumed { lane: A });
    assert!(world.poll().is_empty());
    world.pass(secs(10));
    assert_eq!(seqs(&world.poll()), [0]);
}

/// F7: when events get other keys, nothing leaves until what is in hand is over; then the new lines hold.
#[test]
fn f7_other_keys_make_other_lines() {
    let mut world = ordered(OrderPolicy::Key, 2);
    world.accept_many(A, 8);
    let under_way = world.poll();
    assert_eq!(seqs(&under_way), [0, 1], "the head of each of two lines");
    world.keys = 4;
    let mut config = ordered_config(OrderPolicy::Key);
    config.keyed = 1;
    world.handle(Input::Configure(vec![config.clone()]));
    assert!(
        world.poll().is_empty(),
        "2 and 3 stood behind them, and other lines would not know"
    );
    under_way.into_iter().for_each(|job| world.end(job, OK, secs(0)));
    let next = world.poll();
    assert_eq!(seqs(&next), [2, 3, 4, 5], "the heads of four lines");
    world.handle(Input::Configure(vec![config]));
    next.into_iter().for_each(|job| world.end(job, OK, secs(0)));
    assert_eq!(deliver_all(&mut world), [6, 7], "the same keys change nothing");
}

/// F7: what was delayed and stands behind a held up head leaves room for what was delayed in other lines.
#[test]
fn f7_what_is_put_off_behind_a_held_up_head_keeps_nobody() {
    let mut world = ordered(OrderPolicy::Key, 2);
    world.accept_many(A, 1);
    let head = world.poll().remove(0);
    let far = world.now.wall.plus(secs(3600));
    world.end(head, DOWN, secs(3600));
    let soon = world.now.wall.plus(secs(1));
    for seq in 1..=40 {
        // Those of the held up line are due first.
        let due = soon.plus(secs(if seq % 2 == 0 { 0 } else { 1 }));
        world.accept(A, Some(due));
    }
    world.pass(secs(5));
    assert!(world.now.wall < far);
    let odd: Vec<u64> = (1..=40).filter(|seq| seq % 2 == 1).collect();
    assert_eq!(deliver_all(&mut world), odd);
}

/// F7: when the wall clock jumps back, a head that was due already waits again; what had been read behind it goes back
/// to the store, or it would keep the room of the other lines for as long as the clock takes to catch up.
#[test]
fn f7_a_head_held_up_again_by_the_clock_keeps_no_room() {
    let mut config = ordered_config(OrderPolicy::Key);
    config.concurrency = Concurrency { min: 1, max: 1 };
    let mut world = World::new(small(), vec![config]);
    world.keys = 2;
    world.accept_many(A, 2);
    for seq in [0, 1] {
        let head = world.poll().remove(0);
        assert_eq!(head.batch[0].seq, Seq(seq));
        world.end(head, DOWN, secs(60));
    }
    world.pass(secs(61));
    let first = world.poll().remove(0);
    assert_eq!(first.batch[0].seq, Seq(0), "both are due, and there is one slot");
    world.accept_many(A, 100);
    assert!(world.poll().is_empty());
    assert_eq!(world.view(A).fresh, 16, "the window is full of what follows them");
    world.now.wall = Timestamp(START);
    world.end(first, OK, secs(0));
    let own: Vec<u64> = (2..102).filter(|seq| seq % 2 == 0).collect();
    assert_eq!(deliver_all(&mut world), own);
    assert_eq!((world.view(A).window, world.view(A).held_up), (1, 1));
    world.pass(secs(60));
    let rest: Vec<u64> = (1..102).filter(|seq| seq % 2 == 1).collect();
    assert_eq!(deliver_all(&mut world), rest);
}

/// F7: what a line lets go of while the store is being asked for what lines had left there was in hand when it was asked,
/// so the answer lacks it: it is neither passed over nor overtaken.
#[test]
fn f7_an_answer_lacks_what_was_let_go_meanwhile() {
    let mut world = ordered(OrderPolicy::Key, 2);
    world.accept_many(A, 100);
    let mut went = Vec::new();
    let mut deliver = |world: &mut World, jobs: Vec<Job>| {
        went.extend(seqs(&jobs));
        jobs.into_iter().for_each(|job| world.end(job, OK, secs(0)));
    };
    let mut jobs = world.poll();
    world.end(jobs.remove(0), DOWN, secs(10));
    for _ in 0..3 {
        deliver(&mut world, jobs);
        jobs = world.poll();
    }
    world.pass(secs(10));
    world.answers = false;
    let first = world.poll();
    deliver(&mut world, first);
    assert!(world.poll().is_empty());
    assert_eq!(
        world.asked.len(),
        1,
        "for what stands behind the first of its line"
    );
    let failed = jobs.remove(0);
    let head = failed.batch[0].seq;
    world.end(failed, DOWN, secs(1));
    assert_eq!(world.view(A).held_up, 1);
    world.pass(secs(1));
    let again = world.poll();
    assert_eq!(seqs(&again), [head.0]);
    deliver(&mut world, again);
    world.answer();
    world.answers = true;
    went.extend(deliver_all(&mut world));
    for key in 0..2 {
        let line = went.iter().filter(|seq| **seq % 2 == key);
        assert!(line.copied().eq((0..50).map(|n| 2 * n + key)), "{went:?}");
    }
}
