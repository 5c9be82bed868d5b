//! What the kernel and the network device take off our hands, or leave to us: super-packets instead of packets.
//!
//! A packet of the TUN may stand for many: the kernel hands over (and takes) a TCP segment or a UDP datagram of up to
//! 64 KiB with the size that it is to be cut into, and with a checksum that is begun only. That is what a
//! `virtio_net_hdr` in front of the packet says, and what [`Offload`] says in here.

use std::fmt;
use std::str::FromStr;

/// Which offloads may be used. All by default; each has its fall-back, so switching one off changes the speed and
/// nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Super-packets from and to the TUN (IFF_VNET_HDR with TSO and USO).
    pub tun_offload: bool,
    /// Joining packets of a flow to super-packets for the TUN.
    pub coalesce: bool,
    /// Sending many datagrams as one (UDP_SEGMENT).
    pub udp_gso: bool,
    /// Receiving many datagrams as one (UDP_GRO).
    pub udp_gro: bool,
    /// While much is carried, idle CPUs of a virtual machine look for work instead of halting.
    pub idle_polling: bool,
}

impl Default for Features {
    fn default() -> Self {
        Self { tun_offload: true, coalesce: true, udp_gso: true, udp_gro: true, idle_polling: true }
    }
}

impl Features {
    /// Without this one.
    #[must_use]
    pub fn without(mut self, feature: Feature) -> Self {
        match feature {
            Feature::TunOffload => self.tun_offload = false,
            Feature::Coalesce => self.coalesce = false,
            Feature::UdpGso => self.udp_gso = false,
            Feature::UdpGro => self.udp_gro = false,
            Feature::IdlePolling => self.idle_polling = false,
        }
        self
    }
}

/// One offload, by the name that people use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// `tun-offload`
    TunOffload,
    /// `coalesce`
    Coalesce,
    /// `udp-gso`
    UdpGso,
    /// `udp-gro`
    UdpGro,
    /// `idle-polling`
    IdlePolling,
}

impl Feature {
    /// Every one.
    pub const ALL: [Self; 5] =
        [Self::TunOffload, Self::Coalesce, Self::UdpGso, Self::UdpGro, Self::IdlePolling];
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TunOffload => "tun-offload",
            Self::Coalesce => "coalesce",
            Self::UdpGso => "udp-gso",
            Self::UdpGro => "udp-gro",
            Self::IdlePolling => "idle-polling",
        })
    }
}

/// Not the name of an offload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no offload: use tun-offload, coalesce, udp-gso, udp-gro or idle-polling")]
pub struct UnknownFeature(String);

impl FromStr for Feature {
    type Err = UnknownFeature;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|feature| feature.to_string() == name);
        found.ok_or_else(|| UnknownFeature(name.to_owned()))
    }
}

/// What stands in front of a packet of the TUN: what is still to be done to it. The default is nothing: a whole packet
/// with a whole checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// It stands for many packets.
    pub segments: Option<Segments>,
    /// Its checksum is begun only (NEEDS_CSUM).
    pub checksum: Option<PartialChecksum>,
}

/// How a super-packet is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    /// What it is.
    pub protocol: Protocol,
    /// Octets of payload (behind the TCP or UDP header) in each packet but the last, which may have fewer. Never 0 in
    /// what we write; what was read may hold anything.
    pub size: u16,
}

/// What a super-packet is, over IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// VIRTIO_NET_HDR_GSO_TCPV6
    Tcp,
    /// VIRTIO_NET_HDR_GSO_UDP_L4
    Udp,
}

/// A checksum field that holds the sum of the pseudo-header only; the rest is the sum from `start` to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialChecksum {
    /// Octets from the start of the packet to where the sum begins: the TCP or UDP header.
    pub start: u16,
    /// Octets from there to the checksum field.
    pub offset: u16,
}

/// Which super-packets a TUN takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepts {
    /// TCP over IPv6.
    pub tcp: bool,
    /// UDP over IPv6, of equally long datagrams.
    pub udp: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_switches_off_its_own() {
        let mut off = Features::default();
        for feature in Feature::ALL {
            assert_eq!(feature.to_string().parse(), Ok(feature));
            let without = off.without(feature);
            assert_ne!(without, off);
            off = without;
        }
        let none = Features {
            tun_offload: false,
            coalesce: false,
            udp_gso: false,
            udp_gro: false,
            idle_polling: false,
        };
        assert_eq!(off, none);
        assert_eq!("gso".parse::<Feature>(), Err(UnknownFeature("gso".to_owned())));
    }
}
