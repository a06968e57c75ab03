//! What people do to a daemon at work, by the same verbs and in the same order as the control room does it.

use std::collections::BTreeSet;
use std::time::Duration;

use posthaste::domain::event::Seq;
use posthaste::domain::time::Timestamp;
use posthaste::scheduler::Input;
use posthaste::store::{DeadFilter, DeliveryId, DueQuery, LaneId, Pause, Refusal, Store};

use crate::commit::Verb;
use crate::daemon::Daemon;
use crate::ledger::Place;
use crate::scenario::{self, between};
use crate::world::{Inside, World};

/// Deliveries looked at by one verb.
const PAGE: usize = 100;
/// Deliveries that one verb moves to another lane.
const MOVE_PAGE: usize = 3;

impl World {
    /// Something, to one endpoint.
    pub fn operate(&mut self) {
        if self.daemon.is_none() {
            return;
        }
        let at = self.dice.below(self.sites.len());
        let lane = self.lane(at);
        let configured = self.sites[at].configured;
        match self.dice.below(11) {
            0 | 1 if configured => self.pause(lane),
            2 if configured => self.ask(Verb::Pause(lane, None)),
            3 if configured => {
                self.tell(Input::Flushed { lane });
                self.ask(Verb::Flush(lane, self.wall(), None));
            }
            4 | 5 if configured => self.replay(lane),
            6 => self.purge(lane),
            7 => self.reload(at),
            8 => {
                self.sites[at].configured = !configured;
                self.watch.removed(lane);
                self.configure(self.now());
            }
            _ if configured => {
                let refusal = [None, Some(Refusal::QueueFull), Some(Refusal::DiskFull)][self.dice.below(3)];
                self.store.refuse(refusal);
            }
            _ => self.move_orphans(lane),
        }
    }

    fn pause(&mut self, lane: LaneId) {
        let length = Duration::from_millis(between(&mut self.dice, 1, 5000));
        let now = self.wall();
        let pause = Pause {
            by: "operator".into(),
            reason: "simulated".into(),
            since: now,
            until: (!self.dice.one_in(3)).then(|| now.plus(length)),
        };
        self.ask(Verb::Pause(lane, Some(pause)));
    }

    /// Dead letters go out again, at once or one after the other.
    fn replay(&mut self, lane: LaneId) {
        let pace_ms = [0, 20, 500][self.dice.below(3)];
        let start = self.wall();
        let dues = (0..).map(|n| start.plus(Duration::from_millis(n * pace_ms)));
        let paced = self.dead(lane, PAGE).into_iter().zip(dues).collect();
        self.ask(Verb::Replay(paced));
    }

    fn purge(&mut self, lane: LaneId) {
        let some = self.dead(lane, 2);
        self.ask(Verb::Purge(some));
    }

    fn dead(&self, lane: LaneId, limit: usize) -> Vec<DeliveryId> {
        let filter = DeadFilter {
            lane: Some(lane),
            ..DeadFilter::default()
        };
        // Nothing is found by a daemon whose disk has just failed.
        let page = self.store.dead(&filter, None, limit).unwrap_or_default();
        page.letters.iter().map(|letter| letter.id).collect()
    }

    /// Other rules for one endpoint.
    fn reload(&mut self, at: usize) {
        let (breaker, concurrency) = (
            scenario::breaker(&mut self.dice),
            scenario::concurrency(&mut self.dice),
        );
        let enabled = !self.dice.one_in(3);
        let order = self.dice.one_in(4).then(|| scenario::order(&mut self.dice));
        let rekeyed = self.dice.one_in(8);
        self.sites[at].keyed += u64::from(rekeyed);
        if rekeyed || order.is_some_and(|order| order != self.sites[at].endpoint.order.policy) {
            let lane = self.lane(at);
            self.watch.reordered(lane);
            self.ledger.reordered(lane);
        }
        self.change_site(at, |endpoint| {
            endpoint.breaker = breaker;
            endpoint.concurrency = concurrency;
            endpoint.enabled = enabled;
            endpoint.order.policy = order.unwrap_or(endpoint.order.policy);
        });
        self.configure(self.now());
    }

    /// What a removed endpoint is owed goes to another, page by page.
    fn move_orphans(&mut self, from: LaneId) {
        let to = self
            .sites
            .iter()
            .find(|site| site.configured)
            .map(|site| site.lane);
        if let Some(to) = to {
            self.ask(Verb::Move(from, to));
        }
    }

