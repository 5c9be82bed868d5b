//! The arguments, and the help texts that teach.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::exit;

#[derive(Debug, Parser)]
#[command(
    name = "domicile",
    version,
    about = "Permanent IPv6 addresses for users and services, carried end to end in userspace IPsec",
    after_help = exit::HELP,
    arg_required_else_help = true,
    propagate_version = true
)]
pub(super) struct Cli {
    /// Configuration file
    #[arg(long, global = true, env = "DOMICILE_CONFIG", default_value = crate::daemon::config::DEFAULT_PATH, value_name = "FILE")]
    pub(super) config: PathBuf,
    /// Control socket of the daemon [default: what the configuration names]
    #[arg(long, global = true, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
    /// How much to log: error, warn, info, debug or trace (RUST_LOG wins)
    #[arg(long, global = true, default_value = "info", value_name = "LEVEL")]
    pub(super) log_level: String,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Make a key, an address and a configuration file for this machine
    #[command(
        after_help = "Example: domicile init --name server --home 198.51.100.1\n\nNothing that exists is ever overwritten."
    )]
    Init(InitArgs),
    /// Show or make keys
    #[command(subcommand)]
    Key(KeyVerb),
    /// Derive or explain permanent addresses
    #[command(subcommand)]
    Address(AddressVerb),
    /// Add, remove or list peers
    #[command(subcommand)]
    Peer(PeerVerb),
    /// Run the daemon in the foreground
    #[command(
        after_help = "Example: sudo domicile up\n\nNeeds CAP_NET_ADMIN. Ends on 'domicile down', SIGINT or SIGTERM and takes everything down with it; SIGHUP reloads the configuration."
    )]
    Up(UpArgs),
    /// End the daemon and take everything down
    Down,
    /// Make the daemon read its configuration again
    Reload,
    /// Show entities, peers, security associations and drops
    #[command(
        after_help = "Example: domicile status --watch\n\nThe two columns after a peer's name are its state and the state of its security associations."
    )]
    Status(StatusArgs),
    /// Bring up the security associations with a peer and wait until they are
    Connect(PeerArg),
    /// Close every security association with a peer
    Disconnect(PeerArg),
    /// Replace keys now
    #[command(after_help = "Example: domicile rekey server --ike")]
    Rekey(RekeyArgs),
    /// Reach a peer through the tunnel and tell which stage fails if it fails
    #[command(after_help = "Example: domicile ping server -c 3\n\nStages: daemon, name, route, ike, echo.")]
    Ping(PingArgs),
    /// Check a configuration and tell line and column of every problem
    #[command(after_help = "Example: domicile check /etc/domicile/domicile.toml")]
    Check(CheckArgs),
    /// Print completions for a shell
    #[command(after_help = "Example: domicile completions bash > /etc/bash_completion.d/domicile")]
    Completions(CompletionsArgs),
}

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// Name of this machine's entity [default: the host name]
    #[arg(long)]
    pub(super) name: Option<String>,
    /// IPv4 address of the home: this machine's own public address, if it is its own home [default: the source address of the default route]
    #[arg(long, value_name = "IPV4", conflicts_with = "address")]
    pub(super) home: Option<Ipv4Addr>,
    /// A permanent address that was assigned to you, instead of one derived from --home
    #[arg(long, value_name = "IPV6")]
    pub(super) address: Option<Ipv6Addr>,
    /// Accept a home that is not on the Internet (a laboratory, an intranet)
    #[arg(long)]
    pub(super) allow_special: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum KeyVerb {
    /// Show the public key of this machine, to be given to others
    #[command(after_help = "Example: domicile key show --pem   (the form that strongSwan takes)")]
    Show {
        /// As SubjectPublicKeyInfo in PEM instead of one line
        #[arg(long)]
        pem: bool,
        /// As a fingerprint, for reading aloud
        #[arg(long, conflicts_with = "pem")]
        fingerprint: bool,
        /// Which entity, if there are several
        #[arg(long, value_name = "NAME")]
        entity: Option<String>,
    },
    /// Write a new private key to a file that must not exist
    Generate {
        /// The file
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum AddressVerb {
    /// Derive a permanent address from a home's IPv4 address
    #[command(
        after_help = "Examples:\n  domicile address derive 198.51.100.1              the home agent\n  domicile address derive 198.51.100.1 0x100 0xa    service 0xa on the first node"
    )]
    Derive {
        /// IPv4 address of the home
        home: Ipv4Addr,
        /// Subnet: 0 infrastructure, 1 users, from 0x100 nodes
        #[arg(value_parser = number)]
        subnet: Option<u64>,
        /// Interface identifier
        #[arg(value_parser = number)]
        interface: Option<u64>,
    },
    /// Tell what an address means and where its home is
    Explain {
        /// The address
        address: Ipv6Addr,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum PeerVerb {
    /// Add a peer to the configuration; a running daemon takes it up at once
    #[command(
        after_help = "Example: domicile peer add server 2002:c633:6401:1::10 --public-key BASE64\n\n'domicile key show' on the other machine prints its key."
    )]
    Add(PeerAddArgs),
    /// Remove a peer from the configuration and close its security associations
    Remove {
        /// Its name
        name: String,
    },
    /// List the peers of the configuration
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct PeerAddArgs {
    /// A name for it
    pub(super) name: String,
    /// Its permanent address
    pub(super) address: String,
    /// Its public key, as 'domicile key show' prints it there
    #[arg(long, value_name = "KEY", required_unless_present = "psk_file", conflicts_with = "psk_file")]
    pub(super) public_key: Option<String>,
    /// A file with the shared secret, readable by you alone
    #[arg(long, value_name = "FILE")]
    pub(super) psk_file: Option<String>,
    /// Where it answers [default: its home entry, or what its address says]; none: it calls us
    #[arg(long, value_name = "IP:PORT")]
    pub(super) endpoint: Option<String>,
    /// When to connect: on-traffic or start
    #[arg(long, value_name = "WHEN")]
    pub(super) connect: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct UpArgs {
    /// Write the keys of every security association to FILE, for Wireshark. Whoever reads it can read the traffic.
    #[arg(long, value_name = "FILE")]
    pub(super) keylog: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Print the daemon's own document
    #[arg(long)]
    pub(super) json: bool,
    /// Show it again every so many seconds
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1")]
    pub(super) watch: Option<f64>,
}

#[derive(Debug, Args)]
pub(super) struct PeerArg {
    /// Name or permanent address
    pub(super) peer: String,
    /// How long to wait, in seconds
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    pub(super) timeout: f64,
}

#[derive(Debug, Args)]
pub(super) struct RekeyArgs {
    /// Name or permanent address
    pub(super) peer: String,
    /// The IKE SA instead of the child SA
    #[arg(long, conflicts_with = "reauth")]
    pub(super) ike: bool,
    /// Authenticate anew
    #[arg(long)]
    pub(super) reauth: bool,
}

#[derive(Debug, Args)]
pub(super) struct PingArgs {
    /// Name or permanent address
    pub(super) peer: String,
    /// How many echo requests
    #[arg(short, long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) count: u32,
    /// Seconds between them
    #[arg(short, long, default_value_t = 1.0)]
    pub(super) interval: f64,
    /// Seconds to wait for each answer
    #[arg(short = 'W', long, default_value_t = 2.0)]
    pub(super) wait: f64,
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The file [default: --config]
    pub(super) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// Which shell
    pub(super) shell: clap_complete::Shell,
}

/// Decimal, or hexadecimal with 0x.
fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("'{text}' is not a number: write it like 256 or 0x100"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }
}
