//! Making a Unix socket that only those may open who are meant to, from its first instant on. It refuses
//! to know what is said on it.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::fs::{Gid, Mode};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::domain::people;

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// The system's list of groups.
const GROUPS_FILE: &str = "/etc/group";

/// Binds a listening socket at `path` with this `mode`, and the group called `group` (empty: left as it is).
///
/// Nobody can connect before mode and group are set: the socket listens only then, and until then its mode
/// is never wider than `mode`. A socket that was left behind is taken over if nobody answers on it.
///
/// # Errors
/// With the path and how to mend it: when the folder is missing, when somebody answers on the socket, when
/// something else than a socket is there, when the group is not known or may not be given.
pub fn bind_unix(path: &Path, mode: u32, group: &str) -> io::Result<UnixListener> {
    let gid = if group.is_empty() {
        None
    } else {
        Some(gid_of(group, path)?)
    };
    remove_stale(path)?;
    bind(path, Mode::from_raw_mode(mode), gid).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => "; create its folder (systemd: RuntimeDirectory=)",
            io::ErrorKind::PermissionDenied => {
                "; the daemon's user needs to write to the folder and to be in the group"
            }
            io::ErrorKind::AddrInUse => "; another daemon has just created it",
            _ => "",
        };
        at(path, error.kind(), &format!("{error}{hint}"))
    })
}

fn bind(path: &Path, mode: Mode, gid: Option<Gid>) -> io::Result<UnixListener> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // Linux creates the file with the mode of the socket it is bound to, less the umask.
    rustix::fs::fchmod(&socket, mode)?;
    rustix::net::bind(&socket, &address)?;
    let ready = own(path, mode, gid).and_then(|()| rustix::net::listen(&socket, BACKLOG));
    if let Err(error) = ready {
        // The file is ours and nobody could connect to it yet.
        let _ = std::fs::remove_file(path);
        return Err(error.into());
    }
    Ok(UnixListener::from(socket))
}

fn own(path: &Path, mode: Mode, gid: Option<Gid>) -> rustix::io::Result<()> {
    if gid.is_some() {
        rustix::fs::chown(path, None, gid)?;
    }
    rustix::fs::chmod(path, mode)
}

/// Removes a socket that nobody answers on; leaves everything else alone and says what it is.
fn remove_stale(path: &Path) -> io::Result<()> {
    let kind = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(at(path, error.kind(), &error.to_string())),
    };
    if !kind.is_socket() {
        let message = "something that is not a socket is there; move it away or configure another path";
        return Err(at(path, io::ErrorKind::AlreadyExists, message));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|error| {
                at(
                    path,
                    error.kind(),
                    &format!("a stale socket can't be removed: {error}"),
                )
            })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(_) => {
            let message = "another process answers on this socket; stop it or configure another path";
            Err(at(path, io::ErrorKind::AddrInUse, message))
        }
        Err(error) => Err(at(
            path,
            error.kind(),
            &format!("can't tell whether another process uses this socket: {error}"),
        )),
    }
}

fn gid_of(group: &str, path: &Path) -> io::Result<Gid> {
    let groups = std::fs::read_to_string(GROUPS_FILE)?;
    let gid = people::gid_of(&groups, group).ok_or_else(|| {
        let message =
            format!("there is no group {group:?}; create it (groupadd --system {group}) or set group = \"\"");
        at(path, io::ErrorKind::NotFound, &message)
    })?;
    Ok(Gid::from_raw(gid))
}

fn at(path: &Path, kind: io::ErrorKind, message: &str) -> io::Error {
    io::Error::new(kind, format!("socket {}: {message}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn a_socket_has_the_mode_it_was_asked_for() {
        let folder = folder();
        for mode in [0o600, 0o660, 0o666, 0o777] {
            let path = folder.path().join(format!("{mode:o}.sock"));
            let _listener = bind_unix(&path, mode, "").unwrap();
            let metadata = std::fs::metadata(&path).unwrap();
            assert_eq!(metadata.permissions().mode() & 0o7777, mode);
            UnixStream::connect(&path).unwrap();
        }
    }

    #[test]
    fn a_stale_socket_is_taken_over_and_a_live_one_is_not() {
        let folder = folder();
        let path = folder.path().join("ingest.sock");
        let first = bind_unix(&path, 0o660, "").unwrap();
        let inode = std::fs::metadata(&path).unwrap().ino();
        let error = bind_unix(&path, 0o660, "").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains("another process answers"), "{error}");
        assert_eq!(std::fs::metadata(&path).unwrap().ino(), inode, "left alone");
        drop(first);
        let _second = bind_unix(&path, 0o660, "").unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn what_is_not_a_socket_is_left_alone() {
        let folder = folder();
        let path = folder.path().join("notes.txt");
        std::fs::write(&path, "precious").unwrap();
        let error = bind_unix(&path, 0o660, "").unwrap_err();
        assert!(error.to_string().contains("not a socket"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn errors_name_the_path_and_the_way_out() {
        let folder = folder();
        let missing = folder.path().join("missing/ingest.sock");
        let long = folder.path().join("x".repeat(120));
        let here = folder.path().join("ingest.sock");
        for (path, group, message) in [
            (&missing, "", "create its folder"),
            (&here, "no-such-group", "groupadd"),
            (&long, "", "name too long"),
        ] {
            let error = bind_unix(path, 0o660, group).unwrap_err().to_string();
            assert!(error.contains(&path.display().to_string()), "{error}");
            assert!(error.to_lowercase().contains(message), "{error}");
        }
    }
}
