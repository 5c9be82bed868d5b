//! One Binding Update and what follows from it: retransmission, refresh, refusal (RFC 6275 §11.7.1, §11.8).

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use ipnet::Ipv6Net;

use super::{ClientEvent, Context};
use crate::mobility::sequence::{Sequence, is_within};
use crate::wire::mobility::{
    BindingAcknowledgement, BindingUpdate, Lifetime, MAX_PREFIXES, Message, Prefixes, Status,
};

/// INITIAL_BINDACK_TIMEOUT (RFC 6275 §12).
const INITIAL_TIMEOUT: Duration = Duration::from_secs(1);
/// InitialBindackTimeoutFirstReg (RFC 6275 §13).
const FIRST_TIMEOUT: Duration = Duration::from_millis(1500);
/// MAX_BINDACK_TIMEOUT (RFC 6275 §12); updates go on at this pace.
const MAX_TIMEOUT: Duration = Duration::from_secs(32);
/// MAX_UPDATE_RATE (RFC 6275 §12): updates of one binding per second.
const MAX_UPDATE_RATE: usize = 3;
/// Unanswered updates until the node is told.
const TELL_AFTER: u32 = 4;
/// Tries of a deregistration: the binding ends by itself anyway.
const RELEASE_TRIES: u32 = 3;
/// About when a refused update is tried again.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);

/// What the update says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// Bind the home address and these.
    Bind(Vec<Ipv6Net>),
    /// Take these back.
    Release(Vec<Ipv6Net>),
    /// Take everything back.
    ReleaseAll,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The session is down.
    Stopped,
    /// An update is wanted at this time.
    Due(Instant),
    /// Sent as `first` to `last`, all saying the same.
    Sent { first: u16, last: u16, tries: u32, pause: Duration, retry: Instant },
    /// Acknowledged.
    Bound { refresh: Instant },
    /// The home agent said no.
    Refused { retry: Instant },
    /// Nothing more to do.
    Over { acknowledged: bool },
}

/// Whose exchange it is.
#[derive(Clone, Copy)]
pub(super) struct Ends {
    pub(super) home_address: Ipv6Addr,
    pub(super) home_agent: Ipv6Addr,
}

/// One exchange.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) subject: Subject,
    phase: Phase,
    /// Until when the home agent keeps what it granted last.
    pub(super) expires: Option<Instant>,
    pub(super) refused: Option<Status>,
    sent: [Option<Instant>; MAX_UPDATE_RATE],
}

impl Exchange {
    pub(super) fn new(subject: Subject) -> Self {
        let sent = [None; MAX_UPDATE_RATE];
        Self { subject, phase: Phase::Stopped, expires: None, refused: None, sent }
    }

    fn is_release(&self) -> bool {
        !matches!(self.subject, Subject::Bind(_))
    }

    /// How it ended; only a release does.
    pub(super) fn over(&self) -> Option<bool> {
        match self.phase {
            Phase::Over { acknowledged } => Some(acknowledged),
            Phase::Stopped
            | Phase::Due(_)
            | Phase::Sent { .. }
            | Phase::Bound { .. }
            | Phase::Refused { .. } => None,
        }
    }

    /// An update shall go out at `at`; what is open is forgotten, because the update says something new.
    pub(super) fn start(&mut self, at: Instant) {
        if self.over().is_none() {
            self.phase = Phase::Due(at);
        }
    }

    /// Nothing can be sent now. A release is given up.
    pub(super) fn stop(&mut self) {
        self.phase = if self.is_release() { Phase::Over { acknowledged: false } } else { Phase::Stopped };
    }

    pub(super) fn deadline(&self) -> Option<(Instant, &'static str)> {
        let expires = self.expires.map(|at| (at, "end of binding"));
        [self.due(), expires].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    pub(super) fn due(&self) -> Option<(Instant, &'static str)> {
        match self.phase {
            Phase::Stopped | Phase::Over { .. } => None,
            Phase::Due(at) => Some((at, "binding update")),
            Phase::Sent { retry, .. } => Some((retry, "retransmission of a binding update")),
            Phase::Bound { refresh } => Some((refresh, "refresh of a binding")),
            Phase::Refused { retry } => Some((retry, "refused binding update")),
        }
    }

    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        ends: Ends,
        sequence: &mut Sequence,
        ctx: &mut Context,
    ) {
        if self.expires.is_some_and(|expires| expires <= now) {
            self.expires = None;
            ctx.events.push_back(ClientEvent::Lost { home_address: ends.home_address });
        }
        if self.due().is_none_or(|(at, _)| now < at) {
            return;
        }
        match self.phase {
            Phase::Stopped | Phase::Over { .. } => {}
            Phase::Due(_) | Phase::Bound { .. } | Phase::Refused { .. } => {
                self.send(now, ends, sequence, ctx, None);
            }
            Phase::Sent { first, tries, pause, .. } => {
                if self.is_release() && tries >= RELEASE_TRIES {
                    self.phase = Phase::Over { acknowledged: false };
                    return;
                }
                if tries == TELL_AFTER {
                    ctx.events.push_back(ClientEvent::Unanswered { home_address: ends.home_address });
                }
                let pause = (pause * 2).min(MAX_TIMEOUT);
                self.send(now, ends, sequence, ctx, Some((first, tries, pause)));
            }
        }
    }

