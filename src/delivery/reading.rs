//! Reads answers by the endpoint's own rules: whether they mean delivered or rejected (E1, E2), what the other side
//! says of it (E4), what they say of each event of a batch (E5), and what is born from them (E3, E7). Pure; endpoints
//! without such rules have no reader. What the status alone means is `interpret`'s business.

mod items;

use std::borrow::Cow;
use std::fmt;

use serde_json::{Map, Value as Json};

use super::Item;
use super::interpret::Verdict;
use super::response::{Response, is_unread_json};
use super::scene::{Load, Scene};
use super::send::Answer;
use crate::domain::endpoint::{Emit, Endpoint, ItemsPolicy, Parse, ResponsePolicy};
use crate::domain::event::Event;
use crate::domain::kept::Captured;
use crate::domain::outcome::{ErrorClass, Outcome};
use crate::template::{Expression, RenderError, Scope, Value, append_json, from_json, to_json};

/// Longest piece of what the other side says that goes into a message, in characters.
const SAID_CHARS_MAX: usize = 300;

/// An event born from an answer, not yet an event: it has no id, no source and no time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emission {
    /// Its `type`.
    pub kind: String,
    /// Its `data`.
    pub data: Json,
}

/// What an answer comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// How the request ended.
    pub verdict: Verdict,
    /// What it says of each event, in their order.
    pub items: Option<Vec<Item>>,
    /// What is captured of it, as JSON; empty unless it means delivered or rejected.
    pub captured: String,
    /// What is born from it, in the order of the events: nothing from those that are not delivered, and `Err` with one
    /// sentence where it can't be worked out. Empty: nothing is to be born.
    pub emissions: Vec<Option<Result<Emission, String>>>,
}

impl From<Verdict> for Reading {
    fn from(verdict: Verdict) -> Self {
        Self {
            verdict,
            items: None,
            captured: String::new(),
            emissions: Vec::new(),
        }
    }
}

impl Reading {
    /// Whether every event is delivered, so that nobody will ask for evidence.
    #[must_use]
    pub fn is_delivered(&self) -> bool {
        let is_delivered = |item: &Item| item.outcome == Outcome::Delivered;
        self.verdict.outcome == Outcome::Delivered && self.items.iter().flatten().all(is_delivered)
    }
}

/// The rules of one endpoint.
pub struct Reader {
    scene: Scene,
    response: ResponsePolicy,
    items: Option<ItemsPolicy>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("response", &self.response)
            .finish_non_exhaustive()
    }
}

/// How an answer is judged, and by what.
struct Judged<'a> {
    answer: &'a Answer,
    address: &'a str,
    parse: Parse,
    scope: Scope,
}

impl Reader {
    /// The reader of `endpoint`'s answers; `None` where the status says everything.
    #[must_use]
    pub fn new(endpoint: &Endpoint) -> Option<Self> {
        let items = endpoint.batch.as_ref().and_then(|batch| batch.items.clone());
        let by_status = ResponsePolicy {
            success_status: endpoint.response.success_status.clone(),
            ..ResponsePolicy::default()
        };
        (endpoint.response != by_status || items.is_some()).then(|| Self {
            scene: Scene::new(endpoint),
            response: endpoint.response.clone(),
            items,
        })
    }

