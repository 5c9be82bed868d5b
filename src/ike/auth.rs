//! IKE_AUTH (RFC 7296 §1.2, §2.15, §2.16): both ends prove their permanent address and agree on the first child SA.
#![expect(clippy::wildcard_enum_match_arm, reason = "one kind of payload is picked out of a message")]

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use super::auth_data::SignedOctets;
use super::certificate::{self, Credential};
use super::child_offer::{ChildOffer, Purpose};
use super::context::{Context, Deferred};
use super::event::{CloseReason, Failure};
use super::inform::{error, find, first_error, goodbye};
use super::init::{HANDSHAKE_TRIES, HalfOpen};
use super::nat;
use super::resources;
use super::sa::{Phase, Sa};
use super::timer::Timer;
use super::window::{LONGEST_HANDSHAKE, Task, Want};
use crate::dataplane::event::UdpPath;
use crate::policy::pad::{Peer, Proof};
use crate::policy::stranger;
use crate::wire::ike::{Identification, Payload, exchange, notify_type as nt};

/// A refused SA answers retransmissions for this long.
const REFUSED_LIFETIME: Duration = Duration::from_secs(10);

/// What an initiator keeps until the IKE_AUTH response.
pub(super) struct AuthSent {
    nonce_i: Vec<u8>,
    nonce_r: Vec<u8>,
    /// The IKE_SA_INIT response, which the responder signs.
    response: Vec<u8>,
    /// None: a stranger asks for no child SA (RFC 6023).
    offer: Option<ChildOffer>,
}

impl AuthSent {
    /// Nothing came of it.
    fn abandon(&self, ctx: &mut Context, sa: &mut Sa) {
        if let Some(offer) = &self.offer {
            offer.abandon(ctx, sa);
        }
    }
}

/// What an IKE_AUTH message must have.
struct AuthPayloads<'a> {
    id: &'a Identification,
    method: u8,
    data: &'a [u8],
}

impl<'a> AuthPayloads<'a> {
    fn find(payloads: &'a [Payload], of_initiator: bool) -> Option<Self> {
        let id = payloads.iter().find_map(|payload| match payload {
            Payload::IdInitiator(id) if of_initiator => Some(id),
            Payload::IdResponder(id) if !of_initiator => Some(id),
            _ => None,
        })?;
        let (method, data) = payloads.iter().find_map(|payload| match payload {
            Payload::Auth { method, data } => Some((*method, data.as_slice())),
            _ => None,
        })?;
        Some(Self { id, method, data })
    }
}

impl Sa {
    /// Initiator: the first protected request.
    pub(super) fn send_auth(
        &mut self,
        ctx: &mut Context,
        now: Instant,
        request: Vec<u8>,
        nonce_i: Vec<u8>,
        response: Vec<u8>,
        nonce_r: Vec<u8>,
    ) {
        let id = Identification::from_address(self.local);
        let proof = ctx.config.pad.find(self.remote).map(|peer| peer.proof.clone());
        let key = ctx.entity(self.local).map(|entity| entity.signing_key.clone());
        let auth = match (&proof, &key, &self.keys) {
            (Some(proof), Some(key), Some(keys)) => {
                let signed =
                    SignedOctets { message: &request, nonce: &nonce_r, sk_p: &keys.material.sk_pi, id: &id };
                signed.prove(proof, key)
            }
            _ => None,
        };
        let Some(auth) = auth else {
            self.end(ctx, CloseReason::Failed(Failure::UnknownPeer(self.remote)));
            return;
        };
        let mut payloads = vec![Payload::IdInitiator(id)];
        if let Some(proof) = &proof {
            payloads.extend(self.own_certificate(ctx, now, proof, self.peer.wants_certificate));
            payloads.extend(certificate::raw_key(ctx, self.local));
            let by_certificate = matches!(proof, Proof::Certificate);
            payloads.extend(certificate::request(ctx, Some(self.remote)).filter(|_| by_certificate));
        }
        if self.replaces.is_none() && !ctx.contacted.contains(&(self.local, self.remote)) {
            payloads.push(nat::status(nt::INITIAL_CONTACT, Vec::new()));
        }
        payloads.push(Payload::IdResponder(Identification::from_address(self.remote)));
        payloads.push(auth);
        let childless = stranger::is_one(self.local);
        let offer = (!childless).then(|| ChildOffer::new(ctx, self, false, Purpose::First));
        payloads.extend(offer.iter().flat_map(|offer| offer.payloads(self, &[])));
        payloads.extend(offer.is_some().then(resources::info));
        if !self.is_relayed() && !childless {
            payloads.push(nat::status(nt::MOBIKE_SUPPORTED, Vec::new()));
        }
        self.request(ctx, now, exchange::IKE_AUTH, &payloads, Task::Auth);
        if let Some(out) = self.window.outstanding.as_mut() {
            out.tries = HANDSHAKE_TRIES;
            out.longest = LONGEST_HANDSHAKE;
        }
        self.phase = Phase::AuthSent(Box::new(AuthSent { nonce_i, nonce_r, response, offer }));
    }

