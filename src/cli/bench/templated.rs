//! What the language costs: an endpoint whose body a template makes and whose answers are judged and captured from,
//! against one that sends the event as it is, in turns. Both are signed, and get the same answers.

use std::io;

use super::Bench;
use super::deliver::{Round, deliver};
use super::receiver::Counter;
use super::report::{Goal, Row};
use super::stage::{Stage, Target};

/// About what an API asks for: fields picked, cleaned and enriched; the answer says whether it worked, and as what.
pub const KEYS: &str = r#"
bind = "lead"
[endpoint.body]
format = "json"
template = """
{"lead": {"email": "{{ lead.email }}", "phone": "{{ lead.phone|digits }}", "name": "{{ lead.first_name or 'unknown' }}",
"state": "{{ lead.state }}", "score": {{ lead.score }}, "note": "{{ lead.text }}"}, "event": "{{ event.id }}"}
"""
[endpoint.response]
success = "response.status_code == 201 and response.status == 'created'"
capture = { lead_id = "response.lead.id", lead_score = "response.lead.score" }
"#;

/// Measures it.
///
/// # Errors
/// When something does not work at all.
pub async fn run(bench: &mut Bench) -> io::Result<()> {
    let mut receiver = Counter::start()?;
    let target = |name, keys| Target {
        name,
        path: "/created",
        keys,
        ..bench.live(receiver.address())
    };
    let targets = [target("plain", ""), target("templated", KEYS)];
    let stage = Stage::new(&bench.args.dir, "templated", &targets)?;
    let (mut per_second, mut cpu_us) = (Vec::new(), Vec::new());
    for round in 0..bench.args.rounds {
        // Whoever goes later has a warmer or a more tired machine, so they take turns at that too.
        let mut sides = [("plain", Round::default()), ("templated", Round::default())];
        for turn in 0..sides.len() {
            let (name, gave) = &mut sides[(round as usize + turn) % 2];
            *gave = deliver(&stage, name, &mut receiver, bench.span()).await?;
        }
        let [(_, plain), (_, templated)] = sides;
        per_second.push((templated.delivered_per_second, plain.delivered_per_second));
        cpu_us.push((templated.cpu_us, plain.cpu_us));
    }
    let report = &mut bench.report;
    let what = "by a template, answers captured";
    report.add(Row::of_rounds(what, "/s", "plain", &per_second).goal(Goal::RatioAtLeast(0.8)));
    let what = "its processor time, per event";
    report.add(Row::of_rounds(what, "µs", "plain", &cpu_us));
    Ok(())
}
