//! The log of attempts as a row of files, each named by the number of its first try. New blocks go to the end of the
//! newest; the oldest file is removed when it is too old, when there are too many bytes, or when the disk is low. It
//! knows nothing of what is in a block. Nothing here ever fails the queue: what can't be kept is counted as dropped.
//!
//! A block that a commit has written survives the end of the process at once, and a power cut from the next piece of
//! housekeeping on. Whatever stands half written at the end of a file is cut off when the log is opened.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::block::{self, BlockHead};
use super::search::{Segment, Window};
use super::{AttemptLogSize, NamedTry, Retention};
use crate::domain::time::Timestamp;
use crate::store::files;

/// Age and size are kept to this share, since they are kept by removing a file.
const FILES: u64 = 64;
/// Bytes of a file: so many at least, or there would be many, and so many at most, since a page of a search may begin
/// in the middle of one and has to read what is behind it.
const FILE_BYTES: std::ops::RangeInclusive<u64> = 64 << 10..=4 << 20;

/// The log, open.
#[derive(Debug)]
pub struct AttemptLog {
    folder: PathBuf,
    retention: Retention,
    /// Oldest first.
    segments: VecDeque<Segment>,
    /// The newest segment's file, to write to; `None`: the next block begins a new one.
    file: Option<File>,
    /// When the newest segment was begun.
    begun: Timestamp,
    /// Whether a power cut would take something of the newest away.
    unsynced: bool,
    /// Older ones of which it would.
    unsynced_before: Vec<File>,
    next_number: u64,
    dropped: u64,
}

impl AttemptLog {
    /// Opens the log in `folder`, or begins one. With `writable` false nothing on disk is changed. What can't be read
    /// is left out.
    #[must_use]
    pub fn open(folder: &Path, retention: Retention, writable: bool) -> Self {
        let mut log = Self {
            folder: folder.to_owned(),
            retention,
            segments: VecDeque::new(),
            file: None,
            begun: Timestamp(0),
            unsynced: false,
            unsynced_before: Vec::new(),
            next_number: 1,
            dropped: 0,
        };
        if writable && let Err(error) = files::create_folder(folder) {
            warn(folder, &error);
        }
        for first_number in numbers(folder) {
            match find(folder, first_number) {
                Ok(Some((segment, head))) => {
                    log.next_number = head.first_number + u64::from(head.count);
                    log.begun = Timestamp(head.earliest_ms);
                    log.segments.push_back(segment);
                }
                Ok(None) if writable => remove(folder, first_number),
                Ok(None) => {}
                Err(error) => warn(&path(folder, first_number), &error),
            }
        }
        if writable && let Some(newest) = log.segments.back() {
            log.file = reopen(folder, newest)
                .inspect_err(|error| warn(folder, error))
                .ok();
        }
        log
    }

    /// Adds tries (endpoint and try), at `now`.
    pub fn append(&mut self, mut tries: Vec<NamedTry>, now: Timestamp) {
        if self.retention.bytes_max == 0 || tries.is_empty() {
            return;
        }
        while !tries.is_empty() {
            let later = tries.split_off(block::fitting(&tries, self.retention.detail));
            self.append_block(tries, now);
            tries = later;
        }
        while self.bytes() > self.retention.bytes_max && self.segments.len() > 1 {
            self.remove_oldest();
        }
    }

