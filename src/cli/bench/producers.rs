//! Producers: connections that write lines and wait for the answers before they write on.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use memchr::memchr_iter;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use crate::ingest::wire::{Socket, Wire};

/// The longest wait that is told apart from longer ones: ten minutes, in microseconds.
const WAIT_US_MAX: u64 = 600_000_000;

/// Bytes of a line, its end included.
pub const LINE_BYTES: usize = 1024;

/// Until when producers go on.
#[derive(Clone, Debug)]
pub enum Until {
    /// For so long.
    Span(Duration),
    /// Until so many events are accepted, all producers together.
    Accepted(u64),
    /// Until the flow is closed; and at most so many accepted events may be undelivered.
    Closed(Arc<Flow>),
}

/// How many producers, and how they write.
#[derive(Clone, Debug)]
pub struct Crew {
    /// The daemon's socket.
    pub socket: PathBuf,
    /// Connections.
    pub producers: usize,
    /// Lines that each writes before it waits for their answers.
    pub burst: usize,
    /// The endpoint the events are for.
    pub target: &'static str,
}

/// Ties acceptance to delivery, so that the one is measured at the pace of the other.
#[derive(Debug)]
pub struct Flow {
    accepted: AtomicU64,
    delivered: AtomicU64,
    undelivered_max: u64,
}

impl Flow {
    /// An open one.
    #[must_use]
    pub fn new(undelivered_max: u64) -> Self {
        Self {
            accepted: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            undelivered_max,
        }
    }

    /// Tells how many have been delivered in all.
    pub fn delivered(&self, count: u64) {
        self.delivered.store(count, Ordering::Relaxed);
    }

    /// Lets everybody go on to the end.
    pub fn close(&self) {
        self.delivered.store(u64::MAX, Ordering::Relaxed);
    }

    fn is_closed(&self) -> bool {
        self.delivered.load(Ordering::Relaxed) == u64::MAX
    }

    async fn room(&self) {
        let undelivered = || {
            let accepted = self.accepted.load(Ordering::Relaxed);
            accepted.saturating_sub(self.delivered.load(Ordering::Relaxed))
        };
        while undelivered() > self.undelivered_max {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// What producers got.
#[derive(Debug)]
pub struct Answers {
    /// Events accepted.
    pub accepted: u64,
    /// From the first line to the last answer.
    pub took: Duration,
    /// From the last answer until it was known how many were delivered; nothing where nobody asks for that.
    pub behind: Duration,
    /// So many were not delivered by then.
    pub undelivered: u64,
    /// Microseconds from writing to the last answer, one a burst.
    pub waits_us: Histogram<u64>,
}

impl Answers {
    /// Events a second that were accepted, and delivered too where that was asked for.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.accepted.saturating_sub(self.undelivered) as f64 / (self.took + self.behind).as_secs_f64()
    }
}

/// A histogram of microseconds, exact to 1 %.
///
/// # Errors
/// Never, with the bounds it has.
pub fn microseconds() -> io::Result<Histogram<u64>> {
    // Bounds of its own, because one without does not grow when it saturates.
    Histogram::new_with_bounds(1, WAIT_US_MAX, 2).map_err(io::Error::other)
}

/// A line for `target`: a lead, padded to [`LINE_BYTES`]. `id`: JSON fields to put in, with a comma at the end.
#[must_use]
pub fn line(target: &str, id: &str) -> Vec<u8> {
    let (head, tail) = (
        format!(
            "{{{id}\"type\":\"{target}.event\",\"data\":{{\"email\":\"ann@example.com\",\"phone\":\"(555) 123-4567\",\
             \"first_name\":\"Ann\",\"state\":\"CA\",\"score\":85,\"text\":\""
        ),
        "\"}}\n",
    );
    let filling = "x".repeat(LINE_BYTES.saturating_sub(head.len() + tail.len()));
    format!("{head}{filling}{tail}").into_bytes()
}

/// Lets a crew work, and returns what it got in sum. It works on one thread of its own: producers take their time from
/// the daemon that is measured, so they must not also wake each other across processors.
///
/// # Errors
/// When the daemon refuses an event or goes away.
pub async fn work(crew: Crew, until: Until) -> io::Result<Answers> {
    let on_one_thread = move || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(work_here(crew, until))
    };
    tokio::task::spawn_blocking(on_one_thread)
        .await
        .map_err(io::Error::other)?
}

async fn work_here(crew: Crew, until: Until) -> io::Result<Answers> {
    let accepted = Arc::new(AtomicU64::new(0));
    // One for all: as many as there are producers would not stay in the processor's caches.
    let waits_us = Arc::new(Mutex::new(microseconds()?));
    let burst: Arc<[u8]> = line(crew.target, "").repeat(crew.burst).into();
    let mut connected = Vec::with_capacity(crew.producers);
    for _ in 0..crew.producers {
        connected.push(Producer::connect(&crew.socket).await?);
    }
    let started = Instant::now();
    let mut producers = JoinSet::new();
    for producer in connected {
        let (until, accepted, burst) = (until.clone(), Arc::clone(&accepted), Arc::clone(&burst));
        let (lines, waits_us) = (crew.burst, Arc::clone(&waits_us));
        producers.spawn(async move {
            produce(producer, &burst, lines, until, started, &accepted, &waits_us).await
        });
    }
    while let Some(done) = producers.join_next().await {
        done.map_err(io::Error::other)??;
    }
    let waits_us = waits_us.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(Answers {
        accepted: accepted.load(Ordering::Relaxed),
        took: started.elapsed(),
        behind: Duration::ZERO,
        undelivered: 0,
        waits_us,
    })
}

async fn produce(
    mut producer: Producer,
    burst: &[u8],
    lines: usize,
    until: Until,
    started: Instant,
    accepted: &AtomicU64,
    waits_us: &Mutex<Histogram<u64>>,
) -> io::Result<()> {
    loop {
        match &until {
            Until::Span(span) if started.elapsed() >= *span => return Ok(()),
            Until::Accepted(enough) if accepted.load(Ordering::Relaxed) >= *enough => return Ok(()),
            Until::Closed(flow) if flow.is_closed() => return Ok(()),
            Until::Closed(flow) => flow.room().await,
            Until::Span(_) | Until::Accepted(_) => {}
        }
        let wait = producer.send(burst, lines).await?;
        accepted.fetch_add(lines as u64, Ordering::Relaxed);
        if let Until::Closed(flow) = &until {
            flow.accepted.fetch_add(lines as u64, Ordering::Relaxed);
        }
        let wait_us = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        let mut waits_us = waits_us.lock().unwrap_or_else(PoisonError::into_inner);
        waits_us.saturating_record(wait_us);
    }
}

/// One connection.
#[derive(Debug)]
pub struct Producer {
    socket: Socket,
    answers: Vec<u8>,
}

impl Producer {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn connect(socket: &Path) -> io::Result<Self> {
        Ok(Self {
            socket: Socket::new(UnixStream::connect(socket).await?)?,
            answers: Vec::new(),
        })
    }

