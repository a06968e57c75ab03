//! Ids that outlive their events: when a slot is freed, the hashes of its ids move to pages, so that a
//! repeated event is still known after a restart.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use super::ids::IdHash;
use super::keys;
use super::plan::{Plan, Step};
use super::pool::{Numbered, Pool};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::record::{self, IdPage};

/// A page with fewer ids is filled up before a new one is begun.
const FILL_UP_TO: usize = 64;
/// No page has more. Sixteen of them share a leaf, which has to stay far below a quarter segment.
const IDS_PER_PAGE_MAX: usize = 512;

/// The numbers of pages.
pub type PageNumbers = Pool<IdPages>;

/// What [`PageNumbers`] numbers. A page without content is free.
#[derive(Debug)]
pub struct IdPages;

impl Numbered for IdPages {
    const MADE_AT_ONCE: u32 = 64;
    /// As many as a leaf holds.
    const UNUSED_LAST: u32 = 16;

    fn make(plan: &mut Plan, pages: Range<u32>) {
        pages.for_each(|page| plan.put(Step::Ring, keys::ids(page), Vec::new()));
    }
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    page: u32,
    ids: usize,
    newest: Timestamp,
}

/// The pages in use, oldest first.
#[derive(Debug, Default)]
pub struct Pages {
    numbers: PageNumbers,
    kept: VecDeque<Kept>,
    ids: usize,
    /// The content of the newest page.
    tail: IdPage,
}

impl Pages {
    /// Takes in a page found at the start; call in the order of time.
    pub fn found(&mut self, page: u32, content: IdPage) {
        self.ids += content.hashes.len();
        let newest = Timestamp(content.newest_ms);
        self.kept.push_back(Kept {
            page,
            ids: content.hashes.len(),
            newest,
        });
        self.tail = content;
    }

    /// Ids in all pages.
    pub fn ids(&self) -> usize {
        self.ids
    }

    /// Every page below `len` that was not found is free.
    pub fn all_found(&mut self, len: u32) {
        let used: BTreeSet<u32> = self.kept.iter().map(|kept| kept.page).collect();
        self.numbers = PageNumbers::new(len, &used);
    }

    /// Writes `ids` with the time of their acceptance to pages, and lets the oldest pages go when more than
    /// `ids_max` would be kept without them.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub fn add(
        &mut self,
        plan: &mut Plan,
        mut ids: &[(IdHash, Timestamp)],
        ids_max: usize,
    ) -> Result<(), StoreError> {
        while !ids.is_empty() {
            if self.kept.is_empty() || self.tail.hashes.len() >= FILL_UP_TO {
                self.begin(plan);
            }
            let room = IDS_PER_PAGE_MAX - self.tail.hashes.len();
            let (now, later) = ids.split_at(room.min(ids.len()));
            self.fill(plan, now)?;
            ids = later;
        }
        while self.kept.len() > 1
            && self
                .kept
                .front()
                .is_some_and(|oldest| self.ids - oldest.ids >= ids_max)
        {
            self.drop_oldest(plan);
        }
        Ok(())
    }

    fn begin(&mut self, plan: &mut Plan) {
        let page = self.numbers.take(plan);
        self.kept.push_back(Kept {
            page,
            ids: 0,
            newest: Timestamp(0),
        });
        self.tail = IdPage {
            oldest_ms: u64::MAX,
            ..IdPage::default()
        };
    }

    fn fill(&mut self, plan: &mut Plan, ids: &[(IdHash, Timestamp)]) -> Result<(), StoreError> {
        for (hash, at) in ids {
            self.tail.hashes.push(*hash);
            self.tail.oldest_ms = self.tail.oldest_ms.min(at.0);
            self.tail.newest_ms = self.tail.newest_ms.max(at.0);
        }
        let bytes = record::encode(&self.tail)?;
        self.ids += ids.len();
        if let Some(kept) = self.kept.back_mut() {
            kept.ids += ids.len();
            kept.newest = Timestamp(self.tail.newest_ms);
            plan.put(Step::Ids, keys::ids(kept.page), bytes);
        }
        Ok(())
    }

    fn drop_oldest(&mut self, plan: &mut Plan) {
        if let Some(oldest) = self.kept.pop_front() {
            self.ids -= oldest.ids;
            self.numbers.release(oldest.page);
            plan.put(Step::Ids, keys::ids(oldest.page), Vec::new());
        }
    }

    /// Lets pages go of which every id was accepted before `before`, at most `limit` of them.
    pub fn expire(&mut self, plan: &mut Plan, before: Timestamp, limit: usize) {
        for _ in 0..limit {
            if self.kept.front().is_none_or(|oldest| oldest.newest >= before) {
                break;
            }
            self.drop_oldest(plan);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(n: std::ops::Range<u64>) -> Vec<(IdHash, Timestamp)> {
        n.map(|n| (u128::from(n).to_be_bytes(), Timestamp(n))).collect()
    }

    /// Pages and how many ids are in them, as they are written; not those that were only made.
    fn written(plan: Plan) -> Vec<(u32, usize)> {
        let steps = plan.into_steps().filter(|(name, _)| *name == "after-ids");
        let writes = steps.flat_map(|(_, writes)| writes);
        writes
            .map(|write| {
                let value = write.value.unwrap();
                let ids = if value.is_empty() {
                    0
                } else {
                    record::decode::<IdPage>(&value).unwrap().hashes.len()
                };
                (keys::number(&write.key).unwrap(), ids)
            })
            .collect()
    }

    #[test]
    fn small_lots_share_a_page_and_large_ones_are_split() {
        let mut pages = Pages::default();
        for (lot, wanted) in [
            (0..1, vec![(0, 1)]),
            (1..64, vec![(0, 64)]),
            (64..65, vec![(1, 1)]),
            (65..1265, vec![(1, 512), (2, 512), (3, 177)]),
        ] {
            let mut plan = Plan::default();
            pages.add(&mut plan, &ids(lot), 1_000_000).unwrap();
            assert_eq!(written(plan), wanted);
        }
    }

    #[test]
    fn pages_are_made_before_they_are_written_and_the_last_sixteen_wait() {
        let mut pages = Pages::default();
        for (lot, made) in [
            (0..1, 0..64),
            (1..48 * 512, 0..0),
            (48 * 512..48 * 512 + 1, 64..128),
        ] {
            let mut plan = Plan::default();
            pages.add(&mut plan, &ids(lot), usize::MAX).unwrap();
            let mut wanted = Plan::default();
            IdPages::make(&mut wanted, made);
            let ring = |plan: Plan| plan.into_steps().find(|(name, _)| *name == "after-ring");
            assert_eq!(ring(plan), ring(wanted));
        }
    }

    #[test]
    fn the_oldest_pages_go_when_there_are_too_many_and_when_they_are_too_old() {
        let mut pages = Pages::default();
        pages.add(&mut Plan::default(), &ids(0..100), 250).unwrap();
        pages.add(&mut Plan::default(), &ids(100..200), 250).unwrap();
        let mut plan = Plan::default();
        pages.add(&mut plan, &ids(200..350), 250).unwrap();
        assert_eq!(written(plan), [(2, 150), (0, 0)]);
        let mut plan = Plan::default();
        pages.expire(&mut plan, Timestamp(200), 9);
        assert_eq!(written(plan), [(1, 0)]);
        let mut plan = Plan::default();
        pages.add(&mut plan, &ids(400..401), 250).unwrap();
        assert_eq!(written(plan), [(0, 1)], "a free page is used again");
    }
}