    fn append_block(&mut self, tries: Vec<NamedTry>, now: Timestamp) {
        let block = block::build(self.next_number, tries, self.retention.detail);
        self.next_number += u64::from(block.head.count);
        let bytes = match block::frame(&block) {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::error!(%error, "a block of the attempt log can't be written");
                return;
            }
        };
        if let Err(error) = self.write(block.head.first_number, &bytes, block.head.latest_ms, now) {
            if self.dropped == 0 {
                warn(&self.folder, &error);
            }
            self.dropped += u64::from(block.head.count);
        }
    }

    /// Writes a block that begins with this number behind all others. On a full disk history makes room.
    fn write(&mut self, first_number: u64, bytes: &[u8], latest_ms: u64, now: Timestamp) -> io::Result<()> {
        let result = self.try_write(first_number, bytes, latest_ms, now);
        match result {
            Err(error) if error.kind() == io::ErrorKind::StorageFull && self.segments.len() > 1 => {
                while self.segments.len() > 1 {
                    self.remove_oldest();
                }
                self.try_write(first_number, bytes, latest_ms, now)
            }
            result => result,
        }
    }

    fn try_write(
        &mut self,
        first_number: u64,
        bytes: &[u8],
        latest_ms: u64,
        now: Timestamp,
    ) -> io::Result<()> {
        if self.is_full(bytes.len() as u64, now) {
            self.unsynced_before.extend(self.file.take());
        }
        if self.file.is_none() {
            self.file = Some(create(&self.folder, first_number)?);
            self.begun = now;
            self.segments.push_back(Segment {
                first_number,
                ..Segment::default()
            });
        }
        let (Some(file), Some(segment)) = (&mut self.file, self.segments.back_mut()) else {
            return Ok(());
        };
        if let Err(error) = file.write_all(bytes) {
            // Without the beginning of a block at its end the file can be gone on with; else a new one is begun.
            if file.set_len(segment.bytes).is_err() {
                self.file = None;
            }
            return Err(error);
        }
        segment.bytes += bytes.len() as u64;
        segment.latest_ms = segment.latest_ms.max(latest_ms);
        self.unsynced = true;
        Ok(())
    }

    /// Whether the newest file is large or old enough to be followed by another.
    fn is_full(&self, more_bytes: u64, now: Timestamp) -> bool {
        let bytes_max = (self.retention.bytes_max / FILES).clamp(*FILE_BYTES.start(), *FILE_BYTES.end());
        let newest = self.segments.back().map_or(0, |segment| segment.bytes);
        newest > 0
            && (newest + more_bytes > bytes_max
                || now.0.saturating_sub(self.begun.0) > self.retention.keep_ms / FILES)
    }

    /// Makes durable what was written, lets go of what is too old at `now`, and of the oldest file when the disk is
    /// low, as long as there is another.
    pub fn maintain(&mut self, now: Timestamp, disk_low: bool) {
        self.sync();
        let before = now.0.saturating_sub(self.retention.keep_ms);
        while self
            .segments
            .front()
            .is_some_and(|oldest| oldest.latest_ms < before)
        {
            self.remove_oldest();
        }
        if disk_low && self.segments.len() > 1 {
            self.remove_oldest();
        }
    }

    /// Makes durable what was written.
    pub fn sync(&mut self) {
        let newest = self.file.as_ref().filter(|_| self.unsynced);
        for file in self.unsynced_before.iter().chain(newest) {
            if let Err(error) = file.sync_data() {
                warn(&self.folder, &error);
            }
        }
        self.unsynced = false;
        self.unsynced_before.clear();
    }

    fn remove_oldest(&mut self) {
        if let Some(oldest) = self.segments.pop_front() {
            remove(&self.folder, oldest.first_number);
        }
        if self.segments.is_empty() {
            self.file = None;
        }
    }

    fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// How much it holds.
    #[must_use]
    pub fn size(&self) -> AttemptLogSize {
        AttemptLogSize {
            bytes: self.bytes(),
            dropped: self.dropped,
        }
    }

    /// What is there at this moment, to be searched without holding up who writes.
    #[must_use]
    pub fn window(&self) -> Window {
        Window {
            folder: self.folder.clone(),
            segments: self.segments.iter().copied().collect(),
        }
    }
}

fn warn(path: &Path, error: &io::Error) {
    tracing::warn!(path = %path.display(), %error, "the attempt log is incomplete; deliveries go on");
}

/// The file that begins with the try of this number.
pub fn path(folder: &Path, first_number: u64) -> PathBuf {
    folder.join(format!("{first_number:020}"))
}

/// The numbers that name files in `folder`, lowest first.
pub(super) fn numbers(folder: &Path) -> Vec<u64> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut numbers: Vec<u64> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers
}

fn create(folder: &Path, first_number: u64) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    // What may be there already was left out when the log was opened, or gone wrong since.
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path(folder, first_number))
}

/// Opens the newest file to write on behind its last whole block.
fn reopen(folder: &Path, segment: &Segment) -> io::Result<File> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .open(path(folder, segment.first_number))?;
    file.set_len(segment.bytes)?;
    io::Seek::seek(&mut file, io::SeekFrom::End(0))?;
    Ok(file)
}

