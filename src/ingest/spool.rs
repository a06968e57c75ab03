//! What was left while nobody listened: takes the files that `posthaste send` puts into a folder when the daemon
//! can't be reached, through the same rules as a connection. A file goes once everything in it is on disk; since its
//! events have ids, one that is read twice is taken once. It refuses to know who writes such files.
//!
//! A file is complete as soon as it has its name (`*.ndjson`); whoever writes one does so under another name and
//! renames it. Its owner, whom only root can change, is the sender.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use serde::{Deserialize, Serialize};
use tokio::net::unix::pipe;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::frame::{Line, Refused, judge};
use super::intake::{Counters, Intake};
use super::lines::{LineBuffer, RawLine};
use super::sender::Sender;
use super::turn::Desk;
use crate::store::StoreError;

/// How the name of a complete file ends.
pub const SUFFIX: &str = ".ndjson";
/// How the name of a file with refused lines ends, after the name of the file they stood in.
pub const REJECTED_SUFFIX: &str = ".rejected";
/// Lines that share a commit.
const BLOCK_LINES_MAX: usize = 1000;
/// Bytes of lines that share a commit; a longer line is alone in it.
const BLOCK_BYTES_MAX: usize = 1 << 20;
/// When to look again after a file could not be read.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// A folder that is watched.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    /// The kernel's notes of changes. Read like a pipe, which is what it is to whoever reads.
    watch: pipe::Receiver,
    intake: Arc<Intake>,
}

/// How a look at the folder has ended.
enum Look {
    /// Everything in it was taken.
    Done,
    /// Something is left that may be taken after this time.
    Again(Duration),
}

/// What became of one file.
enum Fate {
    Taken,
    /// It stays, because events can't be taken now.
    Later(Duration),
}

impl Spool {
    /// Watches `folder`. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the folder is not there, or can't be watched.
    pub fn open(folder: &Path, intake: Arc<Intake>) -> io::Result<Self> {
        let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let changes =
            WatchFlags::MOVED_TO | WatchFlags::MOVED_FROM | WatchFlags::DELETE | WatchFlags::ONLYDIR;
        inotify::add_watch(&watch, folder, changes)?;
        Ok(Self {
            folder: folder.to_owned(),
            watch: pipe::Receiver::from_owned_fd_unchecked(watch)?,
            intake,
        })
    }

    /// Takes what is in the folder, and what comes, until `stop`. Sleeps while nothing does.
    pub async fn serve(self, stop: CancellationToken) {
        loop {
            let again = match self.look(&stop).await {
                Look::Done => None,
                Look::Again(after) => Some(after),
            };
            let waited = async {
                match again {
                    Some(after) => tokio::time::sleep(after).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = waited => {}
                changed = self.changed() => if let Err(error) = changed {
                    tracing::error!(%error, folder = %self.folder.display(), "the spool is not watched any more; a restart reads it");
                    return;
                },
            }
        }
    }

    /// Waits until something in the folder has changed.
    async fn changed(&self) -> io::Result<()> {
        let mut notes = [0; 4096];
        loop {
            self.watch.readable().await?;
            match self.watch.try_read(&mut notes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // What they say is of no interest: the folder is read anew.
                read => return read.map(drop),
            }
        }
    }

    /// Reads the folder once, on a thread that may block.
    async fn look(&self, stop: &CancellationToken) -> Look {
        let reader = Reader {
            folder: self.folder.clone(),
            intake: Arc::clone(&self.intake),
            stop: stop.clone(),
            runtime: Handle::current(),
        };
        let looked = tokio::task::spawn_blocking(move || reader.look()).await;
        looked.unwrap_or(Look::Again(LOOK_AGAIN))
    }
}

/// One look at the folder.
struct Reader {
    folder: PathBuf,
    intake: Arc<Intake>,
    stop: CancellationToken,
    runtime: Handle,
}

/// A line that was refused for good, as it is written beside the file.
#[derive(Serialize)]
struct Rejected<'a> {
    line: u64,
    code: &'a str,
    message: &'a str,
    text: &'a str,
}

/// The lines of one file that were refused, written as they come; without a line there is no file.
struct RejectedFile {
    target: PathBuf,
    open: Option<File>,
}

/// Lines on their way to one commit, with their numbers in the file.
#[derive(Default)]
struct Block {
    bytes: Vec<u8>,
    numbers: Vec<u64>,
}

