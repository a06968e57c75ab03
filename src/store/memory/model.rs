//! The queue's rules over ordinary maps: what every store has to answer, with nothing in the way. Each verb
//! looks at everything it needs, however long that takes, so that it can be checked by reading. Knows no
//! lock, no fault and no disk.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use crate::domain::age::Ages;
use crate::domain::event::{Event, Seq};
use crate::domain::time::Timestamp;
use crate::store::bounds;
use crate::store::{
    AcceptGroup, Accepted, AttemptFilter, AttemptPage, DeadEvidence, DeadFilter, DeadLetter, DeadPage,
    Deferral, DeliveryId, DeliveryState, Due, DueAnswer, DueQuery, FlushCursor, Flushed, FoundEvent, LaneId,
    LaneTotals, LoggedAttempt, NewAttempt, Pause, Settle, SettleTo,
};

/// How long tries stay in the log.
const ATTEMPTS_KEEP: Duration = Duration::from_secs(7 * 86_400);
/// Tries in the log; the oldest go first.
const ATTEMPTS_MAX: usize = 100_000;

/// Where a delivery that still exists stands.
#[derive(Clone, Debug)]
enum Place {
    /// Owed, never tried, to be sent at once.
    Fresh,
    /// Owed, not before `due`. `tried` is `None` when no try has failed since it was accepted or revived.
    Waiting { due: Timestamp, tried: Option<Deferral> },
    /// A dead letter.
    Dead(Box<DeadEvidence>),
}

impl Place {
    /// Where a delivery begins that is not to be made before `deliver_at`.
    fn new(deliver_at: Option<Timestamp>, now: Timestamp) -> Self {
        match deliver_at {
            Some(due) if due > now => Self::Waiting { due, tried: None },
            _ => Self::Fresh,
        }
    }
}

/// One endpoint's queue; its place in the list is its [`LaneId`].
#[derive(Clone, Debug)]
struct Lane {
    name: Box<str>,
    paused: Option<Pause>,
}

/// Everything that would be on disk.
#[derive(Clone, Debug)]
pub(super) struct Model {
    dedup_window: Duration,
    dedup_ids_max: usize,
    lanes: Vec<Lane>,
    /// The place the next event gets; never goes back.
    next: Seq,
    /// Events with at least one delivery left.
    events: BTreeMap<Seq, Event>,
    /// Every delivery that is not settled.
    deliveries: BTreeMap<DeliveryId, Place>,
    /// When each (source, id) was accepted.
    remembered: HashMap<(Box<str>, Box<str>), (Timestamp, Seq)>,
    /// The log of attempts, oldest first.
    attempts: VecDeque<LoggedAttempt>,
    /// The number of the next one in the log.
    attempt_next: u64,
}

impl Model {
    pub(super) fn new(dedup_window: Duration, dedup_ids_max: usize) -> Self {
        Self {
            dedup_window,
            dedup_ids_max,
            lanes: Vec::new(),
            next: Seq(1),
            events: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            remembered: HashMap::new(),
            attempts: VecDeque::new(),
            attempt_next: 1,
        }
    }

    pub(super) fn lane(&mut self, name: &str) -> LaneId {
        let index = self
            .lanes
            .iter()
            .position(|lane| *lane.name == *name)
            .unwrap_or_else(|| {
                self.lanes.push(Lane {
                    name: name.into(),
                    paused: None,
                });
                self.lanes.len() - 1
            });
        LaneId(u32::try_from(index).unwrap_or(u32::MAX))
    }

    pub(super) fn pause(&mut self, lane: LaneId, pause: Option<Pause>) {
        if let Some(lane) = self.lanes.get_mut(lane.0 as usize) {
            lane.paused = pause.map(bounds::pause);
        }
    }

    pub(super) fn pauses(&self) -> Vec<(LaneId, Pause)> {
        let lanes = (0..).map(LaneId).zip(&self.lanes);
        lanes
            .filter_map(|(id, lane)| Some((id, lane.paused.clone()?)))
            .collect()
    }

    pub(super) fn log_attempt(&mut self, new: NewAttempt) {
        let lane = self.lanes.get(new.lane.0 as usize);
        self.attempts.push_back(LoggedAttempt {
            number: self.attempt_next,
            endpoint: lane.map(|lane| lane.name.clone()).unwrap_or_default(),
            entry: *bounds::logged(new.entry),
        });
        self.attempt_next += 1;
        if self.attempts.len() > ATTEMPTS_MAX {
            self.attempts.pop_front();
        }
    }

    pub(super) fn attempts(&self, filter: &AttemptFilter, before: Option<u64>, limit: usize) -> AttemptPage {
        let before = before.unwrap_or(u64::MAX);
        let mut found = self
            .attempts
            .iter()
            .rev()
            .filter(|logged| logged.number < before && filter.matches(logged));
        let attempts: Vec<LoggedAttempt> = found.by_ref().take(limit).cloned().collect();
        AttemptPage {
            attempts,
            next: found.next().map(|logged| logged.number + 1),
        }
    }

