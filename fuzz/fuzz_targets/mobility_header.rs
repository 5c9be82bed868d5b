#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| domicile::sim::fuzz::mobility_header(data));
