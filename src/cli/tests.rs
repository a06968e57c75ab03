//! The command line's client against the control API in one process, over a real Unix socket: a daemon
//! whose store is in memory, whose scheduler only writes down what it is told, and whose clock stands still.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::failure::Failure;
use super::print::Paint;
use super::status;
use crate::config::{
    AlertsConfig, Config, ControlConfig, IngestConfig, LimitsConfig, LogConfig, NetworkConfig, StoreConfig,
    TracesConfig,
};
use crate::control::operator::{
    AlertView, BoxFuture, Defined, EndpointChange, Health, Held, IngestNumbers, LaneNumbers, LiveEvent,
    NotDefined, Operator, ReloadReport, TraceNumbers,
};
use crate::control::server::serve;
use crate::control::types::{
    Change, ChangeReport, DeadLetterView, DeadSelect, EndpointRow, EndpointState, EndpointView, EventView,
    Moved, PauseRequest, Status,
};
use crate::domain::delivery::DeadReason;
use crate::domain::endpoint::{Endpoint, fixture};
use crate::domain::event::{Event, EventHead, Seq};
use crate::domain::outcome::{Attempt, ErrorClass, Outcome};
use crate::domain::time::Timestamp;
use crate::ingest::intake::{Intake, RouteTable};
use crate::ingest::lines::Limits;
use crate::scheduler::{Input, LaneState, LaneView};
use crate::store::committer::{Committer, Queue};
use crate::store::memory::MemoryStore;
use crate::store::{
    AcceptGroup, Accepted, Batch, DeadEvidence, Deferral, DeliveryId, DueQuery, LaneId, NewEvent, Settle,
    SettleTo, Store,
};
use crate::template::Target;

const NOW: Timestamp = Timestamp(1_800_000_000_000);

struct FakeDaemon {
    queue: Queue,
    config: Arc<Config>,
    views: Vec<LaneView>,
    told: Mutex<Vec<Input>>,
    reload: Result<ReloadReport, Vec<String>>,
    health: Mutex<Health>,
    intake: Arc<Intake>,
}

impl Operator for FakeDaemon {
    fn queue(&self) -> &Queue {
        &self.queue
    }

    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config)
    }

    fn hold_config(&self) -> BoxFuture<'_, Held> {
        Box::pin(async { Box::new(()) as Held })
    }

    fn lanes(&self) -> BoxFuture<'_, Vec<LaneView>> {
        Box::pin(async { self.views.clone() })
    }

    fn tell(&self, input: Input) {
        self.told.lock().unwrap().push(input);
    }

    fn numbers(&self, _lane: LaneId) -> LaneNumbers {
        LaneNumbers {
            delivered: 5,
            last_status: Some(503),
            last_error: Some("status 503".to_owned()),
            p50_ms: Some(12),
            ..LaneNumbers::default()
        }
    }

    fn reload(&self) -> BoxFuture<'_, Result<ReloadReport, Vec<String>>> {
        Box::pin(async { self.reload.clone() })
    }

    fn health(&self) -> Health {
        self.health.lock().unwrap().clone()
    }

    fn now(&self) -> Timestamp {
        NOW
    }

    fn uptime(&self) -> Duration {
        Duration::from_secs(60)
    }

    fn change_endpoint(
        &self,
        _name: String,
        _change: EndpointChange,
    ) -> BoxFuture<'_, Result<Defined, NotDefined>> {
        Box::pin(async { Err(NotDefined::Missing) })
    }

    fn news(&self) -> tokio::sync::broadcast::Receiver<LiveEvent> {
        tokio::sync::broadcast::channel(1).1
    }

    fn intake(&self) -> &Arc<Intake> {
        &self.intake
    }

    fn explain(&self, _event: String) -> BoxFuture<'_, Result<crate::control::types::Explanation, String>> {
        Box::pin(async { Err("nothing is explained".to_owned()) })
    }

    fn try_out(
        &self,
        _endpoint: String,
        _event: Option<String>,
    ) -> BoxFuture<'_, Result<crate::control::types::TestView, String>> {
        Box::pin(async { Err("nothing is tried out".to_owned()) })
    }

    fn traces(&self) -> Option<TraceNumbers> {
        None
    }

    fn alerts(&self) -> Vec<AlertView> {
        Vec::new()
    }

    fn ingest(&self) -> IngestNumbers {
        IngestNumbers {
            accepted: 9,
            rejected: [("too_large".to_owned(), 2)].into(),
            ..IngestNumbers::default()
        }
    }
}

