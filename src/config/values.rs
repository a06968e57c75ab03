//! Readers of single values: durations, sizes, counts, modes, paths, choices. Each takes what was written
//! and gives the value or says what is wrong with it; where it stands is somebody else's business.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use jiff::SpanRelativeTo;

use super::FreeMin;
use super::raw::Value;
use super::source::Place;
use crate::domain::names::{Names, called};
use crate::domain::rate::Rate;

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// What goes on after the offending text ("is not a duration"), or a whole sentence.
    pub says: String,
    /// What to do about it; may be empty.
    pub help: String,
    quotes: bool,
}

impl Wrong {
    /// Something that is said of the offending text: `"30 sekunden"` + `is not a duration`.
    pub(super) fn new(says: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            says: says.into(),
            help: help.into(),
            quotes: true,
        }
    }

    /// Something that stands for itself.
    pub(super) fn whole(says: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            says: says.into(),
            help: help.into(),
            quotes: false,
        }
    }

    /// The same with another help.
    pub(super) fn or_write(self, help: &str) -> Self {
        Self {
            help: help.to_owned(),
            ..self
        }
    }

    /// The message, about what stands at `place`.
    pub(super) fn about(&self, place: &Place) -> String {
        if self.quotes {
            format!("{} {}", place.quoted(), self.says)
        } else {
            self.says.clone()
        }
    }
}

/// The result of a reader.
pub(super) type Read<T> = Result<T, Wrong>;

/// A string, references resolved.
pub(super) fn text(value: &Value<'_>) -> Read<String> {
    Ok(value.resolved()?.text)
}

/// A duration, possibly zero.
pub(super) fn duration(value: &Value<'_>) -> Read<Duration> {
    parse_duration(&text(value)?)
        .ok_or_else(|| Wrong::new("is not a duration", "write it like 30s, 5m or 1h30m"))
}

/// How many in how much time; none when the text is empty.
pub(super) fn rate(value: &Value<'_>) -> Read<Option<Rate>> {
    let text = text(value)?;
    if text.is_empty() {
        return Ok(None);
    }
    Rate::parse(&text)
        .map(Some)
        .map_err(|_| Wrong::new("is not a rate", "write it like 100/s, 5000/m or 10/h"))
}

/// A duration above zero.
pub(super) fn some_duration(value: &Value<'_>) -> Read<Duration> {
    let duration = duration(value)?;
    if duration.is_zero() {
        return Err(Wrong::new(
            "has to be longer than nothing",
            "write it like 30s, 5m or 1h30m",
        ));
    }
    Ok(duration)
}

/// A size in bytes within `range`.
pub(super) fn size(range: RangeInclusive<u64>) -> impl Fn(&Value<'_>) -> Read<u64> {
    move |value| {
        let bytes = parse_size(&text(value)?)
            .ok_or_else(|| Wrong::new("is not a size", "write it like 64KiB, 1MiB or 10GiB"))?;
        if range.contains(&bytes) {
            return Ok(bytes);
        }
        let bounds = match (*range.start(), *range.end()) {
            (low, u64::MAX) => format!("at least {}", show_size(low)),
            (low, high) => format!("from {} to {}", show_size(low), show_size(high)),
        };
        Err(Wrong::new("is out of range", format!("it has to be {bounds}")))
    }
}

/// A floor on free space: a share of the file system or a size.
pub(super) fn free_min(value: &Value<'_>) -> Read<FreeMin> {
    let text = text(value)?;
    let parsed = match text.strip_suffix('%') {
        Some(share) => share
            .trim()
            .parse()
            .ok()
            .filter(|share| (0.0..=100.0).contains(share))
            .map(FreeMin::Percent),
        None => parse_size(&text).map(FreeMin::Bytes),
    };
    parsed.ok_or_else(|| Wrong::new("is neither a share nor a size", "write it like 5% or 10GiB"))
}

/// A whole number within `range`.
pub(super) fn count(range: RangeInclusive<u32>) -> impl Fn(&Value<'_>) -> Read<u32> {
    move |value| {
        let number = u32::try_from(value.integer()?)
            .ok()
            .filter(|number| range.contains(number));
        number.ok_or_else(|| {
            let help = format!("it has to be from {} to {}", range.start(), range.end());
            Wrong::new("is out of range", help)
        })
    }
}

/// A number within `range`.
pub(super) fn number(range: RangeInclusive<f64>) -> impl Fn(&Value<'_>) -> Read<f64> {
    move |value| {
        let number = value.number()?;
        if range.contains(&number) {
            return Ok(number);
        }
        let help = if range.end().is_finite() {
            format!("it has to be from {} to {}", range.start(), range.end())
        } else {
            format!("it has to be a number, at least {}", range.start())
        };
        Err(Wrong::new("is out of range", help))
    }
}

/// A file's permissions, as chmod(1) takes them.
pub(super) fn mode(value: &Value<'_>) -> Read<u32> {
    let wrong = || {
        Wrong::new(
            "is not a file mode",
            "write it in octal and in quotes, like \"0660\"",
        )
    };
    let text = value
        .resolved()
        .map_err(|wrong_text| if value.is_text() { wrong_text } else { wrong() })?
        .text;
    let digits =
        Some(&*text).filter(|text| (3..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()));
    digits
        .and_then(|digits| u32::from_str_radix(digits, 8).ok())
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(wrong)
}

