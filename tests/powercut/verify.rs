//! Opens what a power cut left, and says everything that is wrong with it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use posthaste::store::{AcceptGroup, Accepted, Batch, DeadFilter, DeliveryId, LoadError, NewEvent, Store};

use crate::expect::{Expected, Key, State};
use crate::load::{LANES, T0, due, event};
use crate::{open, say};

/// Ids offered again, to see that they are still known.
const OFFERED_AGAIN: usize = 200;

/// What a store shows, and what is wrong with it.
#[derive(Debug, Default)]
pub struct Verdict {
    pub seen: BTreeMap<Key, State>,
    pub problems: Vec<String>,
}

/// Opens the store in `folder`, holds it against `expected`, and sees whether it works. Changes the folder.
pub fn verify(folder: &Path, expected: &Expected) -> Verdict {
    let looked = catch_unwind(AssertUnwindSafe(|| {
        let mut verdict = Verdict::default();
        match open(folder) {
            Ok(store) => look(&*store, expected, &mut verdict),
            Err(error) => verdict.problems.push(format!("the store does not open: {error}")),
        }
        verdict
    }));
    looked.unwrap_or_else(|panic| Verdict {
        problems: vec![format!("panicked: {}", say(&*panic))],
        ..Verdict::default()
    })
}

fn look(store: &dyn Store, expected: &Expected, verdict: &mut Verdict) {
    for totals in store.lanes() {
        let owed = due(store, totals.lane);
        if totals.pending != owed.len() as u64 {
            verdict
                .problems
                .push(format!("{totals:?} but {} deliveries are owed", owed.len()));
        }
        for due in owed {
            let state = match due.was_due {
                Some(at) => State::Later {
                    due: at.0,
                    tries: due.tries,
                },
                None => State::Fresh,
            };
            see(
                store,
                verdict,
                &totals.name,
                DeliveryId {
                    lane: totals.lane,
                    seq: due.seq,
                },
                state,
            );
        }
        let filter = DeadFilter {
            lane: Some(totals.lane),
            ..DeadFilter::default()
        };
        for letter in store.dead(&filter, None, usize::MAX).unwrap().letters {
            see(store, verdict, &totals.name, letter.id, State::Dead);
        }
    }
    let stats = store.stats();
    if stats.quarantined + stats.blob_files > 0 {
        verdict.problems.push(format!("{stats:?}"));
    }
    verdict.problems.extend(expected.problems(&verdict.seen));
    verdict.problems.extend(offer_again(store, expected));
    store.close().unwrap();
}

/// Loads the event of a delivery; its name is the delivery's, and says what its bytes must be.
fn see(store: &dyn Store, verdict: &mut Verdict, lane: &str, id: DeliveryId, state: State) {
    let loaded: Result<_, LoadError> = store.load(&[id.seq]).remove(0);
    match loaded {
        Ok(loaded) if loaded == event(&loaded.head.id) => {
            let key = (lane.to_owned(), loaded.head.id.to_string());
            if verdict.seen.insert(key, state).is_some() {
                verdict
                    .problems
                    .push(format!("{lane} is owed {} twice", loaded.head.id));
            }
        }
        Ok(loaded) => verdict
            .problems
            .push(format!("{id:?} has another body than {} had", loaded.head.id)),
        Err(error) => verdict.problems.push(format!("{id:?}, {state:?}: {error}")),
    }
}

/// A5 across a power cut: what was acknowledged is a duplicate, and what is new is taken.
fn offer_again(store: &dyn Store, expected: &Expected) -> Option<String> {
    let lanes: Arc<[_]> = LANES.iter().map(|name| store.lane(name).unwrap()).collect();
    let known: Vec<&str> = expected.accepted_ids().into_iter().take(OFFERED_AGAIN).collect();
    let offered = known.iter().copied().chain(["brand-new"]);
    let new = |id| NewEvent {
        event: event(id),
        lanes: Arc::clone(&lanes),
    };
    let group = AcceptGroup {
        events: offered.map(new).collect(),
    };
    let committed = store
        .commit(
            Batch {
                accepts: vec![group],
                settles: Vec::new(),
            },
            T0,
        )
        .unwrap();
    let answers = committed.accepts.into_iter().next()?.unwrap();
    let taken = known
        .iter()
        .zip(&answers)
        .filter(|(_, answer)| **answer != Accepted::Duplicate);
    let forgotten: Vec<&&str> = taken.map(|(id, _)| id).collect();
    if !forgotten.is_empty() {
        return Some(format!(
            "{} acknowledged ids are taken for new: {forgotten:?}",
            forgotten.len()
        ));
    }
    (answers.last() == Some(&Accepted::Duplicate)).then(|| "a new id is taken for a duplicate".to_owned())
}
