//! Moments and spans, as far as a snapshot needs them.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The wall clock's time.
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// What a text begins with that is a date and a time as RFC 3339 has them: `2026-11-21T05:04:18.123Z`, `…+01:00`.
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let number = |at: std::ops::Range<usize>| -> Option<i64> {
            let digits = text.get(at)?;
            digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
        };
        let sign = |at: usize| text.as_bytes().get(at).copied();
        let signs = [4, 7, 10, 13, 16].map(sign);
        if !matches!(signs, [Some(b'-'), Some(b'-'), Some(b'T' | b' '), Some(b':'), Some(b':')]) {
            return None;
        }
        let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
        let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
        let is_sound =
            (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
        let mut end = 19;
        let mut ms = 0;
        if sign(end) == Some(b'.') {
            let digits = text[end + 1..].bytes().take_while(u8::is_ascii_digit).count();
            ms = (0..3).fold(0, |ms, at| {
                ms * 10 + if at < digits { i64::from(text.as_bytes()[end + 1 + at] - b'0') } else { 0 }
            });
            end += 1 + digits;
        }
        let offset_minutes = match sign(end)? {
            b'Z' => 0,
            east @ (b'+' | b'-') if sign(end + 3) == Some(b':') => {
                let minutes = number(end + 1..end + 3)? * 60 + number(end + 4..end + 6)?;
                if east == b'+' { minutes } else { -minutes }
            }
            _ => return None,
        };
        let seconds = days(year, month, day) * 86_400 + hour * 3600 + (minute - offset_minutes) * 60 + second;
        is_sound.then_some(Self(seconds * 1000 + ms))
    }

    /// From a `stat` time: seconds and nanoseconds since the epoch.
    pub fn from_stat(seconds: i64, nanoseconds: i64) -> Self {
        Self(seconds * 1000 + nanoseconds / 1_000_000)
    }

    /// How long before `later` this was; `None` when it was after it (a clock was set back).
    pub fn age_at(self, later: Timestamp) -> Option<Duration> {
        (later >= self).then(|| Duration::from_millis(later.0.abs_diff(self.0)))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let ms = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self(ms(after)),
            Err(before) => Self(-ms(before.duration())),
        }
    }
}

/// RFC 3339 in UTC with seconds: `2026-11-21T05:04:18Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.div_euclid(1000);
        let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// The Gregorian date of a day counted from 1970-01-01 (Howard Hinnant's `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let of_era = z.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The day of a Gregorian date, counted from 1970-01-01 (Howard Hinnant's `days_from_civil`).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// A span as people say it, in at most two units: `45s`, `12m`, `3h 20m`, `5d 2h`.
pub fn short(span: Duration) -> String {
    let s = span.as_secs();
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m {}s", s / 60, s % 60),
        3600..86_400 => format!("{}h {}m", s / 3600, s / 60 % 60),
        _ => format!("{}d {}h", s / 86_400, s / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let table = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_795_237_458_999, "2026-11-21T05:04:18Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ];
        for (ms, text) in table {
            assert_eq!(Timestamp(ms).to_string(), text);
        }
    }

    #[test]
    fn times_of_logs_are_read_with_their_zone() {
        for ms in [0, 951_782_400_000, 1_795_237_458_000, -86_400_000] {
            assert_eq!(Timestamp::from_rfc3339(&Timestamp(ms).to_string()), Some(Timestamp(ms)));
        }
        let noon = Timestamp::from_rfc3339("2026-11-21T12:00:00Z").unwrap();
        assert_eq!(
            Timestamp::from_rfc3339("2026-11-21T13:30:00.123456789+01:30 node x"),
            Some(Timestamp(noon.0 + 123))
        );
        assert_eq!(
            Timestamp::from_rfc3339("2026-11-21 07:00:00.5-05:00\" level=error"),
            Some(Timestamp(noon.0 + 500))
        );
        for bad in [
            "",
            "2026-11-21",
            "2026-13-21T12:00:00Z",
            "2026-11-21T12:00:00",
            "2026-11-21T12:00:00.+01:0",
            "Nov 21 12:00:00",
            "２026-11-21T12:00:00Z",
        ] {
            assert_eq!(Timestamp::from_rfc3339(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_time_in_the_future_has_no_age() {
        assert_eq!(Timestamp(2000).age_at(Timestamp(1000)), None);
        assert_eq!(Timestamp(1000).age_at(Timestamp(2500)), Some(Duration::from_millis(1500)));
        let ever = Timestamp(i64::MIN).age_at(Timestamp(i64::MAX));
        assert_eq!(ever, Some(Duration::from_millis(u64::MAX)), "snapshots come from others");
    }
}
