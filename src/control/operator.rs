//! What the control API needs of the running daemon, as a trait that the daemon implements. Nothing here
//! knows a socket, a route or a file.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::domain::time::Timestamp;
use crate::ingest::intake::Intake;
use crate::scheduler::{Input, LaneView};
use crate::store::LaneId;
use crate::store::committer::Queue;

pub use super::types::{Health, IngestNumbers, LaneNumbers, ReloadReport};

/// A future that can be returned from a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The running daemon, as far as an operator may see it and change it.
pub trait Operator: Send + Sync + 'static {
    /// The way to the store: reads where blocking is allowed, writes on the committer's thread.
    fn queue(&self) -> &Queue;

    /// The configuration in force.
    fn config(&self) -> Arc<Config>;

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

    /// Whether the daemon works.
    fn health(&self) -> Health;

    /// The wall clock.
    fn now(&self) -> Timestamp;

    /// How long the daemon has been running, by the monotonic clock.
    fn uptime(&self) -> Duration;

    /// The way in for events.
    fn intake(&self) -> &Arc<Intake>;

    /// What the producers' socket has seen since the start.
    fn ingest(&self) -> IngestNumbers;
}
