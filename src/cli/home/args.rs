//! The arguments of `domicile home`.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::redirect::RedirectVerb;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum HomeVerb {
    /// Make this machine a home: it gives out permanent addresses under its public IPv4 address
    #[command(
        after_help = "Example: sudo domicile home init --address 198.51.100.1 --domain home.example.org\n\nThe prefix of a home and its domain never change, so the address should not either: one on lease is refused unless --allow-dynamic says that it stays. Makes a configuration, too, if there is none."
    )]
    Init(HomeInitArgs),
    /// Show the home itself
    #[command(after_help = "Example: domicile home info")]
    Info(Json),
    /// Print the root certificate, for others to trust
    #[command(after_help = "Example: domicile home root > home.pem\n\nThere: domicile trust add home.pem")]
    Root,
    /// Write what strongSwan needs to be a node of this home: root, certificate, connection
    #[command(
        after_help = "Examples:\n  domicile home node add gateway\n  domicile home export gateway --request gateway.csr --peer web --endpoint 198.51.100.7 ./gateway\n  domicile home export gateway --peer web ./gateway     a fresh certificate, within a day\n\nThere: openssl genpkey -algorithm ed25519 -out private/gateway.pem\n       openssl req -new -key private/gateway.pem -subj /CN=gateway -out gateway.csr"
    )]
    Export(ExportArgs),
    /// Add, list, show, rename or remove users
    #[command(subcommand)]
    User(UserVerb),
    /// Add, list, show, rename or remove nodes
    #[command(subcommand)]
    Node(NodeVerb),
    /// Add, list, show, rename, move or remove services
    #[command(subcommand)]
    Service(ServiceVerb),
    /// List, show, rename or revoke devices
    #[command(subcommand)]
    Device(DeviceVerb),
    /// List everybody
    #[command(after_help = "Example: domicile home list --removed")]
    List(ListArgs),
    /// Make a one-time code with which a user's device, a node or a service joins
    #[command(
        after_help = "Example: domicile home invite alice\n\nThe code is shown this once. Whoever has it can join, once: give it to nobody else."
    )]
    Invite(InviteArgs),
    /// List codes or take one back
    #[command(subcommand)]
    Invitation(InvitationVerb),
    /// Decide about machines that ask to join without a code
    #[command(
        subcommand,
        after_help = "Compare the fingerprint in 'domicile home pending list' with the one that the machine shows before you accept it."
    )]
    Pending(PendingVerb),
    /// Give a user's floating address to one of her devices
    #[command(after_help = "Example: domicile home take phone.alice")]
    Take {
        /// The device
        device: String,
    },
    /// Show who is where: the bindings of a running home
    #[command(
        after_help = "Examples: domicile home bindings\n          domicile home bindings 2002:c633:6401:100::/64 --json"
    )]
    Bindings(BindingsArgs),
    /// Show who did what
    #[command(after_help = "Example: domicile home log -n 20")]
    Log(LogArgs),
    /// Show or check the chained log of issued certificates
    #[command(after_help = "Example: domicile home issued --verify")]
    Issued(IssuedArgs),
    /// Write a copy of the registry while it is in use
    #[command(
        after_help = "Example: domicile home backup /var/backups/home-2026-07-01.db\n\nThe root key is not in it: copy root.key from the home's directory once, to a safe place."
    )]
    Backup {
        /// A file that is not there yet
        file: PathBuf,
    },
    /// Replace the registry by a copy, also while it is in use
    #[command(
        after_help = "Example: domicile home restore /var/backups/home-2026-07-01.db\n\nWhatever was changed since the copy was made is undone, revocations included: look through 'domicile home log' afterwards. Addresses that were given out since then are not given out again. Make a new backup at once."
    )]
    Restore {
        /// What 'domicile home backup' wrote
        file: PathBuf,
    },
    /// Say, show or take back where the home is reached after a move to another public address
    #[command(subcommand)]
    Redirect(RedirectVerb),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct HomeInitArgs {
    /// The public IPv4 address of this machine; 'detect' takes the one that it speaks to the Internet from
    #[arg(long, value_name = "IPV4|detect", default_value = "detect")]
    pub(super) address: HomeAddress,
    /// The domain that the names of this home are in
    #[arg(long, value_name = "DOMAIN")]
    pub(super) domain: Option<String>,
    /// Where the home is kept [default: 'home' beside the configuration]
    #[arg(long, value_name = "DIRECTORY")]
    pub(super) directory: Option<PathBuf>,
    /// Accept an address that is not on the Internet (a laboratory, an intranet)
    #[arg(long)]
    pub(super) allow_special: bool,
    /// Accept an address that this machine has on lease: you know that its provider always gives it the same one
    #[arg(long)]
    pub(super) allow_dynamic: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ExportArgs {
    /// The node, by its name
    pub(super) who: String,
    /// Where to write the files, laid out as in /etc/swanctl; made if it is not there
    pub(super) directory: PathBuf,
    /// Whom it is to speak with: a name of this home or a permanent address
    #[arg(long, value_name = "NAME|ADDRESS")]
    pub(super) peer: String,
    /// Where that one answers [default: nowhere, it calls]
    #[arg(long, value_name = "HOST")]
    pub(super) endpoint: Option<String>,
    /// Its certificate request (PKCS#10), which says its key; needed the first time, or 'domicile home node key'
    #[arg(long, value_name = "FILE")]
    pub(super) request: Option<PathBuf>,
}

/// Where a home is to be.
#[derive(Clone, Copy, Debug)]
pub(super) enum HomeAddress {
    Detect,
    Given(Ipv4Addr),
}

impl std::str::FromStr for HomeAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "detect" => Ok(Self::Detect),
            text => text.parse().map(Self::Given).map_err(|_| "write an IPv4 address, or 'detect'"),
        }
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Json {
    /// As JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ListArgs {
    /// Also those who were removed
    #[arg(long)]
    pub(super) removed: bool,
    /// As JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ShowArgs {
    /// Name or permanent address
    pub(super) who: String,
    /// As JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RenameArgs {
    /// Name or permanent address
    pub(super) who: String,
    /// The new name
    pub(super) to: String,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum UserVerb {
    /// Add a user: she gets a permanent address, and 'domicile home invite' lets her devices join
    #[command(after_help = "Example: domicile home user add alice")]
    Add {
        /// Her name
        name: String,
    },
    /// List the users
    #[command(after_help = "Example: domicile home user list")]
    List(ListArgs),
    /// Show a user with her devices, and what was before
    #[command(after_help = "Example: domicile home user show alice")]
    Show(ShowArgs),
    /// Give a user another name; her devices follow, addresses stay
    #[command(after_help = "Example: domicile home user rename alice carol")]
    Rename(RenameArgs),
    /// Remove a user and her devices for ever
    #[command(after_help = "Example: domicile home user remove alice")]
    Remove {
        /// Name or permanent address
        who: String,
    },
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum NodeVerb {
    /// Add a node: it gets a /64, and 'domicile home invite' lets it join
    #[command(after_help = "Example: domicile home node add server1")]
    Add {
        /// Its name
        name: String,
    },
    /// List the nodes
    #[command(after_help = "Example: domicile home node list")]
    List(ListArgs),
    /// Show a node with its services, and what was before
    #[command(after_help = "Example: domicile home node show server1")]
    Show(ShowArgs),
    /// Give a node another name; its addresses stay
    #[command(after_help = "Example: domicile home node rename server1 rack1")]
    Rename(RenameArgs),
    /// Remove a node for ever, once no service runs on it
    #[command(after_help = "Example: domicile home node remove server1")]
    Remove {
        /// Name or permanent address
        who: String,
    },
    /// Set the key of a node that cannot join, such as other IPsec software
    #[command(
        after_help = "Example: domicile home node key gateway tu0NZNtXCJ44BPsh3t1yY+tT9GL26LlQsbdf5yC4gQ0="
    )]
    Key {
        /// Name or permanent address
        who: String,
        /// Its public key, in one line or as PEM
        public_key: String,
    },
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ServiceVerb {
    /// Add a service with a permanent address on a node
    #[command(
        after_help = "Examples: domicile home service add web --node server1\n          domicile home service add --from names.txt --node server1"
    )]
    Add {
        /// Its name
        #[arg(required_unless_present = "from")]
        name: Option<String>,
        /// A file with many names, one a line (- for standard input; what follows a # is left out)
        #[arg(long, value_name = "FILE", conflicts_with = "name")]
        from: Option<PathBuf>,
        /// The node that it runs on
        #[arg(long)]
        node: String,
        /// An address that cannot be guessed, instead of the next one
        #[arg(long)]
        random: bool,
    },
    /// List the services
    #[command(after_help = "Example: domicile home service list --json")]
    List(ListArgs),
    /// Show a service, and what was before
    #[command(after_help = "Example: domicile home service show web")]
    Show(ShowArgs),
    /// Give a service another name; its address stays
    #[command(after_help = "Example: domicile home service rename web www")]
    Rename(RenameArgs),
    /// Move a service to another node; its address stays
    #[command(after_help = "Example: domicile home service move web --node server2")]
    Move {
        /// Name or permanent address
        service: String,
        /// The node that it will run on
        #[arg(long)]
        node: String,
    },
    /// Remove a service for ever
    #[command(after_help = "Example: domicile home service remove web")]
    Remove {
        /// Name or permanent address
        who: String,
    },
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum DeviceVerb {
    /// List the devices of all users
    #[command(after_help = "Example: domicile home device list")]
    List(ListArgs),
    /// Show a device, and what was before
    #[command(after_help = "Example: domicile home device show laptop.alice")]
    Show(ShowArgs),
    /// Give a device another name; its address stays
    #[command(after_help = "Example: domicile home device rename laptop.alice thinkpad")]
    Rename(RenameArgs),
    /// Remove a lost or stolen device: its key is never trusted again
    #[command(
        after_help = "Example: domicile home device revoke laptop.alice\n\nIts security associations with the home end at once, and whoever else speaks with the home is told at once; anybody else believes its certificate until that ends, which takes a day at most."
    )]
    Revoke {
        /// Name or permanent address
        device: String,
    },
}