fn endpoint(name: &str, enabled: bool) -> Arc<Endpoint> {
    let mut endpoint = fixture::endpoint(name, "https://example.com/?token=hunter2");
    endpoint.enabled = enabled;
    endpoint.request.addresses[0].shown = "https://example.com/?token=***".into();
    endpoint.request.headers = vec![(
        http::header::AUTHORIZATION,
        fixture::fixed("hunter2", Target::Header),
    )];
    Arc::new(endpoint)
}

fn config(endpoints: Vec<Arc<Endpoint>>) -> Config {
    Config {
        store: StoreConfig::default(),
        ingest: IngestConfig::default(),
        control: ControlConfig::default(),
        log: LogConfig::default(),
        limits: LimitsConfig::default(),
        network: NetworkConfig::default(),
        alerts: AlertsConfig::default(),
        traces: TracesConfig::default(),
        settings: Arc::default(),
        endpoints,
        managed: std::collections::BTreeSet::new(),
        hash: "c0ffee".to_owned(),
    }
}

/// A daemon with the endpoints `crm` (tripped), `bill` (disabled), and the queue of a removed one, `old`.
struct World {
    client: Client,
    store: Arc<MemoryStore>,
    daemon: Arc<FakeDaemon>,
    lanes: [LaneId; 3],
    stop: CancellationToken,
    server: tokio::task::JoinHandle<()>,
    socket: PathBuf,
    _folder: tempfile::TempDir,
    _committer: Committer,
}

impl World {
    fn start() -> Self {
        Self::with_reload(Ok(ReloadReport::default()))
    }

