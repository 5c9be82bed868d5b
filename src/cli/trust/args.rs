//! The arguments of `domicile trust`.

use std::net::Ipv6Addr;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum TrustVerb {
    /// Trust a home: whoever it certifies may be reached, and may reach this machine
    #[command(
        after_help = "Examples:\n  sudo domicile trust add their-home.pem\n  sudo domicile trust add their-home.pem --fingerprint 0123-4567-89ab-cdef-0123-4567-89ab-cdef\n\n'domicile home root' prints the file there, 'domicile home init' and 'domicile join' showed the fingerprint: let its owner tell it to you on another way than the file came. The other home has to trust yours, too. A home can certify addresses of its own prefix alone."
    )]
    Add(TrustAddArgs),
    /// List the trusted homes
    #[command(
        after_help = "Example: domicile trust list --json\n\nPIN says what happens when a known address shows a new key that its old one does not endorse: 'tell' believes its home and tells you, 'strict' refuses ([node] pin). KEYS counts the remembered keys."
    )]
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Trust a home no longer: its security associations end, its keys are forgotten
    #[command(
        after_help = "Examples:\n  sudo domicile trust remove 2002:c633:6402::/48\n  sudo domicile trust remove their-home.example.org"
    )]
    Remove {
        /// Its prefix, an address in it, or its domain
        home: String,
    },
    /// List the keys that are remembered, one for each address that proved itself with a certificate
    #[command(after_help = "Example: domicile trust keys")]
    Keys {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Forget the key of one address, so that its home may certify another one
    #[command(
        after_help = "Example: sudo domicile trust forget 2002:c633:6402:1::1001\n\nFor pin = \"strict\": ask the owner of the machine whether the new key is right, then forget the old one."
    )]
    Forget {
        /// The address
        address: Ipv6Addr,
    },
}

#[derive(Debug, Args)]
pub(in crate::cli) struct TrustAddArgs {
    /// The root certificate of the other home; - reads standard input
    pub(super) file: String,
    /// The fingerprint that its owner told you: another root is refused, and nothing is asked
    #[arg(long, value_name = "FINGERPRINT")]
    pub(super) fingerprint: Option<String>,
    /// Do not ask: the file came on a way that nobody else can write to
    #[arg(long)]
    pub(super) yes: bool,
    /// Take it in place of the root that is trusted for this prefix now
    #[arg(long)]
    pub(super) replace: bool,
}