    /// Initiator: the responder's proof. The response is protected, but by keys that nobody has proven yet.
    pub(super) fn handle_auth_response(
        &mut self,
        ctx: &mut Context,
        now: Instant,
        path: UdpPath,
        payloads: &[Payload],
    ) {
        let Phase::AuthSent(sent) = std::mem::replace(&mut self.phase, Phase::Closed) else { return };
        if let Some(reason) = self.farewell().cloned() {
            sent.abandon(ctx, self);
            if AuthPayloads::find(payloads, false).is_none() {
                self.end(ctx, reason);
            } else {
                self.request(ctx, now, exchange::INFORMATIONAL, &[goodbye()], Task::Refuse);
            }
            return;
        }
        let refused = first_error(payloads);
        let Some(auth) = AuthPayloads::find(payloads, false) else {
            let failure = match refused {
                Some(nt::AUTHENTICATION_FAILED) => Failure::Authentication(
                    "the peer refuses our proof (AUTHENTICATION_FAILED): compare keys, PSK and addresses on both ends, and whether it trusts our home"
                        .to_owned(),
                ),
                Some(kind) => Failure::Notify(kind),
                None => Failure::Protocol("IKE_AUTH response without AUTH".to_owned()),
            };
            sent.abandon(ctx, self);
            self.end(ctx, CloseReason::Failed(failure));
            return;
        };
        let verdict = self.verify_responder(ctx, now, &sent, &auth, payloads);
        self.path = path;
        if let Err(why) = verdict {
            sent.abandon(ctx, self);
            // The responder believes in this SA: tell it (RFC 7296 §2.21.2). To us it is closed: nothing but the answer to
            // this is of interest any more.
            self.refuse_peer(ctx, now, why);
            return;
        }
        self.peer.mobike = !self.is_relayed() && find(payloads, nt::MOBIKE_SUPPORTED).is_some();
        self.establish(ctx, now, now);
        ctx.deferred.push_back(Deferred::Established { id: self.id, initial_contact: false });
        let keys = (sent.nonce_i.as_slice(), sent.nonce_r.as_slice());
        let Some(offer) = &sent.offer else { return };
        match offer.accept(ctx, now, self, payloads, Purpose::First, keys, None) {
            Ok(_) => self.peer.resources = resources::is_wanted(payloads),
            Err(failure) => {
                let failure = match refused {
                    Some(nt::TS_UNACCEPTABLE) => Failure::SelectorsRefused,
                    Some(nt::NO_PROPOSAL_CHOSEN) => Failure::NoProposalChosen,
                    Some(kind) => Failure::Notify(kind),
                    None => failure,
                };
                ctx.emit(super::Event::InitiationFailed { local: self.local, remote: self.remote, failure });
                self.window.want_first(Want::DeleteIke(CloseReason::Local));
            }
        }
    }

    fn verify_responder(
        &mut self,
        ctx: &Context,
        now: Instant,
        sent: &AuthSent,
        auth: &AuthPayloads<'_>,
        payloads: &[Payload],
    ) -> Result<(), String> {
        if auth.id.address() != Some(self.remote) {
            return Err(format!("the peer says that it is {:?}, not {}", auth.id.address(), self.remote));
        }
        let peer =
            ctx.config.pad.find(self.remote).ok_or_else(|| format!("{} is no longer a peer", self.remote))?;
        let keys = self.keys.as_ref().ok_or_else(|| "no keys".to_owned())?;
        let signed = SignedOctets {
            message: &sent.response,
            nonce: &sent.nonce_i,
            sk_p: &keys.material.sk_pr,
            id: auth.id,
        };
        let credential = certificate::resolve(ctx, now, &peer, payloads)?;
        signed.verify(&credential.proof, auth.method, auth.data)?;
        self.trust_peer(ctx, now, &credential, payloads);
        Ok(())
    }

    fn refuse_peer(&mut self, ctx: &mut Context, now: Instant, why: String) {
        let (local, remote) = (self.local, self.remote);
        let failure = Failure::Authentication(why);
        ctx.emit(super::Event::InitiationFailed { local, remote, failure });
        let refusal = [error(nt::AUTHENTICATION_FAILED)];
        self.request(ctx, now, exchange::INFORMATIONAL, &refusal, Task::Refuse);
        self.timers.set(Timer::Hard, now + REFUSED_LIFETIME);
    }

