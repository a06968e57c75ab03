//! Bars and spinners on standard error for people who wait. Who is no terminal sees none, and who prints what it counts
//! to a terminal needs none.

use std::io::{IsTerminal, stderr, stdout};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a spinner moves.
const TICK: Duration = Duration::from_millis(120);

/// Something that may take long. Gone from the screen when it is dropped.
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// One piece of work, called `what`, of which nobody knows how long it takes.
    #[must_use]
    pub fn waiting(what: &'static str) -> Self {
        Self::new(None, "{spinner} {msg} {elapsed}", what, stderr().is_terminal())
    }

    /// Lines that go to standard output, called `what`; with `total` as many as there will be.
    #[must_use]
    pub fn writing(what: &'static str, total: Option<u64>) -> Self {
        let template = match total {
            Some(_) => "{bar:40} {human_pos}/{human_len} {msg} {per_sec} {eta}",
            None => "{spinner} {human_pos} {msg} {per_sec}",
        };
        let is_seen = stderr().is_terminal() && !stdout().is_terminal();
        Self::new(total, template, what, is_seen)
    }

    fn new(total: Option<u64>, template: &str, what: &'static str, is_seen: bool) -> Self {
        if !is_seen {
            return Self(ProgressBar::hidden());
        }
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        let bar = bar.with_style(style).with_message(what);
        bar.tick();
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// One more is done.
    pub fn step(&self) {
        self.0.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
