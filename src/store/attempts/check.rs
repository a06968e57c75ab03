//! Reading the log of attempts whole, for `posthaste store check`, and taking what is damaged out of it, for `store
//! repair`. Works on the files of a log that nobody writes to.

use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::block;
use super::log::{numbers, path};
use crate::store::files;

/// The folder for damaged files of the log, in that of the quarantine.
const FOLDER: &str = "attempts";

/// What reading the log has shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptLogCheck {
    /// Files.
    pub segments: u64,
    /// Tries that can be read.
    pub attempts: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Files with something in them that can't be read.
    pub damaged: Vec<DamagedSegment>,
}

/// A file of the log that is damaged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DamagedSegment {
    /// Which.
    pub file: PathBuf,
    /// Its tries that can still be read.
    pub attempts: u64,
    /// Bytes that can't.
    pub damaged_bytes: u64,
    /// Why, if the file as a whole can't be read.
    pub why: Option<String>,
}

/// Reads every file of the log in `folder`. What a crash left half written at the end of the newest is no damage: the
/// next start cuts it off.
#[must_use]
pub fn check(folder: &Path) -> AttemptLogCheck {
    let numbers = numbers(folder);
    let mut found = AttemptLogCheck {
        segments: numbers.len() as u64,
        ..AttemptLogCheck::default()
    };
    for number in &numbers {
        let file = path(folder, *number);
        let is_newest = Some(number) == numbers.last();
        let (scan, why) = match fs::read(&file) {
            Ok(bytes) => {
                found.bytes += bytes.len() as u64;
                (scan(&bytes, is_newest), None)
            }
            Err(error) => (Scan::default(), Some(error.to_string())),
        };
        found.attempts += scan.attempts;
        if scan.damaged_bytes > 0 || why.is_some() {
            found.damaged.push(DamagedSegment {
                file,
                attempts: scan.attempts,
                damaged_bytes: scan.damaged_bytes,
                why,
            });
        }
    }
    found
}

/// Takes damaged files out of the log: each is kept whole in the folder `quarantine`, and what can be read of it stays
/// in the log. Done again after it broke off, it goes on from there.
///
/// # Errors
/// Of the file system.
pub fn set_aside(damaged: &[DamagedSegment], quarantine: &Path) -> io::Result<()> {
    let kept = quarantine.join(FOLDER);
    files::create_folder(&kept)?;
    for segment in damaged {
        let name = segment.file.file_name().unwrap_or_default();
        fs::copy(&segment.file, kept.join(name))?;
        files::sync_files(&kept)?;
        let bytes = fs::read(&segment.file)?;
        let whole = scan(&bytes, false).whole;
        if whole.is_empty() {
            fs::remove_file(&segment.file)?;
        } else {
            let beside = segment.file.with_extension("repair");
            let mut file = File::create(&beside)?;
            for block in whole {
                file.write_all(&bytes[block])?;
            }
            file.sync_all()?;
            fs::rename(&beside, &segment.file)?;
        }
        segment.file.parent().map_or(Ok(()), files::sync_folder)?;
    }
    Ok(())
}

/// What is in a file.
#[derive(Debug, Default)]
struct Scan {
    /// Blocks that can be read, in order.
    whole: Vec<Range<usize>>,
    /// Their tries.
    attempts: u64,
    /// All the rest, but for a torn end.
    damaged_bytes: u64,
}

/// Finds the blocks of a file from its beginning, and where that leads no further, from its end.
fn scan(bytes: &[u8], may_be_torn: bool) -> Scan {
    let mut scan = Scan::default();
    let mut at = 0;
    while let Some(next) = block::length_of_first(&bytes[at..])
        .and_then(|length| at.checked_add(length))
        .filter(|end| framed(bytes, at..*end))
    {
        scan.take(bytes, at..next);
        at = next;
    }
    let mut end = bytes.len();
    let mut behind = Vec::new();
    while let Some(start) = block::length_of_last(&bytes[at..end])
        .and_then(|length| end.checked_sub(length))
        .filter(|start| *start >= at && framed(bytes, *start..end))
    {
        behind.push(start..end);
        end = start;
    }
    let is_torn = may_be_torn && behind.is_empty();
    if !is_torn {
        scan.damaged_bytes += (end - at) as u64;
    }
    behind.into_iter().rev().for_each(|block| scan.take(bytes, block));
    scan
}

