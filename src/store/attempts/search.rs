//! Searching the log, newest first, reading its files from their ends: a bounded piece of a file is in memory at a
//! time. Changes nothing, and waits for nobody who writes.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::block;
use super::log::path;
use super::{AttemptFilter, AttemptPage};
use crate::domain::time::Timestamp;

/// Read from a file at a time.
const READ_BYTES: usize = 256 << 10;
/// Read for one page, so that whoever asks for it never waits for long; past this it ends.
const PAGE_READ_BYTES: usize = 32 << 20;
/// No block is longer; a length beyond it is damage.
const BLOCK_BYTES_MAX: usize = 4 << 20;

/// One file of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// The number of its first try, which names it.
    pub first_number: u64,
    /// Its length, in whole blocks.
    pub bytes: u64,
    /// When the latest try in it began, in milliseconds.
    pub latest_ms: u64,
}

/// The log as it was at some moment.
#[derive(Clone, Debug)]
pub struct Window {
    /// Where its files are.
    pub folder: PathBuf,
    /// Oldest first.
    pub segments: Vec<Segment>,
}

impl Window {
    /// Up to `limit` tries that `filter` asks for, of those numbered below `before` (`None`: of all).
    #[must_use]
    pub fn search(&self, filter: &AttemptFilter, before: Option<u64>, limit: usize) -> AttemptPage {
        let mut search = Search {
            filter,
            before: before.unwrap_or(u64::MAX),
            limit,
            read_bytes: 0,
            page: AttemptPage::default(),
        };
        for segment in self.segments.iter().rev() {
            let late_enough = filter
                .since
                .is_none_or(|since| Timestamp(segment.latest_ms) >= since);
            if segment.first_number >= search.before || !late_enough {
                continue;
            }
            match search.read(&self.folder, segment) {
                Ok(ControlFlow::Break(())) => break,
                // Its time may have come since this window was made.
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%error, file = segment.first_number, "part of the attempt log can't be read");
                }
                _ => {}
            }
        }
        search.page
    }
}

struct Search<'a> {
    filter: &'a AttemptFilter,
    before: u64,
    limit: usize,
    read_bytes: usize,
    page: AttemptPage,
}

impl Search<'_> {
    /// Reads one file from its end to its beginning, or until the page ends.
    fn read(&mut self, folder: &std::path::Path, segment: &Segment) -> io::Result<ControlFlow<()>> {
        let file = File::open(path(folder, segment.first_number))?;
        let mut end = segment.bytes;
        while end > 0 {
            let bytes = read_before(&file, end)?;
            self.read_bytes += bytes.len();
            let mut rest = &bytes[..];
            while let Some(start) = block::length_of_last(rest).and_then(|n| rest.len().checked_sub(n)) {
                if self.block(&rest[start..]).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                rest = &rest[..start];
            }
            let used = bytes.len() - rest.len();
            if used == 0 {
                // Nothing tells where the block before this one ends.
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it is damaged"));
            }
            end -= used as u64;
        }
        Ok(ControlFlow::Continue(()))
    }

    fn block(&mut self, bytes: &[u8]) -> ControlFlow<()> {
        let Some(record) = block::open(bytes) else {
            return ControlFlow::Continue(());
        };
        let Some(head) = block::head(record).filter(|head| head.first_number < self.before) else {
            return ControlFlow::Continue(());
        };
        if block::may_match(record, &head, self.filter) {
            for logged in block::tries(record).unwrap_or_default().into_iter().rev() {
                if self.page.attempts.len() == self.limit {
                    self.page.next = Some(logged.number + 1);
                    return ControlFlow::Break(());
                }
                if logged.number < self.before && self.filter.matches(&logged) {
                    self.page.attempts.push(logged);
                }
            }
        }
        if self.read_bytes > PAGE_READ_BYTES && head.first_number > 1 {
            self.page.next = Some(head.first_number);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

/// The bytes before `end`, at least one whole block if there is one.
fn read_before(file: &File, end: u64) -> io::Result<Vec<u8>> {
    let read = |length: u64| -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, end - length)?;
        Ok(bytes)
    };
    let bytes = read(end.min(READ_BYTES as u64))?;
    match block::length_of_last(&bytes) {
        Some(needed) if needed > bytes.len() && needed <= BLOCK_BYTES_MAX && needed as u64 <= end => {
            read(needed as u64)
        }
        _ => Ok(bytes),
    }
}
