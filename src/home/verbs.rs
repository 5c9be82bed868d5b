//! The documents of `POST /v1/home`, mapped to the registry. What a change means for the running daemon comes back as
//! [`Effect`]s.

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use ipnet::Ipv6Net;
use serde::Serialize;

use super::entity::{By, Entity, Home, Issue, Kind};
use super::error::Error;
use super::registry::{
    AuditEntry, BackupSummary, Interface, Invitation, IssuedEntry, KeyEntry, NameEntry, Pending, Registry,
};
use crate::api::home::{
    AuditDocument, BackupDocument, CertificateDocument, EntityDetail, EntityDocument, HomeDocument,
    HomeRequest, InvitationDocument, InviteReply, IssuedDocument, KeyDocument, NameDocument, PendingDocument,
    RedirectDocument,
};
use crate::api::{Done, ErrorReply};
use crate::crypto::identity::KeyError;
use crate::pki::pem;

/// Random octets that a request may use up.
pub const RANDOM_LEN: usize = 16;

/// A reply: the document itself.
#[derive(Clone, Debug, Serialize, PartialEq)]
#[serde(untagged)]
#[expect(missing_docs, reason = "each is the document that its request names")]
pub enum HomeReply {
    Home(HomeDocument),
    Entity(EntityDocument),
    Entities(Vec<EntityDocument>),
    Detail(EntityDetail),
    Certificate(CertificateDocument),
    Invite(InviteReply),
    Invitations(Vec<InvitationDocument>),
    Pending(Vec<PendingDocument>),
    Audit(Vec<AuditDocument>),
    Issued(Vec<IssuedDocument>),
    Backup(BackupDocument),
    Redirect(RedirectDocument),
    Done(Done),
}

/// What a running daemon has to do after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// End the security associations with this entity: its key is not trusted any more, or its address has another
    /// holder.
    Cut(Ipv6Addr),
    /// Forget the binding of this prefix.
    Unbind(Ipv6Net),
    /// What is on this node or device is not what it was: it has to be told.
    Hosted(Ipv6Addr),
    /// Names or entities changed: what answers DNS and whom the home lets in has to be read again.
    Changed,
    /// Everything changed: the registry is another one.
    Restored,
    /// The home says that it is elsewhere: its members are told.
    Moved,
}

/// A reply with what follows from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// For whoever asked.
    pub reply: HomeReply,
    /// For the daemon.
    pub effects: Vec<Effect>,
}

impl Outcome {
    fn of(reply: HomeReply) -> Self {
        Self { reply, effects: Vec::new() }
    }

    fn done(message: String) -> Self {
        Self::of(HomeReply::Done(Done { message }))
    }

    fn with(mut self, effects: impl IntoIterator<Item = Effect>) -> Self {
        self.effects.extend(effects);
        self
    }
}

/// Answers a request. `random` is used for at most one code, address or serial number.
pub fn answer(
    registry: &mut Registry,
    by: By<'_>,
    random: [u8; RANDOM_LEN],
    request: HomeRequest,
    issue: Issue<'_>,
) -> Result<Outcome, ErrorReply> {
    let outcome = match request {
        HomeRequest::Info {}
        | HomeRequest::List { .. }
        | HomeRequest::Show { .. }
        | HomeRequest::Invitations {}
        | HomeRequest::Pending {}
        | HomeRequest::Log { .. }
        | HomeRequest::Issued { .. }
        | HomeRequest::IssuedVerify {} => read(registry, by.now, request),
        HomeRequest::Bindings { .. } => Err(Error::Invalid(
            "bindings are known to a running home only: start it with 'domicile up'".to_owned(),
        )),
        HomeRequest::UserAdd { .. }
        | HomeRequest::NodeAdd { .. }
        | HomeRequest::ServiceAdd { .. }
        | HomeRequest::Rename { .. }
        | HomeRequest::Move { .. }
        | HomeRequest::Remove { .. }
        | HomeRequest::Take { .. }
        | HomeRequest::KeySet { .. }
        | HomeRequest::DeviceRevoke { .. } => change(registry, by, random, request),
        HomeRequest::Certify { .. }
        | HomeRequest::Invite { .. }
        | HomeRequest::InvitationWithdraw { .. }
        | HomeRequest::PendingAccept { .. }
        | HomeRequest::PendingRefuse { .. }
        | HomeRequest::Backup { .. }
        | HomeRequest::Restore { .. } => admit(registry, by, random, request, issue),
        HomeRequest::Redirect {} | HomeRequest::RedirectSet { .. } | HomeRequest::RedirectClear {} => {
            Err(not_here())
        }
    };
    outcome.map_err(|error| ErrorReply { stage: error.stage().to_owned(), error: error.to_string() })
}

