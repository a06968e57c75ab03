//! Which steps may begin: the order is that of the configuration among those that wait for nobody any more. Pure.

use crate::domain::endpoint::{Stage, Step};

/// What waits for what.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    turns: Vec<(Stage, Vec<usize>)>,
}

/// How far a step has come in one try.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It has had no turn.
    #[default]
    Waiting,
    /// It is being carried out.
    UnderWay,
    /// It has ended, whichever way.
    Over,
}

impl Plan {
    /// The plan of `steps`; a name that none of them has is waited for by nobody.
    #[must_use]
    pub fn new(steps: &[Step]) -> Self {
        let place = |name: &str| steps.iter().position(|step| *step.name == *name);
        let turn = |step: &Step| {
            let waits = step.after.iter().filter_map(|name| place(name)).collect();
            (step.stage, waits)
        };
        Self {
            turns: steps.iter().map(turn).collect(),
        }
    }

    /// The places of those that may begin now, at most `room` of them.
    #[must_use]
    pub fn ready(&self, stage: Stage, states: &[State], room: usize) -> Vec<usize> {
        let is_over = |place: &usize| states.get(*place) == Some(&State::Over);
        let may = |place: &usize| {
            let (of, waits) = &self.turns[*place];
            // Nobody waits for a step of the other stage: it is over, or it will never have its turn.
            let met = |other: &usize| is_over(other) || self.turns[*other].0 != stage;
            *of == stage && states.get(*place) == Some(&State::Waiting) && waits.iter().all(met)
        };
        (0..self.turns.len()).filter(may).take(room).collect()
    }

    /// Whether any step runs after the delivery.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        self.turns.iter().any(|(stage, _)| *stage == Stage::After)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(turns: &[(Stage, &[usize])]) -> Plan {
        let turns = turns.iter().map(|(stage, waits)| (*stage, waits.to_vec()));
        Plan {
            turns: turns.collect(),
        }
    }

    /// C9: those who wait for nobody go together, the others when all they wait for is over.
    #[test]
    fn c9_steps_begin_when_nobody_is_waited_for() {
        use State::{Over, UnderWay, Waiting};
        let plan = plan(&[
            (Stage::Before, &[]),
            (Stage::Before, &[]),
            (Stage::Before, &[0, 1]),
            (Stage::After, &[0]),
        ]);
        for (states, room, expected) in [
            ([Waiting, Waiting, Waiting, Waiting], 8, &[0, 1][..]),
            ([Waiting, Waiting, Waiting, Waiting], 1, &[0]),
            ([UnderWay, Waiting, Waiting, Waiting], 8, &[1]),
            ([Over, UnderWay, Waiting, Waiting], 8, &[]),
            ([Over, Over, Waiting, Waiting], 8, &[2]),
            ([Over, Over, Over, Waiting], 8, &[]),
        ] {
            assert_eq!(plan.ready(Stage::Before, &states, room), expected, "{states:?}");
        }
        assert_eq!(plan.ready(Stage::After, &[Over, Over, Over, Waiting], 8), [3]);
    }
}
