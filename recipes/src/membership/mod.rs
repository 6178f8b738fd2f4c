//! Membership: who is there, by name, each with metadata of its own.
//!
//! ```text
//! /workers                                 a container, made when needed
//! ├── _m_9f1c…-node-7    {"cores": 8}      ephemeral: node-7 is a member while its session lives
//! ├── _m_40ab…-node-2    {"cores": 4}
//! └── _m_d33e…-node-2    {"cores": 16}     node-2 has come again: the newer one counts
//! ```
//!
//! 1. A member creates an ephemeral znode with a random id and its name; the data is its metadata.
//! 2. If the reply is lost, the znode is known by its id: it was created, or it is created now.
//! 3. Of several znodes of one name the one with the greatest `czxid` is the member.
//! 4. A watcher watches the list of children and the data of each, and reads again what changed.
//! 5. A member that leaves deletes its znode; one that dies loses it with its session.
//!
//! A process that has died and comes again under its name need not wait for its old session to
//! expire: it is a member at once, and the old znode goes unseen.

mod watch;

use std::collections::BTreeMap;
use std::ops::Deref;

use bytes::Bytes;
use futures::StreamExt;
use synod_core::client::{Client, IntoPath, WatchOnce};
use synod_core::model::{Code, Error as ClientError, Path, SessionId, Stat, Zxid};
use tracing::{debug, warn};

pub use watch::{GroupEvent, GroupWatch};

use crate::error::Error;
use crate::guard::{Guard, Released};
use crate::holding::Holding;
use crate::persistent_node::{PersistentNode, Place};
use crate::telemetry;

/// How many members are read at the same time.
const READS_MAX: usize = 64;

/// Bytes of an id in its usual form, with hyphens.
const ID_BYTES: usize = 36;

/// A group at a path. Cheap to clone; every clone, and every `Group` of the same path anywhere, is
/// the same group.
#[derive(Clone, Debug)]
pub struct Group {
    client: Client,
    path: Path,
}

/// A member of a group, as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The name it joined under.
    pub name: String,
    /// What it says of itself.
    pub metadata: Bytes,
    /// The zxid at which it joined: greater than that of every earlier join of the group.
    pub token: Zxid,
    /// The zxid at which its metadata changed last.
    pub changed: Zxid,
    /// The session that it lives in.
    pub session: Option<SessionId>,
}

impl Group {
    /// The group at `path`. Nothing is sent yet; the znode is made (as a container) by the first
    /// member.
    ///
    /// # Errors
    /// [`Error::Client`] if the path is not valid.
    pub fn new(client: &Client, path: impl IntoPath) -> Result<Group, Error> {
        Ok(Group { client: client.clone(), path: path.into_path()? })
    }

    /// The path of the group.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Joins under `name`, for as long as the present session lives.
    ///
    /// Names are to be unique. If somebody is a member under that name already (this process
    /// before it was restarted, most likely), this one takes its place in what others see.
    ///
    /// **Cancelling** it, at any moment, leaves no member behind.
    ///
    /// # Errors
    /// [`Error::Client`] when the name or the metadata is not valid (a name is one part of a path),
    /// a request failed, or the session is over; [`Error::Lost`] when somebody deleted the znode
    /// meanwhile.
    pub async fn join(&self, name: &str, metadata: impl AsRef<[u8]>) -> Result<Membership, Error> {
        let client = self.client.pin().await?;
        let path = self.new_znode(&client, name)?;
        let create = Holding::create(&telemetry::MEMBERSHIP, &client, path, metadata);
        let holding = telemetry::MEMBERSHIP.acquiring(&self.path, create).await?;
        debug!(path = %holding.path(), token = %holding.token(), "joined");
        Ok(Membership { guard: Guard::new(holding), name: name.to_owned() })
    }

    /// Joins under `name`, and joins again whenever the membership is lost: in each new session, and
    /// after others have deleted it. It goes on until the handle is dropped; see [`PersistentNode`],
    /// whose data is the metadata.
    ///
    /// # Errors
    /// [`Error::Client`] when the name or the metadata is not valid. All else is told by the state.
    ///
    /// # Panics
    /// Outside of a tokio runtime with time.
    pub fn join_standing(
        &self,
        name: &str,
        metadata: impl AsRef<[u8]>,
    ) -> Result<PersistentNode, Error> {
        self.new_znode(&self.client, name)?;
        let (group, name) = (self.clone(), name.to_owned());
        let parent = self.path.clone();
        let place = Place::New(parent, Box::new(move |client| group.new_znode(client, &name)));
        PersistentNode::keep(&self.client, place, metadata.as_ref())
    }

    /// Who is there now, by name.
    ///
    /// The members are read one by one: who comes, goes or changes meanwhile may be seen as it was
    /// or as it is.
    ///
    /// # Errors
    /// [`Error::Client`].
    pub async fn members(&self) -> Result<Vec<Member>, Error> {
        let client = self.client.pin().await?;
        let names = match client.children(&self.path).await {
            Err(error) if error.is(Code::NoNode) => return Ok(Vec::new()),
            names => names?,
        };
        let mut members = Vec::with_capacity(names.len());
        let reads = names.into_iter().map(|znode| self.read(client.clone(), znode));
        let mut reads = futures::stream::iter(reads).buffered(READS_MAX);
        while let Some(read) = reads.next().await {
            members.extend(read?);
        }
        Ok(view_of(members.iter()).into_values().collect())
    }

