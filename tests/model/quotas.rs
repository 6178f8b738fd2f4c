//! Quotas: what is there is counted anew at each question.

use bytes::Bytes;
use synod_core::model::{Code, Op};

use super::{NaiveCoordinator, paths};

/// Limits in the order count, bytes, hard count, hard bytes; `None` is no limit.
type Limits = [Option<i64>; 4];

/// What the limits of a quota say; `None` if they are malformed.
fn parse(data: &Option<Bytes>) -> Option<Limits> {
    let text = String::from_utf8(data.clone().unwrap_or_default().to_vec()).ok()?;
    let mut limits = [None; 4];
    for pair in text.replace(',', ";").split(';') {
        if pair.is_empty() {
            continue;
        }
        let at = pair.find('=')?;
        let keys = ["count", "bytes", "countHardLimit", "byteHardLimit"];
        if let Some(which) = keys.iter().position(|key| *key == &pair[..at]) {
            let value = &pair[at + 1..];
            let number: i64 = value.strip_suffix('=').unwrap_or(value).parse().ok()?;
            limits[which] = if number < 0 { None } else { Some(number) };
        }
    }
    Some(limits)
}

/// The path that these limits are of; `None` if it is no path of limits.
fn top_of(path: &str) -> Option<&str> {
    let top = path.strip_prefix("/zookeeper/quota")?.strip_suffix("/zookeeper_limits")?;
    let own = top == "/zookeeper" || paths::is_below(top, "/zookeeper");
    if top.starts_with('/') && !own { Some(top) } else { None }
}

impl NaiveCoordinator {
    /// Every quota: the path that it is of, and its limits.
    fn quotas(&self) -> Vec<(String, Limits)> {
        let folder = "/zookeeper/quota/";
        let below = self.nodes.range(folder.to_owned()..);
        let below = below.take_while(|(path, _)| path.starts_with(folder));
        below
            .filter_map(|(path, node)| {
                let top = top_of(path)?.to_owned();
                Some((top, parse(&node.data).expect("malformed limits are refused")))
            })
            .collect()
    }

    /// How many znodes there are at a path and below, and how many bytes of data.
    fn usage(&self, top: &str) -> (i64, i64) {
        let there =
            self.nodes.iter().filter(|(path, _)| *path == top || paths::is_below(path, top));
        there.fold((0, 0), |(count, bytes), (_, node)| {
            (count + 1, bytes + node.data.as_ref().map_or(0, |data| data.len() as i64))
        })
    }

    /// Whether every quota leaves room for so much more at a path.
    pub(super) fn fits_quotas(&self, path: &str, count: i64, bytes: i64) -> Result<(), Code> {
        for (top, [_, _, hard_count, hard_bytes]) in self.quotas() {
            if path != top && !paths::is_below(path, &top) {
                continue;
            }
            let used = self.usage(&top);
            let full = |limit: Option<i64>, used: i64, more: i64| {
                more > 0 && limit.is_some_and(|limit| used + more > limit)
            };
            if full(hard_count, used.0, count) || full(hard_bytes, used.1, bytes) {
                return Err(Code::QuotaExceeded);
            }
        }
        Ok(())
    }

    /// Writes what each quota has used into the znode that says so.
    pub(super) fn write_usage(&mut self) {
        for (top, _) in self.quotas() {
            let (count, bytes) = self.usage(&top);
            let path = format!("/zookeeper/quota{top}/zookeeper_stats");
            if let Some(stats) = self.nodes.get_mut(&path) {
                stats.data = Some(format!("count={count},bytes={bytes}").into());
            }
        }
    }
}

/// Whether an operation may be done, by what it means for quotas alone.
pub(super) fn judge(op: &Op, in_multi: bool) -> Result<(), Code> {
    let (path, data) = match op {
        Op::Create(create) => (&create.path, &create.data),
        Op::SetData { path, data, .. } => (path, data),
        Op::Delete { path, .. } => (path, &None),
        Op::Check { .. } => return Ok(()),
    };
    if top_of(path).is_some() && (in_multi || parse(data).is_none()) {
        return Err(Code::BadArguments);
    }
    Ok(())
}
