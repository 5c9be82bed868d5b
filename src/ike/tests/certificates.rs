//! Certificates instead of listed keys: two homes that trust each other, and everything that goes wrong when they do
//! not.

use std::sync::Arc;
use std::time::Duration;

use super::pair::*;
use crate::crypto::identity::{PrivateKey, PublicKey};
use crate::ike::{CloseReason, Failure};
use crate::pki::endorsement::Endorsement;
use crate::pki::trust::PinPolicy;
use crate::pki::{Authority, Kind, LeafRequest, TrustStore, UnixSeconds};
use crate::policy::certificates::Certificates as _;
use crate::policy::pad::{Pad, Peer, Proof};
use crate::policy::trust::{AnchoredClock, Trust, TrustNews};
use crate::wire::ike::Header;

/// The time of day at the start.
const START: UnixSeconds = 1_800_000_000;
const HOMES: [&str; 2] = ["2002:c633:6401::/48", "2002:c633:6402::/48"];

/// One home's authority for each host.
fn home(host: usize, root: u8) -> Authority {
    let key = PrivateKey::from_seed(&[root; 32]);
    Authority::create(key, HOMES[host].parse().unwrap(), None, START - 1000, [root; 16]).unwrap()
}

fn authority(host: usize) -> Authority {
    home(host, 100 + host as u8)
}

/// The keys that the harness gives its hosts.
fn host_key(host: usize) -> PrivateKey {
    PrivateKey::from_seed(&[host as u8 + 1; 32])
}

struct Certified {
    pair: Pair,
    trust: [Arc<Trust>; 2],
}

impl Certified {
    /// Each host has a certificate of its own home, and trusts both homes.
    fn new(setup: Setup, lifetime: UnixSeconds) -> Self {
        let mut pair = Pair::new(setup);
        let trust = [A, B].map(|host| {
            let clock = AnchoredClock { at: pair.now, unix: START };
            let trust = Trust::new(TrustStore::default(), PinPolicy::Tell, Box::new(clock));
            for home in [A, B] {
                trust.change(|store| store.pin(authority(home).root().clone())).unwrap();
            }
            let trust = Arc::new(trust);
            let pad = Arc::new(Pad::new([]).with_certificates(Arc::clone(&trust) as _));
            let mut config = pair.hosts[host].config.clone();
            config.pad = pad;
            pair.hosts[host].config = config.clone();
            pair.act(host, |endpoint, now| endpoint.set_config(now, config));
            trust
        });
        let all = Self { pair, trust };
        for host in [A, B] {
            all.certify(host, &authority(host), lifetime);
        }
        all
    }

    fn connected(lifetime: UnixSeconds) -> Self {
        let mut all = Self::new(Setup::default(), lifetime);
        all.pair.initiate(A);
        all.pair.run(secs(5));
        all.pair.assert_agreed();
        all
    }

    fn unix(&self) -> UnixSeconds {
        self.trust[A].unix(self.pair.now)
    }

    /// The home gives this host a fresh certificate.
    fn certify(&self, host: usize, authority: &Authority, lifetime: UnixSeconds) {
        self.certify_key(host, authority, lifetime, host_key(host).public(), Vec::new());
    }

    fn certify_key(
        &self,
        host: usize,
        authority: &Authority,
        lifetime: UnixSeconds,
        key: PublicKey,
        endorsements: Vec<Endorsement>,
    ) {
        let address = self.pair.hosts[host].entity;
        let request = LeafRequest { address, name: None, kind: Kind::Device, key, lifetime };
        let mut serial = [host as u8; 16];
        serial[..8].copy_from_slice(&self.unix().to_be_bytes());
        let leaf = authority.issue(&request, self.unix(), serial).unwrap();
        self.trust[host].set_own(leaf.der, endorsements).unwrap();
    }

