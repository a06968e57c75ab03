//! What must be true after a power cut, from what the child knew when the power went.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// A delivery by the names of its endpoint and its event.
pub type Key = (String, String);

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Not owed (yet, or any more).
    Absent,
    /// Owed, never tried.
    Fresh,
    /// Owed, not before `due`.
    Later {
        /// In milliseconds since the epoch.
        due: u64,
        /// Tries used.
        tries: u32,
    },
    /// A dead letter.
    Dead,
}

/// What the child says of its commits.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Note {
    /// A verb is about to be called that moves these deliveries; those of one group appear together.
    Begin {
        /// Each delivery, with the state it gets.
        moves: Vec<(Key, State)>,
        /// Events that are accepted together or not at all.
        groups: Vec<Vec<Key>>,
    },
    /// It returned: everything it moved has been acknowledged.
    Done,
}

/// What is known of every delivery.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    acknowledged: BTreeMap<Key, State>,
    /// Moves that were asked for and not acknowledged: each may have happened or not.
    open: BTreeMap<Key, State>,
    open_groups: Vec<Vec<Key>>,
}

impl Expected {
    /// Takes in what the child said.
    pub fn hear(&mut self, note: &Note) {
        match note {
            Note::Begin { moves, groups } => {
                self.open = moves.iter().cloned().collect();
                self.open_groups.clone_from(groups);
            }
            Note::Done => {
                self.acknowledged.append(&mut self.open);
                self.open_groups.clear();
            }
        }
    }

    /// Every event of which something was acknowledged.
    pub fn accepted_ids(&self) -> BTreeSet<&str> {
        self.acknowledged.keys().map(|(_, id)| id.as_str()).collect()
    }

    /// Everything in which `seen` is not what it must be.
    pub fn problems(&self, seen: &BTreeMap<Key, State>) -> Vec<String> {
        let state = |states: &BTreeMap<Key, State>, key| states.get(key).copied().unwrap_or(State::Absent);
        let mut problems = Vec::new();
        let keys: BTreeSet<&Key> = self
            .acknowledged
            .keys()
            .chain(self.open.keys())
            .chain(seen.keys())
            .collect();
        for key in keys {
            let (must, is) = (state(&self.acknowledged, key), state(seen, key));
            if is != must && self.open.get(key) != Some(&is) {
                let open = self.open.get(key);
                problems.push(format!(
                    "{key:?} is {is:?}; acknowledged: {must:?}, under way: {open:?}"
                ));
            }
        }
        for group in &self.open_groups {
            let kept = group.iter().filter(|key| seen.contains_key(*key)).count();
            if kept != 0 && kept != group.len() {
                problems.push(format!(
                    "{kept} of the {} deliveries of one group are there: {group:?}",
                    group.len()
                ));
            }
        }
        problems
    }

    /// Goes on from what was found: whatever was under way has been decided.
    pub fn adopt(&mut self, seen: &BTreeMap<Key, State>) {
        for key in std::mem::take(&mut self.open).into_keys() {
            if let Some(state) = seen.get(&key) {
                self.acknowledged.insert(key, *state);
            } else if let Some(known) = self.acknowledged.get_mut(&key) {
                *known = State::Absent;
            }
        }
        self.open_groups.clear();
    }
}
