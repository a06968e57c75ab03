//! Where a request goes: which of an endpoint's addresses, and what URL it makes of this event.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::HeaderValue;
use percent_encoding::percent_decode_str;
use reqwest::Url;

use crate::domain::endpoint::{Address, Balance};
use crate::domain::time::Timestamp;
use crate::template::{Scope, Template};

/// How long an address counts as unwell after a failure.
const UNWELL_MS: u64 = 30_000;

/// A URL, and the basic credentials that were written into it (RFC 7617), which are no part of the request line.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub url: Url,
    pub credentials: Option<HeaderValue>,
    /// `host:port`
    pub address: Box<str>,
}

/// One address, parsed beforehand where no event changes it.
#[derive(Clone, Debug)]
pub(super) enum Way {
    Fixed(Place),
    Made(Template),
}

impl Way {
    /// Checks `address` as far as it is known without an event.
    pub(super) fn new(address: &Address, allows_plaintext: bool) -> Result<Self, String> {
        match address.url.fixed() {
            Some(text) => {
                let place = Place::parse(text, allows_plaintext);
                place
                    .map(Self::Fixed)
                    .map_err(|why| format!("url {}: {why}", address.shown))
            }
            None => Ok(Self::Made(address.url.clone())),
        }
    }

    /// The URL for what `scope` shows, and the credentials that stood in it.
    pub(super) fn target(
        &self,
        scope: Option<&Scope>,
        allows_plaintext: bool,
    ) -> Result<(Url, Option<HeaderValue>), String> {
        match (self, scope) {
            (Self::Fixed(place), _) => Ok((place.url.clone(), place.credentials.clone())),
            (Self::Made(template), Some(scope)) => {
                let text = template
                    .render(scope)
                    .map_err(|problem| format!("url: {problem}"))?;
                let place = Place::parse(&text, allows_plaintext)
                    .map_err(|why| format!("url {}: {why}", template.source()))?;
                Ok((place.url, place.credentials))
            }
            (Self::Made(_), None) => Err("url: it is made from an event, and there is none".to_owned()),
        }
    }
}

impl Place {
    fn parse(text: &str, allows_plaintext: bool) -> Result<Self, String> {
        let mut url = Url::parse(text).map_err(|why| why.to_string())?;
        match (url.scheme(), url.has_host()) {
            ("https", true) => {}
            ("http", true) if allows_plaintext || crate::domain::url::is_loopback(&url) => {}
            ("http", true) => return Err("http:// to another machine, and allow_http is not set".to_owned()),
            _ => return Err("it must begin with http:// or https:// and name a host".to_owned()),
        }
        let credentials = take_credentials(&mut url)?;
        let address = host_and_port(&url).into();
        Ok(Self {
            url,
            credentials,
            address,
        })
    }
}

/// `host:port` of `url`.
pub(super) fn host_and_port(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    format!("{host}:{}", url.port_or_known_default().unwrap_or_default())
}

/// The `authorization` header (RFC 7617) for a user name and password in the URL, which are taken out of it.
fn take_credentials(url: &mut Url) -> Result<Option<HeaderValue>, String> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let user = decoded(url.username());
    let password = decoded(url.password().unwrap_or_default());
    let basic = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    let mut value = HeaderValue::try_from(basic).map_err(|error| format!("its credentials: {error}"))?;
    value.set_sensitive(true);
    let taken = url.set_username("").and_then(|()| url.set_password(None));
    taken.map_err(|()| "its credentials can't be used".to_owned())?;
    Ok(Some(value))
}

/// Chooses between addresses. Shared by all tries at an endpoint.
#[derive(Debug)]
pub(super) struct Chooser {
    balance: Balance,
    turn: AtomicUsize,
    /// When each address last failed, in milliseconds since 1970; 0: it did not, or has worked since.
    failed: Vec<AtomicU64>,
}

impl Chooser {
    pub(super) fn new(balance: Balance, count: usize) -> Self {
        Self {
            balance,
            turn: AtomicUsize::new(0),
            failed: (0..count).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// The index of the address for the request called `id` on its try `number`.
    pub(super) fn choose(&self, id: &str, number: u32, now: Timestamp) -> usize {
        let count = self.failed.len().max(1);
        if count == 1 {
            return 0;
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        match self.balance {
            Balance::RoundRobin => turn % count,
            Balance::Random => scattered(id, number) % count,
            Balance::Healthy => {
                let order = (0..count).map(|step| (turn + step) % count);
                let is_well = |index: &usize| self.is_well(*index, now);
                order.clone().find(is_well).unwrap_or(turn % count)
            }
        }
    }

    /// Learns how a request to the address at `index` ended.
    pub(super) fn learn(&self, index: usize, worked: bool, now: Timestamp) {
        if let Some(failed) = self.failed.get(index) {
            failed.store(if worked { 0 } else { now.0 }, Ordering::Relaxed);
        }
    }

    fn is_well(&self, index: usize, now: Timestamp) -> bool {
        let failed = self
            .failed
            .get(index)
            .map_or(0, |failed| failed.load(Ordering::Relaxed));
        failed == 0 || now.0 >= failed.saturating_add(UNWELL_MS)
    }
}

/// A number that differs between requests and between tries: without a source of chance, a try can be repeated in a
/// test.
fn scattered(id: &str, number: u32) -> usize {
    use std::hash::BuildHasher;
    let mixed = rustc_hash::FxBuildHasher.hash_one((id, number));
    usize::try_from(mixed >> 32).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// B5: one after the other; by chance; around those that failed lately, until they may be well again.
    #[test]
    fn b5_addresses_are_chosen() {
        let now = Timestamp(1_000_000);
        let round = Chooser::new(Balance::RoundRobin, 3);
        let chosen: Vec<usize> = (0..4).map(|_| round.choose("e", 1, now)).collect();
        assert_eq!(chosen, [0, 1, 2, 0]);

        let random = Chooser::new(Balance::Random, 3);
        let mut counts = [0; 3];
        for event in 0..3000 {
            counts[random.choose(&format!("event-{event}"), 1, now)] += 1;
        }
        assert!(
            counts.iter().all(|count| (800..1200).contains(count)),
            "{counts:?}"
        );

        let healthy = Chooser::new(Balance::Healthy, 3);
        healthy.learn(1, false, now);
        let chosen: Vec<usize> = (0..4).map(|_| healthy.choose("e", 1, now)).collect();
        assert_eq!(chosen, [0, 2, 2, 0]);
        let later = Timestamp(now.0 + UNWELL_MS);
        let chosen: Vec<usize> = (0..3).map(|_| healthy.choose("e", 1, later)).collect();
        assert_eq!(chosen, [1, 2, 0]);
        for index in 0..3 {
            healthy.learn(index, false, later);
        }
        assert_eq!(
            healthy.choose("e", 1, later),
            1,
            "when all are unwell, somebody is asked"
        );
        healthy.learn(2, true, later);
        assert_eq!(healthy.choose("e", 1, later), 2);
    }
}
