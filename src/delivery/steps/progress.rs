//! What the steps of one try have come to so far: what templates see of it, and what is kept of it. Pure.

use std::collections::BTreeMap;

use super::plan::State;
use super::{End, Fields};
use crate::delivery::scene::Beside;
use crate::domain::kept::{Kept, StepEnd, StepNote};
use crate::template::Value;

/// One try's.
#[derive(Debug)]
pub(in crate::delivery) struct Progress {
    /// How far each step has come, in the order written.
    pub states: Vec<State>,
    appended: BTreeMap<Box<str>, Value>,
    bytes: usize,
    flags: Vec<Box<str>>,
    notes: Vec<Option<StepNote>>,
}

impl Progress {
    /// Before the first of `count` steps.
    pub fn new(count: usize) -> Self {
        Self {
            states: vec![State::Waiting; count],
            appended: BTreeMap::new(),
            bytes: 0,
            flags: Vec::new(),
            notes: vec![None; count],
        }
    }

    /// Notes what became of the step at `place`.
    pub fn note(&mut self, place: usize, note: StepNote) {
        self.notes[place] = Some(note);
    }

    /// Appends what the step called `name` has stored, under its name.
    pub fn append(&mut self, name: &str, fields: Fields) {
        self.bytes = self.bytes.saturating_add(fields.bytes);
        self.appended.insert(name.into(), fields.value);
    }

    /// Puts a flag on the delivery; an empty one is none.
    pub fn flag(&mut self, flag: &str) {
        if !flag.is_empty() && !self.flags.iter().any(|known| **known == *flag) {
            self.flags.push(flag.into());
        }
    }

    /// What the next request's templates see: of the step called `request_id`, or with `None` of the delivery itself.
    pub fn beside(&self, request_id: Option<Box<str>>, response: Option<(Value, usize)>) -> Beside {
        let fields = self
            .appended
            .iter()
            .map(|(name, value)| (name.to_string(), value.clone()));
        let (response, response_bytes) = response.unzip();
        Beside {
            appended: Value::from_pairs(fields),
            flags: self.flags.iter().map(|flag| Value::from(&**flag)).collect(),
            response,
            bytes: self.bytes.saturating_add(response_bytes.unwrap_or(0)),
            request_id,
        }
    }

    /// What is kept of the try, beside what was `captured` of its answer.
    pub fn kept(self, captured: Option<Box<Kept>>) -> Option<Box<Kept>> {
        let kept = Kept {
            steps: self.notes.into_iter().flatten().collect(),
            flags: self.flags,
            ..captured.map(|kept| *kept).unwrap_or_default()
        };
        kept.if_any()
    }
}

impl End {
    /// What is noted of it.
    pub(super) fn kind(&self) -> StepEnd {
        match self {
            Self::Stored(_, kind) | Self::Without(kind) => *kind,
            Self::Failed(_) => StepEnd::Failed,
        }
    }
}