#[derive(Debug, Args)]
pub(in crate::cli) struct InviteArgs {
    /// A user, node or service
    pub(super) whom: String,
    /// A name for the user's new device [default: what the machine calls itself]
    #[arg(long, value_name = "NAME")]
    pub(super) device: Option<String>,
    /// How long the code is valid, like 15m, 12h or 7d
    #[arg(long, default_value = "1d", value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(super) valid: Duration,
    /// Print the code alone, for a file
    #[arg(long)]
    pub(super) quiet: bool,
    /// As JSON
    #[arg(long, conflicts_with = "quiet")]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum InvitationVerb {
    /// List the codes, without the codes
    #[command(after_help = "Example: domicile home invitation list")]
    List(Json),
    /// Take an open code back
    #[command(after_help = "Example: domicile home invitation withdraw 3")]
    Withdraw {
        /// Its number in the list
        id: u64,
    },
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum PendingVerb {
    /// List the requests that wait
    #[command(after_help = "Example: domicile home pending list")]
    List(Json),
    /// Let a machine in
    #[command(after_help = "Example: domicile home pending accept 3 --as alice")]
    Accept {
        /// Its fingerprint, or its number in the list
        which: String,
        /// As this user, node or service, instead of whom it asked for
        #[arg(long = "as", value_name = "NAME")]
        whom: Option<String>,
    },
    /// Refuse a machine
    #[command(after_help = "Example: domicile home pending refuse 3")]
    Refuse {
        /// Its fingerprint, or its number in the list
        which: String,
    },
}

#[derive(Debug, Args)]
pub(in crate::cli) struct BindingsArgs {
    /// Only what is inside this prefix, or this address alone
    #[arg(value_name = "PREFIX")]
    pub(super) within: Option<String>,
    /// How many at most
    #[arg(short = 'n', long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(super) lines: u64,
    /// As JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct LogArgs {
    /// How many entries, the newest first
    #[arg(short = 'n', long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(super) lines: u64,
    /// Only entries before this number
    #[arg(long, value_name = "NUMBER")]
    pub(super) before: Option<u64>,
    /// As JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct IssuedArgs {
    /// The first entry
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub(super) from: u64,
    /// How many entries
    #[arg(short = 'n', long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(super) lines: u64,
    /// Check the whole chain instead
    #[arg(long, conflicts_with_all = ["from", "lines"])]
    pub(super) verify: bool,
    /// As JSON
    #[arg(long)]
    pub(super) json: bool,
}