    /// A verb has had its turn.
    pub fn done(&mut self, verb: Verb) {
        let works = "verbs run between commits, and only commits fail";
        match verb {
            Verb::Pause(lane, pause) => {
                let until = pause.as_ref().map(|pause| pause.until);
                self.store.pause(lane, pause).expect(works);
                self.tell_soon(match until {
                    Some(until) => Input::Paused { lane, until },
                    None => Input::Resumed { lane },
                });
            }
            Verb::Flush(lane, now, from) => {
                let page = self.store.flush_lane(lane, now, from, PAGE).expect(works);
                self.flushed_until(lane, now);
                self.tell_soon(Input::Revived { lane, from: Seq(0) });
                if page.next.is_some() {
                    self.ask(Verb::Flush(lane, now, page.next));
                }
            }
            Verb::Replay(paced) => {
                let revived = self.store.revive(&paced).expect(works);
                let replay = self.totals.verbs;
                for (id, due) in paced.into_iter().filter(|(id, _)| revived.contains(id)) {
                    self.ledger.revived(id, due, replay);
                    let (lane, from) = (id.lane, id.seq);
                    self.tell_soon(Input::Revived { lane, from });
                }
            }
            Verb::Purge(ids) => {
                let dead: Vec<_> = ids
                    .into_iter()
                    .filter(|id| self.store.dead_letter(*id).expect(works).is_some())
                    .collect();
                self.store.discard(&dead).expect(works);
                dead.iter().for_each(|id| self.ledger.move_to(*id, Place::Gone));
            }
            Verb::Move(from, to) => self.move_page(from, to),
        }
        self.verb_over();
    }

    /// The dispatcher hears it after a moment, and never before what it was to hear earlier.
    fn tell_soon(&mut self, input: Input) {
        let told_ms = self.now_ms + self.dice.below(3) as u64;
        self.told_ms = self.told_ms.max(told_ms);
        self.soon(self.told_ms - self.now_ms, Inside::Tell(input));
    }

    /// What has been tried is due now; what waits for its event's time goes on waiting.
    fn flushed_until(&mut self, lane: LaneId, now: Timestamp) {
        let tried = |place| matches!(place, Place::Owed { due: Some(due), tries: 1.. } if due > now);
        let moved: Vec<_> = self
            .ledger
            .records()
            .filter(|(id, record)| id.lane == lane && tried(record.place))
            .map(|(id, _)| *id)
            .collect();
        moved.into_iter().for_each(|id| self.ledger.due_at(id, now));
    }

    /// The next page of a move. It ends when its endpoint has come back, or the other one has gone, and it does not begin
    /// while anything of it is in the daemon's hands. A reload waits for a page that is being written.
    fn move_page(&mut self, from: LaneId, to: LaneId) {
        let in_hand = |daemon: &Daemon| daemon.scheduler.lanes().iter().any(|view| view.lane == from);
        let configured = |lane: LaneId| self.sites[lane.0 as usize].configured;
        if configured(from) || !configured(to) || self.daemon.as_ref().is_some_and(in_hand) {
            return;
        }
        let now = self.wall();
        let moved = self.store.reassign(from, to, MOVE_PAGE, now);
        let moved = moved.expect("verbs run between commits, and only commits fail");
        let left = self.store_owes(from);
        let gone: Vec<_> = self
            .ledger
            .records()
            .filter(|(id, _)| id.lane == from && !left.contains(&id.seq))
            .filter(|(_, record)| matches!(record.place, Place::Owed { .. }))
            .map(|(id, record)| (*id, record.place))
            .collect();
        assert_eq!(moved, gone.len() as u64, "so many have moved");
        for (id, place) in gone {
            self.moved(id, place, to);
        }
        let lane = to;
        self.tell_soon(Input::Revived { lane, from: Seq(0) });
        if moved > 0 {
            self.totals.moved += moved;
            self.ask(Verb::Move(from, to));
        }
    }

    /// What the store says that a lane is owed.
    fn store_owes(&self, lane: LaneId) -> BTreeSet<Seq> {
        let all = DueQuery {
            fresh_max: usize::MAX,
            deferred_max: usize::MAX,
            now: Timestamp::MAX,
            ..DueQuery::default()
        };
        let answer = self.store.due(lane, &all).expect("the store works");
        let dues = answer.fresh.iter().chain(&answer.deferred);
        dues.map(|due| due.seq).collect()
    }

    fn moved(&mut self, id: DeliveryId, place: Place, to: LaneId) {
        let now = self.wall();
        self.ledger.move_to(id, Place::Gone);
        let there = DeliveryId { lane: to, ..id };
        if !self.ledger.knows(there) || self.ledger.is_over(there) {
            // It may go at once there, or else when it could have gone here, and its event too.
            let due = match place {
                Place::Owed { due, .. } => due.filter(|due| *due > now),
                _ => None,
            };
            let delay = self.delays.get(&id.seq).copied();
            self.ledger
                .moved_in(there, due.map(|due| due.max(delay.unwrap_or(due))));
        }
    }
}