    /// Reads `answer`, which came wholly from `address` for the request of `load`; by its status alone it means `by_status`.
    /// `seen`: what the templates of that request saw, if it has some.
    #[must_use]
    pub fn read(
        &self,
        load: &Load<'_>,
        seen: Option<&Scope>,
        answer: &Answer,
        address: &str,
        by_status: Verdict,
    ) -> Reading {
        let scope = match seen.map_or_else(|| self.scene.of(load), |seen| Ok(seen.clone())) {
            Ok(scope) => scope,
            Err(why) => return by_status.with(Outcome::Error(ErrorClass::Render), why).into(),
        };
        let (scope, parsed) = Response::seen(scope, answer, self.response.parse);
        let judged = Judged {
            answer,
            address,
            parse: self.response.parse,
            scope,
        };
        let verdict = match self.verdict(&judged, parsed, by_status.clone()) {
            Ok(verdict) => verdict,
            Err(why) => judged.invalid(by_status, &why),
        };
        let captured = match verdict.outcome {
            Outcome::Delivered | Outcome::Rejected => self.captured(&judged.scope),
            _ => String::new(),
        };
        if verdict.outcome != Outcome::Delivered {
            return Reading {
                captured,
                ..verdict.into()
            };
        }
        match self.items(load, &judged) {
            Ok(items) => Reading {
                emissions: self.emissions(load, &judged, items.as_deref()),
                captured,
                items: items.map(|items| items.into_iter().map(|(item, _)| item).collect()),
                verdict,
            },
            Err(why) => judged.invalid(verdict, &why).into(),
        }
    }

    /// Reads an answer that means delivered once more, now that what came after it is seen.
    #[must_use]
    pub fn again(&self, load: &Load<'_>, answer: &Answer) -> Reading {
        self.read(
            load,
            None,
            answer,
            "",
            Verdict::unsendable(String::new()).delivered(),
        )
    }

    /// `rejected` goes first, then `success`, then the status. An answer that can't be read decides nothing where its
    /// status says no already, and so does a rule that can't be worked out.
    fn verdict(
        &self,
        judged: &Judged<'_>,
        parsed: Result<(), String>,
        by_status: Verdict,
    ) -> Result<Verdict, String> {
        if let Err(why) = parsed {
            return match by_status.outcome {
                Outcome::Delivered => Err(why),
                _ => Ok(by_status),
            };
        }
        let holds = |key: &str, rule: &Option<Expression>| {
            let held = rule.as_ref().map(|rule| rule.test(&judged.scope)).transpose();
            match held {
                // An error page has not the fields that the rule looks at.
                Err(_) if by_status.outcome != Outcome::Delivered => Ok(None),
                held => held.map_err(|error| format!("`{key}` can't be worked out: {}", said(&error.says))),
            }
        };
        if holds("rejected", &self.response.rejected)? == Some(true) {
            let message = self.explained(&judged.scope, &format!("{} and rejects it", judged.answered()));
            return Ok(by_status.with(Outcome::Rejected, message));
        }
        match (holds("success", &self.response.success)?, by_status.outcome) {
            (Some(true), _) | (None, Outcome::Delivered) => Ok(by_status.delivered()),
            (Some(false), Outcome::Delivered) => {
                let message = format!("{}, but `success` does not hold", judged.answered());
                let message = self.explained(&judged.scope, &message);
                Ok(by_status.with(Outcome::Error(ErrorClass::InvalidResponse), message))
            }
            (_, outcome) => {
                let message = self.explained(&judged.scope, &by_status.message);
                Ok(by_status.with(outcome, message))
            }
        }
    }

    /// `message`, and what the other side says of it. Secrets of the configuration come out masked.
    fn explained(&self, scope: &Scope, message: &str) -> String {
        let error = &self.response.error;
        let scope = scope.masked();
        // What is not there is not said.
        let part = |expression: &Option<Expression>| {
            let text = expression.as_ref()?.text(&scope).ok()?;
            Some(said(&text)).filter(|text| !text.is_empty())
        };
        let field = part(&error.field).map(|field| format!("(field {field})"));
        let parts = [part(&error.code), part(&error.message), field];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        match parts.is_empty() {
            true => message.to_owned(),
            false => format!("{message}: {}", parts.join(" ")),
        }
    }

    fn emissions(
        &self,
        load: &Load<'_>,
        judged: &Judged<'_>,
        items: Option<&[(Item, Value)]>,
    ) -> Vec<Option<Result<Emission, String>>> {
        let Some(emit) = &self.response.emit else {
            return Vec::new();
        };
        let captured = values(&self.response.capture, &self.unsecret(&judged.scope));
        let scope = judged.scope.clone();
        let scope = scope.with("captured", from_json(captured.clone().into()));
        let one = |(at, event): (usize, &Event)| {
            let scope = self.scene.within(&scope, event);
            let scope = match items.and_then(|items| items.get(at)) {
                Some((item, _)) if item.outcome != Outcome::Delivered => return None,
                Some((_, value)) => scope.with("item", value.clone()),
                None => scope,
            };
            Some(emission(emit, &scope, &captured))
        };
        load.events.iter().enumerate().map(one).collect()
    }

