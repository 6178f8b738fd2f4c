//! Quotas: `/zookeeper/quota/<path>/zookeeper_limits` bounds how many znodes, and how many bytes
//! of data, there are at `<path>` and below; `zookeeper_stats` beside it says how many there are.
//!
//! What a quota has used is counted once, when its limits are created, and kept up to date from
//! then on; it depends on the znodes alone, so a restored tree counts it anew. It is written into
//! `zookeeper_stats` as data, without a change of Stat and without a watch being told, as
//! ZooKeeper does: a read, a snapshot and the digest need not know of quotas.
//!
//! Unlike there, every quota above a znode counts, not the nearest alone; a hard limit always
//! holds; and a write that adds nothing is never refused, so that a full quota can be cleared.
//!
//! Whoever may set quotas makes others wait by it, so what one costs is bounded: how many can count
//! a write, and how many znodes are counted when one is set.

use std::collections::BTreeMap;
use std::iter::successors;
use std::ops::Bound::{Included, Unbounded};

use super::node::NodeId;
use super::store::successor;
use super::{Tree, digest};
use crate::model::limits::{QUOTA_COUNTED_ZNODES_MAX, QUOTA_LEVELS_MAX};
use crate::model::{Code, Op, Refusal};

const FOLDER: &str = "/zookeeper/quota";
const LIMITS: &str = "zookeeper_limits";
const STATS: &str = "zookeeper_stats";

// The texts of refusals say them.
const _: () = assert!(QUOTA_LEVELS_MAX == 16 && QUOTA_COUNTED_ZNODES_MAX == 10_000);

/// Which of the two znodes of a quota.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Limits,
    Stats,
}

/// What a quota bounds, and what it has used; as a limit, `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Limits {
    znodes: Option<i64>,
    bytes: Option<i64>,
    hard_znodes: Option<i64>,
    hard_bytes: Option<i64>,
}

/// Znodes and bytes of data; as a difference, either may be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) znodes: i64,
    pub(super) bytes: i64,
}

/// A write went beyond a soft limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaWarning {
    /// The path that the quota is of.
    pub path: Box<str>,
    /// What is bounded: `count` or `bytes`, as in the limits.
    pub what: &'static str,
    /// How much of it there is by now.
    pub used: i64,
    /// The soft limit.
    pub limit: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Quota {
    limits: Limits,
    used: Usage,
}

/// All quotas, by the path that they are of.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Quotas {
    by_top: BTreeMap<Box<str>, Quota>,
    /// What they take, in bytes.
    bytes: usize,
}

/// What a quota takes, in bytes.
fn weight(top: &str) -> usize {
    size_of::<(Box<str>, Quota)>() + top.len()
}

impl Limits {
    /// Reads `count=5,bytes=-1=;byteHardLimit=9;countHardLimit=-1`: any of them, in any order. A
    /// negative number is no limit, and so is data that is empty; other keys are passed over.
    fn parse(data: &[u8]) -> Option<Limits> {
        let mut limits = Limits::default();
        let text = std::str::from_utf8(data).ok()?;
        for pair in text.split([',', ';']).filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=')?;
            let limit = match key {
                "count" => &mut limits.znodes,
                "bytes" => &mut limits.bytes,
                "countHardLimit" => &mut limits.hard_znodes,
                "byteHardLimit" => &mut limits.hard_bytes,
                _ => continue,
            };
            // Old parsers are kept from what follows the bytes by a further `=`.
            let number = value.strip_suffix('=').unwrap_or(value);
            *limit = Some(number.parse().ok()?).filter(|number| *number >= 0);
        }
        Some(limits)
    }
}

impl FromIterator<(Box<str>, Quota)> for Quotas {
    fn from_iter<I: IntoIterator<Item = (Box<str>, Quota)>>(found: I) -> Quotas {
        let mut quotas = Quotas::default();
        found.into_iter().for_each(|(top, quota)| quotas.insert(top, quota));
        quotas
    }
}

impl Quotas {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn insert(&mut self, top: Box<str>, quota: Quota) {
        self.remove(&top);
        self.bytes += weight(&top);
        self.by_top.insert(top, quota);
    }

    fn remove(&mut self, top: &str) {
        if self.by_top.remove(top).is_some() {
            self.bytes -= weight(top);
        }
    }

