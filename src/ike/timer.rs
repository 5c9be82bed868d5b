//! Named timers of one IKE SA.

use std::time::Instant;

/// What a timer is for. The order is that of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// An SA that is not authenticated yet is given up.
    HalfOpen,
    /// The IKE SA is rekeyed.
    Rekey,
    /// The peer is authenticated anew, on a new IKE SA.
    Reauth,
    /// The SA ends, whatever happened.
    Hard,
    /// Is the peer alive?
    Liveness,
    /// NAT keepalive (RFC 3948 §4).
    Keepalive,
    /// Another SA took this one's place: say goodbye.
    Superseded,
    /// Something that was refused with TEMPORARY_FAILURE is tried again.
    Retry,
}

impl Timer {
    const ALL: [Self; 8] = [
        Self::HalfOpen,
        Self::Rekey,
        Self::Reauth,
        Self::Hard,
        Self::Liveness,
        Self::Keepalive,
        Self::Superseded,
        Self::Retry,
    ];

    fn reason(self) -> &'static str {
        match self {
            Self::HalfOpen => "half-open IKE SA",
            Self::Rekey => "IKE rekey",
            Self::Reauth => "reauthentication",
            Self::Hard => "end of IKE SA",
            Self::Liveness => "liveness check",
            Self::Keepalive => "NAT keepalive",
            Self::Superseded => "superseded IKE SA",
            Self::Retry => "retry after TEMPORARY_FAILURE",
        }
    }
}

/// The timers of one SA.
#[derive(Default)]
pub(super) struct TimerTable([Option<Instant>; Timer::ALL.len()]);

impl TimerTable {
    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        self.0[timer as usize] = Some(at);
    }

    /// Unless it is due before that anyway.
    pub(super) fn set_earlier(&mut self, timer: Timer, at: Instant) {
        let slot = &mut self.0[timer as usize];
        *slot = Some(slot.map_or(at, |before| before.min(at)));
    }

    pub(super) fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    pub(super) fn get(&self, timer: Timer) -> Option<Instant> {
        self.0[timer as usize]
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.0[timer as usize].is_some()
    }

    /// Takes one timer that is due; call until there is none.
    pub(super) fn expired(&mut self, now: Instant) -> Option<Timer> {
        let timer =
            Timer::ALL.into_iter().find(|timer| self.0[*timer as usize].is_some_and(|at| at <= now))?;
        self.stop(timer);
        Some(timer)
    }

    /// The earliest deadline and its reason.
    pub(super) fn next(&self) -> Option<(Instant, &'static str)> {
        Timer::ALL
            .into_iter()
            .filter_map(|timer| Some((self.0[timer as usize]?, timer.reason())))
            .min_by_key(|(at, _)| *at)
    }
}
