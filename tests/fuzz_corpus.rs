//! The committed fuzz corpus through the bodies of the fuzz targets, so that what was found once stays mended.

use std::path::Path;

fn replay(target: &str, body: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&dir).expect("the corpus is committed") {
        let data = std::fs::read(entry.expect("readable").path()).expect("readable");
        body(&data);
        for len in 0..data.len() {
            body(&data[..len]);
        }
        count += 1;
    }
    assert!(count >= 3, "the corpus of {target} is too small");
}

#[test]
fn datagrams() {
    replay("datagram", domicile::sim::fuzz::datagram);
}

#[test]
fn ike_messages() {
    replay("ike_message", domicile::sim::fuzz::ike_message);
}

#[test]
fn ipv6_packets() {
    replay("ipv6", domicile::sim::fuzz::ipv6);
}
