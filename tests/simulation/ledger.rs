//! What became of each delivery, kept beside the store and the daemon and never asked by them. Complaints are
//! returned; [`crate::checks`] says them.

use std::collections::{BTreeMap, BTreeSet};

use posthaste::domain::event::Seq;
use posthaste::domain::time::Timestamp;
use posthaste::scheduler::Job;
use posthaste::store::{DeliveryId, Due, LaneId, Settle, SettleTo};
use rustc_hash::FxHashMap;

/// Whether a delivery has been tried before.
pub fn is_retry(due: &Due) -> bool {
    due.was_due.is_some() && due.tries > 0
}

/// Where a delivery stands on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Owed; not before `due` if there is one.
    Owed {
        /// Not before.
        due: Option<Timestamp>,
        /// Tries used.
        tries: u32,
    },
    /// Nothing more is owed.
    Settled,
    /// Among the dead letters.
    Dead,
    /// An operator purged it, or moved it to another endpoint.
    Gone,
}

/// What the running daemon does with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Busy {
    No,
    InFlight,
    /// The request has ended; what became of it is not on disk.
    Ended,
}

/// One delivery.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// Where it stands on disk.
    pub place: Place,
    busy: Busy,
    /// How often the endpoint took it.
    pub taken: u32,
    /// It may be settled without having been taken: expired, or best effort.
    pub excused: bool,
    /// What was accepted later in its line waits for it. Not so while it waits for the first try of its own time, or
    /// came back from the dead or from another endpoint.
    pub holds_up: bool,
    /// It was tried before its lane was to keep this order, maybe out of it.
    pub loose: bool,
    /// By which replay it came back from the dead, while it has not been tried since.
    pub replay: Option<u64>,
}

/// The deliveries of one lane that wait: on disk and owed, and not in the daemon's hands.
#[derive(Debug, Default)]
pub struct Waiting {
    /// Those that can go at once.
    fresh: BTreeSet<Seq>,
    /// Those that were never tried and can go later, by when.
    later: BTreeSet<(Timestamp, Seq)>,
    /// Those that have been tried, by when they can go again.
    again: BTreeSet<(Timestamp, Seq)>,
    /// Those in the daemon's hands: in a request, or its end is not on disk.
    pub busy: BTreeSet<Seq>,
    /// Requests under way.
    pub requests: u32,
    /// Those of them that are retries.
    pub retries: u32,
    /// Deliveries that go in them.
    pub in_flight: u32,
    /// Deliveries whose request has ended, which is not on disk.
    pub ended: u32,
}

impl Waiting {
    /// When the first of those that were never tried can go.
    pub fn new_due(&self) -> Option<Timestamp> {
        let later = self.later.first().map(|(due, _)| *due);
        if self.fresh.is_empty() {
            later
        } else {
            Some(Timestamp(0))
        }
    }

    /// When the first of those that were tried can go again.
    pub fn again_due(&self) -> Option<Timestamp> {
        self.again.first().map(|(due, _)| *due)
    }

    /// How many of those that were tried can go again at `wall`.
    pub fn again_at(&self, wall: Timestamp) -> usize {
        self.again.range(..=(wall, Seq(u64::MAX))).count()
    }
}

/// Everything that is known.
#[derive(Debug, Default)]
pub struct Ledger {
    records: FxHashMap<DeliveryId, Record>,
    lanes: FxHashMap<LaneId, Waiting>,
    /// Deliveries owed.
    pub owed: usize,
}

impl Ledger {
    /// The deliveries of a lane that wait.
    pub fn waiting(&mut self, lane: LaneId) -> &Waiting {
        self.lanes.entry(lane).or_default()
    }

    /// Requests of a lane under way that are retries.
    pub fn retries(&self, lane: LaneId) -> u32 {
        self.lanes.get(&lane).map_or(0, |waiting| waiting.retries)
    }

    /// What waits for its next try since it failed with others, as the store keeps that: due at once, after as many tries.
    pub fn company(&self, lane: LaneId, due: Timestamp, tries: u32) -> Vec<Seq> {
        let Some(waiting) = self.lanes.get(&lane) else {
            return Vec::new();
        };
        let due = waiting.again.range((due, Seq(0))..=(due, Seq(u64::MAX)));
        let as_often = |seq: &Seq| {
            let record = self.records.get(&DeliveryId { lane, seq: *seq });
            record.is_some_and(
                |record| matches!(record.place, Place::Owed { tries: used, .. } if used == tries),
            )
        };
        due.map(|(_, seq)| *seq).filter(as_often).collect()
    }

