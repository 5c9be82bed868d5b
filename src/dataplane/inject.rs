//! Sealing one packet on the control plane's own thread: for packets that waited until their SA was up.

use super::batch::UdpSend;
use super::outbound::MIN_MTU;
use super::tables::Outbound;
use crate::esp::SealError;

/// Why a packet that waited was not sent.
#[derive(Debug, thiserror::Error)]
pub enum InjectError {
    /// The sender has to be told this MTU.
    #[error("the packet is larger than {0} octets, which is what its path takes")]
    TooBig(u16),
    /// The SA is used up already.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The socket refused it.
    #[error("the datagram could not be sent: {0}")]
    Send(#[from] std::io::Error),
}

/// Seals `packet` (an IPv6 packet, or the body of a dummy packet, as `next_header` says) and sends it, without waiting. Safe beside the workers: sequence numbers are assigned atomically.
///
/// # Errors
/// [`InjectError`]; the packet is lost, as packets may be.
pub fn send_one(
    outbound: &Outbound,
    next_header: u8,
    packet: &[u8],
    socket: &impl UdpSend,
) -> Result<(), InjectError> {
    let mtu = outbound.mtu.max(MIN_MTU);
    if packet.len() > usize::from(mtu) {
        return Err(InjectError::TooBig(mtu));
    }
    let sa = &outbound.sa;
    let around = outbound.path.overhead();
    let mut datagram = vec![0; around + sa.sealed_len(packet.len())];
    let sequence = sa.assign(1)?;
    let esp = datagram.get_mut(around..).unwrap_or_default();
    let len = sa.seal(sequence, next_header, packet, esp)?;
    datagram.truncate(around + len);
    if let Some(relay) = outbound.path.relay {
        relay.write_header(&mut datagram);
    }
    Ok(socket.send_to(outbound.path, &datagram)?)
}
