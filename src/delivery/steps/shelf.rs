//! The answers that one step keeps: bounded in number and bytes, the oldest go first. Pure: time comes in as a duration
//! since the shelf was put up.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::Fields;

/// Answers of one step that are kept.
pub const ENTRIES_MAX: usize = 10_000;
/// Bytes of the answers of one step that are kept.
pub const BYTES_MAX: usize = 4 << 20;
/// Bytes that an entry takes beside its values.
const ENTRY_BYTES: usize = 160;

/// What an answer is kept under: a hash, so that no event's data stays in memory for it, however long.
pub type Key = [u8; 32];

#[derive(Debug)]
struct Entry {
    fields: Fields,
    at: Duration,
    /// Which of the puts it was: the queue of the oldest may hold others under the same key.
    serial: u64,
}

/// Kept answers by key.
#[derive(Debug)]
pub struct Shelf {
    entries: HashMap<Key, Entry>,
    oldest: VecDeque<(Key, u64)>,
    bytes: usize,
    serial: u64,
    /// Older ones are of no use to anybody.
    age_max: Duration,
}

impl Shelf {
    /// An empty one, whose answers are of no use once they are older than `age_max`.
    #[must_use]
    pub fn new(age_max: Duration) -> Self {
        Self {
            entries: HashMap::new(),
            oldest: VecDeque::new(),
            bytes: 0,
            serial: 0,
            age_max,
        }
    }

    /// What stands under `key`, unless it is as old as `age_max` or older.
    #[must_use]
    pub fn get(&self, key: &Key, now: Duration, age_max: Duration) -> Option<Fields> {
        let entry = self.entries.get(key)?;
        (now.saturating_sub(entry.at) < age_max).then(|| entry.fields.clone())
    }

    /// Puts an answer there, in place of the one before.
    pub fn put(&mut self, key: Key, fields: Fields, now: Duration) {
        let bytes = fields.bytes.saturating_add(ENTRY_BYTES);
        if bytes > BYTES_MAX {
            return;
        }
        self.serial += 1;
        let (at, serial) = (now, self.serial);
        self.bytes += bytes;
        self.oldest.push_back((key, serial));
        if let Some(replaced) = self.entries.insert(key, Entry { fields, at, serial }) {
            self.bytes -= replaced.fields.bytes + ENTRY_BYTES;
        }
        self.make_room(now);
    }

    fn make_room(&mut self, now: Duration) {
        while let Some((key, serial)) = self.oldest.front().copied() {
            let entry = self.entries.get(&key).filter(|entry| entry.serial == serial);
            let is_over = |entry: &Entry| now.saturating_sub(entry.at) >= self.age_max;
            // The queue is bounded with the entries: a key that is put again and again stands in it many times.
            let is_full = self.oldest.len() > ENTRIES_MAX || self.bytes > BYTES_MAX;
            if entry.is_some_and(|entry| !is_over(entry) && !is_full) {
                return;
            }
            if let Some(gone) = entry.map(|entry| entry.fields.bytes + ENTRY_BYTES) {
                self.entries.remove(&key);
                self.bytes -= gone;
            }
            self.oldest.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::Value;

    const HOUR: Duration = Duration::from_secs(3600);

    fn key(n: u32) -> Key {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&n.to_be_bytes());
        key
    }

    fn fields(value: u32, bytes: usize) -> Fields {
        Fields {
            value: Value::from(value),
            bytes,
        }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// C12: an answer is there as long as it is younger than asked for, and the newest counts.
    #[test]
    fn c12_answers_are_found_until_they_are_too_old() {
        let mut shelf = Shelf::new(HOUR);
        shelf.put(key(1), fields(1, 10), at(0));
        shelf.put(key(1), fields(2, 10), at(100));
        shelf.put(key(2), fields(3, 10), at(100));
        let found = |n, now, age| shelf.get(&key(n), at(now), at(age)).map(|fields| fields.value);
        assert_eq!(found(1, 100, 60), Some(Value::from(2)));
        assert_eq!(found(1, 159, 60), Some(Value::from(2)));
        assert_eq!(found(1, 160, 60), None);
        assert_eq!(found(1, 160, 600), Some(Value::from(2)));
        assert_eq!(found(3, 100, 60), None);
        assert_eq!(found(2, 100, 0), None);
    }

    /// C12: number and bytes are bounded; the oldest go first, and what nobody can use any more goes by itself.
    #[test]
    fn c12_the_shelf_is_bounded() {
        let mut shelf = Shelf::new(HOUR);
        for n in 0..2 * ENTRIES_MAX as u32 {
            shelf.put(key(n), fields(n, 1), at(0));
        }
        assert_eq!(shelf.entries.len(), ENTRIES_MAX);
        assert!(shelf.get(&key(0), at(0), HOUR).is_none());
        assert!(shelf.get(&key(2 * ENTRIES_MAX as u32 - 1), at(0), HOUR).is_some());
        for n in 0..2 * ENTRIES_MAX as u32 {
            shelf.put(key(7), fields(n, 1), at(1));
        }
        assert!(shelf.oldest.len() <= ENTRIES_MAX, "{}", shelf.oldest.len());
        for n in 0..100 {
            shelf.put(key(n), fields(n, BYTES_MAX / 10), at(2));
        }
        assert!(
            shelf.bytes <= BYTES_MAX && shelf.entries.len() == 9,
            "{}",
            shelf.bytes
        );
        shelf.put(key(200), fields(1, BYTES_MAX + 1), at(2));
        assert!(shelf.get(&key(200), at(2), HOUR).is_none());
        shelf.put(key(201), fields(1, 1), at(4000));
        assert_eq!((shelf.entries.len(), shelf.bytes), (1, 1 + ENTRY_BYTES));
    }
}
