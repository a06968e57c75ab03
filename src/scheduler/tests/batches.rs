//! Batches and rates, told through the three verbs.

use super::*;
use crate::domain::endpoint::BatchShape;

/// A lane with a fixed limit that puts `events_max` events together and waits `wait` for them.
fn batching(limit: u32, events_max: usize, wait: Duration) -> World {
    let mut config = lane_config(0, limit, limit);
    config.batch = Some(BatchPolicy {
        events_max,
        bytes_max: 100,
        wait_max: wait,
        shape: BatchShape::Array,
        items: None,
    });
    let mut world = World::new(SchedulerConfig::default(), vec![config]);
    assert!(world.poll().is_empty());
    world
}

fn sizes(jobs: &[Job]) -> Vec<usize> {
    jobs.iter().map(|job| job.batch.len()).collect()
}

/// C8: a last event never waits longer than `max_wait`, and it is the one next wake-up that sends it.
#[test]
fn c8_a_batch_waits_for_company_but_not_for_ever() {
    let mut world = batching(4, 3, secs(10));
    world.accept_many(A, 7);
    assert_eq!(sizes(&world.poll()), [3, 3]);
    world.pass(secs(4));
    world.accept(A, None);
    assert!(world.poll().is_empty());
    assert_eq!(world.view(A).gathers_until, Some(Timestamp(START + 10_000)));
    assert_eq!(world.sleep(), secs(6), "by the age of the first");
    assert_eq!(seqs(&world.poll()), [6, 7]);
    assert_eq!(world.scheduler.wake_in(world.now), None);
}

/// C8: by bytes; what was estimated too low comes back and goes next.
#[test]
fn c8_bytes_fill_a_batch_and_what_does_not_fit_goes_next() {
    let mut world = batching(4, 50, secs(10));
    world.accept_many(A, 99);
    let jobs = world.poll();
    assert_eq!(sizes(&jobs), [50], "49 bytes are not enough");
    world.accept(A, None);
    let mut first = jobs.into_iter().next().unwrap();
    let batch = first.batch.drain(20..).collect();
    world.handle(Input::GivenBack { lane: A, batch });
    let jobs = world.poll();
    assert_eq!(sizes(&jobs), [50], "what came back has waited already");
    assert_eq!(jobs[0].batch[0].seq, Seq(20));
    let rest = world.poll();
    assert!(rest.is_empty(), "30 that are left wait for more");
    world.end(first, OK, secs(0));
    assert_eq!(world.view(A).in_flight, 1);
}

/// C8: what failed together is tried again together, however many others wait.
#[test]
fn c8_a_failed_batch_stays_the_same_set() {
    let mut world = batching(4, 4, secs(1));
    world.accept_many(A, 8);
    let jobs = world.poll();
    assert_eq!(sizes(&jobs), [4, 4]);
    for (job, wait) in jobs.into_iter().zip([7, 5]) {
        world.end(job, DOWN, secs(wait));
    }
    world.accept_many(A, 2);
    world.pass(secs(10));
    let again = world.poll();
    let mut sets: Vec<Vec<u64>> = again.iter().map(|job| seqs(std::slice::from_ref(job))).collect();
    sets.sort();
    assert_eq!(sets, [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9]]);
}

/// C8: halves of a batch that parted are one millisecond apart, and are not put together again.
#[test]
fn c8_halves_stay_apart() {
    let mut world = batching(4, 4, secs(1));
    world.accept_many(A, 4);
    let job = world.poll().remove(0);
    world.finish(&job, seen(Outcome::Error(ErrorClass::Http4xx)));
    for (at, due) in job.batch.iter().enumerate() {
        let half = Timestamp(world.now.wall.0 + at as u64 / 2);
        world.store.settle(A, due.seq, Some((half, 1)));
        world.handle(Input::Committed {
            lane: A,
            seq: due.seq,
            deferred: Some(half),
            tries: 1,
        });
    }
    world.pass(secs(1));
    assert_eq!(sizes(&world.poll()), [2, 2]);
}

