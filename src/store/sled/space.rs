//! How much room is left, and whether new events may still come. Settling is never refused: it makes room.

use std::path::{Path, PathBuf};

use crate::config::{FreeMin, StoreConfig};
use crate::store::Refusal;
use crate::store::files::{self, Ballast};

/// The bounds on the store's size, and what the file system last said.
#[derive(Debug)]
pub struct Space {
    folder: PathBuf,
    size_bytes_max: u64,
    free_min: FreeMin,
    free_bytes: u64,
    total_bytes: u64,
    ballast: Option<Ballast>,
}

impl Space {
    /// Watches `folder`. Without ballast when nothing may be changed.
    pub fn new(folder: &Path, config: &StoreConfig, ballast: bool) -> Self {
        let mut space = Self {
            folder: folder.to_owned(),
            size_bytes_max: config.size_bytes_max,
            free_min: config.free_min,
            free_bytes: u64::MAX,
            total_bytes: u64::MAX,
            ballast: ballast.then(|| Ballast::find(folder)),
        };
        space.refresh();
        space
    }

    /// Looks at the file system. To be called before each commit: others fill the disk too, and the ballast has
    /// to be given up before a write fails. It costs a microsecond, a flush a thousand.
    pub fn refresh(&mut self) {
        match files::free_space(&self.folder) {
            Ok((free, total)) => (self.free_bytes, self.total_bytes) = (free, total),
            Err(error) => tracing::warn!(%error, "the free space is not known; the last number stands"),
        }
        if let Some(ballast) = &mut self.ballast {
            ballast.trim(self.free_bytes);
        }
    }

    /// Counts bytes that are about to be written.
    pub fn wrote(&mut self, bytes: u64) {
        self.free_bytes = self.free_bytes.saturating_sub(bytes);
    }

    /// Gives the ballast up, because a write failed.
    pub fn emergency(&mut self) {
        if let Some(ballast) = &mut self.ballast {
            ballast.release();
        }
    }

    /// Whether `bytes` more may come while `occupied` are in use; if not, why.
    pub fn refusal(&self, occupied: u64, bytes: u64) -> Option<Refusal> {
        let floor = match self.free_min {
            FreeMin::Bytes(bytes) => bytes,
            FreeMin::Percent(percent) => (self.total_bytes as f64 * percent / 100.0) as u64,
        };
        if occupied.saturating_add(bytes) > self.size_bytes_max {
            Some(Refusal::QueueFull)
        } else if self.free_bytes < floor.saturating_add(bytes) {
            Some(Refusal::DiskFull)
        } else {
            None
        }
    }

    /// Bytes free on the file system, as last seen.
    pub fn free_bytes(&self) -> u64 {
        self.free_bytes
    }
}
