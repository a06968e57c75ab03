//! The events of a request, and what earlier tries left. Fresh deliveries are mostly still in memory; else the store
//! is read where blocking is allowed.

use crate::domain::event::Event;
use crate::domain::several::Several;
use crate::scheduler::Job;
use crate::store::committer::Queue;
use crate::store::{Deferral, DeliveryId, Due, LaneId, LoadError, Store};

/// One delivery as the store has it.
#[derive(Debug)]
pub(super) struct Found {
    pub event: Event,
    /// What earlier tries left, if there were any.
    pub before: Option<Deferral>,
}

/// Everything `job` needs, in the order of its batch.
pub(super) async fn events(job: &Job, queue: &Queue) -> Several<Result<Found, LoadError>> {
    let cached: Option<Several<_>> = job.batch.iter().map(|due| cached(*due, queue)).collect();
    if let Some(all) = cached {
        return all;
    }
    let Job { lane, batch, .. } = job.clone();
    let read = queue
        .read(move |store| batch.iter().map(|due| one(store, lane, *due)).collect())
        .await;
    read.unwrap_or_else(|error| {
        let failed = |_| Err(LoadError::Store(error.clone()));
        job.batch.iter().map(failed).collect()
    })
}

/// What needs no disk: a delivery that has never been tried, of an event that is still in memory.
fn cached(due: Due, queue: &Queue) -> Option<Result<Found, LoadError>> {
    let event = match due.was_due {
        None => queue.store().load_cached(due.seq)?,
        Some(_) => return None,
    };
    Some(Ok(Found { event, before: None }))
}

fn one(store: &dyn Store, lane: LaneId, due: Due) -> Result<Found, LoadError> {
    let missing = || Err(LoadError::Missing(due.seq));
    let event = store.load(&[due.seq]).pop().unwrap_or_else(missing)?;
    let id = DeliveryId { lane, seq: due.seq };
    let before = match due.was_due {
        Some(was_due) => store.deferral(id, was_due).map_err(LoadError::Store)?,
        None => None,
    };
    Ok(Found { event, before })
}
