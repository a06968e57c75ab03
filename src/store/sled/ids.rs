//! The memory of ids: which (source, id) pairs were accepted lately. Pure; what of it is on disk, other
//! files see to.

use std::collections::VecDeque;
use std::hash::Hasher;

use hashbrown::HashTable;
use siphasher::sip128::{Hasher128, SipHasher13};

use crate::domain::time::Timestamp;

/// Ids forgotten together are at most so many: few enough that it takes no time worth speaking of.
const GENERATION_IDS_MAX: usize = 1 << PLACE_BITS;
/// Bits of a [`Place`] that say where in its generation an id stands.
const PLACE_BITS: u32 = 12;
/// A window is spread over so many generations at least, so at most this share of it is forgotten at once.
const GENERATIONS: u64 = 16;
/// The table is made smaller when less than this part of it is used.
const TABLE_USED_MIN: usize = 4;

/// A keyed hash of (source, id). Keyed, so that no producer can choose ids that collide with another's.
pub type IdHash = [u8; 16];

/// Hashes ids with a store's own key.
#[derive(Clone, Copy, Debug)]
pub struct IdHasher(SipHasher13);

impl IdHasher {
    /// A hasher with this key.
    pub fn new(key: &[u8; 16]) -> Self {
        Self(SipHasher13::new_with_key(key))
    }

    /// The hash of an event's identity. The length between the two keeps ("ab", "c") from ("a", "bc").
    pub fn hash(&self, source: &str, id: &str) -> IdHash {
        let mut hasher = self.0;
        hasher.write(&(source.len() as u64).to_le_bytes());
        hasher.write(source.as_bytes());
        hasher.write(id.as_bytes());
        hasher.finish128().as_bytes()
    }
}

/// Where an id stands: the number of its generation, of which only the lowest bits count, and the place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place(u32);

/// Ids of about the same age.
#[derive(Debug)]
struct Generation {
    ids: Vec<u128>,
    oldest: Timestamp,
    newest: Timestamp,
}

/// The generations that are remembered, oldest first.
#[derive(Debug, Default)]
struct Generations {
    kept: VecDeque<Generation>,
    /// The number of the first of them.
    first: u32,
}

impl Generations {
    fn place(generation: u32, at: usize) -> Place {
        Place(generation << PLACE_BITS | at as u32)
    }

    fn id(&self, place: Place) -> u128 {
        let number_bits = u32::MAX >> PLACE_BITS;
        let from_first = (place.0 >> PLACE_BITS).wrapping_sub(self.first) & number_bits;
        let generation = &self.kept[from_first as usize];
        generation.ids[place.0 as usize % GENERATION_IDS_MAX]
    }

    /// Adds `id` to the last generation; `None`: there is none.
    fn add(&mut self, id: u128, at: Timestamp) -> Option<Place> {
        let number = self.first.wrapping_add(self.kept.len() as u32).wrapping_sub(1);
        let last = self.kept.back_mut()?;
        last.ids.push(id);
        last.oldest = last.oldest.min(at);
        last.newest = last.newest.max(at);
        Some(Self::place(number, last.ids.len() - 1))
    }
}

/// The keys are hashes already.
fn hash_of(id: u128) -> u64 {
    (id >> 64) as u64
}

/// Ids in the order of acceptance, forgotten a generation at a time. Found by one look into a table of their
/// places, however many there are: an event whose id is new has to be found nowhere, and most are new.
#[derive(Debug)]
pub struct Ids {
    generations: Generations,
    places: HashTable<Place>,
    len_max: usize,
    window_ms: u64,
}

impl Ids {
    /// Remembers ids for `window_ms`, at most `len_max` of them.
    pub fn new(window_ms: u64, len_max: usize) -> Self {
        Self {
            generations: Generations::default(),
            places: HashTable::new(),
            len_max,
            window_ms,
        }
    }

    /// Whether `id` is remembered.
    pub fn contains(&self, id: &IdHash) -> bool {
        let id = u128::from_le_bytes(*id);
        let is_it = |place: &Place| self.generations.id(*place) == id;
        self.places.find(hash_of(id), is_it).is_some()
    }

    /// Remembers `id`, accepted at `at`. Returns false if it was remembered already.
    pub fn insert(&mut self, id: IdHash, at: Timestamp) -> bool {
        if self.contains(&id) {
            return false;
        }
        self.make_room(at);
        let id = u128::from_le_bytes(id);
        if let Some(place) = self.generations.add(id, at) {
            let generations = &self.generations;
            let rehash = |place: &Place| hash_of(generations.id(*place));
            self.places.insert_unique(hash_of(id), place, rehash);
        }
        true
    }