    pub(super) fn lanes(&self) -> Vec<LaneTotals> {
        (0..)
            .map(LaneId)
            .zip(&self.lanes)
            .map(|(id, lane)| self.totals(id, lane))
            .collect()
    }

    fn totals(&self, id: LaneId, lane: &Lane) -> LaneTotals {
        let mut totals = LaneTotals {
            lane: id,
            name: lane.name.clone(),
            pending: 0,
            deferred: 0,
            dead: 0,
            oldest_pending: None,
            deferred_next: None,
            paused: lane.paused.clone(),
        };
        for (delivery, place) in self.of_lane(id) {
            match place {
                Place::Dead(_) => {
                    totals.dead += 1;
                    continue;
                }
                Place::Waiting { due, .. } => {
                    totals.deferred += 1;
                    totals.deferred_next = Some(totals.deferred_next.map_or(*due, |next| next.min(*due)));
                }
                Place::Fresh => {}
            }
            totals.pending += 1;
            let accepted = self.events.get(&delivery.seq).map(|event| event.head.accepted);
            totals.oldest_pending = totals.oldest_pending.into_iter().chain(accepted).min();
        }
        totals
    }

    fn of_lane(&self, lane: LaneId) -> impl Iterator<Item = (&DeliveryId, &Place)> {
        let all = DeliveryId { lane, seq: Seq(0) }..=DeliveryId {
            lane,
            seq: Seq(u64::MAX),
        };
        self.deliveries.range(all)
    }

    /// Takes in one group whole.
    pub(super) fn accept(&mut self, group: AcceptGroup, now: Timestamp) -> Vec<Accepted> {
        let mut answers = Vec::with_capacity(group.events.len());
        for new in group.events {
            let key = (new.event.head.source.clone(), new.event.head.id.clone());
            if self
                .remembered
                .get(&key)
                .is_some_and(|(at, _)| now.since(*at) < self.dedup_window)
            {
                answers.push(Accepted::Duplicate);
                continue;
            }
            let seq = self.next;
            self.next = Seq(seq.0 + 1);
            self.remembered.insert(key, (now, seq));
            for lane in new.lanes.iter() {
                let place = Place::new(new.event.head.deliver_at, now);
                self.deliveries.insert(DeliveryId { lane: *lane, seq }, place);
            }
            self.events.insert(seq, new.event);
            answers.push(Accepted::New(seq));
        }
        self.forget_oldest_ids();
        answers
    }

    fn forget_oldest_ids(&mut self) {
        let Some(too_many @ 1..) = self.remembered.len().checked_sub(self.dedup_ids_max) else {
            return;
        };
        let mut by_age: Vec<Seq> = self.remembered.values().map(|(_, seq)| *seq).collect();
        by_age.sort_unstable();
        let newest_forgotten = by_age[too_many - 1];
        self.remembered.retain(|_, (_, seq)| *seq > newest_forgotten);
    }

    /// Moves a delivery that is owed; any other stays as it is.
    pub(super) fn settle(&mut self, settle: Settle) {
        let Some(place @ (Place::Fresh | Place::Waiting { .. })) = self.deliveries.get_mut(&settle.id) else {
            return;
        };
        match bounds::settle_to(settle.to) {
            SettleTo::Later(tried) => {
                *place = Place::Waiting {
                    due: tried.due,
                    tried: Some(tried),
                }
            }
            SettleTo::Dead(evidence) => *place = Place::Dead(evidence),
            SettleTo::Settled => self.remove(settle.id),
        }
    }

    /// Takes a delivery away, and its event with the last one.
    fn remove(&mut self, id: DeliveryId) {
        self.deliveries.remove(&id);
        let mut lanes = (0..).map(LaneId).take(self.lanes.len());
        if !lanes.any(|lane| self.deliveries.contains_key(&DeliveryId { lane, seq: id.seq })) {
            self.events.remove(&id.seq);
        }
    }

