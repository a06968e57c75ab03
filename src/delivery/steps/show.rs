//! Steps for people who want to know what would be sent, without sending anything. What only an answer can tell is shown
//! by its name, or by the step's default. Pure.

use super::progress::Progress;
use super::{Fields, Prepared, Steps};
use crate::delivery::scene::{Beside, Load};
use crate::delivery::trial::ShownRequest;
use crate::domain::endpoint::Stage;

/// A step as it would be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownStep {
    /// Its name.
    pub name: Box<str>,
    /// When it runs.
    pub stage: Stage,
    /// Its first request; `None`: it is skipped, or the request can't be shown.
    pub request: Option<ShownRequest>,
    /// Why there is none.
    pub why: Box<str>,
    /// Its condition leaves it out, which for a step after the answer is not known before.
    pub is_skipped: bool,
}

impl Steps {
    /// Each step with its request, in the order written; and what the delivery's own request would see.
    #[must_use]
    pub fn show(&self, load: &Load<'_>) -> (Vec<ShownStep>, Beside) {
        let mut progress = self.progress();
        for prepared in self.all() {
            progress.append(&prepared.step.name, prepared.stand_in());
        }
        let shown = self
            .all()
            .iter()
            .map(|prepared| self.show_one(prepared, load, &progress));
        (shown.collect(), progress.beside(None, None))
    }

    fn show_one(&self, prepared: &Prepared, load: &Load<'_>, progress: &Progress) -> ShownStep {
        let step = &prepared.step;
        let beside = progress.beside(Some(self.request_id(load, step)), None);
        let load = Load {
            beside: Some(&beside),
            ..*load
        };
        let wanted = prepared.is_wanted(&load);
        let is_skipped = step.stage == Stage::Before && wanted == Ok(false);
        let shown = match wanted {
            Ok(true) => prepared.courier.show(&load),
            Ok(false) => Err(format!("skipped: {}", prepared.unwanted())),
            Err(why) => Err(why),
        };
        let (request, why) = match shown {
            Ok(request) => (Some(request), String::new()),
            Err(why) if step.stage == Stage::After => (None, format!("it depends on the answer: {why}")),
            Err(why) => (None, why),
        };
        ShownStep {
            name: step.name.clone(),
            stage: step.stage,
            request,
            why: why.into(),
            is_skipped,
        }
    }
}

impl Prepared {
    /// What stands in for what its answer would bring.
    fn stand_in(&self) -> Fields {
        let name = &self.step.name;
        let mark = |field: &str| (field.to_owned(), format!("appended.{name}.{field}").into());
        let marks = || self.step.store.iter().map(|(field, _)| mark(field)).collect();
        self.default.clone().unwrap_or_else(|| Fields::of(marks()))
    }
}
