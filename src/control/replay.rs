//! Replaying and purging dead letters, by id or by filter, in pages. Each page is a commit of its own, so
//! producers never wait long behind a large one, and a crash in between leaves the rest dead as it was.

use std::collections::{BTreeMap, HashSet};

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, State};
use serde_json::value::to_raw_value;

use super::dead::{filter, names, parse_letter_id};
use super::doors::Peer;
use super::error::{ApiError, ApiResult};
use super::guard::audit;
use super::post::sender;
use super::resend::{self, Resend};
use super::server::{App, body};
use super::types::{Change, ChangeReport};
use crate::domain::event::Seq;
use crate::domain::rate::Rate;
use crate::domain::time::Timestamp;
use crate::scheduler::Input;
use crate::store::{DeadFilter, DeliveryId, LaneId, LaneTotals, StoreError};

/// Dead letters in one commit.
const PAGE: usize = 500;

/// `POST /v1/dead/replay`: they become pending again with their whole retry budget; with `endpoint` or `data`, a new
/// event made of each does instead, and the dead letter goes.
pub async fn replay(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    bytes: Result<Bytes, BytesRejection>,
) -> ApiResult<Json<ChangeReport>> {
    let change: Change = body(bytes)?;
    let rate = change
        .rate
        .as_deref()
        .map(Rate::parse)
        .transpose()
        .map_err(|problem| ApiError::bad_request(format!("rate: {problem}")))?;
    let lanes = app.lane_totals().await?;
    let start = app.operator.now();
    let kind = match target(&app, &change, &lanes).await? {
        Some(to) => Kind::Resend(Resend {
            to,
            data: change.data.as_ref().and_then(|data| to_raw_value(data).ok()),
            sender: sender(&app, peer),
            names: names(&lanes),
            start,
            rate,
        }),
        None => {
            let configured = configured_lanes(&app, &lanes);
            refuse_orphan(&change, &lanes, &configured)?;
            Kind::Replay {
                configured,
                start,
                rate,
            }
        }
    };
    let report = run(&app, &change, &lanes, &kind).await?;
    audit_report(peer, "replay", &change, &report);
    Ok(Json(report))
}

/// The endpoint that gets new events, with its lane; `None`: the dead letters themselves are delivered again.
async fn target(app: &App, change: &Change, lanes: &[LaneTotals]) -> ApiResult<Option<(Box<str>, LaneId)>> {
    let name = match (&change.endpoint, &change.data) {
        (None, None) => return Ok(None),
        (Some(name), None) => name.clone(),
        (name, Some(_)) => {
            let Some([id]) = change.ids.as_deref() else {
                return Err(ApiError::bad_request(
                    "data: another payload is for one dead letter; give one id, and no filter",
                ));
            };
            let own = id.rsplit_once(':').map_or("", |(endpoint, _)| endpoint);
            name.clone().unwrap_or_else(|| own.to_owned())
        }
    };
    if !app.is_configured(&name) {
        let was_there = lanes.iter().any(|lane| *lane.name == *name);
        return match (&change.endpoint, was_there) {
            (Some(_), _) => Err(ApiError::bad_request(format!(
                "endpoint: {name:?} is not a configured endpoint; posthaste endpoints list shows them all"
            ))),
            (None, true) => Err(orphaned(&name)),
            // The id names no dead letter, which the report will say.
            (None, false) => Ok(None),
        };
    }
    let wanted = name.clone();
    let lane = app
        .operator
        .queue()
        .write(move |store| store.lane(&wanted))
        .await?;
    Ok(Some((name.into(), lane)))
}

/// `POST /v1/dead/purge`: they are gone for good.
pub async fn purge(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    bytes: Result<Bytes, BytesRejection>,
) -> ApiResult<Json<ChangeReport>> {
    let change: Change = body(bytes)?;
    if change.endpoint.is_some() || change.data.is_some() || change.rate.is_some() {
        return Err(ApiError::bad_request(
            "endpoint, data and rate belong to a replay; a purge takes ids or filter, and dry_run",
        ));
    }
    let lanes = app.lane_totals().await?;
    let report = run(&app, &change, &lanes, &Kind::Purge).await?;
    audit_report(peer, "purge", &change, &report);
    Ok(Json(report))
}

