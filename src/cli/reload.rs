//! `posthaste reload`: the daemon reads its configuration again and adopts it, all or nothing.

use clap::Args;

use super::client::Connect;
use super::failure::Done;
use super::print;
use crate::control::types::ReloadReport;

/// Arguments of `reload`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  posthaste check && posthaste reload")]
pub struct ReloadArgs {
    #[command(flatten)]
    connect: Connect,
}

/// Has the configuration adopted and shows what changed.
///
/// # Errors
/// When it has problems, all of which are shown, or the daemon can't be reached.
pub async fn run(args: ReloadArgs) -> Done {
    let client = args.connect.client()?;
    let report: ReloadReport = client.post("/v1/reload", &serde_json::json!({})).await?;
    if args.connect.json {
        return print::json_line(&report);
    }
    print::line(&text(&report))
}

fn text(report: &ReloadReport) -> String {
    let mut lines = vec![if report.hash == report.previous_hash {
        format!("nothing has changed; {} stays in force", report.hash)
    } else {
        format!(
            "{} is in force now; before: {}",
            report.hash, report.previous_hash
        )
    }];
    for (what, names) in [
        ("added", &report.added),
        ("removed (what they are owed stays, as orphaned)", &report.removed),
        ("changed", &report.changed),
        ("take effect at the next restart", &report.needs_restart),
    ] {
        if !names.is_empty() {
            lines.push(format!("  {what}: {}", names.join(", ")));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// I2: a reload reports the hash adopted and what is different.
    #[test]
    fn i2_reload_says_what_changed() {
        let mut report = ReloadReport {
            hash: "abc".to_owned(),
            previous_hash: "abc".to_owned(),
            ..ReloadReport::default()
        };
        assert_eq!(text(&report), "nothing has changed; abc stays in force");
        report.hash = "def".to_owned();
        report.removed = vec!["old".to_owned()];
        assert_eq!(
            text(&report),
            "def is in force now; before: abc\n  removed (what they are owed stays, as orphaned): old"
        );
    }
}
