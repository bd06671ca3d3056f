//! The timers of an IKE SA: a closed set.

use std::time::Instant;

/// What may fall due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// The peer did not go on with the key exchanges of an SA.
    Awaited,
    /// The IKE SA is too old.
    Expire,
    /// The handshake took too long.
    HalfOpen,
    /// The NAT mapping must be refreshed.
    Keepalive,
    /// The peer was silent for long.
    Liveness,
    /// The responder wants a new authentication soon.
    Reauthenticate,
    /// The IKE SA is one too many, or its peer did not remove it.
    Redundant,
    /// The IKE SA must be replaced.
    Rekey,
    /// A response is overdue.
    Retransmit,
}

impl Timer {
    const ALL: [Self; 9] = [
        Self::Awaited,
        Self::Expire,
        Self::HalfOpen,
        Self::Keepalive,
        Self::Liveness,
        Self::Reauthenticate,
        Self::Redundant,
        Self::Rekey,
        Self::Retransmit,
    ];

    /// Why the shell wakes up.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Awaited => "unfinished SA",
            Self::Expire => "IKE SA expires",
            Self::HalfOpen => "handshake expires",
            Self::Keepalive => "NAT keepalive",
            Self::Liveness => "liveness check",
            Self::Reauthenticate => "authentication expires",
            Self::Redundant => "redundant IKE SA",
            Self::Rekey => "IKE SA rekey",
            Self::Retransmit => "retransmission",
        }
    }
}

/// When each timer is due.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    due: [Option<Instant>; Timer::ALL.len()],
}

impl Timers {
    pub(crate) fn set(&mut self, timer: Timer, at: Instant) {
        self.due[timer as usize] = Some(at);
    }

    pub(crate) fn clear(&mut self, timer: Timer) {
        self.due[timer as usize] = None;
    }

    pub(crate) const fn due(&self, timer: Timer) -> Option<Instant> {
        self.due[timer as usize]
    }

    pub(crate) const fn is_set(&self, timer: Timer) -> bool {
        self.due[timer as usize].is_some()
    }

    pub(crate) fn is_due(&self, timer: Timer, now: Instant) -> bool {
        self.due[timer as usize].is_some_and(|at| at <= now)
    }

    /// The next timer that is due at `now`; it is cleared.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Timer> {
        let timer = Timer::ALL
            .into_iter()
            .find(|timer| self.due[*timer as usize].is_some_and(|at| at <= now))?;
        self.clear(timer);
        Some(timer)
    }

    /// The earliest timer.
    pub(crate) fn next(&self) -> Option<(Instant, &'static str)> {
        Timer::ALL
            .into_iter()
            .filter_map(|timer| self.due[timer as usize].map(|at| (at, timer.reason())))
            .min_by_key(|(at, _)| *at)
    }
}
