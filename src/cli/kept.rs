//! What was kept of a try, for people: what became of its steps, its flags, and what was captured.

use crate::control::types::{AttemptView, StepNoteView};

/// What was kept of a try: what became of its steps, its flags, and what was captured.
#[must_use]
pub fn lines(attempt: &AttemptView) -> Vec<String> {
    let mut lines: Vec<String> = attempt.steps.iter().map(step_line).collect();
    if !attempt.flags.is_empty() {
        lines.push(format!("  flags: {}", attempt.flags.join(" ")));
    }
    let captured = attempt.captured.as_ref();
    lines.extend(captured.map(|values| format!("  captured: {values}")));
    lines
}

/// One step of a try.
#[must_use]
pub fn step_line(note: &StepNoteView) -> String {
    let status = note.status.map_or(String::new(), |status| format!(" {status}"));
    let why = match &*note.message {
        "" => String::new(),
        message => format!(": {message}"),
    };
    format!(
        "  step {}: {}{status}, {} ms{why}",
        note.step, note.end, note.duration_ms
    )
}
