//! Sealing one packet on the control plane's own thread: for packets that waited until their SA was up.

use super::batch::UdpSend;
use super::outbound::MIN_MTU;
use super::tables::Outbound;
use crate::esp::SealError;
use crate::wire::ip::NEXT_HEADER_IPV6;

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

/// Seals `packet` and sends it, without waiting. Safe beside the workers: sequence numbers are assigned atomically.
///
/// # Errors
/// [`InjectError`]; the packet is lost, as packets may be.
pub fn send_one(outbound: &Outbound, packet: &[u8], socket: &impl UdpSend) -> Result<(), InjectError> {
    let mtu = outbound.mtu.max(MIN_MTU);
    if packet.len() > usize::from(mtu) {
        return Err(InjectError::TooBig(mtu));
    }
    let sa = &outbound.sa;
    let mut datagram = vec![0; sa.sealed_len(packet.len())];
    let sequence = sa.assign(1)?;
    let len = sa.seal(sequence, NEXT_HEADER_IPV6, packet, &mut datagram)?;
    datagram.truncate(len);
    Ok(socket.send_to(outbound.path, &datagram)?)
}
