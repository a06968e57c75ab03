//! Sockets that systemd made and hands over (sd_listen_fds(3)), found by the names its socket units give them in
//! `FileDescriptorName=`. Knows nothing of what they are for.

use std::io;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;

/// The sockets handed over to this process.
pub struct Handed {
    sockets: ListenFd,
    /// `LISTEN_FDNAMES`: a name for each, in the same order.
    names: String,
}

impl Handed {
    /// What was handed over; nothing when the daemon was started in another way. To be asked once, before any
    /// thread is started: it takes `LISTEN_PID` and `LISTEN_FDS` out of the environment.
    #[must_use]
    pub fn from_env() -> Self {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        Self {
            sockets: ListenFd::from_env(),
            names,
        }
    }

    /// Takes the socket called `name`, ready for use by tokio; `None`: there is none, or it has been taken.
    ///
    /// # Errors
    /// When it is no Unix stream socket, with the name of the unit's key to mend.
    pub fn take(&mut self, name: &str) -> io::Result<Option<UnixListener>> {
        let Some(index) = index_of(&self.names, name) else {
            return Ok(None);
        };
        let taken = self.sockets.take_unix_listener(index).and_then(|listener| {
            if let Some(listener) = &listener {
                listener.set_nonblocking(true)?;
            }
            Ok(listener)
        });
        taken.map_err(|error| {
            let message = format!(
                "the socket handed over by systemd as FileDescriptorName={name} can't be used: {error}; \
                 it needs ListenStream= with a path"
            );
            io::Error::new(error.kind(), message)
        })
    }
}

/// The place of `wanted` among names separated by colons. The first one counts if there are several.
fn index_of(names: &str, wanted: &str) -> Option<usize> {
    names.split(':').position(|name| name == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i1_sockets_are_found_by_name_whatever_their_order() {
        let table = [
            ("ingest:control", "ingest", Some(0)),
            ("ingest:control", "control", Some(1)),
            ("control:ingest", "control", Some(0)),
            ("stored:control", "control", Some(1)),
            ("ingest::control", "control", Some(2)),
            ("control:control", "control", Some(0)),
            ("controls:my-control", "control", None),
            ("unknown", "control", None),
            ("", "control", None),
        ];
        for (names, wanted, index) in table {
            assert_eq!(index_of(names, wanted), index, "{wanted} in {names:?}");
        }
    }

    #[test]
    fn i1_a_name_without_a_socket_is_none() {
        let mut handed = Handed {
            sockets: ListenFd::empty(),
            names: "ingest:control".to_owned(),
        };
        assert!(handed.take("ingest").unwrap().is_none());
        assert!(handed.take("other").unwrap().is_none());
    }
}