    /// Every delivery there ever was.
    pub fn records(&self) -> impl Iterator<Item = (&DeliveryId, &Record)> {
        self.records.iter()
    }

    /// Whether it is known at all.
    pub fn knows(&self, id: DeliveryId) -> bool {
        self.records.contains_key(&id)
    }

    /// Whether something owed by a lane has failed a try.
    pub fn has_tried(&self, lane: LaneId) -> bool {
        let tried = |place| matches!(place, Place::Owed { tries: 1.., .. });
        self.records
            .iter()
            .any(|(id, record)| id.lane == lane && tried(record.place))
    }

    /// Everything a lane is owed and that is not in the daemon's hands, in the order of acceptance: not before when it
    /// goes, and whether it holds up its line.
    pub fn line(&self, lane: LaneId) -> BTreeMap<Seq, (Timestamp, bool)> {
        let Some(waiting) = self.lanes.get(&lane) else {
            return BTreeMap::new();
        };
        let fresh = waiting.fresh.iter().map(|seq| (*seq, Timestamp(0)));
        let put_off = waiting.later.iter().chain(&waiting.again);
        let all = fresh.chain(put_off.map(|(due, seq)| (*seq, *due)));
        all.map(|(seq, due)| {
            let record = self.records.get(&DeliveryId { lane, seq });
            (seq, (due, record.is_some_and(|record| record.holds_up)))
        })
        .collect()
    }

    /// Whether nothing more is to come of it.
    pub fn is_over(&self, id: DeliveryId) -> bool {
        let place = self.records.get(&id).map(|record| record.place);
        matches!(place, Some(Place::Settled | Place::Gone))
    }

    /// A delivery is on disk.
    pub fn accepted(&mut self, id: DeliveryId, due: Option<Timestamp>) {
        let record = Record {
            place: Place::Settled,
            busy: Busy::No,
            taken: 0,
            excused: false,
            holds_up: due.is_none(),
            loose: false,
            replay: None,
        };
        self.records.insert(id, record);
        self.move_to(id, Place::Owed { due, tries: 0 });
    }

    /// A lane keeps another order from now on.
    pub fn reordered(&mut self, lane: LaneId) {
        for (id, record) in &mut self.records {
            // Some errors use no try, so the count does not tell.
            let again = record.holds_up && matches!(record.place, Place::Owed { due: Some(_), .. });
            let tried = record.busy != Busy::No || again;
            record.loose |= id.lane == lane && tried;
            record.replay = record.replay.filter(|_| id.lane != lane);
        }
    }

    /// Whether it need not wait for what was accepted before it.
    pub fn is_loose(&self, id: DeliveryId) -> bool {
        self.records.get(&id).is_some_and(|record| record.loose)
    }

    /// A dead letter is owed once more, by a replay with that number.
    pub fn revived(&mut self, id: DeliveryId, due: Timestamp, replay: u64) {
        let due = Some(due);
        self.change(id, |record| {
            record.place = Place::Owed { due, tries: 0 };
            record.holds_up = false;
            record.replay = Some(replay);
        });
    }

    /// By which replay a delivery came back from the dead.
    pub fn replay(&self, id: DeliveryId) -> Option<u64> {
        self.records.get(&id).and_then(|record| record.replay)
    }

    /// What another lane was owed is owed here.
    pub fn moved_in(&mut self, id: DeliveryId, due: Option<Timestamp>) {
        self.accepted(id, due);
        self.change(id, |record| record.holds_up = false);
    }

    /// The daemon starts a request.
    pub fn started(&mut self, job: &Job) -> Result<(), String> {
        let lane = self.lanes.entry(job.lane).or_default();
        lane.requests += 1;
        lane.retries += u32::from(job.batch.iter().any(is_retry));
        job.batch.iter().try_for_each(|due| {
            let (lane, seq) = (job.lane, due.seq);
            self.started_one(DeliveryId { lane, seq }, due)
        })
    }

    fn started_one(&mut self, id: DeliveryId, due: &Due) -> Result<(), String> {
        let Some(record) = self.records.get(&id).copied() else {
            return Err(format!("{id:?} is sent, which nobody accepted"));
        };
        if record.busy != Busy::No {
            return Err(format!("{id:?} is sent again while it is {:?}", record.busy));
        }
        let Place::Owed { tries, .. } = record.place else {
            return Err(format!("{id:?} is sent although it is {:?}", record.place));
        };
        if due.tries != tries {
            return Err(format!("{id:?} has used {tries} tries, not {}", due.tries));
        }
        self.change(id, |record| record.busy = Busy::InFlight);
        Ok(())
    }