fn not_here() -> Error {
    Error::Invalid("this request is answered elsewhere: this is a fault of the program".to_owned())
}

#[expect(clippy::wildcard_enum_match_arm, reason = "`answer` sorts the requests")]
fn read(registry: &Registry, now: u64, request: HomeRequest) -> Result<Outcome, Error> {
    let home = registry.home()?;
    let reply = match request {
        HomeRequest::Info {} => HomeReply::Home(info(registry, &home)?),
        HomeRequest::List { kind, removed } => {
            let kind = kind.as_deref().map(parse_kind).transpose()?;
            HomeReply::Entities(documents(&home, &registry.list(kind, removed)?))
        }
        HomeRequest::Show { who } => {
            let entity = registry.find(&who)?;
            HomeReply::Detail(EntityDetail {
                members: documents(&home, &registry.members(&entity)?),
                names: registry.names(&entity)?.into_iter().map(name).collect(),
                keys: registry.keys(&entity)?.into_iter().map(key).collect(),
                entity: document(&home, &entity),
            })
        }
        HomeRequest::Invitations {} => {
            HomeReply::Invitations(registry.invitations()?.into_iter().map(invitation).collect())
        }
        HomeRequest::Pending {} => {
            HomeReply::Pending(registry.pending(now)?.into_iter().map(pending).collect())
        }
        HomeRequest::Log { before, limit } => {
            HomeReply::Audit(registry.audit(before, limit)?.into_iter().map(audit).collect())
        }
        HomeRequest::Issued { from, limit } => {
            HomeReply::Issued(registry.issued(from, limit)?.iter().map(issued).collect())
        }
        HomeRequest::IssuedVerify {} => {
            let count = registry.verify_issued()?.map_err(|fault| Error::Damaged {
                path: registry.path().to_owned(),
                why: fault.to_string(),
            })?;
            HomeReply::Done(Done {
                message: format!("{count} certificates were issued, and the chain is whole"),
            })
        }
        _ => return Err(not_here()),
    };
    Ok(Outcome::of(reply))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "`answer` sorts the requests")]
fn change(
    registry: &mut Registry,
    by: By<'_>,
    random: [u8; RANDOM_LEN],
    request: HomeRequest,
) -> Result<Outcome, Error> {
    let home = registry.home()?;
    let one =
        |entity: &Entity| Outcome::of(HomeReply::Entity(document(&home, entity))).with([Effect::Changed]);
    match request {
        HomeRequest::UserAdd { name } => Ok(one(&registry.user_add(by, &name)?)),
        HomeRequest::NodeAdd { name } => Ok(one(&registry.node_add(by, &name)?)),
        HomeRequest::ServiceAdd { name, node, random: hidden } => {
            let [a, b, c, d, e, f, g, h, ..] = random;
            let bits = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
            let interface = if hidden { Interface::Random(bits) } else { Interface::Next };
            let service = registry.service_add(by, &name, &node, interface)?;
            Ok(one(&service).with(hosts(registry, [&service])?))
        }
        HomeRequest::Rename { who, to } => {
            let renamed = registry.rename(by, &who, &to)?;
            Ok(one(&renamed).with(hosts(registry, [&renamed])?))
        }
        HomeRequest::Move { service, node } => {
            let before = registry.find(&service)?;
            let after = registry.service_move(by, &service, &node)?;
            let moved = (before.node != after.node).then(|| lost(&after));
            Ok(one(&after).with(moved.into_iter().flatten()).with(hosts(registry, [&before, &after])?))
        }
        HomeRequest::Take { device } => {
            let (user, effects) = take(registry, by, &device)?;
            Ok(one(&user).with(effects))
        }
        HomeRequest::KeySet { who, public_key } => {
            let key = public_key.parse().map_err(|error: KeyError| Error::Invalid(error.to_string()))?;
            let before = registry.find(&who)?.key;
            let entity = registry.key_set(by, &who, &key)?;
            let cut = (before != entity.key).then_some(Effect::Cut(entity.address));
            Ok(one(&entity).with(cut))
        }
        HomeRequest::Remove { who, kind } => {
            if let Some(wanted) = kind.as_deref().map(parse_kind).transpose()? {
                let entity = registry.find(&who)?;
                if entity.kind != wanted {
                    return Err(Error::WrongKind {
                        name: entity.name,
                        kind: entity.kind,
                        wanted: wanted.as_str(),
                    });
                }
            }
            let gone = registry.remove(by, &who)?;
            let effects: Vec<Effect> = gone.iter().flat_map(lost).chain([Effect::Changed]).collect();
            let hosts = hosts(registry, &gone)?;
            Ok(Outcome::of(HomeReply::Entities(documents(&home, &gone))).with(effects).with(hosts))
        }
        HomeRequest::DeviceRevoke { device } => {
            let device = registry.device_revoke(by, &device)?;
            Ok(one(&device).with(lost(&device)))
        }
        _ => Err(not_here()),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "`answer` sorts the requests")]
