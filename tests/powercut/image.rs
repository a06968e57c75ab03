//! The disk after a power cut: from what the process did, what a file system may have kept.
//!
//! The rules are those of a journaling file system with delayed writing (ext4, XFS):
//! - what was written before a sync of its file is there;
//! - of what was written since, each sector of 512 bytes has the content of some moment between then and the
//!   cut, one sector without regard to another;
//! - a change of a file's length may be there or not;
//! - changes of names take effect in their order: some first part of them is there, and at least all up to
//!   the last one that a sync of the file or its folder came after.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::dice::Dice;
use crate::journal::{Entry, FileId, Recorded};

/// What a disk writes whole or not at all, in bytes.
const SECTOR_BYTES: usize = 512;

/// A folder's files and subfolders by name. `None` stands for a folder.
pub type Names = BTreeMap<PathBuf, Option<FileId>>;

/// A change of a file since its last sync.
#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate(usize),
}

/// A file: what is surely on the disk, and what was done since.
#[derive(Clone, Debug, Default)]
struct File {
    synced: Vec<u8>,
    since: Vec<Change>,
}

/// A change of names.
#[derive(Clone, Debug)]
enum NameChange {
    Create(PathBuf, Option<FileId>),
    Rename(PathBuf, PathBuf),
    Unlink(PathBuf),
}

/// A disk while the journal is played.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    files: HashMap<FileId, File>,
    names: Names,
    /// Changes of names that no sync has come after.
    changes: Vec<NameChange>,
    /// For files that were there before the journal began.
    next_old: FileId,
}

impl Disk {
    /// The disk as it is in `folder`, all of it synced.
    pub fn of(folder: &Path) -> io::Result<Self> {
        let mut disk = Self {
            next_old: FileId::MAX,
            ..Self::default()
        };
        disk.read_folder(folder, Path::new(""))?;
        Ok(disk)
    }

    fn read_folder(&mut self, folder: &Path, inside: &Path) -> io::Result<()> {
        for entry in fs::read_dir(folder.join(inside))? {
            let entry = entry?;
            let path = inside.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                self.names.insert(path.clone(), None);
                self.read_folder(folder, &path)?;
            } else {
                let file = File {
                    synced: fs::read(entry.path())?,
                    since: Vec::new(),
                };
                self.files.insert(self.next_old, file);
                self.names.insert(path, Some(self.next_old));
                self.next_old -= 1;
            }
        }
        Ok(())
    }

    /// Does what the journal says.
    pub fn play(&mut self, (entry, bytes): &Recorded) {
        match entry {
            Entry::Known { file, path } => self.know(*file, path),
            Entry::Create { file, path } => {
                self.files.insert(*file, File::default());
                self.changes.push(NameChange::Create(path.clone(), Some(*file)));
            }
            Entry::Write { file, offset, .. } => {
                self.change(
                    *file,
                    Change::Write {
                        offset: *offset as usize,
                        bytes: bytes.clone(),
                    },
                );
            }
            Entry::Truncate { file, length } => self.change(*file, Change::Truncate(*length as usize)),
            Entry::Synced { file } => self.sync(*file),
            Entry::FolderSynced { path } => self.sync_names(|change| change.is_in(path)),
            Entry::MakeFolder { path } => self.changes.push(NameChange::Create(path.clone(), None)),
            Entry::Rename { from, to } => self.changes.push(NameChange::Rename(from.clone(), to.clone())),
            Entry::Unlink { path } => self.changes.push(NameChange::Unlink(path.clone())),
            Entry::Note(_) => {}
        }
    }

    /// The process calls an old file by a number of its own from here on.
    fn know(&mut self, file: FileId, path: &Path) {
        if let Some(Some(old)) = self.names.insert(path.to_owned(), Some(file))
            && let Some(content) = self.files.remove(&old)
        {
            self.files.insert(file, content);
        }
    }

    fn change(&mut self, file: FileId, change: Change) {
        if let Some(file) = self.files.get_mut(&file) {
            file.since.push(change);
        }
    }

    fn sync(&mut self, id: FileId) {
        if let Some(file) = self.files.get_mut(&id) {
            for change in std::mem::take(&mut file.since) {
                change.apply(&mut file.synced, |_| true);
            }
        }
        let names = self.names_after(self.changes.len());
        let path = names
            .into_iter()
            .find(|(_, file)| *file == Some(id))
            .map(|(path, _)| path);
        self.sync_names(|change| path.as_ref().is_some_and(|path| change.gives(path)));
    }

    /// Makes the changes of names durable up to the last one that `concerned` says yes to.
    fn sync_names(&mut self, concerned: impl Fn(&NameChange) -> bool) {
        let durable = self
            .changes
            .iter()
            .rposition(concerned)
            .map_or(0, |last| last + 1);
        self.names = self.names_after(durable);
        self.changes.drain(..durable);
    }

    fn names_after(&self, changes: usize) -> Names {
        let mut names = self.names.clone();
        self.changes[..changes]
            .iter()
            .for_each(|change| change.apply(&mut names));
        names
    }

    /// Every file as the process saw it last, had the power stayed on.
    pub fn without_cut(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let names = self.names_after(self.changes.len()).into_iter();
        let files = names.filter_map(|(path, file)| Some((path, self.files.get(&file?)?)));
        files
            .map(|(path, file)| (path, file.after_cut(Loss::Nothing, &mut Dice::new(0))))
            .collect()
    }

    /// Writes into the empty folder `to` what a power cut at this moment may leave.
    pub fn cut(&self, to: &Path, dice: &mut Dice) -> io::Result<()> {
        let loss = Loss::throw(dice);
        let names = self.names_after(loss.first_part(self.changes.len(), dice));
        for (path, file) in names {
            match file.and_then(|file| self.files.get(&file)) {
                Some(file) => fs::write(to.join(path), file.after_cut(loss, dice))?,
                None => fs::create_dir_all(to.join(path))?,
            }
        }
        Ok(())
    }
}

