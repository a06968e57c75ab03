//! The loop of everything that happens, in the order of a time that is only a number. What happens outside of the
//! daemon outlives it; what happens inside is gone with a crash, as memory is.

use std::collections::BTreeMap;
use std::sync::Arc;

use posthaste::domain::event::Seq;
use posthaste::domain::several::Several;
use posthaste::domain::time::{Now, Timestamp};
use posthaste::scheduler::{Input, Refill};
use posthaste::store::committer::Notice;
use posthaste::store::memory::{MemoryStore, Reached};
use posthaste::store::{AcceptGroup, Due, LaneId, Store};

use crate::checks::Watch;
use crate::commit::{Answer, Committer, Verb};
use crate::daemon::Daemon;
use crate::dice::Dice;
use crate::job::Ended;
use crate::ledger::Ledger;
use crate::receiver::Receiver;
use crate::scenario::{self, Scenario, Site, between};

/// The wall clock when a world begins.
const START_MS: u64 = 1_700_000_000_000;
/// From here on nothing goes wrong any more, if producers have not ended before.
const TROUBLE_MS: u64 = 60_000;

/// Something that happens in the world around the daemon.
#[derive(Debug)]
pub enum Outside {
    /// A producer sends a line.
    Produce,
    /// An operator does something.
    Operate,
    /// The daemon is killed.
    Crash,
    /// It starts again.
    Start,
    /// The disk will fail.
    FailDisk,
    /// The wall clock jumps.
    Jump,
    /// Every trouble ends.
    Heal,
}

/// Something that happens in the daemon.
#[derive(Debug)]
pub enum Inside {
    /// A request has ended.
    Ended(Box<Ended>),
    /// Deliveries did not fit into their request.
    GivenBack(LaneId, Several<Due>),
    /// The store looks for what a lane asked for.
    Looks(Refill),
    /// The dispatcher hears something.
    Tell(Input),
    /// The dispatcher hears what is durable, and producers get their answers.
    Told(Vec<Notice>, Vec<Answer>),
    /// The committer looks whether there is something to do.
    Turn,
    /// A commit has reached the disk.
    Flushed,
    /// A verb of an operator has reached the disk.
    Done(Verb),
}

/// What happens next, by time and then by order of being asked for.
#[derive(Debug)]
pub struct Agenda<T> {
    coming: BTreeMap<(u64, u64), T>,
    order: u64,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self {
            coming: BTreeMap::new(),
            order: 0,
        }
    }
}

impl<T> Agenda<T> {
    fn add(&mut self, at_ms: u64, event: T) {
        self.order += 1;
        self.coming.insert((at_ms, self.order), event);
    }

    fn next_ms(&self) -> Option<u64> {
        self.coming.first_key_value().map(|((at, _), _)| *at)
    }

    fn pop(&mut self, now_ms: u64) -> Option<T> {
        let entry = self.coming.first_entry()?;
        (entry.key().0 <= now_ms).then(|| entry.remove())
    }

    /// Whether nothing is to come.
    pub fn is_empty(&self) -> bool {
        self.coming.is_empty()
    }
}

/// How much happened; summed up over seeds it shows that every part had work.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Deliveries accepted.
    pub deliveries: u64,
    /// Requests made.
    pub requests: u64,
    /// Dead letters at the end.
    pub dead: u64,
    /// Crashes, failures of the disk among them.
    pub crashes: u64,
    /// Failures of the disk.
    pub disk_failures: u64,
    /// Verbs of operators that reached the disk.
    pub verbs: u64,
    /// Deliveries that were moved from an endpoint that had gone to another.
    pub moved: u64,
    /// Requests that could not hold all that was meant for them.
    pub parted: u64,
    /// Requests made again after a crash.
    pub repeats: u64,
    /// Deliveries that left an ordered endpoint's queue while others of their line had to wait.
    pub waited_for: u64,
    /// Times a lane came into another state.
    pub moves: u64,
    /// Wake-ups by the scheduler's own alarm.
    pub wakes: u64,
}

impl Totals {
    /// Adds those of another world.
    pub fn add(&mut self, other: &Self) {
        self.deliveries += other.deliveries;
        self.requests += other.requests;
        self.dead += other.dead;
        self.crashes += other.crashes;
        self.disk_failures += other.disk_failures;
        self.verbs += other.verbs;
        self.moved += other.moved;
        self.parted += other.parted;
        self.repeats += other.repeats;
        self.waited_for += other.waited_for;
        self.moves += other.moves;
        self.wakes += other.wakes;
    }

    /// A simulation in which some kind of trouble never comes proves nothing of it.
    pub fn assert_no_part_is_idle(&self, seeds: u64) {
        for count in [
            self.deliveries,
            self.requests,
            self.dead,
            self.crashes,
            self.disk_failures * 10,
            self.verbs,
            self.moved,
            self.parted,
            self.repeats,
            self.waited_for,
            self.moves,
            self.wakes,
        ] {
            assert!(
                count >= seeds / 4,
                "too little happened in {seeds} worlds: {self:?}"
            );
        }
    }
}