    /// Shows every quota that the path lies in, the nearest first.
    ///
    /// What sorts between a path and one below it begins with that path. So the last quota not
    /// behind a path either encloses it, or tells how little of it the next can have: a path
    /// under no quota mostly takes one look.
    fn enclosing<'a>(&'a self, path: &'a str) -> impl Iterator<Item = (&'a str, &'a Quota)> {
        let mut rest = path;
        std::iter::from_fn(move || {
            while !rest.is_empty() {
                let (top, quota) =
                    self.by_top.range::<str, _>((Unbounded, Included(rest))).next_back()?;
                let common = top.bytes().zip(rest.bytes()).take_while(|(a, b)| a == b).count();
                let is_part = |bytes: usize| rest.as_bytes().get(bytes).is_none_or(|b| *b == b'/');
                let encloses = common == top.len() && is_part(common);
                rest = if is_part(common) && !encloses {
                    &rest[..common]
                } else {
                    let above = rest.as_bytes()[..common].iter().rposition(|byte| *byte == b'/');
                    &rest[..above.unwrap_or(0)]
                };
                if encloses {
                    return Some((&**top, quota));
                }
            }
            None
        })
    }

    /// Judges a write that adds so much: refuses it, or says which soft limit it goes beyond.
    fn admit(&self, path: &str, added: Usage) -> Result<Option<QuotaWarning>, Refusal> {
        let mut warning = None;
        for (top, Quota { limits, used }) in self.enclosing(path) {
            let bounds = [
                ("count", added.znodes, used.znodes, limits.znodes, limits.hard_znodes),
                ("bytes", added.bytes, used.bytes, limits.bytes, limits.hard_bytes),
            ];
            for (what, added, used, soft, hard) in bounds.into_iter().filter(|bound| bound.1 > 0) {
                let used = used + added;
                if hard.is_some_and(|limit| used > limit) {
                    let rule = match what {
                        "count" => "a quota above the znode has reached its countHardLimit",
                        _ => "a quota above the znode has reached its byteHardLimit",
                    };
                    return Err(Refusal::new(Code::QuotaExceeded, rule));
                }
                if let Some(limit) = soft.filter(|limit| used > *limit) {
                    warning = Some(QuotaWarning { path: top.into(), what, used, limit });
                }
            }
        }
        Ok(warning)
    }
}

#[cfg(test)]
impl Quotas {
    pub(super) fn insert_unlimited(&mut self, top: &str) {
        self.insert(top.into(), Quota::default());
    }

    pub(super) fn tops_above<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a str> {
        self.enclosing(path).map(|(top, _)| top)
    }
}

#[cfg(test)]
impl Tree {
    /// The quotas as a restored tree has them.
    pub(super) fn recounted_quotas(&self) -> Quotas {
        self.quotas_of_znodes().collect()
    }
}

impl Tree {
    /// Judges an operation by what it means for quotas alone: within a transaction none is set or
    /// removed, since what is there is counted then, which takes a time that grows with it.
    pub(super) fn may_touch_quotas(&self, op: &Op, in_multi: bool) -> Result<(), Refusal> {
        let (path, data) = match op {
            Op::Create(create) => (&create.path, create.data.as_deref()),
            Op::SetData { path, data, .. } => (path, data.as_deref()),
            Op::Delete { path, .. } => (path, None),
            Op::Check { .. } => return Ok(()),
        };
        if !matches!(part_of(path), Some((_, Part::Limits))) {
            return Ok(());
        }
        if in_multi {
            let rule = "the limits of a quota are not changed within a transaction";
            return Err(Refusal::new(Code::BadArguments, rule));
        }
        if Limits::parse(data.unwrap_or_default()).is_none() {
            let rule =
                "the limits of a quota read count=N,bytes=N;byteHardLimit=N;countHardLimit=N";
            return Err(Refusal::new(Code::BadArguments, rule));
        }
        Ok(())
    }

    /// Judges the creation of a znode by what a quota costs that begins with it.
    pub(super) fn may_begin_quota(&self, path: &str) -> Result<(), Refusal> {
        let Some((top, Part::Limits)) = part_of(path) else { return Ok(()) };
        let refused = |rule| Err(Refusal::new(Code::BadArguments, rule));
        if top.split('/').skip(1).nth(QUOTA_LEVELS_MAX).is_some() {
            return refused("the path that a quota is of has at most 16 levels");
        }
        if self.walk(top).nth(QUOTA_COUNTED_ZNODES_MAX).is_some() {
            return refused("a quota is set on a path while there are at most 10000 znodes at it");
        }
        Ok(())
    }