/// What is done to each dead letter.
enum Kind {
    Replay {
        /// Lanes that requests are made to.
        configured: HashSet<LaneId>,
        /// When the first becomes due.
        start: Timestamp,
        /// `None`: all at `start`.
        rate: Option<Rate>,
    },
    /// A new event is made of each.
    Resend(Resend),
    Purge,
}

fn configured_lanes(app: &App, lanes: &[LaneTotals]) -> HashSet<LaneId> {
    lanes
        .iter()
        .filter(|lane| app.is_configured(&lane.name))
        .map(|lane| lane.lane)
        .collect()
}

/// 409 when all that is asked for is an orphaned endpoint's.
fn refuse_orphan(change: &Change, lanes: &[LaneTotals], configured: &HashSet<LaneId>) -> ApiResult<()> {
    let asked = change
        .filter
        .as_ref()
        .and_then(|filter| filter.endpoint.as_deref());
    let orphan = lanes
        .iter()
        .find(|lane| asked == Some(&*lane.name) && !configured.contains(&lane.lane));
    match orphan {
        None => Ok(()),
        Some(lane) => Err(orphaned(&lane.name)),
    }
}

fn orphaned(name: &str) -> ApiError {
    ApiError::conflict(
        "orphaned",
        format!(
            "{name:?} is not in the configuration any more, so there is nowhere to send these; put an [[endpoint]] of \
             that name back and reload, posthaste dead replay --endpoint {name} --to OTHER, or export and purge them"
        ),
    )
}

/// Walks through what was asked for, page by page.
async fn run(app: &App, change: &Change, lanes: &[LaneTotals], kind: &Kind) -> ApiResult<ChangeReport> {
    let mut report = ChangeReport {
        dry_run: change.dry_run,
        ..ChangeReport::default()
    };
    match (&change.ids, &change.filter) {
        (Some(ids), None) => {
            for chunk in ids.chunks(PAGE) {
                let found = by_ids(app, chunk, lanes, &mut report.not_found).await?;
                apply(app, found, kind, &mut report).await?;
            }
        }
        (None, Some(select)) => {
            let now = app.operator.now();
            let mut filter = filter(select, lanes, now)?;
            // What dies again while this runs is not asked for.
            filter.until = Some(
                filter
                    .until
                    .map_or(Timestamp(now.0 + 1), |until| until.min(Timestamp(now.0 + 1))),
            );
            let mut after = None;
            loop {
                let (found, next) = by_filter(app, &filter, after).await?;
                apply(app, found, kind, &mut report).await?;
                after = next;
                if after.is_none() {
                    break;
                }
            }
        }
        _ => {
            return Err(ApiError::bad_request(
                "say which dead letters: either ids, or filter (an empty filter {} means all of them)",
            ));
        }
    }
    Ok(report)
}

async fn by_ids(
    app: &App,
    ids: &[String],
    lanes: &[LaneTotals],
    not_found: &mut Vec<String>,
) -> ApiResult<Vec<DeliveryId>> {
    let wanted: Vec<(String, Option<DeliveryId>)> = ids
        .iter()
        .map(|id| (id.clone(), parse_letter_id(id, lanes)))
        .collect();
    let looked_up = app
        .operator
        .queue()
        .read(move |store| {
            wanted
                .into_iter()
                .map(|(text, id)| {
                    let letter = id.map(|id| store.dead_letter(id)).transpose()?.flatten();
                    Ok((text, letter.map(|letter| letter.id)))
                })
                .collect::<Result<Vec<_>, StoreError>>()
        })
        .await??;
    let mut found = Vec::with_capacity(looked_up.len());
    for (text, id) in looked_up {
        match id {
            Some(id) => found.push(id),
            None => not_found.push(text),
        }
    }
    Ok(found)
}

