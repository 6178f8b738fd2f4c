//! Requests about single znodes, of many connections with several in flight each.
//!
//! Each znode belongs to one connection, so that version and data of every reply are known in
//! advance.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use synod::CreateMode;
use synod_core::model::{Op, OpResult, Read, Request, Response, Write, Zxid};

use super::super::Failed;
use super::super::line::{Answer, Line};
use super::{op_create, op_delete};

/// Bytes in front of the value's filling: znode and version.
const STAMP_BYTES: usize = 8;
/// Children of a folder.
pub(crate) const FOLDER: u32 = 1_000;
/// Children of the znode that is listed.
const LISTED: u32 = 100;
/// One in so many is a set, in the mixed load.
const SET_IN: u64 = 10;

/// What a connection asks for again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Get,
    Set,
    /// 90 % gets, 10 % sets.
    Mixed,
    List,
    Create,
    CreateDelete,
    Multi,
}

/// The znodes of a run: how many, how large, and where.
#[derive(Clone, Debug)]
pub(crate) struct Ground {
    pub(crate) top: Arc<str>,
    pub(crate) nodes: u32,
    pub(crate) value_bytes: usize,
}

impl Ground {
    /// The znode of that number.
    pub(crate) fn path(&self, node: u32) -> String {
        format!("{}/{}/{node}", self.top, node / FOLDER)
    }

    /// All of its znodes and their folders, children first.
    pub(crate) fn all(&self) -> impl Iterator<Item = String> {
        let nodes = (0..self.nodes).map(|node| self.path(node));
        let folders =
            (0..self.nodes.div_ceil(FOLDER)).map(|folder| format!("{}/{folder}", self.top));
        nodes.chain(folders)
    }

    /// What a znode holds at a version.
    pub(crate) fn value(&self, node: u32, version: i32) -> Bytes {
        let mut value = vec![b'.'; self.value_bytes.max(STAMP_BYTES)];
        value[..4].copy_from_slice(&node.to_be_bytes());
        value[4..STAMP_BYTES].copy_from_slice(&version.to_be_bytes());
        value.into()
    }

    /// Whether this is what it holds.
    fn is_value(&self, data: &[u8], node: u32, version: i32) -> bool {
        data.len() == self.value_bytes.max(STAMP_BYTES)
            && data[..4] == node.to_be_bytes()
            && data[4..STAMP_BYTES] == version.to_be_bytes()
            && data[STAMP_BYTES..].iter().all(|byte| *byte == b'.')
    }
}

/// What the next reply must say.
enum Expected {
    Data { node: u32, version: i32 },
    Version(i32),
    Names,
    Created(String),
    Deleted,
    Multi { version: i32, created: String },
}

/// The load of one connection.
pub(crate) struct Work {
    kind: Kind,
    ground: Ground,
    /// Its number among the connections, and how many they are.
    mine: (u32, u32),
    /// Versions of its znodes once all that was asked is done.
    versions: Vec<i32>,
    expected: VecDeque<Expected>,
    /// Where it creates.
    folder: String,
    /// What it lists.
    listed: Arc<str>,
    asked: u64,
    random: u64,
    /// The zxid of the last change whose reply told it: each is above the one before.
    changed: Zxid,
}

impl Work {
    /// The load of connection `mine` among `of`; there are as many znodes as connections, at least.
    pub(crate) fn new(kind: Kind, ground: &Ground, mine: u32, of: u32) -> Work {
        let nodes = (ground.nodes - mine).div_ceil(of);
        Work {
            kind,
            ground: ground.clone(),
            mine: (mine, of),
            versions: vec![0; nodes as usize],
            expected: VecDeque::new(),
            folder: format!("{}/of-{mine}", ground.top),
            listed: format!("{}/listed", ground.top).into(),
            asked: 0,
            random: u64::from(mine) + 1,
            changed: Zxid::ZERO,
        }
    }

    /// Makes what it works on, once for all connections of a run.
    pub(crate) async fn prepare(
        kind: Kind,
        ground: &Ground,
        connections: u32,
        line: &mut Line,
    ) -> Result<(), Failed> {
        match kind {
            Kind::Get | Kind::Set | Kind::Mixed | Kind::Multi => {
                super::znodes::fill(line, ground).await?;
            }
            Kind::List => {
                let listed = format!("{}/listed", ground.top);
                line.ensure(&listed).await?;
                for child in 0..LISTED {
                    line.ensure(&format!("{listed}/child-{child:04}")).await?;
                }
            }
            Kind::Create | Kind::CreateDelete => {}
        }
        for connection in 0..connections {
            line.ensure(&format!("{}/of-{connection}", ground.top)).await?;
        }
        Ok(())
    }

    /// Takes away what [`prepare`](Work::prepare) has made, once the connections have cleared up.
    pub(crate) async fn clear(
        kind: Kind,
        ground: &Ground,
        connections: u32,
        line: &mut Line,
    ) -> Result<(), Failed> {
        let top = &ground.top;
        let folders = (0..connections).map(|connection| format!("{top}/of-{connection}"));
        super::znodes::remove(line, folders).await?;
        match kind {
            Kind::Get | Kind::Set | Kind::Mixed | Kind::Multi => {
                super::znodes::remove(line, ground.all()).await
            }
            Kind::List => {
                let children = (0..LISTED).map(|child| format!("{top}/listed/child-{child:04}"));
                let all = children.chain([format!("{top}/listed")]);
                super::znodes::remove(line, all).await
            }
            Kind::Create | Kind::CreateDelete => Ok(()),
        }
    }

