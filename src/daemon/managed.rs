//! The files of endpoints that were defined over the API. A file is replaced by a rename, so that a crash leaves the
//! old one or the new one, and only the daemon's user can read it, because it may hold secrets.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::config::managed::file;
use crate::store::files::{create_folder, sync_folder};

/// Writes the file of the endpoint called `name`; durable when it returns.
///
/// # Errors
/// Of the file system; then the file is as it was.
pub fn write(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    create_folder(folder)?;
    // Names begin with no dot, so this is nobody's file, and one that a crash left behind is written over.
    let draft = folder.join(format!(".{name}.draft"));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut draft_file = options.open(&draft)?;
    draft_file.write_all(text.as_bytes())?;
    draft_file.sync_all()?;
    fs::rename(&draft, file(folder, name))?;
    sync_folder(folder)
}

/// Removes the file of the endpoint called `name`; durable when it returns.
///
/// # Errors
/// Of the file system.
pub fn remove(folder: &Path, name: &str) -> io::Result<()> {
    fs::remove_file(file(folder, name))?;
    sync_folder(folder)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// H2: the folder and the files in it are the daemon's alone, and nothing else is left in it.
    #[test]
    fn h2_files_are_private_and_replaced_whole() {
        let store = tempfile::tempdir().unwrap();
        let folder = store.path().join("endpoints");
        for text in ["a long first text", "second"] {
            write(&folder, "crm", text).unwrap();
            assert_eq!(fs::read_to_string(file(&folder, "crm")).unwrap(), text);
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&file(&folder, "crm"))), (0o700, 0o600));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        remove(&folder, "crm").unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        assert!(remove(&folder, "crm").is_err());
    }
}
