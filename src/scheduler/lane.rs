//! One endpoint's lane: its state, and what may leave now.
//!
//! It puts the parts together that each know one thing (window, breaker, limit) and makes every move of
//! the state through one table. It knows nothing of other lanes.

use std::time::Duration;

use crate::domain::endpoint::{OrderKey, OrderPolicy};
use crate::domain::event::Seq;
use crate::domain::time::{Now, Timestamp};
use crate::store::{Due, DueAnswer, DueQuery};

use super::backlog::{Appetite, Backlog, Terms};
use super::breaker::{Breaker, Verdict};
use super::concurrency::{End, Limit};
use super::ordered::Ordered;
use super::rate::Limiter;
use super::window::Window;
use super::{Job, LaneConfig, LaneState, LaneView, Seen};

impl LaneState {
    /// The table of legal moves. A pause always ends in ready, and from there the lane goes where the
    /// breaker or a `Retry-After` still holds it; only ready may reach every other state.
    ///
    /// ```text
    ///                  ┌───────────── success ────────────┐
    ///                  ▼                                  │
    ///  suspended ◄──► ready ────────► tripped ────────► probing
    ///                  ▲                 ▲                │
    ///                  ▼                 └─── failure ────┘
    ///                paused ◄── from every state
    /// ```
    #[must_use]
    pub fn may_become(&self, next: &Self) -> bool {
        use LaneState::{Paused, Probing, Ready, Suspended, Tripped};
        match self {
            Ready => !matches!(next, Ready),
            Suspended { .. } => matches!(next, Ready | Suspended { .. } | Paused { .. }),
            Tripped { .. } => matches!(next, Probing | Paused { .. }),
            Probing => matches!(next, Ready | Tripped { .. } | Paused { .. }),
            Paused { .. } => matches!(next, Ready | Paused { .. }),
        }
    }

    /// Whether requests leave in this state.
    #[must_use]
    pub fn sends(&self) -> bool {
        matches!(self, Self::Ready | Self::Probing)
    }
}

/// One endpoint's lane.
#[derive(Debug)]
pub(super) struct Lane {
    config: LaneConfig,
    state: LaneState,
    since: Timestamp,
    /// Until when a suspension or an open breaker holds it. Monotonic, so that a jump of the clock can't
    /// stick a lane; outlives a pause.
    rest_until_mono_ms: u64,
    /// Set while an operator or the endpoint's own answer pauses it; inside, the end of the pause.
    pause: Option<Option<Timestamp>>,
    /// No configuration names it any more; it lives until its last request is durable.
    retired: bool,
    backlog: Box<dyn Backlog>,
    /// Another order is wanted: nothing leaves until all that is in hand is over, then the backlog is made anew.
    reordering: bool,
    window_max: usize,
    breaker: Breaker,
    limit: Limit,
    rate: Limiter,
    /// Bytes of batches that may be under way.
    batch_bytes_max: u64,
    /// Whether the last retry to end was answered well.
    retries_flow: bool,
    /// Rises when the breaker trips: what began before teaches nothing afterwards.
    era: u32,
    probe: Option<Seq>,
}

impl Lane {
    /// A lane that has to ask the store for its backlog; ready, with one request at a time if it is doubtful, or paused
    /// if the endpoint is disabled.
    pub(super) fn new(config: LaneConfig, window_max: usize, now: Now) -> Self {
        let mut lane = Self {
            state: LaneState::Ready,
            since: now.wall,
            rest_until_mono_ms: 0,
            pause: None,
            retired: false,
            backlog: backlog(&config, window_max),
            reordering: false,
            window_max,
            breaker: Breaker::new(config.breaker),
            limit: Limit::new(config.concurrency),
            rate: Limiter::new(config.rate),
            batch_bytes_max: u64::MAX,
            retries_flow: false,
            era: 0,
            probe: None,
            config,
        };
        if lane.config.doubtful {
            lane.limit.restart();
        }
        if let Some(until) = lane.config.rests_until.filter(|until| *until > now.wall) {
            lane.rest_until_mono_ms = now.mono_ms.saturating_add(until.0 - now.wall.0);
            lane.become_state(LaneState::Suspended { until }, now);
        }
        lane.apply_pause(now);
        lane
    }

    /// Adopts the configuration, and is in force again if it was retired.
    pub(super) fn configure(&mut self, config: LaneConfig, batch_bytes_max: u64, now: Now) {
        self.breaker.configure(config.breaker);
        self.limit.configure(config.concurrency);
        self.rate.configure(config.rate);
        self.backlog.configure(config.batch.clone());
        self.batch_bytes_max = batch_bytes_max;
        if (config.order, config.keyed) != (self.config.order, self.config.keyed) {
            self.backlog.release();
            self.reordering = true;
        }
        self.config = config;
        if std::mem::take(&mut self.retired) {
            self.backlog.revive(Seq(0), now);
        }
        self.apply_pause(now);
        self.reorder();
    }

