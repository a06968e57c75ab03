//! What a seed stands for: which endpoints there are, by which rules they are delivered to, how much is sent, and how
//! much goes wrong. Knows nothing of what comes of it.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use posthaste::config;
use posthaste::domain::backoff::Schedule;
use posthaste::domain::endpoint::{
    BatchPolicy, BatchShape, BreakerPolicy, Concurrency, Endpoint, OrderPolicy,
};
use posthaste::domain::rate::Rate;
use posthaste::scheduler::{LaneConfig, SchedulerConfig};
use posthaste::store::LaneId;

use crate::dice::Dice;
use crate::receiver::Manner;

/// Longest time that a batch waits for company.
pub const GATHERS_MS_MAX: u64 = 2000;

/// A number from `low` to `high`, both included.
pub fn between(dice: &mut Dice, low: u64, high: u64) -> u64 {
    low + dice.any() % (high - low + 1)
}

fn millis(dice: &mut Dice, low: u64, high: u64) -> Duration {
    Duration::from_millis(between(dice, low, high))
}

/// An endpoint by the defaults of the configuration; every simulated one begins with it.
pub static PLAIN: LazyLock<Endpoint> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("config.toml");
    let text = "[[endpoint]]\nname = \"plain\"\nevents = [\"**\"]\nurl = \"http://127.0.0.1/\"\n";
    std::fs::write(&file, text).expect("a file can be written");
    let loaded = config::load(&file).expect("the configuration is sound");
    Endpoint::clone(&loaded.config.endpoints[0])
});

/// One endpoint of a world, and what the daemon knows of it.
#[derive(Clone, Debug)]
pub struct Site {
    /// Its queue.
    pub lane: LaneId,
    /// The rules for delivering to it.
    pub endpoint: Arc<Endpoint>,
    /// Whether it is in the configuration.
    pub configured: bool,
    /// Rises when events get other keys: with an even number their own, with an odd one these make two lines.
    pub keyed: u64,
}

impl Site {
    /// What the scheduler needs to know of it; `doubtful`: something on disk waits for another try.
    pub fn lane_config(&self, doubtful: bool) -> LaneConfig {
        LaneConfig {
            lane: self.lane,
            enabled: self.endpoint.enabled,
            concurrency: self.endpoint.concurrency,
            breaker: self.endpoint.breaker,
            rate: self.endpoint.rate,
            batch: self.endpoint.batch.clone(),
            order: self.endpoint.order.policy,
            keyed: self.keyed,
            doubtful,
            rests_until: None,
        }
    }
}

/// How much happens, and how often it goes wrong. "One in n" with n = 0 is never.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The scheduler's bounds.
    pub scheduler: SchedulerConfig,
    /// How each endpoint behaves.
    pub manners: Vec<Manner>,
    /// Lines that producers send.
    pub lines: u64,
    /// Longest pause between two of them.
    pub line_pause_ms: u64,
    /// One event in so many is delayed.
    pub delayed_one_in: usize,
    /// Longest pause between two things an operator does; 0: there is none.
    pub operator_pause_ms: u64,
    /// Longest time between two crashes; 0: none.
    pub crash_pause_ms: u64,
    /// Longest time between two failures of the disk; 0: none.
    pub failure_pause_ms: u64,
    /// Longest time between two jumps of the wall clock; 0: none.
    pub jump_pause_ms: u64,
    /// One answer of the store in so many fails.
    pub refill_fails_one_in: usize,
    /// One read of an event in so many fails.
    pub read_fails_one_in: usize,
    /// One event in so many is damaged on disk.
    pub damaged_one_in: usize,
    /// Longest flush.
    pub flush_ms_max: u64,
}