fn admit(
    registry: &mut Registry,
    by: By<'_>,
    random: [u8; RANDOM_LEN],
    request: HomeRequest,
    issue: Issue<'_>,
) -> Result<Outcome, Error> {
    match request {
        HomeRequest::Certify { who } => {
            let entity = registry.find(&who)?;
            let key = entity.key.ok_or_else(|| {
                Error::Invalid(format!("{} has no key yet: 'domicile home node key' sets one", entity.name))
            })?;
            let joined = registry.certify(by, entity.address, entity.address, &key, issue)?;
            Ok(Outcome::of(HomeReply::Certificate(CertificateDocument {
                address: joined.entity.address,
                name: joined.full_name.unwrap_or(joined.entity.name),
                certificate: pem::encode(&joined.certificate)
                    .map_err(|error| Error::Invalid(error.to_string()))?,
            })))
        }
        HomeRequest::Invite { whom, device, lifetime } => {
            let expires = by.now.saturating_add(lifetime);
            let (code, made) = registry.invite(by, random, &whom, device.as_deref(), expires)?;
            let reply = InviteReply { code: code.text().to_string(), invitation: invitation(made) };
            Ok(Outcome::of(HomeReply::Invite(reply)))
        }
        HomeRequest::InvitationWithdraw { id } => {
            registry.invitation_withdraw(by, id)?;
            Ok(Outcome::done(format!("invitation {id} was withdrawn")))
        }
        HomeRequest::PendingAccept { which, whom } => {
            let home = registry.home()?;
            let joined = registry.pending_accept(by, &which, whom.as_deref(), issue)?;
            // A node or service that had another key has it no more.
            let cut = (joined.entity.kind != Kind::Device).then_some(Effect::Cut(joined.entity.address));
            Ok(Outcome::of(HomeReply::Entity(document(&home, &joined.entity)))
                .with(cut.into_iter().chain([Effect::Changed])))
        }
        HomeRequest::PendingRefuse { which } => {
            let refused = registry.pending_refuse(by, &which)?;
            Ok(Outcome::done(format!("the request of {} was refused", refused.key.fingerprint())))
        }
        HomeRequest::Backup { file } => {
            Ok(Outcome::of(HomeReply::Backup(backup(registry.backup(by, &whole(&file)?)?))))
        }
        HomeRequest::Restore { file } => {
            let summary = registry.restore(by, &whole(&file)?)?;
            Ok(Outcome::of(HomeReply::Backup(backup(summary))).with([Effect::Restored]))
        }
        _ => Err(not_here()),
    }
}

/// A device takes the floating address of its user; what that means for whoever held it.
pub fn take(registry: &mut Registry, by: By<'_>, device: &str) -> Result<(Entity, Vec<Effect>), Error> {
    let owner = registry.find(device)?.owner;
    let before = owner.map(|user| registry.by_id(user)).transpose()?;
    let user = registry.take(by, device)?;
    let mut effects = Vec::new();
    if before.as_ref().is_none_or(|before| before.holder != user.holder) {
        effects.extend(lost(&user));
        effects.extend(hosts(registry, before.iter().chain([&user]))?);
    }
    Ok((user, effects))
}

/// Those that these are on have to be told.
fn hosts<'a>(registry: &Registry, of: impl IntoIterator<Item = &'a Entity>) -> Result<Vec<Effect>, Error> {
    let hosts = of.into_iter().filter_map(|entity| registry.host_of(entity).transpose());
    hosts.map(|host| host.map(Effect::Hosted)).collect()
}