    fn with_reload(reload: Result<ReloadReport, Vec<String>>) -> Self {
        let store = Arc::new(MemoryStore::new(Duration::from_secs(3600), 1000));
        let lanes = ["crm", "bill", "old"].map(|name| store.lane(name).unwrap());
        let (notices, _) = tokio::sync::mpsc::channel(4096);
        let erased: Arc<dyn Store> = store.clone();
        let (committer, queue) = Committer::start(
            erased,
            Arc::new(|| NOW),
            Duration::from_secs(86_400 * 365),
            notices,
        )
        .unwrap();
        let view = LaneView {
            lane: lanes[0],
            state: LaneState::Tripped {
                until: NOW.plus(Duration::from_secs(18)),
            },
            since: Timestamp(NOW.0 - 720_000),
            in_flight: 1,
            limit: 4,
            window: 0,
            fresh: 0,
            failures: 5,
            gathers_until: None,
            held_up: 0,
        };
        let limits = Limits {
            event_bytes_max: 4096,
            batch_bytes_max: 4096,
        };
        let routes = RouteTable::default();
        let daemon = Arc::new(FakeDaemon {
            intake: Arc::new(Intake::new(queue.clone(), routes, limits, Arc::new(|| NOW))),
            queue,
            config: Arc::new(config(vec![endpoint("crm", true), endpoint("bill", false)])),
            views: vec![view],
            told: Mutex::default(),
            reload,
            health: Mutex::new(Health::Ok),
        });
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("control.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(listener.into(), daemon.clone(), stop.clone()));
        Self {
            client: Client::new(socket.clone()),
            store,
            daemon,
            lanes,
            stop,
            server,
            socket,
            _folder: folder,
            _committer: committer,
        }
    }

    /// Accepts an event owed to one lane.
    fn accept(&self, lane: LaneId, id: &str) -> Seq {
        let json =
            json!({"specversion": "1.0", "id": id, "source": "/t", "type": "contact.created", "data": 1});
        let event = Event {
            head: EventHead {
                sender_uid: Some(33),
                ..EventHead::new(id, "/t", "contact.created", Timestamp(NOW.0 - 192_000))
            },
            json: json.to_string().into(),
        };
        let group = AcceptGroup {
            events: vec![NewEvent {
                event,
                lanes: Arc::from([lane]),
            }],
        };
        let batch = Batch {
            accepts: vec![group],
            settles: Vec::new(),
        };
        match self.store.commit(batch, NOW).unwrap().accepts[0].as_deref() {
            Ok([Accepted::New(seq)]) => *seq,
            other => panic!("{other:?}"),
        }
    }

    fn settle(&self, lane: LaneId, seq: Seq, to: SettleTo) {
        let settle = Settle {
            id: DeliveryId { lane, seq },
            was_due: None,
            to,
        };
        let batch = Batch {
            accepts: Vec::new(),
            settles: vec![settle],
        };
        self.store.commit(batch, NOW).unwrap();
    }

    /// Accepts an event and gives its delivery up.
    fn dead(&self, lane: LaneId, id: &str, reason: DeadReason, status: u16) -> Seq {
        let seq = self.accept(lane, id);
        let attempt = Attempt {
            number: 3,
            started: NOW,
            duration_ms: 7,
            outcome: Outcome::Error(ErrorClass::of_status(status)),
            status: Some(status),
            message: format!("status {status}"),
            request_line: "POST https://example.com/".to_owned(),
            request_headers: vec![("webhook-id".to_owned(), id.to_owned())],
            response_headers: Vec::new(),
            response_excerpt: "no".to_owned(),
            kept: None,
        };
        let evidence = DeadEvidence {
            reason,
            since: Timestamp(NOW.0 - 3_600_000),
            tries: 3,
            first_attempt: Some(NOW),
            last: Some(attempt),
            event_id: id.into(),
            event_source: "/t".into(),
            event_kind: "contact.created".into(),
            accepted: NOW,
        };
        self.settle(lane, seq, SettleTo::Dead(Box::new(evidence)));
        seq
    }

    fn told(&self) -> Vec<Input> {
        std::mem::take(&mut *self.daemon.told.lock().unwrap())
    }

    async fn listed(&self, path: &str) -> Vec<String> {
        let mut ids = Vec::new();
        self.client
            .each::<DeadLetterView>(path, usize::MAX, |letter| {
                ids.push(letter.id);
                Ok(())
            })
            .await
            .unwrap();
        ids
    }

    async fn change(&self, verb: &str, change: Change) -> Result<ChangeReport, Failure> {
        self.client.post(&format!("/v1/dead/{verb}"), &change).await
    }

    /// One request with raw words, for what the client never sends. Answers status line and body.
    async fn raw(&self, request_line: &str) -> (String, String) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::UnixStream::connect(&self.socket).await.unwrap();
        let request =
            format!("{request_line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }
}

fn filter(select: DeadSelect) -> Change {
    Change {
        filter: Some(select),
        ..Change::default()
    }
}

fn ids(ids: &[&str]) -> Change {
    Change {
        ids: Some(ids.iter().map(|id| (*id).to_owned()).collect()),
        ..Change::default()
    }
}

/// B6, H6: what is stuck, since when, why, and what to type next, on one screen.
#[tokio::test]
async fn b6_status_shows_what_is_stuck_and_why() {
    let world = World::start();
    world.accept(world.lanes[0], "a");
    world.accept(world.lanes[2], "b");
    world.dead(world.lanes[0], "c", DeadReason::Rejected, 422);
    let status: Status = world.client.get("/v1/status").await.unwrap();
    let states: Vec<_> = status
        .endpoints
        .iter()
        .map(|row| (row.name.as_str(), row.state))
        .collect();
    assert_eq!(
        states,
        [
            ("crm", EndpointState::Tripped),
            ("bill", EndpointState::Disabled),
            ("old", EndpointState::Orphaned),
        ]
    );
    assert_eq!((status.totals.pending, status.totals.dead), (2, 1));
    let screen = status::screen(&status, Paint { colors: false });
    for expected in [
        "crm tripped for 12m, next in 18s, 1 pending: 5 failures in a row; status 503",
        "→ posthaste endpoints flush crm   # tries it now",
        "→ posthaste endpoints move old --to OTHER, or: posthaste endpoints bury old",
        "crm has 1 dead letter",
        "3m12s",
        "config c0ffee",
    ] {
        assert!(screen.contains(expected), "{expected:?} is missing in\n{screen}");
    }
    assert!(screen.lines().next().unwrap().contains("· ok ·"), "{screen}");
}

/// H6: Prometheus text with the same numbers as the status.
#[tokio::test]
async fn h6_metrics_have_the_numbers_of_the_status() {
    let world = World::start();
    world.accept(world.lanes[0], "a");
    let (status, text) = world.raw("GET /metrics").await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    for sample in [
        "posthaste_pending{endpoint=\"crm\"} 1",
        "posthaste_oldest_age_seconds{endpoint=\"crm\"} 192",
        "posthaste_endpoint_state{endpoint=\"crm\",state=\"tripped\"} 1",
        "posthaste_in_flight_limit{endpoint=\"crm\"} 4",
        "posthaste_attempts_total{endpoint=\"crm\",outcome=\"delivered\"} 5",
        "posthaste_attempt_duration_seconds{endpoint=\"crm\",quantile=\"0.5\"} 0.012",
        "posthaste_ingest_rejected_total{code=\"too_large\"} 2",
    ] {
        assert!(
            text.lines().any(|line| line == sample),
            "{sample} is missing in\n{text}"
        );
    }
    let types = text
        .lines()
        .filter(|line| line.starts_with("# TYPE "))
        .collect::<Vec<_>>();
    let unique = types.iter().collect::<std::collections::HashSet<_>>();
    assert_eq!(types.len(), unique.len(), "a metric has two headers");
}

/// B6: a pause is durable first and told to the scheduler then; it can end by itself; a resume undoes it.
#[tokio::test]
async fn b6_pause_is_durable_and_resume_ends_it() {
    let world = World::start();
    let request = PauseRequest {
        reason: Some("upgrade".to_owned()),
        pause_for: Some("2h".to_owned()),
    };
    let row: EndpointRow = world
        .client
        .post("/v1/endpoints/crm/pause", &request)
        .await
        .unwrap();
    let until = NOW.plus(Duration::from_secs(7200));
    assert_eq!((row.state, row.until), (EndpointState::Paused, Some(until)));
    assert_eq!(row.why, "by operator: upgrade");
    let paused = world.store.lanes()[0].paused.clone().unwrap();
    assert_eq!((&*paused.reason, paused.until), ("upgrade", Some(until)));
    assert!(
        matches!(world.told()[..], [Input::Paused { lane, until: Some(u) }] if lane == world.lanes[0] && u == until)
    );
    let row: EndpointRow = world
        .client
        .post("/v1/endpoints/crm/resume", &json!({}))
        .await
        .unwrap();
    assert_eq!(row.state, EndpointState::Tripped);
    assert_eq!(world.store.lanes()[0].paused, None);
    assert!(matches!(world.told()[..], [Input::Resumed { .. }]));
}

/// B6: what cannot be done says why and what to do instead.
#[tokio::test]
async fn b6_refusals_say_what_to_do() {
    let world = World::start();
    world.accept(world.lanes[2], "a");
    for (path, body, expected) in [
        ("/v1/endpoints/nope/pause", json!({}), "endpoints list"),
        ("/v1/endpoints/old/pause", json!({}), "endpoints bury old"),
        ("/v1/endpoints/bill/resume", json!({}), "enabled = false"),
        ("/v1/endpoints/crm/pause", json!({"for": "soon"}), "30s"),
        ("/v1/endpoints/crm/pause", json!({"reson": "typo"}), "reson"),
        ("/v1/endpoints/crm/move", json!({"to": "bill"}), "pause crm"),
        (
            "/v1/endpoints/old/move",
            json!({"to": "nope"}),
            "not a configured endpoint",
        ),
    ] {
        let failure = world.client.post::<Value>(path, &body).await.unwrap_err();
        assert!(failure.to_string().contains(expected), "{path}: {failure}");
    }
    assert!(world.told().is_empty());
}

#[tokio::test]
async fn a_flush_makes_retries_due_now() {
    let world = World::start();
    let seq = world.accept(world.lanes[0], "a");
    let later = Deferral {
        due: NOW.plus(Duration::from_secs(600)),
        tries: 2,
        first_attempt: NOW,
        last_attempt: NOW,
        last_status: Some(503),
        last_class: Some(ErrorClass::Http5xx),
        last_message: "status 503".into(),
    };
    world.settle(world.lanes[0], seq, SettleTo::Later(later));
    let moved: Moved = world
        .client
        .post("/v1/endpoints/crm/flush", &json!({}))
        .await
        .unwrap();
    assert_eq!(moved.deliveries, 1);
    assert!(matches!(
        world.told()[..],
        [Input::Flushed { .. }, Input::Revived { .. }]
    ));
    assert_eq!(
        world.store.lanes()[0].deferred_next.map(|due| due <= NOW),
        Some(true)
    );
}

/// G2: filters narrow, pages cover everything once, unknown words are refused.
#[tokio::test]
async fn g2_dead_letters_are_listed_by_filter_and_in_pages() {
    let world = World::start();
    let [crm, _, old] = world.lanes;
    let first = world.dead(crm, "a", DeadReason::Rejected, 422);
    let second = world.dead(crm, "b", DeadReason::MaxAttempts, 503);
    let third = world.dead(old, "c", DeadReason::MaxAttempts, 500);
    let [a, b, c] =
        [("crm", first), ("crm", second), ("old", third)].map(|(name, seq)| format!("{name}:{}", seq.0));
    for (query, expected) in [
        ("", vec![&a, &b, &c]),
        ("?limit=1", vec![&a, &b, &c]),
        ("?endpoint=crm", vec![&a, &b]),
        ("?reason=rejected", vec![&a]),
        ("?status=503", vec![&b]),
        ("?type=contact.*", vec![&a, &b, &c]),
        ("?type=other.*", vec![]),
        ("?since=2h", vec![&a, &b, &c]),
        ("?since=30m", vec![]),
        ("?until=30m", vec![&a, &b, &c]),
        ("?endpoint=old&reason=max_attempts", vec![&c]),
    ] {
        // The walk of pages asks for `limit` itself, so a page of one is asked for by hand.
        let found = if query == "?limit=1" {
            page_by_page(&world).await
        } else {
            world.listed(&format!("/v1/dead{query}")).await
        };
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{query}");
    }
    for (query, word) in [
        ("?reason=bored", "max_attempts"),
        ("?since=tuesday", "2h"),
        ("?endpont=crm", "endpont"),
        ("?limit=0", "limit"),
        ("?cursor=x", "cursor"),
        ("?endpoint=nope", "endpoints list"),
    ] {
        let failure = world
            .client
            .get::<Value>(&format!("/v1/dead{query}"))
            .await
            .unwrap_err();
        assert!(failure.to_string().contains(word), "{query}: {failure}");
    }
}

async fn page_by_page(world: &World) -> Vec<String> {
    let (mut ids, mut query) = (Vec::new(), "?limit=1".to_owned());
    loop {
        let page: Value = world.client.get(&format!("/v1/dead{query}")).await.unwrap();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 1);
        ids.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => query = format!("?limit=1&cursor={next}"),
            None => return ids,
        }
    }
}

