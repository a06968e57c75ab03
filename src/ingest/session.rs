//! One connection: reads what is there, takes every complete line in it, waits for their one commit, writes
//! their answers with one write, and only then reads on. So what a connection holds is one buffer of lines
//! and one turn's answers, whatever its producer does, and a producer that never reads stops only itself.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::intake::Intake;
use super::lines::LineBuffer;
use super::turn::Desk;
use super::wire::Wire;

/// How long a connection is read when the daemon stops, so that lines which were already on their way are
/// refused with `shutting_down` rather than not answered at all.
const FAREWELL: Duration = Duration::from_millis(250);
/// How long a producer may pause in the middle of a long line, whose room others may be waiting for.
const LONG_LINE_PAUSE: Duration = Duration::from_secs(30);

/// Serves one connection until its producer has closed its writing side and has got every answer, until it breaks, or
/// until it has been read for a little while after `stop`.
pub async fn run<S>(mut stream: S, mut desk: Desk, intake: Arc<Intake>, stop: CancellationToken)
where
    S: Wire,
{
    let mut lines = LineBuffer::new(intake.limits);
    let mut answers = Vec::new();
    let mut long_room = None;
    // Asked with every read, so it is made once.
    let mut farewell = pin!(async {
        stop.cancelled().await;
        tokio::time::sleep(FAREWELL).await;
    });
    loop {
        let turn = desk.turn(&mut lines);
        if turn.is_empty() {
            if !lines.is_long() {
                long_room = None;
            } else if long_room.is_none() {
                long_room = intake.long_lines.acquire().await.ok();
            }
            match read(&mut stream, &mut lines, farewell.as_mut()).await {
                Read::Bytes(bytes) => intake.counters.read(bytes),
                Read::End if lines.is_ended() => break,
                Read::End => lines.end(),
                Read::Broken => return,
            }
            continue;
        }
        answers.clear();
        if let Err(error) = desk.answer(turn, &mut answers).await {
            // No answer says "not known", which is all that can be said.
            tracing::warn!(%error, "a producer's connection is closed without answers");
            return;
        }
        // Before the answers are written, because their reader may take its time.
        if long_room.is_some() && !lines.is_long() {
            lines.give_back();
            long_room = None;
        }
        if stream.send(&answers).await.is_err() {
            return;
        }
    }
    // The producer may have gone without waiting for the end of our side.
    let _ = stream.finish().await;
}

enum Read {
    Bytes(usize),
    End,
    Broken,
}

