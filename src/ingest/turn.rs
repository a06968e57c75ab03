//! One turn of a connection: the lines that were read together, their one commit, and their answers in the
//! order of the lines. It refuses to know where lines come from and where answers go.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::answer;
use super::build::{self, Moment};
use super::frame::{Ack, Code, Line, Parsed, Refused, judge};
use super::intake::{Counters, Intake, Remembered, RouteTable};
use super::lines::{LineBuffer, RawLine};
use super::sender::Sender;
use super::together::Together;
use crate::store::committer::AcceptAnswer;
use crate::store::{AcceptGroup, Accepted, NewEvent, Refusal, StoreError};

/// Lines in one turn, so that a producer that writes without end takes turns with the others.
const LINES_MAX: usize = 1000;
/// Bytes of events in one turn; a batch that begins below it is taken whole.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// A turn of more lines or with more bytes of ids gives its memory back, so that a connection holds little between turns.
const KEPT_LINES_MAX: usize = 64;
const KEPT_ID_BYTES_MAX: usize = 4 << 10;

/// What a connection keeps from turn to turn.
#[derive(Debug)]
pub struct Desk {
    intake: Arc<Intake>,
    sender: Sender,
    remembered: Arc<Mutex<Remembered>>,
    ack: Ack,
    /// The memory of the last turn, for the next one.
    spare: Turn,
    /// With whom it asks the store; `None`: alone.
    together: Option<Arc<Together>>,
    /// Whether it is the daemon's own: open to the end, and asked for no permission.
    is_own: bool,
}

/// What one turn's events are judged by, the same for all of them.
struct Rules<'a> {
    table: Arc<RouteTable>,
    remembered: MutexGuard<'a, Remembered>,
    moment: Moment,
    closed: Option<Refused>,
}

/// The lines of one turn, judged.
#[derive(Debug, Default)]
pub struct Turn {
    groups: Vec<AcceptGroup>,
    event_bytes: usize,
    slots: Vec<Slot>,
    /// The ids of all events as JSON strings, commas between those of one line.
    ids: Vec<u8>,
    /// For every event in `groups`, how many lanes it is owed to.
    owed: Vec<usize>,
}

/// What one line will be answered.
#[derive(Debug)]
enum Slot {
    Refused { refused: Refused, line: u64 },
    Control(Ack),
    Events(Taken),
}

/// A line of events that goes to the store, unless nobody is owed any of them.
#[derive(Debug)]
struct Taken {
    line: u64,
    is_batch: bool,
    events: usize,
    /// In [`Turn::ids`].
    ids: Range<usize>,
    /// In [`Turn::owed`]; empty: nobody is owed anything, and there is no group.
    owed: Range<usize>,
}

impl Turn {
    /// Whether there is nothing to answer.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The same without its lines.
    fn emptied(mut self) -> Self {
        if self.slots.capacity() > KEPT_LINES_MAX || self.ids.capacity() > KEPT_ID_BYTES_MAX {
            return Self::default();
        }
        self.groups.clear();
        self.event_bytes = 0;
        self.slots.clear();
        self.ids.clear();
        self.owed.clear();
        self
    }

    fn is_full(&self) -> bool {
        self.slots.len() >= LINES_MAX || self.event_bytes >= EVENT_BYTES_MAX
    }
}

impl Desk {
    /// The desk of whoever is alone.
    #[must_use]
    pub fn new(intake: Arc<Intake>, sender: Sender) -> Self {
        Self {
            intake,
            sender,
            remembered: Arc::default(),
            ack: Ack::default(),
            spare: Turn::default(),
            together: None,
            is_own: false,
        }
    }

    /// The desk of a new connection, beside others on its thread, with which it asks the store and remembers.
    #[must_use]
    pub fn among(
        together: Arc<Together>,
        remembered: Arc<Mutex<Remembered>>,
        intake: Arc<Intake>,
        sender: Sender,
    ) -> Self {
        Self {
            together: Some(together),
            remembered,
            ..Self::new(intake, sender)
        }
    }

    /// The desk of the daemon itself: what is born from a delivery is taken as long as deliveries end, whoever may send.
    #[must_use]
    pub fn of_daemon(intake: Arc<Intake>, sender: Sender) -> Self {
        Self {
            is_own: true,
            ..Self::new(intake, sender)
        }
    }

    /// Takes the complete lines that `lines` holds, up to the bounds of a turn.
    pub fn turn(&mut self, lines: &mut LineBuffer) -> Turn {
        let mut next = lines.next_line();
        if next.is_none() {
            return Turn::default();
        }
        let mut turn = std::mem::take(&mut self.spare);
        let mut rules = self.rules();
        while let Some(read) = next {
            self.take(&mut rules, &mut turn, read.line, read.number);
            next = if turn.is_full() { None } else { lines.next_line() };
        }
        turn
    }

