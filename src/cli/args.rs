//! The arguments, and the help texts that teach.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::exit;
use super::home::HomeVerb;
use super::trust::TrustVerb;
use crate::daemon::config::MAX_QUEUES;
use crate::dataplane::offload::Feature;

#[derive(Debug, Parser)]
#[command(
    name = "domicile",
    version = crate::daemon::VERSION,
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
    /// How much 'up' logs (RUST_LOG wins)
    #[arg(long, global = true, default_value = "info", value_name = "LEVEL")]
    pub(super) log_level: LogLevel,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

/// How much the daemon logs.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
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
    /// Trust other homes, and see or forget remembered keys
    #[command(subcommand)]
    Trust(TrustVerb),
    /// Join a home, with a code or by asking: get a permanent address, a name and a certificate
    #[command(
        after_help = "Examples:\n  sudo domicile join home.example.org 7K3M9-…\n  sudo domicile join home.example.org --as alice\n\n'domicile home invite' prints the code. If the answer is lost, the same command may be given again for ten minutes. Without a code somebody at the home decides ('domicile home pending'), after comparing fingerprints."
    )]
    Join(JoinArgs),
    /// Take the user's floating address to this device
    #[command(
        after_help = "Example: sudo domicile take\n\nWhoever had it has it no more, at once. The daemon has to run, because it asks the home."
    )]
    Take(TakeArgs),
    /// Leave a home for good: the address is never given again
    #[command(
        after_help = "Example: sudo domicile leave\n\nConfiguration, key and certificate are moved aside, and where they are is told. With a daemon or without one."
    )]
    Leave(LeaveArgs),
    /// Run a home: users, nodes, services, codes to join with, backups
    #[command(subcommand)]
    Home(HomeVerb),
    /// Run the daemon in the foreground
    #[command(
        after_help = "Example: sudo domicile up\n\nNeeds CAP_NET_ADMIN. Ends on 'domicile down', SIGINT or SIGTERM and takes everything down with it; SIGHUP reloads the configuration."
    )]
    Up(UpArgs),
    /// End the daemon and take everything down
    #[command(
        after_help = "Example: sudo domicile down\n\nReturns when device, addresses and routes are gone."
    )]
    Down,
    /// Make the daemon read its configuration again
    #[command(
        after_help = "Example: domicile check && sudo domicile reload\n\nA file with problems changes nothing. New ports, interface, users with an address or routed prefixes need 'down' and 'up'."
    )]
    Reload,
    /// Show entities, peers, security associations and drops
    #[command(
        after_help = "Examples: domicile status --watch\n          domicile status server\n\nThe two columns after a peer's name are its state and the state of its security associations."
    )]
    Status(StatusArgs),
    /// Bring up the security associations with a peer and wait until they are
    #[command(
        after_help = "Example: sudo domicile connect server --timeout 5\n\nTraffic to a peer does this by itself; 'connect' tells whether it works."
    )]
    Connect(ConnectArgs),
    /// Close every security association with a peer
    #[command(
        after_help = "Example: sudo domicile disconnect server\n\nThe next packet to it brings them up again: 'peer remove' ends that, too."
    )]
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
pub(super) struct JoinArgs {
    /// Where the home answers: a name or an IPv4 address, with :PORT if it is not 4500
    pub(super) host: String,
    /// The code
    #[arg(conflicts_with = "code_file")]
    pub(super) code: Option<String>,
    /// A file with the code in it: for servers that nobody sits at
    #[arg(long, value_name = "FILE")]
    pub(super) code_file: Option<PathBuf>,
    /// Ask to be let in as this user, node or service, without a code
    #[arg(long = "as", value_name = "WHO", conflicts_with_all = ["code", "code_file"])]
    pub(super) wanted: Option<String>,
    /// Ask and do not wait: the same command fetches the answer later
    #[arg(long, requires = "wanted")]
    pub(super) no_wait: bool,
    /// Ask nobody but the home whose root has this fingerprint, which 'domicile home info' shows there
    #[arg(long, value_name = "FINGERPRINT", requires = "wanted")]
    pub(super) fingerprint: Option<String>,
    /// What this machine calls itself [default: the host name]
    #[arg(long)]
    pub(super) name: Option<String>,
    /// The home's prefix, where its address does not tell [default: derived from the address]
    #[arg(long, value_name = "PREFIX")]
    pub(super) home: Option<ipnet::Ipv6Net>,
    /// Seconds to wait for the home
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = seconds::<600>, allow_negative_numbers = true)]
    pub(super) timeout: Duration,
    /// Accept a home that is not on the Internet (a laboratory, an intranet)
    #[arg(long)]
    pub(super) allow_special: bool,
}