/// Headers that posthaste sets from the request itself: a wrong one would break it.
const RESERVED_HEADERS: &[&str] = &[
    "connection",
    "content-length",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
    "x-posthaste-attempt",
];

/// The name of a header that posthaste doesn't set by itself.
pub(super) fn header_name(value: &Value<'_>) -> Read<http::HeaderName> {
    let name = http::HeaderName::from_bytes(text(value)?.as_bytes())
        .map_err(|_| Wrong::new("is not the name of a header", "letters, digits and - only"))?;
    if RESERVED_HEADERS.contains(&name.as_str()) {
        return Err(Wrong::new("is set by posthaste itself", "choose another header"));
    }
    Ok(name)
}

/// A path; a relative one starts at the folder of the file it is written in.
pub(super) fn path(value: &Value<'_>) -> Read<PathBuf> {
    let text = text(value)?;
    if text.is_empty() || text.contains('\0') {
        return Err(Wrong::new("is not a path", "write it like /var/lib/posthaste"));
    }
    let folder = value
        .place
        .source
        .path
        .parent()
        .unwrap_or(std::path::Path::new(""));
    let path = folder.join(text);
    Ok(std::path::absolute(&path).unwrap_or(path))
}

/// Longest path of a Unix socket: `sun_path` less its final zero, unix(7).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The path of a Unix socket.
pub(super) fn socket_path(value: &Value<'_>) -> Read<PathBuf> {
    let path = path(value)?;
    if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        return Err(Wrong::new(
            "is too long for a socket",
            format!("the whole path may have {SOCKET_PATH_BYTES_MAX} bytes"),
        ));
    }
    Ok(path)
}

/// One of a few words.
pub(super) fn choice<T: Copy>(words: &'static Names<T>) -> impl Fn(&Value<'_>) -> Read<T> {
    move |value| {
        called(words, &text(value)?).ok_or_else(|| {
            let known: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            Wrong::new("is not known here", format!("write one of {}", known.join(" ")))
        })
    }
}

/// Reads `500ms`, `30s`, `5m`, `2h`, `7d` and what can be put together from them. `None` for anything
/// else, for durations that go back, and for months and years, whose length varies.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let span: jiff::Span = text.parse().ok()?;
    if !text.starts_with(|c: char| c.is_ascii_digit()) || span.get_years() != 0 || span.get_months() != 0 {
        return None;
    }
    let exact = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    Duration::try_from(exact).ok()
}

/// A duration as [`parse_duration`] reads it, exact to the millisecond: `1h30m`.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut shown = String::new();
    for (unit, unit_ms) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ] {
        if rest >= unit_ms {
            shown.push_str(&format!("{}{unit}", rest / unit_ms));
            rest %= unit_ms;
        }
    }
    if shown.is_empty() { "0s".to_owned() } else { shown }
}

/// Reads `64KiB`, `1MiB`, `10GiB`, `500MB` or a plain number of bytes.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    text.parse::<bytesize::ByteSize>().ok().map(|size| size.as_u64())
}

/// A size as [`parse_size`] reads it, exact: in the largest binary unit that divides it.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let fitting = units
        .into_iter()
        .find(|(_, bits)| bytes != 0 && bytes.is_multiple_of(1u64 << bits));
    fitting.map_or(format!("{bytes}B"), |(unit, bits)| {
        format!("{}{unit}", bytes >> bits)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_show() {
        for (text, ms, shown) in [
            ("500ms", 500, "500ms"),
            ("30s", 30_000, "30s"),
            ("5m", 300_000, "5m"),
            ("2h", 7_200_000, "2h"),
            ("7d", 604_800_000, "7d"),
            ("1h30m", 5_400_000, "1h30m"),
            ("1h 30m", 5_400_000, "1h30m"),
            ("24h", 86_400_000, "1d"),
            ("300s", 300_000, "5m"),
            ("0s", 0, "0s"),
        ] {
            let expected = Duration::from_millis(ms);
            assert_eq!(parse_duration(text), Some(expected), "{text}");
            assert_eq!(show_duration(expected), shown, "{text}");
            assert_eq!(parse_duration(shown), Some(expected), "{shown}");
        }
        for text in [
            "",
            "30",
            "30 sekunden",
            "-5s",
            "5s ago",
            "1mo",
            "1y",
            "s",
            "PT5S",
            "99999999999999999999s",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_read_and_show() {
        for (text, bytes, shown) in [
            ("64KiB", 65_536, "64KiB"),
            ("1MiB", 1 << 20, "1MiB"),
            ("10GiB", 10 << 30, "10GiB"),
            ("1000", 1000, "1000B"),
            ("5MB", 5_000_000, "5000000B"),
            ("0", 0, "0B"),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
            assert_eq!(show_size(bytes), shown, "{text}");
            assert_eq!(parse_size(shown), Some(bytes), "{shown}");
        }
        for text in ["", "big", "-1MiB", "1 XB", "5%"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }
}
