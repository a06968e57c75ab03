//! Who may connect: takes connections from a Unix socket, as many as allowed, learns who is at the other
//! end, and hands each to a session. All sessions live on one thread: what one of them does for an event is less than
//! it costs to wake another thread for it. It refuses to know how the socket came about, and what is said on it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::intake::{Counters, Intake};
use super::sender::Users;
use super::session;
use super::together::Together;
use super::turn::Desk;
use super::wire::Socket;
use crate::domain::access::Credentials;

/// How long to wait after `accept` has failed, most likely for want of file descriptors: a closing
/// connection gives some back, and asking again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long answers may take to be read when the daemon stops; the commit they wait for is included.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// The ingest socket, ready to be served.
#[derive(Debug)]
struct Listener {
    socket: UnixListener,
    remove: Option<PathBuf>,
    connections_max: usize,
}

/// Begins to serve a bound and listening socket on a thread of its own, until `stop`; what is returned resolves when
/// every session has answered what it had read, or has broken off. `remove`: the path to remove at a clean stop, `None`
/// when the socket belongs to somebody else, such as systemd.
///
/// # Errors
/// When the socket can't be made non-blocking or registered, or the operating system gives no thread.
pub fn start(
    socket: std::os::unix::net::UnixListener,
    remove: Option<PathBuf>,
    connections_max: usize,
    intake: Arc<Intake>,
    stop: CancellationToken,
) -> io::Result<oneshot::Receiver<()>> {
    socket.set_nonblocking(true)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let registering = runtime.enter();
    let socket = UnixListener::from_std(socket)?;
    drop(registering);
    let listener = Listener {
        socket,
        remove,
        connections_max,
    };
    let (ended, end) = oneshot::channel();
    thread::Builder::new().name("ingest".to_owned()).spawn(move || {
        runtime.block_on(listener.serve(intake, stop));
        // Whoever waited so long has gone on without.
        let _ = ended.send(());
    })?;
    Ok(end)
}

