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
    events: usize,
    /// Who waits, each with the number of its groups.
    pub(super) answers: Vec<(usize, Waiting)>,
    /// One for each event.
    pub(super) owed: Vec<Owed>,
    /// When the oldest settle came that waits.
    pub(super) since: Option<Instant>,
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
    }

    /// Whether nothing more may be taken in.
    pub(super) fn is_full(&self) -> bool {
        self.events >= EVENTS_MAX || self.bytes >= EVENT_BYTES_MAX
    }

    /// Whether it is time to write this.
    pub(super) fn is_ripe(&self, settles: &Settles, now: Instant) -> bool {
        !self.answers.is_empty()
            || settles.len() >= SETTLES_MAX
            || self.patience(now).is_some_and(|patience| patience.is_zero())
    }

    /// How long the committer may sleep before this has to be written; `None`: there is nothing to write.
    pub(super) fn patience(&self, now: Instant) -> Option<Duration> {
        let since = self.since?;
        Some(SETTLE_LINGER.saturating_sub(now.saturating_duration_since(since)))
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::super::tests::group;
    use super::*;

    /// Producers are never kept waiting; settles wait for them, but not for ever.
    #[test]
    fn when_it_is_written() {
        let (settles, now) = (Settles::default(), Instant::now());
        let mut gathered = Gathered::default();
        assert!(!gathered.is_ripe(&settles, now) && gathered.patience(now).is_none());
        gathered.since = Some(now);
        assert!(!gathered.is_ripe(&settles, now));
        assert_eq!(gathered.patience(now), Some(SETTLE_LINGER));
        assert!(gathered.is_ripe(&settles, now + SETTLE_LINGER));
        let (answer, _) = oneshot::channel();
        gathered.take_groups(vec![group("a", None, LaneId(1))], answer);
        assert!(gathered.is_ripe(&settles, now) && !gathered.is_full());
    }
}
