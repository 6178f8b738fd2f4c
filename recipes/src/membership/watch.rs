//! Who joins, leaves and changes, as a stream.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{BoxStream, FuturesUnordered};
use futures::{Stream, StreamExt};
use synod_core::client::{Client, Session, WatchOnce};
use synod_core::model::{Code, Error as ClientError, SessionEnd, Zxid};
use tracing::warn;

use super::{Group, Member, READS_MAX, view_of};
use crate::telemetry;

/// How long to wait after a request that was refused.
const RETRY: Duration = Duration::from_secs(1);

/// What a watcher of a group is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupEvent {
    /// A member has come.
    Joined(Member),
    /// A member has gone: it left, or its session is over. This is how it was seen last.
    Left(Member),
    /// A member's metadata has changed, or it has come again under its name.
    Changed(Member),
    /// All that there was to tell has been told: the members are those told of so far. It comes
    /// after the first look, even at an empty group, and after each batch of changes.
    Settled,
    /// The connection is broken, or the session over: who is there by now is not known here.
    /// `Settled` follows when it is.
    Uncertain,
}

/// Who joins, leaves and changes: a stream of [`GroupEvent`]s, and the members as they were told
/// of. Made by [`Group::watch`].
///
/// It reads while it is asked for the next event, and only then. One that is slow misses changes in
/// between, but is never told less than the difference between two looks. It goes on over broken
/// connections and expired sessions, and when the group's znode is deleted and comes again; it ends
/// when the client is closed. Dropping it removes its watches from the coordinator.
#[must_use = "a watch that is dropped is removed"]
pub struct GroupWatch {
    events: BoxStream<'static, GroupEvent>,
    members: BTreeMap<String, Member>,
}

impl GroupWatch {
    pub(super) fn new(group: Group) -> GroupWatch {
        let watcher = Watcher {
            group,
            in_session: None,
            told: BTreeMap::new(),
            telling: VecDeque::new(),
            settled: false,
            uncertain: false,
        };
        let events = futures::stream::unfold(watcher, async |mut watcher| {
            let path = watcher.group.path.clone();
            let event = telemetry::MEMBERSHIP.waiting("watch", &path, watcher.next()).await?;
            Some((event, watcher))
        });
        GroupWatch { events: events.boxed(), members: BTreeMap::new() }
    }

    /// The members, by name, as the events so far have told.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.members.values()
    }
}

impl Stream for GroupWatch {
    type Item = GroupEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<GroupEvent>> {
        let event = ready!(self.events.poll_next_unpin(context));
        match &event {
            Some(GroupEvent::Joined(member) | GroupEvent::Changed(member)) => {
                self.members.insert(member.name.clone(), member.clone());
            }
            Some(GroupEvent::Left(member)) => drop(self.members.remove(&member.name)),
            _ => {}
        }
        Poll::Ready(event)
    }
}

impl std::fmt::Debug for GroupWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupWatch").field("members", &self.members).finish_non_exhaustive()
    }
}

struct Watcher {
    group: Group,
    in_session: Option<InSession>,
    /// The members that were told of.
    told: BTreeMap<String, Member>,
    telling: VecDeque<GroupEvent>,
    /// Whether `Settled` holds of what was told.
    settled: bool,
    /// Whether `Uncertain` was told last.
    uncertain: bool,
}

/// What is known, and watched, in one session.
struct InSession {
    client: Client,
    /// By the names of their znodes.
    members: BTreeMap<String, Member>,
    /// Fires when there is another list of children; `None`: it has to be read.
    list: Option<WatchOnce>,
    /// Names of znodes whose data has changed, or that are gone.
    changes: FuturesUnordered<BoxFuture<'static, String>>,
}

