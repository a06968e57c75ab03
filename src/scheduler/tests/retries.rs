//! New before old: how many of a lane's slots are for retries, told through the three verbs.

use super::*;

/// A lane with a fixed limit of `limit` whose store has `retries` retries that are due, in the order in which they are.
fn owing(limit: u32, retries: u64) -> World {
    let config = lane_config(0, limit, limit);
    owing_to(config, SchedulerConfig::default(), retries)
}

fn owing_to(mut config: LaneConfig, scheduler: SchedulerConfig, retries: u64) -> World {
    config.breaker.failures = 0;
    let mut world = World::new(scheduler, vec![config]);
    for n in 0..retries {
        let seq = world.store.accept(A, None);
        world.store.settle(A, seq, Some((Timestamp(START + n), 1)));
    }
    world.pass(secs(60));
    world
}

/// How many of these are retries, and how many are new.
fn kinds(jobs: &[Job]) -> (usize, usize) {
    let retries = jobs.iter().filter(|job| job.batch[0].tries > 0).count();
    (retries, jobs.len() - retries)
}

/// F6: retries that fail or hang never hold more than half of the slots (of one slot, all of it), whether anything new
/// waits or not; so what comes next finds the other half free.
#[test]
fn f6_retries_leave_half_of_the_slots_to_what_is_new() {
    for (limit, retries_max) in [(1, 1), (2, 1), (3, 1), (5, 2), (8, 4)] {
        let mut world = owing(limit, 100);
        let hanging = world.poll();
        assert_eq!(kinds(&hanging), (retries_max, 0), "limit {limit}");
        world.accept_many(A, 100);
        let new = limit as usize - retries_max;
        assert_eq!(kinds(&world.poll()), (0, new), "limit {limit}");
        for job in hanging {
            world.end(job, DOWN, secs(3600));
        }
        let (retries, new) = kinds(&world.poll());
        assert_eq!(retries + new, retries_max, "limit {limit}");
        assert!(limit < 5 || retries > 0 && new > 0, "limit {limit}: by turns");
    }
}

/// F6: an endpoint that takes its retries gets them at full speed; the first that fails ends that, and one that is
/// new goes before the next.
#[test]
fn f6_retries_that_get_through_may_have_every_slot() {
    let mut world = owing(8, 100);
    let mut jobs = world.poll();
    assert_eq!(kinds(&jobs), (4, 0));
    world.end(jobs.remove(0), OK, secs(0));
    jobs.extend(world.poll());
    assert_eq!(kinds(&jobs), (8, 0), "nothing new waits");
    world.accept_many(A, 2);
    for _ in 0..2 {
        world.end(jobs.remove(0), OK, secs(0));
    }
    assert_eq!(kinds(&world.poll()), (0, 2), "the slots are asked back");
    world.end(jobs.remove(0), DOWN, secs(3600));
    for left in (0..5).rev() {
        assert_eq!(
            kinds(&world.poll()),
            (usize::from(left < 3), 0),
            "{left} others are left"
        );
        if let Some(job) = jobs.pop() {
            world.end(job, DOWN, secs(3600));
        }
    }
}

/// F6: what is new and what is tried again take turns; neither starves, also in one slot.
#[test]
fn f6_new_and_old_take_turns() {
    for (limit, retries) in [(1, 0), (2, 1), (5, 2), (8, 4)] {
        let mut world = owing(limit, 40);
        for _ in 0..40 {
            world.store.accept(A, None);
        }
        let jobs = world.poll();
        assert_eq!(kinds(&jobs), (retries, limit as usize - retries), "limit {limit}");
    }
    let mut world = owing(1, 10);
    for _ in 0..10 {
        world.store.accept(A, None);
    }
    let mut tries = Vec::new();
    for _ in 0..6 {
        let job = world.poll().remove(0);
        tries.push(job.batch[0].tries);
        world.end(job, OK, secs(0));
    }
    assert_eq!(tries, [0, 1, 0, 1, 0, 1]);
}

