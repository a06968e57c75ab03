//! The memory of ids: which (source, id) pairs were accepted lately. Pure; what of it is on disk, other
//! files see to.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::domain::time::Timestamp;

/// A set of ids is closed at this size: as many as a hash table of 65,536 places holds before it doubles.
const GENERATION_IDS_MAX: usize = 57_000;
/// A full window is spread over so many generations, so at most this share of it is forgotten at once.
const GENERATIONS: u64 = 16;

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

/// The keys are hashes already.
#[derive(Default)]
struct Unhashed(u64);

impl Hasher for Unhashed {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes
            .iter()
            .for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }
    fn write_u128(&mut self, number: u128) {
        self.0 = (number >> 64) as u64;
    }
}

#[derive(Debug, Default)]
struct Generation {
    ids: HashSet<u128, BuildHasherDefault<Unhashed>>,
    oldest: Timestamp,
    newest: Timestamp,
}

/// Ids in the order of acceptance, forgotten a generation at a time.
#[derive(Debug)]
pub struct Ids {
    generations: VecDeque<Generation>,
    len: usize,
    len_max: usize,
    window_ms: u64,
}

impl Ids {
    /// Remembers ids for `window_ms`, at most `len_max` of them.
    pub fn new(window_ms: u64, len_max: usize) -> Self {
        Self {
            generations: VecDeque::new(),
            len: 0,
            len_max,
            window_ms,
        }
    }

    /// Whether `id` is remembered.
    pub fn contains(&self, id: &IdHash) -> bool {
        let id = u128::from_le_bytes(*id);
        self.generations
            .iter()
            .rev()
            .any(|generation| generation.ids.contains(&id))
    }

    /// Remembers `id`, accepted at `at`. Returns false if it was remembered already.
    pub fn insert(&mut self, id: IdHash, at: Timestamp) -> bool {
        if self.contains(&id) {
            return false;
        }
        self.make_room(at);
        if let Some(generation) = self.generations.back_mut() {
            generation.ids.insert(u128::from_le_bytes(id));
            generation.oldest = generation.oldest.min(at);
            generation.newest = generation.newest.max(at);
            self.len += 1;
        }
        true
    }

    /// Drops generations until one more id fits, and opens a new one when the last is full or old enough.
    fn make_room(&mut self, at: Timestamp) {
        while self.len >= self.len_max && !self.generations.is_empty() {
            self.forget_oldest();
        }
        let ids_max = (self.len_max / GENERATIONS as usize).clamp(1, GENERATION_IDS_MAX);
        let stale =
            |g: &Generation| g.ids.len() >= ids_max || at.0 >= g.oldest.0 + self.window_ms / GENERATIONS;
        if self.len_max > 0 && self.generations.back().is_none_or(stale) {
            let fresh = Generation {
                oldest: at,
                newest: at,
                ..Generation::default()
            };
            self.generations.push_back(fresh);
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(generation) = self.generations.pop_front() {
            self.len -= generation.ids.len();
        }
    }

    /// Forgets what has left the window.
    pub fn expire(&mut self, now: Timestamp) {
        while self
            .generations
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
        self.len
    }

    /// How many may be.
    pub fn len_max(&self) -> usize {
        self.len_max
    }

    /// When the oldest remembered id was accepted; `None`: nothing is remembered.
    pub fn since(&self) -> Option<Timestamp> {
        self.generations.front().map(|generation| generation.oldest)
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