async fn by_filter(
    app: &App,
    filter: &DeadFilter,
    after: Option<DeliveryId>,
) -> ApiResult<(Vec<DeliveryId>, Option<DeliveryId>)> {
    let filter = filter.clone();
    let page = app
        .operator
        .queue()
        .read(move |store| store.dead(&filter, after, PAGE))
        .await??;
    let ids = page.letters.iter().map(|letter| letter.id).collect();
    Ok((ids, page.next))
}

/// Does to one page what `kind` says, and counts it.
async fn apply(app: &App, found: Vec<DeliveryId>, kind: &Kind, report: &mut ChangeReport) -> ApiResult<()> {
    report.matched += found.len() as u64;
    match kind {
        Kind::Purge if report.dry_run => report.changed += found.len() as u64,
        Kind::Purge => {
            let queue = app.operator.queue();
            report.changed += queue.write(move |store| store.discard(&found)).await?;
        }
        Kind::Resend(resend) => resend::page(app, found, resend, report).await?,
        Kind::Replay {
            configured,
            start,
            rate,
        } => {
            let (there, orphaned): (Vec<_>, Vec<_>) =
                found.into_iter().partition(|id| configured.contains(&id.lane));
            report.orphaned += orphaned.len() as u64;
            let paced = pace(there, report.changed, *start, *rate);
            report.last_due = paced.last().map(|(_, due)| *due).or(report.last_due);
            report.changed += if report.dry_run {
                paced.len() as u64
            } else {
                revive(app, paced).await?
            };
        }
    }
    Ok(())
}

/// Gives each delivery its due time; `before` of this replay have theirs already.
fn pace(
    ids: Vec<DeliveryId>,
    before: u64,
    start: Timestamp,
    rate: Option<Rate>,
) -> Vec<(DeliveryId, Timestamp)> {
    (before..)
        .zip(ids)
        .map(|(index, id)| (id, rate.map_or(start, |rate| start.plus(rate.offset(index)))))
        .collect()
}

async fn revive(app: &App, paced: Vec<(DeliveryId, Timestamp)>) -> ApiResult<u64> {
    let revived = app
        .operator
        .queue()
        .write(move |store| store.revive(&paced))
        .await?;
    let mut lowest: BTreeMap<LaneId, Seq> = BTreeMap::new();
    for id in &revived {
        lowest
            .entry(id.lane)
            .and_modify(|seq| *seq = id.seq.min(*seq))
            .or_insert(id.seq);
    }
    for (lane, from) in lowest {
        app.operator.tell(Input::Revived { lane, from });
    }
    Ok(revived.len() as u64)
}

fn audit_report(peer: Peer, action: &str, change: &Change, report: &ChangeReport) {
    if report.dry_run {
        return;
    }
    let object = match (&change.ids, &change.filter) {
        (Some(ids), _) => format!("{} ids", ids.len()),
        (None, Some(filter)) => serde_json::to_string(filter).unwrap_or_default(),
        (None, None) => String::new(),
    };
    audit(peer, action, &object, &format!("{} dead letters", report.changed));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(count: u64) -> Vec<DeliveryId> {
        (0..count)
            .map(|n| DeliveryId {
                lane: LaneId(1),
                seq: Seq(n),
            })
            .collect()
    }

    /// G2: a paced replay goes on from page to page as if it were one.
    #[test]
    fn g2_pages_share_one_pace() {
        let rate = Some(Rate::parse("50/s").unwrap());
        let whole = pace(ids(6), 0, Timestamp(1000), rate);
        let dues: Vec<u64> = whole.iter().map(|(_, due)| due.0).collect();
        assert_eq!(dues, [1000, 1020, 1040, 1060, 1080, 1100]);
        let second = pace(ids(2), 4, Timestamp(1000), rate);
        assert_eq!(second[0].1, Timestamp(1080));
        let at_once = pace(ids(3), 0, Timestamp(1000), None);
        assert!(at_once.iter().all(|(_, due)| *due == Timestamp(1000)));
    }
}
