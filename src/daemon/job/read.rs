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

/// What `job` needs, in the order of its batch, up to the bytes of its request: how large events are may not be known
/// before they are read, and many together may be more than there is memory for. The first is read in any case.
pub(super) async fn events(job: &Job, queue: &Queue) -> Several<Result<Found, LoadError>> {
    if let Some(all) = all_cached(&job.batch, queue) {
        return all;
    }
    let Job {
        lane,
        batch,
        bytes_max,
    } = job.clone();
    let read = queue
        .read(move |store| up_to(bytes_max, store, lane, &batch))
        .await;
    read.unwrap_or_else(|error| {
        let failed = |_| Err(LoadError::Store(error.clone()));
        job.batch.iter().map(failed).collect()
    })
}

/// The first of `batch`, and those behind it as long as they have no more than `bytes_max` bytes together.
pub(super) fn up_to(
    bytes_max: usize,
    store: &dyn Store,
    lane: LaneId,
    batch: &[Due],
) -> Several<Result<Found, LoadError>> {
    let (mut all, mut bytes) = (Several::new(), 0_usize);
    for due in batch {
        let found = one(store, lane, *due);
        bytes = bytes.saturating_add(found.as_ref().map_or(0, |found| found.event.json.len()));
        if bytes > bytes_max && !all.is_empty() {
            break;
        }
        all.push(found);
    }
    all
}

/// All of `batch`, if none of it needs the disk.
fn all_cached(batch: &[Due], queue: &Queue) -> Option<Several<Result<Found, LoadError>>> {
    let mut all = Several::with_capacity(batch.len());
    for due in batch {
        all.push(cached(*due, queue)?);
    }
    Some(all)
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
