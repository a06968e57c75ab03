//! Steps: requests to other services around a delivery, whose answers it uses. What is asked, kept and done when it
//! fails stands here; how a step is carried out is `delivery`'s business.

use std::time::Duration;

use serde_json::{Map, Value as Json};

use super::{AuthPolicy, RequestPolicy, ResponsePolicy, SignPolicy};
use crate::domain::names::Names;
use crate::template::Expression;

/// One step of an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Letters, digits and `_`: templates read `appended.<name>`.
    pub name: Box<str>,
    /// Before the delivery's request, or after its answer.
    pub stage: Stage,
    /// False: the step is skipped, and nothing is stored.
    pub when: Option<Expression>,
    /// Names of the steps it waits for.
    pub after: Vec<Box<str>>,
    /// What its request looks like, and the bounds of one try at it.
    pub request: RequestPolicy,
    /// Who its requests say they come from.
    pub auth: AuthPolicy,
    /// How its requests are signed.
    pub sign: Vec<SignPolicy>,
    /// What of its answer means success; it captures and emits nothing.
    pub response: ResponsePolicy,
    /// Tries beside the first, at once, when it fails with what the endpoint retries.
    pub retries: u32,
    /// What is kept of its answer: `appended.<name>.<field>`.
    pub store: Vec<(Box<str>, Expression)>,
    /// Whether answers are kept for later tries.
    pub cache: Option<CachePolicy>,
    /// What happens when it fails.
    pub on_error: OnError,
    /// What is appended in place of an answer; with [`OnError::Default`] and [`OnError::Cached`].
    pub default: Option<Map<String, Json>>,
    /// Put on the delivery when `default` was used; empty: nothing.
    pub flag: Box<str>,
}

/// When a step runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Before the request.
    #[default]
    Before,
    /// After an answer that means delivered.
    After,
}

impl Stage {
    /// The stages by the names they have in the configuration.
    pub const NAMES: &'static Names<Self> = &[("before", Self::Before), ("after", Self::After)];
}

/// What happens when a step fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// The attempt ends with the step's error.
    Fail,
    /// The default is appended.
    Default,
    /// The last good value is appended if it is young enough, else the default, else the attempt ends.
    Cached,
    /// Nothing is stored.
    Skip,
}

impl OnError {
    /// The ways by the names they have in the configuration.
    pub const NAMES: &'static Names<Self> = &[
        ("fail", Self::Fail),
        ("default", Self::Default),
        ("cached", Self::Cached),
        ("skip", Self::Skip),
    ];
}

/// How long the fields of an answer are used again.
#[derive(Clone, Debug, PartialEq)]
pub struct CachePolicy {
    /// What the answer depends on; events with the same value share it.
    pub key: Expression,
    /// So long it is used in place of a request.
    pub ttl: Duration,
    /// So long it is used where a request has failed ([`OnError::Cached`]).
    pub max_age: Duration,
}

/// A step by its name, with the names of those it waits for.
pub type Waits<'s> = (&'s str, Vec<&'s str>);

/// Steps that wait for each other, in a circle; `None`: each gets its turn. Names that are no step's are passed over.
#[must_use]
pub fn circle<'s>(steps: &[Waits<'s>]) -> Option<Vec<&'s str>> {
    let mut left: Vec<&Waits<'s>> = steps.iter().collect();
    loop {
        let is_left = |name: &str| left.iter().any(|(known, _)| *known == name);
        let stuck: Vec<&Waits<'s>> = left
            .iter()
            .copied()
            .filter(|(_, waits)| waits.iter().any(|name| is_left(name)))
            .collect();
        if stuck.is_empty() {
            return None;
        }
        if stuck.len() == left.len() {
            break;
        }
        left = stuck;
    }
    // Everybody left waits for somebody left, so whoever follows the waiting comes round.
    let mut path: Vec<&'s str> = vec![left.first()?.0];
    loop {
        let last = path.last()?;
        let (_, waits) = left.iter().find(|(name, _)| name == last)?;
        let next = *waits
            .iter()
            .find(|name| left.iter().any(|(known, _)| known == *name))?;
        if let Some(start) = path.iter().position(|name| *name == next) {
            return Some(path.split_off(start));
        }
        path.push(next);
    }
}

/// The names that the step called `name` waits for, and those that they wait for, in the order of `steps`.
#[must_use]
pub fn awaited<'s>(name: &str, steps: &[Waits<'s>]) -> Vec<&'s str> {
    let mut found: Vec<&str> = Vec::new();
    let mut open = vec![name];
    while let Some(name) = open.pop() {
        let waits = steps.iter().find(|(known, _)| *known == name);
        for next in waits.iter().flat_map(|(_, waits)| waits) {
            if !found.contains(next) {
                found.push(next);
                open.push(next);
            }
        }
    }
    let names = steps.iter().map(|(known, _)| *known);
    names.filter(|known| found.contains(known)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(written: &[(&'static str, &'static str)]) -> Vec<Waits<'static>> {
        let waits = |names: &'static str| names.split_whitespace().collect();
        written
            .iter()
            .map(|(name, names)| (*name, waits(names)))
            .collect()
    }

    /// C9: whoever could never begin is found, and those who only wait for them are not blamed.
    #[test]
    fn c9_circles_are_found() {
        for (written, expected) in [
            (&[("a", ""), ("b", "a"), ("c", "a b")][..], None),
            (&[("a", "a")], Some(vec!["a"])),
            (&[("a", "c"), ("b", "a"), ("c", "b")], Some(vec!["a", "c", "b"])),
            (
                &[("z", "a"), ("a", "b"), ("b", "a"), ("c", "")],
                Some(vec!["a", "b"]),
            ),
            (&[("a", "nobody")], None),
        ] {
            assert_eq!(circle(&steps(written)), expected, "{written:?}");
        }
    }

    /// C9: what a step may read is what it waits for, however far back.
    #[test]
    fn c9_waiting_goes_on_to_those_waited_for() {
        let all = steps(&[("a", ""), ("b", "a"), ("c", "b"), ("d", "")]);
        assert_eq!(awaited("c", &all), ["a", "b"]);
        assert_eq!(awaited("d", &all), Vec::<&str>::new());
        let round = steps(&[("a", "b"), ("b", "a")]);
        assert_eq!(awaited("a", &round), ["a", "b"]);
    }
}
