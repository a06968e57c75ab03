//! What the next commit is made of, while it is being gathered, and when it has enough. Knows nothing of how it is
//! written.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answers::Waiting;
use super::settles::{SETTLES_MAX, Settles};
use crate::domain::time::Timestamp;
use crate::store::{AcceptGroup, LaneId};

/// Settled deliveries wait so long for company when no producer is waiting: their being durable only saves
/// a repeated request after a crash, and a flush each would take the disk from the producers.
const SETTLE_LINGER: Duration = Duration::from_millis(5);
/// Events in one commit. If one took all who wait, the disk would idle while they prepare their next lines, and
/// they while it works; past this size a commit gains nothing from more.
const EVENTS_MAX: usize = 2048;
/// After a commit of at least so many events, one that would have fewer waits for more, as long as that one took: those
/// who were answered just now are about to write again, and each commit costs the processors as much as a hundred
/// events do.
const COMPANY_LEAST: usize = 16;
/// But so long at most, on a disk that is slow.
const COMPANY_WAIT_MAX: Duration = Duration::from_millis(2);
/// Bytes of events in one commit.
const EVENT_BYTES_MAX: usize = 2 << 20;

/// Who is owed an event, when, and how many bytes of it; the part of a batch that outlives its commit.
pub(super) type Owed = (Arc<[LaneId]>, Option<Timestamp>, u32);

/// What one commit is made of, while it is being gathered.
#[derive(Default)]
pub(super) struct Gathered {
    /// Those of all who wait, in order.
    pub(super) groups: Vec<AcceptGroup>,
    bytes: usize,
    /// How many events are in them.
    pub(super) events: usize,
    /// Who waits, each with the number of its groups.
    pub(super) answers: Vec<(usize, Waiting)>,
    /// One for each event.
    pub(super) owed: Vec<Owed>,
    /// When the oldest settle came that waits.
    pub(super) since: Option<Instant>,
    /// When the first events came.
    began: Option<Instant>,
}

/// The last commit, as far as the next one is measured by it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Last {
    /// How many events it had.
    pub(super) events: usize,
    /// How long it took, the flush included.
    pub(super) took: Duration,
}

impl Last {
    /// How long a commit waits to have as many events.
    fn patience(self) -> Duration {
        if self.events < COMPANY_LEAST {
            return Duration::ZERO;
        }
        self.took.min(COMPANY_WAIT_MAX)
    }
}

impl Gathered {
    /// Takes in the groups of one who waits for `answer`.
    pub(super) fn take_groups(&mut self, groups: Vec<AcceptGroup>, answer: Waiting) {
        for new in groups.iter().flat_map(|group| &group.events) {
            self.bytes += new.event.json.len();
            self.events += 1;
            let bytes = u32::try_from(new.event.json.len()).unwrap_or(u32::MAX);
            let lanes = Arc::clone(&new.lanes);
            self.owed.push((lanes, new.event.head.deliver_at, bytes));
        }
        self.answers.push((groups.len(), answer));
        self.groups.extend(groups);
        self.began.get_or_insert_with(Instant::now);
    }

    /// Whether nothing more may be taken in.
    pub(super) fn is_full(&self) -> bool {
        self.events >= EVENTS_MAX || self.bytes >= EVENT_BYTES_MAX
    }

    /// Whether it is time to write this.
    pub(super) fn is_ripe(&self, settles: &Settles, last: Last) -> bool {
        settles.len() >= SETTLES_MAX
            || self.is_full()
            || self.began.is_some() && self.events >= last.events
            || self.patience(last).is_some_and(|patience| patience.is_zero())
    }

    /// How long the committer may sleep before this has to be written.
    pub(super) fn patience(&self, last: Last) -> Option<Duration> {
        let left = |since: Option<Instant>, wait: Duration| Some(wait.saturating_sub(since?.elapsed()));
        let events = left(self.began, last.patience());
        let settles = left(self.since, SETTLE_LINGER);
        events.into_iter().chain(settles).min()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::super::tests::group;
    use super::*;

    fn gathered(events: usize) -> Gathered {
        let mut gathered = Gathered::default();
        let (answer, _) = oneshot::channel();
        let groups = (0..events).map(|n| group(&n.to_string(), None, LaneId(1)));
        gathered.take_groups(groups.collect(), answer);
        // No time passes for it, however slow the machine is.
        gathered.began = Some(Instant::now() + Duration::from_secs(3600));
        gathered
    }

    /// A commit waits for company only after one that had much more, and never when it is full.
    #[test]
    fn who_is_written_at_once() {
        let took = Duration::from_secs(1);
        for (events, last, at_once) in [
            (1, 0, true),
            (1, COMPANY_LEAST - 1, true),
            (1, COMPANY_LEAST, false),
            (99, 100, false),
            (100, 100, true),
            (EVENTS_MAX, 10_000, true),
        ] {
            let (gathered, last) = (gathered(events), Last { events: last, took });
            assert_eq!(
                gathered.is_ripe(&Settles::default(), last),
                at_once,
                "{events} after {last:?}"
            );
            assert!(gathered.patience(last).unwrap() <= COMPANY_WAIT_MAX);
        }
        let quick = Last {
            events: 100,
            took: Duration::ZERO,
        };
        assert!(
            gathered(1).is_ripe(&Settles::default(), quick),
            "no longer than that one took"
        );
        assert!(
            !Gathered::default().is_ripe(&Settles::default(), quick),
            "nothing to write"
        );
        assert_eq!(Gathered::default().patience(quick), None);
    }
}
