//! The store's folder: who owns it, which queue in it is the current one, how much room is left. Knows
//! nothing of events and nothing of the engine.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FlockOperation};

/// Names the folder of the current queue. Replaced by rename, so it always names a whole one.
const CURRENT: &str = "CURRENT";
const BALLAST: &str = "ballast";
/// Space kept back, given up when the disk is full so that settling still works.
const BALLAST_BYTES: u64 = 16 << 20;

/// Why the folder can't be ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error(
        "another posthaste (pid {0}) uses it; stop that one first, or give this one a store.path of its own"
    )]
    Held(String),
    /// The folder or the lock file can't be used.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The exclusive right to a folder; ends with the process, or when this is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes `folder`, and writes our pid into its lock file for whoever comes second.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn take(folder: &Path) -> Result<Self, LockError> {
        let mut options = fs::OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600);
        let mut file = options.open(folder.join("lock"))?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            file.read_to_string(&mut pid)?;
            return Err(LockError::Held(pid.trim().to_owned()));
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Self { _file: file })
    }
}

/// Makes a folder that only its owner can enter, and what is missing above it.
///
/// # Errors
/// Of the file system.
pub fn create_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    folder
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .map_or(Ok(()), sync_folder)
}

/// Makes names created in or renamed into `folder` durable.
///
/// # Errors
/// Of the file system.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes every file directly in `folder` durable, and their names.
///
/// # Errors
/// Of the file system.
pub fn sync_files(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_file() {
            File::open(path)?.sync_all()?;
        }
    }
    sync_folder(folder)
}

/// The name of queue number `n`.
#[must_use]
pub fn queue_name(n: u64) -> String {
    format!("queue-{n}")
}

/// The number in a queue's name; `None` for any other name, such as one set aside.
#[must_use]
pub fn queue_number(name: &str) -> Option<u64> {
    name.strip_prefix("queue-")?.parse().ok()
}