/// G1: a dead letter is shown with its event, reason, request and answer; its id is for people.
#[tokio::test]
async fn g1_a_dead_letter_shows_event_and_evidence() {
    let world = World::start();
    let seq = world.dead(world.lanes[0], "a/b 1", DeadReason::Rejected, 422);
    let letter: DeadLetterView = world
        .client
        .get(&format!("/v1/dead/crm:{}", seq.0))
        .await
        .unwrap();
    assert_eq!((letter.reason, letter.tries), (DeadReason::Rejected, 3));
    let last = letter.last.unwrap();
    assert_eq!((last.status, last.outcome.as_str()), (Some(422), "error"));
    assert!(last.hint.unwrap().contains("authentication"));
    let event: Value = serde_json::from_str(letter.event.unwrap().get()).unwrap();
    assert_eq!(event["id"], "a/b 1");
    let shown: EventView = world.client.get("/v1/events/a%2Fb%201").await.unwrap();
    assert_eq!(shown.deliveries[0].dead_id, Some(format!("crm:{}", seq.0)));
    assert_eq!(shown.deliveries[0].attempts.len(), 1);
    for id in ["crm:999", "crm", "nope:1", "crm:x"] {
        let failure = world
            .client
            .get::<Value>(&format!("/v1/dead/{id}"))
            .await
            .unwrap_err();
        assert!(matches!(failure, Failure::Wrong(_)), "{id}: {failure}");
    }
    let failure = world.client.get::<Value>("/v1/events/unknown").await.unwrap_err();
    assert!(matches!(failure, Failure::Wrong(_)), "{failure}");
}

