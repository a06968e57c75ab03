//! How the answer to several who asked as one finds each of them. Knows nothing of what is committed.

use tokio::sync::oneshot;

use super::AcceptAnswer;

/// The way to one who waits.
pub type Waiting = oneshot::Sender<AcceptAnswer>;

/// Hands each who waits the answers to its own groups, of which each has so many, in order. A failure is everybody's:
/// nothing is known of any group.
pub fn hand_out(answer: AcceptAnswer, waiting: Vec<(usize, Waiting)>) {
    let (mut groups, failure) = match answer {
        Ok(groups) => (groups.into_iter(), None),
        Err(error) => (Vec::new().into_iter(), Some(error)),
    };
    for (count, waiting) in waiting {
        let mine = match &failure {
            None => Ok(groups.by_ref().take(count).collect()),
            Some(error) => Err(error.clone()),
        };
        // Who has gone needs no answer.
        let _ = waiting.send(mine);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::Seq;
    use crate::store::{Accepted, StoreError};

    /// What those are told who wait for one, two and three groups; the one at `gone` has left before.
    fn told(answer: AcceptAnswer, gone: Option<usize>) -> Vec<Option<AcceptAnswer>> {
        let (waiting, mut ends): (Vec<_>, Vec<_>) = (1..=3)
            .map(|count| {
                let (waiting, end) = oneshot::channel();
                ((count, waiting), Some(end))
            })
            .unzip();
        gone.into_iter().for_each(|at| ends[at] = None);
        hand_out(answer, waiting);
        let told = |end: Option<oneshot::Receiver<_>>| end?.blocking_recv().ok();
        ends.into_iter().map(told).collect()
    }

    #[test]
    fn everybody_gets_the_answers_to_its_own_groups_whoever_goes() {
        let group = |n| Ok(vec![Accepted::New(Seq(n))]);
        let all = || Ok((0..6).map(group).collect());
        let [one, two, three] = [
            Some(Ok(vec![group(0)])),
            Some(Ok(vec![group(1), group(2)])),
            Some(Ok(vec![group(3), group(4), group(5)])),
        ];
        assert_eq!(told(all(), None), [one.clone(), two.clone(), three.clone()]);
        assert_eq!(told(all(), Some(0)), [None, two, three.clone()]);
        assert_eq!(told(all(), Some(1)), [one, None, three]);
    }

    #[test]
    fn a_failure_is_everybodys() {
        let error = StoreError::Failed("full".to_owned());
        let each = Some(Err(error.clone()));
        assert_eq!(told(Err(error), None), [each.clone(), each.clone(), each]);
    }
}