    /// The host has another key from now on.
    fn change_key(&mut self, host: usize, seed: u8) -> PrivateKey {
        let key = PrivateKey::from_seed(&[seed; 32]);
        let mut config = self.pair.hosts[host].config.clone();
        config.entities[0].signing_key = key.seed();
        self.pair.hosts[host].config = config.clone();
        self.pair.act(host, |endpoint, now| endpoint.set_config(now, config));
        key
    }

    /// Ends every SA, and starts anew.
    fn reconnect(&mut self) {
        self.pair.act(A, |endpoint, now| endpoint.close_all(now));
        self.pair.run(secs(20));
        self.pair.initiate(A);
        self.pair.run(secs(20));
    }

    /// A tries; it comes to nothing at either end, and A hears why.
    fn refused(mut self) -> Failure {
        self.pair.initiate(A);
        self.pair.run(secs(60));
        for host in [A, B] {
            assert!(self.pair.hosts[host].children.is_empty() && self.pair.ikes(host).is_empty());
        }
        assert_eq!(self.pair.hosts[A].failures.len(), 1, "{:?}", self.pair.hosts[A].failures);
        self.pair.hosts[A].failures.remove(0)
    }
}

#[test]
fn two_homes_that_trust_each_other() {
    let all = Certified::connected(3600);
    for host in [A, B] {
        let info = &all.pair.ikes(host)[0];
        assert_eq!(info.trust.unwrap().ends, START + 3600);
        let peer = all.pair.hosts[1 - host].entity;
        let known = all.trust[host].read(|store| store.remembered(peer));
        assert_eq!(known, Some(host_key(1 - host).public()));
        let news = TrustNews::First { address: peer, key: host_key(1 - host).public() };
        assert_eq!(all.trust[host].take_news(), [news]);
        assert!(all.trust[host].take_changed().is_some() && all.trust[host].take_changed().is_none());
    }
}

#[test]
fn certificates_travel_in_small_fragments() {
    let setup = Setup { change: |_, config| config.fragment_size = 300, ..Setup::default() };
    let mut all = Certified::new(setup, 3600);
    all.pair.initiate(A);
    all.pair.run(secs(5));
    all.pair.assert_agreed();
}

#[test]
fn a_home_that_is_not_trusted() {
    for host in [A, B] {
        let all = Certified::new(Setup::default(), 3600);
        all.trust[host].change(|store| store.unpin(HOMES[1 - host].parse().unwrap()));
        if host == B {
            assert!(matches!(all.refused(), Failure::Authentication(_)));
        } else {
            let mut all = all;
            let (now, path) = (all.pair.now, all.pair.path(A));
            let [local, remote] = [A, B].map(|host| all.pair.hosts[host].entity);
            let refused = all.pair.hosts[A].endpoint.initiate(now, local, remote, path);
            assert_eq!(refused, Err(Failure::UnknownPeer(remote)));
        }
    }
}

#[test]
fn a_home_that_is_trusted_no_longer() {
    let mut all = Certified::connected(3600);
    all.trust[A].change(|store| store.unpin(HOMES[B].parse().unwrap()));
    let config = all.pair.hosts[A].config.clone();
    all.pair.act(A, |endpoint, now| endpoint.set_config(now, config));
    assert!(all.pair.hosts[A].children.is_empty(), "at once");
    all.pair.run(secs(5));
    assert!(all.pair.ikes(A).is_empty() && all.pair.ikes(B).is_empty());
}

#[test]
fn another_root_for_a_known_prefix() {
    // Each end in turn has a certificate of a false home.
    for host in [A, B] {
        let all = Certified::new(Setup::default(), 3600);
        all.certify(host, &home(host, 200), 3600);
        let failure = all.refused();
        let Failure::Authentication(why) = failure else { panic!("{failure}") };
        if host == B {
            assert!(why.contains("not issued by the pinned root"), "{why}");
        }
    }
}

#[test]
fn a_certificate_that_ended_or_is_not_there() {
    let mut all = Certified::new(Setup::default(), 60);
    all.pair.run(secs(61));
    all.certify(A, &authority(A), 60);
    let failure = all.refused();
    assert!(matches!(&failure, Failure::Authentication(why) if why.contains("no certificate")), "{failure}");

    let all = Certified::new(Setup::default(), 60);
    assert!(all.trust[A].remove_own(all.pair.hosts[A].entity));
    assert!(matches!(all.refused(), Failure::Authentication(_)));
}

