//! Bindings on the disk, so that a home agent that restarts still knows where everybody is.

use ipnet::Ipv6Net;
use rusqlite::params;

use super::{Registry, rows};
use crate::home::entity::Binding;
use crate::home::error::Error;

impl Registry {
    /// Saves bindings over those of the same prefixes, and forgets others with their sequence numbers: one transaction for
    /// all of them. A deregistered one is saved with an end in the past, so that its sequence number stays.
    pub fn bindings_change(&mut self, kept: &[Binding], gone: &[Ipv6Net]) -> Result<(), Error> {
        self.write(|tx| {
            let mut put = tx.prepare(
                "INSERT INTO binding (prefix, length, address, port, sequence, ends) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT DO UPDATE SET address = excluded.address, port = excluded.port,
                     sequence = excluded.sequence, ends = excluded.ends",
            )?;
            for binding in kept {
                let prefix = binding.prefix.trunc();
                put.execute(params![
                    prefix.network().octets(),
                    prefix.prefix_len(),
                    binding.care_of.ip().octets(),
                    binding.care_of.port(),
                    binding.sequence,
                    binding.ends
                ])?;
            }
            let mut forget = tx.prepare("DELETE FROM binding WHERE prefix = ?1 AND length = ?2")?;
            for prefix in gone {
                forget.execute(params![prefix.trunc().network().octets(), prefix.prefix_len()])?;
            }
            Ok(())
        })
    }

    /// All bindings, also those that have ended, by prefix.
    pub fn bindings(&self) -> Result<Vec<Binding>, Error> {
        let mut query = self.db.prepare(
            "SELECT prefix, length, address, port, sequence, ends FROM binding ORDER BY prefix, length",
        )?;
        let rows = query.query_map([], rows::binding)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