    /// The captured values; null for what the answer does not have.
    fn captured(&self, scope: &Scope) -> String {
        let capture = &self.response.capture;
        if capture.is_empty() {
            return String::new();
        }
        let scope = self.unsecret(scope);
        let mut captured = Captured::default();
        for (name, expression) in capture {
            captured.put(name, |json| append_json(&expression.eval(&scope)?, json));
        }
        captured.finish()
    }

    /// What captures see: their values are kept and passed on, so secrets of the configuration are masked in them.
    fn unsecret<'a>(&self, scope: &'a Scope) -> Cow<'a, Scope> {
        let mut capture = self.response.capture.iter();
        match capture.any(|(_, expression)| expression.has_secret()) {
            true => Cow::Owned(scope.masked()),
            false => Cow::Borrowed(scope),
        }
    }
}

/// The values of `expressions` by their names; null for what is not there.
pub(super) fn values(expressions: &[(Box<str>, Expression)], scope: &Scope) -> Map<String, Json> {
    let value = |expression: &Expression| {
        let value = expression.eval(scope).ok()?;
        to_json(&value).ok()
    };
    let named = expressions.iter();
    named
        .map(|(name, expression)| (name.to_string(), value(expression).unwrap_or_default()))
        .collect()
}

impl Judged<'_> {
    /// The beginning of a sentence.
    fn answered(&self) -> String {
        let (address, status) = (self.address, self.answer.status);
        let reason = status.canonical_reason().unwrap_or_default();
        let line = format!("{address} answered {} {reason}", status.as_u16());
        let why_unread = if self.answer.is_cut {
            " (with more than max_response, so its body was cut)"
        } else if is_unread_json(self.answer, self.parse) {
            " (its body looks like JSON, but its content-type does not say so: response.parse = \"json\" reads it)"
        } else {
            ""
        };
        format!("{}{why_unread}", line.trim_end())
    }

    fn invalid(&self, verdict: Verdict, why: &str) -> Verdict {
        let message = format!("{}: {why}", self.answered());
        verdict.with(Outcome::Error(ErrorClass::InvalidResponse), message)
    }
}

fn emission(emit: &Emit, scope: &Scope, captured: &Map<String, Json>) -> Result<Emission, String> {
    let wrong =
        |key: &str, error: RenderError| format!("emit.{key} can't be worked out: {}", said(&error.says));
    let kind = emit.kind.render(scope).map_err(|error| wrong("type", error))?;
    if emit.data.is_empty() {
        let data = captured.clone().into();
        return Ok(Emission { kind, data });
    }
    let mut data = Map::new();
    for (name, expression) in &emit.data {
        let value = expression.eval(scope).and_then(|value| to_json(&value));
        data.insert(
            name.to_string(),
            value.map_err(|error| wrong(&format!("data.{name}"), error))?,
        );
    }
    let data = data.into();
    Ok(Emission { kind, data })
}