/// A6, F6: what was delayed is new when its time has come. It goes past the retries that are due before it and have to
/// wait, also when those are many times the deliveries that a window holds.
#[test]
fn a6_f6_retries_that_wait_hold_up_no_delayed_event() {
    let scheduler = SchedulerConfig {
        window_max: 16,
        ..SchedulerConfig::default()
    };
    for retries in [3, 50] {
        let mut world = owing_to(lane_config(0, 4, 4), scheduler, retries);
        assert_eq!(kinds(&world.poll()), (2, 0));
        let delayed = world.accept(A, Some(world.now.wall.plus(secs(5))));
        assert!(world.poll().is_empty(), "before its time");
        world.pass(secs(5));
        let jobs = world.poll();
        assert_eq!(seqs(&jobs), [delayed.0], "{retries} retries");
        assert!(world.view(A).window <= 4 * 16);
    }
}

/// F6: an adaptive limit may shrink below what retries hold: no other leaves until they are less than half of it again.
#[test]
fn f6_half_of_a_limit_that_shrinks() {
    let mut world = owing(8, 100);
    let mut jobs = world.poll();
    assert_eq!(kinds(&jobs), (4, 0));
    let mut config = lane_config(0, 4, 4);
    config.breaker.failures = 0;
    world.handle(Input::Configure(vec![config]));
    for expected in [0, 0, 1, 1] {
        world.end(jobs.remove(0), DOWN, secs(3600));
        let more = world.poll();
        assert_eq!(kinds(&more), (expected, 0));
        jobs.extend(more);
    }
}

/// F5, F6: a probe finds its slot though retries from before the trip still hang in more than half of them.
#[test]
fn f5_f6_a_probe_is_not_kept_by_retries_that_hang() {
    let mut config = lane_config(0, 4, 4);
    config.breaker.failures = 2;
    let mut world = World::new(SchedulerConfig::default(), vec![config]);
    for n in 0..10 {
        let seq = world.store.accept(A, None);
        world.store.settle(A, seq, Some((Timestamp(START + n), 1)));
    }
    world.pass(secs(60));
    let mut jobs = world.poll();
    assert_eq!(kinds(&jobs), (2, 0));
    world.accept_many(A, 2);
    jobs.extend(world.poll());
    assert_eq!(kinds(&jobs), (2, 2));
    for job in jobs.drain(2..) {
        world.end(job, DOWN, secs(3600));
    }
    assert!(matches!(world.state(A), LaneState::Tripped { .. }));
    world.sleep();
    assert_eq!(kinds(&world.poll()), (1, 0));
    assert_eq!(world.state(A), LaneState::Probing);
}

/// F6, F7: the same where order is kept: keys whose heads are tried again leave half of the slots to the others.
#[test]
fn f6_f7_retries_of_many_keys_leave_half_of_the_slots() {
    let mut config = lane_config(0, 8, 8);
    config.order = OrderPolicy::Key;
    let mut world = owing_to(config, SchedulerConfig::default(), 20);
    world.keys = u64::MAX;
    let hanging = world.poll();
    assert_eq!(kinds(&hanging), (4, 0));
    world.accept_many(A, 20);
    assert_eq!(kinds(&world.poll()), (0, 4));
}

/// C8, F6: the same for batches: as many requests, whatever they hold; and what failed as one goes again as one, though
/// memory was filled up in the middle of it.
#[test]
fn c8_f6_batches_that_are_tried_again_leave_half_of_the_slots() {
    let mut config = lane_config(0, 4, 4);
    config.batch = Some(BatchPolicy {
        events_max: 5,
        bytes_max: 1000,
        wait_max: secs(1),
        shape: crate::domain::endpoint::BatchShape::Array,
        items: None,
    });
    let scheduler = SchedulerConfig {
        window_max: 8,
        ..SchedulerConfig::default()
    };
    config.breaker.failures = 0;
    let mut world = World::new(scheduler, vec![config]);
    for n in 0..60 {
        let seq = world.store.accept(A, None);
        let due = Timestamp(START + n / 4);
        world.store.settle(A, seq, Some((due, 1)));
    }
    world.pass(secs(60));
    let mut went = Vec::new();
    let mut under_way = world.poll();
    assert_eq!(kinds(&under_way), (2, 0));
    while let Some(job) = under_way.pop() {
        went.push(seqs(std::slice::from_ref(&job)));
        world.end(job, OK, secs(0));
        under_way.extend(world.poll());
    }
    went.sort_unstable();
    let sets: Vec<Vec<u64>> = (0..15).map(|n| (4 * n..4 * n + 4).collect()).collect();
    assert_eq!(went, sets);
}
