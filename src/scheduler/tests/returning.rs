//! What comes back: after a restart, after a jump of the clock.

use super::*;

fn doubtful(limit: u32) -> World {
    let mut config = lane_config(0, limit, limit);
    config.doubtful = true;
    let mut world = World::new(SchedulerConfig::default(), vec![config]);
    for _ in 0..100 {
        world.store.accept(A, None);
    }
    world
}

/// F5: an endpoint whose last tries failed before the restart is asked by one request, and then let in slowly.
#[test]
fn f5_after_a_restart_a_doubtful_endpoint_is_asked_by_one_request() {
    let mut world = doubtful(20);
    let mut sizes = Vec::new();
    for _ in 0..5 {
        let jobs = world.poll();
        sizes.push(jobs.len());
        world.pass(Duration::from_millis(20));
        jobs.into_iter().for_each(|job| world.end(job, OK, secs(0)));
    }
    assert_eq!(sizes, [1, 2, 4, 8, 16]);
}

/// F5: while it is still down, a restart costs it the failures that trip the breaker, one after the other, not a
/// request for each slot.
#[test]
fn f5_a_restart_does_not_stampede_a_dead_endpoint() {
    let mut world = doubtful(20);
    for _ in 0..5 {
        let mut jobs = world.poll();
        assert_eq!(jobs.len(), 1);
        world.end(jobs.remove(0), DOWN, secs(3600));
    }
    assert!(matches!(world.state(A), LaneState::Tripped { .. }));
    assert!(world.poll().is_empty());
    world.sleep();
    assert_eq!(world.poll().len(), 1);
}

/// F3: who asked to be left alone is left alone over a restart, with all that is owed, and eased in afterwards; a pause
/// meanwhile changes nothing of it.
#[test]
fn f3_a_rest_goes_on_after_a_restart() {
    let until = Timestamp(START + 60_000);
    let mut config = lane_config(0, 20, 20);
    config.rests_until = Some(until);
    let mut world = World::new(SchedulerConfig::default(), vec![config]);
    for _ in 0..100 {
        world.store.accept(A, None);
    }
    assert!(world.poll().is_empty());
    assert_eq!(world.state(A), LaneState::Suspended { until });
    world.handle(Input::Paused { lane: A, until: None });
    world.handle(Input::Resumed { lane: A });
    assert_eq!(world.state(A), LaneState::Suspended { until });
    assert_eq!(world.sleep(), secs(60));
    eases_in(&mut world, 8);
}

/// B6, F5: a pause ends by itself, and does not clear the doubt.
#[test]
fn b6_a_pause_does_not_clear_the_doubt() {
    let mut world = doubtful(20);
    let until = Timestamp(START + 10_000);
    world.handle(Input::Paused {
        lane: A,
        until: Some(until),
    });
    assert!(world.poll().is_empty());
    assert_eq!(world.sleep(), secs(10), "a pause ends by itself");
    assert_eq!(world.poll().len(), 1);
    assert_eq!(world.state(A), LaneState::Ready);
}

/// A6: the wall clock jumps both ways; what waits for its time fires early by no more than the jump, and nothing is
/// stuck: not a delayed event, not a batch, not a rate, not a held up line.
#[test]
fn a6_clock_jumps_stick_nothing() {
    for jump_s in [-7200i64, 7200] {
        let mut config = lane_config(0, 9, 9);
        config.order = OrderPolicy::Endpoint;
        config.rate = Rate::parse("100/s").ok();
        config.batch = Some(BatchPolicy {
            events_max: 10,
            bytes_max: 1000,
            wait_max: secs(2),
            shape: crate::domain::endpoint::BatchShape::Array,
            items: None,
        });
        let mut world = World::new(SchedulerConfig::default(), vec![config]);
        world.poll();
        world.accept_many(A, 10);
        let failed = world.poll().remove(0);
        world.end(failed, DOWN, secs(60));
        world.accept_many(A, 3);
        world.accept(A, Some(Timestamp(START + 30_000)));
        assert!(world.poll().is_empty());
        world.now.wall = Timestamp(world.now.wall.0.saturating_add_signed(jump_s * 1000));
        let mut delivered = HashSet::new();
        for _ in 0..20 {
            let jobs = world.poll();
            if jobs.is_empty() {
                assert!(
                    world.sleep() <= secs(7260),
                    "no longer than the jump and the wait"
                );
            }
            for job in jobs {
                delivered.extend(seqs(std::slice::from_ref(&job)));
                world.end(job, OK, secs(0));
            }
            if delivered.len() == 14 {
                break;
            }
        }
        assert_eq!(delivered.len(), 14, "jump of {jump_s} s");
    }
}