    /// Sends an update; `again`: first number, tries and pause of what it repeats. Every transmission has a number of
    /// its own (RFC 6275 §11.8).
    fn send(
        &mut self,
        now: Instant,
        ends: Ends,
        sequence: &mut Sequence,
        ctx: &mut Context,
        again: Option<(u16, u32, Duration)>,
    ) {
        if let Some(allowed) = self.sent[0].map(|sent| sent + Duration::from_secs(1)).filter(|at| now < *at) {
            // What it repeats is said anew then.
            self.phase = Phase::Due(allowed);
            return;
        }
        self.sent.rotate_left(1);
        self.sent[MAX_UPDATE_RATE - 1] = Some(now);
        let (number, reserve) = sequence.next();
        if let Some(sequence) = reserve {
            let home_address = ends.home_address;
            ctx.events.push_back(ClientEvent::SequenceReserved { home_address, sequence });
        }
        let message = Message::Update(self.update(number, ctx));
        ctx.send(ends.home_address, ends.home_agent, &message);
        let first_ever = self.expires.is_none() && !self.is_release();
        let initial = if first_ever { FIRST_TIMEOUT } else { INITIAL_TIMEOUT };
        let (first, tries, pause) = again.unwrap_or((number, 0, initial));
        self.phase = Phase::Sent { first, last: number, tries: tries + 1, pause, retry: now + pause };
    }

    fn update(&self, number: u16, ctx: &Context) -> BindingUpdate {
        let lifetime = if self.is_release() { Lifetime::ZERO } else { ctx.config.lifetime };
        let mut update = BindingUpdate::new(number, lifetime);
        update.care_of = ctx.local.first().copied();
        if let Subject::Bind(prefixes) | Subject::Release(prefixes) = &self.subject {
            update.prefixes = packed(prefixes);
            update.flags.mobile_router = !prefixes.is_empty();
        }
        update
    }

    /// True when the acknowledgement was for this exchange.
    pub(super) fn acknowledged(
        &mut self,
        now: Instant,
        acknowledgement: &BindingAcknowledgement,
        ends: Ends,
        ctx: &mut Context,
    ) -> bool {
        let Phase::Sent { first, last, retry, .. } = &mut self.phase else { return false };
        if !is_within(acknowledgement.sequence, *first, *last) {
            return false;
        }
        let status = acknowledgement.status;
        if status.is_accepted() && acknowledgement.challenge.is_some() {
            // Tentative: another acknowledgement follows the response. Without it the update is said again.
            *retry = now + INITIAL_TIMEOUT;
            return true;
        }
        if status == Status::SEQUENCE_OUT_OF_WINDOW {
            // A copy came late: one of our own was taken before it, and its answer is on the way.
            return true;
        }
        if self.is_release() {
            // Whatever the home agent thinks of it: asking again would change nothing.
            self.phase = Phase::Over { acknowledged: status.is_accepted() };
        } else if status.is_accepted() && acknowledgement.lifetime > Lifetime::ZERO {
            self.bound(now, acknowledgement.lifetime, ends, ctx);
        } else {
            self.refuse(now, status, ends, ctx);
        }
        true
    }

    fn bound(&mut self, now: Instant, granted: Lifetime, ends: Ends, ctx: &mut Context) {
        let lifetime = granted.duration();
        if self.expires.is_none() || self.refused.is_some() {
            let (home_address, prefixes) = (ends.home_address, self.prefixes().to_vec());
            ctx.events.push_back(ClientEvent::Registered { home_address, prefixes, lifetime: granted });
        }
        self.expires = Some(now + lifetime);
        self.refused = None;
        self.phase =
            Phase::Bound { refresh: now + ctx.between(lifetime.mul_f64(0.6), lifetime.mul_f64(0.8)) };
    }

    fn refuse(&mut self, now: Instant, status: Status, ends: Ends, ctx: &mut Context) {
        // An acceptance for no time at all is a refusal without a reason.
        let status = if status.is_accepted() { Status::UNSPECIFIED } else { status };
        if self.refused != Some(status) {
            let (home_address, prefixes) = (ends.home_address, self.prefixes().to_vec());
            ctx.events.push_back(ClientEvent::Refused { home_address, prefixes, status });
        }
        self.refused = Some(status);
        self.phase = Phase::Refused {
            retry: now + ctx.between(REFUSED_PAUSE.mul_f64(0.75), REFUSED_PAUSE.mul_f64(1.25)),
        };
    }

    /// The home agent has seen another number than ours: an open update is said again behind that.
    pub(super) fn resynchronise(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Sent { .. }) {
            self.phase = Phase::Due(now);
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Sent { .. })
    }

    /// `number` is one that this exchange uses now.
    pub(super) fn uses(&self, number: u16) -> bool {
        matches!(self.phase, Phase::Sent { first, last, .. } if is_within(number, first, last))
    }

    pub(super) fn prefixes(&self) -> &[Ipv6Net] {
        match &self.subject {
            Subject::Bind(prefixes) | Subject::Release(prefixes) => prefixes,
            Subject::ReleaseAll => &[],
        }
    }
}

/// At most [`MAX_PREFIXES`] are there: the registration cuts them so.
fn packed(prefixes: &[Ipv6Net]) -> Prefixes {
    let mut packed = Prefixes::default();
    for prefix in prefixes.iter().take(MAX_PREFIXES) {
        let pushed = packed.push(*prefix);
        debug_assert!(pushed.is_ok());
    }
    packed
}
