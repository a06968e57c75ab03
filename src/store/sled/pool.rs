//! Numbers whose keys are made beforehand and only ever overwritten, so that the tree keeps its shape: no
//! splits, no merges on the way of an event. Knows when keys are made, not which.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::ops::Range;

use super::plan::Plan;

/// What has a number, and keys by that number.
pub trait Numbered {
    /// Numbers made at a time.
    const MADE_AT_ONCE: u32;
    /// How many of the last numbers are not given out: they share a leaf with whatever follows them, and that
    /// leaf splits when more are made. It is written anew then with all that is in it, so it had better be empty.
    const UNUSED_LAST: u32;

    /// Makes the keys of `numbers`, empty, in an order in which a number counts only once all its keys are there.
    fn make(plan: &mut Plan, numbers: Range<u32>);
}

/// Which numbers there are, and which of them are free.
#[derive(Debug)]
pub struct Pool<N> {
    len: u32,
    free: BTreeSet<u32>,
    of: PhantomData<N>,
}

impl<N> Default for Pool<N> {
    fn default() -> Self {
        Self {
            len: 0,
            free: BTreeSet::new(),
            of: PhantomData,
        }
    }
}

impl<N: Numbered> Pool<N> {
    /// Made are the numbers below `len`, of which those in `used` are not free.
    pub fn new(len: u32, used: &BTreeSet<u32>) -> Self {
        Self {
            len,
            free: (0..len).filter(|number| !used.contains(number)).collect(),
            of: PhantomData,
        }
    }

    /// Takes the lowest free number; if only the last are free, more are made.
    pub fn take(&mut self, plan: &mut Plan) -> u32 {
        const { assert!(N::UNUSED_LAST < N::MADE_AT_ONCE) };
        let lowest = self.free.first().copied().unwrap_or(self.len);
        if lowest + N::UNUSED_LAST >= self.len {
            let new = self.len..self.len + N::MADE_AT_ONCE;
            N::make(plan, new.clone());
            self.len = new.end;
            self.free.extend(new);
        }
        self.free.remove(&lowest);
        lowest
    }

    /// Takes this number, if it is free.
    pub fn take_this(&mut self, number: u32) -> bool {
        self.free.remove(&number)
    }

    /// Gives a number back. The next write may take it, so nothing may lead a reader to it any more: no earlier
    /// write of the same change, and nothing in memory.
    pub fn release(&mut self, number: u32) {
        self.free.insert(number);
    }

    /// Whether a number is free.
    pub fn is_free(&self, number: u32) -> bool {
        self.free.contains(&number)
    }

    /// Makes at once, in a store without any, all numbers there would be had `used` been taken one by one.
    pub fn make_room(plan: &mut Plan, used: u32) {
        N::make(plan, 0..(used + N::UNUSED_LAST).next_multiple_of(N::MADE_AT_ONCE));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::sled::keys;
    use crate::store::sled::plan::Step;

    struct Fives;

    impl Numbered for Fives {
        const MADE_AT_ONCE: u32 = 5;
        const UNUSED_LAST: u32 = 2;

        fn make(plan: &mut Plan, numbers: Range<u32>) {
            numbers.for_each(|number| plan.put(Step::Ring, keys::ids(number), Vec::new()));
        }
    }

    fn made(plan: Plan) -> Vec<u32> {
        let writes = plan.into_steps().flat_map(|(_, writes)| writes);
        writes.map(|write| keys::number(&write.key).unwrap()).collect()
    }

    #[test]
    fn the_lowest_free_number_goes_first_and_the_last_wait() {
        let mut pool = Pool::<Fives>::new(6, &BTreeSet::from([0, 2]));
        for (released, taken, wanted) in [
            (None, 1, vec![]),
            (None, 3, vec![]),
            (Some(1), 1, vec![]),
            (None, 4, vec![6, 7, 8, 9, 10]),
            (Some(0), 0, vec![]),
            (None, 5, vec![]),
        ] {
            released.into_iter().for_each(|number| pool.release(number));
            let mut plan = Plan::default();
            assert_eq!(pool.take(&mut plan), taken);
            assert!(!pool.is_free(taken));
            assert_eq!(made(plan), wanted, "before {taken} is given out");
        }
    }

    proptest! {
        /// Whatever is taken and given back: nobody gets what another has, what is made goes on where it
        /// ended, and there is never more of it than taking the lowest needs. A start that reads which numbers
        /// there are and which of them are used goes on as the pool before it would have.
        #[test]
        fn numbers_are_made_in_order_and_only_when_needed(steps in prop::collection::vec(any::<u16>(), 1..200)) {
            let (mut pool, mut plan) = (Pool::<Fives>::default(), Plan::default());
            let (mut used, mut used_max) = (BTreeSet::new(), 0);
            for step in steps {
                let at = usize::from(step / 3);
                if let Some(given_back) = used.iter().copied().nth(at % 16).filter(|_| step % 3 == 0) {
                    used.remove(&given_back);
                    pool.release(given_back);
                    continue;
                }
                let lowest = (0..).find(|number| !used.contains(number)).unwrap();
                prop_assert_eq!(pool.take(&mut plan), lowest);
                used.insert(lowest);
                used_max = used_max.max(used.len() as u32);
                let mut room = Plan::default();
                Pool::<Fives>::make_room(&mut room, used_max);
                prop_assert_eq!(made(plan.clone()), made(room));
                let again = Pool::<Fives>::new(pool.len, &used);
                prop_assert_eq!((again.len, again.free), (pool.len, pool.free.clone()));
            }
        }
    }
}
