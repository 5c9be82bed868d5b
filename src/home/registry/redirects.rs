//! Where this home went: locators that its root key signed. Nodes keep the one of the highest generation.

use rusqlite::{OptionalExtension, params};

use super::{Registry, log};
use crate::home::entity::By;
use crate::home::error::Error;

/// Locators of one redirect.
const LOCATORS_MAX: usize = 8;

/// A signed redirect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// Grows, also over a restore: it is the time or, within one second, one more than before.
    pub generation: u64,
    /// Seconds since 1970.
    pub at: u64,
    /// `host-or-ip:port`, the preferred one first; none takes back what was said before.
    pub locators: Vec<String>,
    /// What the root signed, with its signature.
    pub document: Vec<u8>,
}

/// Signs generation and locators with the root key: returns the document that nodes get.
pub type Sign<'a> = &'a mut dyn FnMut(u64, &[String]) -> Result<Vec<u8>, String>;

impl Registry {
    /// The redirect that counts.
    pub fn redirect(&self) -> Result<Option<Redirect>, Error> {
        let found = self.db.query_row(
            "SELECT generation, at, locators, document FROM redirect ORDER BY generation DESC LIMIT 1",
            [],
            |row| {
                let locators: String = row.get(2)?;
                Ok(Redirect {
                    generation: row.get(0)?,
                    at: row.get(1)?,
                    locators: locators.split_whitespace().map(str::to_owned).collect(),
                    document: row.get(3)?,
                })
            },
        );
        Ok(found.optional()?)
    }

    /// Keeps a new redirect. The registry of a home that moves is a copy, so two of them may sign: the time in the
    /// number lets the later one win.
    pub fn redirect_add(
        &mut self,
        by: By<'_>,
        locators: &[String],
        sign: Sign<'_>,
    ) -> Result<Redirect, Error> {
        let good = |locator: &String| {
            locator.len() <= 260 && !locator.is_empty() && locator.chars().all(|c| c.is_ascii_graphic())
        };
        if locators.len() > LOCATORS_MAX || !locators.iter().all(good) {
            return Err(Error::Invalid(format!(
                "a redirect names at most {LOCATORS_MAX} places as HOST:PORT, without spaces"
            )));
        }
        let before = self.redirect()?.map_or(0, |redirect| redirect.generation);
        let generation = by.now.max(before + 1);
        let document = sign(generation, locators).map_err(Error::Issue)?;
        let redirect = Redirect { generation, at: by.now, locators: locators.to_vec(), document };
        self.write(|tx| {
            let joined = redirect.locators.join(" ");
            tx.execute(
                "INSERT INTO redirect (generation, at, locators, document) VALUES (?1, ?2, ?3, ?4)",
                params![generation, by.now, joined, redirect.document],
            )?;
            log::audit(tx, by, "redirect", &joined, &format!("generation {generation}"))
        })?;
        Ok(redirect)
    }
}
