//! What is owed to an endpoint that is not configured any more: it moves to another endpoint, or becomes
//! dead letters with the reason `orphaned`. Both go in pages, each a commit of its own, so that producers
//! never wait long behind them and a crash in between leaves a whole number of deliveries on either side.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{ConnectInfo, Path, State};
use rustc_hash::FxHashSet;

use super::doors::Peer;
use super::error::{ApiError, ApiResult};
use super::guard::audit;
use super::operator::Held;
use super::server::{App, body};
use super::types::{BuryRequest, MoveRequest, Moved};
use crate::domain::delivery::DeadReason;
use crate::domain::event::{Event, Seq};
use crate::domain::outcome::{Attempt, Outcome};
use crate::domain::time::Timestamp;
use crate::scheduler::Input;
use crate::store::{
    Batch, DeadEvidence, Deferral, DeliveryId, Due, DueQuery, LaneId, LoadError, Settle, SettleTo, Store,
    StoreError,
};

/// Deliveries in one commit.
const PAGE: usize = 500;
/// Between two looks at whether the daemon has let go of an orphan, and how many there are: a second, while the end of
/// its last request waits for a commit.
const HAND_PAUSE: Duration = Duration::from_millis(10);
const HAND_LOOKS: usize = 100;

/// `POST /v1/endpoints/{name}/move`
pub async fn move_to(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    name: Result<Path<String>, PathRejection>,
    bytes: Result<Bytes, BytesRejection>,
) -> ApiResult<Json<Moved>> {
    let Path(name) = name?;
    let MoveRequest { to } = body(bytes)?;
    let from = orphan(&app, &name).await?;
    let now = app.operator.now();
    let mut deliveries = 0;
    let result = loop {
        match move_page(&app, (&name, from), &to, now).await {
            Ok(0) => break Ok(()),
            Ok(moved) => deliveries += moved,
            Err(error) => break Err(error),
        }
    };
    conclude(result, deliveries, || {
        audit(peer, "move", &name, &format!("{deliveries} deliveries to {to}"));
    })
}

/// Moves up to [`PAGE`] deliveries; how many it were.
async fn move_page(app: &App, (name, from): (&str, LaneId), to: &str, now: Timestamp) -> ApiResult<u64> {
    let held = hold_orphan(app, name, from).await?;
    if !app.is_configured(to) {
        return Err(ApiError::bad_request(format!(
            "to: {to:?} is not a configured endpoint; posthaste endpoints list shows them all"
        )));
    }
    let (to, operator) = (to.to_owned(), Arc::clone(&app.operator));
    let moved = app.operator.queue().write(move |store| {
        let _held = held;
        let lane = store.lane(&to)?;
        let moved = store.reassign(from, lane, PAGE, now)?;
        operator.tell(Input::Revived { lane, from: Seq(0) });
        Ok(moved)
    });
    Ok(moved.await?)
}

/// `POST /v1/endpoints/{name}/bury`
pub async fn bury(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    name: Result<Path<String>, PathRejection>,
    bytes: Result<Bytes, BytesRejection>,
) -> ApiResult<Json<Moved>> {
    let Path(name) = name?;
    let request: BuryRequest = body(bytes)?;
    let lane = orphan(&app, &name).await?;
    let now = app.operator.now();
    let (mut deliveries, mut unread) = (0, FxHashSet::default());
    let result = loop {
        let page = match bury_next(&app, &name, lane, unread.clone(), now).await {
            Ok(page) => page,
            Err(error) => break Err(error),
        };
        deliveries += page.buried;
        let done = page.buried == 0 && page.unread.is_empty();
        unread.extend(page.unread);
        if done {
            break Ok(());
        }
    };
    let reason = request.reason.unwrap_or_default();
    conclude(result, deliveries, || {
        audit(peer, "bury", &name, &format!("{deliveries} deliveries {reason}"));
    })
}

async fn bury_next(
    app: &App,
    name: &str,
    lane: LaneId,
    passed_over: FxHashSet<Seq>,
    now: Timestamp,
) -> ApiResult<Buried> {
    let held = hold_orphan(app, name, lane).await?;
    let buried = app.operator.queue().write(move |store| {
        let _held = held;
        bury_page(store, lane, passed_over, now)
    });
    Ok(buried.await?)
}

/// The answer when all pages are done, or one could not be: what was done by then stays done, and is said.
fn conclude(result: ApiResult<()>, deliveries: u64, audit: impl FnOnce()) -> ApiResult<Json<Moved>> {
    if result.is_ok() || deliveries > 0 {
        audit();
    }
    match result {
        Ok(()) => Ok(Json(Moved { deliveries })),
        Err(mut error) => {
            if deliveries > 0 {
                let before = format!("; {deliveries} deliveries were dealt with before");
                error.detail.message.push_str(&before);
            }
            Err(error)
        }
    }
}

