//! Looking through a whole store, for `posthaste store check`: every chunk, every event, every record.
//! Changes nothing.

use super::bits::Mark;
use super::index::EventPlace;
use super::{SledStore, chunk, keys, lock};
use crate::store::attempts;
use crate::store::record::{self, DeferralRecord, IdPage, Record};
use crate::store::{CheckReport, DeadEvidence, Store, StoreError};

/// Problems told in words; there may be more.
const PROBLEMS_MAX: usize = 100;

impl CheckReport {
    fn problem(&mut self, what: String) {
        self.damaged += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(what);
        }
    }
}

impl SledStore {
    /// Reads everything. Takes as long as reading the file takes.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub(super) fn read_everything(&self) -> Result<CheckReport, StoreError> {
        let stats = self.stats();
        let mut report = CheckReport {
            events: stats.events,
            quarantined: stats.quarantined,
            attempts: attempts::check::check(&lock(&self.attempts).window().folder),
            ..CheckReport::default()
        };
        for (_, lane) in lock(&self.index).lanes() {
            report.pending += lane.counts.pending;
            report.deferred += lane.counts.deferred;
            report.dead += lane.counts.dead;
        }
        if stats.blob_files > 0 {
            report.problem(format!(
                "sled keeps {} values outside its log, not durably",
                stats.blob_files
            ));
        }
        self.check_events(&mut report)?;
        self.check_class::<DeferralRecord>(keys::DEFERRAL, "a deferral", &mut report)?;
        self.check_class::<DeadEvidence>(keys::DEAD, "a dead letter", &mut report)?;
        self.check_class::<IdPage>(keys::IDS, "a page of ids", &mut report)?;
        Ok(report)
    }

    fn check_events(&self, report: &mut CheckReport) -> Result<(), StoreError> {
        let index = lock(&self.index);
        let engine = self.engine.load_full();
        let slots: Vec<(EventPlace, Vec<(usize, u64)>)> = index
            .slots_from(0)
            .map(|(number, slot)| {
                let place = EventPlace {
                    slot: number,
                    generation: slot.generation,
                    parts: slot.parts.clone(),
                    index: 0,
                };
                (
                    place,
                    slot.live().into_iter().map(|at| (at, slot.seq(at).0)).collect(),
                )
            })
            .collect();
        drop(index);
        for (place, events) in slots {
            let Some(chunk) = self.chunk(&engine, &place)? else {
                if !self.is_in_use(&place) {
                    continue;
                }
                report.problem(format!("slot {} does not hold the chunk it should", place.slot));
                continue;
            };
            for (at, seq) in events {
                if let Err(error) = chunk::event_at(chunk.clone(), at) {
                    report.problem(format!("event {seq} in slot {}: {error}", place.slot));
                }
            }
        }
        Ok(())
    }

    /// Whether the slot is still what it was when somebody looked, and not freed meanwhile.
    fn is_in_use(&self, place: &EventPlace) -> bool {
        lock(&self.index)
            .slot(place.slot)
            .is_some_and(|slot| slot.generation == place.generation)
    }

    fn check_class<T: Record>(
        &self,
        class: u8,
        what: &str,
        report: &mut CheckReport,
    ) -> Result<(), StoreError> {
        for pair in self.engine.load().range(keys::class(class)) {
            let (key, value) = pair?;
            if value.is_empty() {
                continue;
            }
            if let Err(error) = record::decode::<T>(&value) {
                report.problem(format!("{what} of {:?}: {error}", keys::number(&key)));
            }
            let true_now = match class {
                keys::DEAD => keys::parse_dead(&key).map(|id| (id, Mark::Dead)),
                keys::DEFERRAL => keys::parse_deferral(&key).map(|(id, _)| (id, Mark::Deferred)),
                _ => None,
            };
            if true_now.is_some_and(|(id, mark)| !lock(&self.index).is(mark, id)) {
                report.problem(format!(
                    "{what} of lane {:?} belongs to no delivery",
                    keys::number(&key)
                ));
            }
        }
        Ok(())
    }
}