    /// Nothing leaves any more; what is under way ends.
    pub(super) fn retire(&mut self, now: Now) {
        self.retired = true;
        self.apply_pause(now);
    }

    /// Retired, and nothing under way any more.
    pub(super) fn is_over(&self) -> bool {
        self.retired && self.backlog.is_idle()
    }

    /// Requests under way.
    pub(super) fn in_flight(&self) -> u32 {
        self.backlog.hand().in_flight()
    }

    /// A delivery is on disk, due at `due` or at once.
    pub(super) fn accepted(&mut self, seq: Seq, due: Option<Timestamp>, bytes: u32, now: Now) {
        let fresh = Due {
            bytes,
            ..Due::fresh(seq)
        };
        match due {
            None => self.backlog.announce(fresh, self.takes_in(), now),
            Some(due) => self.backlog.announce_deferred(due),
        }
    }

    /// The store's answer to this lane's question.
    pub(super) fn refilled(&mut self, answer: &DueAnswer, keys: &[OrderKey], now: Now) {
        self.backlog.answered(answer, keys, self.takes_in(), now);
        self.reorder();
    }

    /// The store could not answer this lane's question.
    pub(super) fn refill_failed(&mut self, now: Now) {
        self.backlog.unanswered(now);
        self.reorder();
    }

    /// What became of a delivery is durable.
    pub(super) fn committed(&mut self, seq: Seq, deferred: Option<(Timestamp, u32)>, now: Now) {
        self.backlog.committed(seq, deferred, now);
        self.reorder();
    }

    /// Deliveries from `from` on are pending again.
    pub(super) fn revived(&mut self, from: Seq, now: Now) {
        self.backlog.revive(from, now);
    }

    /// A request has ended: frees its slot and learns from it.
    pub(super) fn finished(&mut self, batch: &[Seq], seen: &Seen, now: Now) {
        let in_flight = self.in_flight();
        let ended = batch.iter().filter_map(|seq| self.backlog.finish(*seq));
        let Some(flight) = ended.last() else {
            return;
        };
        let verdict = Verdict::of(seen);
        if flight.retry && verdict != Verdict::Unseen {
            self.retries_flow = verdict == Verdict::Alive;
        }
        if self.probe.is_some_and(|probe| batch.contains(&probe)) {
            self.probe = None;
            self.probed(verdict, seen, now);
        } else if flight.era == self.era {
            let end = End {
                took: seen.took,
                answered: verdict == Verdict::Alive,
                overloaded: seen.overloaded,
                in_flight,
            };
            self.limit.ended(&end, now.mono_ms);
            // A suspended or paused lane only counts; the next failure after its rest trips it.
            if self.breaker.record(verdict, now.mono_ms) && self.state == LaneState::Ready {
                self.trip(seen.retry_after, now);
            } else if let Some(wait) = seen.retry_after {
                self.suspend(wait, now);
            }
        }
    }

    /// A probe has ended. A busy endpoint can't take the backlog yet, so that counts as a failure here; a
    /// probe that never left is followed by another.
    fn probed(&mut self, verdict: Verdict, seen: &Seen, now: Now) {
        match verdict {
            Verdict::Alive => {
                self.breaker.close();
                self.limit.restart();
                self.rest_until_mono_ms = now.mono_ms;
                if self.state == LaneState::Probing {
                    self.become_state(LaneState::Ready, now);
                }
            }
            Verdict::Failed | Verdict::Busy => self.trip(seen.retry_after, now),
            Verdict::Unseen => {}
        }
    }

    /// An operator wants it tried now.
    pub(super) fn flushed(&mut self, now: Now) {
        self.backlog.flush(now);
        self.rest_until_mono_ms = now.mono_ms;
        self.advance(now);
    }

    /// Paused until `until`, or until resumed. What waits goes back to the store.
    pub(super) fn paused(&mut self, until: Option<Timestamp>, now: Now) {
        self.pause = Some(until);
        self.apply_pause(now);
    }

    /// The pause is over; a disabled endpoint stays parked.
    pub(super) fn resumed(&mut self, now: Now) {
        self.pause = None;
        self.apply_pause(now);
    }

