//! Lists in pages: how many items, and where the next page begins. Pure.

use super::error::{ApiError, ApiResult};
use super::types::Page;
use crate::domain::event::Seq;
use crate::store::{DeliveryId, LaneId};

/// Items in a page when none is asked for.
pub const LIMIT_DEFAULT: usize = 100;
/// Most items in a page.
pub const LIMIT_MAX: usize = 500;

/// The number of items to put into a page.
///
/// # Errors
/// 400 unless it is 1 to [`LIMIT_MAX`].
pub fn limit(asked: Option<usize>) -> ApiResult<usize> {
    match asked {
        None => Ok(LIMIT_DEFAULT),
        Some(limit) if (1..=LIMIT_MAX).contains(&limit) => Ok(limit),
        Some(limit) => Err(ApiError::bad_request(format!(
            "limit is {limit}; it may be 1 to {LIMIT_MAX}, and `next` of a page is the cursor of the one after it"
        ))),
    }
}

/// Writes the place of a delivery as a cursor. Only [`delivery_of`] needs to understand it.
#[must_use]
pub fn cursor_of(id: DeliveryId) -> String {
    format!("{}.{}", id.lane.0, id.seq.0)
}

/// Reads a cursor.
///
/// # Errors
/// 400 when it did not come from [`cursor_of`].
pub fn delivery_of(cursor: &str) -> ApiResult<DeliveryId> {
    cursor
        .split_once('.')
        .and_then(|(lane, seq)| {
            Some(DeliveryId {
                lane: LaneId(lane.parse().ok()?),
                seq: Seq(seq.parse().ok()?),
            })
        })
        .ok_or_else(|| {
            ApiError::bad_request(format!(
                "{cursor:?} is not a cursor; pass on `next` of the page before as it is"
            ))
        })
}

/// The page of those `items` that are `wanted` after the one named `cursor`, where `name` names an item and no name comes
/// twice. A cursor whose item has gone meanwhile starts again from the first item; one that is not wanted any more doesn't.
pub fn of_named<T>(
    mut items: Vec<T>,
    name: impl Fn(&T) -> &str,
    wanted: impl Fn(&T) -> bool,
    cursor: Option<&str>,
    limit: usize,
) -> Page<T> {
    if let Some(at) = cursor.and_then(|cursor| items.iter().position(|item| name(item) == cursor)) {
        items.drain(..=at);
    }
    items.retain(wanted);
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|item| name(item).to_owned());
    Page { items, next }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_bounded() {
        assert_eq!(limit(None), Ok(LIMIT_DEFAULT));
        assert_eq!(limit(Some(1)), Ok(1));
        assert!(limit(Some(0)).is_err());
        assert!(limit(Some(LIMIT_MAX + 1)).is_err());
    }

    #[test]
    fn cursors_go_both_ways() {
        let id = DeliveryId {
            lane: LaneId(7),
            seq: Seq(u64::MAX),
        };
        assert_eq!(delivery_of(&cursor_of(id)), Ok(id));
        for bad in ["", "7", "7.", "a.b", "7.8.9"] {
            assert!(delivery_of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn named_pages_cover_everything_once() {
        let all: Vec<String> = (0..7).map(|n| format!("e{n}")).collect();
        for unwanted in ["", "e0", "e3", "e6"] {
            let (mut seen, mut cursor) = (Vec::new(), None);
            loop {
                let wanted = |name: &String| name != unwanted;
                let page = of_named(all.clone(), |name| name, wanted, cursor.as_deref(), 3);
                assert!(page.items.len() <= 3);
                seen.extend(page.items);
                cursor = page.next;
                if cursor.is_none() {
                    break;
                }
            }
            assert!(all.iter().filter(|name| *name != unwanted).eq(&seen), "{seen:?}");
        }
        let after = of_named(all, |name| name, |name| name != "e2", Some("e2"), 3);
        assert_eq!(after.items, ["e3", "e4", "e5"], "its item is not wanted any more");
    }
}
