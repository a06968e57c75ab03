//! Who may pass: before any handler runs, each request is held to what its route needs and to what its peer may. And
//! who changed what, in the audit log: one line for each change, done or refused.

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::doors::Peer;
use super::error::ApiError;
use super::server::App;
use super::types::ReloadReport;
use crate::config::ControlConfig;
use crate::domain::access::{Role, role};

/// What a route lets people do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Learn that the daemon is alive: everybody may, without a token too.
    Nothing,
    /// See.
    See,
    /// Send events; what is sent is counted and logged as from any producer.
    Send,
    /// Change something, which the audit log tells.
    Change,
}

/// Lets a request through or refuses it, and writes down refused changes.
pub async fn guard(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    // What is nowhere or takes another method is answered so to those who may see.
    let need = request
        .extensions()
        .get::<MatchedPath>()
        .and_then(|route| app.need(&method, route.as_str()))
        .unwrap_or(Need::See);
    let answer = match may(need, peer, request.headers(), &app.operator.config().control) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    };
    let status = answer.status();
    if need == Need::Change && !status.is_success() {
        let (uid, from) = (peer.credentials.uid, peer.address.map(tracing::field::display));
        tracing::warn!(
            target: "audit",
            uid, from, action = %method, object = path, result = status.as_u16(),
            "operator refused"
        );
    }
    answer
}

fn may(need: Need, peer: Peer, headers: &HeaderMap, config: &ControlConfig) -> Result<(), ApiError> {
    if need == Need::Nothing {
        return Ok(());
    }
    let role = match peer.address {
        Some(_) if shows_token(headers, config) => Role::Operator,
        Some(_) => return Err(ApiError::unauthorized()),
        None => role(peer.credentials, &config.operators, &config.readers),
    };
    match (role, need) {
        (Role::Operator, _) | (Role::Reader, Need::See) => Ok(()),
        (Role::Reader, _) => Err(ApiError::forbidden(
            "you may see everything and change nothing: [control] readers lists you, operators does not",
        )),
        (Role::Nobody, _) => Err(ApiError::forbidden(
            "you may open this socket, but neither [control] operators nor readers lists you",
        )),
    }
}

/// Whether `authorization: Bearer …` (RFC 6750 2.1) holds the token. Takes as long for a nearly right one as for a
/// wrong one.
fn shows_token(headers: &HeaderMap, config: &ControlConfig) -> bool {
    let shown = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.as_bytes().split_first_chunk::<7>())
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "))
        .map(|(_, token)| token.trim_ascii());
    let (Some(shown), Some(token)) = (shown, &config.token) else {
        return false;
    };
    aws_lc_rs::constant_time::verify_slices_are_equal(shown, token.expose().as_bytes()).is_ok()
}

/// Writes down who changed what. One line for each change an operator makes.
pub fn audit(peer: Peer, action: &str, object: &str, detail: &str) {
    let (uid, from) = (peer.credentials.uid, peer.address.map(tracing::field::display));
    tracing::info!(target: "audit", uid, from, action, object, detail, result = "done", "operator");
}

/// Writes down who had the configuration read again; `how` stands before what came of it.
pub fn audit_reload(peer: Peer, how: &str, reloaded: &Result<ReloadReport, Vec<String>>) {
    match reloaded {
        Ok(report) => audit(peer, "reload", &report.hash, &format!("{how}adopted")),
        Err(problems) => {
            let detail = format!("{how}refused for {} problems", problems.len());
            audit(peer, "reload", "", &detail);
        }
    }
}

/// Every method a route can have; HEAD is answered wherever GET is.
#[must_use]
pub fn method_of(method: &Method) -> &Method {
    if *method == Method::HEAD {
        &Method::GET
    } else {
        method
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::access::{Credentials, Who};
    use crate::domain::secret::Secret;

    fn config(operators: &[u32], readers: &[u32]) -> ControlConfig {
        let users = |uids: &[u32]| uids.iter().map(|&uid| Who::User { name: None, uid }).collect();
        ControlConfig {
            operators: users(operators),
            readers: users(readers),
            token: Some(Secret::new("correct-horse-battery")),
            ..ControlConfig::default()
        }
    }

    fn local(uid: u32) -> Peer {
        Peer {
            credentials: Credentials {
                uid: Some(uid),
                gid: Some(uid),
            },
            address: None,
        }
    }

    /// A7: roles and needs.
    #[test]
    fn a7_readers_see_and_operators_change() {
        let lists = config(&[1], &[2]);
        for (uid, see, change) in [(1, true, true), (2, true, false), (3, false, false)] {
            for (need, expected) in [
                (Need::Nothing, true),
                (Need::See, see),
                (Need::Send, change),
                (Need::Change, change),
            ] {
                let passed = may(need, local(uid), &HeaderMap::new(), &lists).is_ok();
                assert_eq!(passed, expected, "{uid} {need:?}");
            }
        }
    }

    /// A7: over TCP only the token counts, and without one in the configuration nothing does.
    #[test]
    fn a7_the_token_opens_the_tcp_door() {
        let remote = Peer {
            address: Some("192.0.2.7:1".parse().unwrap()),
            ..Peer::default()
        };
        let with = |value: &str| HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())]);
        for (value, expected) in [
            ("Bearer correct-horse-battery", true),
            ("bearer correct-horse-battery", true),
            ("Bearer correct-horse-batterz", false),
            ("Bearer correct-horse", false),
            ("Bearer ", false),
            ("Basic correct-horse-battery", false),
        ] {
            let passed = may(Need::See, remote, &with(value), &config(&[], &[])).is_ok();
            assert_eq!(passed, expected, "{value}");
        }
        let none = ControlConfig::default();
        for headers in [HeaderMap::new(), with("Bearer "), with("Bearer x")] {
            assert!(may(Need::See, remote, &headers, &none).is_err());
            assert!(may(Need::Nothing, remote, &headers, &none).is_ok());
        }
    }
}
