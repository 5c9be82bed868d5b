//! The shards; what the workers see is tested with real SAs in `tests/dataplane_packets.rs`.

use proptest::prelude::*;

use super::*;

#[test]
fn a_hundred_thousand_entries_spread_evenly() {
    // SPIs are random; a linear congruential generator serves here.
    let table = Table::<u32, u32>::new();
    let mut spi = 1u32;
    for _ in 0..100_000 {
        spi = spi.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        table.change(spi, Some(Arc::new(spi)));
    }
    assert_eq!(table.get(spi).as_deref(), Some(&spi));
    let largest = table.shards.iter().map(|shard| shard.load().len()).max().unwrap();
    assert!(largest < 200, "one change copies {largest} entries");
}

#[test]
fn the_users_of_one_home_spread_evenly() {
    let table = Table::<Pair, ()>::new();
    let local: Ipv6Addr = "2002:c633:6401::1".parse().unwrap();
    for user in 0..10_000u16 {
        let remote = Ipv6Addr::new(0x2002, 0xc633, 0x6401, 1, 0, user, 0, 1);
        table.change((local, remote), Some(Arc::new(())));
        table.change((remote, local), Some(Arc::new(())));
    }
    let largest = table.shards.iter().map(|shard| shard.load().len()).max().unwrap();
    assert!(largest < 200, "one change copies {largest} entries");
}

fn params(spi: u32, local: Ipv6Addr, remote: Ipv6Addr) -> crate::esp::SaParams {
    let key = crate::crypto::secret::Secret::new(vec![1; 36]);
    let limits = crate::esp::Limits {
        soft_bytes: u64::MAX,
        soft_packets: u64::MAX,
        hard_bytes: u64::MAX,
        hard_packets: u64::MAX,
    };
    let suite = crate::crypto::suite::EspSuite::Aes256Gcm;
    crate::esp::SaParams { spi, local, remote, suite, esn: true, key, limits }
}

#[test]
fn nothing_of_a_pair_stays_behind() {
    let (mut publisher, reader) = new();
    let (local, remote) = ("2002::1".parse().unwrap(), "2002::2".parse().unwrap());
    publisher.remove_inbound(7);
    publisher.remove_outbound(local, remote);
    let params = params(700, local, remote);
    let inbound = Arc::new(InboundSa::new(params.clone()).unwrap());
    let path = UdpPath::direct("192.0.2.1:4500".parse().unwrap(), "192.0.2.2:4500".parse().unwrap());
    let outbound = Outbound::new(Arc::new(OutboundSa::new(params).unwrap()), path, 1380);
    publisher.install_inbound(Arc::clone(&inbound));
    publisher.install_inbound(inbound);
    publisher.set_outbound(local, remote, outbound);
    assert!(reader.inbound(700).is_some() && reader.outbound(local, remote).is_some());
    publisher.remove_outbound(local, remote);
    assert_eq!(publisher.pairs.len(), 1);
    publisher.remove_inbound(700);
    assert!(publisher.pairs.is_empty());
    assert!(reader.inbound(700).is_none() && reader.outbound(local, remote).is_none());
}

#[test]
fn flows_share_the_sas_evenly() {
    let (local, remote) = ("2002::1".parse().unwrap(), "2002::2".parse().unwrap());
    let path = UdpPath::direct("192.0.2.1:4500".parse().unwrap(), "192.0.2.2:4500".parse().unwrap());
    let [first, second, third] =
        [700, 701, 702].map(|spi| Arc::new(OutboundSa::new(params(spi, local, remote)).unwrap()));
    let alone = Outbound::new(first, path, 1380);
    let several = Outbound { additional: vec![second, third], ..alone.clone() };
    let spis = |outbound: &Outbound| {
        [0, 1, 2, 3, 70_001].map(|flow| outbound.sa_at(outbound.place_for(flow)).params().spi)
    };
    assert_eq!((spis(&alone), spis(&several)), ([700; 5], [700, 701, 702, 700, 702]));
}

proptest! {
    #[test]
    fn a_table_is_a_map(steps in proptest::collection::vec((0u32..50, any::<Option<u8>>()), 0..200)) {
        let table = Table::<u32, u8>::new();
        let mut model = HashMap::new();
        for (key, value) in steps {
            table.change(key, value.map(Arc::new));
            match value {
                Some(value) => model.insert(key, value),
                None => model.remove(&key),
            };
        }
        for key in 0..50 {
            prop_assert_eq!(table.get(key).map(|value| *value), model.get(&key).copied());
        }
    }
}
