//! Why a home does not do what it is asked for: one sentence each.

use std::path::PathBuf;

use super::entity::Kind;
use super::name::NameError;

/// What is wrong, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no home in this registry yet.
    #[error("this registry belongs to no home yet: run 'domicile home init'")]
    NoHome,
    /// There is one already.
    #[error("this registry belongs to the home {0} already: a home's prefix never changes")]
    HomeExists(ipnet::Ipv6Net),
    /// A prefix that is no /48.
    #[error("{0} cannot be a home's prefix: it has to be a /48")]
    Prefix(ipnet::Ipv6Net),
    /// A name is not fit for DNS.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Somebody has the name.
    #[error("there is a {kind} named \"{name}\" already: choose another name")]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        kind: Kind,
    },
    /// Nobody has the name or address.
    #[error("there is nothing named \"{0}\" in this home: 'domicile home list' shows the names")]
    NotFound(String),
    /// It is something else than the verb works on.
    #[error("\"{name}\" is a {kind}, and this works on a {wanted} only")]
    WrongKind {
        /// The name.
        name: String,
        /// What it is.
        kind: Kind,
        /// What it should be.
        wanted: &'static str,
    },
    /// A node on which services still run.
    #[error("{services} still run on the node \"{node}\": move or remove them first")]
    NodeInUse {
        /// The node.
        node: String,
        /// The first of them, by name.
        services: String,
    },
    /// All numbers of a kind are used up; they are never used again.
    #[error("this home has no number left for another {0}, because numbers are never used again")]
    Exhausted(Kind),
    /// No invitation has this lookup id, or it was withdrawn.
    #[error("no invitation fits this code: ask for a new one")]
    NoInvitation,
    /// It was used.
    #[error("this code was used already, and each works once: ask for a new one")]
    Spent,
    /// Its time is over.
    #[error("this code has expired: ask for a new one")]
    Expired,
    /// A key that was revoked, or is another entity's, never proves anything again.
    #[error("this key was revoked or belongs to somebody else in this home: join with a new key")]
    KeyRefused,
    /// Too many requests wait, or came lately.
    #[error("too many requests to join are waiting or came lately: try again in a minute, or ask for a code")]
    Busy,
    /// No pending request has this number or fingerprint.
    #[error("no request to join waits under \"{0}\": 'domicile home pending list' shows them")]
    NotPending(String),
    /// Whoever asks may not have this certificate.
    #[error(
        "{caller} may not have a certificate for {subject}: only itself, the node it runs on or the device that holds it may"
    )]
    NotAuthorised {
        /// Who asks.
        caller: std::net::Ipv6Addr,
        /// For whom.
        subject: std::net::Ipv6Addr,
    },
    /// The certificate authority refused.
    #[error("no certificate could be issued: {0}")]
    Issue(String),
    /// A request that makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The file is from the future.
    #[error("{} was written by a newer domicile (registry version {found}, this one knows {known}): update domicile", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest that we know.
        known: i64,
    },
    /// The file is something else.
    #[error("{} is not the registry of a home: {why}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// How we know.
        why: String,
    },
    /// The file is damaged.
    #[error("{} is damaged ({why}): restore a backup with 'domicile home restore'", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// A file exists that would be overwritten.
    #[error("{} exists already, and nothing is overwritten: choose another name", .0.display())]
    Exists(PathBuf),
    /// A file cannot be used.
    #[error("{}: {what}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        error: std::io::Error,
    },
    /// SQLite failed: no room, no permission, a damaged file.
    #[error("the registry cannot be read or written: {0}")]
    Store(#[from] rusqlite::Error),
}

impl Error {
    /// The stage in an error reply of the control socket.
    pub const fn stage(&self) -> &'static str {
        match self {
            Self::Name(_) | Self::NameTaken { .. } | Self::NotFound(_) | Self::NotPending(_) => "name",
            Self::NoHome
            | Self::HomeExists(_)
            | Self::Prefix(_)
            | Self::WrongKind { .. }
            | Self::NodeInUse { .. }
            | Self::Invalid(_)
            | Self::Exists(_) => "request",
            Self::Exhausted(_)
            | Self::Newer { .. }
            | Self::Foreign { .. }
            | Self::Damaged { .. }
            | Self::Io { .. }
            | Self::Store(_) => "registry",
            Self::NoInvitation
            | Self::Spent
            | Self::Expired
            | Self::KeyRefused
            | Self::Busy
            | Self::NotAuthorised { .. }
            | Self::Issue(_) => "join",
        }
    }
}