impl Scenario {
    /// The scenario of a seed. Every kind of trouble is left out of some, so that what remains stands out.
    pub fn new(dice: &mut Dice) -> Self {
        let lanes = between(dice, 1, 7);
        let slots = [4, 8, 24, 200][dice.below(4)];
        let window_max = [2, 16, 16, 64][dice.below(4)];
        Self {
            scheduler: SchedulerConfig {
                in_flight_max: slots,
                window_max,
                ..SchedulerConfig::default()
            },
            manners: (0..lanes).map(|_| manner(dice)).collect(),
            lines: [10, 30, 80][dice.below(3)],
            line_pause_ms: [5, 100, 800][dice.below(3)],
            delayed_one_in: [0, 4, 10][dice.below(3)],
            operator_pause_ms: [0, 1500, 6000][dice.below(3)],
            crash_pause_ms: [0, 0, 2000, 10_000][dice.below(4)],
            failure_pause_ms: [0, 0, 0, 8000][dice.below(4)],
            jump_pause_ms: [0, 0, 0, 0, 10_000][dice.below(5)],
            refill_fails_one_in: [0, 0, 20][dice.below(3)],
            read_fails_one_in: [0, 0, 100][dice.below(3)],
            damaged_one_in: [0, 0, 60][dice.below(3)],
            flush_ms_max: [0, 4, 40][dice.below(3)],
        }
    }
}

fn manner(dice: &mut Dice) -> Manner {
    match dice.below(16) {
        0..=2 => Manner::Steady {
            ms: [1, 10, 200][dice.below(3)],
        },
        3 => Manner::Jittery { ms_max: 300 },
        4 => Manner::Knee {
            workers: 1 + dice.below(6) as u32,
        },
        5 => Manner::Limited {
            per_second: 5 + dice.below(20) as u32,
            retry_after_ms: None,
        },
        6 => Manner::Limited {
            per_second: 5 + dice.below(20) as u32,
            retry_after_ms: Some(between(dice, 1, 3000)),
        },
        7 => Manner::Flaky {
            one_in: 2 + dice.below(6),
        },
        8 => Manner::Flapping {
            period_ms: between(dice, 200, 8000),
        },
        9 => Manner::Weary {
            retry_after_ms: between(dice, 1, 4000),
        },
        10 => Manner::Picky,
        11 => Manner::Poisoned,
        12 => Manner::Gone,
        13 => Manner::Dead,
        _ => Manner::Hanging,
    }
}

/// Rules for delivering to one endpoint.
pub fn endpoint(dice: &mut Dice) -> Endpoint {
    let mut endpoint = PLAIN.clone();
    let retry = &mut endpoint.retry;
    retry.schedule = if dice.one_in(2) {
        Schedule::Listed((0..3).map(|_| millis(dice, 1, 4000)).collect())
    } else {
        Schedule::Exponential {
            initial: millis(dice, 1, 500),
            factor: 2.0,
            max: Duration::from_secs(8),
        }
    };
    retry.jitter = [0.0, 0.2][dice.below(2)];
    retry.max_attempts = [2, 6, 100][dice.below(3)];
    retry.max_age = Duration::from_secs([20, 3600][dice.below(2)]);
    retry.max_retry_after = Duration::from_secs([2, 600][dice.below(2)]);
    endpoint.breaker = breaker(dice);
    endpoint.concurrency = concurrency(dice);
    endpoint.best_effort = dice.one_in(12);
    let gathers_ms = [200, GATHERS_MS_MAX][dice.below(2)];
    endpoint.batch = dice.one_in(4).then(|| BatchPolicy {
        items: None,
        events_max: between(dice, 2, 9) as usize,
        bytes_max: between(dice, 2, 12) as usize,
        wait_max: millis(dice, 0, gathers_ms),
        shape: BatchShape::Array,
    });
    endpoint.order.policy = order(dice);
    endpoint.rate = dice
        .one_in(6)
        .then(|| Rate::parse(&format!("{}/s", between(dice, 2, 50))).expect("it is a rate"));
    endpoint
}

/// What is kept in order.
pub fn order(dice: &mut Dice) -> OrderPolicy {
    use OrderPolicy::{Endpoint, Key, None};
    [None, None, None, Endpoint, Key, Key][dice.below(6)]
}

/// When an endpoint is left alone for a while.
pub fn breaker(dice: &mut Dice) -> BreakerPolicy {
    BreakerPolicy {
        failures: [0, 3, 5][dice.below(3)],
        rate: [0.0, 0.5][dice.below(2)],
        window: Duration::from_secs(20),
        min_requests: 10,
        open: millis(dice, 500, 4000),
        max_open: Duration::from_secs(20),
    }
}

/// How many requests at once.
pub fn concurrency(dice: &mut Dice) -> Concurrency {
    let min = 1 + dice.below(4) as u32;
    Concurrency {
        min,
        max: min + dice.below(16) as u32,
    }
}
