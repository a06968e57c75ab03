//! What happens, for those who watch: changes of lanes, and deliveries that become dead letters. Nobody has to watch;
//! whoever falls behind misses something and is told so. It refuses to know how it is shown.

use std::collections::HashMap;

use tokio::sync::broadcast;

use crate::control::dead::letter_id;
use crate::control::types::{EndpointState, LiveDead, LiveEvent, LiveState};
use crate::domain::event::Seq;
use crate::domain::time::Timestamp;
use crate::scheduler::{LaneState, LaneView};
use crate::store::{LaneId, Settle, SettleTo};

/// News that a watcher may be behind.
const BEHIND_MAX: usize = 1024;
/// Deaths kept until they are on disk; what is beyond that is not told of.
const DYING_MAX: usize = 4096;

/// Tells the news.
#[derive(Debug)]
pub struct Live {
    to: broadcast::Sender<LiveEvent>,
    /// Decided, and on its way to the disk.
    dying: HashMap<(LaneId, Seq), LiveDead>,
}

/// Nobody watches yet.
impl Default for Live {
    fn default() -> Self {
        Self {
            to: broadcast::channel(BEHIND_MAX).0,
            dying: HashMap::new(),
        }
    }
}

impl Live {
    /// Where to watch.
    #[must_use]
    pub fn source(&self) -> broadcast::Sender<LiveEvent> {
        self.to.clone()
    }

    /// The lane of `endpoint` is in another state.
    pub fn moved(&self, endpoint: &str, view: &LaneView) {
        let (state, until) = match view.state {
            LaneState::Ready => (EndpointState::Ready, None),
            LaneState::Suspended { until } => (EndpointState::Suspended, Some(until)),
            LaneState::Tripped { until } => (EndpointState::Tripped, Some(until)),
            LaneState::Probing => (EndpointState::Probing, None),
            LaneState::Paused { until } => (EndpointState::Paused, until),
        };
        self.tell(LiveEvent::State(LiveState {
            endpoint: endpoint.to_owned(),
            state,
            since: view.since,
            until,
            failures: view.failures,
        }));
    }

    /// A delivery to `endpoint` is to be settled so.
    pub fn decided(&mut self, endpoint: &str, settle: &Settle) {
        let SettleTo::Dead(evidence) = &settle.to else {
            return;
        };
        if self.to.receiver_count() == 0 || self.dying.len() >= DYING_MAX {
            return;
        }
        let dead = LiveDead {
            id: letter_id(endpoint, settle.id.seq),
            endpoint: endpoint.to_owned(),
            reason: evidence.reason,
            since: evidence.since,
            event_id: evidence.event_id.to_string(),
            event_type: evidence.event_kind.to_string(),
            last_status: evidence.last.as_ref().and_then(|last| last.status),
        };
        self.dying.insert((settle.id.lane, settle.id.seq), dead);
    }

    /// What was decided about a delivery is on disk; `deferred`: it is to be tried again.
    pub fn committed(&mut self, lane: LaneId, seq: Seq, deferred: Option<Timestamp>) {
        if self.dying.is_empty() {
            return;
        }
        if let Some(dead) = self.dying.remove(&(lane, seq))
            && deferred.is_none()
        {
            self.tell(LiveEvent::Dead(dead));
        }
    }

    fn tell(&self, event: LiveEvent) {
        // An error means that nobody watches.
        let _ = self.to.send(event);
    }
}
