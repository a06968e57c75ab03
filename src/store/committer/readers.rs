//! The threads that read the store, where blocking is allowed. They are few, whoever else blocks: each keeps some memory for
//! itself for as long as it lives. Knows nothing of what is read.

use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};

/// Threads that read at once. At a start every lane asks; more would only wait for the same disk. tokio's own pool has no
/// such bound that other work would not have to share, and grows to a hundred threads for sixteen reads at once, because a
/// thread that has just answered has to be woken anew before it takes the next.
const READERS_MAX: usize = 16;
/// Threads that have nothing more to read end after this, with the free memory that they keep.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// The threads that read; they end when this is dropped, each after what it is about.
#[derive(Debug)]
pub(super) struct Readers(Option<Runtime>);

impl Readers {
    /// A pool that has no thread before something is to be read, and the way to it, which stays good when the threads have
    /// ended, and says so then.
    ///
    /// # Errors
    /// Of the operating system.
    pub(super) fn start() -> io::Result<(Self, Handle)> {
        let runtime = Builder::new_current_thread()
            .thread_name("reader")
            .max_blocking_threads(READERS_MAX)
            .thread_keep_alive(KEEP_ALIVE)
            .build()?;
        let way = runtime.handle().clone();
        Ok((Self(Some(runtime)), way))
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Whoever drops it may be on a thread that must not wait.
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// However many ask at once and one after the other, so many threads answer; and nobody waits for ever when it is over.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn few_threads_read_for_everybody() {
        let (readers, way) = Readers::start().unwrap();
        let seen = Arc::new(Mutex::new(std::collections::HashSet::new()));
        for _ in 0..50 {
            let asked: Vec<_> = (0..64)
                .map(|_| {
                    let seen = Arc::clone(&seen);
                    way.spawn_blocking(move || {
                        let thread = std::thread::current();
                        seen.lock().unwrap().insert(thread.id());
                        thread.name().map(str::to_owned)
                    })
                })
                .collect();
            for answer in asked {
                assert_eq!(answer.await.unwrap().as_deref(), Some("reader"));
            }
        }
        let count = seen.lock().unwrap().len();
        assert!((1..=READERS_MAX).contains(&count), "{count}");
        drop(readers);
        assert!(way.spawn_blocking(|| ()).await.is_err());
    }
}