#[test]
fn a_certificate_of_another_key_proves_nothing() {
    let all = Certified::new(Setup::default(), 3600);
    let stolen = all.trust[B].own_certificates()[0].leaf.key;
    assert_eq!(stolen, host_key(B).public());
    // B's certificate is right, but B signs with another key: it does not even show it.
    let mut all = all;
    all.change_key(B, 77);
    assert!(matches!(all.refused(), Failure::Authentication(why) if why.contains("no certificate")));
}

#[test]
fn an_sa_ends_with_the_certificate_that_nobody_renews() {
    let mut all = Certified::connected(60);
    all.pair.run(secs(50));
    assert!(!all.pair.ikes(A).is_empty());
    all.pair.run(secs(30));
    for host in [A, B] {
        assert!(all.pair.ikes(host).is_empty() && all.pair.hosts[host].children.is_empty(), "host {host}");
    }
    assert!(all.pair.hosts[A].ike_closed.contains(&CloseReason::Expired));
}

#[test]
fn renewed_certificates_keep_traffic_going() {
    let mut all = Certified::connected(60);
    let mut last = [0; 2];
    for _ in 0..60 {
        for host in [A, B] {
            let own = &all.trust[host].own_certificates()[0];
            if own.renew_at <= all.unix() {
                all.certify(host, &authority(host), 60);
            }
        }
        all.pair.run(secs(5));
        all.pair.traffic();
        for host in [A, B] {
            assert!(!all.pair.hosts[host].children.is_empty(), "host {host} has no child SA");
            let ends: Vec<_> = all.pair.ikes(host).iter().map(|info| info.trust.unwrap().ends).collect();
            let newest = ends.into_iter().max().unwrap();
            assert!(newest > all.unix() && newest >= last[host], "trust does not grow backwards");
            last[host] = newest;
        }
    }
    assert!(all.pair.hosts[A].established > 4, "{} times authenticated", all.pair.hosts[A].established);
    assert!(all.pair.hosts[A].established < 40, "{} times authenticated", all.pair.hosts[A].established);
    for host in [A, B] {
        let ends = &all.pair.hosts[host].ike_closed;
        assert!(!ends.contains(&CloseReason::Expired), "{ends:?}");
    }
}

#[test]
fn a_rekey_does_not_extend_trust() {
    let mut all = Certified::connected(600);
    let ends = all.pair.ikes(A)[0].trust.unwrap().ends;
    let id = all.pair.ikes(A)[0].id;
    all.pair.act(A, |endpoint, now| endpoint.rekey_ike(now, id));
    all.pair.run(secs(30));
    for host in [A, B] {
        let infos = all.pair.ikes(host);
        assert!(infos.iter().all(|info| info.trust.unwrap().ends == ends), "{infos:?}");
    }
    all.pair.run(Duration::from_secs(600));
    assert!(all.pair.ikes(A).is_empty() && all.pair.ikes(B).is_empty());
}

