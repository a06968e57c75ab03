//! Answers that are used again: kept in memory for as long as the step asks for, and fetched by one try at a time for
//! each key, whose end all the others share. Nothing here is durable, and nothing is ever shown.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::{Instant, timeout_at};

use super::shelf::{Key, Shelf};
use super::{Fetched, Fields};
use crate::domain::endpoint::{CachePolicy, Endpoint, Integration, Settings, Step};

/// The names of an endpoint and of a step of it.
type Place = (Box<str>, Box<str>);

/// The caches in use. A step that stays as it is over a reload keeps its answers.
#[derive(Debug, Default)]
pub struct Caches {
    by_step: Mutex<HashMap<Place, (Definition, Weak<Cache>)>>,
}

/// All that a step's answers depend on beside the event.
#[derive(Debug, PartialEq)]
struct Definition {
    step: Step,
    bind: Box<str>,
    settings: Arc<Settings>,
    integration: Integration,
}

impl Caches {
    /// The cache of `step`, which belongs to `endpoint`.
    #[must_use]
    pub fn of(&self, endpoint: &Endpoint, step: &Step, policy: &CachePolicy) -> Arc<Cache> {
        let definition = Definition {
            step: step.clone(),
            bind: endpoint.bind.clone(),
            settings: Arc::clone(&endpoint.settings),
            integration: endpoint.integration.clone(),
        };
        let place = (endpoint.name.clone(), step.name.clone());
        let mut by_step = lock(&self.by_step);
        if let Some((known, cache)) = by_step.get(&place)
            && *known == definition
            && let Some(cache) = cache.upgrade()
        {
            return cache;
        }
        let cache = Arc::new(Cache::new(policy));
        by_step.retain(|_, (_, known)| known.strong_count() > 0);
        by_step.insert(place, (definition, Arc::downgrade(&cache)));
        cache
    }
}

/// A request that is under way for a key, and what it came to for those who wait for it.
type Flight = AsyncMutex<Option<Fetched>>;

/// The answers of one step.
#[derive(Debug)]
pub struct Cache {
    shelf: Mutex<Shelf>,
    flights: Mutex<HashMap<Key, Weak<Flight>>>,
    since: Instant,
    ttl: Duration,
    age_max: Duration,
}

/// What came of asking a cache.
#[derive(Debug)]
pub enum Looked {
    /// It was there.
    Kept(Fields),
    /// It was asked for, by this try or by another one at the same time.
    Fetched(Fetched),
    /// Somebody else asked, and did not come back in time.
    TooLate,
}

/// What an answer is kept under, for the value of the step's key.
#[must_use]
pub fn key(text: &str) -> Key {
    Sha256::digest(text.as_bytes()).into()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cache {
    fn new(policy: &CachePolicy) -> Self {
        Self {
            shelf: Mutex::new(Shelf::new(policy.ttl.max(policy.max_age))),
            flights: Mutex::default(),
            since: Instant::now(),
            ttl: policy.ttl,
            age_max: policy.max_age,
        }
    }

    /// What stands under `key`, or what `fetch` brings, which is then kept. One fetches for a key at a time; who comes
    /// meanwhile shares its end, good or bad, but waits no longer than until `deadline`.
    pub async fn look(&self, key: Key, deadline: Instant, fetch: impl Future<Output = Fetched>) -> Looked {
        if let Some(kept) = self.younger(&key, self.ttl) {
            return Looked::Kept(kept);
        }
        let flight = self.flight(key);
        let Ok(mut end) = timeout_at(deadline, flight.lock()).await else {
            return Looked::TooLate;
        };
        if let Some(fetched) = &*end {
            return Looked::Fetched(fetched.clone());
        }
        // Between the look above and the flight an earlier one may have ended.
        if let Some(kept) = self.younger(&key, self.ttl) {
            return Looked::Kept(kept);
        }
        let fetched = fetch.await;
        if let Ok((fields, _)) = &fetched {
            lock(&self.shelf).put(key, fields.clone(), self.since.elapsed());
        }
        *end = Some(fetched.clone());
        lock(&self.flights).remove(&key);
        Looked::Fetched(fetched)
    }

    /// The last good value under `key`, if it is young enough to stand in for an answer.
    #[must_use]
    pub fn last_good(&self, key: &Key) -> Option<Fields> {
        self.younger(key, self.age_max)
    }

    fn younger(&self, key: &Key, age_max: Duration) -> Option<Fields> {
        lock(&self.shelf).get(key, self.since.elapsed(), age_max)
    }

    /// The flight that is under way for `key`, or a new one. One whose tries were all broken off leaves nothing behind.
    fn flight(&self, key: Key) -> Arc<Flight> {
        let mut flights = lock(&self.flights);
        if let Some(flight) = flights.get(&key).and_then(Weak::upgrade) {
            return flight;
        }
        let flight = Arc::new(Flight::default());
        flights.retain(|_, known| known.strong_count() > 0);
        flights.insert(key, Arc::downgrade(&flight));
        flight
    }
}
