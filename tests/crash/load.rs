//! Producers at one end of a daemon, a receiver at the other, and the ledger that knows what both saw.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use posthaste::cli::receive::server::{Options, Receiver};
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::daemon::{Daemon, Site, eventually};
use crate::ledger::{Ledger, Summary};
use crate::producers::Producers;

/// Runs the receivers of all tests.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
});

/// How many endpoints the load has.
pub const ENDPOINTS: usize = 4;

/// The endpoints of the load; see [`crate::ledger::Kind::owed`]. The part of the URL behind `?` tells the
/// receiver which of them was meant.
pub fn endpoints(receiver: SocketAddr) -> String {
    let endpoint = |name: &str, events: &str, path: &str, more: &str| {
        format!(
            "[[endpoint]]\nname = \"{name}\"\nevents = [{events}]\nurl = \"http://{receiver}{path}?{name}\"\n\
             breaker = {{ failures = 1000000, rate = 1.0, min_requests = 1000000 }}\n{more}\n"
        )
    };
    ([
        endpoint("crm", "\"contact.*\"", "/ok", ""),
        endpoint("copy", "\"contact.*\", \"invoice.*\"", "/slow/5", ""),
        endpoint(
            "billing",
            "\"invoice.*\"",
            "/fail-first/2/500",
            "retry = { delay = \"100ms\", max_attempts = 100 }",
        ),
        endpoint("audit", "\"audit.*\"", "/status/422", ""),
    ] as [String; ENDPOINTS])
        .concat()
}

/// A receiver that notes every request in a ledger before it answers.
#[derive(Debug)]
pub struct Sink {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Where it notes.
    pub ledger: Arc<Mutex<Ledger>>,
    /// The id of every request, in their order.
    ids: Arc<Mutex<Vec<String>>>,
    noting: JoinHandle<()>,
    over: Arc<Notify>,
}

impl Sink {
    /// Listens on a free port.
    pub fn start() -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let bound = RUNTIME.block_on(Receiver::bind(any, Options::default()));
        let mut receiver = bound.expect("a free port");
        let addr = receiver.addr();
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let notes = Arc::clone(&ledger);
        let ids = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&ids);
        let over = Arc::new(Notify::new());
        let told = Arc::clone(&over);
        let noting = RUNTIME.spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    Some(received) = receiver.recv() => {
                        let id = received.headers.get("webhook-id").and_then(|id| id.to_str().ok());
                        seen.lock().expect("nobody panics with the ids").extend(id.map(str::to_owned));
                        notes.lock().expect("nobody panics with the ledger").received(&received);
                    }
                    () = told.notified() => break,
                }
            }
        });
        Self {
            addr,
            ledger,
            ids,
            noting,
            over,
        }
    }

    /// Forgets the ids of the requests so far and gives them out.
    pub fn take_ids(&self) -> Vec<String> {
        std::mem::take(&mut *self.ids.lock().expect("nobody panics with the ids"))
    }

    /// What is known, with every request that has arrived.
    pub fn close(self) -> Ledger {
        self.over.notify_one();
        RUNTIME.block_on(self.noting).expect("noting does not panic");
        std::mem::take(&mut *self.ledger.lock().expect("nobody panics with the ledger"))
    }
}

/// A site under load.
#[derive(Debug)]
pub struct Load {
    /// Where the daemon lives.
    pub site: Site,
    /// What is known.
    pub sink: Sink,
    producers: Option<Producers>,
}

impl Load {
    /// Starts producers, which wait for a daemon.
    pub fn start(producers: usize, seed: u64) -> Self {
        let sink = Sink::start();
        let site = Site::new(endpoints, sink.addr);
        let producers = Producers::start(producers, site.ingest(), &sink.ledger, seed);
        Self {
            site,
            sink,
            producers: Some(producers),
        }
    }

    /// Waits until so many events were acknowledged.
    pub fn wait_for_promises(&self, count: usize) {
        eventually("events are acknowledged", || {
            let ledger = self.sink.ledger.lock().expect("nobody panics with the ledger");
            (ledger.promised_len() >= count).then_some(())
        });
    }

    /// Lets the load end, and waits until nothing is pending.
    pub fn settle(&mut self) {
        if let Some(producers) = self.producers.take() {
            producers.finish();
        }
        self.site.drained();
    }

    /// Settles the load with `daemon`, stops it, and judges what was seen.
    pub fn judge(mut self, daemon: Daemon) -> Summary {
        self.settle();
        let Self { site, sink, .. } = self;
        let dead = site.json(&["dead", "list", "--limit", "1000000"]);
        daemon.stop();
        site.assert_sound();
        sink.close().judge(&dead)
    }
}

/// Says at the end of a test that failed how to repeat it: what was printed at its beginning is easily lost.
pub struct Repeatable(pub String);

impl Drop for Repeatable {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("to repeat it: {} cargo test --test crash", self.0);
        }
    }
}

/// The seed of this run: `POSTHASTE_SEED`, or a new one.
pub fn seed() -> u64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    std::env::var("POSTHASTE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(now.subsec_nanos().into())
}
