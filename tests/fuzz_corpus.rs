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

#[test]
fn esp_packets() {
    replay("esp_open", domicile::sim::fuzz::esp_open);
}

#[test]
fn mobility_headers() {
    replay("mobility_header", domicile::sim::fuzz::mobility_header);
}

#[test]
fn certificates() {
    replay("certificate", domicile::sim::fuzz::certificate);
}

fn esp_corpus() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/esp_open")
}

/// What was sealed when the corpus was made is sealed the same way now: peers of other versions can open it.
#[test]
fn esp_on_the_wire_has_not_changed() {
    let seeds = domicile::sim::fuzz::esp_seeds();
    assert_eq!(seeds.len(), 20, "five suites, with and without ESN, two packets each");
    for (name, packet) in seeds {
        assert_eq!(
            std::fs::read(esp_corpus().join(&name)).expect("the corpus is committed"),
            packet,
            "{name}"
        );
    }
}

#[test]
#[ignore = "writes into fuzz/corpus: run it by name after the format on the wire was changed on purpose"]
fn write_the_esp_corpus() {
    std::fs::create_dir_all(esp_corpus()).expect("writable");
    for (name, packet) in domicile::sim::fuzz::esp_seeds() {
        std::fs::write(esp_corpus().join(name), packet).expect("writable");
    }
}