/// G1: an event whose bytes are damaged does not hide its evidence.
#[tokio::test]
async fn g1_a_damaged_event_still_shows_its_evidence() {
    let world = World::start();
    let seq = world.dead(world.lanes[0], "a", DeadReason::Rejected, 422);
    world.store.damage(seq, "bad checksum");
    let letter: DeadLetterView = world
        .client
        .get(&format!("/v1/dead/crm:{}", seq.0))
        .await
        .unwrap();
    assert!(letter.event.is_none());
    assert!(letter.event_problem.unwrap().contains("bad checksum"));
    let quarantine: Value = world.client.get("/v1/quarantine").await.unwrap();
    assert_eq!(quarantine["items"].as_array().unwrap().len(), 1);
    let report = world.store.verify().unwrap();
    assert_eq!((report.dead, report.damaged), (1, 1));
}

/// G2: a replay restores the whole retry budget; a dry run changes nothing; the scheduler is told the first.
#[tokio::test]
async fn g2_replay_by_ids_and_dry_run() {
    let world = World::start();
    let crm = world.lanes[0];
    let seqs = ["a", "b", "c"].map(|id| world.dead(crm, id, DeadReason::MaxAttempts, 503));
    let id = |index: usize| format!("crm:{}", seqs[index].0);
    let dry = Change {
        dry_run: true,
        ..filter(DeadSelect::default())
    };
    let report = world.change("replay", dry).await.unwrap();
    assert_eq!((report.dry_run, report.matched, report.changed), (true, 3, 3));
    assert_eq!(world.store.lanes()[0].dead, 3);
    assert!(world.told().is_empty());
    let report = world
        .change("replay", ids(&[&id(2), &id(1), "crm:999", "gone:1"]))
        .await
        .unwrap();
    assert_eq!((report.matched, report.changed), (2, 2));
    assert_eq!(report.not_found, ["crm:999", "gone:1"]);
    assert!(matches!(world.told()[..], [Input::Revived { lane, from }] if lane == crm && from == seqs[1]));
    let lane = &world.store.lanes()[0];
    assert_eq!((lane.dead, lane.pending), (1, 2));
    let query = DueQuery {
        fresh_from: Seq(0),
        fresh_max: 10,
        now: Timestamp::MAX,
        deferred_max: 10,
        held: rustc_hash::FxHashSet::default(),
        tried_max: 0,
    };
    let due = world.store.due(crm, &query).unwrap();
    assert!(due.fresh.iter().chain(&due.deferred).all(|due| due.tries == 0));
}

