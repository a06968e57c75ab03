//! A try at a delivery that has steps: those before its request, the request, those after its answer, all within the
//! bound on the attempt (C9, C10). A crash anywhere in it repeats it from the first step on.

use std::time::Duration;

use tokio::time::Instant;

use super::progress::Progress;
use super::{Going, Steps};
use crate::delivery::evidence::{Witness, secrets};
use crate::delivery::reading::Reading;
use crate::delivery::response::Response;
use crate::delivery::scene::Load;
use crate::delivery::send::{Answer, Sent};
use crate::delivery::trial::Trial;
use crate::delivery::{Courier, Tried};
use crate::domain::endpoint::{CannedAnswer, Stage};
use crate::domain::outcome::{Exchange, Outcome};
use crate::template::Value;

impl Courier {
    /// One try, as [`Courier::deliver`] has it.
    pub(in crate::delivery) async fn deliver_in_steps(
        &self,
        steps: &Steps,
        load: &Load<'_>,
        clock: Instant,
    ) -> Tried {
        let mut progress = steps.progress();
        let mut going = Going {
            started: clock,
            response: None,
            trial: None,
        };
        let mut tried = match steps.run(Stage::Before, load, &going, &mut progress).await {
            Err(failed) => *failed,
            Ok(()) => {
                let beside = progress.beside(None, None);
                let seen = Load {
                    beside: Some(&beside),
                    ..*load
                };
                let (tried, answer) = self.attempt(&seen, clock, Duration::MAX).await;
                match answer.filter(|_| steps.go_on() && tried.attempt.outcome == Outcome::Delivered) {
                    Some(answer) => {
                        going.response = Some(self.response(&answer));
                        let after = steps.run(Stage::After, load, &going, &mut progress).await;
                        match after {
                            Ok(()) => self.seen_again(tried, load, &answer, &progress),
                            Err(failed) => *failed,
                        }
                    }
                    None => tried,
                }
            }
        };
        tried.attempt.duration_ms = u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX);
        tried.attempt.kept = progress.kept(tried.attempt.kept.take());
        tried
    }

    /// The same for people ([`Courier::try_out`]): no answers are left in caches or taken from there, and the steps named
    /// in `canned` make no request.
    pub(in crate::delivery) async fn try_in_steps(
        &self,
        steps: &Steps,
        load: &Load<'_>,
        clock: Instant,
        canned: &[CannedAnswer],
    ) -> Trial {
        let mut progress = steps.progress();
        let mut going = Going {
            started: clock,
            response: None,
            trial: Some(canned),
        };
        let mut trial = match steps.run(Stage::Before, load, &going, &mut progress).await {
            Err(failed) => Trial::failed(*failed, self.scope_of(load)),
            Ok(()) => {
                let beside = progress.beside(None, None);
                let seen = Load {
                    beside: Some(&beside),
                    ..*load
                };
                let (mut trial, answer) = self.try_alone(&seen, clock).await;
                if let Some(answer) = answer.filter(|_| trial.outcome == Outcome::Delivered) {
                    going.response = Some(self.response(&answer));
                    if let Err(failed) = steps.run(Stage::After, load, &going, &mut progress).await {
                        trial = Trial::failed(*failed, trial.scope);
                    }
                }
                trial
            }
        };
        trial.took = clock.elapsed();
        // `expect` may speak of the steps after the answer too.
        trial.scope = trial.scope.with("appended", progress.beside(None, None).appended);
        trial.kept = progress.kept(None);
        trial
    }

    /// What is captured of an answer and born from it may speak of the steps after it, so that is worked out once more.
    fn seen_again(&self, mut tried: Tried, load: &Load<'_>, answer: &Answer, progress: &Progress) -> Tried {
        let Some(reader) = &self.reader else {
            return tried;
        };
        let beside = progress.beside(None, None);
        let load = Load {
            beside: Some(&beside),
            ..*load
        };
        let reading = reader.again(&load, answer);
        if reading.verdict.outcome == Outcome::Delivered {
            let again = self.reported(&load, reading, answer);
            tried.emissions = again.emissions;
            tried.attempt.kept = again.attempt.kept;
        }
        tried
    }

    /// What `reading` of an answer leaves, with the secrets masked that its request would carry now.
    fn reported(&self, load: &Load<'_>, reading: Reading, answer: &Answer) -> Tried {
        let witness = Witness {
            secrets: self
                .request(load)
                .map_or_else(|_| Vec::new(), |request| secrets(&request, &self.hidden)),
            ..Witness::default()
        };
        witness.report(load, Duration::ZERO, Some(answer), reading)
    }

    /// An answer as templates see it, and its bytes.
    fn response(&self, answer: &Answer) -> (Value, usize) {
        let response = Value::from_object(Response::new(answer, self.parse));
        (response, answer.body.len())
    }

    /// What comes of an answer that was written down, with no request.
    pub(super) fn answered(&self, load: &Load<'_>, answer: Answer) -> (Tried, Option<Answer>) {
        let sent = Sent {
            result: Ok(answer),
            exchange: Exchange::default(),
            ended: Instant::now(),
        };
        let reading = self.read(load, None, &sent, "the saved case", load.now);
        let answer = sent.result.ok();
        let tried = Witness::default().report(load, Duration::ZERO, answer.as_ref(), reading);
        (tried, answer)
    }
}
