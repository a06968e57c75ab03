//! `GET /v1/attempts`: the log of attempts, newest first.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;

use super::error::{ApiError, ApiResult};
use super::page::limit;
use super::server::App;
use super::types::{LoggedAttemptView, Page};
use super::units::parse_instant;
use crate::domain::outcome::{ErrorClass, Outcome, OutcomeSet};
use crate::domain::time::Timestamp;
use crate::store::{AttemptFilter, AttemptPage, Store};

/// Pieces of the log that are read for one page, so that it comes soon however little there is to find.
const PIECES_MAX: usize = 8;

/// What to list. Flat, so that unknown fields are noticed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    endpoint: Option<String>,
    event: Option<String>,
    outcome: Option<String>,
    class: Option<String>,
    status: Option<u16>,
    since: Option<String>,
    until: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

impl ListQuery {
    fn filter(&self, now: Timestamp) -> ApiResult<AttemptFilter> {
        let wrong = |field: &str, problem: String| ApiError::bad_request(format!("{field}: {problem}"));
        let instant = |field: &str, text: &Option<String>| {
            text.as_deref()
                .map(|text| parse_instant(text, now))
                .transpose()
                .map_err(|problem| wrong(field, problem))
        };
        Ok(AttemptFilter {
            endpoint: self.endpoint.as_deref().map(Into::into),
            event_id: self.event.as_deref().map(Into::into),
            outcomes: self.outcomes()?,
            status: self.status,
            since: instant("since", &self.since)?,
            until: instant("until", &self.until)?,
        })
    }

    fn outcomes(&self) -> ApiResult<Option<OutcomeSet>> {
        match (self.outcome.as_deref(), self.class.as_deref()) {
            (None, None) => Ok(None),
            (None | Some("error"), Some(name)) => {
                let class = ErrorClass::named(name)
                    .ok_or_else(|| ApiError::unknown("class", name, "a class of error", ErrorClass::NAMES))?;
                Ok(Some(OutcomeSet::default().with(Outcome::Error(class))))
            }
            (Some(name), None) => OutcomeSet::named(name).map(Some).ok_or_else(|| {
                ApiError::bad_request(format!(
                    "outcome: {name:?} is not an outcome; there are delivered, rejected, error, skipped"
                ))
            }),
            (Some(name), Some(_)) => Err(ApiError::bad_request(format!(
                "class: only errors have one, and outcome is {name:?}; leave one of the two out"
            ))),
        }
    }
}

/// `GET /v1/attempts`. A page may hold fewer than asked for, even none, and there may still be more: as long as it has
/// a `next`.
pub async fn list(
    State(app): State<App>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> ApiResult<Json<Page<LoggedAttemptView>>> {
    let Query(query) = query?;
    let limit = limit(query.limit)?;
    let before = query.cursor.as_deref().map(number_of).transpose()?;
    let filter = query.filter(app.operator.now())?;
    if let Some(name) = &query.endpoint {
        app.lane(name).await?;
    }
    let page = app
        .operator
        .queue()
        .read(move |store| read(store, &filter, before, limit, PIECES_MAX))
        .await?;
    Ok(Json(Page {
        items: page.attempts.iter().map(Into::into).collect(),
        next: page.next.map(|number| number.to_string()),
    }))
}

fn number_of(cursor: &str) -> ApiResult<u64> {
    cursor.parse().map_err(|_| {
        ApiError::bad_request(format!(
            "{cursor:?} is not a cursor; pass on `next` of the page before as it is"
        ))
    })
}

/// A page, put together from at most `pieces_max` of the store's.
pub fn read(
    store: &dyn Store,
    filter: &AttemptFilter,
    before: Option<u64>,
    limit: usize,
    pieces_max: usize,
) -> AttemptPage {
    let mut page = AttemptPage {
        attempts: Vec::new(),
        next: before,
    };
    for _ in 0..pieces_max {
        let piece = store.attempts(filter, page.next, limit - page.attempts.len());
        page.attempts.extend(piece.attempts);
        page.next = piece.next;
        if page.next.is_none() || page.attempts.len() == limit {
            break;
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(outcome: Option<&str>, class: Option<&str>) -> ListQuery {
        ListQuery {
            endpoint: None,
            event: None,
            outcome: outcome.map(str::to_owned),
            class: class.map(str::to_owned),
            status: None,
            since: None,
            until: None,
            limit: None,
            cursor: None,
        }
    }

    /// H1: outcomes by name, errors also by class; what is not known is refused and what is known is named.
    #[test]
    fn h1_outcomes_are_asked_for_by_name() {
        let timeout = OutcomeSet::default().with(Outcome::Error(ErrorClass::Timeout));
        for (outcome, class, wanted) in [
            (None, None, None),
            (Some("delivered"), None, OutcomeSet::named("delivered")),
            (None, Some("timeout"), Some(timeout)),
            (Some("error"), Some("timeout"), Some(timeout)),
        ] {
            assert_eq!(
                query(outcome, class).outcomes(),
                Ok(wanted),
                "{outcome:?} {class:?}"
            );
        }
        for (outcome, class, named) in [
            (Some("ok"), None, "delivered"),
            (None, Some("slow"), "timeout"),
            (Some("delivered"), Some("timeout"), "leave one"),
        ] {
            let error = query(outcome, class).outcomes().unwrap_err();
            assert!(format!("{error:?}").contains(named), "{error:?}");
        }
    }
}
