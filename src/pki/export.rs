//! What strongSwan needs to speak with an entity of ours by certificate.

use std::net::Ipv6Addr;

use zeroize::Zeroizing;

use super::{TrustError, leaf, pem};
use crate::crypto::identity::PrivateKey;

/// A strongSwan machine that gets an identity of a home.
pub struct StrongSwan<'a> {
    /// Name of the connection and stem of the file names: letters, digits, hyphens.
    pub name: &'a str,
    /// The root *without* name constraints ([`super::Authority::root_without_constraints`]): strongSwan 5.9 cannot
    /// parse IPv6 name constraints.
    pub root: &'a [u8],
    /// Its leaf.
    pub leaf: &'a [u8],
    /// Its private key, unless it made a certificate request and keeps its key to itself.
    pub key: Option<&'a PrivateKey>,
    /// The permanent address of ours that it is to speak with.
    pub peer: Ipv6Addr,
    /// Where that answers: host name or IPv4 address; `None` lets it only be called.
    pub endpoint: Option<&'a str>,
}

/// A file for strongSwan's configuration directory.
#[derive(Debug)]
pub struct ExportedFile {
    /// Below `/etc/swanctl`.
    pub path: String,
    /// Its content.
    pub content: Zeroizing<String>,
    /// Only root may read it.
    pub secret: bool,
}

/// The files: root, leaf, key if given, and a connection in `conf.d`.
pub fn strongswan(machine: &StrongSwan<'_>) -> Result<Vec<ExportedFile>, TrustError> {
    let own = leaf::read(machine.leaf)?;
    let name: String =
        machine.name.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-').collect();
    let file = |path: String, content: String| ExportedFile {
        path,
        content: Zeroizing::new(content),
        secret: false,
    };
    let mut files = vec![
        file(format!("x509ca/{name}-home.pem"), pem::encode(machine.root)?),
        file(format!("x509/{name}.pem"), pem::encode(machine.leaf)?),
        file(format!("conf.d/{name}.conf"), connection(machine, &name, own.address)),
    ];
    if let Some(key) = machine.key {
        files.push(ExportedFile { path: format!("private/{name}.pem"), content: key.to_pem(), secret: true });
    }
    Ok(files)
}

/// `send_cert = always`: our side asks for certificates, but never needs to before it knows who speaks. No extended
/// sequence numbers, which strongSwan's own userspace ESP lacks.
fn connection(machine: &StrongSwan<'_>, name: &str, own: Ipv6Addr) -> String {
    let endpoint = machine.endpoint.unwrap_or("%any");
    let peer = machine.peer;
    format!(
        "# Made by domicile. The certificate lives for a day at most: put a fresh one into x509/{name}.pem and run
# `swanctl --load-creds` before it ends; the other side ends the connection with it.
connections {{
  {name} {{
    version = 2
    remote_addrs = {endpoint}
    remote_port = 4500
    local_port = 4500
    encap = yes
    mobike = yes
    fragmentation = yes
    send_cert = always
    proposals = chacha20poly1305-prfsha256-curve25519, aes256gcm16-prfsha256-curve25519
    local {{
      auth = pubkey
      id = {own}
      certs = {name}.pem
    }}
    remote {{
      auth = pubkey
      id = {peer}
      cacerts = {name}-home.pem
    }}
    children {{
      {name} {{
        local_ts = {own}/128
        remote_ts = {peer}/128
        mode = tunnel
        esp_proposals = chacha20poly1305, aes256gcm16
        start_action = none
      }}
    }}
  }}
}}
"
    )
}
