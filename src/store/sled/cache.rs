//! Chunks lately accepted or read, so that the first try at an event needs no disk. Bounded in bytes;
//! the oldest go first.

use std::collections::VecDeque;

use bytes::Bytes;
use rustc_hash::FxHashMap;

/// Chunks by the generation of their slot, which is never used twice.
#[derive(Debug)]
pub struct ChunkCache {
    chunks: FxHashMap<u64, Bytes>,
    order: VecDeque<u64>,
    bytes: usize,
    bytes_max: usize,
}

impl ChunkCache {
    /// An empty cache of at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            chunks: FxHashMap::default(),
            order: VecDeque::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// Keeps a chunk, unless it would take more than a quarter of the cache.
    pub fn insert(&mut self, generation: u64, chunk: Bytes) {
        if chunk.len() > self.bytes_max / 4 {
            return;
        }
        self.bytes += chunk.len();
        match self.chunks.insert(generation, chunk) {
            Some(before) => self.bytes -= before.len(),
            None => self.order.push_back(generation),
        }
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.order.pop_front()
        {
            self.forget(oldest);
        }
    }

    /// The chunk of a generation, if it is here.
    pub fn get(&self, generation: u64) -> Option<Bytes> {
        self.chunks.get(&generation).cloned()
    }

    /// Drops a chunk. Its place in the order goes when its turn comes, or with others like it.
    pub fn forget(&mut self, generation: u64) {
        if let Some(chunk) = self.chunks.remove(&generation) {
            self.bytes -= chunk.len();
        }
        if self.order.len() > 2 * self.chunks.len() + 64 {
            self.order
                .retain(|generation| self.chunks.contains_key(generation));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_and_the_bound_is_kept() {
        let mut cache = ChunkCache::new(1000);
        for generation in 0..100 {
            cache.insert(generation, Bytes::from(vec![0; 100]));
            assert!(cache.bytes <= 1000);
        }
        assert!(cache.get(89).is_none() && cache.get(90).is_some() && cache.get(99).is_some());
        (0..100).for_each(|generation| cache.forget(generation));
        assert_eq!(cache.bytes, 0);
        cache.insert(7, Bytes::from(vec![0; 251]));
        assert!(cache.get(7).is_none(), "too large to push others out");
        for _ in 0..1000 {
            cache.insert(8, Bytes::from_static(b"x"));
            cache.forget(8);
        }
        assert!(cache.order.len() <= 66);
    }
}