    /// What this connection has created and not deleted.
    pub(crate) fn left(&self) -> impl Iterator<Item = String> {
        let numbers = match self.kind {
            Kind::Create => 1..self.asked + 1,
            Kind::CreateDelete if self.asked % 2 == 1 => self.asked..self.asked + 1,
            _ => 0..0,
        };
        numbers.map(|number| format!("{}/{number}", self.folder))
    }

    /// One of its znodes, and its place among the versions. The sequence is the same in each run.
    fn pick(&mut self) -> (u32, usize) {
        // Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014).
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let place = ((mixed ^ (mixed >> 31)) % self.versions.len() as u64) as usize;
        let (mine, of) = self.mine;
        (mine + place as u32 * of, place)
    }

    /// The next request.
    pub(crate) fn next(&mut self) -> Request {
        self.asked += 1;
        match self.kind {
            Kind::Get => self.get(),
            Kind::Set => self.set(),
            Kind::Mixed if self.asked.is_multiple_of(SET_IN) => self.set(),
            Kind::Mixed => self.get(),
            Kind::List => {
                self.expected.push_back(Expected::Names);
                Request::Read(Read::Children { path: Arc::clone(&self.listed), watch: false })
            }
            Kind::Create => self.create(self.asked),
            Kind::CreateDelete if self.asked % 2 == 1 => self.create(self.asked),
            Kind::CreateDelete => {
                self.expected.push_back(Expected::Deleted);
                let path = format!("{}/{}", self.folder, self.asked - 1);
                Request::Write(Write::Op(op_delete(path.into())))
            }
            Kind::Multi => self.multi(),
        }
    }

    fn get(&mut self) -> Request {
        let (node, place) = self.pick();
        self.expected.push_back(Expected::Data { node, version: self.versions[place] });
        Request::Read(Read::GetData { path: self.ground.path(node).into(), watch: false })
    }

    fn op_set(&mut self) -> (Op, Op, i32) {
        let (node, place) = self.pick();
        let before = self.versions[place];
        let version = before + 1;
        self.versions[place] = version;
        let path: Arc<str> = self.ground.path(node).into();
        let data = Some(self.ground.value(node, version));
        let set = Op::SetData { path: Arc::clone(&path), data, version: -1 };
        (Op::Check { path, version: before }, set, version)
    }

    fn set(&mut self) -> Request {
        let (_, set, version) = self.op_set();
        self.expected.push_back(Expected::Version(version));
        Request::Write(Write::Op(set))
    }

    fn create(&mut self, number: u64) -> Request {
        let path = format!("{}/{number}", self.folder);
        let op = op_create(&path, Some(self.ground.value(0, 0)), CreateMode::Persistent);
        self.expected.push_back(Expected::Created(path));
        Request::Write(Write::Op(op))
    }

    /// One of each kind of operation; the tree stays as large as it is.
    fn multi(&mut self) -> Request {
        let (check, set, version) = self.op_set();
        let created = format!("{}/{}", self.folder, self.asked);
        let create = op_create(&created, Some(self.ground.value(0, 0)), CreateMode::Persistent);
        let delete = op_delete(created.as_str().into());
        self.expected.push_back(Expected::Multi { version, created });
        Request::Write(Write::Multi(vec![check, set, create, delete]))
    }

    /// Whether a change is behind those before it, and the reply not before the change.
    fn is_later(&mut self, changed: Zxid, told: Zxid) -> bool {
        std::mem::replace(&mut self.changed, changed) < changed && changed <= told
    }

    /// Holds the next reply against what was asked.
    pub(crate) fn check(&mut self, answer: Answer) -> Result<(), Failed> {
        let Some(expected) = self.expected.pop_front() else {
            return Err(Failed::Wrong("a reply to nothing".to_owned()));
        };
        let holds = match (&expected, &answer.result) {
            (Expected::Data { node, version }, Ok(Response::Data { data: Some(data), stat })) => {
                stat.version == *version && self.ground.is_value(data, *node, *version)
            }
            (Expected::Version(version), Ok(Response::Stat(stat))) => {
                stat.version == *version && self.is_later(stat.mzxid, answer.zxid)
            }
            (Expected::Names, Ok(Response::Children { names, stat })) => {
                let numbers = names.iter().filter_map(|name| name.strip_prefix("child-"));
                let sum: u32 = numbers.filter_map(|number| number.parse::<u32>().ok()).sum();
                let all = names.len() as u32 == LISTED && stat.children == LISTED;
                all && sum == LISTED * (LISTED - 1) / 2
            }
            (Expected::Created(path), Ok(Response::Created { path: created, .. })) => {
                **created == **path
            }
            (Expected::Deleted, Ok(Response::Done)) => true,
            (Expected::Multi { version, created }, Ok(Response::Multi(results))) => {
                matches!(&results[..], [
                    OpResult::Checked,
                    OpResult::Set(stat),
                    OpResult::Created { path, .. },
                    OpResult::Deleted,
                ] if stat.version == *version && **path == **created
                    && self.is_later(stat.mzxid, answer.zxid))
            }
            _ => false,
        };
        if holds {
            return Ok(());
        }
        Err(Failed::Wrong(format!("{:?}: a reply was {:?}", self.kind, answer.result)))
    }
}
