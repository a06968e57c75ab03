//! What holds of every batch (C8): how much is in it, how long it waits for company, and that what failed as one is tried
//! again as one. Knows batches by the due times that the store keeps, and nothing of how the scheduler gathers them.

use posthaste::domain::endpoint::BatchPolicy;
use posthaste::domain::event::Seq;
use posthaste::scheduler::{Job, LaneState, LaneView};

use crate::ledger::is_retry;
use crate::world::World;

/// A batch whose company has had its time leaves within so long, if there is a slot: what has to be asked of the store
/// first may be asked again, once it has failed to answer.
const PATIENCE_MS: u64 = 400;

impl World {
    /// A request is about to begin.
    pub fn check_batch(&self, job: &Job) {
        let endpoint = &self.sites[job.lane.0 as usize].endpoint;
        let Some(policy) = &endpoint.batch else {
            self.require(job.batch.len() == 1, || {
                format!("{job:?} in a lane without batches")
            });
            return;
        };
        let bytes: usize = job.batch.iter().map(|due| due.bytes as usize).sum();
        let fits = job.batch.len() <= policy.events_max && bytes <= policy.bytes_max;
        let is_alone = job.batch.len() == 1 && policy.events_max > 0;
        self.require(fits || is_alone, || {
            format!("{bytes} bytes in {job:?}, not {policy:?}")
        });
        self.require(job.bytes_max <= policy.bytes_max, || {
            format!("{job:?} may grow past {policy:?}")
        });
        self.check_company(job, policy);
    }

    /// What failed together goes together, and with nobody else.
    fn check_company(&self, job: &Job, policy: &BatchPolicy) {
        let Some(first) = job.batch.first().filter(|_| job.batch.iter().any(is_retry)) else {
            return;
        };
        let is_one = |of: &&posthaste::store::Due| (of.was_due, of.tries) == (first.was_due, first.tries);
        self.require(job.batch.iter().all(|due| is_one(&due)), || {
            format!("{job:?} failed apart")
        });
        // In an ordered lane some may stand behind what has come in late; a probe takes what there is.
        let mut views = self.views().into_iter();
        let is_ready = views.any(|view| view.lane == job.lane && view.state == LaneState::Ready);
        if self.keeps_order(job.lane) || !is_ready {
            return;
        }
        let known = first
            .was_due
            .map_or(Vec::new(), |due| self.ledger.company(job.lane, due, first.tries));
        let goes = |seq: &Seq| job.batch.iter().any(|due| due.seq == *seq);
        // A flush may have given some of them another due time, of which the daemon has not heard yet.
        let is_current = job.batch.iter().all(|due| known.contains(&due.seq));
        let is_all = known.iter().all(goes) || job.batch.len() == policy.events_max;
        self.require(!is_current || is_all, || {
            format!("{known:?} failed together and go apart: {job:?}")
        });
    }

    /// A lane with a slot of its own and one of all has let go of every batch that has waited long enough.
    pub fn check_age(&mut self, view: &LaneView, can_start: bool) {
        let (now_ms, wall) = (self.now_ms, self.wall());
        let at = view.lane.0 as usize;
        // A rate has its own time, and past so much memory an ordered lane waits for what failed.
        let is_free = self.sites[at].endpoint.rate.is_none()
            && (view.window as usize) < 8 * self.scenario.scheduler.window_max;
        let is_aged = view.gathers_until.is_some_and(|until| until <= wall);
        let waits = can_start && is_free && is_aged && view.state == LaneState::Ready;
        let since = self.watch.aged(view.lane, waits, now_ms);
        self.require(now_ms - since <= PATIENCE_MS, || {
            format!("a batch has waited {} ms too long: {view:?}", now_ms - since)
        });
    }
}