    /// Leaves a state whose time has passed.
    pub(super) fn advance(&mut self, now: Now) {
        let rested = self.rest_until_mono_ms <= now.mono_ms;
        match self.state {
            LaneState::Suspended { .. } if rested => {
                self.limit.ease_in();
                self.become_state(LaneState::Ready, now);
            }
            LaneState::Tripped { .. } if rested => self.become_state(LaneState::Probing, now),
            LaneState::Paused { .. } => self.apply_pause(now),
            _ => {}
        }
    }

    /// When it has something to do though nothing happens: a wall-clock time and a monotonic one.
    pub(super) fn wakes_at(&self, now: Now) -> (Option<Timestamp>, Option<u64>) {
        match self.state {
            LaneState::Suspended { .. } | LaneState::Tripped { .. } => (None, Some(self.rest_until_mono_ms)),
            LaneState::Paused { until } => (until, None),
            LaneState::Ready | LaneState::Probing => {
                let (wall, mono) = self.backlog.wakes_at(self.appetite(), now);
                let free = Some(self.rate.free_at_ms()).filter(|at| *at > now.mono_ms && self.may_send(now));
                (wall, mono.into_iter().chain(free).min())
            }
        }
    }

    /// Whether a request could leave now, as far as this lane is concerned.
    pub(super) fn can_send(&self, now: Now) -> bool {
        self.may_send(now) && self.rate.is_free(now.mono_ms)
    }

    /// The same but for the rate.
    fn may_send(&self, now: Now) -> bool {
        let slot = match self.state {
            _ if self.reordering => false,
            LaneState::Ready => self.in_flight() < self.limit.current(),
            LaneState::Probing => self.probe.is_none(),
            _ => false,
        };
        slot && self.backlog.hand().finished() < self.backlog.finished_max()
            && self.backlog.is_ready(&self.terms(now))
    }

    /// Sends the next request off. Call it only when [`Lane::can_send`].
    pub(super) fn start(&mut self, now: Now) -> Option<Job> {
        let batch = self.backlog.start(&self.terms(now));
        let first = batch.first()?.seq;
        self.rate.take(now.mono_ms);
        if self.state == LaneState::Probing {
            self.probe = Some(first);
        }
        let bytes_max = match &self.config.batch {
            Some(policy) => policy.bytes_max,
            None => usize::MAX,
        };
        Some(Job {
            lane: self.config.lane,
            batch,
            bytes_max,
        })
    }

    /// Deliveries of a request under way that did not fit into it.
    pub(super) fn given_back(&mut self, batch: &[Due], now: Now) {
        self.backlog.give_back(batch, self.takes_in(), now);
    }

    fn terms(&self, now: Now) -> Terms {
        Terms {
            era: self.era,
            limit: self.limit.current(),
            hurry: self.state == LaneState::Probing,
            retries_flow: self.retries_flow,
            bytes_max: self.batch_bytes_max,
            now,
        }
    }

    /// Whether it has a question to the store.
    pub(super) fn wants_refill(&self, now: Now) -> bool {
        self.backlog.wants(self.appetite(), now)
    }

    /// Its question to the store.
    pub(super) fn refill(&mut self, now: Now) -> Option<DueQuery> {
        self.backlog.ask(self.appetite(), now)
    }

    /// Its state.
    pub(super) fn state(&self) -> LaneState {
        self.state
    }

    /// Its numbers, as seen at `now`.
    pub(super) fn view(&self, now: Now) -> LaneView {
        let until = wall_time(self.rest_until_mono_ms, now);
        LaneView {
            lane: self.config.lane,
            state: match self.state {
                LaneState::Suspended { .. } => LaneState::Suspended { until },
                LaneState::Tripped { .. } => LaneState::Tripped { until },
                state => state,
            },
            since: self.since,
            in_flight: self.in_flight(),
            limit: self.limit.current(),
            window: u32::try_from(self.backlog.waiting()).unwrap_or(u32::MAX),
            fresh: u32::try_from(self.backlog.fresh()).unwrap_or(u32::MAX),
            held_up: u32::try_from(self.backlog.held_up()).unwrap_or(u32::MAX),
            gathers_until: self.backlog.gathers_until().map(|at| wall_time(at, now)),
            failures: self.breaker.failures(),
        }
    }

    /// Whether deliveries may come into memory. While the order changes they stay in the store: they would go by the old one,
    /// and what waits in hand keeps the new one from beginning.
    fn takes_in(&self) -> bool {
        self.state.sends() && !self.reordering
    }

    /// Makes the backlog anew in the order that is wanted, once nothing of the old one is in hand.
    fn reorder(&mut self) {
        if self.reordering && self.backlog.is_idle() {
            self.backlog = backlog(&self.config, self.window_max);
            self.reordering = false;
        }
    }

