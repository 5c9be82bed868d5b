//! Everything that one sender binds, under one SA and one run of sequence numbers.

use std::net::{Ipv6Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use ipnet::Ipv6Net;
use rand_core::Rng;

use super::exchange::{Ends, Exchange, Subject};
use super::{ClientEvent, Context, RegistrationConfig, RegistrationStatus};
use crate::mobility::Ignored;
use crate::mobility::sequence::Sequence;
use crate::wire::mobility::{BindingAcknowledgement, MAX_PREFIXES, Message, Status};

/// One registration.
pub(super) struct Registration {
    pub(super) home_address: Ipv6Addr,
    pub(super) home_agent: Ipv6Addr,
    /// Where the home agent sees us.
    pub(super) observed: Option<SocketAddrV4>,
    sequence: Sequence,
    up: bool,
    leaving: bool,
    over: bool,
    /// Binds first, [`MAX_PREFIXES`] prefixes each, then releases. The first one always exists.
    exchanges: Vec<Exchange>,
}

fn binds(prefixes: &[Ipv6Net]) -> Vec<Subject> {
    let mut sorted: Vec<Ipv6Net> = prefixes.iter().map(Ipv6Net::trunc).collect();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.is_empty() {
        return vec![Subject::Bind(Vec::new())];
    }
    sorted.chunks(MAX_PREFIXES).map(|part| Subject::Bind(part.to_vec())).collect()
}

impl Registration {
    pub(super) fn new(config: &RegistrationConfig, ctx: &mut Context) -> Self {
        // Without memory any start is as good: a home agent that remembers more answers 135.
        let used =
            config.sequence.unwrap_or_else(|| u16::try_from(ctx.rng.next_u32() >> 16).unwrap_or_default());
        Self {
            home_address: config.home_address,
            home_agent: config.home_agent,
            observed: None,
            sequence: Sequence::after(used),
            up: false,
            leaving: false,
            over: false,
            exchanges: binds(&config.prefixes).into_iter().map(Exchange::new).collect(),
        }
    }

    fn ends(&self) -> Ends {
        Ends { home_address: self.home_address, home_agent: self.home_agent }
    }

    pub(super) fn is_up(&self) -> bool {
        self.up
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    pub(super) fn behind_nat(&self, ctx: &Context) -> bool {
        self.observed.is_some_and(|seen| !ctx.local.contains(seen.ip()) || seen.port() != ctx.config.port)
    }

    /// Parts that say the same as before stay as they are; what is not wanted any more is taken back.
    pub(super) fn set_prefixes(&mut self, now: Instant, prefixes: &[Ipv6Net], ctx: &mut Context) {
        let wanted = binds(prefixes);
        let keeps = |prefix: &Ipv6Net| {
            wanted.iter().any(|subject| matches!(subject, Subject::Bind(list) if list.contains(prefix)))
        };
        let mut gone = Vec::new();
        let mut old = Vec::new();
        for exchange in std::mem::take(&mut self.exchanges) {
            match &exchange.subject {
                Subject::Bind(list) => {
                    gone.extend(list.iter().copied().filter(|prefix| !keeps(prefix)));
                    old.push(exchange);
                }
                // What is wanted again must not be taken back by a late copy.
                Subject::Release(list) if list.iter().any(keeps) => {
                    gone.extend(list.iter().copied().filter(|prefix| !keeps(prefix)));
                }
                Subject::Release(_) | Subject::ReleaseAll => self.exchanges.push(exchange),
            }
        }
        let releases = std::mem::take(&mut self.exchanges);
        for subject in wanted {
            let same = old.iter().position(|exchange| exchange.subject == subject);
            let exchange = same.map_or_else(|| Exchange::new(subject), |at| old.swap_remove(at));
            self.exchanges.push(exchange);
            if same.is_none() {
                self.start_last(now);
            }
        }
        self.exchanges.extend(releases);
        for part in gone.chunks(MAX_PREFIXES) {
            self.exchanges.push(Exchange::new(Subject::Release(part.to_vec())));
            self.start_last(now);
        }
        self.handle_timeout(now, ctx);
    }

    fn start_last(&mut self, now: Instant) {
        if self.up
            && let Some(exchange) = self.exchanges.last_mut()
        {
            exchange.start(now);
        }
    }

    pub(super) fn session_up(&mut self, now: Instant, spread: bool, ctx: &mut Context) {
        self.up = true;
        if self.leaving {
            return;
        }
        let spread = if spread { ctx.config.restart_spread } else { Duration::ZERO };
        let at = now + ctx.between(Duration::ZERO, spread);
        for exchange in &mut self.exchanges {
            exchange.start(at);
        }
        self.handle_timeout(now, ctx);
    }

    pub(super) fn session_down(&mut self, ctx: &mut Context) {
        self.up = false;
        for exchange in &mut self.exchanges {
            exchange.stop();
        }
        self.finish(ctx);
    }

    /// Says where we are, at once. One update is enough: the care-of address is that of everything the sender bound.
    /// What was refused is asked for again, too.
    pub(super) fn announce(&mut self, now: Instant, ctx: &mut Context) {
        if !self.up {
            return;
        }
        for (index, exchange) in self.exchanges.iter_mut().enumerate() {
            if index == 0 || exchange.refused.is_some() {
                exchange.start(now);
            }
        }
        self.handle_timeout(now, ctx);
    }

    pub(super) fn leave(&mut self, now: Instant, ctx: &mut Context) {
        if self.leaving {
            return;
        }
        self.leaving = true;
        let mut exchange = Exchange::new(Subject::ReleaseAll);
        if self.up {
            exchange.start(now);
        } else {
            exchange.stop();
        }
        self.exchanges = vec![exchange];
        self.handle_timeout(now, ctx);
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, ctx: &mut Context) {
        let ends = self.ends();
        for exchange in &mut self.exchanges {
            exchange.handle_timeout(now, ends, &mut self.sequence, ctx);
        }
        self.finish(ctx);
    }

    /// Drops releases that are over; the last one of a leaving registration ends it.
    fn finish(&mut self, ctx: &mut Context) {
        if self.over {
            return;
        }
        let last = self.exchanges.iter().filter_map(Exchange::over).next_back();
        self.exchanges.retain(|exchange| exchange.over().is_none());
        if self.leaving
            && self.exchanges.is_empty()
            && let Some(acknowledged) = last
        {
            self.over = true;
            let home_address = self.home_address;
            ctx.events.push_back(ClientEvent::Deregistered { home_address, acknowledged });
        }
    }

    pub(super) fn acknowledged(
        &mut self,
        now: Instant,
        acknowledgement: &BindingAcknowledgement,
        ctx: &mut Context,
    ) -> Result<(), Ignored> {
        if !self.exchanges.iter().any(Exchange::is_open) {
            return Err(Ignored::Unmatched);
        }
        let number = acknowledgement.sequence;
        if acknowledgement.status == Status::SEQUENCE_OUT_OF_WINDOW
            && !self.exchanges.iter().any(|exchange| exchange.uses(number))
        {
            self.sequence = Sequence::after(number);
            for exchange in &mut self.exchanges {
                exchange.resynchronise(now);
            }
            self.handle_timeout(now, ctx);
            return Ok(());
        }
        let ends = self.ends();
        let mut exchanges = self.exchanges.iter_mut();
        if !exchanges.any(|exchange| exchange.acknowledged(now, acknowledgement, ends, ctx)) {
            return Err(Ignored::Unmatched);
        }
        if let Some(cookie) = acknowledgement.challenge {
            ctx.send(self.home_address, self.home_agent, &Message::Response { cookie, observed: None });
        }
        if let Some(address) = acknowledgement.observed {
            self.set_observed(address, ctx);
        }
        self.finish(ctx);
        Ok(())
    }

    pub(super) fn set_observed(&mut self, address: SocketAddrV4, ctx: &mut Context) {
        if self.observed.replace(address) != Some(address) {
            let (home_address, behind_nat) = (self.home_address, self.behind_nat(ctx));
            ctx.events.push_back(ClientEvent::Observed { home_address, address, behind_nat });
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.exchanges.iter().filter_map(Exchange::deadline).min_by_key(|(at, _)| *at)
    }

    pub(super) fn status(&self, ctx: &Context) -> RegistrationStatus {
        let binds = || self.exchanges.iter().filter(|exchange| matches!(exchange.subject, Subject::Bind(_)));
        let registered = binds().all(|exchange| exchange.expires.is_some() && exchange.refused.is_none());
        RegistrationStatus {
            home_address: self.home_address,
            home_agent: self.home_agent,
            registered: registered && !self.leaving,
            prefixes: binds().flat_map(|exchange| exchange.prefixes().iter().copied()).collect(),
            observed: self.observed,
            behind_nat: self.behind_nat(ctx),
            next: self.exchanges.iter().filter_map(Exchange::due).min_by_key(|(at, _)| *at),
            expires: binds().filter_map(|exchange| exchange.expires).min(),
            refused: binds().find_map(|exchange| exchange.refused),
        }
    }
}