    /// Its endpoint took it.
    pub fn taken(&mut self, id: DeliveryId) {
        self.change(id, |record| record.taken += 1);
    }

    /// It may be settled though nobody took it.
    pub fn excuse(&mut self, id: DeliveryId) {
        self.change(id, |record| record.excused = true);
    }

    /// A request has ended.
    pub fn request_ended(&mut self, lane: LaneId, retry: bool) {
        let lane = self.lanes.entry(lane).or_default();
        lane.requests -= 1;
        lane.retries -= u32::from(retry);
    }

    /// The request of a delivery has ended; `decided`: something is to be written.
    pub fn ended(&mut self, id: DeliveryId, decided: bool) {
        self.change(id, |record| {
            record.busy = if decided { Busy::Ended } else { Busy::No };
        });
    }

    /// The end of a try is on disk.
    pub fn settled(&mut self, settle: &Settle) {
        self.change(settle.id, |record| record.busy = Busy::No);
        let owed = |record: &Record| matches!(record.place, Place::Owed { .. });
        if self.records.get(&settle.id).is_some_and(owed) {
            let place = match &settle.to {
                SettleTo::Settled => Place::Settled,
                SettleTo::Dead(_) => Place::Dead,
                SettleTo::Later(deferral) => Place::Owed {
                    due: Some(deferral.due),
                    tries: deferral.tries,
                },
            };
            self.change(settle.id, |record| {
                record.place = place;
                record.holds_up = true;
                record.replay = None;
            });
        }
    }

    /// Its due time has been changed, by a flush.
    pub fn due_at(&mut self, id: DeliveryId, now: Timestamp) {
        if let Some(Record {
            place: Place::Owed { tries, .. },
            ..
        }) = self.records.get(&id).copied()
        {
            self.move_to(
                id,
                Place::Owed {
                    due: Some(now),
                    tries,
                },
            );
        }
    }

    /// A delivery stands somewhere else on disk now.
    pub fn move_to(&mut self, id: DeliveryId, place: Place) {
        self.change(id, |record| record.place = place);
    }

    /// The daemon is gone, and everything in its hands with it.
    pub fn crashed(&mut self) {
        let busy: Vec<_> = self
            .records
            .iter()
            .filter(|(_, record)| record.busy != Busy::No)
            .map(|(id, _)| *id)
            .collect();
        for id in busy {
            self.change(id, |record| record.busy = Busy::No);
        }
        for lane in self.lanes.values_mut() {
            (lane.requests, lane.retries) = (0, 0);
        }
    }

    /// Changes a record and keeps the counts in step with it.
    fn change(&mut self, id: DeliveryId, change: impl FnOnce(&mut Record)) {
        let Some(record) = self.records.get_mut(&id) else {
            return;
        };
        let before = *record;
        change(record);
        let after = *record;
        let lane = self.lanes.entry(id.lane).or_default();
        lane.count(id.seq, &before, false);
        lane.count(id.seq, &after, true);
        let owed = |record: &Record| usize::from(matches!(record.place, Place::Owed { .. }));
        self.owed = self.owed + owed(&after) - owed(&before);
    }
}

impl Waiting {
    /// Adds what a record stands for, or takes it away.
    fn count(&mut self, seq: Seq, record: &Record, add: bool) {
        let step = |counter: &mut u32, by: bool| match (by, add) {
            (false, _) => {}
            (true, true) => *counter += 1,
            (true, false) => *counter = counter.saturating_sub(1),
        };
        step(&mut self.in_flight, record.busy == Busy::InFlight);
        step(&mut self.ended, record.busy == Busy::Ended);
        match (record.busy, add) {
            (Busy::No, _) => {}
            (_, true) => drop(self.busy.insert(seq)),
            (_, false) => drop(self.busy.remove(&seq)),
        }
        match record.place {
            Place::Owed {
                due: Some(due),
                tries,
            } if record.busy == Busy::No => {
                let put_off = if tries > 0 {
                    &mut self.again
                } else {
                    &mut self.later
                };
                if add {
                    put_off.insert((due, seq));
                } else {
                    put_off.remove(&(due, seq));
                }
            }
            Place::Owed { due: None, .. } if record.busy == Busy::No => {
                if add {
                    self.fresh.insert(seq);
                } else {
                    self.fresh.remove(&seq);
                }
            }
            _ => {}
        }
    }
}