/// G2: a paced replay spreads the due times; the last one is told.
#[tokio::test]
async fn g2_replay_is_paced_over_pages() {
    let world = World::start();
    let crm = world.lanes[0];
    for n in 0..1001 {
        world.dead(crm, &format!("e{n}"), DeadReason::MaxAttempts, 503);
    }
    let paced = Change {
        rate: Some("50/s".to_owned()),
        ..filter(DeadSelect {
            endpoint: Some("crm".to_owned()),
            ..DeadSelect::default()
        })
    };
    let report = world.change("replay", paced).await.unwrap();
    assert_eq!((report.matched, report.changed), (1001, 1001));
    assert_eq!(report.last_due, Some(NOW.plus(Duration::from_secs(20))));
    let query = DueQuery {
        fresh_from: Seq(0),
        fresh_max: 5000,
        now: NOW.plus(Duration::from_secs(10)),
        deferred_max: 5000,
        held: rustc_hash::FxHashSet::default(),
        tried_max: 0,
    };
    let due = world.store.due(crm, &query).unwrap();
    assert_eq!(due.fresh.len() + due.deferred.len(), 501);
    let wrong = Change {
        rate: Some("fast".to_owned()),
        ..filter(DeadSelect::default())
    };
    let failure = world.change("replay", wrong).await.unwrap_err();
    assert!(
        matches!(&failure, Failure::Usage(text) if text.contains("50/s")),
        "{failure}"
    );
}

