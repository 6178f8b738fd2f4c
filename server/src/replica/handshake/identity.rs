//! Who this member is, and whom it lets in.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};

use openraft::RaftMetrics;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::type_config::alias::WatchReceiverOf;
use tokio::sync::Semaphore;

use super::{ClusterId, Hello, NO_MEMBER, Purpose, Refusal, Welcome, anew};
use crate::replica::notices::Notices;
use crate::replica::types::{FolderId, LogId, Types};

type Metrics = WatchReceiverOf<Types, RaftMetrics<Types>>;

/// Who this member is.
pub(crate) struct Identity {
    id: u64,
    folder: FolderId,
    cluster: Mutex<Option<ClusterId>>,
    /// One cluster at a time is written down.
    adopting: Semaphore,
    /// What consensus has; not there before it has started.
    metrics: OnceLock<Metrics>,
    /// How the others take it.
    pub(crate) notices: Notices,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("id", &self.id)
            .field("folder", &self.folder)
            .field("cluster", &self.cluster())
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// `cluster` is `None` for one that is still to be told, by the first member that reaches it.
    pub(crate) fn new(id: u64, folder: FolderId, cluster: Option<ClusterId>) -> Identity {
        Identity {
            id,
            folder,
            cluster: Mutex::new(cluster),
            adopting: Semaphore::new(1),
            metrics: OnceLock::new(),
            notices: Notices::default(),
        }
    }

    /// From now on it knows what is in the log. It is to be before anybody is let in.
    pub(crate) fn follow(&self, metrics: Metrics) {
        // Consensus starts once.
        let _ = self.metrics.set(metrics);
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn folder(&self) -> FolderId {
        self.folder
    }

    pub(crate) fn cluster(&self) -> Option<ClusterId> {
        *self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look<T>(&self, look: impl FnOnce(&RaftMetrics<Types>) -> T) -> Option<T> {
        self.metrics.get().map(|metrics| look(&metrics.borrow_watched()))
    }

    /// Where the log has the members that this one knows of.
    pub(crate) fn members(&self) -> Option<LogId> {
        self.look(|metrics| *metrics.membership_config.log_id()).flatten()
    }

    /// Whether there is anything in the log.
    pub(crate) fn has_begun(&self) -> bool {
        self.look(has_begun).unwrap_or(false)
    }

    /// Judges a hello.
    ///
    /// # Errors
    /// Why not.
    pub(super) async fn admit<A: Future<Output = io::Result<()>>>(
        &self,
        hello: &Hello,
        adopt: impl FnOnce(ClusterId) -> A,
    ) -> Result<Welcome, Refusal> {
        let judged = match self.judge(hello) {
            Ok(()) => self.belong(hello, adopt).await,
            Err(refusal) => Err(refusal),
        };
        if hello.purpose != Purpose::Admin {
            self.notices.judged(hello.from, judged.as_ref().err());
        }
        judged.map(|()| Welcome {
            id: self.id,
            cluster: self.cluster(),
            folder: self.folder,
            has_begun: self.has_begun(),
            is_removed: self.has_removed(hello),
        })
    }

    /// Whom it means, and who it says that it is.
    fn judge(&self, hello: &Hello) -> Result<(), Refusal> {
        let Hello { from, to, purpose, .. } = *hello;
        let id = self.id;
        if to != id && !(purpose == Purpose::Admin && to == NO_MEMBER) {
            return Err(Refusal::new(format!(
                "this is member {id}, not member {to} that was meant"
            )));
        }
        if purpose == Purpose::Admin {
            return Ok(());
        }
        if from == NO_MEMBER || from == id {
            let text = format!("member {from} connects to member {id}: a peer is another member");
            return Err(Refusal::new(text));
        }
        let (Some(theirs), Some(from_folder)) = (hello.cluster, hello.from_folder) else {
            return Err(Refusal::new("a member names its cluster and its data folder"));
        };
        match hello.to_folder {
            Some(meant) if meant != self.folder => {
                let text = format!(
                    "cluster {theirs} knows member {id} with the data folder {meant}, and this \
                     folder is {}",
                    self.folder
                );
                self.notices.claimed(id, &text);
                return Err(Refusal::lasting(text));
            }
            None if purpose != Purpose::Meet => {
                return Err(Refusal::new("a member names the data folder of whom it means"));
            }
            _ => {}
        }
        if let Some(own) = self.cluster().filter(|own| *own != theirs) {
            let begun = if self.has_begun() { "" } else { ", which has not begun here" };
            let text = format!("member {id} belongs to cluster {own}{begun}, not to {theirs}");
            return Err(Refusal::lasting(text));
        }
        // Who lags behind may not know of the folder yet that the other's log names.
        let known = self.look(|metrics| {
            let members = &metrics.membership_config;
            let known = members.membership().get_node(&from).map(|address| address.folder);
            known.filter(|_| hello.members <= *members.log_id())
        });
        match known.flatten() {
            Some(known) if known != from_folder => Err(Refusal::lasting(format!(
                "cluster {theirs} knows member {from} with the data folder {known}, and it comes \
                 from {from_folder}: {}",
                anew(from)
            ))),
            _ => Ok(()),
        }
    }

    /// Joins the other's cluster, if this member has none yet.
    async fn belong<A: Future<Output = io::Result<()>>>(
        &self,
        hello: &Hello,
        adopt: impl FnOnce(ClusterId) -> A,
    ) -> Result<(), Refusal> {
        let Some(theirs) = hello.cluster.filter(|_| hello.purpose != Purpose::Admin) else {
            return Ok(());
        };
        let id = self.id;
        // Two clusters that reach it at a time do not both get it.
        let _one = self.adopting.acquire().await;
        match self.cluster() {
            Some(own) if own == theirs => Ok(()),
            Some(own) => {
                let text = format!("member {id} belongs to cluster {own}, not to {theirs}");
                Err(Refusal::lasting(text))
            }
            None => {
                adopt(theirs).await.map_err(|error| {
                    Refusal::new(format!(
                        "member {id} cannot write down that it joins {theirs}: {error}"
                    ))
                })?;
                *self.cluster.lock().unwrap_or_else(PoisonError::into_inner) = Some(theirs);
                Ok(())
            }
        }
    }

    /// Whether who connects was a member, and is not any longer by what is committed here.
    fn has_removed(&self, hello: &Hello) -> bool {
        let removed = |metrics: &RaftMetrics<Types>| {
            let members = &metrics.committed_membership_config;
            let is_named = members.membership().get_node(&hello.from).is_some();
            !is_named && hello.members.is_some() && hello.members < *members.log_id()
        };
        hello.purpose != Purpose::Admin && self.look(removed).unwrap_or(false)
    }
}

/// Whether there is anything in the log.
fn has_begun(metrics: &RaftMetrics<Types>) -> bool {
    metrics.last_log_index.is_some() || metrics.vote.leader_id.term > 0
}