/// An answer to a line.
#[derive(Deserialize)]
struct Answer<'a> {
    status: &'a str,
    #[serde(default)]
    code: &'a str,
    #[serde(default)]
    message: String,
    retry_after_ms: Option<u64>,
}

impl Reader {
    fn look(&self) -> Look {
        let mut again = None;
        let counters = &self.intake.counters;
        match self.names() {
            Ok(names) => {
                let mut waiting = names.len() as u64;
                counters.spool_waiting.store(waiting, Ordering::Relaxed);
                for name in names {
                    match self.take(&name) {
                        Ok(Fate::Taken) => waiting -= 1,
                        Ok(Fate::Later(after)) => {
                            again = Some(after);
                            break;
                        }
                        Err(error) => {
                            tracing::error!(file = name, %error, "a file in the spool can't be taken");
                            again = Some(LOOK_AGAIN);
                        }
                    }
                    counters.spool_waiting.store(waiting, Ordering::Relaxed);
                }
            }
            Err(error) => {
                tracing::error!(folder = %self.folder.display(), %error, "the spool can't be read");
                again = Some(LOOK_AGAIN);
            }
        }
        again.map_or(Look::Done, Look::Again)
    }

    /// The complete files, in the order of their names, which is that of their times. Also counts those with
    /// refused lines.
    fn names(&self) -> io::Result<Vec<String>> {
        let (mut names, mut rejected) = (Vec::new(), 0);
        for entry in fs::read_dir(&self.folder)? {
            let Ok(name) = entry?.file_name().into_string() else {
                continue;
            };
            rejected += u64::from(name.ends_with(REJECTED_SUFFIX) && !name.starts_with('.'));
            if name.ends_with(SUFFIX) && !name.starts_with('.') {
                names.push(name);
            }
        }
        self.intake
            .counters
            .spool_rejected
            .store(rejected, Ordering::Relaxed);
        names.sort_unstable();
        Ok(names)
    }

    /// Takes everything in one file, then removes it.
    fn take(&self, name: &str) -> io::Result<Fate> {
        let path = self.folder.join(name);
        let mut options = OpenOptions::new();
        // Neither a link to somewhere else nor a pipe that never ends.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mut file = match options
            .read(true)
            .custom_flags(i32::try_from(flags.bits()).unwrap_or_default())
            .open(&path)
        {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Fate::Taken),
            opened => opened?,
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.nlink() > 1 {
            return Err(io::Error::other("it is not a plain file of one name"));
        }
        let sender = Sender::of_user(metadata.uid());
        let mut rejected = RejectedFile::beside(&path);
        let before = self.intake.counters.spooled.load(Ordering::Relaxed);
        if let Some(after) = self.take_lines(&mut file, &sender, &mut rejected)? {
            return Ok(Fate::Later(after));
        }
        let refused = rejected.finish()?;
        fs::remove_file(&path)?;
        let lines = self.intake.counters.spooled.load(Ordering::Relaxed) - before;
        if refused {
            let kept = rejected.target.display();
            tracing::warn!(file = name, lines, rejected = %kept, "taken from the spool, but for some lines");
        } else {
            tracing::info!(file = name, lines, "taken from the spool");
        }
        Ok(Fate::Taken)
    }

    /// Takes the lines of a file; when events can't be taken now, says when to try again.
    fn take_lines(
        &self,
        file: &mut File,
        sender: &Sender,
        rejected: &mut RejectedFile,
    ) -> io::Result<Option<Duration>> {
        let limits = self.intake.limits;
        let mut lines = LineBuffer::new(limits);
        let mut block = Block::default();
        loop {
            while let Some(read) = lines.next_line() {
                let (bytes, refused) = match read.line {
                    RawLine::TooLong { bytes_max } => {
                        (&[][..], Some(Refused::too_long("the line", bytes_max)))
                    }
                    RawLine::Bytes(bytes) => (bytes, refused(bytes, &limits)),
                };
                match refused {
                    Some(refused) => {
                        rejected.add(read.number, refused.code.name(), &refused.message, bytes)?
                    }
                    None => block.add(read.number, bytes),
                }
                if block.is_full() {
                    let full = std::mem::take(&mut block);
                    if let Some(after) = self.submit(&full, sender, rejected)? {
                        return Ok(Some(after));
                    }
                }
            }
            if lines.is_ended() {
                return self.submit(&block, sender, rejected);
            }
            let room = lines.room();
            let spare = room.capacity() - room.len();
            if (&*file).take(spare as u64).read_to_end(room)? == 0 {
                lines.end();
            }
        }
    }

