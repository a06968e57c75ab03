//! Who sends: the process at the other end as the kernel tells it, and the `source` of its events that name none.
//! It refuses to know what is sent, and whether it may be.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::domain::access::Credentials;
use crate::domain::people;

/// The system's list of users, for the default `source` of events.
const USERS_FILE: &str = "/etc/passwd";
/// Names remembered; past it they are forgotten and looked up again.
const NAMES_MAX: usize = 4096;

/// Who sends, as the kernel tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// The process at the other end, as it was when it connected.
    pub peer: Credentials,
    /// `source` of events that name none.
    pub source: Box<str>,
}

impl Sender {
    /// A local process; `name` is what the system calls its user, if it has a name.
    #[must_use]
    pub fn local(peer: Credentials, name: Option<&str>) -> Self {
        let source = match (name, peer.uid) {
            (Some(name), _) => format!("/local/{name}"),
            (None, Some(uid)) => format!("/local/{uid}"),
            (None, None) => "/local/unknown".to_owned(),
        };
        Self {
            peer,
            source: source.into(),
        }
    }

    /// A local user who is not connected, such as the owner of a file.
    #[must_use]
    pub fn of_user(uid: u32) -> Self {
        let peer = Credentials {
            uid: Some(uid),
            gid: None,
        };
        Self::local(peer, user_name(uid).as_deref())
    }

    /// Somebody on another machine, who has shown that they may send.
    #[must_use]
    pub fn remote(address: IpAddr) -> Self {
        Self {
            peer: Credentials::default(),
            source: format!("/remote/{address}").into(),
        }
    }
}

/// The names of the users seen so far.
#[derive(Debug, Default)]
pub struct Users(HashMap<u32, Option<Box<str>>>);

impl Users {
    /// The sender behind `peer`, by the name the system has for its user.
    pub fn sender(&mut self, peer: Credentials) -> Sender {
        if self.0.len() >= NAMES_MAX {
            self.0.clear();
        }
        let name = peer
            .uid
            .and_then(|uid| self.0.entry(uid).or_insert_with(|| user_name(uid)).as_deref());
        Sender::local(peer, name)
    }
}

/// What the system calls a user; one known only to a directory service goes by its number.
fn user_name(uid: u32) -> Option<Box<str>> {
    let users = std::fs::read_to_string(USERS_FILE).ok()?;
    people::user_name(&users, uid).map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(uid: Option<u32>) -> Credentials {
        Credentials { uid, gid: uid }
    }

    #[test]
    fn a_sender_without_a_name_is_known_by_its_uid() {
        assert_eq!(&*Sender::local(peer(Some(1234)), None).source, "/local/1234");
        assert_eq!(&*Sender::local(peer(None), None).source, "/local/unknown");
        assert_eq!(&*Users::default().sender(peer(Some(0))).source, "/local/root");
    }

    #[test]
    fn a_sender_elsewhere_is_known_by_its_address() {
        let sender = Sender::remote(IpAddr::from([192, 0, 2, 7]));
        assert_eq!(&*sender.source, "/remote/192.0.2.7");
        assert_eq!(sender.peer, Credentials::default());
    }
}
