//! What a leader holds.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use synod_core::model::{Error as ClientError, Zxid};
use tokio::sync::watch as latest;

use super::Election;
use super::hand_over::Giving;
use super::record::Record;
use crate::error::{Error, Loss, LossReason};
use crate::guard::{Guard, Released};
use crate::layout::Layout;

/// Proof of a leadership: a [`Guard`], whose token is the term.
///
/// Dropping it resigns in the background; [`resign`](Leadership::resign) waits for it.
#[must_use = "a leadership that is dropped is resigned"]
#[derive(Debug)]
pub struct Leadership {
    guard: Guard,
    name: Arc<str>,
    layout: Layout,
    step_down: StepDown,
    /// By which attachment of its session to a connection it was granted.
    attachment: u64,
    giving: latest::Sender<Giving>,
    _candidacy: Candidacy,
}

/// When a leader counts its leadership as lost while it cannot reach the coordinator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StepDown {
    /// When its session is over: at [`valid_until`](Guard::valid_until) at the latest, before another
    /// can lead. A connection that is broken for a moment costs nothing.
    #[default]
    AtDeadline,
    /// As soon as the connection is broken, even if it comes back at once. For work that should rather
    /// stop too often: on a foreign ensemble the deadline is no proof.
    AtOnce,
}

impl Leadership {
    pub(super) fn new(guard: Guard, candidacy: Candidacy, election: &Election) -> Leadership {
        let attachment = guard.session().attachment();
        let (name, layout) = (Arc::clone(&election.name), election.layout);
        let (step_down, giving) = (election.step_down, latest::Sender::default());
        Leadership { guard, name, layout, step_down, attachment, giving, _candidacy: candidacy }
    }

    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    pub(super) fn guard(&self) -> &Guard {
        &self.guard
    }

    pub(super) fn giving(&self) -> &latest::Sender<Giving> {
        &self.giving
    }

    /// The term: greater than that of every earlier leader. It is the fencing token.
    pub fn term(&self) -> Zxid {
        self.guard.token()
    }

    /// Waits until the leadership is lost, as [`Guard::lost`] does; with [`StepDown::AtOnce`], until the
    /// connection is broken, too. It stays lost then, even if the connection comes back.
    ///
    /// Cancelling it changes nothing.
    pub async fn lost(&self) -> Loss {
        let session = self.session();
        match self.step_down {
            StepDown::AtDeadline => self.guard.lost().await,
            StepDown::AtOnce => tokio::select! {
                biased;
                () = session.detached(self.attachment) => match session.end() {
                    Some(end) => self.guard.loss(LossReason::SessionOver(end)),
                    None => self.guard.loss(LossReason::Disconnected),
                },
                loss = self.guard.lost() => loss,
            },
        }
    }

    /// Does `work` while it leads, as [`Guard::run`] does. Work that itself
    /// [hands over](Leadership::hand_over) goes on to its end.
    ///
    /// # Errors
    /// As [`Guard::run`].
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> Result<T, Error> {
        let work = async {
            self.guard.held().await?;
            Ok(work.await)
        };
        tokio::select! {
            biased;
            loss = self.lost_to_others() => Err(loss.into()),
            output = work => output,
        }
    }

    /// Waits until it is lost, unless by a hand-over.
    async fn lost_to_others(&self) -> Loss {
        let mut giving = self.giving.subscribe();
        loop {
            let loss = self.lost().await;
            let present = *giving.borrow_and_update();
            match present {
                Giving::No => return loss,
                // Whether it is one is known when it is over.
                Giving::Underway => drop(giving.changed().await),
                Giving::Done => std::future::pending().await,
            }
        }
    }

    /// Tells all who observe the election or ask for its leader a value of this leadership: an
    /// address, say. It is seen as long as it leads, or until it proclaims another.
    ///
    /// Cancelling it may leave either.
    ///
    /// # Errors
    /// [`Error::Lost`] when it leads no longer: then nobody has seen the value. [`Error::Client`]
    /// when the value is too large, or a request failed.
    pub async fn proclaim(&self, value: impl AsRef<[u8]>) -> Result<(), Error> {
        let data = Record::encode(&self.name, Some(value.as_ref()));
        loop {
            match self.txn().set(self.path(), &data).commit().await {
                // It does no harm when done twice.
                Err(Error::Client(ClientError::ConnectionLost { .. })) => {}
                done => return done.map(drop),
            }
        }
    }

    /// Resigns, and waits until that is confirmed: the next candidate leads then.
    ///
    /// Cancelling it leaves the resignation to the background.
    ///
    /// # Errors
    /// As [`Guard::release`].
    pub async fn resign(self) -> Result<Released, Error> {
        self.guard.release().await
    }
}

impl Deref for Leadership {
    type Target = Guard;

    fn deref(&self) -> &Guard {
        &self.guard
    }
}

/// Names of the znodes by which one [`Election`](super::Election) leads or stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Candidacies(Arc<Mutex<BTreeSet<String>>>);

impl Candidacies {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a znode for as long as the candidacy is kept.
    pub(super) fn enter(&self, name: &str) -> Candidacy {
        self.lock().insert(name.to_owned());
        Candidacy { all: self.clone(), name: name.to_owned() }
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.lock().contains(name)
    }
}

/// A znode by which an election leads or stands.
#[derive(Debug)]
pub(super) struct Candidacy {
    all: Candidacies,
    name: String,
}

impl Drop for Candidacy {
    fn drop(&mut self) {
        self.all.lock().remove(&self.name);
    }
}