/// The lane of an endpoint that is not configured; 409 otherwise.
async fn orphan(app: &App, name: &str) -> ApiResult<LaneId> {
    must_be_orphaned(app, name)?;
    app.lane(name).await
}

fn must_be_orphaned(app: &App, name: &str) -> ApiResult<()> {
    if !app.is_configured(name) {
        return Ok(());
    }
    Err(ApiError::conflict(
        "configured",
        format!(
            "{name:?} is in the configuration; only what an endpoint that was removed is owed can be moved or \
             buried. posthaste endpoints pause {name} holds it"
        ),
    ))
}

/// Nothing of an orphan is in the daemon's hands, and no reload brings its endpoint back until what this returns is
/// dropped. Whoever writes takes it along, so that this holds until the writing is done, also when nobody waits for it
/// any more. 409 otherwise.
async fn hold_orphan(app: &App, name: &str, lane: LaneId) -> ApiResult<Held> {
    let held = app.operator.hold_config().await;
    must_be_orphaned(app, name)?;
    for _ in 0..HAND_LOOKS {
        let lanes = app.operator.lanes().await;
        match lanes.iter().find(|view| view.lane == lane) {
            None => return Ok(held),
            Some(view) if view.in_flight > 0 => break,
            // What has become of its last requests is about to be written.
            Some(_) => tokio::time::sleep(HAND_PAUSE).await,
        }
    }
    Err(ApiError::conflict(
        "in_flight",
        format!(
            "requests to {name:?} are still under way, begun before it was removed; try again when they have ended"
        ),
    ))
}

/// What one commit of a burial did.
struct Buried {
    buried: u64,
    /// Deliveries whose event is not there; passed over from here on.
    unread: Vec<Seq>,
}

/// Makes dead letters of up to [`PAGE`] pending deliveries of `lane`.
fn bury_page(
    store: &dyn Store,
    lane: LaneId,
    held: FxHashSet<Seq>,
    now: Timestamp,
) -> Result<Buried, StoreError> {
    let query = DueQuery {
        fresh_from: Seq(0),
        fresh_max: PAGE,
        now: Timestamp::MAX,
        deferred_max: PAGE,
        held,
        tried_max: 0,
    };
    let answer = store.due(lane, &query)?;
    let dues: Vec<Due> = answer.fresh.into_iter().chain(answer.deferred).collect();
    let seqs: Vec<Seq> = dues.iter().map(|due| due.seq).collect();
    let mut settles = Vec::with_capacity(dues.len());
    let mut unread = Vec::new();
    for (due, loaded) in dues.iter().zip(store.load(&seqs)) {
        let event = match loaded {
            Ok(event) => Some(event),
            Err(LoadError::Damaged(..)) => None,
            Err(LoadError::Missing(seq)) => {
                unread.push(seq);
                continue;
            }
            Err(LoadError::Store(error)) => return Err(error),
        };
        let id = DeliveryId { lane, seq: due.seq };
        let deferral = match due.was_due {
            Some(was_due) => store.deferral(id, was_due)?,
            None => None,
        };
        let evidence = evidence(event.as_ref(), deferral, due.tries, now);
        settles.push(Settle {
            id,
            was_due: due.was_due,
            to: SettleTo::Dead(Box::new(evidence)),
        });
    }
    let buried = settles.len() as u64;
    if buried > 0 {
        let batch = Batch {
            accepts: Vec::new(),
            settles,
        };
        store.commit(batch, now)?;
    }
    Ok(Buried { buried, unread })
}

/// The evidence of a delivery given up by an operator: what its deferral remembers of the last try.
fn evidence(event: Option<&Event>, deferral: Option<Deferral>, tries: u32, now: Timestamp) -> DeadEvidence {
    let head = event.map(|event| &event.head);
    // A delayed event has a due time too, but no try behind it.
    let tried = deferral.filter(|deferral| deferral.last_class.is_some() || deferral.last_status.is_some());
    DeadEvidence {
        reason: if head.is_some() {
            DeadReason::Orphaned
        } else {
            DeadReason::Damaged
        },
        since: now,
        tries,
        first_attempt: tried.as_ref().map(|deferral| deferral.first_attempt),
        event_id: head.map_or_else(Box::default, |head| head.id.clone()),
        event_source: head.map_or_else(Box::default, |head| head.source.clone()),
        event_kind: head.map_or_else(Box::default, |head| head.kind.clone()),
        accepted: head.map_or(now, |head| head.accepted),
        last: tried.and_then(last_attempt),
    }
}

fn last_attempt(deferral: Deferral) -> Option<Attempt> {
    Some(Attempt {
        status: deferral.last_status,
        message: deferral.last_message.into(),
        ..Attempt::new(
            deferral.tries,
            deferral.last_attempt,
            Outcome::Error(deferral.last_class?),
        )
    })
}