/// One world.
pub struct World {
    pub seed: u64,
    /// Whether every step is shown.
    pub shown: bool,
    pub dice: Dice,
    pub scenario: Scenario,
    /// The time, in milliseconds since the beginning.
    pub now_ms: u64,
    /// How far the wall clock is off.
    skew_ms: i64,
    pub sites: Vec<Site>,
    pub receivers: Vec<Receiver>,
    pub store: MemoryStore,
    pub ledger: Ledger,
    /// The daemon, while it runs.
    pub daemon: Option<Daemon>,
    pub outside: Agenda<Outside>,
    pub inside: Agenda<Inside>,
    pub committer: Committer,
    /// Lines that got no answer yet.
    pub unanswered: BTreeMap<u64, AcceptGroup>,
    /// Where each event was accepted, by its id.
    pub accepted: BTreeMap<Box<str>, Seq>,
    /// Before when events are not to be delivered.
    pub delays: BTreeMap<Seq, Timestamp>,
    /// The ordering keys of the events that have one and can be read.
    pub keys: BTreeMap<Seq, Box<str>>,
    pub lines_sent: u64,
    pub events_sent: u64,
    /// How far a commit that is going to fail comes.
    pub failing: Reached,
    /// Set when all trouble has ended.
    pub healed_at_ms: Option<u64>,
    /// When the dispatcher hears the latest of what operators have done.
    pub told_ms: u64,
    pub watch: Watch,
    pub totals: Totals,
}