impl Listener {
    /// Serves connections until `stop`; then takes no more events, and returns when every session has answered what it
    /// had read, or has taken too long.
    async fn serve(self, intake: Arc<Intake>, stop: CancellationToken) {
        let mut sessions = JoinSet::new();
        let together = Together::new(intake.queue.clone());
        let remembered = Arc::default();
        let permits = Arc::new(Semaphore::new(self.connections_max));
        let mut users = Users::default();
        while let Some((stream, permit)) = self.next(&permits, &stop).await {
            let sender = users.sender(credentials(&stream));
            let socket = match Socket::new(stream) {
                Ok(socket) => socket,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be served and is closed");
                    continue;
                }
            };
            let intake = Arc::clone(&intake);
            let desk = Desk::among(
                Arc::clone(&together),
                Arc::clone(&remembered),
                Arc::clone(&intake),
                sender,
            );
            // A token of its own: whoever waits for a token takes its lock each time it is asked.
            let stop = stop.child_token();
            while sessions.try_join_next().is_some() {}
            sessions.spawn(async move {
                let counters = &intake.counters;
                Counters::add(&counters.connections, 1);
                Counters::add(&counters.connections_open, 1);
                session::run(socket, desk, Arc::clone(&intake), stop).await;
                Counters::take(&counters.connections_open);
                drop(permit);
            });
        }
        intake.drain();
        drop(self.socket);
        if let Some(path) = &self.remove
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::warn!(path = %path.display(), %error, "the ingest socket could not be removed");
        }
        let answered = async { while sessions.join_next().await.is_some() {} };
        if timeout(LAST_ANSWERS, answered).await.is_err() {
            let producers = sessions.len();
            tracing::info!(
                producers,
                "their last answers were not read while the daemon stopped"
            );
        }
    }

    /// The next connection, once there is room for it; `None` when it is time to stop. Whoever finds no
    /// room waits in the kernel's queue.
    async fn next(
        &self,
        permits: &Arc<Semaphore>,
        stop: &CancellationToken,
    ) -> Option<(UnixStream, OwnedSemaphorePermit)> {
        tokio::select! {
            biased;
            () = stop.cancelled() => None,
            connection = self.accept(permits) => connection,
        }
    }

    async fn accept(&self, permits: &Arc<Semaphore>) -> Option<(UnixStream, OwnedSemaphorePermit)> {
        let permit = Arc::clone(permits).acquire_owned().await.ok()?;
        loop {
            match self.socket.accept().await {
                Ok((stream, _)) => return Some((stream, permit)),
                Err(error) => {
                    tracing::warn!(%error, "no connection could be taken; trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Who connected, as the kernel noted it at that moment.
fn credentials(stream: &UnixStream) -> Credentials {
    let peer = stream.peer_cred().ok();
    Credentials {
        uid: peer.map(|peer| peer.uid()),
        gid: peer.map(|peer| peer.gid()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Value;
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
    use tokio::sync::mpsc;

    use super::*;
    use crate::domain::time::Timestamp;
    use crate::ingest::intake::RouteTable;
    use crate::ingest::intake::tests::endpoint;
    use crate::ingest::lines::Limits;
    use crate::store::Store;
    use crate::store::committer::{Clock, Committer};
    use crate::store::memory::MemoryStore;

    /// A served socket in a temporary folder, over a store in memory, with one endpoint for everything.
    struct World {
        intake: Arc<Intake>,
        path: PathBuf,
        stop: CancellationToken,
        serving: oneshot::Receiver<()>,
        _folder: tempfile::TempDir,
        _committer: Committer,
    }

    impl World {
        fn new(connections_max: usize) -> Self {
            let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Duration::from_secs(60), 1000));
            let lane = store.lane("all").unwrap();
            let clock: Clock = Arc::new(|| Timestamp(1_736_937_000_000));
            let (tell, _) = mpsc::channel(4096);
            let (committer, queue) =
                Committer::start(store, Arc::clone(&clock), Duration::from_secs(60), tell).unwrap();
            let limits = Limits {
                event_bytes_max: 4096,
                batch_bytes_max: 16384,
            };
            let routes = RouteTable::new(vec![(endpoint("all", "**", ""), lane)]);
            let intake = Arc::new(Intake::new(queue, routes, limits, clock));
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("ingest.sock");
            let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
            let stop = CancellationToken::new();
            let remove = Some(path.clone());
            let serving = start(socket, remove, connections_max, Arc::clone(&intake), stop.clone()).unwrap();
            Self {
                intake,
                path,
                stop,
                serving,
                _folder: folder,
                _committer: committer,
            }
        }
    }

    /// Sends one line and reads its answer.
    async fn ask(stream: &mut BufReader<UnixStream>, line: &str) -> Value {
        stream.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_line(&mut answer).await.unwrap();
        serde_json::from_str(&answer).unwrap()
    }

    async fn connect(path: &Path) -> BufReader<UnixStream> {
        BufReader::new(UnixStream::connect(path).await.unwrap())
    }

    /// A1: over a real socket, one line after the other and half-closed at the end; A3: the source is the
    /// user at the other end.
    #[tokio::test]
    async fn a1_a_producer_is_served_over_the_socket() {
        let world = World::new(4);
        let mut producer = connect(&world.path).await;
        for id in ["1", "2"] {
            let answer = ask(&mut producer, &format!(r#"{{"type":"a","id":"{id}"}}"#)).await;
            assert_eq!(answer["id"], id);
        }
        producer.write_all(br#"{"type":"a","id":"3"}"#).await.unwrap();
        producer.shutdown().await.unwrap();
        let mut rest = String::new();
        producer.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "{\"status\":\"accepted\",\"id\":\"3\",\"deliveries\":1}\n");
        let found = world.intake.queue.store().find("3", 1).unwrap();
        let uid = rustix::process::getuid().as_raw();
        let us = Credentials {
            uid: Some(uid),
            gid: None,
        };
        assert_eq!(found[0].event.head.source, Users::default().sender(us).source);
        assert_eq!(found[0].event.head.sender_uid, Some(uid));
    }

    /// I5: past the limit connections wait for one to close, and are then served.
    #[tokio::test]
    async fn i5_connections_are_bounded() {
        let world = World::new(1);
        let mut first = connect(&world.path).await;
        ask(&mut first, r#"{"type":"a"}"#).await;
        let mut second = connect(&world.path).await;
        let waiting = tokio::spawn(async move { ask(&mut second, r#"{"type":"a"}"#).await });
        ask(&mut first, r#"{"type":"a"}"#).await;
        let open = world
            .intake
            .counters
            .connections_open
            .load(std::sync::atomic::Ordering::Relaxed);
        assert!((open, waiting.is_finished()) == (1, false));
        drop(first);
        assert_eq!(waiting.await.unwrap()["status"], "accepted");
    }

    /// I3: a stop removes the socket, lets the sessions end, and only then returns.
    #[tokio::test]
    async fn i3_a_stop_is_clean() {
        let world = World::new(4);
        let mut producer = connect(&world.path).await;
        assert_eq!(ask(&mut producer, r#"{"type":"a"}"#).await["status"], "accepted");
        world.stop.cancel();
        world.serving.await.unwrap();
        assert_eq!(
            producer.read_to_string(&mut String::new()).await.unwrap(),
            0,
            "closed"
        );
        assert!(!world.path.exists());
        assert!(world.intake.closed().is_some(), "nothing is taken any more");
    }
}
