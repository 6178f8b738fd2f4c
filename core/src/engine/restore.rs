use std::mem;

use super::snapshot::{FORMAT, Head, NoHead};
use super::{Engine, digest_of};
use crate::cursor::{Cursor, Damage, Stop};
use crate::model::ZxidGate;
use crate::session::Sessions;
use crate::tree::TreeBuilder;

/// Makes an [`Engine`] of a snapshot, as its bytes come in.
///
/// The engine answers every later entry as the one that the snapshot was taken of. It has no
/// watches: clients leave theirs again when they connect.
///
/// No input makes it panic, or take more memory than a small multiple of what it was fed: whether
/// the bytes are those that were written is for who keeps them to know, by a checksum.
#[derive(Default)]
pub struct Restore {
    /// What has arrived of a record that is not complete.
    rest: Vec<u8>,
    /// How many bytes were read before `rest`.
    read: u64,
    body: Option<Body>,
    failed: Option<RestoreError>,
}

struct Body {
    head: Head,
    sessions: Sessions,
    tree: TreeBuilder,
}

/// Why bytes are no snapshot that can be restored. None of it is cured by another try: the
/// snapshot is of no use, another one (or another member's) may be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// It does not begin as a snapshot does.
    #[error("not a snapshot: one begins with the letters synodsnp")]
    NotASnapshot,
    /// Another version wrote it.
    #[error("a snapshot of format {found}: this version reads format {known} only")]
    UnknownFormat {
        /// Its format.
        found: u8,
        /// The format that is known.
        known: u8,
    },
    /// It breaks a rule of its format, or of the tree.
    #[error("the record at byte {offset} of the snapshot is damaged: {what}: {rule}")]
    Damaged {
        /// Where the record begins, in bytes from that of the snapshot; its length for what only
        /// the whole shows.
        offset: u64,
        /// Which field, and what it holds.
        what: String,
        /// What does not hold.
        rule: &'static str,
    },
    /// It ended too early.
    #[error(
        "the snapshot is cut off at byte {offset}: {sessions} sessions and {znodes} znodes are missing"
    )]
    CutOff {
        /// Where the first incomplete record begins, in bytes from that of the snapshot.
        offset: u64,
        /// How many sessions are missing, as far as is known.
        sessions: u64,
        /// How many znodes are missing, as far as is known.
        znodes: u64,
    },
    /// What was restored is not what the snapshot was taken of.
    #[error(
        "the digest of what was restored is {restored:#018x}, and that in the snapshot {recorded:#018x}: \
         they must be equal"
    )]
    DigestDiffers {
        /// In the snapshot.
        recorded: u64,
        /// Of what was restored.
        restored: u64,
    },
}

impl Restore {
    /// Nothing is read yet.
    pub fn new() -> Restore {
        Restore::default()
    }

    /// Reads the next bytes of the snapshot: as many as there happen to be, it need not be the
    /// pieces that were written (which spares copying).
    ///
    /// # Errors
    /// [`RestoreError`]; from then on always the same one.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if self.rest.is_empty() {
            let read = self.read_records(bytes)?;
            self.rest.extend_from_slice(&bytes[read..]);
        } else {
            let mut rest = mem::take(&mut self.rest);
            rest.extend_from_slice(bytes);
            let read = self.read_records(&rest)?;
            rest.drain(..read);
            self.rest = rest;
        }
        Ok(())
    }

    /// The engine, when the whole snapshot was fed.
    ///
    /// # Errors
    /// [`RestoreError`]: of an earlier call, or that something is missing, or that the whole is
    /// not what was written.
    pub fn finish(self) -> Result<Engine, RestoreError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let offset = self.read;
        let Some(Body { head, sessions, tree }) = self.body else {
            return Err(RestoreError::CutOff { offset, sessions: 0, znodes: 0 });
        };
        let missing_sessions = head.sessions.saturating_sub(sessions.len() as u64);
        let missing_znodes = head.znodes.saturating_sub(tree.len() as u64);
        if (missing_sessions, missing_znodes, self.rest.len()) != (0, 0, 0) {
            let (sessions, znodes) = (missing_sessions, missing_znodes);
            return Err(RestoreError::CutOff { offset, sessions, znodes });
        }
        let mut tree = tree
            .finish(|session| sessions.info(session).is_some())
            .map_err(|damage| damaged(offset, damage))?;
        let restored = digest_of(tree.digest(), sessions.digest(), head.last_zxid);
        if restored != head.digest {
            return Err(RestoreError::DigestDiffers { recorded: head.digest, restored });
        }
        tree.find_quotas();
        let gate = ZxidGate::new(head.last_zxid);
        Ok(Engine { tree, sessions, gate, ..Engine::default() })
    }

    /// Reads all records that are complete in `bytes`; how many bytes they take.
    fn read_records(&mut self, bytes: &[u8]) -> Result<usize, RestoreError> {
        let mut from = Cursor::new(bytes);
        loop {
            let left = from.left();
            let stopped = match self.read_record(&mut from) {
                Ok(()) if from.left() == 0 => {
                    self.read += bytes.len() as u64;
                    return Ok(bytes.len());
                }
                Ok(()) => continue,
                Err(stopped) => stopped,
            };
            let read = bytes.len() - left;
            self.read += read as u64;
            let failed = match stopped {
                NoHead::Magic => Some(RestoreError::NotASnapshot),
                NoHead::Format(found) => Some(RestoreError::UnknownFormat { found, known: FORMAT }),
                NoHead::Stop(Stop::CutOff) => None,
                NoHead::Stop(Stop::Damaged(damage)) => Some(damaged(self.read, *damage)),
            };
            return match failed {
                None => Ok(read),
                Some(error) => {
                    self.failed = Some(error.clone());
                    Err(error)
                }
            };
        }
    }

    fn read_record(&mut self, from: &mut Cursor<'_>) -> Result<(), NoHead> {
        match &mut self.body {
            None => {
                let head = Head::read(from)?;
                let tree = TreeBuilder::new(head.last_zxid);
                self.body = Some(Body { head, sessions: Sessions::default(), tree });
                Ok(())
            }
            Some(body) if (body.sessions.len() as u64) < body.head.sessions => {
                Ok(body.sessions.read(from, body.head.last_zxid)?)
            }
            Some(body) if (body.tree.len() as u64) < body.head.znodes => {
                Ok(body.tree.read(from)?)
            }
            Some(body) => {
                let what = format!("bytes after the last of {} znodes", body.head.znodes);
                Err(Stop::damaged(what, "a snapshot ends with its last znode").into())
            }
        }
    }
}

fn damaged(offset: u64, Damage { what, rule }: Damage) -> RestoreError {
    RestoreError::Damaged { offset, what, rule }
}
