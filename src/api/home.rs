//! `POST /v1/home`: what is asked of a home's registry, and what it answers. Times are seconds since 1970.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// A request; `verb` says which: `{"verb": "user-add", "name": "alice"}`. Behind each is the document of its reply.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum HomeRequest {
    /// The home itself: [`HomeDocument`].
    Info {},
    /// Adds a user: [`EntityDocument`].
    UserAdd {
        /// Her name.
        name: String,
    },
    /// Adds a node: [`EntityDocument`].
    NodeAdd {
        /// Its name.
        name: String,
    },
    /// Adds a service: [`EntityDocument`].
    ServiceAdd {
        /// Its name.
        name: String,
        /// The node that it runs on.
        node: String,
        /// An address that cannot be guessed, instead of the next one.
        #[serde(default)]
        random: bool,
    },
    /// Lists: a list of [`EntityDocument`].
    List {
        /// `user`, `device`, `service` or `node`; everybody if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kind: Option<String>,
        /// Also those who were removed.
        #[serde(default)]
        removed: bool,
    },
    /// One with its history: [`EntityDetail`].
    Show {
        /// Name, whole name or address.
        who: String,
    },
    /// Gives another name: [`EntityDocument`].
    Rename {
        /// Name or address.
        who: String,
        /// The new name.
        to: String,
    },
    /// Moves a service to another node: [`EntityDocument`].
    Move {
        /// The service.
        service: String,
        /// The node.
        node: String,
    },
    /// Removes for ever: a list of [`EntityDocument`], those who are gone.
    Remove {
        /// Name or address.
        who: String,
        /// Refuse unless it is of this kind.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kind: Option<String>,
    },
    /// Gives a user's floating address to a device: [`EntityDocument`] of the user.
    Take {
        /// The device.
        device: String,
    },
    /// Sets the key of a device, node or service without a join: [`EntityDocument`].
    KeySet {
        /// Name or address.
        who: String,
        /// In one line, or as PEM.
        public_key: String,
    },
    /// Issues a certificate for the key that somebody has: [`CertificateDocument`].
    Certify {
        /// Name or address.
        who: String,
    },
    /// Makes a code: [`InviteReply`].
    Invite {
        /// A user, node or service.
        whom: String,
        /// A name for the user's new device; otherwise it chooses.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<String>,
        /// For how many seconds the code is valid.
        lifetime: u64,
    },
    /// Lists the codes, without the codes: a list of [`InvitationDocument`].
    Invitations {},
    /// Takes an open one back: [`super::Done`].
    InvitationWithdraw {
        /// Its number.
        id: u64,
    },
    /// Lists the requests that wait: a list of [`PendingDocument`].
    Pending {},
    /// Lets one in: [`EntityDocument`], who it is now.
    PendingAccept {
        /// Its number or fingerprint.
        which: String,
        /// As whom, instead of whom it asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        whom: Option<String>,
    },
    /// Refuses one: [`super::Done`].
    PendingRefuse {
        /// Its number or fingerprint.
        which: String,
    },
    /// Removes a device whose key must not be trusted any more: [`EntityDocument`].
    DeviceRevoke {
        /// The device.
        device: String,
    },
    /// Lists who is where, as the running home agent knows it: a list of [`super::mobility::BindingDocument`].
    Bindings {
        /// Only what is inside this prefix or address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        within: Option<String>,
        /// At most so many; 10,000 is the limit.
        limit: u64,
    },
    /// The audit log, the newest first: a list of [`AuditDocument`].
    Log {
        /// Only entries before this one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<u64>,
        /// At most so many; 1,000 is the limit.
        limit: u64,
    },
    /// The log of issued certificates, the oldest first: a list of [`IssuedDocument`].
    Issued {
        /// The first entry, from 1.
        from: u64,
        /// At most so many; 1,000 is the limit.
        limit: u64,
    },
    /// Checks the chain of that log: [`super::Done`].
    IssuedVerify {},
    /// Writes a copy of the registry: [`BackupDocument`].
    Backup {
        /// Whole path of a file that is not there yet, as the daemon sees it.
        file: String,
    },
    /// Replaces the registry by a copy: [`BackupDocument`].
    Restore {
        /// Whole path, as the daemon sees it.
        file: String,
    },
    /// Where the home says that it is: [`RedirectDocument`].
    Redirect {},
    /// Signs and tells members where the home is reached now: [`RedirectDocument`].
    RedirectSet {
        /// `IPV4` or `IPV4:PORT`, the preferred one first.
        places: Vec<String>,
        /// For how many seconds; no end if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lifetime: Option<u64>,
        /// This machine is the one that is reached there, whatever its own addresses are: a NAT forwards the port.
        #[serde(default)]
        here: bool,
    },
    /// Takes it back: the home is where its address tells. [`RedirectDocument`].
    RedirectClear {},
}

/// Where a home says that it is.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct RedirectDocument {
    /// The number of the last redirect; 0: there never was one.
    pub number: u64,
    /// When it was signed.
    pub since: u64,
    /// When it ends, if it does.
    pub until: Option<u64>,
    /// `IPV4:PORT`; none: the home is where its address tells.
    pub places: Vec<String>,
    /// This machine is the home. Otherwise it says where the home is, and does nothing else.
    pub here: bool,
}

