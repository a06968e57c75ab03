//! Producers that write without waiting, on one connection after the other, and send what got no answer
//! again under the same id, as the protocol asks.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};

use crate::daemon::BOUND;
use crate::dice::Dice;
use crate::ledger::{Kind, Ledger, Sent, filling_of};

/// Lines without an answer, at most.
const WINDOW: usize = 16;

/// One line: an event, or several as one batch.
#[derive(Clone, Debug)]
struct Line {
    ids: Vec<String>,
    text: String,
    /// Whether it was sent on an earlier connection.
    again: bool,
}

/// Several producers at work.
#[derive(Debug)]
pub struct Producers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Producers {
    /// Starts `count` of them, that send to `ingest` until they are told to stop.
    pub fn start(count: usize, ingest: PathBuf, ledger: &Arc<Mutex<Ledger>>, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..count).map(|at| {
            let producer = Producer {
                name: format!("p{at}"),
                made: 0,
                dice: Dice::new(seed.wrapping_add(at as u64)),
                ingest: ingest.clone(),
                ledger: Arc::clone(ledger),
                stop: Arc::clone(&stop),
                unanswered: VecDeque::new(),
            };
            thread::spawn(move || producer.run())
        });
        let threads = threads.collect();
        Self { stop, threads }
    }

    /// Lets them send what got no answer, and end. The daemon has to be there.
    pub fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a producer does not panic");
        }
    }
}

struct Producer {
    name: String,
    made: u32,
    dice: Dice,
    ingest: PathBuf,
    ledger: Arc<Mutex<Ledger>>,
    stop: Arc<AtomicBool>,
    unanswered: VecDeque<Line>,
}

impl Producer {
    fn run(mut self) {
        while !(self.stopped() && self.unanswered.is_empty()) {
            // Whatever ends a conversation, the next one begins with what got no answer.
            if UnixStream::connect(&self.ingest)
                .and_then(|socket| self.converse(socket))
                .is_err()
            {
                thread::sleep(Duration::from_millis(2));
            }
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("nobody panics with the ledger")
    }

    fn converse(&mut self, mut socket: UnixStream) -> io::Result<()> {
        socket.set_read_timeout(Some(BOUND))?;
        let mut answers = BufReader::new(socket.try_clone()?);
        self.give_up_some();
        for line in &mut self.unanswered {
            line.again = true;
            socket.write_all(line.text.as_bytes())?;
        }
        loop {
            while !self.stopped() && self.unanswered.len() < WINDOW && !self.dice.one_in(4) {
                let line = self.line();
                // Kept before it is written: half of it may arrive.
                self.unanswered.push_back(line);
                socket.write_all(self.unanswered[self.unanswered.len() - 1].text.as_bytes())?;
            }
            let Some(line) = self.unanswered.front() else {
                if self.stopped() {
                    return Ok(());
                }
                thread::sleep(Duration::from_millis(1));
                continue;
            };
            let mut answer = String::new();
            if answers.read_line(&mut answer)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.note(line, &answer)?;
            self.unanswered.pop_front();
        }
    }

    /// One line in ten that was under way when the connection broke is never sent again.
    fn give_up_some(&mut self) {
        let (dice, ledger) = (&mut self.dice, &self.ledger);
        self.unanswered.retain(|line| {
            let kept = !dice.one_in(10);
            if !kept {
                ledger
                    .lock()
                    .expect("nobody panics with the ledger")
                    .abandoned(line.ids.clone());
            }
            kept
        });
    }

    /// What an answer means.
    fn note(&self, line: &Line, text: &str) -> io::Result<()> {
        let mut ledger = self.ledger();
        let answer: Value = serde_json::from_str(text).unwrap_or_default();
        let ids = match (&answer["ids"], &answer["id"]) {
            (Value::Array(ids), _) => ids.iter().filter_map(Value::as_str).collect(),
            (_, id) => Vec::from_iter(id.as_str()),
        };
        match answer["status"].as_str() {
            Some("accepted" | "duplicate") if ids != line.ids => {
                ledger.wrong(format!("the answer to {:?} was {text}", line.ids));
            }
            Some("accepted") if !answer["duplicates"].is_null() => {
                ledger.wrong(format!("a batch was there in part: {text}"));
            }
            Some("duplicate") if !line.again => {
                ledger.wrong(format!("a duplicate the first time: {text}"));
            }
            Some("accepted" | "duplicate") => line.ids.iter().for_each(|id| ledger.promised(id)),
            Some("rejected") if matches!(answer["code"].as_str(), Some("unhealthy" | "shutting_down")) => {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            _ => ledger.wrong(format!("the answer to {:?} was {text:?}", line.ids)),
        }
        Ok(())
    }

    /// A new line: mostly one event, sometimes a batch, sometimes one too large for a chunk of the store.
    fn line(&mut self) -> Line {
        let (events, filling_bytes_max) = match self.dice.below(20) {
            0 => (1, 900 << 10),
            1 => (4 + self.dice.below(4), 60 << 10),
            2..=5 => (2 + self.dice.below(7), 300),
            _ => (1, 2000),
        };
        let mut ids = Vec::new();
        let mut values = Vec::new();
        for _ in 0..events {
            let (id, value) = self.event(filling_bytes_max);
            ids.push(id);
            values.push(value);
        }
        let value = if events == 1 {
            values.remove(0)
        } else {
            Value::Array(values)
        };
        Line {
            ids,
            text: format!("{value}\n"),
            again: false,
        }
    }

    fn event(&mut self, filling_bytes_max: usize) -> (String, Value) {
        self.made += 1;
        let id = format!("{}-{}", self.name, self.made);
        let large = filling_bytes_max > 100 << 10;
        let filling_bytes = if large {
            (200 << 10) + self.dice.below(700 << 10)
        } else {
            self.dice.below(filling_bytes_max)
        };
        let kind = match self.dice.below(10) {
            0 => Kind::Audit,
            1..=3 if !large => Kind::Invoice,
            _ => Kind::Contact,
        };
        let filling = String::from(char::from(filling_of(&id))).repeat(filling_bytes);
        let mut value =
            json!({ "type": kind.name(), "id": id, "source": "/crash", "data": { "filling": filling } });
        if self.dice.one_in(8) {
            value["delay"] = json!(format!("{}ms", 1 + self.dice.below(400)));
        }
        self.ledger().sending(&id, Sent { kind, filling_bytes });
        (id, value)
    }
}