impl NameChange {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Create(path, file) => _ = names.insert(path.clone(), *file),
            Self::Unlink(path) => _ = names.remove(path),
            Self::Rename(from, to) => {
                let moved: Vec<PathBuf> = names
                    .keys()
                    .filter(|path| path.starts_with(from))
                    .cloned()
                    .collect();
                for path in moved {
                    let inside = path.strip_prefix(from).unwrap_or(&path);
                    let new = if inside == Path::new("") {
                        to.clone()
                    } else {
                        to.join(inside)
                    };
                    if let Some(file) = names.remove(&path) {
                        names.insert(new, file);
                    }
                }
            }
        }
    }

    /// Whether it gives something the name `path`.
    fn gives(&self, path: &Path) -> bool {
        matches!(self, Self::Create(given, _) | Self::Rename(_, given) if given == path)
    }

    /// Whether it changes a name in `folder`.
    fn is_in(&self, folder: &Path) -> bool {
        let (Self::Create(path, _) | Self::Unlink(path)) = self else {
            let Self::Rename(from, to) = self else {
                return false;
            };
            return from.parent() == Some(folder) || to.parent() == Some(folder);
        };
        path.parent() == Some(folder)
    }
}

/// How much of what was not synced is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// All of it.
    All,
    /// None of it.
    Nothing,
    /// What came after some moment, the same for all of a file.
    Tail,
    /// Each sector for itself.
    Sectors,
}

impl Loss {
    fn throw(dice: &mut Dice) -> Self {
        [Self::All, Self::Nothing, Self::Tail, Self::Sectors, Self::Sectors][dice.below(5)]
    }

    /// How many of `changes` survive.
    fn first_part(self, changes: usize, dice: &mut Dice) -> usize {
        match self {
            Self::All => 0,
            Self::Nothing => changes,
            Self::Tail | Self::Sectors => dice.below(changes + 1),
        }
    }
}

impl File {
    fn after_cut(&self, loss: Loss, dice: &mut Dice) -> Vec<u8> {
        let mut content = self.synced.clone();
        let whole = loss.first_part(self.since.len(), dice);
        let mut kept_of_sector: HashMap<usize, usize> = HashMap::new();
        for (n, change) in self.since.iter().enumerate() {
            match loss {
                Loss::Sectors => change.apply(&mut content, |sector| {
                    let kept = kept_of_sector
                        .entry(sector)
                        .or_insert_with(|| dice.below(self.since.len() + 1));
                    n < *kept
                }),
                _ if n < whole => change.apply(&mut content, |_| true),
                _ => {}
            }
        }
        content
    }
}