/// A6, C8: events whose delay is over are put together like others.
#[test]
fn a6_delayed_events_are_gathered() {
    let mut world = batching(4, 3, secs(10));
    for ms in 0..4 {
        world.accept(A, Some(Timestamp(START + 1000 + ms)));
    }
    world.pass(secs(2));
    assert_eq!(sizes(&world.poll()), [3]);
    assert_eq!(world.sleep(), secs(10));
    assert_eq!(sizes(&world.poll()), [1]);
}

/// F5: a probe takes what there is.
#[test]
fn f5_a_probe_waits_for_no_company() {
    let mut world = batching(5, 3, secs(3600));
    world.accept_many(A, 15);
    for job in world.poll() {
        world.end(job, DOWN, secs(36_000));
    }
    world.accept(A, None);
    assert!(world.poll().is_empty());
    world.sleep();
    let probe = world.poll();
    assert_eq!(world.state(A), LaneState::Probing);
    assert_eq!(sizes(&probe), [1]);
}

/// `limits.batch_memory`: every lane with batches has its part, and one request in any case.
#[test]
fn batch_memory_is_shared_out() {
    let lanes = (0..2).map(|lane| {
        let mut config = lane_config(lane, 50, 50);
        config.batch = Some(BatchPolicy {
            events_max: 10,
            bytes_max: 10,
            wait_max: secs(0),
            shape: BatchShape::Array,
            items: None,
        });
        config
    });
    for (memory, each) in [(120, 3), (1, 1), (4000, 20)] {
        let config = SchedulerConfig {
            batch_bytes_max: memory,
            ..SchedulerConfig::default()
        };
        let mut world = World::new(config, lanes.clone().collect());
        world.poll();
        world.accept_many(A, 200);
        let jobs = world.poll();
        assert_eq!(jobs.len(), each, "{memory}");
        world.accept_many(B, 200);
        assert_eq!(world.poll().len(), each, "{memory}");
        for job in jobs {
            world.end(job, OK, secs(0));
        }
        let left = if each == 20 { 0 } else { each };
        assert_eq!(world.poll().len(), left, "{memory}: room comes back");
    }
}

/// F6: the rate holds whatever waits, and nothing but the one wake-up keeps it.
#[test]
fn f6_a_rate_spreads_requests() {
    let mut config = lane_config(0, 50, 50);
    config.rate = Rate::parse("20/s").ok();
    let mut world = World::new(SchedulerConfig::default(), vec![config]);
    world.poll();
    world.accept_many(A, 100);
    let mut sent = 0;
    let mut wakes = 0;
    while world.now.mono_ms < 2000 {
        for job in world.poll() {
            sent += 1;
            world.end(job, OK, secs(0));
        }
        world.sleep();
        wakes += 1;
    }
    assert!((40..=43).contains(&sent), "{sent} in two seconds");
    assert!(wakes <= sent + 1, "{wakes} wake-ups for {sent} requests");
}

/// C8: to be given back and read again, as after each page of a move, makes nobody wait longer; nor does what was
/// delayed, accepted before it and comes to stand before it in its line.
#[test]
fn c8_a_batch_that_is_read_again_keeps_its_age() {
    for order in [OrderPolicy::None, OrderPolicy::Endpoint] {
        let mut config = lane_config(0, 4, 4);
        config.order = order;
        config.batch = Some(BatchPolicy {
            events_max: 100,
            bytes_max: 1000,
            wait_max: secs(10),
            shape: BatchShape::Array,
            items: None,
        });
        for revives in [true, false] {
            let mut world = World::new(SchedulerConfig::default(), vec![config.clone()]);
            assert!(world.poll().is_empty());
            for _ in 0..3 {
                world.accept(A, Some(Timestamp(START + 5000)));
            }
            world.accept(A, None);
            for second in 0..10 {
                assert!(world.poll().is_empty(), "{order:?} after {second} s");
                world.pass(secs(1));
                if revives {
                    world.handle(Input::Revived {
                        lane: A,
                        from: Seq(0),
                    });
                }
            }
            assert_eq!(sizes(&world.poll()), [4], "{order:?} {revives}");
        }
    }
}
