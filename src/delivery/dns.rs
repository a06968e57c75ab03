//! From a host's name to the addresses that may be connected to. The client asks here whenever it opens a connection
//! to a name, so an address that is refused here is never connected to, whatever the name said before (D8).
//!
//! What `getaddrinfo` says is kept for a while, and for as long as it has nothing to say: a resolver that is down for
//! an hour stops no delivery.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::client::legacy::connect::dns::Name;
use reqwest::dns::{Addrs, Resolve, Resolving};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tower_service::Service;

use super::failure::Failure;
use super::phases::looking_up;
use crate::domain::network::{Blocked, NetworkPolicy};
use crate::domain::outcome::ErrorClass;

/// Names remembered; past it the one that was looked up longest ago goes.
const NAMES_MAX: usize = 4096;
/// How long addresses are used that the resolver could not confirm.
const STALE_MAX: Duration = Duration::from_secs(24 * 3600);
/// How long a connection waits for the resolver when there are addresses to fall back on.
const STALE_WAIT: Duration = Duration::from_secs(1);

/// The addresses of names, shared by all connections.
#[derive(Debug, Default)]
pub struct Names {
    known: Mutex<HashMap<Box<str>, Known>>,
}

#[derive(Debug, Default)]
struct Known {
    addresses: Option<(Instant, Arc<[IpAddr]>)>,
    /// The look-up that is under way; those who wait for it share its end.
    asking: Option<watch::Receiver<Option<Found>>>,
}

/// How a look-up ended. The error is kept as its kind and its words, so that many can have it.
type Found = Result<Arc<[IpAddr]>, (io::ErrorKind, Arc<str>)>;

impl Names {
    /// The addresses of `name`, at most `age_max` old unless there are no newer ones to be had.
    ///
    /// # Errors
    /// What the system's resolver says, if nothing better is remembered.
    pub async fn addresses(self: &Arc<Self>, name: &str, age_max: Duration) -> io::Result<Arc<[IpAddr]>> {
        let (kept, mut asking) = {
            let mut known = self.lock();
            let entry = known.entry(name.into()).or_default();
            let kept = entry.addresses.clone().filter(|(at, _)| at.elapsed() < STALE_MAX);
            if let Some((at, addresses)) = &kept
                && at.elapsed() < age_max
            {
                return Ok(Arc::clone(addresses));
            }
            let asking = entry.asking.get_or_insert_with(|| self.ask(name)).clone();
            (kept.filter(|_| !age_max.is_zero()), asking)
        };
        let answer = async {
            match asking.wait_for(Option::is_some).await {
                Ok(found) => found.clone(),
                Err(_) => None,
            }
        };
        let found = match &kept {
            Some(_) => timeout(STALE_WAIT, answer).await.ok().flatten(),
            None => answer.await,
        };
        match (found, kept) {
            (Some(Ok(addresses)), _) | (_, Some((_, addresses))) => Ok(addresses),
            (Some(Err((kind, why))), None) => Err(io::Error::new(kind, &*why)),
            (None, None) => Err(io::Error::other("the look-up was given up")),
        }
    }

    /// Forgets the addresses of `name`, because none of them could be connected to.
    pub fn forget(&self, name: &str) {
        if let Some(entry) = self.lock().get_mut(name) {
            entry.addresses = None;
        }
    }

    /// Starts a look-up, which goes on whoever stops waiting for it.
    fn ask(self: &Arc<Self>, name: &str) -> watch::Receiver<Option<Found>> {
        let (tell, asking) = watch::channel(None);
        let (names, name): (_, Box<str>) = (Arc::clone(self), name.into());
        tokio::spawn(async move {
            let found = tokio::net::lookup_host((&*name, 0)).await;
            let found: Found = match found {
                Ok(addresses) => Ok(addresses.map(|address| address.ip()).collect()),
                Err(why) => Err((why.kind(), why.to_string().into())),
            };
            names.note(&name, &found);
            tell.send_replace(Some(found));
        });
        asking
    }