/// G2, G3: what cannot be replayed says so and stays dead.
#[tokio::test]
async fn g2_replay_refusals() {
    let world = World::start();
    let [crm, _, old] = world.lanes;
    world.dead(crm, "a", DeadReason::Rejected, 422);
    let orphan = world.dead(old, "b", DeadReason::Rejected, 422);
    let of_old = filter(DeadSelect {
        endpoint: Some("old".to_owned()),
        ..DeadSelect::default()
    });
    let failure = world.change("replay", of_old).await.unwrap_err();
    assert!(
        failure
            .to_string()
            .contains("posthaste dead replay --endpoint old --to OTHER"),
        "{failure}"
    );
    let report = world
        .change("replay", ids(&[&format!("old:{}", orphan.0)]))
        .await
        .unwrap();
    assert_eq!((report.changed, report.orphaned), (0, 1));
    let elsewhere = Change {
        endpoint: Some("nobody".to_owned()),
        ..filter(DeadSelect::default())
    };
    let failure = world.change("replay", elsewhere).await.unwrap_err();
    assert!(
        failure.to_string().contains("not a configured endpoint"),
        "{failure}"
    );
    let for_many = Change {
        data: Some(json!(1)),
        ..filter(DeadSelect::default())
    };
    let failure = world.change("replay", for_many).await.unwrap_err();
    assert!(failure.to_string().contains("for one dead letter"), "{failure}");
    let failure = world.change("replay", Change::default()).await.unwrap_err();
    assert!(failure.to_string().contains("ids, or filter"), "{failure}");
    assert!(world.told().is_empty());
    let dead: u64 = world.store.lanes().iter().map(|lane| lane.dead).sum();
    assert_eq!(dead, 2);
}

/// G2: a purge removes what was asked for and nothing else.
#[tokio::test]
async fn g2_purge_by_filter() {
    let world = World::start();
    world.dead(world.lanes[0], "a", DeadReason::Rejected, 422);
    world.dead(world.lanes[0], "b", DeadReason::MaxAttempts, 503);
    let rejected = filter(DeadSelect {
        reason: Some("rejected".to_owned()),
        ..DeadSelect::default()
    });
    let report = world.change("purge", rejected).await.unwrap();
    assert_eq!((report.matched, report.changed), (1, 1));
    assert_eq!(world.store.lanes()[0].dead, 1);
}

/// An orphaned endpoint's deliveries move to another endpoint, all of them.
#[tokio::test]
async fn orphans_move() {
    let world = World::start();
    for n in 0..600 {
        world.accept(world.lanes[2], &format!("e{n}"));
    }
    let moved: Moved = world
        .client
        .post("/v1/endpoints/old/move", &json!({"to": "crm"}))
        .await
        .unwrap();
    assert_eq!(moved.deliveries, 600);
    let pending: Vec<u64> = world.store.lanes().iter().map(|lane| lane.pending).collect();
    assert_eq!(pending, [600, 0, 0]);
    assert!(
        world
            .told()
            .iter()
            .all(|input| matches!(input, Input::Revived { lane, .. } if *lane == world.lanes[0]))
    );
    let view = world.client.get::<EndpointView>("/v1/endpoints/old").await;
    assert!(matches!(view, Err(Failure::Wrong(_))), "nothing is left of it");
}

