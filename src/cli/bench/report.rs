//! What a bench tells: rows of a value, the limit it is held against, their ratio, and the goal. Pure but for printing.

use schemars::JsonSchema;
use serde::Serialize;

use crate::cli::failure::Done;
use crate::cli::print::{self, Column};

/// Past this share of the processors used by other programs, a row is marked.
const OTHERS_MAX: f64 = 0.15;

/// What a row should reach (docs/PERFORMANCE.md lists why).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// The ratio, at least.
    RatioAtLeast(f64),
    /// The ratio, at most.
    RatioAtMost(f64),
    /// The value, at most.
    AtMost(f64),
    /// The value, at least.
    AtLeast(f64),
}

impl Goal {
    fn is_met(self, row: &Row) -> bool {
        let ratio = row.limit.as_ref().map_or(f64::NAN, |limit| limit.ratio);
        match self {
            Self::RatioAtLeast(goal) => ratio >= goal,
            Self::RatioAtMost(goal) => ratio <= goal,
            Self::AtMost(goal) => row.value <= goal,
            Self::AtLeast(goal) => row.value >= goal,
        }
    }

    fn text(self) -> String {
        match self {
            Self::RatioAtLeast(goal) => format!("≥ {goal} x"),
            Self::RatioAtMost(goal) => format!("≤ {goal} x"),
            Self::AtMost(goal) => format!("≤ {}", number(goal)),
            Self::AtLeast(goal) => format!("≥ {}", number(goal)),
        }
    }
}

/// What a value is held against.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Limit {
    /// Which.
    pub name: &'static str,
    /// Its value, in the unit of the row.
    pub value: f64,
    /// The row's value by this one; of several rounds the median of their ratios.
    pub ratio: f64,
}

/// One measured thing.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// The value; of several rounds their median.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// The limit, where there is one.
    pub limit: Option<Limit>,
    /// What it should reach, where something is promised.
    pub goal: Option<Goal>,
    /// Whether it does.
    pub met: Option<bool>,
    /// The share of the processors that other programs used meanwhile.
    pub others: f64,
}

impl Row {
    /// A value on its own.
    #[must_use]
    pub fn new(what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            what: what.into(),
            value,
            unit,
            limit: None,
            goal: None,
            met: None,
            others: 0.0,
        }
    }

    /// The median of rounds, each a value and its limit: `name`.
    #[must_use]
    pub fn of_rounds(
        what: impl Into<String>,
        unit: &'static str,
        name: &'static str,
        rounds: &[(f64, f64)],
    ) -> Self {
        let limit = Limit {
            name,
            value: median(rounds.iter().map(|(_, limit)| *limit)),
            ratio: median(rounds.iter().map(|(value, limit)| value / limit)),
        };
        Self {
            limit: Some(limit),
            ..Self::new(what, median(rounds.iter().map(|(value, _)| *value)), unit)
        }
    }

    /// The same with a goal.
    #[must_use]
    pub fn goal(mut self, goal: Goal) -> Self {
        self.met = Some(goal.is_met(&self));
        self.goal = Some(goal);
        self
    }

    fn cells(&self) -> Vec<String> {
        let limit = self.limit.as_ref();
        let verdict = match self.met {
            Some(true) => "met",
            Some(false) => "missed",
            None => "",
        };
        let noise = if self.others > OTHERS_MAX {
            format!("noisy: others used {:.0} %", self.others * 100.0)
        } else {
            String::new()
        };
        vec![
            self.what.clone(),
            format!("{} {}", number(self.value), self.unit),
            limit.map_or_else(String::new, |limit| {
                format!("{} {}", limit.name, number(limit.value))
            }),
            limit.map_or_else(String::new, |limit| format!("{:.2}", limit.ratio)),
            self.goal.map_or_else(String::new, Goal::text),
            verdict.to_owned(),
            noise,
        ]
    }
}

/// All rows so far.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
    marked: usize,
}

impl Report {
    /// Adds a row, and shows on standard error that something has happened.
    pub fn add(&mut self, row: Row) {
        eprintln!("  {}", row.cells().join("  ").trim_end());
        self.rows.push(row);
    }

    /// Writes to every row since the last mark how much of the processors others used.
    pub fn mark(&mut self, others: f64) {
        self.rows[self.marked..]
            .iter_mut()
            .for_each(|row| row.others = others);
        self.marked = self.rows.len();
    }

    /// Prints them.
    ///
    /// # Errors
    /// Those of writing.
    pub fn print(&self, json: bool) -> Done {
        if json {
            return self.rows.iter().try_for_each(print::json_line);
        }
        let columns = [
            Column::Text("MEASURED"),
            Column::Number("VALUE"),
            Column::Number("LIMIT"),
            Column::Number("RATIO"),
            Column::Number("GOAL"),
            Column::Text(""),
            Column::Text(""),
        ];
        print::line(&print::table(&columns, self.rows.iter().map(Row::cells)))
    }
}

/// The value in the middle; of an even number the lower of the two. 0 of none.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len().saturating_sub(1) / 2;
    sorted.get(middle).copied().unwrap_or(0.0)
}

/// A number of about three digits that count, thousands apart.
fn number(value: f64) -> String {
    if value < 10.0 {
        return format!("{value:.2}");
    }
    if value < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        for (value, expected) in [
            (0.1234, "0.12"),
            (12.34, "12.3"),
            (999.4, "999"),
            (1000.0, "1 000"),
            (1_234_567.0, "1 234 567"),
        ] {
            assert_eq!(number(value), expected);
        }
    }

    #[test]
    fn the_median_is_in_the_middle() {
        for (values, expected) in [
            (vec![], 0.0),
            (vec![3.0], 3.0),
            (vec![9.0, 1.0, 5.0], 5.0),
            (vec![4.0, 1.0], 1.0),
        ] {
            assert_eq!(median(values.into_iter()), expected);
        }
    }

    /// A ratio is taken round by round, because a noisy moment slows both of its parts.
    #[test]
    fn rounds_are_compared_each_with_its_own_limit() {
        let row = Row::of_rounds("x", "/s", "limit", &[(50.0, 100.0), (5.0, 10.0), (60.0, 200.0)]);
        let limit = row.limit.clone().unwrap();
        assert_eq!((row.value, limit.value, limit.ratio), (50.0, 100.0, 0.5));
        for (goal, met) in [
            (Goal::RatioAtLeast(0.5), true),
            (Goal::RatioAtLeast(0.6), false),
            (Goal::RatioAtMost(0.5), true),
            (Goal::AtMost(49.0), false),
            (Goal::AtLeast(50.0), true),
        ] {
            assert_eq!(row.clone().goal(goal).met, Some(met), "{goal:?}");
        }
        let alone = Row::new("x", 1.0, "s").goal(Goal::RatioAtLeast(0.1));
        assert_eq!(alone.met, Some(false), "a ratio to nothing is not met");
    }
}