    /// Drops generations until one more id fits, and opens a new one when the last is full or old enough.
    fn make_room(&mut self, at: Timestamp) {
        while self.len() >= self.len_max && !self.generations.kept.is_empty() {
            self.forget_oldest();
        }
        let ids_max = (self.len_max / GENERATIONS as usize).clamp(1, GENERATION_IDS_MAX);
        let stale =
            |g: &Generation| g.ids.len() >= ids_max || at.0 >= g.oldest.0 + self.window_ms / GENERATIONS;
        if self.len_max > 0 && self.generations.kept.back().is_none_or(stale) {
            self.generations.kept.push_back(Generation {
                ids: Vec::new(),
                oldest: at,
                newest: at,
            });
        }
    }

    fn forget_oldest(&mut self) {
        let Some(oldest) = self.generations.kept.front() else {
            return;
        };
        for (at, id) in oldest.ids.iter().enumerate() {
            let place = Generations::place(self.generations.first, at);
            let found = self.places.find_entry(hash_of(*id), |known| *known == place);
            if let Ok(entry) = found {
                entry.remove();
            }
        }
        self.generations.kept.pop_front();
        self.generations.first = self.generations.first.wrapping_add(1);
        if self.places.len() < self.places.capacity() / TABLE_USED_MIN {
            let generations = &self.generations;
            let rehash = |place: &Place| hash_of(generations.id(*place));
            self.places.shrink_to(self.places.len() * 2, rehash);
        }
    }

    /// Forgets what has left the window.
    pub fn expire(&mut self, now: Timestamp) {
        while self
            .generations
            .kept
            .front()
            .is_some_and(|g| self.expired(g.newest, now))
        {
            self.forget_oldest();
        }
    }

    /// Whether an id accepted at `at` has left the window.
    pub fn expired(&self, at: Timestamp, now: Timestamp) -> bool {
        now.0.saturating_sub(at.0) >= self.window_ms
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// How many may be.
    pub fn len_max(&self) -> usize {
        self.len_max
    }

    /// When the oldest remembered id was accepted; `None`: nothing is remembered.
    pub fn since(&self) -> Option<Timestamp> {
        let oldest = self.generations.kept.front();
        oldest.map(|generation| generation.oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> IdHash {
        IdHasher::new(&[7; 16]).hash("/s", &n.to_string())
    }

    /// A5: the same (source, id) is recognised; the border between the two counts.
    #[test]
    fn a5_source_and_id_are_told_apart() {
        let hasher = IdHasher::new(&[7; 16]);
        assert_ne!(hasher.hash("ab", "c"), hasher.hash("a", "bc"));
        assert_ne!(hasher.hash("a", "b"), IdHasher::new(&[8; 16]).hash("a", "b"));
        let mut ids = Ids::new(1000, 100);
        assert!(ids.insert(id(1), Timestamp(0)));
        assert!(!ids.insert(id(1), Timestamp(1)));
        assert!(ids.insert(id(2), Timestamp(1)));
        assert_eq!((ids.len(), ids.since()), (2, Some(Timestamp(0))));
    }

    /// A5: forgotten after the window, and not before.
    #[test]
    fn a5_the_window_ends() {
        let mut ids = Ids::new(1600, 100);
        for n in 0..32 {
            ids.insert(id(n), Timestamp(n * 50));
        }
        ids.expire(Timestamp(1599));
        assert_eq!(ids.len(), 32);
        ids.expire(Timestamp(1650));
        assert!(!ids.contains(&id(0)) && !ids.contains(&id(1)) && ids.contains(&id(2)));
        ids.expire(Timestamp(10_000));
        assert_eq!((ids.len(), ids.since()), (0, None));
    }

    /// A5: every id is found and forgotten in its turn, over more generations than have numbers of their own.
    #[test]
    fn a5_ids_are_found_wherever_they_stand() {
        let mut ids = Ids::new(u64::MAX / 2, 16 * GENERATION_IDS_MAX);
        ids.generations.first = u32::MAX - 5;
        let total = 40 * GENERATION_IDS_MAX as u64;
        for n in 0..total {
            assert!(ids.insert(id(n), Timestamp(n)));
        }
        let kept = ids.len() as u64;
        assert!(kept > 15 * GENERATION_IDS_MAX as u64);
        for n in 0..total {
            assert_eq!(ids.contains(&id(n)), n >= total - kept, "{n}");
        }
        ids.expire(Timestamp(u64::MAX));
        assert_eq!(
            (ids.len(), ids.places.capacity()),
            (0, 0),
            "nothing is held on to"
        );
    }

    #[test]
    fn never_more_than_the_bound_and_the_newest_stay() {
        for len_max in [0, 1, 3, 100, 1000] {
            let mut ids = Ids::new(u64::MAX / 2, len_max);
            for n in 0..2000 {
                ids.insert(id(n), Timestamp(n));
                assert!(ids.len() <= len_max);
            }
            assert!(ids.len() >= len_max - len_max.div_ceil(16).min(len_max));
            assert_eq!(ids.contains(&id(1999)), len_max > 0);
        }
    }
}
