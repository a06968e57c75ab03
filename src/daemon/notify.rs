//! What the daemon tells systemd about itself (sd_notify(3)): ready, reloading, stopping, alive. Everything here
//! does nothing, quietly, when no service manager listens. Knows nothing of what makes the daemon ready or alive.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// The daemon serves; `status` is the line that `systemctl status` shows. Also ends a reload.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Another line for `systemctl status`.
pub fn status(status: &str) {
    send(&[NotifyState::Status(status)]);
}

/// The daemon reads its configuration again. [`ready`] must follow, whether the new one was adopted or not.
pub fn reloading() {
    // Type=notify-reload (systemd 253 and later) wants to know when the reload began; older ones ignore it.
    match NotifyState::monotonic_usec_now() {
        Ok(since) => send(&[NotifyState::Reloading, since]),
        Err(_) => send(&[NotifyState::Reloading]),
    }
}

/// The daemon is on its way out; `status` says what it still waits for.
pub fn stopping(status: &str) {
    send(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// Keeps the service manager's watchdog quiet for as long as `is_alive` answers true. Returns at once when no
/// watchdog is set (`WATCHDOG_USEC`, `WATCHDOG_PID`), else never; to be spawned, and dropped at the end.
pub async fn watchdog<A>(is_alive: impl Fn() -> A)
where
    A: Future<Output = bool>,
{
    // Zero is no interval (sd_watchdog_enabled(3)).
    if let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) {
        keep_alive(limit / 2, is_alive, || send(&[NotifyState::Watchdog])).await;
    }
}

/// Every `pause` asks `is_alive` and calls `ping` if it says so within that time. sd_watchdog_enabled(3) asks for
/// half of the limit as the pause; an answer that takes all of it still makes a ping within the limit.
async fn keep_alive<A>(pause: Duration, is_alive: impl Fn() -> A, ping: impl Fn())
where
    A: Future<Output = bool>,
{
    let mut ticks = interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match timeout(pause, is_alive()).await {
            Ok(true) => ping(),
            Ok(false) => tracing::error!("the daemon is not alive any more: the watchdog is not answered"),
            Err(_) => tracing::error!(
                ?pause,
                "the daemon makes no progress: the watchdog is not answered"
            ),
        }
    }
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd ($NOTIFY_SOCKET) can't be told how the daemon is");
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::{pending, ready};

    use tokio::time::sleep;

    use super::*;

    const PAUSE: Duration = Duration::from_secs(15);

    /// Pings that `is_alive` earns in `time`.
    async fn pings_in<A: Future<Output = bool>>(time: Duration, is_alive: impl Fn() -> A) -> u32 {
        let pings = Cell::new(0);
        let ended = timeout(time, keep_alive(PAUSE, is_alive, || pings.set(pings.get() + 1))).await;
        assert!(ended.is_err(), "it goes on for as long as it is let");
        pings.get()
    }

    #[tokio::test(start_paused = true)]
    async fn i1_a_live_daemon_pings_at_once_and_every_half_limit() {
        assert_eq!(pings_in(Duration::from_secs(46), || ready(true)).await, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn i1_a_daemon_that_says_no_or_nothing_does_not_ping() {
        assert_eq!(pings_in(Duration::from_secs(300), || ready(false)).await, 0);
        assert_eq!(pings_in(Duration::from_secs(300), pending::<bool>).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn i1_a_late_answer_counts_until_the_pause_is_over() {
        let after = |seconds| {
            move || async move {
                sleep(Duration::from_secs(seconds)).await;
                true
            }
        };
        assert_eq!(pings_in(Duration::from_secs(61), after(14)).await, 4);
        assert_eq!(pings_in(Duration::from_secs(61), after(16)).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn i1_one_that_recovers_pings_again() {
        let asked = Cell::new(0);
        let recovers = || {
            asked.set(asked.get() + 1);
            ready(asked.get() > 2)
        };
        assert_eq!(pings_in(Duration::from_secs(46), recovers).await, 2);
    }

    #[tokio::test]
    async fn i1_without_a_service_manager_nothing_happens() {
        assert!(
            std::env::var_os("NOTIFY_SOCKET").is_none(),
            "these tests don't run under systemd"
        );
        super::ready("serving");
        status("still serving");
        reloading();
        stopping("waiting for 3 requests");
        watchdog(pending::<bool>).await;
    }
}