/// What somebody else says, on one line and cut.
fn said(text: &str) -> String {
    let line = |c: char| if c.is_control() { ' ' } else { c };
    text.trim().chars().take(SAID_CHARS_MAX).map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::StatusCode;
    use http::header::{CONTENT_TYPE, HeaderValue};
    use serde_json::json;

    use super::*;
    use crate::delivery::fields::Fields;
    use crate::delivery::tests::{endpoint, event, load};
    use crate::domain::endpoint::{BatchPolicy, BatchShape, ErrorFields};
    use crate::domain::outcome::EndpointSignal;
    use crate::domain::time::Timestamp;
    use crate::template::{Target, Template};

    const INVALID: Outcome = Outcome::Error(ErrorClass::InvalidResponse);

    fn expression(text: &str) -> Expression {
        Expression::compile(text).unwrap()
    }

    fn rule(text: &str) -> Option<Expression> {
        (!text.is_empty()).then(|| expression(text))
    }

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: Arc::default(),
            body: body.to_owned().into(),
            is_cut: false,
            broken: None,
        }
    }

    fn by_status(status: u16) -> Verdict {
        let outcome = match status {
            200..=299 => Outcome::Delivered,
            _ => Outcome::Error(ErrorClass::of_status(status)),
        };
        Verdict {
            outcome,
            signal: EndpointSignal::default(),
            message: format!("host answered {status}"),
        }
    }

    fn read(endpoint: &Endpoint, events: &[Event], answer: &Answer) -> Reading {
        let reader = Reader::new(endpoint).unwrap();
        let load = Load {
            events,
            ..load(&events[0], 1, Timestamp(0))
        };
        reader.read(&load, None, answer, "host", by_status(answer.status.as_u16()))
    }

    /// E1, E2, E4: `rejected` goes before `success`, which goes before the status; what can't be worked out is an error.
    #[test]
    fn e2_rules_go_before_the_status() {
        let (delivered, rejected) = (Outcome::Delivered, Outcome::Rejected);
        let status = Outcome::Error(ErrorClass::Http4xx);
        for (rejects, success, code, body, expected) in [
            ("", "response.ok", 200, r#"{"ok":true}"#, delivered),
            ("", "response.ok", 404, r#"{"ok":true}"#, delivered),
            ("", "response.ok", 200, r#"{"ok":false}"#, INVALID),
            ("", "response.ok", 404, r#"{"ok":false}"#, status),
            ("", "response.a.b", 200, "{}", INVALID),
            ("", "response.ok", 200, "no JSON", INVALID),
            ("", "response.ok", 404, "no JSON", status),
            ("response.no", "response.ok", 200, r#"{"no":1,"ok":1}"#, rejected),
            ("response.no", "", 404, r#"{"no":1}"#, rejected),
            ("response.no", "", 404, "{}", status),
            ("response.no", "", 200, "{}", delivered),
            ("response.status_code == 409", "", 409, "{}", rejected),
        ] {
            let mut endpoint = endpoint("http://localhost/");
            endpoint.response.parse = Parse::Json;
            endpoint.response.rejected = rule(rejects);
            endpoint.response.success = rule(success);
            let verdict = read(&endpoint, &[event("a", "{}")], &answer(code, body)).verdict;
            assert_eq!(
                verdict.outcome, expected,
                "{rejects} {success} {code} {body}: {verdict:?}"
            );
            assert_eq!(verdict.message.is_empty(), expected == delivered, "{verdict:?}");
        }
    }

    /// E4: what keeps a rule from being worked out is said where it can be known.
    #[test]
    fn e4_why_an_answer_can_not_be_read() {
        let mut endpoint = endpoint("http://localhost/");
        endpoint.response.success = rule("response.ok");
        let html = Answer {
            headers: Arc::new(Fields::from_iter([(
                CONTENT_TYPE,
                HeaderValue::from_static("text/html"),
            )])),
            ..answer(200, " {\"ok\":true}")
        };
        let cut = Answer {
            is_cut: true,
            ..answer(200, "{\"ok\":tr")
        };
        for (answer, expected) in [
            (
                &html,
                "does not say so: response.parse = \"json\" reads it), but `success`",
            ),
            (
                &cut,
                "host answered 200 OK (with more than max_response, so its body was cut), but `success`",
            ),
        ] {
            let verdict = read(&endpoint, &[event("a", "{}")], answer).verdict;
            assert_eq!(verdict.outcome, INVALID);
            assert!(verdict.message.contains(expected), "{}", verdict.message);
        }
    }

    /// E4: what the other side says, on one line, cut, and only what is there.
    #[test]
    fn e4_the_other_sides_words() {
        let mut endpoint = endpoint("http://localhost/");
        endpoint.response.parse = Parse::Json;
        endpoint.response.error = ErrorFields {
            code: rule("response.error.code"),
            message: rule("response.error.message"),
            field: rule("response.error.field"),
        };
        let long = "x".repeat(1000);
        for (body, expected) in [
            (
                json!({"error": {"code": 7, "message": "a\nb", "field": "phone"}}),
                "host answered 400: 7 a b (field phone)".to_owned(),
            ),
            (json!({"error": {"message": ""}}), "host answered 400".to_owned()),
            (json!({}), "host answered 400".to_owned()),
            (
                json!({"error": {"message": long}}),
                format!("host answered 400: {}", &long[..SAID_CHARS_MAX]),
            ),
        ] {
            let found = read(&endpoint, &[event("a", "{}")], &answer(400, &body.to_string()));
            assert_eq!(found.verdict.message, expected);
        }
    }

    /// E5, E7: each event has its own outcome, and only what is delivered gives birth; no list is an error for all.
    #[test]
    fn e5_e7_items_and_births() {
        let mut endpoint = endpoint("http://localhost/");
        endpoint.response.parse = Parse::Json;
        endpoint.response.emit = Some(Emit {
            kind: Template::compile("lead.{{ item.status }}", Target::Text).unwrap(),
            data: vec![("id".into(), expression("data.id"))],
        });
        endpoint.batch = Some(BatchPolicy {
            events_max: 4,
            bytes_max: 1000,
            wait_max: std::time::Duration::ZERO,
            shape: BatchShape::Array,
            items: Some(ItemsPolicy {
                list: expression("response.list"),
                id: expression("item.id"),
                success: expression("item.status == 'success'"),
            }),
        });
        let events = [
            event("a", r#"{"data":{"id":5}}"#),
            event("b", "{}"),
            event("c", r#"{"data":{"id":"L"}}"#),
        ];
        let body = r#"{"list":[{"id":"L","status":"no"},{"status":"success"},{"id":5,"status":"success"}]}"#;
        let reading = read(&endpoint, &events, &answer(200, body));
        let outcomes: Vec<Outcome> = reading.items.iter().flatten().map(|item| item.outcome).collect();
        assert_eq!(outcomes, [Outcome::Delivered, INVALID, Outcome::Rejected]);
        assert!(!reading.is_delivered());
        let born = Emission {
            kind: "lead.success".to_owned(),
            data: json!({ "id": 5 }),
        };
        assert_eq!(reading.emissions, [Some(Ok(born)), None, None]);

        // Three events about one thing: each has its own result, or all have the same.
        let events = ["a", "b", "c"].map(|id| event(id, r#"{"data":{"id":"L"}}"#));
        let (done, no) = (Outcome::Delivered, Outcome::Rejected);
        for (statuses, expected) in [
            (&["success", "no", "success"][..], [done, no, done]),
            (&["success", "no"], [done, no, INVALID]),
            (&["no"], [no, no, no]),
        ] {
            let item = |status: &&str| json!({ "id": "L", "status": status });
            let list: Vec<_> = statuses.iter().map(item).collect();
            let reading = read(
                &endpoint,
                &events,
                &answer(200, &json!({ "list": list }).to_string()),
            );
            let outcomes: Vec<Outcome> = reading.items.iter().flatten().map(|item| item.outcome).collect();
            assert_eq!(outcomes, expected, "{statuses:?}");
        }

        for body in ["{}", r#"{"list":5}"#, r#"{"list":{"a":1}}"#, r#"{"list":"a"}"#] {
            let reading = read(&endpoint, &events, &answer(200, body));
            assert_eq!(
                (reading.verdict.outcome, reading.items),
                (INVALID, None),
                "{body}"
            );
        }
    }

    /// E2: where the status says everything there is nothing to read.
    #[test]
    fn e2_without_rules_there_is_no_reader() {
        let mut endpoint = endpoint("http://localhost/");
        endpoint.response.success_status = vec![200];
        assert!(Reader::new(&endpoint).is_none());
        endpoint.response.parse = Parse::Json;
        assert!(Reader::new(&endpoint).is_some());
    }
}
