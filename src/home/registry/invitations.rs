//! One-time codes: made, redeemed in the transaction that issues the certificate, withdrawn, expired.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::enrol::enrol;
use super::entities::of_kind;
use super::{Registry, log, rows};
use crate::crypto::identity::PublicKey;
use crate::crypto::secret::Secret;
use crate::home::code::{CODE_LEN, Code, LookupId, PSK_LEN};
use crate::home::entity::{By, EntityId, Issue, Joined, Kind};
use crate::home::error::Error;
use crate::home::name;

/// Seconds in which the key that spent a code gets the same answer again, should the first one have been lost.
pub const RETRY_WINDOW: u64 = 600;
/// Seconds that a code is valid at most.
const LONGEST: u64 = 90 * 86_400;
/// Seconds after which the trace of a code that nobody used is swept.
const KEEP: u64 = 30 * 86_400;

/// What became of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvitationState {
    /// It can be used.
    Open,
    /// It was used.
    Spent,
    /// It was taken back.
    Withdrawn,
    /// Nobody used it in time.
    Expired,
}

impl InvitationState {
    /// As the registry and the documents write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Spent => "spent",
            Self::Withdrawn => "withdrawn",
            Self::Expired => "expired",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Open, Self::Spent, Self::Withdrawn, Self::Expired]
            .into_iter()
            .find(|state| state.name() == name)
    }
}

/// An invitation as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// Its number.
    pub id: u64,
    /// Who is invited: a user gets a device, a node or service its key.
    pub entity: String,
    /// The name that the device is to have, if it was chosen already.
    pub label: Option<String>,
    /// Seconds since 1970.
    pub created: u64,
    /// Seconds since 1970.
    pub expires: u64,
    /// What became of it.
    pub state: InvitationState,
    /// When it was used.
    pub spent: Option<u64>,
    /// By whom.
    pub joined: Option<String>,
}

const COLUMNS: &str = "SELECT i.id, e.name, i.label, i.created, i.expires, i.state, i.spent,
    (SELECT name FROM entity_now WHERE id = i.joined) FROM invitation i JOIN entity_now e ON e.id = i.entity";

fn invitation(row: &Row<'_>) -> rusqlite::Result<Invitation> {
    let state: String = row.get(5)?;
    Ok(Invitation {
        id: row.get(0)?,
        entity: row.get(1)?,
        label: row.get(2)?,
        created: row.get(3)?,
        expires: row.get(4)?,
        state: InvitationState::from_name(&state).ok_or_else(|| rows::strange(5))?,
        spent: row.get(6)?,
        joined: row.get(7)?,
    })
}

/// What a lookup id leads to.
struct Found {
    id: i64,
    psk: Option<[u8; PSK_LEN]>,
    entity: EntityId,
    label: Option<String>,
    expires: u64,
    state: InvitationState,
    spent: u64,
    key: Option<PublicKey>,
    joined: Option<EntityId>,
    answer: Option<Vec<u8>>,
}

impl Found {
    /// Whether it is of use at `now`: open and valid, or spent a moment ago.
    fn at(self, now: u64) -> Result<Self, Error> {
        match self.state {
            InvitationState::Open if now < self.expires => Ok(self),
            InvitationState::Open | InvitationState::Expired => Err(Error::Expired),
            InvitationState::Spent if now < self.spent.saturating_add(RETRY_WINDOW) => Ok(self),
            InvitationState::Spent => Err(Error::Spent),
            InvitationState::Withdrawn => Err(Error::NoInvitation),
        }
    }
}

fn find(db: &Connection, lookup: &LookupId) -> Result<Found, Error> {
    let found = db.query_row(
        "SELECT id, psk, entity, label, expires, state, ifnull(spent, 0), key, joined, answer FROM invitation
         WHERE lookup = ?1",
        [lookup.digest()],
        |row| {
            let state: String = row.get(5)?;
            Ok(Found {
                id: row.get(0)?,
                psk: row.get(1)?,
                entity: rows::entity_id(row, 2)?,
                label: row.get(3)?,
                expires: row.get(4)?,
                state: InvitationState::from_name(&state).ok_or_else(|| rows::strange(5))?,
                spent: row.get(6)?,
                key: rows::key(row, 7)?,
                joined: row.get::<_, Option<i64>>(8)?.map(EntityId),
                answer: row.get(9)?,
            })
        },
    );
    found.optional()?.ok_or(Error::NoInvitation)
}

