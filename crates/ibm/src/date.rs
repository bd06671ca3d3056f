//! The `version` date that a client speaks.

use std::fmt;

use http::StatusCode;
use isthmus_types::Timestamp;

use crate::fault::{Fault, Target};

/// A calendar date that a client names in `version`, and that decides how objects look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiDate {
    year: u16,
    month: u8,
    day: u8,
}

impl ApiDate {
    /// The first date that is served.
    pub const OLDEST: Self = Self::new(2019, 1, 1);
    /// From here dead-peer detection defaults to `restart`, 2 s and 10 s.
    pub const RESTART_BY_DEFAULT: Self = Self::new(2020, 9, 8);
    /// From here a gateway is made with a `mode`.
    pub const GATEWAY_MODE: Self = Self::new(2020, 11, 13);
    /// From here an interface's address is a reserved IP.
    pub const RESERVED_IP: Self = Self::new(2022, 3, 29);
    /// From here policies may no longer name MD5, SHA-1, 3DES and the groups 2 and 5.
    pub const LEGACY_REMOVED: Self = Self::new(2023, 5, 18);
    /// From here gateways have no `status`.
    pub const NO_GATEWAY_STATUS: Self = Self::new(2023, 10, 10);
    /// From here connections have `local` and `peer` objects.
    pub const NESTED_CONNECTION: Self = Self::new(2024, 4, 30);
    /// From here a rule for TCP, UDP and ICMP together reads `icmp_tcp_udp`.
    pub const ICMP_TCP_UDP: Self = Self::new(2025, 12, 9);
    /// From here the list of instance profiles has pages.
    pub const PAGED_PROFILES: Self = Self::new(2026, 4, 7);

    // Clients send their own release date, so a server whose clock lags behind accepts at least these.
    const ALWAYS_ACCEPTED: Self = Self::new(2026, 12, 31);

    const fn new(year: u16, month: u8, day: u8) -> Self {
        Self { year, month, day }
    }

    /// Checks the `version` parameter of a request made at `now`.
    pub(crate) fn from_parameter(value: Option<&str>, now: Timestamp) -> Result<Self, Fault> {
        let fault = |code, message: String| {
            Fault::new(StatusCode::BAD_REQUEST, code, message)
                .at(Target::parameter("version").with_value(value.unwrap_or_default()))
        };
        let text = value.filter(|text| !text.is_empty()).ok_or_else(|| {
            fault(
                "missing_version",
                "the query parameter version is missing".to_owned(),
            )
        })?;
        let date = Self::parse(text).ok_or_else(|| {
            fault(
                "invalid_version",
                format!("{text} is not a date in the form YYYY-MM-DD"),
            )
        })?;
        let tomorrow = Timestamp(now.0.saturating_add(86_400_000)).to_string();
        let latest = tomorrow
            .get(..10)
            .and_then(Self::parse)
            .unwrap_or(Self::ALWAYS_ACCEPTED)
            .max(Self::ALWAYS_ACCEPTED);
        if (Self::OLDEST..=latest).contains(&date) {
            Ok(date)
        } else {
            Err(fault(
                "invalid_version_range",
                format!("{date} is not between {} and {latest}", Self::OLDEST),
            ))
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let form = bytes.len() == 10
            && bytes.iter().enumerate().all(|(index, byte)| match index {
                4 | 7 => *byte == b'-',
                _ => byte.is_ascii_digit(),
            });
        if !form {
            return None;
        }
        let year: u16 = text.get(..4)?.parse().ok()?;
        let month: u8 = text.get(5..7)?.parse().ok()?;
        let day: u8 = text.get(8..)?.parse().ok()?;
        let leap = (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400);
        let days = match month {
            1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
            4 | 6 | 9 | 11 => 30,
            2 if leap => 29,
            2 => 28,
            _ => return None,
        };
        (1..=days).contains(&day).then_some(Self { year, month, day })
    }
}

impl fmt::Display for ApiDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOV_2026: Timestamp = Timestamp(1_795_250_000_000);

    fn code(value: Option<&str>) -> &'static str {
        ApiDate::from_parameter(value, NOV_2026).unwrap_err().code
    }

    #[test]
    fn dates_are_checked_for_form_calendar_and_range() {
        assert_eq!(code(None), "missing_version");
        assert_eq!(code(Some("")), "missing_version");
        for text in [
            "2020-13-40",
            "2021-02-29",
            "2020-2-14",
            "20200214",
            "2020-02-14 ",
            "二〇二〇-02",
            "+020-01-01",
        ] {
            assert_eq!(code(Some(text)), "invalid_version", "{text}");
        }
        for text in ["2018-12-31", "9999-01-01", "2027-01-01"] {
            assert_eq!(code(Some(text)), "invalid_version_range", "{text}");
        }
        for text in ["2019-01-01", "2020-02-29", "2026-10-06", "2026-12-31"] {
            assert_eq!(
                ApiDate::from_parameter(Some(text), NOV_2026).unwrap().to_string(),
                text
            );
        }
    }

    #[test]
    fn tomorrow_is_accepted_when_the_clock_is_later_than_the_fixed_date() {
        let june_2028 = Timestamp(1_843_560_000_000);
        assert!(ApiDate::from_parameter(Some("2028-06-03"), june_2028).is_ok());
        assert!(ApiDate::from_parameter(Some("2028-06-04"), june_2028).is_err());
    }
}
