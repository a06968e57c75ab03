//! A witness beside the log that tells how far the log must go. sled takes the first unreadable place of its
//! log for its end, as after a crash; when a disk has damaged the middle, everything behind it would be gone
//! without a word. So every flush is counted twice: in the log, behind all that the flush is for, and
//! after the flush in a small file, which therefore never knows more than what is durable.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// The file's name, beside sled's own.
pub const FILE_NAME: &str = "flushes";
/// A number, big-endian, and the CRC-32 of its bytes.
const RECORD_BYTES: usize = 12;

/// The file with the count. Never synced: an older count after a power cut is true as well.
#[derive(Debug)]
pub struct Witness(File);

impl Witness {
    /// Opens the file in `folder`, or makes it. Also gives the count in it; 0 if none can be read, for then
    /// nothing is known.
    ///
    /// # Errors
    /// Of the file system.
    pub fn open(folder: &Path) -> io::Result<(Self, u64)> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600);
        let file = options.open(folder.join(FILE_NAME))?;
        let mut record = [0; RECORD_BYTES];
        let count = match file.read_exact_at(&mut record, 0) {
            Ok(()) => decode(&record),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            Err(error) => return Err(error),
        };
        Ok((Self(file), count.unwrap_or(0)))
    }

    /// Notes that so many flushes are durable.
    pub fn note(&self, flushes: u64) {
        if let Err(error) = self.0.write_all_at(&encode(flushes), 0) {
            // The count that stands there is true as well; it only knows less.
            tracing::debug!(%error, "the count of flushes was not noted");
        }
    }
}

fn encode(flushes: u64) -> [u8; RECORD_BYTES] {
    let number = flushes.to_be_bytes();
    let mut record = [0; RECORD_BYTES];
    record[..8].copy_from_slice(&number);
    record[8..].copy_from_slice(&crc32fast::hash(&number).to_be_bytes());
    record
}

fn decode(record: &[u8; RECORD_BYTES]) -> Option<u64> {
    let number = u64::from_be_bytes(record[..8].try_into().ok()?);
    (encode(number) == *record).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_read_back_and_a_damaged_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let (witness, count) = Witness::open(folder.path()).unwrap();
        assert_eq!(count, 0, "a new one knows nothing");
        witness.note(7);
        witness.note(300);
        assert_eq!(Witness::open(folder.path()).unwrap().1, 300);
        for at in 0..RECORD_BYTES {
            let mut damaged = encode(300);
            damaged[at] ^= 1;
            std::fs::write(folder.path().join(FILE_NAME), damaged).unwrap();
            assert_eq!(Witness::open(folder.path()).unwrap().1, 0, "byte {at}");
        }
        std::fs::write(folder.path().join(FILE_NAME), [0; 5]).unwrap();
        assert_eq!(Witness::open(folder.path()).unwrap().1, 0, "cut off");
    }
}