/// Whether there is a block at `place` as far as the two lengths around it tell.
fn framed(bytes: &[u8], place: Range<usize>) -> bool {
    bytes.get(place).is_some_and(|block| {
        let length = Some(block.len());
        block::length_of_first(block) == length && block::length_of_last(block) == length
    })
}

impl Scan {
    fn take(&mut self, bytes: &[u8], block: Range<usize>) {
        let tries = block::open(&bytes[block.clone()]).and_then(|record| block::tries(record).ok());
        match tries {
            Some(tries) => {
                self.attempts += tries.len() as u64;
                self.whole.push(block);
            }
            None => self.damaged_bytes += block.len() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::outcome::Detail;
    use crate::store::AttemptFilter;
    use crate::store::attempts::Retention;
    use crate::store::attempts::block::tests::delivered;
    use crate::store::attempts::log::AttemptLog;

    const RETENTION: Retention = Retention {
        keep_ms: 1 << 40,
        bytes_max: 1 << 20,
        detail: Detail::Failed,
    };

    /// A log of one file with three blocks of ten tries each.
    fn three_blocks(folder: &Path) -> PathBuf {
        let mut log = AttemptLog::open(folder, RETENTION, true);
        for n in 0..3 {
            let tries: Vec<_> = (n * 10..(n + 1) * 10).map(delivered).collect();
            let now = tries[0].1.attempt.started;
            log.append(tries, now);
        }
        path(folder, 1)
    }

    fn readable(folder: &Path) -> usize {
        let log = AttemptLog::open(folder, RETENTION, false);
        let page = log.window().search(&AttemptFilter::default(), None, 500);
        page.attempts.len()
    }

    /// I6: damage anywhere in a file is found, told in bytes, and costs the tries of its own block alone; the file is
    /// kept as it was, and the log is whole afterwards.
    #[test]
    fn i6_damage_is_found_and_set_aside() {
        for (place, left) in [(0, 20), (4, 20), (20, 20), (50, 20), (99, 20)] {
            let folder = tempfile::tempdir().unwrap();
            let (log, aside) = (folder.path().join("log"), folder.path().join("aside"));
            let file = three_blocks(&log);
            assert_eq!((check(&log).attempts, check(&log).damaged.len()), (30, 0));
            let mut bytes = fs::read(&file).unwrap();
            let at = (bytes.len() - 1) * place / 100;
            bytes[at] ^= 0x55;
            // Another file behind it, so that its end is not one that a crash may have torn.
            fs::write(path(&log, 31), b"").unwrap();
            fs::write(&file, &bytes).unwrap();
            let found = check(&log);
            assert_eq!((found.attempts, found.damaged.len()), (left, 1), "at {place} %");
            assert!(found.damaged[0].damaged_bytes > 0, "{found:?}");
            set_aside(&found.damaged, &aside).unwrap();
            let kept = aside.join(FOLDER).join(file.file_name().unwrap());
            assert_eq!(fs::read(kept).unwrap(), bytes, "kept as it was");
            assert_eq!((check(&log).attempts, check(&log).damaged.len()), (left, 0));
            assert_eq!(readable(&log) as u64, left);
        }
    }

    /// I6: what a crash left half written at the end is no damage; in the middle of the log it is.
    #[test]
    fn i6_a_torn_end_is_no_damage() {
        let folder = tempfile::tempdir().unwrap();
        let file = three_blocks(folder.path());
        let bytes = fs::read(&file).unwrap();
        fs::write(&file, &bytes[..bytes.len() - 7]).unwrap();
        assert_eq!(
            (check(folder.path()).attempts, check(folder.path()).damaged.len()),
            (20, 0)
        );
        fs::write(path(folder.path(), 31), b"").unwrap();
        assert_eq!(check(folder.path()).damaged.len(), 1);
    }

    /// I6: where nothing can be read the file goes to the quarantine, and out of the log.
    #[test]
    fn i6_a_file_without_a_block_leaves_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let (log, aside) = (folder.path().join("log"), folder.path().join("aside"));
        let file = three_blocks(&log);
        fs::write(path(&log, 31), b"").unwrap();
        fs::write(&file, vec![0xff; 100]).unwrap();
        let found = check(&log);
        assert_eq!((found.damaged[0].damaged_bytes, found.attempts), (100, 0));
        set_aside(&found.damaged, &aside).unwrap();
        assert!(!file.exists());
        assert_eq!(check(&log).damaged, []);
    }
}