    pub(super) fn due(&self, lane: LaneId, query: &DueQuery) -> DueAnswer {
        let mut answer = DueAnswer {
            fresh_next: self.next.max(query.fresh_from),
            ..DueAnswer::default()
        };
        let mut waiting = Vec::new();
        let mut tried_ones = Vec::new();
        for (DeliveryId { seq, .. }, place) in self.of_lane(lane) {
            if query.held.contains(seq) {
                continue;
            }
            match place {
                Place::Fresh if *seq >= query.fresh_from && !answer.fresh_more => {
                    if answer.fresh.len() < query.fresh_max {
                        answer.fresh.push(Due {
                            bytes: self.bytes(*seq),
                            ..Due::fresh(*seq)
                        });
                    } else {
                        answer.fresh_more = true;
                        answer.fresh_next = *seq;
                    }
                }
                Place::Waiting { due, tried } => {
                    if let Some(tried) = tried {
                        tried_ones.push(Due::deferred(*seq, *due, tried.tries));
                    }
                    waiting.push((*due, *seq, tried.as_ref().map_or(0, |t| t.tries)))
                }
                Place::Fresh | Place::Dead(_) => {}
            }
        }
        waiting.sort_unstable();
        let ready = waiting
            .iter()
            .take_while(|(due, ..)| *due <= query.now)
            .count()
            .min(query.deferred_max);
        tried_ones.sort_by_key(|due| (due.was_due, due.seq));
        tried_ones.truncate(query.tried_max);
        answer.tried = tried_ones;
        answer.deferred_next = waiting.get(ready).map(|(due, ..)| *due);
        let given = waiting.into_iter().take(ready);
        answer.deferred = given
            .map(|(due, seq, tries)| Due::deferred(seq, due, tries))
            .collect();
        answer
    }

    fn bytes(&self, seq: Seq) -> u32 {
        let bytes = self.events.get(&seq).map_or(0, |event| event.json.len());
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }

    pub(super) fn event(&self, seq: Seq) -> Option<&Event> {
        self.events.get(&seq)
    }

    pub(super) fn deferral(&self, id: DeliveryId, was_due: Timestamp) -> Option<Deferral> {
        match self.deliveries.get(&id) {
            Some(Place::Waiting { due, tried }) if *due == was_due => tried.clone(),
            _ => None,
        }
    }

    /// The deferred deliveries of a lane, in order of due time.
    fn waiting(&self, lane: LaneId) -> Vec<(Timestamp, Seq)> {
        let due = |(id, place): (&DeliveryId, &Place)| match place {
            Place::Waiting { due, .. } => Some((*due, id.seq)),
            Place::Fresh | Place::Dead(_) => None,
        };
        let mut waiting: Vec<_> = self.of_lane(lane).filter_map(due).collect();
        waiting.sort_unstable();
        waiting
    }

    /// Until when an event is not to be delivered to anyone.
    fn delayed(&self, seq: Seq, now: Timestamp) -> Option<Timestamp> {
        self.events.get(&seq)?.head.deliver_at.filter(|at| *at > now)
    }

    pub(super) fn flush_lane(
        &mut self,
        lane: LaneId,
        now: Timestamp,
        from: Option<FlushCursor>,
        limit: usize,
    ) -> Flushed {
        let mut waiting = self.waiting(lane);
        let from = from.unwrap_or(FlushCursor {
            due: now,
            seq: Seq(u64::MAX),
            left: waiting.len() as u64,
        });
        waiting.retain(|place| *place > (from.due, from.seq));
        waiting.truncate(limit.min(from.left as usize));
        let left = from.left - waiting.len() as u64;
        let mut flushed = Flushed::default();
        if let Some((due, seq)) = waiting.last().copied()
            && waiting.len() == limit
            && left > 0
        {
            flushed.next = Some(FlushCursor { due, seq, left });
        }
        for (_, seq) in waiting {
            let delayed = self.delayed(seq, now).is_some();
            match self.deliveries.get_mut(&DeliveryId { lane, seq }) {
                Some(Place::Waiting { tried: None, .. }) if delayed => {}
                Some(Place::Waiting { due, tried }) => {
                    *due = now;
                    tried.iter_mut().for_each(|tried| tried.due = now);
                    flushed.moved += 1;
                }
                _ => {}
            }
        }
        flushed
    }

    pub(super) fn dead(&self, filter: &DeadFilter, after: Option<DeliveryId>, limit: usize) -> DeadPage {
        let letters = self
            .deliveries
            .iter()
            .filter_map(|(id, place)| letter(*id, place));
        let mut rest = letters
            .filter(|l| after.is_none_or(|after| l.id > after) && filter.matches(l))
            .peekable();
        let letters: Vec<DeadLetter> = rest.by_ref().take(limit).collect();
        let next = rest.peek().and(letters.last().map(|l| l.id).or(after));
        DeadPage { letters, next }
    }

    pub(super) fn dead_letter(&self, id: DeliveryId) -> Option<DeadLetter> {
        self.deliveries.get(&id).and_then(|place| letter(id, place))
    }

    pub(super) fn revive(&mut self, ids: &[(DeliveryId, Timestamp)]) -> Vec<DeliveryId> {
        let mut revived = Vec::new();
        for (id, due) in ids {
            if let Some(place @ Place::Dead(_)) = self.deliveries.get_mut(id) {
                *place = Place::Waiting {
                    due: *due,
                    tried: None,
                };
                revived.push(*id);
            }
        }
        revived
    }

