//! The least that a tunnel in userspace does, for `scripts/bench --only bare-tunnel`: how near domicile is to the limit of what
//! it is built of shows only beside a program that is built of the same and does nothing else.
//!
//! Whatever the TUN gives (a super-packet whole, its checksum begun only) is cut into datagrams of the usual size, each sealed
//! with AES-256-GCM, and put together at the other end for its TUN to take as it came. There are no SAs, no packets as they
//! would leave a machine without this program at the other end, no checksums, no replay window and no control plane.
//!
//! ```text
//! datagram:                     | begins, ends, number (8) | ciphertext | tag (16) |
//! all ciphertexts of a packet:  | virtio_net_hdr (10) | packet |
//! ```

use std::convert::Infallible;
use std::io::{self, Write as _};
use std::net::SocketAddrV4;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use clap::Parser;
use domicile::dataplane::batch::{
    PacketBuffer, ReceiveBatch, SendBatch, TunRead, TunWrite, UdpReceive, UdpSend,
};
use domicile::dataplane::event::UdpPath;
use domicile::dataplane::offload::Features;
use domicile::io::sys::StopEvent;
use domicile::io::tun::{Tun, TunReader, TunWriter};
use domicile::io::udp::{Udp, UdpReceiver};
use domicile::io::{vnet, wakefulness};

/// Both ends have it, and so has everybody who reads this: for measuring alone, it protects nothing.
const KEY: [u8; 32] = [7; 32];
/// Octets of a packet in each datagram but the last: what a tunnel with an inner MTU of 1,400 carries in one.
const CHUNK: usize = 1400;
/// Octets of the number and its two marks, which are nonce and associated data, too.
const HEAD: usize = 8;
/// A packet begins in this datagram: after a loss the receiver goes on here.
const BEGINS: u64 = 1 << 63;
/// A packet ends in this datagram: it is whole if every number since its beginning has come.
const ENDS: u64 = 1 << 62;
const TAG: usize = 16;
/// Octets in front of a packet, as the TUN has them. A [`PacketBuffer`] has room for them, so that nothing is copied for their
/// sake.
const PREFIX: usize = vnet::HEADER_LEN;

/// The least that a tunnel in userspace does, for measuring alone: its key is public, so that IT PROTECTS NOTHING.
#[derive(Parser)]
#[command(
    name = "bare-tunnel",
    after_help = "Ends with SIGTERM, and the device with it. The device is down and has no address at first."
)]
struct Arguments {
    /// Name of the TUN device to be made.
    device: String,
    /// Our IPv4 address and UDP port.
    local: SocketAddrV4,
    /// The other end's.
    remote: SocketAddrV4,
    /// Copy instead of sealing.
    #[arg(long)]
    no_encryption: bool,
}

fn main() -> ExitCode {
    let Err(error) = run(Arguments::parse());
    let _ = writeln!(io::stderr(), "bare-tunnel: {error:#}");
    ExitCode::FAILURE
}

fn run(arguments: Arguments) -> anyhow::Result<Infallible> {
    let Arguments { device, local, remote, no_encryption } = arguments;
    let tun = Tun::open(&device, Features::default())?;
    let udp = Udp::bind(*local.ip(), local.port(), Features::default())?;
    // As the daemon does while there is much to carry, and as little a mistake where it cannot be.
    let _awake = wakefulness::can_help().then(wakefulness::hold).and_then(Result::ok);
    let never = StopEvent::new()?;
    let outbound = Outbound {
        tun: tun.reader(never.clone()),
        udp: udp.clone(),
        path: UdpPath::direct(local, remote),
        cipher: Cipher::new(no_encryption)?,
        number: 0,
    };
    let inbound = Inbound {
        udp: udp.receiver(never),
        tun: tun.writer(),
        remote,
        cipher: Cipher::new(no_encryption)?,
        packet: PacketBuffer::new(),
        filled: 0,
        next: 0,
    };
    let (ended, why) = mpsc::channel();
    let also_ended = ended.clone();
    // Named as the daemon's, so that docs/profiling.md holds for both.
    thread::Builder::new().name("data-tun".to_owned()).spawn(move || ended.send(outbound.run()))?;
    thread::Builder::new().name("data-udp".to_owned()).spawn(move || also_ended.send(inbound.run()))?;
    Ok(why.recv()??)
}

/// AES-256-GCM, or nothing in its place.
struct Cipher(Option<LessSafeKey>);

impl Cipher {
    fn new(is_null: bool) -> anyhow::Result<Self> {
        let key =
            UnboundKey::new(&AES_256_GCM, &KEY).map_err(|_| anyhow::anyhow!("there is no AES-256-GCM"))?;
        Ok(Self((!is_null).then(|| LessSafeKey::new(key))))
    }