    /// Makes the lines of a block durable, by as few commits as there can be.
    fn submit(
        &self,
        block: &Block,
        sender: &Sender,
        rejected: &mut RejectedFile,
    ) -> io::Result<Option<Duration>> {
        if self.stop.is_cancelled() {
            return Ok(Some(LOOK_AGAIN));
        }
        let failed = |error: StoreError| io::Error::other(error.to_string());
        let answers = self
            .runtime
            .block_on(self.answers(block, sender))
            .map_err(failed)?;
        let mut texts = block.bytes.split(|byte| *byte == b'\n');
        let each = answers
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        for (number, answer) in block.numbers.iter().zip(each) {
            let text = texts.next().unwrap_or_default();
            let answer: Answer<'_> = serde_json::from_slice(answer)?;
            match (answer.status, answer.retry_after_ms) {
                ("rejected", Some(ms)) => return Ok(Some(Duration::from_millis(ms))),
                ("rejected", None) => rejected.add(*number, answer.code, &answer.message, text)?,
                _ => Counters::add(&self.intake.counters.spooled, 1),
            }
        }
        Ok(None)
    }

    async fn answers(&self, block: &Block, sender: &Sender) -> Result<Vec<u8>, StoreError> {
        let mut desk = Desk::new(Arc::clone(&self.intake), sender.clone());
        let mut lines = LineBuffer::new(self.intake.limits);
        lines.room().extend_from_slice(&block.bytes);
        lines.end();
        let mut answers = Vec::new();
        loop {
            let turn = desk.turn(&mut lines);
            if turn.is_empty() {
                return Ok(answers);
            }
            desk.answer(turn, &mut answers).await?;
        }
    }
}

/// Why a line can't be taken, whatever the state of the daemon. A control line would leave lines without answers.
fn refused(bytes: &[u8], limits: &super::lines::Limits) -> Option<Refused> {
    match judge(bytes, limits) {
        Line::Refused(refused) => Some(refused),
        Line::Control(_) => Some(Refused::new(
            super::frame::Code::InvalidEvent,
            "a control line means nothing in a file; leave it out",
        )),
        Line::Event(_) | Line::Batch(_) => None,
    }
}

impl Block {
    fn add(&mut self, number: u64, line: &[u8]) {
        self.numbers.push(number);
        self.bytes.extend_from_slice(line);
        self.bytes.push(b'\n');
    }

    fn is_full(&self) -> bool {
        self.numbers.len() >= BLOCK_LINES_MAX || self.bytes.len() >= BLOCK_BYTES_MAX
    }
}

impl RejectedFile {
    fn beside(path: &Path) -> Self {
        let mut target = path.as_os_str().to_owned();
        target.push(REJECTED_SUFFIX);
        Self {
            target: target.into(),
            open: None,
        }
    }

    /// Where it is written before it is complete.
    fn draft(&self) -> PathBuf {
        let name = self.target.file_name().unwrap_or_default().to_string_lossy();
        self.target.with_file_name(format!(".{name}"))
    }

    fn add(&mut self, line: u64, code: &str, message: &str, text: &[u8]) -> io::Result<()> {
        let draft = self.draft();
        let file = match &mut self.open {
            Some(file) => file,
            none => {
                let mut options = OpenOptions::new();
                // What an interrupted look has left is written anew.
                let options = options.write(true).create(true).truncate(true).mode(0o640);
                none.insert(
                    options
                        .custom_flags(i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default())
                        .open(draft)?,
                )
            }
        };
        let text = String::from_utf8_lossy(text);
        let rejected = Rejected {
            line,
            code,
            message,
            text: &text,
        };
        let mut json = serde_json::to_vec(&rejected)?;
        json.push(b'\n');
        file.write_all(&json)
    }

    /// Gives the file its name, durably; whether there is one.
    fn finish(&mut self) -> io::Result<bool> {
        let Some(file) = self.open.take() else {
            return Ok(false);
        };
        file.sync_all()?;
        fs::rename(self.draft(), &self.target)?;
        if let Some(folder) = self.target.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
