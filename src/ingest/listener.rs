//! Who may connect: takes connections from a Unix socket, as many as allowed, learns who is at the other
//! end, and hands each to a session. It refuses to know how the socket came about, and what is said on it.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::build::Sender;
use super::intake::{Counters, Intake};
use super::session;

/// How long to wait after `accept` has failed, most likely for want of file descriptors: a closing
/// connection gives some back, and asking again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The system's list of users, for the default `source` of events.
const USERS_FILE: &str = "/etc/passwd";

/// The ingest socket, ready to be served.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    remove: Option<PathBuf>,
    connections_max: usize,
}

impl Listener {
    /// Wraps a bound and listening socket. `remove`: the path to remove at a clean stop, `None` when the
    /// socket belongs to somebody else, such as systemd. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the socket can't be made non-blocking or registered.
    pub fn new(
        socket: std::os::unix::net::UnixListener,
        remove: Option<PathBuf>,
        connections_max: usize,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: UnixListener::from_std(socket)?,
            remove,
            connections_max,
        })
    }

    /// Serves connections until `stop`; then takes no more events, and returns when every session has
    /// answered what it had read.
    pub async fn serve(self, intake: Arc<Intake>, stop: CancellationToken) {
        let sessions = TaskTracker::new();
        let permits = Arc::new(Semaphore::new(self.connections_max));
        let mut users = Users::default();
        while let Some((stream, permit)) = self.next(&permits, &stop).await {
            let sender = users.sender(&stream);
            let intake = Arc::clone(&intake);
            let stop = stop.clone();
            sessions.spawn(async move {
                let counters = Arc::clone(&intake);
                Counters::add(&counters.counters.connections, 1);
                Counters::add(&counters.counters.connections_open, 1);
                session::run(stream, sender, intake, stop).await;
                Counters::take(&counters.counters.connections_open);
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
        sessions.close();
        sessions.wait().await;
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

/// The names of the users seen so far.
#[derive(Debug, Default)]
struct Users(HashMap<u32, Sender>);

impl Users {
    /// Who is at the other end, as the kernel tells it.
    fn sender(&mut self, stream: &UnixStream) -> Sender {
        match stream.peer_cred() {
            Ok(peer) => self
                .0
                .entry(peer.uid())
                .or_insert_with_key(|uid| Sender::local(Some(*uid), user_name(*uid).as_deref()))
                .clone(),
            Err(_) => Sender::local(None, None),
        }
    }
}

/// What the system calls a user; one known only to a directory service goes by its number.
fn user_name(uid: u32) -> Option<String> {
    let users = std::fs::read_to_string(USERS_FILE).ok()?;
    named(&users, uid).map(str::to_owned)
}

/// The name of `uid` in a file like passwd(5): `name:password:uid:…`.
fn named(users: &str, uid: u32) -> Option<&str> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let found = fields.nth(1)?.parse::<u32>().ok()? == uid;
        (found && !name.is_empty()).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn users_are_found_by_number() {
        let users = "root:x:0:0:root:/root:/bin/sh\n# a remark\nwww-data:x:33:33::/var/www:/bin/false\n";
        for (uid, expected) in [(0, Some("root")), (33, Some("www-data")), (3, None)] {
            assert_eq!(named(users, uid), expected);
        }
    }
}