    /// Never twice with the same number in the life of a process, which is enough for a key that everybody has.
    fn nonce(head: [u8; HEAD]) -> Nonce {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&head);
        Nonce::assume_unique_for_key(nonce)
    }

    /// Fills `datagram`, which is as long as it must be.
    fn seal(&self, head: [u8; HEAD], plaintext: &[u8], datagram: &mut [u8]) -> Option<()> {
        let (front, body) = datagram.split_first_chunk_mut()?;
        *front = head;
        let (ciphertext, tag) = body.split_at_mut_checked(plaintext.len())?;
        let Some(key) = &self.0 else {
            ciphertext.copy_from_slice(plaintext);
            tag.fill(0);
            return Some(());
        };
        key.seal_out_of_place_scatter(Self::nonce(head), Aad::from(head), plaintext, ciphertext, &[], tag)
            .ok()
    }

    /// Fills `plaintext`, which is as long as the ciphertext; `None`: not of somebody with the key.
    fn open(&self, head: [u8; HEAD], body: &[u8], plaintext: &mut [u8]) -> Option<()> {
        let (ciphertext, tag) = body.split_at_checked(plaintext.len())?;
        let Some(key) = &self.0 else {
            plaintext.copy_from_slice(ciphertext);
            return Some(());
        };
        key.open_separate_gather(Self::nonce(head), Aad::from(head), ciphertext, tag, plaintext).ok()
    }
}

/// TUN to UDP.
struct Outbound {
    tun: TunReader,
    udp: Udp,
    path: UdpPath,
    cipher: Cipher,
    number: u64,
}

impl Outbound {
    fn run(mut self) -> io::Result<Infallible> {
        let (mut packet, mut batch) = (PacketBuffer::new(), SendBatch::new());
        loop {
            let mut is_more = true;
            while is_more && !batch.is_due() {
                is_more = self.tun.try_read(&mut packet)?;
                if is_more {
                    self.seal(&mut packet, &mut batch);
                }
            }
            self.flush(&mut batch);
            if !is_more {
                self.tun.wait()?;
            }
        }
    }

    /// Datagrams of one packet stay together, so that they are one message to the kernel.
    fn seal(&mut self, packet: &mut PacketBuffer, batch: &mut SendBatch) {
        let (header, len) = (vnet::encode(packet.offload(), packet.packet()), packet.packet().len());
        let plaintext = packet.room_behind_mut(PREFIX).get_mut(..PREFIX + len).unwrap_or_default();
        if let Some(front) = plaintext.first_chunk_mut() {
            *front = header;
        }
        let count = plaintext.len().div_ceil(CHUNK);
        if batch.reserve(plaintext.len() + count * (HEAD + TAG)).is_none() {
            self.flush(batch);
        }
        for (at, chunk) in plaintext.chunks(CHUNK).enumerate() {
            let mark = |is_so, mark| if is_so { mark } else { 0 };
            let head = self.number | mark(at == 0, BEGINS) | mark(at + 1 == count, ENDS);
            self.number += 1;
            let len = HEAD + chunk.len() + TAG;
            // The largest packet fits an empty batch.
            if let Some(mut room) = batch.reserve(len)
                && self.cipher.seal(head.to_be_bytes(), chunk, room.room_mut()).is_some()
            {
                room.commit(self.path, 0, len);
            }
        }
    }

    fn flush(&self, batch: &mut SendBatch) {
        if !batch.is_empty() {
            // What does not leave is lost, as datagrams may be.
            self.udp.send(batch);
            batch.clear();
        }
    }
}

/// UDP to TUN.
struct Inbound {
    udp: UdpReceiver,
    tun: TunWriter,
    remote: SocketAddrV4,
    cipher: Cipher,
    /// What there is of the packet that is being put together, behind its prefix.
    packet: PacketBuffer,
    /// Octets of it, the prefix included; 0: none was begun, or a part of it was lost.
    filled: usize,
    /// Number of the datagram with the next part.
    next: u64,
}

impl Inbound {
    fn run(mut self) -> io::Result<Infallible> {
        let (mut batch, remote) = (ReceiveBatch::new(), self.remote);
        loop {
            let received = self.udp.try_receive(&mut batch)?;
            if received {
                let datagrams = batch.datagrams().filter(|datagram| datagram.path.remote == remote);
                for datagram in datagrams.flat_map(|datagram| datagram.payloads()) {
                    // What is not whole or not authentic is dropped: nobody counts here.
                    let _ = self.open(datagram);
                }
            }
            if !received || !batch.is_full() {
                self.udp.wait()?;
            }
        }
    }

    /// Adds the part of a packet that is in this datagram, and writes the packet when it is whole. `None`: it is lost.
    fn open(&mut self, datagram: &[u8]) -> Option<()> {
        let (head, body) = datagram.split_first_chunk()?;
        let marked = u64::from_be_bytes(*head);
        let (number, begins, ends) = (marked & !(BEGINS | ENDS), marked & BEGINS != 0, marked & ENDS != 0);
        let filled = std::mem::take(&mut self.filled);
        let start = if begins { 0 } else { filled };
        if !begins && (filled == 0 || number != self.next) {
            return None;
        }
        let end = start + body.len().checked_sub(TAG)?;
        let room = self.packet.room_behind_mut(PREFIX);
        self.cipher.open(*head, body, room.get_mut(start..end)?)?;
        if !ends {
            (self.filled, self.next) = (end, number + 1);
            return Some(());
        }
        let offload = vnet::decode(*room.first_chunk()?).ok()?;
        self.packet.set_len(end.checked_sub(PREFIX)?);
        self.packet.set_offload(offload);
        self.tun.write(&mut self.packet).ok()
    }
}
