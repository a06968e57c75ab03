//! What was sent, what was promised, what arrived: kept by the test while daemons come and go, and judged at
//! the end. Knows no socket and no process.

use std::collections::{BTreeMap, HashMap, HashSet};

use posthaste::cli::receive::behaviour::Behaviour;
use posthaste::cli::receive::server::Received;
use serde_json::Value;

/// An event of the load, by what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Delivered to two endpoints.
    Contact,
    /// Delivered to two endpoints; one fails twice before it takes it.
    Invoice,
    /// Rejected by its endpoint.
    Audit,
}

impl Kind {
    /// Its type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Contact => "contact.created",
            Self::Invoice => "invoice.paid",
            Self::Audit => "audit.login",
        }
    }

    /// The endpoints that get it, and whether they take it in the end.
    pub fn owed(self) -> &'static [(&'static str, bool)] {
        match self {
            Self::Contact => &[("crm", true), ("copy", true)],
            Self::Invoice => &[("billing", true), ("copy", true)],
            Self::Audit => &[("audit", false)],
        }
    }
}

/// An event that was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// What becomes of it.
    pub kind: Kind,
    /// Length of its filling, in bytes; the filling is one character again and again.
    pub filling_bytes: usize,
}

/// A request that arrived.
#[derive(Clone, Copy, Debug)]
struct Request {
    run: u32,
    attempt: u32,
    taken: bool,
}

/// Everything the test knows.
#[derive(Debug, Default)]
pub struct Ledger {
    sent: HashMap<String, Sent>,
    promised: HashSet<String>,
    /// Batches that got no answer and were not sent again.
    abandoned: Vec<Vec<String>>,
    requests: HashMap<(&'static str, String), Vec<Request>>,
    wrong: Vec<String>,
}

/// What a run of the test came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Events sent.
    pub sent: usize,
    /// Events answered with `accepted` or `duplicate`.
    pub promised: usize,
    /// Requests that arrived.
    pub requests: usize,
    /// Requests made again after a kill, by the run that was killed.
    pub repeats: BTreeMap<u32, usize>,
    /// Dead letters.
    pub dead: usize,
}

impl Summary {
    /// Requests made again because of one kill, at most.
    pub fn repeats_max(&self) -> usize {
        self.repeats.values().copied().max().unwrap_or(0)
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "events sent {}, acknowledged {}, lost 0; requests {}, of them repeated after a kill {}, at most {} \
             after one; dead letters {}",
            self.sent,
            self.promised,
            self.requests,
            self.repeats.values().sum::<usize>(),
            self.repeats_max(),
            self.dead
        )
    }
}

impl Ledger {
    /// An event is about to be sent.
    pub fn sending(&mut self, id: &str, sent: Sent) {
        self.sent.insert(id.to_owned(), sent);
    }

    /// An event was answered with `accepted` or `duplicate`: from here on it must not be lost.
    pub fn promised(&mut self, id: &str) {
        self.promised.insert(id.to_owned());
    }

    /// How many events were promised so far.
    pub fn promised_len(&self) -> usize {
        self.promised.len()
    }

    /// Events of one line got no answer and are not sent again.
    pub fn abandoned(&mut self, ids: Vec<String>) {
        self.abandoned.push(ids);
    }

    /// Something that must not happen.
    pub fn wrong(&mut self, what: String) {
        self.wrong.push(what);
    }

    /// A request arrived.
    pub fn received(&mut self, received: &Received) {
        if let Err(what) = self.try_received(received) {
            self.wrong(what);
        }
    }

    fn try_received(&mut self, received: &Received) -> Result<(), String> {
        let header = |name: &str| -> Result<&str, String> {
            let value = received.headers.get(name).and_then(|value| value.to_str().ok());
            value.ok_or_else(|| format!("a request without {name}"))
        };
        let number = |name: &str| {
            header(name)?
                .parse::<u32>()
                .map_err(|error| format!("{name}: {error}"))
        };
        let id = header("webhook-id")?.to_owned();
        let request = Request {
            run: number("x-run")?,
            attempt: number("x-posthaste-attempt")?,
            taken: matches!(received.answer, Behaviour::Status(200) | Behaviour::Slow(_)),
        };
        let sent = self
            .sent
            .get(&id)
            .ok_or_else(|| format!("{id} was delivered and never sent"))?;
        let to = received.path.rsplit('?').next().unwrap_or_default();
        let owed = sent.kind.owed().iter().find(|(name, _)| *name == to);
        let (to, _) = *owed.ok_or_else(|| format!("{id} ({}) was delivered to {to}", sent.kind.name()))?;
        is_whole(&id, sent, &received.body)?;
        self.requests.entry((to, id)).or_default().push(request);
        Ok(())
    }

