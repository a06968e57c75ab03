//! What the child did to its files, one entry after another, as the parent reads it back. The entries are
//! in the order in which the operations took effect, so the world before any power cut is the world after
//! some first part of the journal.

use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::expect::Note;

/// The child's number for a file; a name may stand for different files over time.
pub type FileId = u64;

/// One operation that took effect. Paths are relative to the store's folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Entry {
    /// A file that was there already is opened for the first time.
    Known { file: FileId, path: PathBuf },
    /// A new, empty file.
    Create { file: FileId, path: PathBuf },
    /// So many bytes, which follow the entry, at this offset.
    Write { file: FileId, offset: u64, bytes: u32 },
    /// The file ends here now.
    Truncate { file: FileId, length: u64 },
    /// Everything about the file up to here has reached the disk.
    Synced { file: FileId },
    /// Every name in this folder up to here has reached the disk.
    FolderSynced { path: PathBuf },
    /// A new folder.
    MakeFolder { path: PathBuf },
    /// A new name for what has another.
    Rename { from: PathBuf, to: PathBuf },
    /// A name is gone.
    Unlink { path: PathBuf },
    /// What the child knows, not the disk.
    Note(Note),
}

/// An entry with the bytes that follow it.
pub type Recorded = (Entry, Vec<u8>);

const FORMAT: bincode::config::Configuration = bincode::config::standard();

/// An entry as it stands in the journal, without the bytes that follow.
pub fn encode(entry: &Entry) -> Vec<u8> {
    bincode::serde::encode_to_vec(entry, FORMAT).unwrap_or_default()
}

/// Reads a journal back. The child was killed, so it may end in the middle of an entry.
pub fn read(path: &Path) -> io::Result<Vec<Recorded>> {
    let mut reader = BufReader::new(std::fs::File::open(path)?);
    let mut entries = Vec::new();
    while let Ok(entry) = bincode::serde::decode_from_std_read::<Entry, _, _>(&mut reader, FORMAT) {
        let mut bytes = Vec::new();
        if let Entry::Write { bytes: length, .. } = entry {
            bytes.resize(length as usize, 0);
            if reader.read_exact(&mut bytes).is_err() {
                break;
            }
        }
        entries.push((entry, bytes));
    }
    Ok(entries)
}
