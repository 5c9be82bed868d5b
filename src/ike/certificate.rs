//! Certificates in IKE_AUTH (RFC 7296 §3.6, §3.7; RFC 4945): what is shown, what is asked for, and how long an SA that
//! rests on one may live.
#![expect(clippy::wildcard_enum_match_arm, reason = "one kind of payload is picked out of a message")]

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use super::context::Context;
use super::endpoint::Endpoint;
use super::event::IkeId;
use super::nat;
use super::sa::Sa;
use super::timer::Timer;
use crate::crypto::identity::{PrivateKey, PublicKey};
use crate::policy::certificates::{Certified, Shown, TrustSpan};
use crate::policy::pad::{Peer, Proof};
use crate::policy::stranger;
use crate::wire::ike::{CERT_RAW_PUBLIC_KEY, CERT_X509_SIGNATURE, Payload, notify_type as nt};

/// Certificates that are looked at in one message.
const MAX_CERTIFICATES: usize = 8;
/// Endorsements that are looked at in one message.
const MAX_ENDORSEMENTS: usize = 8;

/// The key of a stranger, as it is: the one that its identity stands for.
fn stranger_key(peer: &Peer, payloads: &[Payload]) -> Result<Credential, String> {
    let shown = payloads.iter().find_map(|payload| match payload {
        Payload::Certificate { encoding, data } if *encoding == CERT_RAW_PUBLIC_KEY => Some(data.as_slice()),
        _ => None,
    });
    let key = PublicKey::from_spki_der(shown.ok_or("a stranger shows no raw public key")?)
        .map_err(|error| error.to_string())?;
    if stranger::identity(&key) != peer.address {
        return Err("the stranger's identity is not that of its key".to_owned());
    }
    Ok(Credential { proof: Proof::PublicKey(*key.as_bytes()), certified: None })
}

/// Our own key as a stranger shows it (RFC 7670 §3).
pub(super) fn raw_key(ctx: &Context, local: Ipv6Addr) -> Option<Payload> {
    let entity = ctx.entity(local).filter(|_| stranger::is_one(local))?;
    let key = PrivateKey::from_secret(&entity.signing_key).ok()?;
    let data = key.public().to_spki_der().to_vec();
    Some(Payload::Certificate { encoding: CERT_RAW_PUBLIC_KEY, data })
}

/// What a peer is to be verified with, after its certificate was.
pub(super) struct Credential {
    /// A key or a PSK, never [`Proof::Certificate`].
    pub(super) proof: Proof,
    /// When the proof is a key out of a certificate.
    pub(super) certified: Option<Certified>,
}

/// Does the peer ask for a certificate of a kind that we have?
pub(super) fn is_requested(payloads: &[Payload]) -> bool {
    payloads.iter().any(|payload| {
        matches!(payload, Payload::CertificateRequest { encoding, .. } if *encoding == CERT_X509_SIGNATURE)
    })
}

/// Whose certificate we want: that of `remote`, or of a stranger that has not said yet who it is.
pub(super) fn request(ctx: &Context, remote: Option<Ipv6Addr>) -> Option<Payload> {
    let certificates = ctx.config.pad.certificates()?;
    let data = certificates.authorities(remote).concat();
    (!data.is_empty()).then_some(Payload::CertificateRequest { encoding: CERT_X509_SIGNATURE, data })
}

fn shown(payloads: &[Payload]) -> Shown<'_> {
    let certificates = payloads.iter().filter_map(|payload| match payload {
        Payload::Certificate { encoding, data } if *encoding == CERT_X509_SIGNATURE => Some(data.as_slice()),
        _ => None,
    });
    let endorsements = payloads.iter().filter_map(|payload| match payload {
        Payload::Notify(notify) if notify.kind == nt::KEY_ENDORSEMENT => Some(notify.data.as_slice()),
        _ => None,
    });
    Shown {
        certificates: certificates.take(MAX_CERTIFICATES).collect(),
        endorsements: endorsements.take(MAX_ENDORSEMENTS).collect(),
    }
}

