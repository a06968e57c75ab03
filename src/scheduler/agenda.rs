//! What has to be looked at next, over all lanes: who could send, who has a question to the store, and
//! when each wakes by itself. It makes a poll cost what there is to do, not how many lanes there are.
//!
//! It decides nothing; it only keeps itself in step with what each lane says of itself.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crate::domain::time::{Now, Timestamp};
use crate::store::LaneId;

use super::lane::Lane;

/// What the agenda has written down about one lane.
#[derive(Debug, Default)]
pub(super) struct Marks {
    in_ring: bool,
    asking: bool,
    active: bool,
    in_flight: u32,
    wall: Option<Timestamp>,
    mono: Option<u64>,
}

/// The agenda of all lanes.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    /// Lanes that could send, in the order of their turns.
    ring: VecDeque<LaneId>,
    asking: Vec<LaneId>,
    wall: BTreeSet<(Timestamp, LaneId)>,
    mono: BTreeSet<(u64, LaneId)>,
    in_flight: usize,
    active: usize,
}

impl Agenda {
    /// Writes down what `lane` says of itself; to be called after everything that may have changed it.
    pub(super) fn note(&mut self, id: LaneId, lane: &Lane, marks: &mut Marks, now: Now) {
        let can_send = lane.can_send(now);
        if can_send && !marks.in_ring {
            self.ring.push_back(id);
            marks.in_ring = true;
        }
        if !marks.asking && lane.wants_refill(now) {
            self.asking.push(id);
            marks.asking = true;
        }
        self.count(lane.in_flight(), can_send, marks);
        self.schedule(id, lane.wakes_at(now), marks);
    }

    /// Forgets a lane that is removed.
    pub(super) fn forget(&mut self, id: LaneId, marks: &mut Marks) {
        self.count(0, false, marks);
        self.schedule(id, (None, None), marks);
        if std::mem::take(&mut marks.in_ring) {
            self.ring.retain(|other| *other != id);
        }
        if std::mem::take(&mut marks.asking) {
            self.asking.retain(|other| *other != id);
        }
    }

    /// Requests under way, all lanes together.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Lanes that could send or have a request under way.
    pub(super) fn active(&self) -> usize {
        self.active
    }

    /// How many lanes are waiting for their turn.
    pub(super) fn turns(&self) -> usize {
        self.ring.len()
    }

    /// The lane whose turn it is; it leaves the ring.
    pub(super) fn next_turn(&mut self) -> Option<LaneId> {
        self.ring.pop_front()
    }

    /// Notes that the lane given by [`Agenda::next_turn`] has left the ring.
    pub(super) fn turn_taken(marks: &mut Marks) {
        marks.in_ring = false;
    }

    /// Everyone who has a question; each is asked once.
    pub(super) fn take_asking(&mut self) -> Vec<LaneId> {
        std::mem::take(&mut self.asking)
    }

    /// Notes that the lane given by [`Agenda::take_asking`] has been heard.
    pub(super) fn heard(marks: &mut Marks) {
        marks.asking = false;
    }

    /// A lane whose time has come; it is crossed out.
    pub(super) fn pop_due(&mut self, now: Now) -> Option<LaneId> {
        if let Some((_, lane)) = pop_if(&mut self.wall, |at| *at <= now.wall) {
            return Some(lane);
        }
        pop_if(&mut self.mono, |at| *at <= now.mono_ms).map(|(_, lane)| lane)
    }

    /// How long until the first lane wakes by itself; zero while a question waits.
    pub(super) fn wakes_in(&self, now: Now) -> Option<Duration> {
        if !self.asking.is_empty() {
            return Some(Duration::ZERO);
        }
        let wall = self.wall.first().map(|(at, _)| at.since(now.wall));
        let mono = self
            .mono
            .first()
            .map(|(at, _)| Duration::from_millis(at.saturating_sub(now.mono_ms)));
        match (wall, mono) {
            (Some(wall), Some(mono)) => Some(wall.min(mono)),
            (one, None) | (None, one) => one,
        }
    }

    fn count(&mut self, in_flight: u32, can_send: bool, marks: &mut Marks) {
        self.in_flight = self.in_flight + in_flight as usize - marks.in_flight as usize;
        marks.in_flight = in_flight;
        let active = can_send || in_flight > 0;
        self.active = self.active + usize::from(active) - usize::from(marks.active);
        marks.active = active;
    }

    fn schedule(&mut self, id: LaneId, (wall, mono): (Option<Timestamp>, Option<u64>), marks: &mut Marks) {
        if marks.wall != wall {
            marks.wall.map(|at| self.wall.remove(&(at, id)));
            wall.map(|at| self.wall.insert((at, id)));
            marks.wall = wall;
        }
        if marks.mono != mono {
            marks.mono.map(|at| self.mono.remove(&(at, id)));
            mono.map(|at| self.mono.insert((at, id)));
            marks.mono = mono;
        }
    }
}

fn pop_if<T: Ord + Copy>(set: &mut BTreeSet<(T, LaneId)>, due: impl Fn(&T) -> bool) -> Option<(T, LaneId)> {
    let first = *set.first()?;
    due(&first.0).then(|| {
        set.remove(&first);
        first
    })
}