impl Registry {
    /// Invites a user to bring a device, or a node or service to bring its key, until `expires` (seconds since 1970).
    /// The code is returned this once and cannot be asked for again; it comes from 128 random bits.
    pub fn invite(
        &mut self,
        by: By<'_>,
        random: [u8; CODE_LEN],
        whom: &str,
        label: Option<&str>,
        expires: u64,
    ) -> Result<(Code, Invitation), Error> {
        if expires <= by.now || expires - by.now > LONGEST {
            return Err(Error::Invalid(
                "a code is valid for at least a second and at most 90 days".to_owned(),
            ));
        }
        let label = label.map(name::label).transpose()?;
        let code = Code::new(random);
        let lookup = code.lookup_id();
        let mut psk = zeroize::Zeroizing::new([0; PSK_LEN]);
        psk.copy_from_slice(code.psk().expose());
        let invitation = self.write(|tx| {
            let kinds = [Kind::User, Kind::Node, Kind::Service];
            let entity = of_kind(rows::find(tx, whom)?, &kinds, "user, node or service")?;
            if label.is_some() && entity.kind != Kind::User {
                return Err(Error::Invalid(
                    "only the device of a user is named by its invitation".to_owned(),
                ));
            }
            tx.execute(
                "INSERT INTO invitation (lookup, psk, entity, label, created, expires, state)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'open')",
                params![lookup.digest(), &lookup.cover(&psk)[..], entity.id.0, label, by.now, expires],
            )?;
            let id = tx.last_insert_rowid();
            log::audit(tx, by, "invite", &entity.name, &format!("invitation {id}"))?;
            Ok(tx.query_row(&format!("{COLUMNS} WHERE i.id = ?1"), [id], invitation)?)
        })?;
        Ok((code, invitation))
    }

    /// The invitations, the newest first.
    pub fn invitations(&self) -> Result<Vec<Invitation>, Error> {
        let mut query = self.db.prepare(&format!("{COLUMNS} ORDER BY i.id DESC"))?;
        let rows = query.query_map([], invitation)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Takes an open invitation back.
    pub fn invitation_withdraw(&mut self, by: By<'_>, id: u64) -> Result<(), Error> {
        self.write(|tx| {
            let changed = tx.execute(
                "UPDATE invitation SET state = 'withdrawn', psk = NULL WHERE id = ?1 AND state = 'open'",
                [id],
            )?;
            if changed == 0 {
                return Err(Error::Invalid(format!(
                    "there is no open invitation {id}: 'domicile home invitations' lists them"
                )));
            }
            log::audit(tx, by, "invitation withdraw", &id.to_string(), "")
        })
    }

    /// The PSK that proves both sides of a join under this lookup id. Nothing changes.
    pub fn invitation_psk(&self, now: u64, lookup: &LookupId) -> Result<Secret, Error> {
        let found = find(&self.db, lookup)?.at(now)?;
        let covered = found.psk.ok_or(Error::NoInvitation)?;
        Ok(Secret::from(&lookup.cover(&covered)[..]))
    }

    /// Spends a code: makes the device (or sets the key), issues the certificate and marks the code, all or nothing.
    /// The same key gets the same answer for [`RETRY_WINDOW`], any other is refused. Only for whoever has proved the
    /// PSK. `label` is what the machine calls itself.
    pub fn redeem(
        &mut self,
        by: By<'_>,
        lookup: &LookupId,
        key: &PublicKey,
        label: Option<&str>,
        issue: Issue<'_>,
    ) -> Result<Joined, Error> {
        self.write(|tx| {
            let found = find(tx, lookup)?.at(by.now)?;
            if found.state == InvitationState::Spent {
                let (true, Some(joined), Some(certificate)) = (found.key.as_ref() == Some(key), found.joined, found.answer)
                else {
                    return Err(Error::Spent);
                };
                let entity = rows::by_id(tx, joined)?;
                let full_name = rows::home(tx)?.full_name(&entity.name);
                return Ok(Joined { entity, full_name, certificate, again: true });
            }
            let target = rows::by_id(tx, found.entity)?;
            let joined = enrol(tx, by, &target, found.label.as_deref().or(label), key, issue)?;
            tx.execute(
                "UPDATE invitation SET state = 'spent', spent = ?2, key = ?3, joined = ?4, answer = ?5 WHERE id = ?1",
                params![found.id, by.now, key.as_bytes(), joined.entity.id.0, joined.certificate],
            )?;
            Ok(joined)
        })
    }

    /// Ends what has run out: codes, retry windows, pending requests. To be called every minute or so; returns how many
    /// rows it changed.
    pub fn expire(&mut self, now: u64) -> Result<usize, Error> {
        self.write(|tx| {
            let mut changed = tx.execute(
                "UPDATE invitation SET state = 'expired', psk = NULL WHERE state = 'open' AND expires <= ?1",
                [now],
            )?;
            changed += tx.execute(
                "UPDATE invitation SET psk = NULL, answer = NULL
                 WHERE state = 'spent' AND spent + ?2 <= ?1 AND (psk IS NOT NULL OR answer IS NOT NULL)",
                params![now, RETRY_WINDOW],
            )?;
            changed += tx.execute(
                "DELETE FROM invitation WHERE state IN ('expired', 'withdrawn') AND expires + ?2 <= ?1",
                params![now, KEEP],
            )?;
            changed += super::pending::sweep(tx, now)?;
            Ok(changed)
        })
    }
}