/// An orphaned endpoint's deliveries become dead letters, those that wait for a retry with what is known of it.
#[tokio::test]
async fn orphans_are_buried() {
    let world = World::start();
    let old = world.lanes[2];
    let tried = world.accept(old, "tried");
    let later = Deferral {
        due: NOW.plus(Duration::from_secs(600)),
        tries: 2,
        first_attempt: Timestamp(5),
        last_attempt: Timestamp(6),
        last_status: Some(503),
        last_class: Some(ErrorClass::Http5xx),
        last_message: "status 503".into(),
    };
    world.settle(old, tried, SettleTo::Later(later));
    for n in 0..600 {
        world.accept(old, &format!("e{n}"));
    }
    let damaged = world.accept(old, "damaged");
    world.store.damage(damaged, "bad checksum");
    let moved: Moved = world
        .client
        .post("/v1/endpoints/old/bury", &json!({"reason": "gone"}))
        .await
        .unwrap();
    assert_eq!(moved.deliveries, 602);
    let lane = &world.store.lanes()[2];
    assert_eq!((lane.pending, lane.dead), (0, 602));
    assert_eq!(world.listed("/v1/dead?reason=orphaned").await.len(), 601);
    let letter: DeadLetterView = world
        .client
        .get(&format!("/v1/dead/old:{}", tried.0))
        .await
        .unwrap();
    assert_eq!((letter.tries, letter.first_attempt), (2, Some(Timestamp(5))));
    assert_eq!(letter.last.unwrap().status, Some(503));
}

/// C6: no answer carries a secret of the configuration.
#[tokio::test]
async fn c6_answers_mask_secrets() {
    let world = World::start();
    for path in [
        "/v1/config",
        "/v1/endpoints",
        "/v1/endpoints/crm",
        "/v1/status",
        "/metrics",
    ] {
        let (status, body) = world.raw(&format!("GET {path}")).await;
        assert_eq!(status, "HTTP/1.1 200 OK", "{path}");
        assert!(!body.contains("hunter2"), "{path} tells a secret");
    }
    let config: Value = world.client.get("/v1/config").await.unwrap();
    assert_eq!(config["hash"], "c0ffee");
    assert_eq!(config["config"]["endpoint"][0]["timeout"], "30s");
    let view: EndpointView = world.client.get("/v1/endpoints/crm").await.unwrap();
    assert_eq!(view.config.unwrap()["name"], "crm");
}

/// I2: a refused reload answers every problem.
#[tokio::test]
async fn i2_a_refused_reload_lists_every_problem() {
    let problems = vec!["config.toml:3: bad".to_owned(), "config.toml:9: worse".to_owned()];
    let world = World::with_reload(Err(problems.clone()));
    let failure = world
        .client
        .post::<Value>("/v1/reload", &json!({}))
        .await
        .unwrap_err();
    let Failure::Wrong(text) = failure else {
        panic!("{failure:?}");
    };
    assert!(problems.iter().all(|problem| text.contains(problem)), "{text}");
}

/// I3: alive and ready are two questions.
#[tokio::test]
async fn i3_health_and_readiness() {
    let world = World::start();
    for (health, alive, ready) in [
        (Health::Ok, "200", "200"),
        (Health::Draining, "200", "503"),
        (Health::Failed("disk".to_owned()), "503", "503"),
    ] {
        *world.daemon.health.lock().unwrap() = health.clone();
        assert!(world.raw("GET /healthz").await.0.contains(alive), "{health:?}");
        assert!(world.raw("GET /readyz").await.0.contains(ready), "{health:?}");
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_answered_in_json() {
    let world = World::start();
    for (line, status, code) in [
        ("GET /nope", "404", "not_found"),
        ("POST /v1/status", "405", "method_not_allowed"),
        ("GET /v1/dead/replay", "405", "method_not_allowed"),
        ("GET /v1/status/x", "404", "not_found"),
    ] {
        let (head, body) = world.raw(line).await;
        assert!(head.contains(status), "{line}: {head}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["error"]["code"], code, "{line}");
    }
}

/// A client that has connected and says nothing does not keep the server from stopping.
#[tokio::test]
async fn a_silent_client_does_not_hold_up_the_stop() {
    let world = World::start();
    let _silent = tokio::net::UnixStream::connect(&world.socket).await.unwrap();
    let _: Status = world.client.get("/v1/status").await.unwrap();
    world.stop.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(10), world.server).await;
    assert!(matches!(ended, Ok(Ok(()))), "{ended:?}");
}