fn remove(folder: &Path, first_number: u64) {
    match fs::remove_file(path(folder, first_number)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => warn(folder, &error),
        _ => {}
    }
}

/// A file as it was left, up to its last whole block, and what that is about; `None`: there is no whole block.
fn find(folder: &Path, first_number: u64) -> io::Result<Option<(Segment, BlockHead)>> {
    let mut file = File::open(path(folder, first_number))?;
    let length = file.metadata()?.len();
    let found = match last_head(&file, length)? {
        Some(head) => Some((length, head)),
        None => {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            whole_beginning(&bytes)
        }
    };
    Ok(found.map(|(bytes, head)| {
        let segment = Segment {
            first_number,
            bytes,
            latest_ms: head.latest_ms,
        };
        (segment, head)
    }))
}

/// What the last block is about, if it is whole.
fn last_head(file: &File, length: u64) -> io::Result<Option<BlockHead>> {
    let mut end = [0; 4];
    let Some(at) = length.checked_sub(4) else {
        return Ok(None);
    };
    file.read_exact_at(&mut end, at)?;
    let block_bytes = block::length_of_last(&end).unwrap_or(0);
    let Some(at) = length.checked_sub(block_bytes as u64) else {
        return Ok(None);
    };
    let mut bytes = vec![0; block_bytes];
    file.read_exact_at(&mut bytes, at)?;
    Ok(block::open(&bytes).and_then(block::head))
}