    /// Responder: the initiator's proof and the first child SA.
    pub(super) fn handle_auth_request(
        &mut self,
        ctx: &mut Context,
        now: Instant,
        path: UdpPath,
        payloads: &[Payload],
    ) {
        let Phase::HalfOpen(half) = std::mem::replace(&mut self.phase, Phase::Closed) else { return };
        let (peer, local, credential) = match self.verify_initiator(ctx, now, &half, payloads) {
            Ok(proven) => proven,
            Err(why) => {
                if ctx.refusals.may_say(now) {
                    tracing::warn!(from = %path.remote, why, "IKE_AUTH refused");
                } else {
                    tracing::debug!(from = %path.remote, why, "IKE_AUTH refused");
                }
                self.respond(ctx, path, exchange::IKE_AUTH, &[error(nt::AUTHENTICATION_FAILED)]);
                self.timers.set(Timer::HalfOpen, now + REFUSED_LIFETIME);
                return;
            }
        };
        let childless = matches!(peer.proof, Proof::Stranger);
        if childless && !(path.relay.is_none() && ctx.strangers.admits(now, *path.remote.ip())) {
            tracing::debug!(from = %path.remote, "too many strangers");
            self.respond(ctx, path, exchange::IKE_AUTH, &[error(nt::TEMPORARY_FAILURE)]);
            self.timers.set(Timer::HalfOpen, now + REFUSED_LIFETIME);
            return;
        }
        self.local = local;
        self.remote = peer.address;
        self.path = path;
        self.trust_peer(ctx, now, &credential, payloads);
        let id = Identification::from_address(local);
        let key = ctx.entity(local).map(|entity| entity.signing_key.clone());
        let auth = match (&self.keys, &key) {
            (Some(keys), Some(key)) => {
                let signed = SignedOctets {
                    message: &half.response,
                    nonce: &half.nonce_i,
                    sk_p: &keys.material.sk_pr,
                    id: &id,
                };
                signed.prove(&peer.proof, key)
            }
            _ => None,
        };
        let Some(auth) = auth else { return };
        let certificate = self.own_certificate(ctx, now, &peer.proof, certificate::is_requested(payloads));
        self.peer.mobike = !self.is_relayed() && !childless && find(payloads, nt::MOBIKE_SUPPORTED).is_some();
        self.timers.stop(Timer::HalfOpen);
        self.establish(ctx, now, now);
        if childless {
            self.limit_stranger(now);
        }
        let initial_contact = find(payloads, nt::INITIAL_CONTACT).is_some();
        ctx.deferred.push_back(Deferred::Established { id: self.id, initial_contact });
        let mut reply = vec![Payload::IdResponder(id)];
        reply.extend(certificate);
        reply.push(auth);
        let nonces = (half.nonce_i.as_slice(), half.nonce_r.as_slice());
        // A stranger gets none, whatever it asks for.
        if !childless {
            match self.accept_child(ctx, now, payloads, nonces, Purpose::First) {
                Ok((_, child)) => {
                    reply.extend(child);
                    self.peer.resources = resources::is_wanted(payloads);
                    reply.extend(self.peer.resources.then(resources::info));
                }
                Err(kind) => reply.push(error(kind)),
            }
        }
        if self.peer.mobike {
            reply.push(nat::status(nt::MOBIKE_SUPPORTED, Vec::new()));
        }
        self.respond(ctx, path, exchange::IKE_AUTH, &reply);
    }

    /// Who is it, whom does it want, and is it proven?
    fn verify_initiator(
        &self,
        ctx: &Context,
        now: Instant,
        half: &HalfOpen,
        payloads: &[Payload],
    ) -> Result<(Peer, Ipv6Addr, Credential), String> {
        let auth = AuthPayloads::find(payloads, true).ok_or("no IDi or no AUTH payload")?;
        let address = auth.id.address().ok_or("the identity is not an IPv6 address")?;
        let peer = ctx.config.pad.find(address).ok_or_else(|| {
            format!(
                "{address} is no listed peer, and its home is not trusted: 'domicile peer add' or 'domicile trust add' lets it in"
            )
        })?;
        let named = payloads.iter().find_map(|payload| match payload {
            Payload::IdResponder(id) => Some(id.address()),
            _ => None,
        });
        let local = match (named, ctx.config.entities.as_slice()) {
            (Some(Some(wanted)), entities) => entities.iter().find(|entity| entity.address == wanted),
            (None, [sole]) => Some(sole),
            (Some(None) | None, _) => None,
        };
        let local =
            local.ok_or_else(|| format!("{address} asks for somebody who is not on this machine"))?.address;
        let keys = self.keys.as_ref().ok_or("no keys")?;
        let signed = SignedOctets {
            message: &half.request,
            nonce: &half.nonce_r,
            sk_p: &keys.material.sk_pi,
            id: auth.id,
        };
        let named = |why: &dyn std::fmt::Display| format!("{address}: {why}");
        let credential = certificate::resolve(ctx, now, &peer, payloads).map_err(|why| named(&why))?;
        signed.verify(&credential.proof, auth.method, auth.data).map_err(|why| named(&why))?;
        Ok((peer.into_owned(), local, credential))
    }
}
