//! Znodes, and the operations that change them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use synod_core::model::limits::{DATA_BYTES_MAX, SEQUENCE_MAX};
use synod_core::model::{
    Acl, Code, Create, CreateMode, EventKind, Op, OpResult, Perms, SessionId, Stat, Zxid,
};

use super::{Change, NaiveCoordinator, Told, acl, paths};

/// How long a znode lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Until it is deleted.
    Persistent,
    /// As long as this session.
    Ephemeral(SessionId),
    /// Until some time after its last child has gone.
    Container,
    /// Until it has had no children and no new data for so many milliseconds.
    Ttl(i64),
}

/// A znode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Znode {
    /// Null is not the same as empty.
    pub data: Option<Bytes>,
    /// Who may do what.
    pub acl: Vec<Acl>,
    /// How long it lives.
    pub lifetime: Lifetime,
    /// How many children were ever created; it stays at the largest `i32`.
    pub creates: i32,
    czxid: Zxid,
    mzxid: Zxid,
    pzxid: Zxid,
    ctime_ms: i64,
    mtime_ms: i64,
    version: i32,
    aversion: i32,
}

/// The znodes of the coordinator itself, which count as nobody's creations.
pub(super) fn own_znodes() -> BTreeMap<String, Znode> {
    let own = |path: &str| {
        let node = Znode {
            data: Some(Bytes::new()),
            acl: if path == "/zookeeper/config" { Acl::read_only() } else { Acl::open() },
            lifetime: Lifetime::Persistent,
            creates: 0,
            czxid: Zxid::ZERO,
            mzxid: Zxid::ZERO,
            pzxid: Zxid::ZERO,
            ctime_ms: 0,
            mtime_ms: 0,
            version: 0,
            aversion: if path == "/zookeeper/config" { -1 } else { 0 },
        };
        (path.to_owned(), node)
    };
    paths::OWN.into_iter().map(own).collect()
}

impl NaiveCoordinator {
    /// How many children a znode has.
    pub(super) fn children_of(&self, path: &str) -> usize {
        self.nodes.keys().filter(|other| paths::is_child(other, path)).count()
    }

    /// The Stat of a znode that is there.
    pub(super) fn stat(&self, path: &str) -> Stat {
        let node = &self.nodes[path];
        let children = self.children_of(path);
        Stat {
            czxid: node.czxid,
            mzxid: node.mzxid,
            ctime_ms: node.ctime_ms,
            mtime_ms: node.mtime_ms,
            version: node.version,
            cversion: (2 * i64::from(node.creates) - children as i64) as i32,
            aversion: node.aversion,
            ephemeral_owner: match node.lifetime {
                Lifetime::Ephemeral(session) => Some(session),
                _ => None,
            },
            data_bytes: node.data.as_ref().map_or(0, |data| data.len() as u32),
            children: children as u32,
            pzxid: node.pzxid,
        }
    }

    /// The paths of a session's ephemeral znodes, in ascending order.
    pub(super) fn ephemerals(&self, session: SessionId) -> Vec<Arc<str>> {
        self.nodes
            .iter()
            .filter(|(_, node)| node.lifetime == Lifetime::Ephemeral(session))
            .map(|(path, _)| Arc::from(path.as_str()))
            .collect()
    }

    /// Whether the time of a container or TTL znode has come.
    pub(super) fn is_reapable(&self, path: &str, node: &Znode, now_ms: i64) -> bool {
        self.children_of(path) == 0
            && match node.lifetime {
                Lifetime::Container => node.creates > 0,
                Lifetime::Ttl(ttl_ms) => node.mtime_ms + ttl_ms < now_ms,
                Lifetime::Persistent | Lifetime::Ephemeral(_) => false,
            }
    }

    /// The paths of all containers and TTL znodes whose time has come, in ascending order.
    pub fn reapable(&self, now_ms: i64) -> Vec<Arc<str>> {
        self.nodes
            .iter()
            .filter(|(path, node)| self.is_reapable(path, node, now_ms))
            .map(|(path, _)| Arc::from(path.as_str()))
            .collect()
    }

