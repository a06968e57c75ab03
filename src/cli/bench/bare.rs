//! The least that a daemon can do which flushes before it answers: it reads lines from a socket, appends them to a file,
//! flushes what came meanwhile at once, and answers. It looks at nothing, routes nothing and finds nothing again, so what
//! it accepts is what the machine gives at most: its system calls, its switches between threads, its disk. With an
//! [`Outlet`] it delivers what is flushed, too.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use memchr::memchr_iter;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::outlet::Outlet;
use super::producers::{Answers, Crew, LINE_BYTES, Until, work};
use crate::ingest::wire::{Socket, Wire};

const ANSWER: &[u8] = b"{\"status\":\"accepted\"}\n";

/// What waits for the next flush.
#[derive(Debug, Default)]
struct Round {
    bytes: Vec<u8>,
    waiting: Vec<oneshot::Sender<()>>,
    is_over: bool,
}

/// Where sessions leave their lines, and the flusher takes them.
#[derive(Debug, Default)]
struct Desk {
    round: Mutex<Round>,
    arrived: Condvar,
}

impl Desk {
    /// What `change` makes of what waits; the flusher looks at it again.
    fn change(&self, change: impl FnOnce(&mut Round)) {
        change(&mut self.round.lock().unwrap_or_else(PoisonError::into_inner));
        self.arrived.notify_one();
    }

    /// Waits for lines and takes all that are there; `None`: it is over.
    fn take(&self) -> Option<Round> {
        let round = self.round.lock().unwrap_or_else(PoisonError::into_inner);
        let is_idle = |round: &mut Round| round.waiting.is_empty() && !round.is_over;
        let waited = self.arrived.wait_while(round, is_idle);
        let mut round = waited.unwrap_or_else(PoisonError::into_inner);
        (!round.is_over).then(|| std::mem::take(&mut *round))
    }
}

/// What `crew` gets from such a daemon in `folder`; whatever socket it names, it is sent to that one's. With an `outlet`
/// everything is delivered in the end.
///
/// # Errors
/// When something does not work at all.
pub async fn answers(
    folder: &Path,
    mut crew: Crew,
    until: Until,
    outlet: Option<Outlet>,
) -> io::Result<Answers> {
    let (socket, path) = (folder.join("bare.sock"), folder.join("bare"));
    let file = File::create(&path)?;
    let (flushed, lines) = watch::channel(0);
    let deliveries = match outlet {
        Some(outlet) => outlet.open(File::open(&path)?, lines).await?,
        None => JoinSet::new(),
    };
    let listener = std::os::unix::net::UnixListener::bind(&socket)?;
    listener.set_nonblocking(true)?;
    let desk = Arc::new(Desk::default());
    let (answer, rounds) = mpsc::unbounded_channel();
    let sessions = {
        let desk = Arc::clone(&desk);
        thread::spawn(move || serve(listener, &desk, rounds))
    };
    let flusher = {
        let desk = Arc::clone(&desk);
        thread::spawn(move || flush(file, &desk, &answer, &flushed))
    };
    crew.socket = socket.clone();
    let answers = work(crew, until).await;
    let answered = Instant::now();
    desk.change(|round| round.is_over = true);
    let ended = tokio::task::spawn_blocking(move || (flusher.join(), sessions.join()));
    let (flusher, sessions) = ended.await.map_err(io::Error::other)?;
    for part in [flusher, sessions] {
        part.map_err(|_| io::Error::other("the bare daemon broke off"))??;
    }
    deliveries
        .join_all()
        .await
        .into_iter()
        .collect::<io::Result<()>>()?;
    let behind = outlet.map(|_| answered.elapsed()).unwrap_or_default();
    fs::remove_file(&socket)?;
    fs::remove_file(&path)?;
    Ok(Answers { behind, ..answers? })
}

/// Flushes round after round to `file`, and tells of it: first those who wait, then how many lines there are by now.
fn flush(
    mut file: File,
    desk: &Desk,
    answer: &mpsc::UnboundedSender<Vec<oneshot::Sender<()>>>,
    flushed: &watch::Sender<u64>,
) -> io::Result<()> {
    while let Some(round) = desk.take() {
        file.write_all(&round.bytes)?;
        file.sync_data()?;
        let _ = answer.send(round.waiting);
        flushed.send_modify(|lines| *lines += (round.bytes.len() / LINE_BYTES) as u64);
    }
    Ok(())
}

/// All sessions on this thread, until the flusher has gone.
fn serve(
    listener: std::os::unix::net::UnixListener,
    desk: &Arc<Desk>,
    mut flushed: mpsc::UnboundedReceiver<Vec<oneshot::Sender<()>>>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = UnixListener::from_std(listener)?;
        loop {
            tokio::select! {
                round = flushed.recv() => match round {
                    Some(waiting) => waiting.into_iter().for_each(|session| {
                        let _ = session.send(());
                    }),
                    None => return Ok(()),
                },
                connection = listener.accept() => {
                    let socket = Socket::new(connection?.0)?;
                    tokio::spawn(session(socket, Arc::clone(desk)));
                }
            }
        }
    })
}

async fn session(mut socket: Socket, desk: Arc<Desk>) -> io::Result<()> {
    let mut read = Vec::new();
    while socket.receive(&mut read).await? > 0 {
        if !read.ends_with(b"\n") {
            continue;
        }
        let lines = memchr_iter(b'\n', &read).count();
        let (flushed, wait) = oneshot::channel();
        desk.change(|round| {
            round.bytes.extend_from_slice(&read);
            round.waiting.push(flushed);
        });
        if wait.await.is_err() {
            break;
        }
        socket.send(&ANSWER.repeat(lines)).await?;
        read.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::time::Duration;

    use super::super::producers::line;
    use super::*;
    use crate::cli::receive::server::{Options, Receiver};

    /// What three producers get that write two lines each, until there are 100.
    async fn a_hundred(outlet: Option<Outlet>) -> Answers {
        let folder = tempfile::tempdir().unwrap();
        let crew = Crew {
            socket: folder.path().into(),
            producers: 3,
            burst: 2,
            target: "live",
        };
        let got = answers(folder.path(), crew, Until::Accepted(100), outlet).await;
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            0,
            "it leaves nothing"
        );
        got.unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_written_is_answered() {
        let got = a_hundred(None).await;
        assert!(got.accepted >= 100 && got.took > Duration::ZERO, "{got:?}");
        assert_eq!(got.behind, Duration::ZERO);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_written_is_delivered() {
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut receiver = Receiver::bind(any_port, Options::default()).await.unwrap();
        let address = receiver.addr();
        for (outlet, lines_max) in [
            (Outlet::line_by_line(address, 8), 1),
            (Outlet::in_batches(address, 4), 4),
        ] {
            let before = receiver.counts().body_bytes;
            let got = a_hundred(Some(outlet)).await;
            assert!(got.behind > Duration::ZERO, "{got:?}");
            let arrived = receiver.counts().body_bytes - before;
            assert_eq!(arrived, got.accepted * LINE_BYTES as u64, "all, once");
            let mut left = got.accepted;
            while left > 0 {
                let body = receiver.recv().await.unwrap().body;
                let lines = body.len() / LINE_BYTES;
                assert!((1..=lines_max).contains(&lines), "{lines} lines");
                assert_eq!(body, line("live", "").repeat(lines));
                left -= lines as u64;
            }
        }
    }
}