impl Change {
    /// Applies what `keep` says yes to. The length of a file counts as a sector of its own.
    fn apply(&self, content: &mut Vec<u8>, mut keep: impl FnMut(usize) -> bool) {
        let (offset, bytes) = match self {
            Self::Truncate(length) if keep(usize::MAX) => return content.resize(*length, 0),
            Self::Truncate(_) => return,
            Self::Write { offset, bytes } => (*offset, bytes),
        };
        let mut at = offset;
        while at < offset + bytes.len() {
            let end = (at - at % SECTOR_BYTES + SECTOR_BYTES).min(offset + bytes.len());
            if keep(at / SECTOR_BYTES) {
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[at..end].copy_from_slice(&bytes[at - offset..end - offset]);
            }
            at = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(file: FileId, offset: u64, bytes: &[u8]) -> Recorded {
        (
            Entry::Write {
                file,
                offset,
                bytes: bytes.len() as u32,
            },
            bytes.to_vec(),
        )
    }

    fn create(file: FileId, path: &str) -> Recorded {
        (
            Entry::Create {
                file,
                path: path.into(),
            },
            vec![],
        )
    }

    fn synced(file: FileId) -> Recorded {
        (Entry::Synced { file }, vec![])
    }

    fn rename(from: &str, to: &str) -> Recorded {
        (
            Entry::Rename {
                from: from.into(),
                to: to.into(),
            },
            vec![],
        )
    }

    fn folder_synced() -> Recorded {
        (Entry::FolderSynced { path: PathBuf::new() }, vec![])
    }

    /// Everything that `cuts` power cuts after `journal` leave, as names with contents.
    fn cuts(journal: &[Recorded], cuts: u64) -> Vec<BTreeMap<PathBuf, Vec<u8>>> {
        let mut disk = Disk::default();
        journal.iter().for_each(|recorded| disk.play(recorded));
        let left = |seed| {
            let folder = tempfile::tempdir().unwrap();
            disk.cut(folder.path(), &mut Dice::new(seed)).unwrap();
            let entries = fs::read_dir(folder.path())
                .unwrap()
                .map(|entry| entry.unwrap().path());
            entries
                .map(|path| (path.file_name().unwrap().into(), fs::read(&path).unwrap()))
                .collect()
        };
        (0..cuts).map(left).collect()
    }

    /// Whether every content of `a` that `cuts` leave passes, and whether some of them are each of `seen`.
    fn contents(journal: &[Recorded], pass: impl Fn(&[u8]) -> bool, seen: &[&[u8]]) {
        let left = cuts(journal, 200);
        let contents: Vec<&Vec<u8>> = left
            .iter()
            .filter_map(|names| names.get(Path::new("a")))
            .collect();
        assert!(contents.iter().all(|content| pass(content)));
        for wanted in seen {
            assert!(
                contents.iter().any(|content| content.as_slice() == *wanted),
                "never {} bytes",
                wanted.len()
            );
        }
    }

    #[test]
    fn what_was_synced_is_there_and_what_was_not_may_be_lost() {
        let journal = [
            create(1, "a"),
            write(1, 0, b"kept"),
            synced(1),
            write(1, 4, b" or not"),
        ];
        contents(
            &journal,
            |content| content.starts_with(b"kept"),
            &[b"kept", b"kept or not"],
        );
    }

    #[test]
    fn an_unsynced_overwrite_may_tear_between_sectors_and_not_within() {
        let (old, new) = ([b'o'; 3 * SECTOR_BYTES], [b'n'; 3 * SECTOR_BYTES]);
        let journal = [create(1, "a"), write(1, 0, &old), synced(1), write(1, 0, &new)];
        let whole = |sector: &[u8]| sector.iter().all(|byte| *byte == sector[0]);
        let torn = [&old[..SECTOR_BYTES], &new[..SECTOR_BYTES], &old[..SECTOR_BYTES]].concat();
        contents(
            &journal,
            |content| content.chunks(SECTOR_BYTES).all(whole),
            &[&old, &new, &torn],
        );
    }

    #[test]
    fn a_sector_never_has_a_later_write_without_an_earlier_one() {
        let journal = [
            create(1, "a"),
            write(1, 0, b"...."),
            synced(1),
            write(1, 0, b"1"),
            write(1, 1, b"2"),
        ];
        contents(
            &journal,
            |content| content != b".2..",
            &[b"....", b"1...", b"12.."],
        );
    }

    #[test]
    fn a_length_that_was_not_synced_may_be_the_old_one() {
        let cut_short = (Entry::Truncate { file: 1, length: 2 }, vec![]);
        let journal = [create(1, "a"), write(1, 0, b"1234"), synced(1), cut_short];
        contents(
            &journal,
            |content| matches!(content, b"1234" | b"12"),
            &[b"1234", b"12"],
        );
    }

    /// Names change in order, so a later one is never seen without the earlier ones; a sync of the file or
    /// of its folder makes them last.
    #[test]
    fn names_last_once_something_was_synced_after_them() {
        let begun = [create(1, "new"), write(1, 0, b"x")];
        for (after, always, sometimes) in [
            (vec![], vec![], vec!["new"]),
            (vec![synced(1)], vec!["new"], vec![]),
            (vec![synced(1), rename("new", "a")], vec![], vec!["new", "a"]),
            (
                vec![synced(1), rename("new", "a"), folder_synced()],
                vec!["a"],
                vec![],
            ),
            (
                vec![folder_synced(), (Entry::Unlink { path: "new".into() }, vec![])],
                vec![],
                vec!["new"],
            ),
        ] {
            let journal = [&begun[..], &after].concat();
            let left = cuts(&journal, 100);
            let with = |name: &str| {
                left.iter()
                    .filter(|names| names.contains_key(Path::new(name)))
                    .count()
            };
            assert!(left.iter().all(|names| names.len() <= 1), "{after:?}");
            assert!(always.iter().all(|name| with(name) == 100), "{after:?}");
            assert!(
                sometimes.iter().all(|name| (1..100).contains(&with(name))),
                "{after:?}"
            );
        }
    }
}