/// Reads what is there, or until `farewell`; in the middle of a long line until its producer has paused too long.
async fn read<S>(stream: &mut S, lines: &mut LineBuffer, farewell: Pin<&mut impl Future<Output = ()>>) -> Read
where
    S: Wire,
{
    if lines.is_ended() {
        return Read::End;
    }
    let is_long = lines.is_long();
    let patience = async {
        if is_long {
            tokio::time::sleep(LONG_LINE_PAUSE).await;
        } else {
            farewell.await;
        }
    };
    tokio::select! {
        biased;
        read = stream.receive(lines.room()) => match read {
            Ok(0) => Read::End,
            Ok(bytes) => Read::Bytes(bytes),
            Err(_) => Read::Broken,
        },
        // Half a line is no event, so it is not taken for the last one.
        () = patience => Read::Broken,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::sync::mpsc::{self, Receiver};

    use super::*;
    use crate::domain::access::Credentials;
    use crate::domain::time::Timestamp;
    use crate::ingest::intake::RouteTable;
    use crate::ingest::intake::tests::endpoint;
    use crate::ingest::lines::Limits;
    use crate::ingest::sender::Sender;
    use crate::ingest::together::Together;
    use crate::store::committer::{Committer, Notice};
    use crate::store::memory::{MemoryStore, Reached};
    use crate::store::{LaneId, Refusal, Store};

    const ROOT: Credentials = Credentials {
        uid: Some(0),
        gid: Some(0),
    };
    const LIMITS: Limits = Limits {
        event_bytes_max: 4096,
        batch_bytes_max: 16384,
    };

    /// An intake over a store in memory, with an endpoint for `contact.*` and one for everything but `nobody`.
    struct World {
        intake: Arc<Intake>,
        together: Arc<Together>,
        store: Arc<MemoryStore>,
        stop: CancellationToken,
        notices: Receiver<Vec<Notice>>,
        _committer: Committer,
    }

    impl World {
        fn new() -> Self {
            Self::with(LIMITS)
        }

        fn with(limits: Limits) -> Self {
            let store = Arc::new(MemoryStore::new(Duration::from_secs(3600), 1000));
            let (tell, notices) = mpsc::channel(4096);
            let clock: crate::store::committer::Clock = Arc::new(|| Timestamp(1_736_937_000_000));
            let shared: Arc<dyn Store> = store.clone();
            let (committer, queue) =
                Committer::start(shared, Arc::clone(&clock), Duration::from_secs(60), tell).unwrap();
            let lane = |name| store.lane(name).unwrap();
            let routes = RouteTable::new(vec![
                (endpoint("crm", "contact.*", ""), lane("crm")),
                (endpoint("log", "contact.**", ""), lane("log")),
                (endpoint("orders", "order.*", ""), lane("orders")),
            ]);
            Self {
                together: Together::new(queue.clone()),
                intake: Arc::new(Intake::new(queue, routes, limits, clock)),
                store,
                stop: CancellationToken::new(),
                notices,
                _committer: committer,
            }
        }

        fn connect(&self, room: usize) -> DuplexStream {
            let (ours, theirs) = tokio::io::duplex(room);
            let sender = Sender::local(ROOT, Some("root"));
            let together = Arc::clone(&self.together);
            let desk = Desk::among(together, Arc::default(), Arc::clone(&self.intake), sender);
            tokio::spawn(run(theirs, desk, Arc::clone(&self.intake), self.stop.clone()));
            ours
        }

        /// Writes `bytes`, closes the writing side, and reads every answer.
        async fn answers(&self, bytes: &[u8]) -> Vec<Value> {
            let (mut read, mut write) = tokio::io::split(self.connect(1 << 16));
            let bytes = bytes.to_vec();
            let writer = tokio::spawn(async move {
                write.write_all(&bytes).await.unwrap();
                write.shutdown().await.unwrap();
            });
            let mut text = String::new();
            read.read_to_string(&mut text).await.unwrap();
            writer.await.unwrap();
            text.lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        }
    }

    fn codes(answers: &[Value]) -> Vec<&str> {
        let shown = |answer: &'_ Value| match answer["code"].as_str() {
            Some(_) => "code",
            None => "status",
        };
        answers
            .iter()
            .map(|answer| answer[shown(answer)].as_str().unwrap())
            .collect()
    }

    /// A1, A4, A5, A8: answers stand in the order of their lines, pipelined, whatever became of each.
    #[tokio::test]
    async fn a1_answers_come_in_order() {
        let world = World::new();
        let answers = world
            .answers(
                b"{\"type\":\"contact.created\",\"id\":\"1\"}\r\n\n\
                  nonsense\n\
                  {\"type\":\"nobody\",\"id\":\"2\"}\n\
                  {\"type\":\"contact.created\",\"id\":\"1\"}\n\
                  [{\"type\":\"contact.a\",\"id\":\"3\"},{\"type\":\"order.paid\",\"id\":\"4\"},{\"type\":\"nobody\",\"id\":\"5\"}]\n\
                  {\"type\":\"x\",\"id\":\"6\",\"endpoint\":\"gone\"}\n\
                  {\"type\":\"x\",\"id\":\"7\",\"endpoint\":\"orders\"}",
            )
            .await;
        assert_eq!(
            answers[0],
            json!({"status": "accepted", "id": "1", "deliveries": 2})
        );
        assert_eq!(
            (&answers[1]["code"], &answers[1]["line"]),
            (&json!("invalid_json"), &json!(3))
        );
        assert_eq!(
            answers[2],
            json!({"status": "accepted", "id": "2", "deliveries": 0})
        );
        assert_eq!(answers[3], json!({"status": "duplicate", "id": "1"}));
        assert_eq!(
            answers[4],
            json!({"status": "accepted", "ids": ["3", "4", "5"], "deliveries": 3})
        );
        assert_eq!(
            (&answers[5]["code"], &answers[5]["id"]),
            (&json!("invalid_event"), &json!("6"))
        );
        assert_eq!(
            answers[6],
            json!({"status": "accepted", "id": "7", "deliveries": 1})
        );
        assert_eq!(answers.len(), 7);
    }

    /// A5: batches with some and with only duplicates; A4: one bad event refuses all of them.
    #[tokio::test]
    async fn a4_a_batch_is_taken_whole_or_not_at_all() {
        let world = World::new();
        let answers = world
            .answers(
                b"[{\"type\":\"order.paid\",\"id\":\"1\"},{\"type\":\"order\",\"Id\":\"2\"}]\n\
                  [{\"type\":\"order.paid\",\"id\":\"1\"}]\n",
            )
            .await;
        assert_eq!(codes(&answers), ["invalid_event", "accepted"]);
        let answers = world
            .answers(
                b"[{\"type\":\"order.paid\",\"id\":\"1\"},{\"type\":\"contact.a\",\"id\":\"2\"}]\n\
                  [{\"type\":\"order.paid\",\"id\":\"1\"},{\"type\":\"contact.a\",\"id\":\"2\"}]\n",
            )
            .await;
        assert_eq!(
            answers[0],
            json!({"status": "accepted", "ids": ["1", "2"], "deliveries": 2, "duplicates": 1})
        );
        assert_eq!(answers[1], json!({"status": "duplicate", "ids": ["1", "2"]}));
    }

    /// A2: the answer comes after the commit, and the dispatcher has heard of the delivery by then.
    #[tokio::test]
    async fn a2_what_is_answered_is_committed() {
        let mut world = World::new();
        let answers = world
            .answers(b"{\"type\":\"order.paid\",\"id\":\"1\",\"delay\":\"1s\"}\n")
            .await;
        assert_eq!(codes(&answers), ["accepted"]);
        let told = world.notices.try_recv().unwrap();
        assert!(
            matches!(
                told[..],
                [Notice::Accepted {
                    lane: LaneId(_),
                    due: Some(Timestamp(1_736_937_001_000)),
                    ..
                }]
            ),
            "{told:?}"
        );
        let found = world.store.find("1", 10).unwrap();
        let json: Value = serde_json::from_slice(&found[0].event.json).unwrap();
        assert_eq!(json["source"], "/local/root");
    }

    /// A1: control lines are answered, and change the answers of the lines after them.
    #[tokio::test]
    async fn a1_ack_modes() {
        let world = World::new();
        let good = "{\"type\":\"order.paid\"}\n";
        let bad = "{}\n";
        let text = format!(
            "{{\"ack\":\"errors\"}}\n{good}{bad}{{\"ack\":\"none\"}}\n{good}{bad}{{\"ack\":\"each\"}}\n{good}"
        );
        let answers = world.answers(text.as_bytes()).await;
        let shown: Vec<&Value> = answers
            .iter()
            .map(|answer| {
                [&answer["ack"], &answer["code"], &answer["status"]]
                    .into_iter()
                    .find(|v| !v.is_null())
            })
            .map(Option::unwrap)
            .collect();
        assert_eq!(shown, ["errors", "invalid_event", "none", "each", "accepted"]);
    }

    /// A8: what the store refuses is refused with when to try again, and taken later on the same connection.
    #[tokio::test]
    async fn a8_the_store_refuses() {
        let world = World::new();
        for (refusal, code) in [
            (Refusal::QueueFull, "queue_full"),
            (Refusal::DiskFull, "disk_full"),
        ] {
            world.store.refuse(Some(refusal));
            let answers = world.answers(b"{\"type\":\"order.paid\",\"id\":\"1\"}\n").await;
            assert_eq!(codes(&answers), [code]);
            assert_eq!(answers[0]["retry_after_ms"], 5000);
            assert_eq!(answers[0]["id"], "1");
        }
        world.store.refuse(None);
        let answers = world.answers(b"{\"type\":\"order.paid\",\"id\":\"1\"}\n").await;
        assert_eq!(codes(&answers), ["accepted"]);
    }

    /// I4: after a failed flush there is no answer at all, and new connections hear `unhealthy`.
    #[tokio::test]
    async fn i4_a_failed_flush_is_never_answered() {
        for reached in [Reached::Nothing, Reached::Disk] {
            let world = World::new();
            world.store.fail_commit(1, reached);
            let answers = world
                .answers(b"{\"type\":\"order.paid\",\"id\":\"1\"}\n{}\n")
                .await;
            assert_eq!(answers, Vec::<Value>::new());
            let mut failure = world.intake.queue.failure();
            failure.wait_for(Option::is_some).await.unwrap();
            let answers = world.answers(b"{\"type\":\"order.paid\",\"id\":\"1\"}\n").await;
            assert_eq!(codes(&answers), ["unhealthy"]);
        }
    }

    /// A8: while the daemon stops, lines are refused with `shutting_down`, then the connection is closed.
    #[tokio::test(start_paused = true)]
    async fn i3_lines_after_the_stop_are_refused() {
        let world = World::new();
        let mut connection = world.connect(4096);
        world.intake.drain();
        world.stop.cancel();
        connection
            .write_all(b"{\"type\":\"order.paid\",\"id\":\"1\"}\n")
            .await
            .unwrap();
        let mut text = String::new();
        connection.read_to_string(&mut text).await.unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&answer["code"], &answer["id"]),
            (&json!("shutting_down"), &json!("1"))
        );
    }

    /// I5: a producer that floods and never reads is read from only until its answers can't be written.
    #[tokio::test(start_paused = true)]
    async fn i5_a_producer_that_never_reads_stops_only_itself() {
        let world = World::new();
        let mut deaf = world.connect(4096);
        let flood = "{\"type\":\"order.paid\"}\n".repeat(500);
        let flooding = tokio::time::timeout(Duration::from_secs(60), async {
            loop {
                deaf.write_all(flood.as_bytes()).await.unwrap();
            }
        });
        assert!(flooding.await.is_err(), "the flood was read without end");
        let read = world
            .intake
            .counters
            .bytes
            .load(std::sync::atomic::Ordering::Relaxed);
        assert!(read < 1 << 20, "{read} bytes were read");
        let answers = world.answers(b"{\"type\":\"order.paid\"}\n").await;
        assert_eq!(codes(&answers), ["accepted"], "others don't notice");
    }

    /// A1: a line past its bound is read through and refused, and the connection goes on.
    #[tokio::test]
    async fn a8_a_long_line_is_refused_and_the_connection_goes_on() {
        let world = World::new();
        let text = format!(
            "{{\"type\":\"{}\"}}\n{{\"type\":\"order.paid\"}}\n",
            "x".repeat(1 << 20)
        );
        let answers = world.answers(text.as_bytes()).await;
        assert_eq!(codes(&answers), ["too_large", "accepted"]);
    }

    /// I5: long lines wait for room, while short ones on other connections go on.
    #[tokio::test]
    async fn i5_long_lines_take_turns() {
        let world = Arc::new(World::with(Limits {
            event_bytes_max: 1 << 20,
            batch_bytes_max: 1 << 20,
        }));
        let all = world.intake.long_lines.available_permits();
        let room = world.intake.long_lines.acquire_many(all as u32).await.unwrap();
        let long = format!(
            "{{\"type\":\"order.paid\",\"data\":\"{}\"}}\n",
            "x".repeat(900_000)
        );
        let waiting = tokio::spawn({
            let world = Arc::clone(&world);
            async move { world.answers(long.as_bytes()).await }
        });
        let read = || {
            world
                .intake
                .counters
                .bytes
                .load(std::sync::atomic::Ordering::Relaxed)
        };
        while read() < 256 << 10 {
            tokio::task::yield_now().await;
        }
        let answers = world.answers(b"{\"type\":\"order.paid\"}\n").await;
        assert_eq!(codes(&answers), ["accepted"]);
        assert!(!waiting.is_finished() && read() < 600_000);
        drop(room);
        assert_eq!(codes(&waiting.await.unwrap()), ["accepted"]);
        assert_eq!(
            world.intake.long_lines.available_permits(),
            all,
            "the room is given back"
        );
    }

    /// I5: a producer that stops in the middle of a long line gives its room back.
    #[tokio::test(start_paused = true)]
    async fn i5_a_long_line_that_stalls_is_given_up() {
        let world = World::with(Limits {
            event_bytes_max: 1 << 20,
            batch_bytes_max: 1 << 20,
        });
        let mut stalled = world.connect(1 << 16);
        stalled.write_all("x".repeat(300_000).as_bytes()).await.unwrap();
        assert_eq!(
            stalled.read_to_string(&mut String::new()).await.unwrap(),
            0,
            "closed"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// A1: there are as many answers as lines that are not blank, whatever stands in them.
        #[test]
        fn a1_every_line_is_answered_once(
            lines in prop::collection::vec(
                prop::sample::select(vec![
                    "", " ", "\r", "x", "{}", "[", "[{\"type\":\"order.paid\"}]", "{\"type\":\"order.paid\"}",
                    "{\"type\":\"nobody\"}", "{\"ack\":\"each\"}", "\u{0}", "42", "{\"type\":\"order.paid\",\"id\":\"1\"}",
                ]),
                0..40,
            ),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let answers = runtime.block_on(async {
                World::new().answers(lines.join("\n").as_bytes()).await
            });
            let asked = lines.iter().filter(|line| !line.trim().is_empty()).count();
            prop_assert_eq!(answers.len(), asked);
        }
    }
}
