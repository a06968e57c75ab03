//! The least that a daemon can do which flushes before it answers: it reads lines from a socket, appends them to a file,
//! flushes what came meanwhile at once, and answers. It looks at nothing, routes nothing and finds nothing again, so what
//! it accepts is what the machine gives at most: its system calls, its switches between threads, its disk.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use memchr::memchr_iter;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

use super::producers::{Answers, Crew, Until, work};
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

/// What `crew` gets from such a daemon in `folder`; whatever socket it names, it is sent to that one's.
///
/// # Errors
/// When something does not work at all.
pub async fn answers(folder: &Path, mut crew: Crew, until: Until) -> io::Result<Answers> {
    let (socket, path) = (folder.join("bare.sock"), folder.join("bare"));
    let listener = std::os::unix::net::UnixListener::bind(&socket)?;
    listener.set_nonblocking(true)?;
    let mut file = File::create(&path)?;
    let desk = Arc::new(Desk::default());
    let (flushed, rounds) = mpsc::unbounded_channel();
    let sessions = {
        let desk = Arc::clone(&desk);
        thread::spawn(move || serve(listener, &desk, rounds))
    };
    let flusher = {
        let desk = Arc::clone(&desk);
        thread::spawn(move || -> io::Result<()> {
            while let Some(round) = desk.take() {
                file.write_all(&round.bytes)?;
                file.sync_data()?;
                let _ = flushed.send(round.waiting);
            }
            Ok(())
        })
    };
    crew.socket = socket.clone();
    let answers = work(crew, until).await;
    desk.change(|round| round.is_over = true);
    let ended = tokio::task::spawn_blocking(move || (flusher.join(), sessions.join()));
    let (flusher, sessions) = ended.await.map_err(io::Error::other)?;
    for part in [flusher, sessions] {
        part.map_err(|_| io::Error::other("the bare daemon broke off"))??;
    }
    fs::remove_file(&socket)?;
    fs::remove_file(&path)?;
    answers
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
    use std::time::Duration;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_written_is_answered() {
        let folder = tempfile::tempdir().unwrap();
        let crew = Crew {
            socket: folder.path().into(),
            producers: 3,
            burst: 2,
            target: "live",
        };
        let got = answers(folder.path(), crew, Until::Accepted(100)).await.unwrap();
        assert!(got.accepted >= 100 && got.took > Duration::ZERO, "{got:?}");
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            0,
            "it leaves nothing"
        );
    }
}