/// A fresh certificate.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct CertificateDocument {
    /// Whose.
    pub address: Ipv6Addr,
    /// The whole name, or the short one where the home has no domain.
    pub name: String,
    /// The certificate, as PEM.
    pub certificate: String,
}

/// The home itself.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct HomeDocument {
    /// Its /48.
    pub prefix: String,
    /// The domain of its names.
    pub domain: Option<String>,
    /// The address of the home agent.
    pub address: Ipv6Addr,
    /// When it was made.
    pub created: u64,
    /// How many users there are.
    pub users: u64,
    /// How many devices.
    pub devices: u64,
    /// How many services.
    pub services: u64,
    /// How many nodes.
    pub nodes: u64,
    /// Fingerprint of its root certificate's key: what whoever joins without a code compares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
}

/// An entity.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct EntityDocument {
    /// `user`, `device`, `service` or `node`.
    pub kind: String,
    /// Name below the home's domain.
    pub name: String,
    /// Whole name, if the home has a domain.
    pub full_name: Option<String>,
    /// Permanent address.
    pub address: Ipv6Addr,
    /// What is bound when it moves: a node's /64, otherwise the address alone.
    pub prefix: String,
    /// `active` or `removed`.
    pub state: String,
    /// The user of a device.
    pub user: Option<String>,
    /// The node on which a service runs.
    pub node: Option<String>,
    /// A service on another node than the one in whose /64 its address is.
    pub moved: bool,
    /// The device that holds a user's floating address.
    pub holder: Option<String>,
    /// The key that proves it now, in one line.
    pub public_key: Option<String>,
    /// Its fingerprint.
    pub fingerprint: Option<String>,
    /// When it was added.
    pub created: u64,
    /// When it was removed.
    pub removed: Option<u64>,
}

/// An entity with what belongs to it and what it was.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct EntityDetail {
    /// Itself.
    pub entity: EntityDocument,
    /// A user's devices, a node's services.
    pub members: Vec<EntityDocument>,
    /// The names that it had, the oldest first.
    pub names: Vec<NameDocument>,
    /// The keys that it had, the oldest first.
    pub keys: Vec<KeyDocument>,
}

/// A name that an entity had or has.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct NameDocument {
    /// The name.
    pub name: String,
    /// Since when.
    pub since: u64,
    /// Until when.
    pub until: Option<u64>,
}

/// A key that an entity had or has.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct KeyDocument {
    /// In one line.
    pub public_key: String,
    /// For people to compare.
    pub fingerprint: String,
    /// Since when.
    pub since: u64,
    /// Until when.
    pub until: Option<u64>,
    /// Why it ended: `replaced`, `removed` or `revoked`.
    pub reason: Option<String>,
}

/// An invitation, without its code.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct InvitationDocument {
    /// Its number.
    pub id: u64,
    /// Who is invited.
    pub whom: String,
    /// The name that the device is to have.
    pub device: Option<String>,
    /// When it was made.
    pub created: u64,
    /// Until when it is valid.
    pub expires: u64,
    /// `open`, `spent`, `withdrawn` or `expired`.
    pub state: String,
    /// When it was used.
    pub spent: Option<u64>,
    /// Who joined with it.
    pub joined: Option<String>,
}

/// A code, which is shown this once.
#[derive(Clone, Serialize, Deserialize, PartialEq)]
pub struct InviteReply {
    /// The code.
    pub code: String,
    /// What it is for.
    pub invitation: InvitationDocument,
}

impl std::fmt::Debug for InviteReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InviteReply").field("invitation", &self.invitation).finish_non_exhaustive()
    }
}

/// A request to join that waits.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct PendingDocument {
    /// Its number.
    pub id: u64,
    /// As whom it wants to join.
    pub whom: String,
    /// What the machine calls itself.
    pub device: Option<String>,
    /// What the machine shows, too.
    pub fingerprint: String,
    /// Where it asked from.
    pub source: Ipv4Addr,
    /// When.
    pub created: u64,
    /// Until when it waits.
    pub expires: u64,
}

/// A line of the audit log.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct AuditDocument {
    /// Grows by one.
    pub id: u64,
    /// When.
    pub at: u64,
    /// Who.
    pub who: String,
    /// Did what.
    pub verb: String,
    /// To whom.
    pub subject: String,
    /// With what.
    pub detail: String,
}

/// An issued certificate in the chained log.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct IssuedDocument {
    /// From 1, without gaps.
    pub sequence: u64,
    /// When.
    pub at: u64,
    /// For which address.
    pub address: Ipv6Addr,
    /// For which name.
    pub name: String,
    /// `user`, `device`, `service`, `node` or `home`.
    pub kind: String,
    /// Certified key, in one line.
    pub public_key: String,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// Start of its validity.
    pub not_before: u64,
    /// End of its validity.
    pub not_after: u64,
    /// SHA-256 of the certificate, hexadecimal.
    pub certificate: String,
    /// Hash of the entry before, hexadecimal.
    pub prev: String,
    /// Hash of this entry, hexadecimal.
    pub hash: String,
}

/// What is in a backup.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct BackupDocument {
    /// Prefix of its home.
    pub prefix: String,
    /// Active entities.
    pub entities: u64,
    /// Certificates in its log.
    pub issued: u64,
    /// The last change that it knows.
    pub last_change: u64,
}