    /// Judges it all, when the queue is drained. `dead` are the dead letters, as `dead list --json` shows them.
    ///
    /// # Panics
    /// When a promise was broken; with everything that is wrong.
    pub fn judge(mut self, dead: &[Value]) -> Summary {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let dead: HashSet<(String, String)> = dead
            .iter()
            .map(|letter| (text(&letter["endpoint"]), text(&letter["event_id"])))
            .collect();
        let mut wrong = std::mem::take(&mut self.wrong);
        let promised: Vec<_> = self.promised.iter().cloned().collect();
        for id in &promised {
            wrong.extend(
                self.missing(id, &dead)
                    .into_iter()
                    .map(|to| format!("{id} is lost for {to}")),
            );
        }
        for ids in &self.abandoned {
            let there = ids.iter().filter(|id| self.missing(id, &dead).is_empty()).count();
            let none = ids.iter().filter(|id| self.nowhere(id, &dead)).count();
            if there != ids.len() && none != ids.len() {
                wrong.push(format!(
                    "a batch is there in part ({there} of {}): {ids:?}",
                    ids.len()
                ));
            }
        }
        for (to, id) in &dead {
            let meant = self
                .sent
                .get(id)
                .is_some_and(|sent| sent.kind.owed().contains(&(to.as_str(), false)));
            if !meant {
                wrong.push(format!("{id} is a dead letter of {to}"));
            }
        }
        let mut summary = Summary {
            sent: self.sent.len(),
            promised: self.promised.len(),
            requests: self.requests.values().map(Vec::len).sum(),
            dead: dead.len(),
            ..Summary::default()
        };
        for ((to, id), requests) in &mut self.requests {
            requests.sort_by_key(|request| request.run);
            wrong.extend(follow(requests, &mut summary.repeats).map(|what| format!("{id} to {to}: {what}")));
        }
        let shown = wrong.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
        assert!(wrong.is_empty(), "{} promises broken:\n{shown}", wrong.len());
        summary
    }

    /// The endpoints that neither took an event nor have it among the dead letters.
    fn missing(&self, id: &str, dead: &HashSet<(String, String)>) -> Vec<&'static str> {
        let Some(sent) = self.sent.get(id) else {
            return Vec::new();
        };
        let here = |to: &'static str, taken: bool| {
            let requests = self
                .requests
                .get(&(to, id.to_owned()))
                .map_or(&[][..], Vec::as_slice);
            if taken {
                requests.iter().any(|request| request.taken)
            } else {
                dead.contains(&(to.to_owned(), id.to_owned()))
            }
        };
        sent.kind
            .owed()
            .iter()
            .filter(|(to, taken)| !here(to, *taken))
            .map(|(to, _)| *to)
            .collect()
    }

    /// Whether nothing at all has come of an event.
    fn nowhere(&self, id: &str, dead: &HashSet<(String, String)>) -> bool {
        let Some(sent) = self.sent.get(id) else {
            return true;
        };
        sent.kind.owed().iter().all(|(to, _)| {
            !self.requests.contains_key(&(*to, id.to_owned()))
                && !dead.contains(&((*to).to_owned(), id.to_owned()))
        })
    }
}

/// Whether a body is the event that was sent, byte for byte.
fn is_whole(id: &str, sent: &Sent, body: &[u8]) -> Result<(), String> {
    let body: Value =
        serde_json::from_slice(body).map_err(|error| format!("{id}: a damaged body: {error}"))?;
    let filling = body["data"]["filling"].as_str().unwrap_or_default();
    let whole = body["id"] == id
        && body["type"] == sent.kind.name()
        && filling.len() == sent.filling_bytes
        && filling.bytes().all(|byte| byte == filling_of(id));
    if whole {
        Ok(())
    } else {
        Err(format!("{id} arrived with another body"))
    }
}

/// What an event is filled with.
pub fn filling_of(id: &str) -> u8 {
    b'a' + id.bytes().fold(0, |sum: u8, byte| sum.wrapping_add(byte)) % 26
}

/// Follows one delivery through the runs. Its tries go up by one, or stay where they are when the run was
/// killed before a try was durable; they never go back. What was taken is not sent again by the same run.
fn follow(requests: &[Request], repeats: &mut BTreeMap<u32, usize>) -> Option<String> {
    if requests.first().is_some_and(|first| first.attempt != 1) {
        return Some(format!("it begins with attempt {}", requests[0].attempt));
    }
    for (before, after) in requests.iter().zip(requests.iter().skip(1)) {
        let same_run = before.run == after.run;
        let repeated = after.attempt == before.attempt;
        if !repeated && (before.taken || after.attempt != before.attempt + 1) {
            return Some(format!("attempt {} came after {}", after.attempt, before.attempt));
        }
        if repeated && same_run {
            return Some(format!(
                "attempt {} was made twice by run {}",
                after.attempt, after.run
            ));
        }
        if repeated {
            *repeats.entry(before.run).or_default() += 1;
        }
    }
    None
}