    fn note(&self, name: &str, found: &Found) {
        let mut known = self.lock();
        let entry = known.entry(name.into()).or_default();
        entry.asking = None;
        match found {
            Ok(addresses) => entry.addresses = Some((Instant::now(), Arc::clone(addresses))),
            Err(_) if entry.addresses.is_none() => {
                known.remove(name);
            }
            Err(_) => {}
        }
        if known.len() > NAMES_MAX {
            let idle = known.iter().filter(|(_, entry)| entry.asking.is_none());
            let oldest = idle.min_by_key(|(_, entry)| entry.addresses.as_ref().map(|(at, _)| *at));
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                known.remove(&oldest);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Box<str>, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Resolves names for one client, under its rules.
#[derive(Clone, Debug)]
pub struct Resolver {
    names: Arc<Names>,
    policy: NetworkPolicy,
}

impl Resolver {
    /// Asks `names`, and lets through what `policy` lets.
    #[must_use]
    pub fn new(names: Arc<Names>, policy: NetworkPolicy) -> Self {
        Self { names, policy }
    }
}

impl Resolver {
    /// Hears what an exchange with `name` died of. A host that could not be connected to may have moved, so its name is
    /// looked up anew the next time.
    pub fn learn(&self, name: &str, failure: &Failure) {
        if failure.class == ErrorClass::Connect {
            self.names.forget(name);
        }
    }

    /// The addresses of `name` that may be connected to, with port 0.
    async fn sockets(self, name: impl AsRef<str>) -> Result<Sockets, LookupError> {
        let found = async {
            let addresses = self.names.addresses(name.as_ref(), self.policy.dns_cache).await?;
            permitted(&addresses, &self.policy).map_err(io::Error::other)
        };
        let allowed = looking_up(found).await.map_err(LookupError)?;
        Ok(allowed.into_iter().map(with_any_port))
    }
}

type Sockets = std::iter::Map<std::vec::IntoIter<IpAddr>, fn(IpAddr) -> SocketAddr>;

fn with_any_port(address: IpAddr) -> SocketAddr {
    SocketAddr::new(address, 0)
}

/// A name that led to no address that may be connected to.
#[derive(Debug, Error)]
#[error("the name could not be looked up")]
pub struct LookupError(#[source] io::Error);

/// For the HTTP client.
impl Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> Resolving {
        let found = self.clone().sockets(name.as_str().to_owned());
        Box::pin(async move { Ok(Box::new(found.await?) as Addrs) })
    }
}

/// For connections of our own.
impl Service<Name> for Resolver {
    type Response = Sockets;
    type Error = LookupError;
    type Future = Pin<Box<dyn Future<Output = Result<Sockets, LookupError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LookupError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(self.clone().sockets(name.as_str().to_owned()))
    }
}

/// Those of `addresses` that `policy` lets through.
///
/// # Errors
/// The first that is refused, if all are.
fn permitted(addresses: &[IpAddr], policy: &NetworkPolicy) -> Result<Vec<IpAddr>, Blocked> {
    let checked: Vec<_> = addresses
        .iter()
        .map(|address| policy.addresses.check(*address).map(|()| *address))
        .collect();
    let allowed: Vec<_> = checked.iter().flatten().copied().collect();
    match checked.into_iter().find_map(Result::err) {
        Some(blocked) if allowed.is_empty() => Err(blocked),
        _ => Ok(allowed),
    }
}

#[cfg(test)]
impl Names {
    /// As if the resolver had said so long ago that `name` is at `address`, and nowhere else.
    pub fn plant(&self, name: &str, address: &str, age: Duration) {
        let known = Known {
            addresses: Some((
                Instant::now().checked_sub(age).unwrap(),
                [address.parse().unwrap()].into(),
            )),
            asking: None,
        };
        self.lock().insert(name.into(), known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::network::{AddressPolicy, AddressRange};

    const LONG: Duration = Duration::from_secs(300);

    fn planted(names: &Arc<Names>, name: &str, age: Duration) {
        names.plant(name, "192.0.2.1", age);
    }

    /// D8: what is fresh is used, what is old is asked for again, and used when there is no answer.
    #[tokio::test]
    async fn d8_names_are_remembered() {
        let names = Arc::new(Names::default());
        // RFC 6761 §6.4: it never resolves.
        let name = "posthaste.invalid";
        assert!(names.addresses(name, LONG).await.is_err());
        assert!(names.lock().is_empty(), "what was not found is not remembered");
        for (age, age_max, found) in [
            (Duration::ZERO, LONG, true),
            (LONG * 2, LONG, true),
            (STALE_MAX, LONG, false),
            (Duration::ZERO, Duration::ZERO, false),
        ] {
            planted(&names, name, age);
            let addresses = names.addresses(name, age_max).await;
            assert_eq!(addresses.is_ok(), found, "{age:?} {age_max:?}");
        }
        planted(&names, name, Duration::ZERO);
        names.forget(name);
        assert!(names.addresses(name, LONG).await.is_err());
        planted(&names, "localhost", LONG * 2);
        let addresses = names.addresses("localhost", LONG).await.unwrap();
        assert!(addresses.iter().all(IpAddr::is_loopback), "{addresses:?}");
    }

    #[tokio::test]
    async fn d8_remembered_names_are_bounded() {
        let names = Arc::new(Names::default());
        for n in 0..NAMES_MAX as u64 {
            planted(&names, &format!("n{n}.invalid"), Duration::from_secs(n));
        }
        let found = Ok(["192.0.2.1".parse().unwrap()].into());
        names.note("one-more.invalid", &found);
        let known = names.lock();
        assert_eq!(known.len(), NAMES_MAX);
        assert!(known.contains_key("one-more.invalid"));
        assert!(
            !known.contains_key(&*format!("n{}.invalid", NAMES_MAX - 1)),
            "the oldest went"
        );
    }

    /// D8: refused addresses are left out; a name that has no other is refused.
    #[test]
    fn d8_addresses_are_filtered() {
        let policy = NetworkPolicy {
            addresses: AddressPolicy {
                deny: vec![AddressRange::parse("private").unwrap()],
                allow: Vec::new(),
            },
            dns_cache: LONG,
        };
        let of = |list: &[&str]| {
            list.iter()
                .map(|text| text.parse().unwrap())
                .collect::<Vec<IpAddr>>()
        };
        let mixed = of(&["10.0.0.1", "192.0.2.1", "64:ff9b::10.0.0.1"]);
        assert_eq!(permitted(&mixed, &policy).unwrap(), of(&["192.0.2.1"]));
        let blocked = permitted(&of(&["10.0.0.1", "10.0.0.2"]), &policy).unwrap_err();
        assert_eq!(blocked.address, of(&["10.0.0.1"])[0]);
        assert_eq!(permitted(&[], &policy), Ok(Vec::new()));
    }
}
