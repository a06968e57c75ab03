//! How durations, sizes and instants are written in requests and for people. Pure.

use std::time::Duration;

use crate::config;
use crate::domain::time::Timestamp;

/// Reads `500ms`, `30s`, `5m`, `2h`, `7d`, or several of them in a row (`1h30m`).
///
/// # Errors
/// A sentence that names the text and shows what is understood.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    config::parse_duration(text)
        .ok_or_else(|| format!("{text:?} is not a duration; write it like 500ms, 30s, 5m, 2h or 7d"))
}

/// Writes a duration for people: the two largest units that are not zero, as [`parse_duration`] reads them.
#[must_use]
pub fn duration_text(duration: Duration) -> String {
    const UNITS: [(u64, &str); 5] = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1000, "s"),
        (1, "ms"),
    ];
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut parts = Vec::new();
    for (size, unit) in UNITS {
        if rest >= size {
            parts.push(format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    parts.truncate(2);
    if parts.is_empty() {
        return "0s".to_owned();
    }
    parts.concat()
}

/// Writes a number of bytes with the largest binary unit that leaves at least 1: `1.5 KiB`.
#[must_use]
pub fn bytes_text(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

/// Reads an instant: RFC 3339, or how long before `now` (`2h`).
///
/// # Errors
/// A sentence that names the text and shows what is understood.
pub fn parse_instant(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Some(instant) = Timestamp::parse_rfc3339(text) {
        return Ok(instant);
    }
    let ago = parse_duration(text).map_err(|_| {
        format!(
            "{text:?} is not a point in time; write it like 2026-01-15T10:30:00Z, or how long ago, like 2h"
        )
    })?;
    let ago_ms = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
    Ok(Timestamp(now.0.saturating_sub(ago_ms)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_go_both_ways() {
        for (text, ms, written) in [
            ("500ms", 500, "500ms"),
            ("30s", 30_000, "30s"),
            ("90s", 90_000, "1m30s"),
            ("5m", 300_000, "5m"),
            ("1h30m", 5_400_000, "1h30m"),
            ("7d", 604_800_000, "7d"),
            ("1d 2h 3m", 93_780_000, "1d2h"),
        ] {
            let parsed = parse_duration(text).unwrap();
            assert_eq!(parsed, Duration::from_millis(ms), "{text}");
            assert_eq!(duration_text(parsed), written, "{text}");
        }
        assert_eq!(duration_text(Duration::ZERO), "0s");
        for bad in ["", "5", "soon", "-5m", "5 parsecs"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn instants_are_absolute_or_ago() {
        let now = Timestamp(10_000_000);
        assert_eq!(parse_instant("2h", now), Ok(Timestamp(2_800_000)));
        assert_eq!(parse_instant("1970-01-01T00:00:01Z", now), Ok(Timestamp(1000)));
        assert_eq!(parse_instant("9d", now), Ok(Timestamp(0)));
        assert!(parse_instant("tuesday", now).unwrap_err().contains("2h"));
    }

    #[test]
    fn bytes_read_well() {
        assert_eq!(bytes_text(512), "512 B");
        assert_eq!(bytes_text(1536), "1.5 KiB");
        assert_eq!(bytes_text(20 << 30), "20.0 GiB");
    }
}