    /// A znode that must be there and permit one of `wanted`.
    pub(super) fn permitted(
        &self,
        path: &str,
        who: &[synod_core::model::Identity],
        wanted: Perms,
    ) -> Result<&Znode, Code> {
        let node = self.nodes.get(path).ok_or(Code::NoNode)?;
        if acl::permits(&node.acl, who, wanted) { Ok(node) } else { Err(Code::NoAuth) }
    }

    pub(super) fn operate(
        &mut self,
        change: &Change,
        op: &Op,
        told: &mut Vec<Told>,
    ) -> Result<OpResult, Code> {
        match op {
            Op::Create(create) => self.create(change, create, told),
            Op::Delete { path, version } => {
                self.delete(change, path, *version, told)?;
                Ok(OpResult::Deleted)
            }
            Op::SetData { path, data, version } => {
                Ok(OpResult::Set(self.set_data(change, path, data, *version, told)?))
            }
            Op::Check { path, version } => {
                self.check(change, path, *version)?;
                Ok(OpResult::Checked)
            }
        }
    }

    fn create(
        &mut self,
        change: &Change,
        create: &Create,
        told: &mut Vec<Told>,
    ) -> Result<OpResult, Code> {
        if !create.mode.has_valid_ttl() || create.path.contains('\0') {
            return Err(Code::BadArguments);
        }
        let parent = paths::parent(&create.path).ok_or(Code::BadArguments)?;
        let acl = acl::stored(&create.acl, &change.identities)?;
        let creates = self.permitted(parent, &change.identities, Perms::CREATE)?.creates;
        let path = if create.mode.is_sequential() {
            if creates > SEQUENCE_MAX {
                return Err(Code::SequenceExhausted);
            }
            format!("{}{creates:010}", create.path)
        } else {
            create.path.to_string()
        };
        if !paths::is_valid(&path) || is_too_long(&create.data) {
            return Err(Code::BadArguments);
        }
        if self.nodes.contains_key(&path) {
            return Err(Code::NodeExists);
        }
        if matches!(self.nodes[parent].lifetime, Lifetime::Ephemeral(_)) {
            return Err(Code::NoChildrenForEphemerals);
        }
        self.fits_quotas(&path, 1, create.data.as_ref().map_or(0, |data| data.len() as i64))?;

        let parent = parent.to_owned();
        let node = Znode {
            data: create.data.clone(),
            acl,
            lifetime: match create.mode {
                CreateMode::Persistent | CreateMode::PersistentSequential => Lifetime::Persistent,
                CreateMode::Ephemeral | CreateMode::EphemeralSequential => {
                    Lifetime::Ephemeral(change.session)
                }
                CreateMode::Container => Lifetime::Container,
                CreateMode::Ttl { ttl_ms } | CreateMode::TtlSequential { ttl_ms } => {
                    Lifetime::Ttl(ttl_ms)
                }
            },
            creates: 0,
            czxid: change.zxid,
            mzxid: change.zxid,
            pzxid: change.zxid,
            ctime_ms: change.time_ms,
            mtime_ms: change.time_ms,
            version: 0,
            aversion: 0,
        };
        self.nodes.insert(path.clone(), node);
        self.write_usage();
        self.touch_children(&parent, change.zxid, 1);
        self.tell_of_one(EventKind::Created, &path, change.zxid, told);
        self.tell_of_one(EventKind::ChildrenChanged, &parent, change.zxid, told);
        Ok(OpResult::Created { stat: self.stat(&path), path: path.into() })
    }

