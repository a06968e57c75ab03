//! What `posthaste send` does when the daemon can't be reached: leaves the events in the folder that the daemon
//! empties once it is up. A file gets its name when it is whole and on disk, and every event in it has its id, source
//! and time by then, so that a file that is read twice is taken once.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ulid::Ulid;

use crate::daemon::clock::Clock;
use crate::ingest::build::{self, Moment};
use crate::ingest::frame::{Line, Parsed, Refused, judge};
use crate::ingest::lines::{Limits, LineBuffer, RawLine};
use crate::ingest::sender::Sender;
use crate::ingest::spool::SUFFIX;

/// A longer input is spread over several files.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// A file of an input that goes on is completed after this time, so that its events don't wait for the end.
const FILE_AGE_MAX: Duration = Duration::from_secs(1);
/// Readable by the daemon, whose group the folder hands on.
const FILE_MODE: u32 = 0o640;

/// Leaves events in a folder.
pub(super) struct Spooler<'a> {
    folder: &'a Path,
    limits: Limits,
    sender: Sender,
    open: Option<Draft>,
    /// What was left so far.
    pub(super) spooled: u64,
    /// What was refused so far.
    pub(super) rejected: u64,
}

/// A file without its name yet.
struct Draft {
    path: PathBuf,
    name: PathBuf,
    file: BufWriter<File>,
    begun: Instant,
    bytes: u64,
}

/// What became of a line.
pub(super) enum Left {
    /// Its events have these ids.
    Ids(Vec<Box<str>>),
    Refused(Refused),
}

impl<'a> Spooler<'a> {
    /// Leaves events of this user in `folder`.
    pub(super) fn new(folder: &'a Path, limits: Limits) -> Self {
        let uid = rustix::process::getuid().as_raw();
        Self {
            folder,
            limits,
            sender: Sender::of_user(uid),
            open: None,
            spooled: 0,
            rejected: 0,
        }
    }

    /// Leaves every line of `input`; tells `each` what became of it, with its number. Returns the number of lines.
    pub(super) fn leave(
        &mut self,
        mut input: impl Read,
        mut each: impl FnMut(u64, &Left),
    ) -> io::Result<u64> {
        let mut lines = LineBuffer::new(self.limits);
        let mut seen = 0;
        loop {
            while let Some(read) = lines.next_line() {
                seen += 1;
                let left = match read.line {
                    RawLine::TooLong { bytes_max } => Left::Refused(Refused::too_long("the line", bytes_max)),
                    RawLine::Bytes(bytes) => self.line(bytes)?,
                };
                match &left {
                    Left::Ids(ids) => self.spooled += ids.len() as u64,
                    Left::Refused(_) => self.rejected += 1,
                }
                each(read.number, &left);
            }
            if lines.is_ended() {
                self.complete()?;
                return Ok(seen);
            }
            if self.open.as_ref().is_some_and(Draft::is_due) {
                self.complete()?;
            }
            let room = lines.room();
            let held = room.len();
            room.resize(room.capacity(), 0);
            let read = input.read(&mut room[held..]);
            room.truncate(held + read.as_ref().unwrap_or(&0));
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) => lines.end(),
                read => drop(read?),
            }
        }
    }

    fn line(&mut self, bytes: &[u8]) -> io::Result<Left> {
        let moment = Moment::new(Clock::wall());
        let (events, is_batch) = match judge(bytes, &self.limits) {
            Line::Refused(refused) => return Ok(Left::Refused(refused)),
            // It asks for answers, and there are none.
            Line::Control(_) => return Ok(Left::Ids(Vec::new())),
            Line::Event(parsed) => (vec![*parsed], false),
            Line::Batch(batch) => (batch, true),
        };
        match whole(&events, is_batch, &self.sender, &moment) {
            Err(refused) => Ok(Left::Refused(refused)),
            Ok((line, ids)) => {
                self.write(&line)?;
                Ok(Left::Ids(ids))
            }
        }
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let draft = match &mut self.open {
            Some(draft) => draft,
            none => none.insert(Draft::begin(self.folder)?),
        };
        draft.bytes += line.len() as u64;
        draft.file.write_all(line)
    }

    /// Makes what was written durable, then gives it its name.
    fn complete(&mut self) -> io::Result<()> {
        self.open.take().map_or(Ok(()), Draft::complete)
    }
}

impl Draft {
    fn begin(folder: &Path) -> io::Result<Self> {
        let id = Ulid::new();
        let path = folder.join(format!(".{id}.tmp"));
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(FILE_MODE).open(&path)?;
        // Whatever the caller's umask is, the daemon has to read it.
        file.set_permissions(Permissions::from_mode(FILE_MODE))?;
        Ok(Self {
            name: folder.join(format!("{id}{SUFFIX}")),
            path,
            file: BufWriter::new(file),
            begun: Instant::now(),
            bytes: 0,
        })
    }

    fn is_due(&self) -> bool {
        self.bytes >= FILE_BYTES_MAX || self.begun.elapsed() >= FILE_AGE_MAX
    }

    fn complete(self) -> io::Result<()> {
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        let named = file.sync_all().and_then(|()| fs::rename(&self.path, &self.name));
        if named.is_err() {
            // Nothing was promised of it.
            let _ = fs::remove_file(&self.path);
        }
        named?;
        self.name
            .parent()
            .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    }
}

/// The line with everything filled in that the daemon would fill in, and the ids of its events.
fn whole(
    events: &[Parsed<'_>],
    is_batch: bool,
    sender: &Sender,
    moment: &Moment,
) -> Result<(Vec<u8>, Vec<Box<str>>), Refused> {
    let mut line = Vec::new();
    let mut ids = Vec::with_capacity(events.len());
    for parsed in events {
        let event = build::event(parsed, sender, moment)?;
        line.push(if ids.is_empty() { b'[' } else { b',' });
        line.extend_from_slice(&event.json);
        ids.push(event.head.id);
    }
    if is_batch {
        line.push(b']');
    } else {
        line.remove(0);
    }
    line.push(b'\n');
    Ok((line, ids))
}
