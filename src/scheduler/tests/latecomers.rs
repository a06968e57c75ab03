//! Order with what comes in late: dead letters that are replayed, and what was owed to another endpoint; and what it
//! costs to learn again what may not be overtaken.

use super::order::{deliver_all, ordered, ordered_config, small};
use super::*;

/// What B is owed is owed to A from now on, as if it were new there.
fn move_all(world: &mut World) {
    let fresh = world.store.lanes.remove(&B).unwrap_or_default().fresh;
    world.store.lanes.entry(A).or_default().fresh.extend(fresh);
    world.handle(Input::Revived {
        lane: A,
        from: Seq(0),
    });
}

/// A dead letter becomes pending, due `due`.
fn replay(world: &mut World, seq: u64, due: Timestamp) {
    let owed = world.store.lanes.entry(A).or_default();
    owed.deferred.insert((due, Seq(seq)), 0);
    world.handle(Input::Revived {
        lane: A,
        from: Seq(seq),
    });
}

/// F7: what is moved into a line goes before a head that was accepted later, failed and waits for another try, and does
/// not wait for it, however much there is; what was accepted after that head still waits.
#[test]
fn f7_what_is_moved_in_goes_before_a_later_head_that_is_held_up() {
    for (order, keys) in [(OrderPolicy::Endpoint, 1), (OrderPolicy::Key, 2)] {
        let mut world = ordered(order, keys);
        for _ in 0..100 {
            world.store.accept(B, None);
        }
        world.accept_many(A, 4);
        let mut jobs = world.poll();
        let head = jobs.remove(0);
        assert_eq!(head.batch[0].seq, Seq(100));
        world.end(head, DOWN, secs(3600));
        jobs.into_iter().for_each(|job| world.end(job, OK, secs(0)));
        deliver_all(&mut world);
        move_all(&mut world);
        let went = deliver_all(&mut world);
        for key in 0..keys {
            let line = went.iter().filter(|seq| **seq % keys == key);
            assert!(
                line.eq((0..100)
                    .filter(|seq| seq % keys == key)
                    .collect::<Vec<_>>()
                    .iter())
            );
        }
        assert_eq!(world.view(A).held_up, 1);
        world.pass(secs(3600));
        let behind: Vec<u64> = (100..104).filter(|seq| seq % keys == 0).collect();
        assert_eq!(deliver_all(&mut world), behind, "{order:?}");
    }
}

/// F7: several dead letters of one line go in their old order among themselves, at once or one after the other, before
/// the later head that waits for another try; one that fails again holds up those behind it.
#[test]
fn f7_replayed_dead_letters_of_one_line_keep_their_order() {
    let letters: Vec<u64> = (0..40).step_by(2).collect();
    for (order, keys) in [(OrderPolicy::Endpoint, 1), (OrderPolicy::Key, 2)] {
        for (pace, behind_them) in [(0, true), (0, false), (1, true)] {
            let mut world = ordered(order, keys);
            world.store.next = 40;
            world.accept_many(A, 1);
            let head = world.poll().remove(0);
            world.end(head, DOWN, secs(3600));
            if behind_them {
                world.accept_many(A, 20);
            }
            let start = world.now.wall;
            for (place, seq) in (0..).zip(&letters) {
                replay(&mut world, *seq, start.plus(secs(place * pace)));
            }
            let mut went = Vec::new();
            let mut failed = false;
            while went.len() < letters.len() {
                let jobs = world.poll();
                if jobs.is_empty() {
                    assert!(world.sleep() <= secs(30), "nobody waits for the later head");
                }
                for job in jobs {
                    let seq = job.batch[0].seq.0;
                    let fails = seq == 6 && !failed;
                    failed |= fails;
                    went.extend(Some(seq).filter(|seq| !fails && *seq < 40));
                    world.end(job, if fails { DOWN } else { OK }, secs(30));
                }
            }
            assert!(failed);
            assert_eq!(went, letters, "{order:?} {pace} {behind_them}");
            world.pass(secs(3600));
            let rest = deliver_all(&mut world);
            assert!(rest.iter().filter(|seq| **seq % keys == 0).is_sorted());
        }
    }
}

/// F7: after each rest of an endpoint its lane asks for what failed a try, and no more than that is looked for: nothing
/// if there is none, and not through all that is delayed beyond.
#[test]
fn f7_after_a_rest_the_store_is_not_searched() {
    for failed in [0, 3] {
        let mut config = ordered_config(OrderPolicy::Key);
        config.concurrency = Concurrency { min: 4, max: 4 };
        let mut world = World::new(small(), vec![config]);
        world.keys = u64::MAX;
        let far = world.now.wall.plus(secs(86_400));
        for _ in 0..10_000 {
            world.store.accept(A, Some(far));
        }
        world.accept_many(A, failed + 1);
        let mut jobs = world.poll();
        let last = jobs.pop().unwrap();
        jobs.into_iter().for_each(|job| world.end(job, DOWN, secs(7200)));
        world.end(last, OK, secs(0));
        assert!(world.poll().is_empty());
        world.store.looked_at.set(0);
        for rest in 1..=50 {
            world.handle(Input::Paused { lane: A, until: None });
            assert_eq!(world.view(A).window, 0);
            world.accept_many(A, 1);
            world.handle(Input::Resumed { lane: A });
            let job = world.poll().remove(0);
            world.end(job, OK, secs(0));
            assert_eq!(
                world.store.looked_at.get(),
                rest * failed as u64,
                "{failed} failed"
            );
        }
        assert_eq!(world.view(A).held_up, failed as u32);
    }
}

/// F7: what fails while its lane rests is not overtaken afterwards, though the store is asked for so many only.
#[test]
fn f7_what_fails_while_the_endpoint_rests_is_known_afterwards() {
    for before in [0, 2] {
        let mut world = ordered(OrderPolicy::Key, 8);
        world.accept_many(A, 32);
        let mut jobs = world.poll();
        for job in jobs.drain(..before) {
            world.end(job, DOWN, secs(60));
        }
        world.handle(Input::Paused { lane: A, until: None });
        let meanwhile = jobs.drain(..3).collect::<Vec<_>>();
        meanwhile
            .into_iter()
            .for_each(|job| world.end(job, DOWN, secs(90)));
        world.handle(Input::Resumed { lane: A });
        jobs.into_iter().for_each(|job| world.end(job, OK, secs(0)));
        let held_up = before as u64 + 3;
        let went = deliver_all(&mut world);
        let others: Vec<u64> = (8..32).filter(|seq| seq % 8 >= held_up).collect();
        assert_eq!(went, others);
        world.pass(secs(90));
        let rest = deliver_all(&mut world);
        for key in 0..held_up {
            let line = rest.iter().filter(|seq| **seq % 8 == key);
            assert!(line.copied().eq((0..4).map(|n| 8 * n + key)), "{key}: {rest:?}");
        }
    }
}