    fn delete(
        &mut self,
        change: &Change,
        path: &str,
        version: i32,
        told: &mut Vec<Told>,
    ) -> Result<(), Code> {
        if paths::OWN.contains(&path) {
            return Err(Code::BadArguments);
        }
        let parent = paths::parent(path).ok_or(Code::BadArguments)?;
        self.permitted(parent, &change.identities, Perms::DELETE)?;
        let node = self.nodes.get(path).ok_or(Code::NoNode)?;
        expect(version, node.version)?;
        if self.children_of(path) > 0 {
            return Err(Code::NotEmpty);
        }
        self.remove(change, path, told);
        Ok(())
    }

    /// Deletes a znode that is there, and tells of it.
    pub(super) fn remove(&mut self, change: &Change, path: &str, told: &mut Vec<Told>) {
        let parent = paths::parent(path).expect("the path of a znode has a slash").to_owned();
        let acl = self.nodes[path].acl.clone();
        self.nodes.remove(path);
        self.write_usage();
        self.touch_children(&parent, change.zxid, 0);
        self.watches.tell(EventKind::Deleted, path, &acl, change.zxid, told);
        self.tell_of_one(EventKind::ChildrenChanged, &parent, change.zxid, told);
    }

    fn touch_children(&mut self, parent: &str, zxid: Zxid, created: i32) {
        let parent = self.nodes.get_mut(parent).expect("a znode has a parent");
        parent.creates = parent.creates.saturating_add(created);
        parent.pzxid = zxid;
    }

    /// Tells of a change of a znode that is there.
    fn tell_of_one(&mut self, kind: EventKind, path: &str, zxid: Zxid, told: &mut Vec<Told>) {
        let acl = self.nodes[path].acl.clone();
        self.watches.tell(kind, path, &acl, zxid, told);
    }

    fn set_data(
        &mut self,
        change: &Change,
        path: &str,
        data: &Option<Bytes>,
        version: i32,
        told: &mut Vec<Told>,
    ) -> Result<Stat, Code> {
        if !paths::is_valid(path) || is_too_long(data) {
            return Err(Code::BadArguments);
        }
        let node = self.permitted(path, &change.identities, Perms::WRITE)?;
        let size = |data: &Option<Bytes>| data.as_ref().map_or(0, |data| data.len() as i64);
        self.fits_quotas(path, 0, size(data) - size(&node.data))?;
        expect(version, node.version)?;
        self.put_data(change, path, data, told);
        Ok(self.stat(path))
    }

    pub(super) fn put_data(
        &mut self,
        change: &Change,
        path: &str,
        data: &Option<Bytes>,
        told: &mut Vec<Told>,
    ) {
        let node = self.nodes.get_mut(path).expect("it is there");
        node.data.clone_from(data);
        node.version += 1;
        node.mzxid = change.zxid;
        node.mtime_ms = change.time_ms;
        self.write_usage();
        self.tell_of_one(EventKind::DataChanged, path, change.zxid, told);
    }

    pub(super) fn set_acl(
        &mut self,
        change: &Change,
        path: &str,
        acl: &[Acl],
        version: i32,
    ) -> Result<Stat, Code> {
        if !paths::is_valid(path) {
            return Err(Code::BadArguments);
        }
        let acl = acl::stored(acl, &change.identities)?;
        let node = self.permitted(path, &change.identities, Perms::ADMIN)?;
        expect(version, node.aversion)?;
        let node = self.nodes.get_mut(path).expect("it was just there");
        node.acl = acl;
        node.aversion += 1;
        Ok(self.stat(path))
    }

    fn check(&self, change: &Change, path: &str, version: i32) -> Result<(), Code> {
        if !paths::is_valid(path) {
            return Err(Code::BadArguments);
        }
        let node = self.permitted(path, &change.identities, Perms::READ)?;
        expect(version, node.version)
    }
}

fn is_too_long(data: &Option<Bytes>) -> bool {
    data.as_ref().is_some_and(|data| data.len() > DATA_BYTES_MAX)
}

fn expect(expected: i32, version: i32) -> Result<(), Code> {
    if expected == -1 || expected == version { Ok(()) } else { Err(Code::BadVersion) }
}
