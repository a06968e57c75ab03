//! Deliveries that wait to leave, and when enough of them are together for a request. Without a batch policy each
//! is enough for itself.

use std::collections::VecDeque;

use crate::domain::endpoint::BatchPolicy;
use crate::domain::several::Several;
use crate::store::Due;

/// A delivery and since when it waits.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    due: Due,
    since_mono_ms: u64,
}

/// The queue of deliveries that could leave.
#[derive(Debug)]
pub(super) struct Gathering {
    policy: Option<BatchPolicy>,
    queue: VecDeque<Waiting>,
    bytes: u64,
    /// Since when the first waited of those that were taken out again: what comes next has its age, because to be read
    /// again is no reason to wait longer.
    waited_since: Option<u64>,
}

impl Gathering {
    /// An empty one.
    pub(super) fn new(policy: Option<BatchPolicy>) -> Self {
        Self {
            policy,
            queue: VecDeque::new(),
            bytes: 0,
            waited_since: None,
        }
    }

    /// Adopts another policy; what waits goes by it from now on.
    pub(super) fn configure(&mut self, policy: Option<BatchPolicy>) {
        self.policy = policy;
    }

    /// The policy.
    pub(super) fn policy(&self) -> Option<&BatchPolicy> {
        self.policy.as_ref()
    }

    /// Deliveries that wait.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// One more, behind the others.
    pub(super) fn push(&mut self, due: Due, mono_ms: u64) {
        self.bytes += u64::from(due.bytes);
        let since = self.waited_since.take().into_iter().chain([mono_ms]).min();
        self.queue.push_back(Waiting {
            due,
            since_mono_ms: since.unwrap_or(mono_ms),
        });
    }

    /// One that has waited already, before the others.
    pub(super) fn push_front(&mut self, due: Due) {
        self.bytes += u64::from(due.bytes);
        self.queue.push_front(Waiting {
            due,
            since_mono_ms: 0,
        });
    }

    /// Whether a request can leave: enough events, enough bytes, or the first has waited long enough. `hurry`: one
    /// is enough.
    pub(super) fn is_ripe(&self, hurry: bool, mono_ms: u64) -> bool {
        match (&self.policy, self.queue.front()) {
            (_, None) => false,
            (None, _) => true,
            (Some(_), Some(_)) if hurry => true,
            (Some(policy), Some(first)) => {
                self.queue.len() >= policy.events_max
                    || self.bytes >= policy.bytes_max as u64
                    || ripe_at(policy, first) <= mono_ms
            }
        }
    }

    /// When the first has waited long enough, if it has to wait.
    pub(super) fn ripe_at(&self) -> Option<u64> {
        Some(ripe_at(self.policy.as_ref()?, self.queue.front()?))
    }

    /// Bytes of the request that would leave now, as far as they are known.
    pub(super) fn next_bytes(&self) -> u64 {
        let bytes_max = self.policy.as_ref().map_or(u64::MAX, |p| p.bytes_max as u64);
        self.bytes.min(bytes_max)
    }

    /// Takes out what goes in one request, with its bytes; empty if nothing waits.
    pub(super) fn take(&mut self) -> Several<Due> {
        let (events_max, bytes_max) = match &self.policy {
            None => (1, u64::MAX),
            Some(policy) => (policy.events_max, policy.bytes_max as u64),
        };
        let mut batch = Several::new();
        let mut bytes = 0;
        while batch.len() < events_max
            && let Some(waiting) = self.queue.front()
        {
            bytes += u64::from(waiting.due.bytes);
            if bytes > bytes_max && !batch.is_empty() {
                break;
            }
            self.bytes -= u64::from(waiting.due.bytes);
            batch.push(waiting.due);
            self.queue.pop_front();
        }
        batch
    }

    /// Takes out everything to be read again, and gives its memory back.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Due> + use<> {
        self.bytes = 0;
        let first = self.queue.front().map(|first| first.since_mono_ms);
        self.waited_since = self.waited_since.into_iter().chain(first).min();
        std::mem::take(&mut self.queue)
            .into_iter()
            .map(|waiting| waiting.due)
    }
}

fn ripe_at(policy: &BatchPolicy, first: &Waiting) -> u64 {
    let wait_ms = u64::try_from(policy.wait_max.as_millis()).unwrap_or(u64::MAX);
    first.since_mono_ms.saturating_add(wait_ms)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::endpoint::BatchShape;
    use crate::domain::event::Seq;

    fn policy(events_max: usize, bytes_max: usize, wait_ms: u64) -> BatchPolicy {
        BatchPolicy {
            events_max,
            bytes_max,
            wait_max: Duration::from_millis(wait_ms),
            shape: BatchShape::Array,
            items: None,
        }
    }

    /// C8: by count, by bytes, by age, whichever comes first; an event too large for any batch goes alone.
    #[test]
    fn c8_a_batch_leaves_by_the_first_bound_it_reaches() {
        let far = 1_000_000;
        for (policy, sizes, mono_ms, batches) in [
            (policy(3, far, 1000), &[1; 7][..], 10, &[3, 3][..]),
            (policy(3, far, 1000), &[1; 7], 1010, &[3, 3, 1]),
            (policy(9, 100, 1000), &[40, 40, 40], 10, &[2]),
            (policy(9, 100, 1000), &[60, 60, 60], 10, &[1, 1]),
            (policy(9, 100, 1000), &[500, 10], 10, &[1]),
            (policy(9, 100, 1000), &[50, 50], 10, &[2]),
            (policy(9, 100, 1000), &[10, 10], 1009, &[]),
            (policy(9, 100, 1000), &[10, 10], 1010, &[2]),
            (policy(9, 100, 0), &[10], 10, &[1]),
        ] {
            let mut gathering = Gathering::new(Some(policy.clone()));
            for (seq, bytes) in (0..).zip(sizes) {
                let fresh = Due::fresh(Seq(seq));
                gathering.push(
                    Due {
                        bytes: *bytes,
                        ..fresh
                    },
                    10,
                );
            }
            let mut left = Vec::new();
            while gathering.is_ripe(false, mono_ms) {
                left.push(gathering.take().len());
            }
            assert_eq!(left, batches, "{policy:?} {sizes:?} at {mono_ms}");
            if gathering.len() > 0 {
                assert_eq!(gathering.ripe_at(), Some(1010));
                assert!(gathering.is_ripe(true, mono_ms), "a probe waits for nobody");
            }
        }
    }

    #[test]
    fn without_a_policy_each_leaves_alone_and_at_once() {
        let mut gathering = Gathering::new(None);
        (0..3).for_each(|seq| gathering.push(Due::fresh(Seq(seq)), 10));
        for left in [2, 1, 0] {
            assert!(gathering.is_ripe(false, 10) && gathering.ripe_at().is_none());
            assert_eq!((gathering.take().len(), gathering.len()), (1, left));
        }
        assert!(!gathering.is_ripe(true, 10));
    }
}