    pub(super) fn discard(&mut self, ids: &[DeliveryId]) -> u64 {
        let mut discarded = 0;
        for id in ids {
            if let Some(Place::Dead(_)) = self.deliveries.get(id) {
                self.remove(*id);
                discarded += 1;
            }
        }
        discarded
    }

    /// A delayed event stays delayed, unless its time has come in `from`, if only by a flush.
    pub(super) fn reassign(&mut self, from: LaneId, to: LaneId, limit: usize, now: Timestamp) -> u64 {
        if from == to || to.0 as usize >= self.lanes.len() {
            return 0;
        }
        let fresh = self
            .of_lane(from)
            .filter(|(_, place)| matches!(place, Place::Fresh));
        let mut moving: Vec<_> = fresh.map(|(id, _)| (now, id.seq)).collect();
        moving.extend(self.waiting(from));
        moving.truncate(limit);
        for (due, seq) in &moving {
            let delayed = self.delayed(*seq, now).filter(|_| *due > now);
            let place = Place::new(delayed, now);
            self.deliveries
                .entry(DeliveryId { lane: to, seq: *seq })
                .or_insert(place);
            self.remove(DeliveryId {
                lane: from,
                seq: *seq,
            });
        }
        moving.len() as u64
    }

    pub(super) fn find(&self, event_id: &str, limit: usize) -> Vec<FoundEvent> {
        let newest_first = self
            .events
            .iter()
            .rev()
            .filter(|(_, event)| *event.head.id == *event_id);
        newest_first
            .take(limit)
            .map(|(seq, event)| FoundEvent {
                seq: *seq,
                event: event.clone(),
                deliveries: self
                    .deliveries
                    .iter()
                    .filter(|(id, _)| id.seq == *seq)
                    .map(|(id, place)| (id.lane, state(place)))
                    .collect(),
            })
            .collect()
    }

    /// Every event in order of acceptance.
    pub(super) fn all(&self) -> Vec<FoundEvent> {
        let mut deliveries: HashMap<Seq, Vec<(LaneId, DeliveryState)>> = HashMap::new();
        for (id, place) in &self.deliveries {
            deliveries
                .entry(id.seq)
                .or_default()
                .push((id.lane, state(place)));
        }
        let found = self.events.iter().map(|(seq, event)| FoundEvent {
            seq: *seq,
            event: event.clone(),
            deliveries: deliveries.remove(seq).unwrap_or_default(),
        });
        found.collect()
    }

    pub(super) fn ages(&self, now: Timestamp) -> Vec<(LaneId, Ages)> {
        let mut ages: BTreeMap<LaneId, Ages> = BTreeMap::new();
        for (id, place) in &self.deliveries {
            if let (Some(event), false) = (self.events.get(&id.seq), matches!(place, Place::Dead(_))) {
                let of_lane = ages.entry(id.lane).or_default();
                of_lane.add(now.since(event.head.accepted), 1);
            }
        }
        ages.into_iter().collect()
    }

    pub(super) fn maintain(&mut self, now: Timestamp, dead_before: Timestamp) {
        self.remembered
            .retain(|_, (at, _)| now.since(*at) < self.dedup_window);
        let expired = |place: &Place| matches!(place, Place::Dead(evidence) if evidence.since < dead_before);
        let ids: Vec<DeliveryId> = self
            .deliveries
            .iter()
            .filter(|(_, place)| expired(place))
            .map(|(id, _)| *id)
            .collect();
        self.discard(&ids);
        let kept = |logged: &LoggedAttempt| now.since(logged.entry.attempt.started) <= ATTEMPTS_KEEP;
        self.attempts.retain(kept);
    }

    /// Events kept, and their bytes.
    pub(super) fn size(&self) -> (u64, u64) {
        let bytes = self.events.values().map(|event| event.json.len() as u64).sum();
        (self.events.len() as u64, bytes)
    }

    /// Ids remembered, and how far back they reach.
    pub(super) fn remembered(&self) -> (u64, Option<Timestamp>) {
        (
            self.remembered.len() as u64,
            self.remembered.values().map(|(at, _)| *at).min(),
        )
    }
}

fn letter(id: DeliveryId, place: &Place) -> Option<DeadLetter> {
    match place {
        Place::Dead(evidence) => Some(DeadLetter {
            id,
            evidence: (**evidence).clone(),
        }),
        Place::Fresh | Place::Waiting { .. } => None,
    }
}

fn state(place: &Place) -> DeliveryState {
    match place {
        Place::Waiting {
            tried: Some(tried), ..
        } => DeliveryState::Deferred(tried.clone()),
        Place::Fresh | Place::Waiting { tried: None, .. } => DeliveryState::Fresh,
        Place::Dead(evidence) => DeliveryState::Dead(evidence.clone()),
    }
}