    /// Who joins, leaves and changes: a stream that begins with those who are there, and goes on
    /// over broken connections and expired sessions. See [`GroupWatch`].
    pub fn watch(&self) -> GroupWatch {
        GroupWatch::new(self.clone())
    }

    fn new_znode(&self, client: &Client, name: &str) -> Result<Path, ClientError> {
        if name.is_empty() || name.contains('/') {
            let rule = "a member's name is one part of a path: not empty, and without /";
            return Err(ClientError::invalid("name of a member", name, rule));
        }
        self.path.join(&format!("_m_{}-{name}", client.random_id().hyphenated()))
    }

    /// The member's name in the name of a znode. A child of another kind is passed over, and told
    /// of: it must not wedge the others.
    fn name_in<'a>(&self, znode: &'a str) -> Option<&'a str> {
        let name = znode.strip_prefix("_m_").and_then(|rest| rest.get(ID_BYTES..));
        let name = name.and_then(|rest| rest.strip_prefix('-')).filter(|name| !name.is_empty());
        if name.is_none() {
            warn!(group = %self.path, child = znode, "passed over a child of another kind");
        }
        name
    }

    /// `None` for a znode that is gone, or may not be read: that must not wedge the others either.
    fn unless_gone<T>(
        &self,
        znode: &str,
        read: Result<T, ClientError>,
    ) -> Result<Option<T>, ClientError> {
        match read {
            Err(error) if error.is(Code::NoNode) => Ok(None),
            Err(error) if error.is(Code::NoAuth) => {
                warn!(group = %self.path, child = znode, "passed over a member that cannot be read");
                Ok(None)
            }
            read => read.map(Some),
        }
    }

    fn member(&self, znode: &str, metadata: Bytes, stat: &Stat) -> Option<Member> {
        let name = self.name_in(znode)?.to_owned();
        let Stat { czxid: token, mzxid: changed, ephemeral_owner: session, .. } = *stat;
        Some(Member { name, metadata, token, changed, session })
    }

    /// The member of a znode; `None` if it is gone, or of another kind.
    async fn read(&self, client: Client, znode: String) -> Result<Option<Member>, ClientError> {
        if self.name_in(&znode).is_none() {
            return Ok(None);
        }
        let read = self.unless_gone(&znode, client.get(self.path.join(&znode)?).await)?;
        Ok(read.and_then(|(data, stat)| self.member(&znode, data, &stat)))
    }

    /// The same, and the watch that tells of its next change.
    async fn read_watched(
        &self,
        client: Client,
        znode: String,
    ) -> Result<(String, Option<(Member, WatchOnce)>), ClientError> {
        let read = client.get(self.path.join(&znode)?).watched().await;
        let read = self.unless_gone(&znode, read)?;
        let member = read
            .and_then(|((data, stat), change)| Some((self.member(&znode, data, &stat)?, change)));
        Ok((znode, member))
    }
}

/// The members by name: of several under one name, the newest.
fn view_of<'a>(members: impl Iterator<Item = &'a Member>) -> BTreeMap<String, Member> {
    let mut view: BTreeMap<String, Member> = BTreeMap::new();
    for member in members {
        let newest = view.get(&member.name).is_none_or(|other| other.token < member.token);
        if newest {
            view.insert(member.name.clone(), member.clone());
        }
    }
    view
}

/// Proof of a membership: a [`Guard`], whose token is the zxid of the join. It excludes nobody: others
/// are members as well.
///
/// It ends with its session, and never comes back by itself. Dropping it leaves in the background;
/// [`leave`](Membership::leave) waits for it.
#[must_use = "a membership that is dropped is given up"]
#[derive(Debug)]
pub struct Membership {
    guard: Guard,
    name: String,
}

impl Membership {
    /// The name it joined under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Replaces the metadata that others see.
    ///
    /// Cancelling it may leave either.
    ///
    /// # Errors
    /// [`Error::Lost`] when this is a member no longer; [`Error::Client`] when the metadata is not
    /// valid, or a request failed.
    pub async fn update(&self, metadata: impl AsRef<[u8]>) -> Result<(), Error> {
        let metadata = metadata.as_ref();
        loop {
            match self.guard.txn().set(self.path(), metadata).commit().await {
                // It does no harm when done twice.
                Err(Error::Client(ClientError::ConnectionLost { .. })) => {}
                done => return done.map(drop),
            }
        }
    }

    /// Leaves, and waits until that is confirmed: others see it then.
    ///
    /// Cancelling it leaves that to the background.
    ///
    /// # Errors
    /// As [`Guard::release`].
    pub async fn leave(self) -> Result<Released, Error> {
        self.guard.release().await
    }
}

impl Deref for Membership {
    type Target = Guard;

    fn deref(&self) -> &Guard {
        &self.guard
    }
}
