//! Ids that outlive their events: when a slot is freed, the hashes of its ids move to pages, so that a
//! repeated event is still known after a restart. The keys of pages are made beforehand and only ever
//! overwritten: a leaf that splits is written anew with all that is in it, so it had better be empty then.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use super::ids::IdHash;
use super::keys;
use super::plan::{Plan, Step};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::record::{self, IdPage};

/// A page with fewer ids is filled up before a new one is begun.
const FILL_UP_TO: usize = 64;
/// No page has more. Sixteen of them share a leaf, which has to stay far below a quarter segment.
const IDS_PER_PAGE_MAX: usize = 512;
/// Pages made at a time.
const GROW_PAGES: u32 = 64;
/// As many as a leaf holds: the last pages share theirs with what follows, and it splits when there are more.
const UNUSED_LAST: u32 = 16;

#[derive(Clone, Copy, Debug)]
struct Kept {
    page: u32,
    ids: usize,
    newest: Timestamp,
}

/// Makes the keys of pages, in their order. A page without content is free.
fn make(plan: &mut Plan, pages: Range<u32>) {
    pages.for_each(|page| plan.put(Step::Ring, keys::ids(page), Vec::new()));
}

/// Makes the keys of `used` pages that are about to be written, and of those that are left unused behind them.
pub fn make_room(plan: &mut Plan, used: u32) {
    let len = (used + UNUSED_LAST).next_multiple_of(GROW_PAGES);
    make(plan, 0..len);
}

/// The pages in use, oldest first.
#[derive(Debug, Default)]
pub struct Pages {
    len: u32,
    free: BTreeSet<u32>,
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
        self.len = len;
        self.free = (0..len).filter(|page| !used.contains(page)).collect();
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
        let usable = |pages: &Self| {
            let lowest = pages.free.first().copied();
            lowest.filter(|page| page + UNUSED_LAST < pages.len)
        };
        let page = usable(self).unwrap_or_else(|| {
            self.grow(plan);
            usable(self).unwrap_or(self.len)
        });
        self.free.remove(&page);
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

    fn grow(&mut self, plan: &mut Plan) {
        let new = self.len..self.len + GROW_PAGES;
        make(plan, new.clone());
        self.len = new.end;
        self.free.extend(new);
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
            self.free.insert(oldest.page);
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

    /// What a plan makes new, before it writes any content.
    fn made(plan: Plan) -> Vec<u32> {
        let mut steps = plan.into_steps().filter(|(name, _)| *name == "after-ring");
        let writes = steps.next().map_or_else(Vec::new, |(_, writes)| writes);
        assert!(
            writes
                .iter()
                .all(|write| write.value.as_ref().unwrap().is_empty())
        );
        writes
            .iter()
            .filter_map(|write| keys::number(&write.key))
            .collect()
    }

    #[test]
    fn pages_are_made_in_order_before_they_are_needed_and_the_last_wait() {
        let mut pages = Pages::default();
        let usable = u64::from(GROW_PAGES - UNUSED_LAST) * IDS_PER_PAGE_MAX as u64;
        for (lot, wanted) in [
            (0..1, (0..GROW_PAGES).collect::<Vec<_>>()),
            (1..usable, Vec::new()),
            (usable..usable + 1, (GROW_PAGES..2 * GROW_PAGES).collect()),
        ] {
            let mut plan = Plan::default();
            pages.add(&mut plan, &ids(lot), usize::MAX).unwrap();
            assert_eq!(made(plan), wanted);
        }
        let mut plan = Plan::default();
        make_room(&mut plan, GROW_PAGES - UNUSED_LAST + 1);
        assert_eq!(made(plan), (0..2 * GROW_PAGES).collect::<Vec<_>>());
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