#[derive(Debug, Args)]
pub(super) struct TakeArgs {
    /// Which entity of the configuration, if several are devices
    #[arg(long, value_name = "NAME")]
    pub(super) entity: Option<String>,
    /// Seconds to wait for the home
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = seconds::<600>, allow_negative_numbers = true)]
    pub(super) timeout: Duration,
}

#[derive(Debug, Args)]
pub(super) struct LeaveArgs {
    /// Which entity of the configuration, if there are several
    #[arg(long, value_name = "NAME")]
    pub(super) entity: Option<String>,
    /// Forget it here, and do not tell the home, which goes on knowing it
    #[arg(long)]
    pub(super) offline: bool,
    /// Seconds to wait for the home
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = seconds::<600>, allow_negative_numbers = true)]
    pub(super) timeout: Duration,
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
    /// Replace the key of an entity by a new one, which its home certifies and the old one vouches for
    #[command(
        after_help = "Example: sudo domicile key rotate --entity laptop\n\nThe new key waits in KEYFILE.next until the home has certified it, over the security association that the old one proved, now or when the daemon runs again. Then it is in use, and the old key goes to KEYFILE.old: it vouches for the new one with those who remember it, also with pin = \"strict\". Leave that file where it is, unless the old key was stolen: then revoke the device and join again. Machines that list the old key in a [[peer]] entry have to list the new one."
    )]
    Rotate {
        /// Which entity, if there are several
        #[arg(long, value_name = "NAME")]
        entity: Option<String>,
    },
    /// Write a new private key to a file that must not exist, and print its public key
    #[command(after_help = "Example: sudo domicile key generate /etc/domicile/second.key")]
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
    #[command(after_help = "Example: domicile address explain 2002:c633:6401:100::a")]
    Explain {
        /// The address
        address: Ipv6Addr,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum PeerVerb {
    /// Add a peer to the configuration; a running daemon takes it up at once
    #[command(
        after_help = "Examples:\n  domicile peer add server 2002:c633:6401:1::10 --public-key BASE64\n  domicile peer add office 2002:c633:6402:100::1 --psk-file office.psk --endpoint 198.51.100.2:4500\n\n'domicile key show' on the other machine prints its key. A file beside the configuration is written there by its name, any other with its whole path."
    )]
    Add(PeerAddArgs),
    /// Remove a peer from the configuration and close its security associations
    #[command(after_help = "Example: sudo domicile peer remove server")]
    Remove {
        /// Its name
        name: String,
    },
    /// List the peers of the configuration
    #[command(
        after_help = "Example: sudo domicile peer list --json\n\nWhat the daemon knows of them is told by 'domicile status'."
    )]
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
    /// Its public key, as 'domicile key show' prints it there; not needed where a trusted home certifies it
    #[arg(long, value_name = "KEY", conflicts_with = "psk_file")]
    pub(super) public_key: Option<String>,
    /// A file with the shared secret, readable by you alone; relative to the current directory, or else to the configuration's
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
    /// Do without this, where a driver or a kernel gets it wrong: tun-offload, coalesce, udp-gso, udp-gro, or idle-polling, which keeps the CPUs of a virtual machine awake while much is carried. Slower, and nothing else
    #[arg(long, value_name = "OFFLOAD", env = "DOMICILE_WITHOUT", value_delimiter = ',')]
    pub(super) without: Vec<Feature>,
    /// Carry packets by so many queues with two threads each [default: what the configuration says, or else half the CPUs]
    #[arg(long, value_name = "NUMBER", env = "DOMICILE_QUEUES", value_parser = queues)]
    pub(super) queues: Option<usize>,
}

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Everything about one peer, by name or permanent address: each address of it that was tried, every path since it is connected
    pub(super) peer: Option<String>,
    /// Print the daemon's own document
    #[arg(long)]
    pub(super) json: bool,
    /// Show it again every so many seconds
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = seconds::<3600>, allow_negative_numbers = true)]
    pub(super) watch: Option<Duration>,
}

