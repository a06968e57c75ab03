//! A request, and a try at it, for people who want to see what happens: everything of both sides is shown, bounded, with
//! secrets masked. A trial leaves nothing behind: whoever asks for it learns its end, nobody else does.

use std::time::Duration;

use tokio::time::Instant;

use super::evidence::{excerpt, hide, listed, secrets};
use super::render::{Composer, Course, OutgoingRequest};
use super::response::Response;
use super::scene::Load;
use super::send::Answer;
use super::steps::show::ShownStep;
use super::{Courier, Pass, Tried};
use crate::domain::endpoint::CannedAnswer;
use crate::domain::event::Event;
use crate::domain::kept::Kept;
use crate::domain::outcome::{Exchange, Outcome};
use crate::domain::time::Timestamp;
use crate::template::Scope;

/// A request as people may see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShownRequest {
    /// `POST https://example.com/hook`
    pub line: String,
    /// In no order.
    pub headers: Vec<(String, String)>,
    /// The beginning of the body; of one that is not text its length.
    pub body: String,
}

/// An answer as people may see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShownAnswer {
    /// The status.
    pub status: u16,
    /// In no order.
    pub headers: Vec<(String, String)>,
    /// The beginning of the body.
    pub body: String,
}

/// What came of a trial.
#[derive(Clone, Debug)]
pub struct Trial {
    /// What the endpoint's own rules saw, `response` included if there was one. Nothing in it is masked.
    pub scope: Scope,
    /// How it would have ended for a delivery.
    pub outcome: Outcome,
    /// One sentence why; empty when delivered.
    pub message: String,
    /// From the beginning to the last byte of the answer.
    pub took: Duration,
    /// What its phases took.
    pub exchange: Exchange,
    /// What was sent last; `None`: no request could be made.
    pub request: Option<ShownRequest>,
    /// What came back, if anything.
    pub answer: Option<ShownAnswer>,
    /// What became of its steps; `None`: it has none.
    pub kept: Option<Box<Kept>>,
}

/// What would be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The steps, in the order written.
    pub steps: Vec<ShownStep>,
    /// The delivery's own request, or one sentence saying why there can be none.
    pub request: Result<ShownRequest, String>,
}

impl Trial {
    /// The end of a trial that came to no request, `took` after it began.
    #[must_use]
    pub fn unsent(scope: Scope, outcome: Outcome, message: String, took: Duration) -> Self {
        Self {
            scope,
            outcome,
            message,
            took,
            exchange: Exchange::default(),
            request: None,
            answer: None,
            kept: None,
        }
    }

    /// The end of a trial because of a step: both sides are the step's.
    pub(super) fn failed(tried: Tried, scope: Scope) -> Self {
        let attempt = tried.attempt;
        Self {
            scope,
            outcome: attempt.outcome,
            message: attempt.message,
            took: Duration::from_millis(attempt.duration_ms),
            exchange: tried.exchange,
            request: Some(ShownRequest {
                line: attempt.request_line,
                headers: attempt.request_headers,
                body: String::new(),
            })
            .filter(|request| !request.line.is_empty()),
            answer: attempt.status.map(|status| ShownAnswer {
                status,
                headers: attempt.response_headers,
                body: attempt.response_excerpt,
            }),
            kept: None,
        }
    }
}

impl Courier {
    /// All that would be sent for `load`, if every step were answered.
    #[must_use]
    pub fn show_all(&self, load: &Load<'_>) -> Shown {
        let Some(steps) = &self.steps else {
            return Shown {
                steps: Vec::new(),
                request: self.show(load),
            };
        };
        let (steps, beside) = steps.show(load);
        let load = Load {
            beside: Some(&beside),
            ..*load
        };
        Shown {
            steps,
            request: self.show(&load),
        }
    }

    /// What the templates of `load` see, where every step was answered.
    #[must_use]
    pub fn seen(&self, load: &Load<'_>) -> Scope {
        let beside = self.steps.as_ref().map(|steps| steps.show(load).1);
        self.scope_of(&Load {
            beside: beside.as_ref(),
            ..*load
        })
    }

