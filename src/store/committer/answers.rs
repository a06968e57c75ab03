//! How the answers of a commit find those who wait for them. Knows nothing of what is committed.

use std::vec;

use tokio::sync::oneshot;

use super::AcceptAnswer;
use crate::store::{Accepted, Refusal, StoreError};

/// The way to one who waits.
pub(super) type Waiting = oneshot::Sender<Told>;

/// What one who waits is told.
#[derive(Debug)]
pub(super) struct Told {
    mine: AcceptAnswer,
    others: Others,
}

impl Told {
    /// The answer to the one who was told; the others get theirs.
    pub(super) fn mine(self) -> AcceptAnswer {
        drop(self.others);
        self.mine
    }
}

/// The answers of a commit to all but the first who wait for it. Whoever lets go of them hands them out, and that is
/// the first: inside the runtime a task wakes others for next to nothing, while the committer, outside of it, would
/// have to knock for each of them. If the first has gone, the others get theirs all the same.
#[derive(Debug, Default)]
struct Others {
    groups: vec::IntoIter<Result<Vec<Accepted>, Refusal>>,
    /// Each with the number of its groups.
    waiting: vec::IntoIter<(usize, Waiting)>,
}

impl Others {
    fn next(&mut self) -> Option<(Waiting, AcceptAnswer)> {
        let (count, waiting) = self.waiting.next()?;
        Some((waiting, Ok(self.groups.by_ref().take(count).collect())))
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        while let Some((waiting, mine)) = self.next() {
            let others = Self::default();
            // Who has gone needs no answer.
            let _ = waiting.send(Told { mine, others });
        }
    }
}

/// Hands each who waits the answers to its own groups, in order.
pub(super) fn give_all(groups: Vec<Result<Vec<Accepted>, Refusal>>, waiting: Vec<(usize, Waiting)>) {
    let mut others = Others {
        groups: groups.into_iter(),
        waiting: waiting.into_iter(),
    };
    if let Some((first, mine)) = others.next() {
        let _ = first.send(Told { mine, others });
    }
}

/// Tells each who waits that nothing is known of its groups.
pub(super) fn fail_all(error: &StoreError, waiting: Vec<(usize, Waiting)>) {
    for (_, waiting) in waiting {
        let (mine, others) = (Err(error.clone()), Others::default());
        let _ = waiting.send(Told { mine, others });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::Seq;

    /// Answers for those who wait for one, two and three groups; `gone` has closed its end before, `leaves` closes it
    /// after the answers were given, without having looked.
    fn handed_out(gone: Option<usize>, leaves: Option<usize>) -> Vec<Option<usize>> {
        let (waiting, mut ends): (Vec<_>, Vec<_>) = (1..=3)
            .map(|count| {
                let (waiting, end) = oneshot::channel();
                ((count, waiting), Some(end))
            })
            .unzip();
        gone.into_iter().for_each(|at| ends[at] = None);
        give_all((0..6).map(|n| Ok(vec![Accepted::New(Seq(n))])).collect(), waiting);
        leaves.into_iter().for_each(|at| ends[at] = None);
        let told = |end: Option<oneshot::Receiver<Told>>| Some(end?.blocking_recv().ok()?.mine().ok()?.len());
        ends.into_iter().map(told).collect()
    }

    #[test]
    fn everybody_gets_an_answer_whoever_goes() {
        assert_eq!(handed_out(None, None), [Some(1), Some(2), Some(3)]);
        assert_eq!(handed_out(Some(0), None), [None, Some(2), Some(3)]);
        assert_eq!(handed_out(None, Some(0)), [None, Some(2), Some(3)]);
        assert_eq!(handed_out(Some(1), Some(0)), [None, None, Some(3)]);
    }
}