/// Every queue in `folder`, lowest number first.
///
/// # Errors
/// Of the file system.
pub fn queues(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        numbers.extend(entry?.file_name().to_str().and_then(queue_number));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The number of the current queue; `None`: none was ever made current.
///
/// # Errors
/// Of the file system; `InvalidData` when the file names no queue.
pub fn current(folder: &Path) -> io::Result<Option<u64>> {
    match fs::read_to_string(folder.join(CURRENT)) {
        Ok(text) => match queue_number(text.trim()) {
            Some(number) => Ok(Some(number)),
            None => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{CURRENT} names no queue: {text:?}"),
            )),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes queue `n` the current one, at one instant and durably.
///
/// # Errors
/// Of the file system.
pub fn set_current(folder: &Path, n: u64) -> io::Result<()> {
    let next = folder.join("CURRENT.new");
    let mut file = File::create(&next)?;
    writeln!(file, "{}", queue_name(n))?;
    file.sync_all()?;
    fs::rename(&next, folder.join(CURRENT))?;
    sync_folder(folder)
}

/// Removes queues other than the current one: what an interrupted rewrite left. What was set aside has
/// another name and stays.
///
/// # Errors
/// Of the file system.
pub fn remove_other_queues(folder: &Path, current: u64) -> io::Result<()> {
    for number in queues(folder)?.into_iter().filter(|number| *number != current) {
        fs::remove_dir_all(folder.join(queue_name(number)))?;
    }
    Ok(())
}

/// The engine's snapshots in `queue`, or only those whose writing was interrupted. The engine would take one
/// of the latter for whole.
///
/// # Errors
/// Of the file system.
pub fn snapshots(queue: &Path, interrupted: bool) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(queue)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("snap.") && (!interrupted || name.ends_with(".generating")) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Why a queue is kept under another name: the word in that name.
pub const CORRUPT: &str = "corrupt";
/// The same for one that a repaired one has taken the place of.
pub const REPLACED: &str = "replaced";

/// Renames a queue to `queue-N.WHY-TIME`, so that it is kept for whoever can read it. Returns its new place.
///
/// # Errors
/// Of the file system.
pub fn set_aside(folder: &Path, n: u64, why: &str, unix_seconds: u64) -> io::Result<PathBuf> {
    let aside = folder.join(format!("{}.{why}-{unix_seconds}", queue_name(n)));
    fs::rename(folder.join(queue_name(n)), &aside)?;
    sync_folder(folder)?;
    Ok(aside)
}

/// The queue number `n` that was set aside last, for whatever reason.
///
/// # Errors
/// Of the file system.
pub fn latest_aside(folder: &Path, n: u64) -> io::Result<Option<PathBuf>> {
    let queue = queue_name(n);
    let since = |name: &str| {
        let why = name.strip_prefix(&*queue)?.strip_prefix('.')?;
        let (why, since) = why.split_once('-')?;
        since
            .parse()
            .ok()
            .filter(|_: &u64| [CORRUPT, REPLACED].contains(&why))
    };
    let mut latest: Option<(u64, PathBuf)> = None;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if let Some(since) = entry.file_name().to_str().and_then(since)
            && latest.as_ref().is_none_or(|(other, _)| *other < since)
        {
            latest = Some((since, entry.path()));
        }
    }
    Ok(latest.map(|(_, path)| path))
}

/// Bytes free for us on the file system of `folder`, and its size.
///
/// # Errors
/// Of the file system.
pub fn free_space(folder: &Path) -> io::Result<(u64, u64)> {
    let space = rustix::fs::statvfs(folder)?;
    Ok((
        space.f_bavail.saturating_mul(space.f_frsize),
        space.f_blocks.saturating_mul(space.f_frsize),
    ))
}

/// A file that only takes up room, until the room is needed.
#[derive(Debug)]
pub struct Ballast {
    path: PathBuf,
    held: bool,
}

impl Ballast {
    /// The ballast of `folder`, as it is.
    #[must_use]
    pub fn find(folder: &Path) -> Self {
        let path = folder.join(BALLAST);
        let held = fs::metadata(&path).is_ok_and(|meta| meta.len() >= BALLAST_BYTES);
        Self { path, held }
    }

    /// Holds or gives up the ballast as fits `free_bytes`: given up when not even half of it is left beside
    /// it, taken again when there is room for eight of them.
    pub fn trim(&mut self, free_bytes: u64) {
        if self.held && free_bytes < BALLAST_BYTES / 2 {
            self.release();
        } else if !self.held && free_bytes > 8 * BALLAST_BYTES {
            self.held = self.allocate().is_ok();
        }
    }

    fn allocate(&self) -> io::Result<()> {
        let file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&self.path)?;
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, BALLAST_BYTES)?;
        Ok(())
    }

    /// Gives its room back at once.
    pub fn release(&mut self) {
        self.held = false;
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "the ballast could not be given up");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// I3: the second one is refused, and told who was first.
    #[test]
    fn i3_a_folder_has_one_owner() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::take(folder.path()).unwrap();
        let second = Lock::take(folder.path()).unwrap_err();
        assert!(
            second
                .to_string()
                .contains(&format!("pid {}", std::process::id())),
            "{second}"
        );
        drop(first);
        Lock::take(folder.path()).unwrap();
    }

    #[test]
    fn the_current_queue_is_switched_and_others_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert_eq!(current(path).unwrap(), None);
        for name in ["queue-1", "queue-2", "queue-10", "queue-2.corrupt-5", "other"] {
            create_folder(&path.join(name)).unwrap();
        }
        assert_eq!(queues(path).unwrap(), [1, 2, 10]);
        set_current(path, 10).unwrap();
        assert_eq!(current(path).unwrap(), Some(10));
        remove_other_queues(path, 10).unwrap();
        assert_eq!(queues(path).unwrap(), [10]);
        assert!(path.join("queue-2.corrupt-5").exists() && path.join("other").exists());
        fs::write(path.join(CURRENT), "nonsense").unwrap();
        assert_eq!(current(path).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    /// I4: room is kept back, and given up when it is needed.
    #[test]
    fn i4_ballast_is_held_and_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(BALLAST);
        let mut ballast = Ballast::find(folder.path());
        ballast.trim(BALLAST_BYTES);
        assert!(!file.exists(), "not taken when there is little room");
        ballast.trim(1 << 40);
        assert_eq!(fs::metadata(&file).unwrap().len(), BALLAST_BYTES);
        let mut found = Ballast::find(folder.path());
        found.trim(BALLAST_BYTES);
        assert!(file.exists(), "kept while there is some room");
        found.trim(1000);
        assert!(!file.exists());
    }
}