#[test]
fn a_new_key_is_news_unless_the_old_one_endorses_it() {
    let mut all = Certified::connected(3600);
    let address = all.pair.hosts[B].entity;
    all.trust[A].take_news();
    let old = host_key(B);

    // Endorsed: silent, even when pins are strict.
    all.trust[A].set_policy(PinPolicy::Strict);
    let new = all.change_key(B, 50);
    let endorsement = Endorsement::sign(address, &old, new.public());
    all.certify_key(B, &authority(B), 3600, new.public(), vec![endorsement]);
    all.reconnect();
    all.pair.assert_agreed();
    assert_eq!(all.trust[A].take_news(), [TrustNews::Endorsed { address, key: new.public() }]);

    // Not endorsed: told.
    all.trust[A].set_policy(PinPolicy::Tell);
    let newer = all.change_key(B, 51);
    all.certify_key(B, &authority(B), 3600, newer.public(), Vec::new());
    all.reconnect();
    all.pair.assert_agreed();
    let changed = TrustNews::Changed { address, old: new.public(), key: newer.public() };
    assert_eq!(all.trust[A].take_news(), [changed]);

    // Not endorsed, and pins are strict: refused, and still remembered as before.
    all.trust[A].set_policy(PinPolicy::Strict);
    let newest = all.change_key(B, 52);
    all.certify_key(B, &authority(B), 3600, newest.public(), Vec::new());
    all.reconnect();
    assert!(all.pair.ikes(A).is_empty());
    let failures = &all.pair.hosts[A].failures;
    assert!(
        matches!(failures.last(), Some(Failure::Authentication(why)) if why.contains("strict")),
        "{failures:?}"
    );
    assert_eq!(all.trust[A].read(|store| store.remembered(address)), Some(newer.public()));
}

#[test]
fn a_revoked_certificate_is_refused() {
    let all = Certified::new(Setup::default(), 3600);
    let own = all.trust[B].own_certificates()[0].leaf.clone();
    let now = all.unix();
    assert!(all.trust[A].change(|store| store.revoke(now, own.address, own.serial, own.not_after)));
    assert!(matches!(all.refused(), Failure::Authentication(why) if why.contains("revoked")));
}

#[test]
fn a_listed_peer_proves_itself_as_listed_and_the_other_by_certificate() {
    // A lists B's raw key; B knows A by certificate alone.
    let mut all = Certified::new(Setup::default(), 3600);
    let listed = Peer {
        name: "b".to_owned(),
        address: all.pair.hosts[B].entity,
        proof: Proof::PublicKey(*host_key(B).public().as_bytes()),
    };
    let mut config = all.pair.hosts[A].config.clone();
    config.pad = Arc::new(Pad::new([listed]).with_certificates(Arc::clone(&all.trust[A]) as _));
    all.pair.act(A, |endpoint, now| endpoint.set_config(now, config));
    // A answers as responder: B's request has a CERTREQ.
    all.pair.initiate(B);
    all.pair.run(secs(5));
    all.pair.assert_agreed();
    assert_eq!(all.trust[A].take_news(), [], "a listed key is not remembered again");
}

#[test]
fn the_end_of_trust_follows_the_time_of_day() {
    let mut all = Certified::connected(3600);
    // The machine sleeps for most of an hour: virtual time stands still, the time of day does not.
    #[derive(Debug)]
    struct Jumped(AnchoredClock);
    impl crate::policy::trust::WallClock for Jumped {
        fn unix(&self, now: std::time::Instant) -> UnixSeconds {
            self.0.unix(now) + 3590
        }
    }
    let clock = AnchoredClock { at: all.pair.now, unix: all.unix() };
    let store = all.trust[A].read(Clone::clone);
    let trust: Arc<Trust> = Arc::new(Trust::new(store, PinPolicy::Tell, Box::new(Jumped(clock))));
    let mut config = all.pair.hosts[A].config.clone();
    config.pad = Arc::new(Pad::new([]).with_certificates(trust as _));
    all.pair.act(A, |endpoint, now| {
        endpoint.set_config(now, config);
        endpoint.handle_clock_change(now);
    });
    all.pair.run(secs(60));
    assert!(all.pair.ikes(A).is_empty(), "{:?}", all.pair.ikes(A));
}

#[test]
fn strangers_are_not_told_whom_a_domicile_trusts() {
    let all = Certified::connected(3600);
    let root = authority(A).root().key_id();
    let clear = all.pair.wire.iter().filter(|datagram| {
        Header::parse(&datagram.payload)
            .is_ok_and(|header| header.exchange == crate::wire::ike::exchange::IKE_SA_INIT)
    });
    assert!(clear.clone().count() == 2);
    for datagram in clear {
        assert!(!datagram.payload.windows(20).any(|window| window == root));
    }
}
