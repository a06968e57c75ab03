//! What the control API needs of the running daemon, as a trait that the daemon implements. Nothing here
//! knows a socket, a route or a file.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;

use super::types::{Explanation, TestView};
use crate::config::Config;
use crate::config::managed::Keys;
use crate::domain::time::Timestamp;
use crate::ingest::intake::Intake;
use crate::scheduler::{Input, LaneView};
use crate::store::LaneId;
use crate::store::committer::Queue;

pub use super::types::{
    AlertView, Health, IngestNumbers, LaneNumbers, LiveEvent, ReloadReport, TraceNumbers,
};

/// A future that can be returned from a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// As long as it is there, no other configuration comes into force.
pub type Held = Box<dyn Send>;

/// What becomes of an endpoint that the API defines.
#[derive(Clone, Debug, PartialEq)]
pub enum EndpointChange {
    /// It has these keys and no others.
    Put(Keys),
    /// These keys change, by a merge patch.
    Merge(Keys),
    /// It goes.
    Delete,
}

/// What a change of an endpoint did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defined {
    /// It was not there before.
    New,
    /// It is different now, or gone.
    Changed,
    /// It was so already.
    Same,
}

/// Why an endpoint stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotDefined {
    /// A file defines it.
    InFile,
    /// There is none.
    Missing,
    /// There are as many as there may be.
    TooMany(usize),
    /// Its keys are not good; every problem in a sentence.
    Invalid(Vec<String>),
    /// The disk would not take it.
    Unwritten(String),
}

/// The running daemon, as far as an operator may see it and change it.
pub trait Operator: Send + Sync + 'static {
    /// The way to the store: reads where blocking is allowed, writes on the committer's thread.
    fn queue(&self) -> &Queue;

    /// The configuration in force.
    fn config(&self) -> Arc<Config>;

    /// Keeps the configuration that is in force in force.
    fn hold_config(&self) -> BoxFuture<'_, Held>;

    /// Every lane the scheduler has, with its state and limits.
    fn lanes(&self) -> BoxFuture<'_, Vec<LaneView>>;

    /// Tells the scheduler that something has become durable. The order of calls is kept.
    fn tell(&self, input: Input);

    /// What the attempts of `lane` have shown since the start; all zero for a lane without any.
    fn numbers(&self, lane: LaneId) -> LaneNumbers;

    /// Reads the configuration again and adopts it, all or nothing.
    ///
    /// The error is every problem found, one sentence each; the old configuration stays in force.
    fn reload(&self) -> BoxFuture<'_, Result<ReloadReport, Vec<String>>>;

    /// Defines, changes or removes an endpoint over the API: all or nothing, on disk before it is in force. What the
    /// files say that were changed since the last reload stays out of force.
    fn change_endpoint(
        &self,
        name: String,
        change: EndpointChange,
    ) -> BoxFuture<'_, Result<Defined, NotDefined>>;

    /// Whether the daemon works.
    fn health(&self) -> Health;

    /// The wall clock.
    fn now(&self) -> Timestamp;

    /// How long the daemon has been running, by the monotonic clock.
    fn uptime(&self) -> Duration;

    /// What happens from now on; whoever falls far behind misses something and is told so.
    fn news(&self) -> broadcast::Receiver<LiveEvent>;

    /// The way in for events.
    fn intake(&self) -> &Arc<Intake>;

    /// What would become of the event in `event`, as a producer would send it. The error is why none could.
    fn explain(&self, event: String) -> BoxFuture<'_, Result<Explanation, String>>;

    /// One request to `endpoint` at once, with the event in `event` or a ping, neither stored nor counted. The error is
    /// why there is no such event.
    fn try_out(&self, endpoint: String, event: Option<String>) -> BoxFuture<'_, Result<TestView, String>>;

    /// What the producers' socket has seen since the start.
    fn ingest(&self) -> IngestNumbers;

    /// What has become of the spans; `None`: there are no traces.
    fn traces(&self) -> Option<TraceNumbers>;

    /// What is past a limit of `[alerts]` now.
    fn alerts(&self) -> Vec<AlertView>;
}