/// Where somebody was reached, and with which key, does not count any more.
fn lost(entity: &Entity) -> [Effect; 2] {
    [Effect::Cut(entity.address), Effect::Unbind(entity.prefix())]
}

/// The daemon's working directory is nobody's business.
fn whole(file: &str) -> Result<PathBuf, Error> {
    let path = Path::new(file);
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    Err(Error::Invalid("the daemon takes whole paths only: begin the file's name with a slash".to_owned()))
}

fn parse_kind(text: &str) -> Result<Kind, Error> {
    let kinds = "user, device, service or node";
    text.parse().map_err(|()| Error::Invalid(format!("there are no entities of this kind: say {kinds}")))
}

fn info(registry: &Registry, home: &Home) -> Result<HomeDocument, Error> {
    let count = |kind| registry.count(kind);
    Ok(HomeDocument {
        prefix: home.prefix.to_string(),
        domain: home.domain.clone(),
        address: home.infrastructure,
        created: home.created,
        users: count(Kind::User)?,
        devices: count(Kind::Device)?,
        services: count(Kind::Service)?,
        nodes: count(Kind::Node)?,
        root: None,
    })
}

fn documents(home: &Home, entities: &[Entity]) -> Vec<EntityDocument> {
    entities.iter().map(|entity| document(home, entity)).collect()
}

/// An entity in the words of the control socket.
pub fn document(home: &Home, entity: &Entity) -> EntityDocument {
    EntityDocument {
        kind: entity.kind.to_string(),
        name: entity.name.clone(),
        full_name: home.full_name(&entity.name),
        address: entity.address,
        prefix: entity.prefix().to_string(),
        state: if entity.active { "active" } else { "removed" }.to_owned(),
        user: entity.owner_name.clone().filter(|_| entity.kind == Kind::Device),
        node: entity.node_name.clone(),
        moved: entity.is_moved(),
        holder: entity.holder_name.clone(),
        public_key: entity.key.map(|key| key.to_string()),
        fingerprint: entity.key.map(|key| key.fingerprint()),
        created: entity.created,
        removed: entity.removed,
    }
}

fn name(entry: NameEntry) -> NameDocument {
    NameDocument { name: entry.name, since: entry.since, until: entry.until }
}

fn key(entry: KeyEntry) -> KeyDocument {
    KeyDocument {
        public_key: entry.key.to_string(),
        fingerprint: entry.key.fingerprint(),
        since: entry.since,
        until: entry.until,
        reason: entry.reason,
    }
}

fn invitation(entry: Invitation) -> InvitationDocument {
    InvitationDocument {
        id: entry.id,
        whom: entry.entity,
        device: entry.label,
        created: entry.created,
        expires: entry.expires,
        state: entry.state.name().to_owned(),
        spent: entry.spent,
        joined: entry.joined,
    }
}

fn pending(entry: Pending) -> PendingDocument {
    PendingDocument {
        id: entry.id,
        whom: entry.wanted,
        device: entry.label,
        fingerprint: entry.key.fingerprint(),
        source: entry.source,
        created: entry.created,
        expires: entry.expires,
    }
}

fn audit(entry: AuditEntry) -> AuditDocument {
    let AuditEntry { id, at, who, verb, subject, detail } = entry;
    AuditDocument { id, at, who, verb, subject, detail }
}

fn hexadecimal(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn issued(entry: &IssuedEntry) -> IssuedDocument {
    IssuedDocument {
        sequence: entry.sequence,
        at: entry.at,
        address: entry.address,
        name: entry.name.clone(),
        kind: entry.kind.to_string(),
        public_key: entry.key.to_string(),
        serial: entry.serial.clone(),
        not_before: entry.not_before,
        not_after: entry.not_after,
        certificate: hexadecimal(&entry.certificate),
        prev: hexadecimal(&entry.prev),
        hash: hexadecimal(&entry.hash),
    }
}

fn backup(summary: BackupSummary) -> BackupDocument {
    BackupDocument {
        prefix: summary.prefix.to_string(),
        entities: summary.entities,
        issued: summary.issued,
        last_change: summary.last_change,
    }
}

#[cfg(test)]
#[path = "verbs_tests.rs"]
mod tests;