/// The key that proves this peer. Its signature is not verified yet.
pub(super) fn resolve(
    ctx: &Context,
    now: Instant,
    peer: &Peer,
    payloads: &[Payload],
) -> Result<Credential, String> {
    if matches!(peer.proof, Proof::Stranger) {
        return stranger_key(peer, payloads);
    }
    if !matches!(peer.proof, Proof::Certificate) {
        return Ok(Credential { proof: peer.proof.clone(), certified: None });
    }
    let certificates = ctx.config.pad.certificates().ok_or("no home is trusted on this machine")?;
    let certified = certificates.verify(now, peer.address, &shown(payloads))?;
    Ok(Credential { proof: Proof::PublicKey(certified.key), certified: Some(certified) })
}

impl Sa {
    /// Our certificate and what vouches for its key, when the peer knows us by it or asks for it.
    pub(super) fn own_certificate(
        &mut self,
        ctx: &Context,
        now: Instant,
        proof: &Proof,
        requested: bool,
    ) -> Vec<Payload> {
        let wanted = match proof {
            Proof::Psk(_) => false,
            Proof::PublicKey(_) => requested,
            Proof::Certificate | Proof::Stranger => true,
        };
        let own = ctx.config.pad.certificates().filter(|_| wanted).and_then(|all| all.own(now, self.local));
        let signing =
            ctx.entity(self.local).and_then(|entity| PrivateKey::from_secret(&entity.signing_key).ok());
        let Some((own, signing)) = own.zip(signing) else { return Vec::new() };
        if own.key != *signing.public().as_bytes() {
            tracing::warn!(address = %self.local, "the certificate is for another key than the one in key_file: it is not shown");
            return Vec::new();
        }
        self.trust = Some(self.trust.map_or(own.span, |span| span.earlier(own.span)));
        let mut payloads = vec![Payload::Certificate { encoding: CERT_X509_SIGNATURE, data: own.leaf }];
        if matches!(proof, Proof::Stranger) {
            // It does not know our root yet: it shows its fingerprint to whoever sits there.
            let root = ctx.config.pad.certificates().and_then(|all| all.root(self.local));
            payloads.extend(root.map(|data| Payload::Certificate { encoding: CERT_X509_SIGNATURE, data }));
            return payloads;
        }
        if self.peer.domicile {
            payloads.extend(own.endorsements.into_iter().map(|data| nat::status(nt::KEY_ENDORSEMENT, data)));
        }
        payloads
    }

    /// The peer's signature matches the key: what rests on its certificate ends with it.
    pub(super) fn trust_peer(
        &mut self,
        ctx: &Context,
        now: Instant,
        credential: &Credential,
        payloads: &[Payload],
    ) {
        let Some(certified) = &credential.certified else { return };
        self.trust = Some(self.trust.map_or(certified.span, |span| span.earlier(certified.span)));
        if let Some(certificates) = ctx.config.pad.certificates() {
            certificates.proven(now, self.remote, certified, &shown(payloads));
        }
    }

    /// Reauthentication and hard end move forward to where certificates want them: the initiator acts first, the
    /// responder when it has not.
    pub(super) fn limit_by_certificates(&mut self, ctx: &mut Context, now: Instant) {
        let Some(TrustSpan { refresh, ends }) = self.trust else { return };
        let Some(unix) = ctx.config.pad.certificates().map(|certificates| certificates.unix(now)) else {
            return;
        };
        let until = |then: u64| Duration::from_secs(then.saturating_sub(unix));
        let window = until(ends).saturating_sub(until(refresh));
        let turn = if self.initiator { ctx.chance(window / 4) } else { window / 4 + ctx.chance(window / 4) };
        self.timers.set_earlier(Timer::Reauth, now + until(refresh) + turn);
        self.timers.set_earlier(Timer::Hard, now + until(ends));
    }
}

impl Endpoint {
    /// The time of day jumped against `now`: the machine slept, or its clock was set. SAs end with the certificates that
    /// they rest on, by the time of day.
    pub fn handle_clock_change(&mut self, now: Instant) {
        let ids: Vec<IkeId> =
            self.sas.values().filter(|sa| sa.is_established() && !sa.is_leaving()).map(|sa| sa.id).collect();
        for id in ids {
            self.with(now, id, |sa, ctx| sa.limit_by_certificates(ctx, now));
        }
    }
}
