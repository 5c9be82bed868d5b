//! `uid` and `user` of an entity: the one user of this machine whose address it is.

use super::check::Checker;
use super::file;
use crate::io::sys;

impl Checker<'_> {
    /// The uid that an entity names. Problems are told, and then nothing is started: `None` never means everybody there.
    pub(super) fn owner(&mut self, entity: &file::Entity, name: &str) -> Option<u32> {
        let (uid, span) = match (&entity.uid, &entity.user) {
            (None, None) => return None,
            (Some(uid), None) => (*uid.get_ref(), uid.span()),
            (Some(_), Some(user)) => {
                self.problems.at(user.span(), "an entity has either uid or user: remove one");
                return None;
            }
            (None, Some(user)) => {
                let account = user.get_ref();
                let message = match sys::uid_of(account) {
                    Ok(Some(uid)) => return self.one_address(uid, user.span(), name),
                    Ok(None) => format!(
                        "this machine has no user \"{}\": create the account, or write uid = and its number",
                        account.escape_debug()
                    ),
                    Err(error) => format!(
                        "the user \"{}\" cannot be looked up ({error}): write uid = and its number",
                        account.escape_debug()
                    ),
                };
                self.problems.at(user.span(), message);
                return None;
            }
        };
        self.one_address(uid, span, name)
    }

    fn one_address(&mut self, uid: u32, span: std::ops::Range<usize>, name: &str) -> Option<u32> {
        if uid == 0 || uid == u32::MAX {
            let message = if uid == 0 {
                "root cannot own an address, because it can use all of them: leave uid out, or name another user"
                    .to_owned()
            } else {
                format!("uid = {uid} is nobody's number: 'id -u USER' tells a user's")
            };
            self.problems.at(span, message);
            return None;
        }
        if let Some(other) = self.owners.insert(uid, name.to_owned()) {
            self.problems.at(
                span,
                format!("uid {uid} owns \"{other}\" already: a user speaks from one address, remove one of the two"),
            );
        }
        Some(uid)
    }
}
