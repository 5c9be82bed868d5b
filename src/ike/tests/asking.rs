//! Strangers: a machine that has nothing but its key asks a home agent whose root it has never seen.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::pair::*;
use crate::crypto::identity::PrivateKey;
use crate::ike::{CloseReason, Endpoint, Event, Failure, LocalEntity};
use crate::pki::trust::PinPolicy;
use crate::pki::{Authority, Kind, LeafRequest, Root, TrustStore, UnixSeconds, leaf};
use crate::policy::certificates::{Certificates, Certified, OwnCertificate, Shown, TrustSpan};
use crate::policy::pad::{Pad, Proof};
use crate::policy::spd::Spd;
use crate::policy::stranger;
use crate::policy::trust::{AnchoredClock, Trust};
use crate::wire::ike::Header;

const START: UnixSeconds = 1_800_000_000;
const AGENT: &str = "2002:c633:6402::1";

/// The stranger's view: any root that owns the agent's address, remembered.
#[derive(Debug, Default)]
struct AnyRoot(Mutex<Option<Root>>);

impl Certificates for AnyRoot {
    fn unix(&self, _: Instant) -> UnixSeconds {
        START
    }
    fn own(&self, _: Instant, _: Ipv6Addr) -> Option<OwnCertificate> {
        None
    }
    fn accepts(&self, remote: Ipv6Addr) -> bool {
        remote == AGENT.parse::<Ipv6Addr>().unwrap()
    }
    fn authorities(&self, _: Option<Ipv6Addr>) -> Vec<[u8; 20]> {
        Vec::new()
    }
    fn verify(&self, _: Instant, remote: Ipv6Addr, shown: &Shown<'_>) -> Result<Certified, String> {
        let [shown, root] = shown.certificates[..] else { return Err("not two certificates".to_owned()) };
        let root = Root::from_der(root).map_err(|error| error.to_string())?;
        let leaf = leaf::verify(shown, &[], &root, START, remote).map_err(|error| error.to_string())?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(root);
        Ok(Certified { key: *leaf.key.as_bytes(), span: TrustSpan { refresh: START + 60, ends: START + 90 } })
    }
    fn proven(&self, _: Instant, _: Ipv6Addr, _: &Certified, _: &Shown<'_>) {}
}

fn authority() -> Authority {
    let key = PrivateKey::from_seed(&[102; 32]);
    Authority::create(key, "2002:c633:6402::/48".parse().unwrap(), None, START - 1000, [7; 16]).unwrap()
}

struct Asking {
    pair: Pair,
    seen: Arc<AnyRoot>,
}

/// A is a stranger with the key of `seed`, B the home agent.
fn asking(setup: Setup, seed: u8, takes: bool) -> Asking {
    let mut pair = Pair::new(setup);
    let (key, agent) = (PrivateKey::from_seed(&[seed; 32]), AGENT.parse().unwrap());
    let seen = Arc::new(AnyRoot::default());
    let mut config = pair.hosts[A].config.clone();
    let who = stranger::identity(&key.public());
    config.entities = vec![LocalEntity { address: who, signing_key: key.seed() }];
    config.pad = Arc::new(Pad::new([]).with_certificates(Arc::clone(&seen) as _));
    config.spd = Arc::new(Spd::new(Vec::new()));
    reconfigure(&mut pair, A, who, config);

    let clock = AnchoredClock { at: pair.now, unix: START };
    let trust = Trust::new(TrustStore::default(), PinPolicy::Tell, Box::new(clock));
    trust.change(|store| store.pin(authority().root().clone())).unwrap();
    let mut config = pair.hosts[B].config.clone();
    let signing = PrivateKey::from_secret(&config.entities[0].signing_key).unwrap();
    let key = signing.public();
    let request = LeafRequest { address: agent, name: None, kind: Kind::Home, key, lifetime: 3600 };
    trust.set_own(authority().issue(&request, START, [9; 16]).unwrap().der, Vec::new()).unwrap();
    config.entities[0].address = agent;
    let pad = Pad::new([]).with_certificates(Arc::new(trust) as _);
    config.pad = Arc::new(if takes { pad.with_strangers() } else { pad });
    reconfigure(&mut pair, B, agent, config);
    Asking { pair, seen }
}

fn reconfigure(pair: &mut Pair, host: usize, entity: Ipv6Addr, config: crate::ike::Config) {
    pair.hosts[host].entity = entity;
    pair.hosts[host].config = config.clone();
    pair.act(host, |endpoint, now| endpoint.set_config(now, config));
}

#[test]
fn a_stranger_may_say_something_and_gets_no_child() {
    let Asking { mut pair, seen } = asking(Setup::default(), 50, true);
    pair.initiate(A);
    pair.run(secs(2));
    assert_eq!(
        (pair.hosts[A].established, pair.hosts[B].established),
        (1, 1),
        "{:?}",
        pair.hosts[A].failures
    );
    assert_eq!(seen.0.lock().unwrap().as_ref(), Some(authority().root()));
    assert!(pair.hosts.iter().all(|host| host.children.is_empty()));
    for (from, text) in [(A, b"may I?"), (B, b"no, no")] {
        let ike = pair.ikes(from)[0].id;
        pair.act(from, |endpoint, now| assert!(endpoint.tell(now, ike, text.to_vec())));
        pair.run(secs(1));
    }
    assert_eq!(
        (&pair.hosts[B].documents[0][..], &pair.hosts[A].documents[0][..]),
        (&b"may I?"[..], &b"no, no"[..])
    );
    // Whatever it wants, no child comes of it, and no new IKE SA.
    let (local, remote, path) = (pair.hosts[A].entity, pair.hosts[B].entity, pair.path(A));
    pair.act(A, |endpoint, now| endpoint.initiate(now, local, remote, path).unwrap());
    let ike = pair.ikes(A)[0].id;
    pair.act(A, |endpoint, now| endpoint.rekey_ike(now, ike));
    pair.run(secs(3));
    assert!(pair.hosts[B].children.is_empty() && pair.hosts[B].established == 1);
    // And it ends by itself.
    pair.run(secs(40));
    assert!(pair.ikes(B).is_empty() && pair.hosts[B].endpoint.is_empty());
    assert!(
        pair.hosts[B]
            .ike_closed
            .iter()
            .all(|reason| matches!(reason, CloseReason::Expired | CloseReason::Peer))
    );
    assert!(pair.hosts[B].endpoint.ctx.contacted.is_empty(), "nothing is remembered of a stranger");
}

#[test]
fn where_strangers_are_not_taken_they_say_nothing() {
    let Asking { mut pair, .. } = asking(Setup::default(), 50, false);
    pair.initiate(A);
    pair.run(secs(60));
    assert_eq!((pair.hosts[A].established, pair.hosts[B].established), (0, 0));
    assert!(
        matches!(&pair.hosts[A].failures[..], [Failure::Protocol(why)] if why.contains("without a code"))
    );
}

#[test]
fn nobody_is_a_stranger_with_somebody_elses_key() {
    let Asking { mut pair, .. } = asking(Setup::default(), 50, true);
    // Another key under the identity of the first one.
    let mut config = pair.hosts[A].config.clone();
    config.entities[0].signing_key = PrivateKey::from_seed(&[51; 32]).seed();
    let who = config.entities[0].address;
    reconfigure(&mut pair, A, who, config);
    pair.initiate(A);
    pair.run(secs(5));
    assert_eq!(pair.hosts[B].established, 0);
    assert!(matches!(&pair.hosts[A].failures[..], [Failure::Authentication(_)]));
}

#[test]
fn an_entity_is_not_proven_by_a_key_alone_and_a_root_of_another_home_is_refused() {
    // The home agent does not take an address of its own home without a certificate, strangers or not.
    let Asking { mut pair, .. } = asking(Setup::default(), 50, true);
    let mut config = pair.hosts[A].config.clone();
    let member: Ipv6Addr = "2002:c633:6402:1::1".parse().unwrap();
    config.entities[0].address = member;
    config.spd = Arc::new(Spd::with_defaults([], []));
    reconfigure(&mut pair, A, member, config);
    pair.initiate(A);
    pair.run(secs(5));
    assert_eq!(pair.hosts[B].established, 0);
}

#[test]
fn a_flood_of_strangers_leaves_a_bounded_number_of_sas() {
    let Asking { pair, .. } = asking(Setup::default(), 50, true);
    let now = pair.now;
    let mut home = Endpoint::new(pair.hosts[B].config.clone(), [9; 32], now);
    let mut admitted = 0;
    for n in 0..400_u16 {
        let key = PrivateKey::from_seed(&[(n % 250) as u8; 32]);
        let mut config = pair.hosts[A].config.clone();
        let who = stranger::identity(&key.public());
        config.entities = vec![LocalEntity { address: who, signing_key: key.seed() }];
        let mut seed = [8; 32];
        seed[..2].copy_from_slice(&n.to_be_bytes());
        let mut machine = Endpoint::new(config, seed, now);
        // Eight addresses, each with fifty machines behind it.
        let there = std::net::SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, (n % 8) as u8), 10_000 + n);
        let path = crate::dataplane::event::UdpPath::direct(there, pair.path(B).local);
        let back = crate::dataplane::event::UdpPath::direct(path.remote, path.local);
        machine.initiate(now, who, AGENT.parse().unwrap(), path).unwrap();
        for _ in 0..6 {
            while let Some(sent) = machine.poll_transmit() {
                assert!(Header::parse(&sent.message).is_ok());
                home.handle_datagram(now, back, &sent.message);
            }
            while let Some(sent) = home.poll_transmit() {
                machine.handle_datagram(now, path, &sent.message);
            }
        }
        while let Some(event) = machine.poll_event() {
            admitted += usize::from(matches!(event, Event::IkeEstablished(_)));
        }
    }
    assert_eq!(admitted, 8 * 16, "sixteen from each of eight addresses");
    assert_eq!(home.list(now).len(), 8 * 16);
    assert!(home.list(now).iter().all(|sa| stranger::is_one(sa.remote)));
    assert!(matches!(
        pair.hosts[B].config.pad.find(home.list(now)[0].remote).unwrap().proof,
        Proof::Stranger
    ));
}
