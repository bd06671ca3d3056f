//! What was found out about one connection and what happened to it, bounded.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use isthmus_types::VpnConnectionId;

use crate::finding::{ConnectionEvent, EventKind, Finding, FindingKind, Note, Severity};
use crate::host::Host;

/// Most findings kept.
const MAX_FINDINGS: usize = 16;
/// Most events kept.
const MAX_EVENTS: usize = 32;
/// How many of the last events are looked through for the same one.
const LOOK_BACK: usize = 3;
/// A finding that was not made again for so long while others were says nothing about the state any more.
const STALE: Duration = Duration::from_secs(600);

/// Findings and events of a connection. What is new gets its time with [`Diary::stamp`], at the end of each input.
#[derive(Debug, Default)]
pub(crate) struct Diary {
    findings: Vec<Entry>,
    events: VecDeque<ConnectionEvent>,
    fresh: Vec<EventKind>,
}

#[derive(Debug)]
struct Entry {
    kind: FindingKind,
    first_at: Option<Instant>,
    last_at: Option<Instant>,
    times: u32,
}

impl Diary {
    /// Records a finding; one about the same takes the place of the older.
    pub(crate) fn find(&mut self, kind: FindingKind) {
        if let Some(known) = self.findings.iter_mut().find(|known| kind.replaces(&known.kind)) {
            known.kind = kind;
            known.last_at = None;
            known.times = known.times.saturating_add(1);
            return;
        }
        self.fresh.push(EventKind::Found {
            sentence: kind.explanation(),
            severity: kind.severity(),
        });
        if self.findings.len() >= MAX_FINDINGS {
            let least = (0..self.findings.len()).min_by_key(|place| {
                let known = &self.findings[*place];
                (
                    known.kind.severity(),
                    known.last_at.map_or((true, None), |at| (false, Some(at))),
                )
            });
            if let Some(least) = least {
                self.findings.remove(least);
            }
        }
        self.findings.push(Entry {
            kind,
            first_at: None,
            last_at: None,
            times: 1,
        });
    }

    /// Records an event.
    pub(crate) fn note(&mut self, kind: EventKind) {
        self.fresh.push(kind);
    }

    /// Drops the findings that were disproved.
    pub(crate) fn disprove(&mut self, disproved: impl Fn(&FindingKind) -> bool) {
        self.findings.retain(|known| !disproved(&known.kind));
    }

    /// Whether there is such a finding.
    pub(crate) fn holds(&self, wanted: impl Fn(&FindingKind) -> bool) -> bool {
        self.findings.iter().any(|known| wanted(&known.kind))
    }

    /// Gives what is new its time, and tells the shell of it.
    pub(crate) fn stamp(&mut self, connection: VpnConnectionId, host: &mut Host, now: Instant) {
        for known in &mut self.findings {
            known.first_at.get_or_insert(now);
            known.last_at.get_or_insert(now);
        }
        for kind in std::mem::take(&mut self.fresh) {
            let recent = self.events.len().saturating_sub(LOOK_BACK)..self.events.len();
            let again = recent.rev().find(|place| self.events[*place].kind == kind);
            if let Some(mut event) = again.and_then(|place| self.events.remove(place)) {
                event.at = now;
                event.times = event.times.saturating_add(1);
                self.events.push_back(event);
                continue;
            }
            host.note(Note {
                connection,
                kind: kind.clone(),
            });
            if self.events.len() >= MAX_EVENTS {
                self.events.pop_front();
            }
            self.events.push_back(ConnectionEvent {
                at: now,
                times: 1,
                kind,
            });
        }
    }

    /// The finding that explains best why the connection is down.
    pub(crate) fn leading(&self) -> Option<&FindingKind> {
        let newest = self.findings.iter().filter_map(|known| known.last_at).max();
        let is_stale = |known: &&Entry| match (newest, known.last_at) {
            (Some(newest), Some(at)) => newest.saturating_duration_since(at) > STALE,
            (None, _) | (_, None) => false,
        };
        self.findings
            .iter()
            .filter(|known| !is_stale(known))
            .filter(|known| {
                known.kind.severity() == Severity::Error || matches!(known.kind, FindingKind::Other { .. })
            })
            .max_by_key(|known| {
                // What has no time yet is the newest.
                let age = known.last_at.map_or((true, None), |at| (false, Some(at)));
                (known.kind.severity(), known.kind.certainty(), age)
            })
            .map(|known| &known.kind)
    }

