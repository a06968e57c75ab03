//! When an exchange has to be over, and how that is noticed.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::task::coop::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use crate::delivery::failure::{Failure, Phase};

/// The end of what an exchange may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    pub(super) at: Instant,
    /// What the endpoint allows for the whole of it.
    pub(super) timeout: Duration,
}

impl Deadline {
    /// That of an exchange that began at `started` and may take `timeout`.
    pub(super) fn new(started: Instant, timeout: Duration) -> Self {
        Self {
            at: started + timeout,
            timeout,
        }
    }

    /// Waits for `part` of the exchange, at which it has come as far as `phase`.
    ///
    /// # Errors
    /// When the deadline comes first.
    pub(super) async fn bound<F: Future>(self, phase: Phase, part: F) -> Result<F::Output, Failure> {
        let late = |_| Failure::deadline(self.timeout, phase);
        timeout_at(self.at, part).await.map_err(late)
    }
}

/// One timer for the deadlines of a connection, one after the other. Nearly every answer comes long before its deadline,
/// and setting a timer takes the runtime's lock; so it stays at the deadline of an earlier request, and only when that comes
/// it is set to the one that counts by then.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    timer: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// Ready when `deadline` has come.
    pub(super) fn poll(&mut self, deadline: Instant, context: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if deadline < timer.deadline() {
            timer.as_mut().reset(deadline);
        }
        loop {
            // Also where the task has done so much that it ought to let others: the host may go on sending.
            ready!(Pin::new(&mut unconstrained(timer.as_mut())).poll(context));
            if timer.deadline() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// Later deadlines, earlier ones, and one that has passed already, by a timer that was set for another.
    #[tokio::test(start_paused = true)]
    async fn an_alarm_rings_at_the_deadline_that_counts() {
        let mut alarm = Alarm::default();
        for (seconds, waits_s) in [(10, 1), (5, 5), (30, 25), (60, 60), (0, 0), (7, 7)] {
            let set = Instant::now();
            let deadline = set + Duration::from_secs(seconds);
            let gives_up = Duration::from_secs(waits_s);
            let rung = tokio::time::timeout(gives_up, poll_fn(|context| alarm.poll(deadline, context))).await;
            let (took, wanted) = (set.elapsed(), Duration::from_secs(seconds.min(waits_s)));
            assert_eq!((rung.is_ok(), took), (seconds <= waits_s, wanted), "{seconds} s");
        }
    }
}
