//! What a [`super::MemoryStore`] does wrong on demand. Knows nothing of events: it only says when a verb
//! has to fail, and how.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::event::Seq;
use crate::store::{Refusal, StoreError};

/// How far the data of a failing commit came before the failure was noticed. A caller can't tell the two
/// apart, and must be right in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// Nothing of it is on disk.
    Nothing,
    /// All of it is on disk, only the answer is lost.
    Disk,
}

/// The faults that are planned, and the failure that has happened.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Commits that still succeed before the one that fails.
    failing: Option<(u64, Reached)>,
    /// Set for ever by the first failure.
    failed: Option<StoreError>,
    /// Why groups are refused.
    pub(super) refusal: Option<Refusal>,
    /// Events whose bytes are damaged, with the reason shown.
    pub(super) damaged: BTreeMap<Seq, String>,
    /// Those of them that a reader has come upon.
    pub(super) found: BTreeSet<Seq>,
}

impl Faults {
    /// Makes the `n`-th commit from now on fail; 1 is the next.
    pub(super) fn fail_commit(&mut self, n: u64, reached: Reached) {
        self.failing = Some((n.saturating_sub(1), reached));
    }

    /// The first failure is now.
    pub(super) fn break_now(&mut self) {
        let failed = StoreError::Failed("the disk broke".to_owned());
        self.failed.get_or_insert(failed);
    }

    /// Whether the store still works.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// What the next process would still find wrong: damage is on disk, plans and failures are not.
    pub(super) fn after_crash(&self) -> Self {
        Self {
            damaged: self.damaged.clone(),
            ..Self::default()
        }
    }

    /// Counts a commit; says how far it comes if it is the one to fail.
    pub(super) fn next_commit(&mut self) -> Option<Reached> {
        let (left, reached) = self.failing?;
        if left > 0 {
            self.failing = Some((left - 1, reached));
            return None;
        }
        self.failing = None;
        self.failed = Some(StoreError::Failed("the memory store was told to fail".to_owned()));
        Some(reached)
    }
}