impl Watcher {
    async fn next(&mut self) -> Option<GroupEvent> {
        loop {
            if let Some(event) = self.telling.pop_front() {
                return Some(event);
            }
            let Err(error) = self.step().await else { continue };
            self.in_session = None;
            // By the error, not the session: that of a client which is closed between two sessions
            // ended in another way.
            let closed = matches!(error, ClientError::SessionOver { end: SessionEnd::Closed, .. });
            if closed && self.uncertain {
                return None;
            }
            self.lose_sight();
            if !matches!(
                error,
                ClientError::ConnectionLost { .. } | ClientError::SessionOver { .. }
            ) {
                warn!(group = %self.group.path, %error, "the group cannot be watched");
                // A request that fails while connected is not repeated in a tight loop.
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    /// Reads what has to be read, and tells of it; or waits until there is something to read.
    async fn step(&mut self) -> Result<(), ClientError> {
        let Watcher { group, in_session, .. } = self;
        let known = match in_session {
            Some(known) => known,
            None => in_session.insert(InSession::begin(group).await?),
        };
        if known.look(group).await? {
            let view = view_of(known.members.values());
            self.tell(view);
            return Ok(());
        }
        let session = known.client.session();
        if !known.changed(&session).await {
            // The watches are left again, but for a while nothing was certain.
            known.list = None;
            self.lose_sight();
        }
        Ok(())
    }

    fn lose_sight(&mut self) {
        if !std::mem::replace(&mut self.uncertain, true) {
            self.telling.push_back(GroupEvent::Uncertain);
        }
        self.settled = false;
    }

    /// Tells the difference between what was told and what there is.
    fn tell(&mut self, view: BTreeMap<String, Member>) {
        let before = self.telling.len();
        for (name, member) in &self.told {
            if !view.contains_key(name) {
                self.telling.push_back(GroupEvent::Left(member.clone()));
            }
        }
        for (name, member) in &view {
            match self.told.get(name) {
                None => self.telling.push_back(GroupEvent::Joined(member.clone())),
                Some(known) if known != member => {
                    self.telling.push_back(GroupEvent::Changed(member.clone()));
                }
                Some(_) => {}
            }
        }
        self.told = view;
        self.uncertain = false;
        if self.telling.len() > before || !self.settled {
            self.settled = true;
            self.telling.push_back(GroupEvent::Settled);
        }
    }
}

impl InSession {
    async fn begin(group: &Group) -> Result<InSession, ClientError> {
        let client = group.client.pin().await?;
        // A new session may be on a member that lags behind what the last one saw.
        let _: Zxid = client.sync().await?;
        Ok(InSession {
            client,
            members: BTreeMap::new(),
            list: None,
            changes: FuturesUnordered::new(),
        })
    }

    /// Reads what is new or has changed. Whether there was anything to read.
    async fn look(&mut self, group: &Group) -> Result<bool, ClientError> {
        let mut stale = BTreeSet::new();
        let listed = self.list.is_none();
        if listed {
            let names = self.list(group).await?;
            self.members.retain(|znode, _| names.contains(znode));
            stale.extend(names.into_iter().filter(|znode| {
                !self.members.contains_key(znode) && group.name_in(znode).is_some()
            }));
        }
        while let Some(Some(znode)) = self.changes.next().now_or_never() {
            stale.insert(znode);
        }
        let looked = listed || !stale.is_empty();
        // A failure ends the session's part, so that what it leaves unread is read anew.
        let reads = stale.into_iter().map(|znode| group.read_watched(self.client.clone(), znode));
        let mut reads = futures::stream::iter(reads).buffered(READS_MAX);
        while let Some(read) = reads.next().await {
            match read? {
                (znode, Some((member, change))) => {
                    self.members.insert(znode.clone(), member);
                    self.changes.push(change.map(|_| znode).boxed());
                }
                (znode, None) => drop(self.members.remove(&znode)),
            }
        }
        Ok(looked)
    }

    /// The group's children, watched.
    async fn list(&mut self, group: &Group) -> Result<BTreeSet<String>, ClientError> {
        loop {
            match self.client.children(&group.path).watched().await {
                Ok(((names, _), change)) => {
                    self.list = Some(change);
                    return Ok(names.into_iter().collect());
                }
                Err(error) if error.is(Code::NoNode) => {
                    let (stat, made) = self.client.exists(&group.path).watched().await?;
                    if stat.is_none() {
                        self.list = Some(made);
                        return Ok(BTreeSet::new());
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until there is something to read (`true`), or the connection is broken.
    async fn changed(&mut self, session: &Session) -> bool {
        let Some(list) = &mut self.list else { return true };
        tokio::select! {
            biased;
            () = session.disconnected() => false,
            _ = list => {
                self.list = None;
                true
            }
            Some(znode) = self.changes.next() => {
                // Taken up by the next look.
                self.changes.push(futures::future::ready(znode).boxed());
                true
            }
        }
    }
}
