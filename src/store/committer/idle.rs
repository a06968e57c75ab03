//! What the committer does when nobody asks for anything: housekeeping piece by piece, then a rest, then nothing for long.

use std::time::Duration;

/// While there is more to do it goes on so soon. Each piece holds what others write for some milliseconds, so
/// this leaves them most of the time.
pub(super) const MAINTAIN_ON: Duration = Duration::from_millis(50);
/// And this often when nothing happens, so that dead letters expire on an idle machine too.
const MAINTAIN_IDLE: Duration = Duration::from_secs(600);

/// Nothing happens for so long: what was held for more to come is given back, once.
const REST_AFTER: Duration = Duration::from_secs(5);

/// What the committer sees to beside commits.
#[derive(Clone, Copy, Debug)]
pub struct Upkeep {
    /// How long dead letters are kept.
    pub dead_keep: Duration,
    /// Called once nothing has happened for a while after something has; it may take its time.
    pub at_rest: fn(),
}

impl From<Duration> for Upkeep {
    /// Nothing to do at rest.
    fn from(dead_keep: Duration) -> Self {
        Self {
            dead_keep,
            at_rest: || {},
        }
    }
}

/// What is next when nothing happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Idle {
    /// A piece of housekeeping.
    Maintain,
    /// All of it is done; rest, if it stays so.
    Rest,
    /// A look now and then.
    Sleep,
}

impl Idle {
    /// How long until it is that.
    pub(super) fn wait(self) -> Duration {
        match self {
            Self::Maintain => MAINTAIN_ON,
            Self::Rest => REST_AFTER,
            Self::Sleep => MAINTAIN_IDLE,
        }
    }
}
