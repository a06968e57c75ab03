//! What the events of one slot owe one lane: a few bits an event. Pure, and small, because there is one of
//! these for every lane of every slot.

use crate::store::LaneId;

/// One of the three bits an event has for a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Owed: pending or dead. The only one that is on disk as a bit.
    Owed = 0,
    /// Owed, and waits for a later try.
    Deferred = 1,
    /// Owed, and a dead letter.
    Dead = 2,
}

/// How many deliveries are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Owed and not dead.
    pub pending: u64,
    /// Of these, those that wait.
    pub deferred: u64,
    /// Dead letters.
    pub dead: u64,
}

/// The bits of one lane for the events of one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneBits {
    /// The lane.
    pub lane: LaneId,
    /// Three bitmaps of equal length behind each other, in the order of [`Mark`].
    words: Box<[u64]>,
}

impl LaneBits {
    /// No bit set, for `events` events.
    pub fn new(lane: LaneId, events: usize) -> Self {
        Self {
            lane,
            words: vec![0; 3 * events.div_ceil(64)].into(),
        }
    }

    /// The bitmap of one mark.
    pub fn words(&self, mark: Mark) -> &[u64] {
        let len = self.words.len() / 3;
        &self.words[mark as usize * len..][..len]
    }

    /// Takes over a bitmap as read from disk; words it does not have are empty.
    pub fn set_words(&mut self, mark: Mark, words: &[u64]) {
        let len = self.words.len() / 3;
        let own = &mut self.words[mark as usize * len..][..len];
        for (at, word) in own.iter_mut().enumerate() {
            *word = words.get(at).copied().unwrap_or(0);
        }
    }

    /// Whether event `index` is marked.
    pub fn get(&self, mark: Mark, index: usize) -> bool {
        self.words(mark)
            .get(index / 64)
            .is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    /// Marks event `index`, or takes the mark away.
    pub fn set(&mut self, mark: Mark, index: usize, on: bool) {
        let len = self.words.len() / 3;
        if let Some(word) = self.words.get_mut(mark as usize * len + index / 64) {
            *word = *word & !(1 << (index % 64)) | u64::from(on) << (index % 64);
        }
    }

    /// Takes every mark of event `index` away.
    pub fn clear(&mut self, index: usize) {
        for mark in [Mark::Owed, Mark::Deferred, Mark::Dead] {
            self.set(mark, index, false);
        }
    }

    /// Whether nothing is owed.
    pub fn is_empty(&self) -> bool {
        self.words(Mark::Owed).iter().all(|word| *word == 0)
    }

    /// The deliveries by state.
    pub fn counts(&self) -> Counts {
        let ones = |mark| {
            self.words(mark)
                .iter()
                .map(|word| u64::from(word.count_ones()))
                .sum::<u64>()
        };
        let dead = ones(Mark::Dead);
        Counts {
            pending: ones(Mark::Owed) - dead,
            deferred: ones(Mark::Deferred),
            dead,
        }
    }

    /// The events that are owed and neither wait nor are dead, in order.
    pub fn fresh(&self) -> impl Iterator<Item = usize> + '_ {
        let (owed, deferred, dead) = (
            self.words(Mark::Owed),
            self.words(Mark::Deferred),
            self.words(Mark::Dead),
        );
        (0..owed.len()).flat_map(move |at| ones(at, owed[at] & !deferred[at] & !dead[at]))
    }

    /// The events that are owed and not dead, in order.
    pub fn pending(&self) -> impl Iterator<Item = usize> + '_ {
        let (owed, dead) = (self.words(Mark::Owed), self.words(Mark::Dead));
        (0..owed.len()).flat_map(move |at| ones(at, owed[at] & !dead[at]))
    }
}

/// The places of the set bits of word number `at`.
pub fn ones(at: usize, word: u64) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(word), |word| Some(word & word.wrapping_sub(1)))
        .take_while(|word| *word != 0)
        .map(move |word| at * 64 + word.trailing_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_set_counted_and_listed() {
        let mut bits = LaneBits::new(LaneId(3), 130);
        for index in [0, 63, 64, 129] {
            bits.set(Mark::Owed, index, true);
        }
        bits.set(Mark::Deferred, 63, true);
        bits.set(Mark::Dead, 64, true);
        assert_eq!(
            bits.counts(),
            Counts {
                pending: 3,
                deferred: 1,
                dead: 1
            }
        );
        assert_eq!(bits.fresh().collect::<Vec<_>>(), [0, 129]);
        assert_eq!(bits.pending().collect::<Vec<_>>(), [0, 63, 129]);
        [0, 63, 64].into_iter().for_each(|index| bits.clear(index));
        assert_eq!(
            bits.counts(),
            Counts {
                pending: 1,
                deferred: 0,
                dead: 0
            }
        );
        assert!(!bits.is_empty() && bits.get(Mark::Owed, 129));
        bits.clear(129);
        assert!(bits.is_empty());
    }

    #[test]
    fn a_shorter_bitmap_from_disk_leaves_the_rest_empty() {
        let mut bits = LaneBits::new(LaneId(0), 128);
        bits.set_words(Mark::Owed, &[5]);
        assert_eq!(bits.fresh().collect::<Vec<_>>(), [0, 2]);
    }
}