    /// The first request for `load` as it would go out, but for a token that would have to be fetched first.
    ///
    /// # Errors
    /// One sentence saying why there can be no such request.
    pub fn show(&self, load: &Load<'_>) -> Result<ShownRequest, String> {
        let course = self.composer.course(load)?;
        let request = self.request_with(&self.auth.preview(), load, &course, 0)?;
        self.shown(&request, load, &course, 0)
    }

    /// `scope` where `response` is `answer`.
    fn seeing(&self, scope: Scope, answer: &Answer) -> Scope {
        Response::seen(scope, answer, self.parse).0
    }

    /// What the endpoint's own rules see of `load` before there is an answer.
    pub(super) fn scope_of(&self, load: &Load<'_>) -> Scope {
        let scene = self.composer.scene();
        scene.of(load).unwrap_or_else(|_| scene.without_event(load.now))
    }

    /// Makes one try at `event`, beginning at `now`, as for a first delivery; the steps named in `canned` get those answers.
    /// Never fails: whatever goes wrong is its end.
    pub async fn try_out(&self, event: &Event, now: Timestamp, canned: &[CannedAnswer]) -> Trial {
        let clock = Instant::now();
        let load = Load::alone(event, 1, now);
        match &self.steps {
            None => self.try_alone(&load, clock).await.0,
            Some(steps) => Box::pin(self.try_in_steps(steps, &load, clock, canned)).await,
        }
    }

    /// The delivery's own part of a trial that began at `clock`, and the answer.
    pub(super) async fn try_alone(&self, load: &Load<'_>, clock: Instant) -> (Trial, Option<Answer>) {
        let unsent = |scope, outcome, message| Trial::unsent(scope, outcome, message, clock.elapsed());
        let course = match self.composer.course(load) {
            Ok(course) => course,
            Err(why) => {
                let verdict = super::Verdict::unsendable(why);
                let unsent = unsent(self.scope_of(load), verdict.outcome, verdict.message);
                return (unsent, None);
            }
        };
        let scope = course.scope().cloned().unwrap_or_else(|| self.scope_of(load));
        let ended = match self.go(load, &course, clock, Duration::MAX).await {
            Ok(ended) => ended,
            Err(why) => return (unsent(scope, why.verdict.outcome, why.verdict.message), None),
        };
        let request = self.request_of(&ended.pass, load, &course, ended.stop);
        let masked = request.as_ref().map(|request| secrets(request, &self.hidden));
        let masked = masked.unwrap_or_default();
        let shown = request.and_then(|request| self.shown(&request, load, &course, ended.stop).ok());
        let answer = ended.sent.result.ok();
        let trial = Trial {
            scope: match &answer {
                Some(answer) => self.seeing(scope, answer),
                None => scope,
            },
            outcome: ended.reading.verdict.outcome,
            message: hide(ended.reading.verdict.message, &masked),
            took: clock.elapsed(),
            exchange: ended.sent.exchange,
            request: shown,
            answer: answer.as_ref().map(|answer| answered(answer, &masked)),
            kept: None,
        };
        (trial, answer)
    }

    fn request_of(
        &self,
        pass: &Pass,
        load: &Load<'_>,
        course: &Course,
        stop: usize,
    ) -> Option<OutgoingRequest> {
        self.request_with(pass, load, course, stop).ok()
    }

    /// The body is written once more, for eyes that may not see secrets.
    fn shown(
        &self,
        request: &OutgoingRequest,
        load: &Load<'_>,
        course: &Course,
        stop: usize,
    ) -> Result<ShownRequest, String> {
        let body = self.composer.masked_body(load, course)?;
        let body = match std::str::from_utf8(&body) {
            Ok(text) => excerpt(text.as_bytes()),
            Err(_) => format!("({} bytes that are not text)", request.body.len()),
        };
        Ok(ShownRequest {
            line: Composer::shown(&self.composer, course, stop),
            headers: listed(&request.headers, &[]),
            body,
        })
    }
}

fn answered(answer: &Answer, secrets: &[String]) -> ShownAnswer {
    ShownAnswer {
        status: answer.status.as_u16(),
        headers: listed(&answer.headers, secrets),
        body: hide(excerpt(&answer.body), secrets),
    }
}
