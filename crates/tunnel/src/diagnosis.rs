//! What IKE knows about a connection, in the words of reports and of the log.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use isthmus_hostplan::diagnosis::{
    ChildSaReport, Diagnosis, EventReport, FindingReport, FindingSeverity, IkeSaReport,
};
use isthmus_ike as ike;
use isthmus_runtime::clock;
use isthmus_types::{IkeVersion, Timestamp};

/// Lines of one connection in the log within [`LOG_TIME`].
const LOG_LINES: usize = 20;
/// The same line is not written again within this time.
const LOG_TIME: Duration = Duration::from_secs(300);

/// A moment of both clocks, so that an instant always becomes the same time of day.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Epoch {
    instant: Instant,
    time: Timestamp,
}

impl Epoch {
    /// Now.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            instant: now,
            time: clock::now(),
        }
    }

    fn time(&self, at: Instant) -> Timestamp {
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Timestamp(match at.checked_duration_since(self.instant) {
            Some(after) => self.time.0.saturating_add(millis(after)),
            None => self.time.0.saturating_sub(millis(self.instant - at)),
        })
    }

    /// The status as it is reported.
    pub(crate) fn diagnosis(&self, status: &ike::ConnectionStatus, version: IkeVersion) -> Diagnosis {
        Diagnosis {
            findings: status
                .findings
                .iter()
                .map(|finding| self.finding(finding))
                .collect(),
            events: status
                .events
                .iter()
                .map(|event| EventReport {
                    at: self.time(event.at),
                    times: event.times,
                    code: event.kind.code().to_owned(),
                    sentence: event.kind.to_string(),
                })
                .collect(),
            ike: self.ike_sa(status, version),
            children: status.children.iter().map(|child| self.child(child)).collect(),
        }
    }

    fn finding(&self, finding: &ike::Finding) -> FindingReport {
        let kind = &finding.kind;
        FindingReport {
            code: kind.code().to_owned(),
            severity: match kind.severity() {
                ike::Severity::Error => FindingSeverity::Error,
                ike::Severity::Info => FindingSeverity::Info,
                ike::Severity::Warning => FindingSeverity::Warning,
            },
            field: kind.field().to_owned(),
            suspects: kind.suspects().into_iter().map(str::to_owned).collect(),
            sentence: kind.sentence(),
            fix: kind.fix(),
            ours: kind.ours(),
            theirs: kind.theirs(),
            first_at: self.time(finding.first_at),
            last_at: self.time(finding.last_at),
            times: finding.times,
        }
    }

    fn ike_sa(&self, status: &ike::ConnectionStatus, version: IkeVersion) -> Option<IkeSaReport> {
        let nat = status.nat?;
        Some(IkeSaReport {
            version: match version {
                IkeVersion::V1 => 1,
                IkeVersion::V2 => 2,
            },
            peer: status.remote?,
            suite: status.ike_suite?.to_string(),
            nat_here: nat.local,
            nat_there: nat.remote,
            established_at: self.time(status.established_at?),
            heard_at: self.time(status.last_heard?),
        })
    }

    fn child(&self, child: &ike::ChildStatus) -> ChildSaReport {
        let words = |selectors: &[ike::Selector]| selectors.iter().map(ToString::to_string).collect();
        ChildSaReport {
            inbound_spi: child.inbound_spi,
            outbound_spi: child.outbound_spi,
            suite: child.suite.to_string(),
            local: words(&child.local_selectors),
            remote: words(&child.remote_selectors),
            installed_at: self.time(child.installed_at),
            rekey_at: child.rekey_at.map(|at| self.time(at)),
            expires_at: self.time(child.expire_at),
            traffic: Default::default(),
        }
    }
}

/// Which lines of a connection the log has seen lately.
#[derive(Debug, Default)]
pub(crate) struct LogLimit(VecDeque<(Instant, String)>);

impl LogLimit {
    /// Whether the line may be written: not the same again, and not too many.
    pub(crate) fn admits(&mut self, line: &str, now: Instant) -> bool {
        while self
            .0
            .front()
            .is_some_and(|(at, _)| now.saturating_duration_since(*at) >= LOG_TIME)
        {
            self.0.pop_front();
        }
        if self.0.len() >= LOG_LINES || self.0.iter().any(|(_, seen)| seen == line) {
            return false;
        }
        self.0.push_back((now, line.to_owned()));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_always_becomes_the_same_time() {
        let now = Instant::now();
        let epoch = Epoch::new(now);
        let later = now + Duration::from_millis(1500);
        assert_eq!(epoch.time(later).0 - epoch.time(now).0, 1500);
        assert_eq!(epoch.time(later), epoch.time(later));
    }

    #[test]
    fn the_log_sees_a_line_once_and_not_too_many() {
        let now = Instant::now();
        let mut limit = LogLimit::default();
        assert!(limit.admits("a", now));
        assert!(!limit.admits("a", now));
        assert!(limit.admits("a", now + LOG_TIME));
        let admitted = (0..100)
            .filter(|n| limit.admits(&n.to_string(), now + LOG_TIME))
            .count();
        assert_eq!(admitted, LOG_LINES - 1);
    }
}
