//! What is protected (SPD) and who may prove to be whom (PAD): RFC 4301 §4.4.

pub mod certificates;
pub mod pad;
pub mod spd;
pub mod stranger;
pub mod trust;