    /// Judges a write that adds so much at a path.
    pub(super) fn within_quotas(&mut self, path: &str, added: Usage) -> Result<(), Refusal> {
        if !self.quotas.by_top.is_empty()
            && let Some(warning) = self.quotas.admit(path, added)?
        {
            self.quota_warning = Some(warning);
        }
        Ok(())
    }

    /// The last write beyond a soft limit since this was asked.
    pub fn take_quota_warning(&mut self) -> Option<QuotaWarning> {
        self.quota_warning.take()
    }

    /// Takes note that so much was added at a path, or that a part of a quota changed.
    pub(super) fn count_in_quotas(&mut self, path: &str, added: Usage) {
        if !self.quotas.by_top.is_empty() {
            let tops: Vec<Box<str>> =
                self.quotas.enclosing(path).map(|(top, _)| top.into()).collect();
            for top in tops {
                if let Some(quota) = self.quotas.by_top.get_mut(&top) {
                    quota.used.znodes += added.znodes;
                    quota.used.bytes += added.bytes;
                }
                self.publish_usage(&top);
            }
        }
        match part_of(path) {
            Some((top, Part::Limits)) => {
                match self.lookup(path) {
                    None => self.quotas.remove(top),
                    Some(id) => self.set_limits(top, id),
                }
                self.publish_usage(top);
            }
            Some((top, Part::Stats)) => self.publish_usage(top),
            None => {}
        }
    }

    fn set_limits(&mut self, top: &str, id: NodeId) {
        let limits = self.limits(id);
        match self.quotas.by_top.get_mut(top) {
            Some(quota) => quota.limits = limits,
            None => {
                let used = self.usage(top);
                self.quotas.insert(top.into(), Quota { limits, used });
            }
        }
    }

    /// Malformed ones were refused.
    fn limits(&self, id: NodeId) -> Limits {
        Limits::parse(self.node(id).data().unwrap_or_default()).unwrap_or_default()
    }

    /// What there is at a path and below.
    fn usage(&self, top: &str) -> Usage {
        self.walk(top).fold(Usage::default(), |sum, id| Usage {
            znodes: sum.znodes + 1,
            bytes: sum.bytes + self.node(id).data_bytes(),
        })
    }

    /// The znodes at a path and below.
    fn walk(&self, top: &str) -> impl Iterator<Item = NodeId> {
        let top = self.lookup(top);
        let next = move |at: &NodeId| Some(successor(self.nodes.slots(), top?, *at)?.0);
        successors(top, next)
    }

    /// Writes what a quota has used where it is read, if there is such a znode.
    fn publish_usage(&mut self, top: &str) {
        let Some(Quota { used, .. }) = self.quotas.by_top.get(top) else { return };
        let text = format!("count={},bytes={}", used.znodes, used.bytes);
        let path = format!("{FOLDER}{top}/{STATS}");
        if let Some(id) = self.lookup(&path) {
            let digest = digest::content(&path, Some(text.as_bytes()));
            self.change(id, |node| node.set_data(Some(text.as_bytes()), digest));
        }
    }

    /// Finds the quotas of a tree that was restored, and counts them.
    pub(crate) fn find_quotas(&mut self) {
        self.quotas = self.quotas_of_znodes().collect();
        let tops: Vec<Box<str>> = self.quotas.by_top.keys().cloned().collect();
        tops.iter().for_each(|top| self.publish_usage(top));
    }

    fn quotas_of_znodes(&self) -> impl Iterator<Item = (Box<str>, Quota)> {
        let named = move |id: &NodeId| self.node(*id).name() == LIMITS.as_bytes();
        self.walk(FOLDER).filter(named).filter_map(|id| {
            let path = self.path(id);
            let (top, _) = part_of(&path)?;
            Some((top.into(), Quota { limits: self.limits(id), used: self.usage(top) }))
        })
    }
}

/// The path that a quota is of, and the part of it that `path` is. The root and the coordinator's
/// own znodes have none.
fn part_of(path: &str) -> Option<(&str, Part)> {
    let (top, name) = path.strip_prefix(FOLDER)?.rsplit_once('/')?;
    let part = match name {
        LIMITS => Part::Limits,
        STATS => Part::Stats,
        _ => return None,
    };
    let is_own = top.strip_prefix("/zookeeper").is_some_and(|rest| !is_longer_name(rest));
    (top.starts_with('/') && !is_own).then_some((top, part))
}

/// Whether a name goes on that only begins like another.
fn is_longer_name(rest: &str) -> bool {
    !rest.is_empty() && !rest.starts_with('/')
}