    /// All findings, the gravest first, then the newest.
    pub(crate) fn findings(&self, now: Instant) -> Vec<Finding> {
        let mut findings: Vec<Finding> = self
            .findings
            .iter()
            .map(|known| Finding {
                kind: known.kind.clone(),
                first_at: known.first_at.unwrap_or(now),
                last_at: known.last_at.unwrap_or(now),
                times: known.times,
            })
            .collect();
        sort(&mut findings);
        findings
    }

    /// The last events, oldest first.
    pub(crate) fn events(&self) -> Vec<ConnectionEvent> {
        self.events.iter().cloned().collect()
    }
}

/// The gravest first, then the surest, then the newest.
pub(crate) fn sort(findings: &mut [Finding]) {
    findings.sort_by_key(|finding| {
        std::cmp::Reverse((finding.kind.severity(), finding.kind.certainty(), finding.last_at))
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Unanswered;
    use crate::status::DownReason;

    fn silence(tries: u32) -> FindingKind {
        FindingKind::NoAnswer {
            peer: "192.0.2.1:500".parse().unwrap(),
            to: Unanswered::FirstMessage,
            tries,
        }
    }

    fn key() -> FindingKind {
        FindingKind::KeyMismatch {
            identity: "name a.example".into(),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "an origin for times that are passed in")]
    fn start() -> Instant {
        Instant::now()
    }

    fn host() -> Host {
        Host::new("192.0.2.9".parse().unwrap(), [7; 32])
    }

    #[test]
    fn the_newer_of_two_about_the_same_replaces_the_older() {
        let (mut diary, mut host, now) = (Diary::default(), host(), start());
        let id = VpnConnectionId::from(isthmus_types::ResourceBits::from_random(1));
        diary.find(silence(1));
        diary.stamp(id, &mut host, now);
        diary.find(silence(4));
        let later = now + Duration::from_secs(9);
        diary.stamp(id, &mut host, later);
        let [finding] = diary.findings(later).try_into().unwrap();
        assert_eq!((finding.kind, finding.times), (silence(4), 2));
        assert_eq!((finding.first_at, finding.last_at), (now, later));
        // Only what is new is an event.
        assert_eq!(diary.events().len(), 1);
    }

    #[test]
    fn the_surest_leads_until_it_is_stale() {
        let (mut diary, mut host, now) = (Diary::default(), host(), start());
        let id = VpnConnectionId::from(isthmus_types::ResourceBits::from_random(1));
        diary.find(key());
        diary.stamp(id, &mut host, now);
        diary.find(silence(3));
        diary.stamp(id, &mut host, now + Duration::from_secs(60));
        assert_eq!(diary.leading(), Some(&key()));
        diary.find(silence(3));
        diary.stamp(id, &mut host, now + STALE + Duration::from_secs(60));
        assert_eq!(diary.leading(), Some(&silence(3)));
        diary.disprove(|kind| matches!(kind, FindingKind::NoAnswer { .. }));
        assert_eq!(diary.leading(), Some(&key()));
    }

    #[test]
    fn what_goes_on_and_on_stands_once_and_last() {
        let (mut diary, mut host, now) = (Diary::default(), host(), start());
        let id = VpnConnectionId::from(isthmus_types::ResourceBits::from_random(1));
        let deleted = |spi| EventKind::ChildDeleted {
            by: crate::finding::End::Peers,
            spi,
        };
        for (after, spi) in [(0, 1), (1, 2), (2, 1), (3, 2), (4, 1)] {
            diary.note(deleted(spi));
            diary.stamp(id, &mut host, now + Duration::from_secs(after));
        }
        let events: Vec<_> = diary
            .events()
            .into_iter()
            .map(|event| (event.kind, event.times, event.at - now))
            .collect();
        let seconds = Duration::from_secs;
        assert_eq!(events, [(deleted(2), 2, seconds(3)), (deleted(1), 3, seconds(4))]);
    }

    #[test]
    fn findings_and_events_are_bounded() {
        let (mut diary, mut host, now) = (Diary::default(), host(), start());
        let id = VpnConnectionId::from(isthmus_types::ResourceBits::from_random(1));
        diary.find(key());
        for spi in 0..100 {
            diary.note(EventKind::ChildDeleted {
                by: crate::finding::End::Peers,
                spi,
            });
            diary.stamp(id, &mut host, now);
        }
        assert_eq!(diary.events().len(), MAX_EVENTS);
        let other = FindingKind::Other {
            reason: DownReason::Negotiating,
            detail: "the peer closed the connection".into(),
        };
        diary.find(other.clone());
        assert_eq!(diary.leading(), Some(&key()));
        diary.disprove(|kind| matches!(kind, FindingKind::KeyMismatch { .. }));
        assert_eq!(diary.leading(), Some(&other));
    }
}
