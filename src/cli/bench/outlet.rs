//! How the barest daemon delivers: what is flushed is read back from its file and posted over bare connections. Nothing
//! is looked at, signed, tried again or settled, and of an answer nobody reads more than that it came.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::limits::Connection;
use super::producers::LINE_BYTES;

/// Connections that bodies of many lines go over: enough that none waits for another's answer, few enough that bodies
/// become full.
const BATCH_CONNECTIONS: u16 = 8;

/// Where lines go, and how.
#[derive(Clone, Copy, Debug)]
pub struct Outlet {
    receiver: SocketAddr,
    connections: u16,
    /// Lines of one body.
    lines_max: u64,
}

impl Outlet {
    /// One line a request.
    #[must_use]
    pub fn line_by_line(receiver: SocketAddr, connections: u16) -> Self {
        Self {
            receiver,
            connections,
            lines_max: 1,
        }
    }

    /// What there is in one body, at most `lines_max` lines.
    #[must_use]
    pub fn in_batches(receiver: SocketAddr, lines_max: u64) -> Self {
        Self {
            receiver,
            connections: BATCH_CONNECTIONS,
            lines_max,
        }
    }

    /// Begins to post the lines of `file`, as many as `flushed` tells. The loops end when its sender is gone and all
    /// lines are posted.
    ///
    /// # Errors
    /// When nobody listens. The loops' own: when a request fails.
    pub async fn open(
        self,
        file: File,
        flushed: watch::Receiver<u64>,
    ) -> io::Result<JoinSet<io::Result<()>>> {
        let lines = Arc::new(Lines {
            file,
            taken: AtomicU64::new(0),
        });
        let mut loops = JoinSet::new();
        for _ in 0..self.connections {
            let mut connection = Connection::open(self.receiver).await?;
            let (lines, mut flushed) = (Arc::clone(&lines), flushed.clone());
            loops.spawn(async move {
                while flushed.changed().await.is_ok() {
                    while let Some(body) = lines.take(&mut flushed, self.lines_max)? {
                        connection.post(body.into()).await?;
                    }
                }
                Ok(())
            });
        }
        Ok(loops)
    }
}

/// The file's lines, each [`LINE_BYTES`] long, which are taken in their order.
#[derive(Debug)]
struct Lines {
    file: File,
    taken: AtomicU64,
}

impl Lines {
    /// The next of the `flushed` ones, at most `lines_max`; `None`: all are taken. What was just written is in memory
    /// still, so reading it waits for no disk.
    fn take(&self, flushed: &mut watch::Receiver<u64>, lines_max: u64) -> io::Result<Option<Vec<u8>>> {
        let flushed = *flushed.borrow_and_update();
        let until = |taken: u64| flushed.min(taken + lines_max);
        let more = |taken: u64| (taken < flushed).then(|| until(taken));
        let Ok(first) = self
            .taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
        else {
            return Ok(None);
        };
        let mut lines = vec![0; (until(first) - first) as usize * LINE_BYTES];
        self.file.read_exact_at(&mut lines, first * LINE_BYTES as u64)?;
        Ok(Some(lines))
    }
}