#[derive(Debug, Args)]
pub(super) struct PeerArg {
    /// Name or permanent address
    pub(super) peer: String,
}

#[derive(Debug, Args)]
pub(super) struct ConnectArgs {
    /// Name or permanent address
    pub(super) peer: String,
    /// How long to wait, in seconds
    #[arg(long, default_value = "10", value_name = "SECONDS", value_parser = seconds::<600>, allow_negative_numbers = true)]
    pub(super) timeout: Duration,
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
    #[arg(short, long, default_value_t = 4, value_parser = count, allow_negative_numbers = true)]
    pub(super) count: u32,
    /// Seconds between them
    #[arg(short, long, default_value = "1", value_name = "SECONDS", value_parser = seconds::<3600>, allow_negative_numbers = true)]
    pub(super) interval: Duration,
    /// Seconds to wait for each answer
    #[arg(short = 'W', long, default_value = "2", value_name = "SECONDS", value_parser = seconds::<60>, allow_negative_numbers = true)]
    pub(super) wait: Duration,
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

/// Seconds as a decimal, up to a limit.
fn seconds<const MOST: u32>(text: &str) -> Result<Duration, String> {
    let number = text.parse::<f64>().ok().filter(|number| (0.0..=f64::from(MOST)).contains(number));
    number
        .and_then(|number| Duration::try_from_secs_f64(number).ok())
        .ok_or_else(|| format!("write seconds from 0 to {MOST}, like 2 or 0.5"))
}

/// A number of queues.
fn queues(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=MAX_QUEUES).contains(number));
    number.ok_or_else(|| format!("write a number from 1 to {MAX_QUEUES}"))
}

/// A number of echo requests.
fn count(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| (1..=1_000_000).contains(number));
    number.ok_or_else(|| "write a number from 1 to 1000000".to_owned())
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

    #[test]
    fn every_verb_has_an_example_that_is_a_command_of_ours() {
        fn visit(command: &clap::Command, path: &str, seen: &mut usize) {
            if command.has_subcommands() {
                for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
                    visit(verb, &format!("{path} {}", verb.get_name()), seen);
                }
                return;
            }
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example") && help.contains(path), "'{path}' has no example");
            for line in help.lines().filter(|line| line.contains(path)) {
                let line = line.trim_start_matches("Example: ").trim();
                let line = line.split("domicile check && ").last().unwrap_or_default();
                let words =
                    line.split(" > ").next().unwrap_or_default().split("   ").next().unwrap_or_default();
                let words = words.split_whitespace().filter(|word| *word != "sudo");
                if line.trim_start_matches("sudo ").starts_with("domicile ") {
                    assert!(Cli::try_parse_from(words).is_ok(), "the example of '{path}' is wrong: {line}");
                    *seen += 1;
                }
            }
        }
        let mut seen = 0;
        visit(&Cli::command(), "domicile", &mut seen);
        assert!(seen >= 19, "only {seen} examples were tried");
    }

    #[test]
    fn seconds_are_finite_and_bounded() {
        for (text, wanted) in [("0", 0), ("-0.0", 0), ("0.5", 500), ("60", 60_000), ("6e1", 60_000)] {
            assert_eq!(seconds::<60>(text), Ok(Duration::from_millis(wanted)), "{text}");
        }
        for text in ["nan", "NaN", "inf", "-inf", "-1", "1e300", "60.1", "", "1s", "0x1"] {
            assert!(seconds::<60>(text).is_err_and(|said| said.contains("from 0 to 60")), "{text}");
        }
    }
}
