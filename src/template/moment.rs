//! A point in time as templates see it: `now`, and what date filters make of an event's fields. It is given, never
//! asked for.

use std::fmt;
use std::sync::Arc;

use jiff::civil;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use minijinja::value::{Enumerator, Object};
use minijinja::{Error, Value};

use super::value::{defined, invalid};

/// An instant in a time zone. Printed as RFC 3339; its parts are `year month day hour minute second weekday` (1 is
/// Monday), `day_name`, `unix`, `unix_ms`, `iso`, `date`, `time`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Moment(pub Zoned);

impl Moment {
    /// The instant `unix_ms` milliseconds after 1970, in UTC; the last one there is when that is out of range.
    pub(super) fn from_unix_ms(unix_ms: u64) -> Self {
        let instant = i64::try_from(unix_ms)
            .ok()
            .and_then(|ms| Timestamp::from_millisecond(ms).ok())
            .unwrap_or(Timestamp::MAX);
        Self(instant.to_zoned(TimeZone::UTC))
    }

    /// Reads what events carry as dates: a moment, RFC 3339, a date and time or a date without a zone (UTC), or a
    /// number of seconds or milliseconds since 1970.
    pub(super) fn read(value: &Value) -> Result<Self, Error> {
        if let Some(moment) = value.downcast_object_ref::<Self>() {
            return Ok(moment.clone());
        }
        defined(value)?;
        let unknown = || {
            invalid(
                "it is not a date; dates are 2026-01-15, 2026-01-15T10:30:00Z, or seconds or milliseconds since 1970",
            )
        };
        if let Some(number) = value.as_i64().filter(|_| value.is_number()) {
            // Seconds reach this only in the year 5138.
            let milliseconds = if number.unsigned_abs() < 100_000_000_000 {
                number.saturating_mul(1000)
            } else {
                number
            };
            let instant = Timestamp::from_millisecond(milliseconds).map_err(|_| unknown())?;
            return Ok(Self(instant.to_zoned(TimeZone::UTC)));
        }
        let text = value.as_str().ok_or_else(unknown)?.trim();
        if let Ok(instant) = text.parse::<Timestamp>() {
            return Ok(Self(instant.to_zoned(TimeZone::UTC)));
        }
        let civil = text
            .parse::<civil::DateTime>()
            .or_else(|_| text.parse::<civil::Date>().map(|date| date.at(0, 0, 0, 0)))
            .map_err(|_| unknown())?;
        civil.to_zoned(TimeZone::UTC).map(Self).map_err(|_| unknown())
    }

    /// The same instant where the clocks of `zone` (an IANA name) are read.
    pub(super) fn in_zone(&self, zone: &str) -> Result<Self, Error> {
        let zone = TimeZone::get(zone).map_err(|_| {
            invalid(format!(
                "{zone:?} is not a time zone; write it like 'Europe/Berlin'"
            ))
        })?;
        Ok(Self(self.0.with_time_zone(zone)))
    }

    /// Formatted by strftime(3)'s letters.
    pub(super) fn format(&self, format: &str) -> Result<String, Error> {
        jiff::fmt::strtime::format(format, &self.0)
            .map_err(|error| invalid(format!("the date's format is wrong: {error}")))
    }

    /// Whole years from here to `later`, as birthdays count them; negative before.
    pub(super) fn years_until(&self, later: &Self) -> Result<i64, Error> {
        let span = self
            .0
            .date()
            .until((jiff::Unit::Year, later.0.date()))
            .map_err(|error| invalid(error.to_string()))?;
        Ok(i64::from(span.get_years()))
    }
}

/// RFC 3339: to the second where the milliseconds are zero, else to the millisecond.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = usize::from(self.0.millisecond() != 0) * 3;
        let instant = self.0.timestamp();
        if self.0.time_zone() == &TimeZone::UTC {
            return write!(f, "{instant:.digits$}");
        }
        write!(f, "{:.digits$}", instant.display_with_offset(self.0.offset()))
    }
}

impl Object for Moment {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let time = &self.0;
        Some(match key.as_str()? {
            "year" => Value::from(time.year()),
            "month" => Value::from(time.month()),
            "day" => Value::from(time.day()),
            "hour" => Value::from(time.hour()),
            "minute" => Value::from(time.minute()),
            "second" => Value::from(time.second()),
            "weekday" => Value::from(time.weekday().to_monday_one_offset()),
            "day_name" => Value::from(time.strftime("%A").to_string()),
            "unix" => Value::from(time.timestamp().as_second()),
            "unix_ms" => Value::from(time.timestamp().as_millisecond()),
            "iso" => Value::from(self.to_string()),
            "date" => Value::from(time.strftime("%Y-%m-%d").to_string()),
            "time" => Value::from(time.strftime("%H:%M:%S").to_string()),
            _ => return None,
        })
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::NonEnumerable
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}