impl World {
    /// The world of a seed; `shown`: it tells every step.
    pub fn new(seed: u64, shown: bool) -> Self {
        let mut dice = Dice::new(seed);
        let scenario = Scenario::new(&mut dice);
        let store = MemoryStore::new(std::time::Duration::from_secs(86_400), 1_000_000);
        let sites = (0..scenario.manners.len()).map(|at| Site {
            lane: store.lane(&format!("lane-{at}")).expect("the store works"),
            endpoint: Arc::new(scenario::endpoint(&mut dice)),
            configured: true,
            keyed: 0,
        });
        let sites: Vec<_> = sites.collect();
        let receivers = scenario.manners.iter().copied().map(Receiver::new).collect();
        let mut world = Self {
            seed,
            shown,
            dice,
            now_ms: 0,
            skew_ms: 0,
            sites,
            receivers,
            store,
            ledger: Ledger::default(),
            daemon: None,
            outside: Agenda::default(),
            inside: Agenda::default(),
            committer: Committer::default(),
            unanswered: BTreeMap::new(),
            accepted: BTreeMap::new(),
            delays: BTreeMap::new(),
            keys: BTreeMap::new(),
            lines_sent: 0,
            events_sent: 0,
            failing: Reached::Nothing,
            healed_at_ms: None,
            told_ms: 0,
            watch: Watch::new(scenario.manners.len()),
            totals: Totals::default(),
            scenario,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        if self.shown {
            println!("{:#?}", self.scenario);
            let sites = self.sites.iter().map(|site| &site.endpoint);
            sites.for_each(|e| println!("{:?} {:?} {:?}", e.retry, e.breaker, e.concurrency));
        }
        self.start();
        self.outside.add(0, Outside::Produce);
        for (pause_ms, what) in [
            (self.scenario.operator_pause_ms, Outside::Operate),
            (self.scenario.crash_pause_ms, Outside::Crash),
            (self.scenario.failure_pause_ms, Outside::FailDisk),
            (self.scenario.jump_pause_ms, Outside::Jump),
        ] {
            self.again(pause_ms, what);
        }
        self.outside.add(TROUBLE_MS, Outside::Heal);
    }

    /// Plans something for some time within `pause_ms`; 0: never.
    fn again(&mut self, pause_ms: u64, what: Outside) {
        if pause_ms > 0 {
            let pause_ms = between(&mut self.dice, 1, pause_ms);
            self.outside.add(self.now_ms + pause_ms, what);
        }
    }

    /// Something in the daemon, some time from now.
    pub fn soon(&mut self, delay_ms: u64, what: Inside) {
        self.inside.add(self.now_ms + delay_ms, what);
    }

    /// What the wall clock shows.
    pub fn wall(&self) -> Timestamp {
        Timestamp((START_MS + self.now_ms).saturating_add_signed(self.skew_ms))
    }

    /// The lane at a place of the list.
    pub fn lane(&self, at: usize) -> LaneId {
        self.sites[at].lane
    }

    /// Runs it to its end.
    pub fn run(mut self) -> Totals {
        while !self.is_over() {
            self.advance();
            self.step();
        }
        self.check_end();
        self.totals
    }

    /// Goes to the next thing that happens, or to the scheduler's next wake-up.
    fn advance(&mut self) {
        let wake = self.daemon.as_ref().and_then(|daemon| daemon.wake_at_ms);
        let events = self.inside.next_ms().into_iter().chain(self.outside.next_ms());
        let event = events.min();
        let Some(at_ms) = wake.into_iter().chain(event).min() else {
            self.fail("deliveries are owed, and nothing will ever happen");
        };
        self.now_ms = self.now_ms.max(at_ms);
        self.check_time();
    }

    /// Everything whose time has come, or some of it: then a poll, as the dispatcher does it.
    fn step(&mut self) {
        let mut happened = false;
        while let Some(event) = self.inside.pop(self.now_ms) {
            happened = true;
            self.show(&event);
            self.happens_inside(event);
            if self.dice.one_in(3) {
                break;
            }
        }
        if let Some(event) = self.outside.pop(self.now_ms) {
            happened = true;
            self.show(&event);
            self.happens_outside(event);
        }
        self.poll(happened);
        self.check_step();
    }

    fn show(&self, event: &impl std::fmt::Debug) {
        if self.shown {
            println!("{:>8} {event:?}", self.now_ms);
        }
    }

    fn happens_inside(&mut self, event: Inside) {
        match event {
            Inside::Ended(ended) => self.end(*ended),
            Inside::GivenBack(lane, batch) => self.give_back(lane, batch),
            Inside::Looks(refill) => self.look(refill),
            Inside::Tell(input) => self.tell(input),
            Inside::Told(notices, answers) => self.told(notices, answers),
            Inside::Turn => self.turn(),
            Inside::Flushed => self.flushed(),
            Inside::Done(verb) => self.done(verb),
        }
    }

    fn happens_outside(&mut self, event: Outside) {
        match event {
            Outside::Start => self.start(),
            Outside::Heal => self.heal(),
            _ if self.healed_at_ms.is_some() => {}
            Outside::Produce => {
                self.produce();
                if self.lines_sent < self.scenario.lines {
                    let pause_ms = between(&mut self.dice, 0, self.scenario.line_pause_ms);
                    self.outside.add(self.now_ms + pause_ms, Outside::Produce);
                }
            }
            Outside::Operate => {
                self.operate();
                self.again(self.scenario.operator_pause_ms, Outside::Operate);
            }
            Outside::Crash => {
                self.crash();
                self.again(self.scenario.crash_pause_ms, Outside::Crash);
            }
            Outside::FailDisk => {
                self.failing = [Reached::Nothing, Reached::Disk][self.dice.below(2)];
                self.store
                    .fail_commit(between(&mut self.dice, 1, 20), self.failing);
                self.again(self.scenario.failure_pause_ms, Outside::FailDisk);
            }
            Outside::Jump => {
                let far_ms = [900, 20_000, 4_000_000][self.dice.below(3)];
                let by_ms = between(&mut self.dice, 0, 2 * far_ms) as i64 - far_ms as i64;
                self.skew_ms += by_ms;
                self.watch.clock_jumped(by_ms, self.now_ms, self.wall());
                self.again(self.scenario.jump_pause_ms, Outside::Jump);
            }
        }
    }

    /// The daemon dies: what is in memory is gone, what the store has committed stays.
    pub fn crash(&mut self) {
        if self.daemon.take().is_none() {
            return;
        }
        self.totals.crashes += 1;
        self.inside = Agenda::default();
        self.committer = Committer::default();
        self.store = self.store.crash();
        self.ledger.crashed();
        self.receivers.iter_mut().for_each(Receiver::cut_off);
        self.watch.restarted();
        let pause_ms = between(&mut self.dice, 0, 300);
        self.outside.add(self.now_ms + pause_ms, Outside::Start);
    }

    /// The daemon starts on what it finds.
    fn start(&mut self) {
        let now = Now {
            wall: self.wall(),
            mono_ms: 0,
        };
        if self.healed_at_ms.is_some() {
            self.forget_pauses();
        }
        self.daemon = Some(Daemon::new(self.scenario.scheduler, self.now_ms));
        self.configure(now);
        let unanswered: Vec<_> = self
            .unanswered
            .iter()
            .map(|(n, group)| (*n, group.clone()))
            .collect();
        for (number, group) in unanswered {
            self.hand_in(number, group);
        }
    }

    /// Everything works again from now on: what is owed has to come to an end.
    fn heal(&mut self) {
        self.healed_at_ms = Some(self.now_ms);
        self.receivers.iter_mut().for_each(Receiver::heal);
        self.store.refuse(None);
        for site in &mut self.sites {
            site.configured = true;
            Arc::make_mut(&mut site.endpoint).enabled = true;
        }
        if self.daemon.is_none() {
            return;
        }
        self.configure(self.now());
        let lanes: Vec<_> = self.sites.iter().map(|site| site.lane).collect();
        lanes
            .into_iter()
            .for_each(|lane| self.ask(Verb::Pause(lane, None)));
    }

    /// Nobody is left to end a pause that outlives a crash after the end of all trouble.
    fn forget_pauses(&mut self) {
        for site in &self.sites {
            self.store.pause(site.lane, None).expect("the store works again");
        }
    }

    /// Whether all trouble has ended and nothing is left to do.
    fn is_over(&self) -> bool {
        let asleep = |daemon: &Daemon| daemon.wake_at_ms.is_none();
        self.healed_at_ms.is_some()
            && self.ledger.owed == 0
            && self.unanswered.is_empty()
            && self.inside.is_empty()
            && self.outside.is_empty()
            && self.daemon.as_ref().is_some_and(asleep)
    }
}