    /// A turn of one text that may hold line ends, such as the body of a request. A control line is refused: there is
    /// no connection whose answers it could change.
    pub fn turn_of(&self, text: &[u8]) -> Turn {
        let mut turn = Turn::default();
        self.take(&mut self.rules(), &mut turn, RawLine::Bytes(text), 1);
        for slot in &mut turn.slots {
            if let Slot::Control(_) = slot {
                let message = "`ack` is for producers that stay connected; an event needs a `type`";
                *slot = Slot::Refused {
                    refused: Refused::new(Code::InvalidEvent, message),
                    line: 1,
                };
            }
        }
        turn
    }

    /// A turn that refuses a request as a whole.
    #[must_use]
    pub fn refusing(refused: Refused) -> Turn {
        Turn {
            slots: vec![Slot::Refused { refused, line: 1 }],
            ..Turn::default()
        }
    }

    fn rules(&self) -> Rules<'_> {
        // What is remembered is only what would be found anew, so it is good also after a panic.
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        Rules {
            table: self.intake.routes.load_full(),
            moment: remembered.moment(self.intake.now()),
            remembered,
            closed: self.intake.closed().filter(|_| !self.is_own),
        }
    }

    fn take(&self, rules: &mut Rules<'_>, turn: &mut Turn, read: RawLine<'_>, line: u64) {
        let judged = match read {
            RawLine::Bytes(bytes) => judge(bytes, &self.intake.limits),
            RawLine::TooLong { bytes_max } => Line::Refused(Refused::too_long("the line", bytes_max)),
        };
        let slot = match judged {
            Line::Refused(refused) => Err(refused),
            Line::Control(ack) => Ok(Slot::Control(ack)),
            Line::Event(parsed) => self.take_events(rules, turn, &[*parsed], None, line),
            Line::Batch(batch) => self.take_events(rules, turn, &batch, Some(batch.len()), line),
        };
        turn.slots
            .push(slot.unwrap_or_else(|refused| Slot::Refused { refused, line }));
    }

    /// Builds the events of one line, `batch` of them if it is an array, and puts those that somebody is
    /// owed into one group. When one can't be taken, none is.
    fn take_events(
        &self,
        rules: &mut Rules<'_>,
        turn: &mut Turn,
        events: &[Parsed<'_>],
        batch: Option<usize>,
        line: u64,
    ) -> Result<Slot, Refused> {
        let (ids_from, owed_from) = (turn.ids.len(), turn.owed.len());
        let mut group = Vec::with_capacity(events.len());
        for (index, parsed) in events.iter().enumerate() {
            let new = self.build(rules, parsed).map_err(|refused| {
                turn.ids.truncate(ids_from);
                turn.owed.truncate(owed_from);
                in_batch(refused, index, batch)
            })?;
            if turn.ids.len() > ids_from {
                turn.ids.push(b',');
            }
            answer::string(&mut turn.ids, &new.event.head.id);
            if !new.lanes.is_empty() {
                turn.owed.push(new.lanes.len());
                group.push(new);
            }
        }
        self.admit(rules, events).map_err(|(index, refused)| {
            turn.ids.truncate(ids_from);
            turn.owed.truncate(owed_from);
            in_batch(refused, index, batch)
        })?;
        turn.event_bytes += group.iter().map(|new| new.event.json.len()).sum::<usize>();
        if !group.is_empty() {
            turn.groups.push(AcceptGroup { events: group });
        }
        Ok(Slot::Events(Taken {
            line,
            is_batch: batch.is_some(),
            events: events.len(),
            ids: ids_from..turn.ids.len(),
            owed: owed_from..turn.owed.len(),
        }))
    }

    /// Asks the rules on who may send what. Last of all, so that what is wrong anyway uses no rate up.
    fn admit(&self, rules: &Rules<'_>, events: &[Parsed<'_>]) -> Result<(), (usize, Refused)> {
        if self.is_own {
            return Ok(());
        }
        let kinds = events.iter().map(|parsed| &*parsed.attributes.kind);
        let denied = self.intake.admit(&self.sender, kinds, rules.moment.now());
        denied.map_err(|(index, refused)| {
            let id = events
                .get(index)
                .and_then(|parsed| parsed.attributes.id.as_deref());
            (index, refused.about(id))
        })
    }

    fn build(&self, rules: &mut Rules<'_>, parsed: &Parsed<'_>) -> Result<NewEvent, Refused> {
        let attributes = &parsed.attributes;
        let named = |refused: Refused| refused.about(attributes.id.as_deref());
        if let Some(closed) = &rules.closed {
            return Err(named(closed.clone()));
        }
        let owed = rules
            .remembered
            .owed(
                &rules.table,
                &attributes.kind,
                attributes.tenant.as_deref(),
                attributes.endpoint.as_deref(),
            )
            .map_err(|message| named(Refused::new(Code::InvalidEvent, message)))?;
        let event = build::event(parsed, &self.sender, &rules.moment)?;
        let lanes = owed.lanes(&event.json);
        Ok(NewEvent { event, lanes })
    }

    /// Makes the events of `turn` durable, all by one call, and appends the answers its lines get.
    ///
    /// # Errors
    /// [`StoreError::Failed`]: nothing is known of these events, so nothing was appended and nothing may
    /// be answered.
    pub async fn answer(&mut self, mut turn: Turn, out: &mut Vec<u8>) -> Result<(), StoreError> {
        let groups = std::mem::take(&mut turn.groups);
        let settled = if groups.is_empty() {
            Vec::new()
        } else {
            self.keep(groups).await?
        };
        let mut settled = settled.into_iter();
        for slot in &turn.slots {
            match slot {
                Slot::Refused { refused, line } => self.reject(out, refused, *line),
                Slot::Control(ack) => {
                    self.ack = *ack;
                    answer::control(out, *ack);
                }
                Slot::Events(taken) if taken.owed.is_empty() => self.accept(out, &turn, taken, &[]),
                Slot::Events(taken) => match settled.next() {
                    Some(Ok(accepted)) => self.accept(out, &turn, taken, &accepted),
                    Some(Err(refusal)) => {
                        self.reject(out, &refused_by_store(&turn, taken, refusal), taken.line);
                    }
                    None => return Err(StoreError::Failed("the store left a line unanswered".to_owned())),
                },
            }
        }
        self.spare = turn.emptied();
        Ok(())
    }

    /// Hands `groups` to the store, and tells the tracer of what it took, if there is one.
    async fn keep(&self, groups: Vec<AcceptGroup>) -> AcceptAnswer {
        let Some(tracer) = &self.intake.tracer else {
            return self.hand_in(groups).await;
        };
        let events = groups.iter().enumerate().flat_map(|(at, group)| {
            let events = group.events.iter().enumerate();
            events.map(move |(index, new)| ((at, index), &new.event.head, new.lanes.len()))
        });
        let accepting = tracer.accepting(events);
        let settled = self.hand_in(groups).await?;
        if let Some(accepting) = accepting {
            tracer.accepted(accepting, |(at, index)| {
                let accepted = settled.get(at).and_then(|group| group.as_ref().ok());
                matches!(
                    accepted.and_then(|group| group.get(index)),
                    Some(Accepted::New(_))
                )
            });
        }
        Ok(settled)
    }

    async fn hand_in(&self, groups: Vec<AcceptGroup>) -> AcceptAnswer {
        match &self.together {
            Some(together) => together.accept(groups).await,
            None => self.intake.queue.accept(groups).await,
        }
    }

    fn reject(&self, out: &mut Vec<u8>, refused: &Refused, line: u64) {
        Counters::add(self.intake.counters.rejected(refused.code), 1);
        if self.ack != Ack::None {
            answer::rejected(out, refused, line);
        }
    }

    /// Answers a line that was taken; `accepted` holds what became of the events that went to the store.
    fn accept(&self, out: &mut Vec<u8>, turn: &Turn, taken: &Taken, accepted: &[Accepted]) {
        let owed = &turn.owed[taken.owed.clone()];
        let is_new = |accepted: &Accepted| matches!(accepted, Accepted::New(_));
        let new = accepted.iter().zip(owed).filter(|(accepted, _)| is_new(accepted));
        let deliveries = new.map(|(_, lanes)| *lanes as u64).sum();
        let duplicates = accepted.iter().filter(|accepted| !is_new(accepted)).count();
        let counters = &self.intake.counters;
        Counters::add(&counters.accepted, (taken.events - duplicates) as u64);
        Counters::add(&counters.duplicate, duplicates as u64);
        if self.ack != Ack::Each {
            return;
        }
        let ids = &turn.ids[taken.ids.clone()];
        let all_duplicates = duplicates == taken.events;
        match (taken.is_batch, all_duplicates) {
            (false, false) => answer::accepted(out, ids, deliveries),
            (false, true) => answer::duplicate(out, ids),
            (true, false) => answer::batch_accepted(out, ids, deliveries, duplicates as u64),
            (true, true) => answer::batch_duplicate(out, ids),
        }
    }
}

/// Says which event of a batch a refusal is about.
fn in_batch(refused: Refused, index: usize, batch: Option<usize>) -> Refused {
    match batch {
        None => refused,
        // Not the fault of this event, so it need not be pointed out.
        Some(_) if refused.retry_after_ms.is_some() => refused,
        Some(count) => Refused {
            message: format!("event {} of {count}: {}", index + 1, refused.message),
            ..refused
        },
    }
}

fn refused_by_store(turn: &Turn, taken: &Taken, refusal: Refusal) -> Refused {
    let code = match refusal {
        Refusal::QueueFull => Code::QueueFull,
        Refusal::DiskFull => Code::DiskFull,
    };
    let id = (!taken.is_batch)
        .then(|| serde_json::from_slice::<Box<str>>(&turn.ids[taken.ids.clone()]).ok())
        .flatten();
    Refused::new(code, refusal.to_string()).about(id.as_deref())
}
