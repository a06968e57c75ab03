//! Endpoints as a daemon sees them: how long they take and what they say. They outlive the daemon, and know nothing
//! of it.

use std::time::Duration;

use posthaste::domain::outcome::{EndpointSignal, ErrorClass, Outcome};

use crate::dice::Dice;
use crate::scenario::between;

/// The whole-attempt deadline of every endpoint.
pub const TIMEOUT_MS: u64 = 10_000;

/// How an endpoint behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Takes everything, always as fast.
    Steady {
        /// Response time.
        ms: u64,
    },
    /// Takes everything, sometimes fast, sometimes slow.
    Jittery {
        /// The slowest.
        ms_max: u64,
    },
    /// Works at so many at once; what is over that waits in its queue.
    Knee {
        /// How many.
        workers: u32,
    },
    /// 429 above a rate.
    Limited {
        /// The rate.
        per_second: u32,
        /// What it asks for with a 429.
        retry_after_ms: Option<u64>,
    },
    /// Fails one request in so many.
    Flaky {
        /// How many.
        one_in: usize,
    },
    /// Up for so long, down for so long.
    Flapping {
        /// How long.
        period_ms: u64,
    },
    /// Wants to be left alone now and then: 503 with `Retry-After`.
    Weary {
        /// For how long.
        retry_after_ms: u64,
    },
    /// Refuses some events for good, one kind by status, the other by `webhook-delivery: abort-message`.
    Picky,
    /// Some events make it hang, at every try; others are fine.
    Poisoned,
    /// Says 410 now and then.
    Gone,
    /// Refuses connections.
    Dead,
    /// Answers nothing, or a body byte by byte, until the deadline; it may have done the work.
    Hanging,
}

/// What came of one request.
#[derive(Clone, Copy, Debug)]
pub struct Reply {
    /// Response time.
    pub took_ms: u64,
    /// As the daemon reads it.
    pub outcome: Outcome,
    /// The answer's status.
    pub status: Option<u16>,
    /// What it said of itself.
    pub signal: EndpointSignal,
}

/// One endpoint.
#[derive(Debug)]
pub struct Receiver {
    /// Its manner, until it is healed.
    pub manner: Manner,
    healed: bool,
    /// Requests it works on.
    under_way: u32,
    /// The second it counts, and the requests in it.
    second: (u64, u32),
    /// Requests so far.
    pub requests: u64,
}

impl Receiver {
    /// An endpoint that nobody has asked yet.
    pub fn new(manner: Manner) -> Self {
        Self {
            manner,
            healed: false,
            under_way: 0,
            second: (0, 0),
            requests: 0,
        }
    }

    /// From now on it takes everything at once.
    pub fn heal(&mut self) {
        self.healed = true;
    }

    /// The daemon is gone, and its connections with it.
    pub fn cut_off(&mut self) {
        self.under_way = 0;
    }

    /// The daemon has its answer.
    pub fn ended(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Takes in a request with the events `seqs` at `now_ms`.
    pub fn request(&mut self, seqs: &[u64], now_ms: u64, dice: &mut Dice) -> Reply {
        let has_one_of = |n: u64| seqs.iter().any(|seq| seq.is_multiple_of(n));
        self.under_way += 1;
        self.requests += 1;
        if self.second.0 != now_ms / 1000 {
            self.second = (now_ms / 1000, 0);
        }
        self.second.1 += 1;
        if self.healed {
            return status(200, 2);
        }
        match self.manner {
            Manner::Steady { ms } => status(200, ms),
            Manner::Jittery { ms_max } => status(200, between(dice, 1, ms_max)),
            Manner::Knee { workers } => {
                let queue = u64::from(self.under_way.div_ceil(workers));
                status(200, 40 * queue)
            }
            Manner::Limited {
                per_second,
                retry_after_ms,
            } => {
                if self.second.1 > per_second {
                    asking(429, 3, retry_after_ms)
                } else {
                    status(200, 20)
                }
            }
            Manner::Flaky { one_in } if dice.one_in(one_in) => status(500, 20),
            Manner::Flapping { period_ms } if (now_ms / period_ms) % 2 == 1 => failed(ErrorClass::Connect, 1),
            Manner::Weary { retry_after_ms } if dice.one_in(6) => asking(503, 5, Some(retry_after_ms)),
            Manner::Picky if has_one_of(7) => status(422, 10),
            Manner::Picky if has_one_of(5) => {
                let mut reply = status(500, 10);
                reply.signal.abort = true;
                reply
            }
            Manner::Gone if dice.one_in(12) => {
                let mut reply = status(410, 10);
                reply.signal.gone = true;
                reply
            }
            Manner::Poisoned if has_one_of(4) => failed(ErrorClass::Timeout, TIMEOUT_MS),
            Manner::Dead => failed(ErrorClass::Connect, 1),
            Manner::Hanging => failed(ErrorClass::Timeout, TIMEOUT_MS),
            Manner::Flaky { .. }
            | Manner::Flapping { .. }
            | Manner::Weary { .. }
            | Manner::Picky
            | Manner::Gone
            | Manner::Poisoned => status(200, 15),
        }
    }
}

fn status(status: u16, took_ms: u64) -> Reply {
    Reply {
        took_ms,
        outcome: match status {
            200..300 => Outcome::Delivered,
            _ => Outcome::Error(ErrorClass::of_status(status)),
        },
        status: Some(status),
        signal: EndpointSignal::default(),
    }
}

/// 429 or 503.
fn asking(code: u16, took_ms: u64, retry_after_ms: Option<u64>) -> Reply {
    let mut reply = status(code, took_ms);
    reply.signal.overloaded = true;
    reply.signal.retry_after = retry_after_ms.map(Duration::from_millis);
    reply
}

fn failed(class: ErrorClass, took_ms: u64) -> Reply {
    Reply {
        took_ms,
        outcome: Outcome::Error(class),
        status: None,
        signal: EndpointSignal {
            overloaded: class == ErrorClass::Timeout,
            ..EndpointSignal::default()
        },
    }
}