    /// Writes `burst`, which holds `lines` lines, and waits for all answers; returns how long that took.
    ///
    /// # Errors
    /// When any is not accepted.
    pub async fn send(&mut self, burst: &[u8], lines: usize) -> io::Result<Duration> {
        let started = Instant::now();
        self.socket.send(burst).await?;
        self.answers.clear();
        let mut answered = 0;
        while answered < lines {
            let seen = self.answers.len();
            if self.socket.receive(&mut self.answers).await? == 0 {
                return Err(io::Error::other("the daemon closed a producer's connection"));
            }
            answered += memchr_iter(b'\n', &self.answers[seen..]).count();
        }
        let took = started.elapsed();
        let is_accepted = |answer: &&[u8]| answer.starts_with(br#"{"status":"accepted""#);
        if self
            .answers
            .split(|byte| *byte == b'\n')
            .filter(is_accepted)
            .count()
            < lines
        {
            let text = String::from_utf8_lossy(&self.answers).into_owned();
            return Err(io::Error::other(format!("not everything was accepted: {text}")));
        }
        Ok(took)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_kept_up_to_minutes() {
        let mut waits_us = microseconds().unwrap();
        waits_us.saturating_record(90_000_000);
        let median = waits_us.value_at_quantile(0.5);
        assert!((89_000_000..=91_000_000).contains(&median), "{median}");
    }

    #[test]
    fn what_was_delivered_counts_over_the_time_until_that_was_known() {
        let answers = Answers {
            accepted: 1000,
            took: Duration::from_secs(1),
            behind: Duration::from_millis(500),
            undelivered: 100,
            waits_us: microseconds().unwrap(),
        };
        assert_eq!(answers.per_second(), 600.0);
    }

    #[test]
    fn lines_have_their_length_and_are_json() {
        for id in ["", "\"id\":\"7\","] {
            let line = line("live", id);
            assert_eq!((line.len(), line.last()), (LINE_BYTES, Some(&b'\n')));
            let json: serde_json::Value = serde_json::from_slice(&line).unwrap();
            assert_eq!(json["type"], "live.event");
        }
    }
}