/// How many of `bytes` are whole blocks, and what the last of these is about.
fn whole_beginning(bytes: &[u8]) -> Option<(u64, BlockHead)> {
    let (mut at, mut last) = (0, None);
    while let Some(block) = block::length_of_first(&bytes[at..]).and_then(|n| bytes.get(at..at + n))
        && let Some(head) = block::open(block).and_then(block::head)
    {
        at += block.len();
        last = Some((at as u64, head));
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::outcome::Detail;
    use crate::store::AttemptFilter;
    use crate::store::attempts::LoggedAttempt;
    use crate::store::attempts::block::tests::delivered;

    const DAY_MS: u64 = 86_400_000;
    const RETENTION: Retention = Retention {
        keep_ms: 7 * DAY_MS,
        bytes_max: 1 << 20,
        detail: Detail::Failed,
    };

    fn open(folder: &Path) -> AttemptLog {
        AttemptLog::open(folder, RETENTION, true)
    }

    fn started(n: u64) -> Timestamp {
        delivered(n).1.attempt.started
    }

    fn append(log: &mut AttemptLog, tries: std::ops::Range<u64>) {
        let now = started(tries.start);
        log.append(tries.map(delivered).collect(), now);
    }

    fn all(log: &AttemptLog) -> Vec<LoggedAttempt> {
        let (mut found, mut before) = (Vec::new(), None);
        loop {
            let page = log.window().search(&AttemptFilter::default(), before, 500);
            found.extend(page.attempts);
            before = page.next;
            if before.is_none() {
                return found;
            }
        }
    }

    fn on_disk(folder: &Path) -> u64 {
        let lengths = numbers(folder)
            .into_iter()
            .map(|n| fs::metadata(path(folder, n)).unwrap().len());
        lengths.sum()
    }

    /// H1: the log never takes more room than it may, whatever goes into it; the newest stay, without a gap.
    #[test]
    fn h1_the_oldest_go_when_there_are_too_many_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = open(folder.path());
        for n in 0..100 {
            append(&mut log, n * 600..(n + 1) * 600);
            assert!(on_disk(folder.path()) <= RETENTION.bytes_max);
            assert_eq!(log.size().bytes, on_disk(folder.path()));
        }
        let found = all(&log);
        assert!(log.size().bytes > RETENTION.bytes_max * 7 / 8, "{:?}", log.size());
        let newest: Vec<u64> = found.iter().map(|logged| logged.number).collect();
        let wanted: Vec<u64> = (1..=60_000).rev().take(found.len()).collect();
        assert_eq!(newest, wanted);
    }

    /// H1: by age they go a file at a time, and a file holds a fraction of the time that they are kept.
    #[test]
    fn h1_the_oldest_go_when_they_are_too_old() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = open(folder.path());
        for day in 0..20 {
            append(&mut log, day * DAY_MS..day * DAY_MS + 1);
        }
        log.maintain(started(19 * DAY_MS), false);
        assert_eq!(all(&log).len(), 8, "of the last seven days");
        log.maintain(started(40 * DAY_MS), false);
        assert_eq!((all(&log).len(), on_disk(folder.path())), (0, 0));
        append(&mut log, 41 * DAY_MS..41 * DAY_MS + 1);
        assert_eq!(all(&log)[0].number, 21, "numbers go on");
    }

    /// I4: on a disk that is nearly full the log gives its room back, and goes on with what is left.
    #[test]
    fn i4_the_log_gives_way_when_the_disk_is_low() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = open(folder.path());
        (0..40).for_each(|n| append(&mut log, n * 600..(n + 1) * 600));
        let files = numbers(folder.path()).len();
        assert!(files > 10);
        for left in (1..files).rev().chain([1, 1]) {
            log.maintain(started(0), true);
            assert_eq!(numbers(folder.path()).len(), left);
        }
        append(&mut log, 0..1);
        assert!(!all(&log).is_empty());
    }

    /// H1: what was half written when the process died is cut off, and nothing else is lost; the log goes on behind it.
    #[test]
    fn h1_a_torn_end_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = open(folder.path());
        for n in 0..3 {
            append(&mut log, n * 10..(n + 1) * 10);
        }
        drop(log);
        let file = path(folder.path(), 1);
        let bytes = fs::read(&file).unwrap();
        for cut in [1, 4, 5, 100, bytes.len() / 3, bytes.len() / 2, bytes.len() - 1] {
            fs::write(&file, &bytes[..bytes.len() - cut]).unwrap();
            let looked_at = AttemptLog::open(folder.path(), RETENTION, false);
            let kept = all(&looked_at).len();
            assert_eq!(
                fs::metadata(&file).unwrap().len() as usize,
                bytes.len() - cut,
                "untouched"
            );
            let mut log = open(folder.path());
            assert_eq!(all(&log).len(), kept);
            assert_eq!(kept % 10, 0, "whole blocks");
            append(&mut log, 0..10);
            assert_eq!(all(&open(folder.path())).len(), kept + 10);
            fs::remove_file(&file).unwrap();
        }
    }

    /// H1: a damaged block is passed over; the others are found, before it and behind it.
    #[test]
    fn h1_a_damaged_block_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = open(folder.path());
        for n in 0..3 {
            append(&mut log, n * 10..(n + 1) * 10);
        }
        let file = path(folder.path(), 1);
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&file, bytes).unwrap();
        let numbers: Vec<u64> = all(&log).iter().map(|logged| logged.number).collect();
        assert_eq!(numbers, (21..=30).rev().chain((1..=10).rev()).collect::<Vec<_>>());
    }

    /// H1: where nothing can be written, tries are dropped and counted, and nobody is stopped.
    #[test]
    fn h1_what_cannot_be_logged_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let occupied = folder.path().join("file");
        fs::write(&occupied, b"").unwrap();
        let mut log = open(&occupied);
        append(&mut log, 0..10);
        log.maintain(started(0), true);
        assert_eq!(
            log.size(),
            AttemptLogSize {
                bytes: 0,
                dropped: 10
            }
        );
        let mut off = AttemptLog::open(
            folder.path(),
            Retention {
                bytes_max: 0,
                ..RETENTION
            },
            true,
        );
        append(&mut off, 0..10);
        assert_eq!(off.size(), AttemptLogSize::default(), "none are wanted");
    }

    /// H1: a search that finds nothing reads a bounded piece at a time, and says where to go on.
    #[test]
    fn h1_a_page_ends_when_much_was_read() {
        let folder = tempfile::tempdir().unwrap();
        let retention = Retention {
            bytes_max: 1 << 30,
            ..RETENTION
        };
        let mut log = AttemptLog::open(folder.path(), retention, true);
        (0..400).for_each(|n| append(&mut log, n * 2000..(n + 1) * 2000));
        assert!(log.size().bytes > 40 << 20);
        let filter = AttemptFilter {
            event_id: Some(delivered(3).1.event_id),
            ..AttemptFilter::default()
        };
        let first = log.window().search(&filter, None, 10);
        assert!(first.attempts.is_empty() && first.next.is_some());
        let second = log.window().search(&filter, first.next, 10);
        assert_eq!((second.attempts.len(), second.next), (1, None));
    }
}