    fn appetite(&self) -> Appetite {
        match self.state {
            _ if self.reordering => Appetite::Nothing,
            LaneState::Ready => Appetite::Window {
                past_retries: !self.retries_flow,
            },
            LaneState::Probing if self.probe.is_none() => Appetite::One,
            _ => Appetite::Nothing,
        }
    }

    /// Opens the breaker (again), for at least as long as the endpoint asked for.
    fn trip(&mut self, retry_after: Option<Duration>, now: Now) {
        let open = self.breaker.trip().max(retry_after.unwrap_or_default());
        self.era = self.era.wrapping_add(1);
        self.rest_until_mono_ms = now.mono_ms.saturating_add(millis(open));
        // A paused lane stays paused; the open breaker holds it when the pause ends.
        if self.state.sends() {
            self.become_state(
                LaneState::Tripped {
                    until: wall_time(self.rest_until_mono_ms, now),
                },
                now,
            );
        }
    }

    /// The endpoint asked to be left alone; the later of two such wishes counts.
    fn suspend(&mut self, wait: Duration, now: Now) {
        self.rest_until_mono_ms = self
            .rest_until_mono_ms
            .max(now.mono_ms.saturating_add(millis(wait)));
        if matches!(self.state, LaneState::Ready | LaneState::Suspended { .. }) {
            self.become_state(
                LaneState::Suspended {
                    until: wall_time(self.rest_until_mono_ms, now),
                },
                now,
            );
        }
    }

    /// Makes the state agree with what pauses the lane: the configuration, or a pause that is not over.
    fn apply_pause(&mut self, now: Now) {
        if self.pause.flatten().is_some_and(|until| until <= now.wall) {
            self.pause = None;
        }
        let parked = self.retired || !self.config.enabled;
        match if parked { Some(None) } else { self.pause } {
            Some(until) if self.state != (LaneState::Paused { until }) => {
                self.become_state(LaneState::Paused { until }, now);
            }
            None if matches!(self.state, LaneState::Paused { .. }) => self.unpause(now),
            _ => {}
        }
    }

    /// To ready, and on to what still holds the lane.
    fn unpause(&mut self, now: Now) {
        if self.in_flight() == 0 {
            self.limit.ease_in();
        }
        self.become_state(LaneState::Ready, now);
        let until = wall_time(self.rest_until_mono_ms, now);
        match (self.breaker.is_open(), self.rest_until_mono_ms > now.mono_ms) {
            (true, true) => self.become_state(LaneState::Tripped { until }, now),
            (true, false) => self.become_state(LaneState::Probing, now),
            (false, true) => self.become_state(LaneState::Suspended { until }, now),
            (false, false) => {}
        }
    }

    /// The one place where the state changes. A lane that does not send holds nothing back in memory.
    fn become_state(&mut self, next: LaneState, now: Now) {
        debug_assert!(
            self.state.may_become(&next),
            "no move from {:?} to {next:?}",
            self.state
        );
        if std::mem::discriminant(&self.state) != std::mem::discriminant(&next) {
            self.since = now.wall;
        }
        self.state = next;
        if !next.sends() {
            self.backlog.release();
        }
    }
}

fn backlog(config: &LaneConfig, window_max: usize) -> Box<dyn Backlog> {
    let batch = config.batch.clone();
    match config.order {
        OrderPolicy::None => Box::new(Window::new(window_max, batch)),
        OrderPolicy::Endpoint => Box::new(Ordered::new(window_max, batch, true)),
        OrderPolicy::Key => Box::new(Ordered::new(window_max, batch, false)),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What the wall clock will show, as it goes now, at a moment of the monotonic clock.
fn wall_time(mono_ms: u64, now: Now) -> Timestamp {
    if mono_ms >= now.mono_ms {
        now.wall.plus(Duration::from_millis(mono_ms - now.mono_ms))
    } else {
        Timestamp(now.wall.0.saturating_sub(now.mono_ms - mono_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f5_the_table_of_moves() {
        let until = Timestamp(1);
        let states = [
            LaneState::Ready,
            LaneState::Suspended { until },
            LaneState::Tripped { until },
            LaneState::Probing,
            LaneState::Paused { until: None },
        ];
        // Rows: from; columns: to, in the same order.
        let table = ["-stpP", "rs--P", "---pP", "r-t-P", "r---P"];
        for (from, row) in states.iter().zip(table) {
            for (to, cell) in states.iter().zip(row.chars()) {
                assert_eq!(from.may_become(to), cell != '-', "{from:?} to {to:?}");
            }
        }
    }
}
