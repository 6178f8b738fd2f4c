//! A sorted map of znodes that is changed by making another one, which shares what is the same.
//!
//! ```text
//! one version   [ /a … /f ][ /g … /p ][ /q … /z ]      chunks, in the order of paths
//!                    │                     │
//! the next      [ /a … /f ][ /g … /k ][ … ][ /q … /z ]      a chunk changed, and was split
//! ```
//!
//! A change costs what the chunks that it falls into cost, and one pointer for each other chunk; a
//! comparison of two versions passes over the chunks that they share.

use std::sync::Arc;

use super::Node;

/// Most znodes in a chunk: what is copied for one change, while the list of chunks, which is copied
/// too, stays short.
const CHUNK_MAX: usize = 256;

type Chunk = Arc<Vec<Arc<Node>>>;

/// Znodes by their paths.
#[derive(Clone, Default)]
pub(super) struct NodeMap {
    /// None is empty.
    chunks: Vec<Chunk>,
    len: usize,
}

/// What a change makes of a path: another znode, or none.
pub(super) type Edit = (synod_core::model::Path, Option<Arc<Node>>);

impl NodeMap {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Where a znode of that path is, or would be.
    fn place(&self, path: &str) -> (usize, usize) {
        let after = self.chunks.partition_point(|chunk| *chunk[0].path <= *path);
        let at = after.saturating_sub(1);
        let within = self.chunks.get(at);
        (at, within.map_or(0, |chunk| chunk.partition_point(|node| *node.path < *path)))
    }

    pub(super) fn get(&self, path: &str) -> Option<&Arc<Node>> {
        let (chunk, place) = self.place(path);
        self.chunks.get(chunk)?.get(place).filter(|node| *node.path == *path)
    }

    /// All of them from that path on, in the order of paths.
    pub(super) fn iter_from<'a>(
        &'a self,
        path: &str,
    ) -> impl Iterator<Item = &'a Arc<Node>> + use<'a> {
        let (chunk, place) = self.place(path);
        let chunks = self.chunks.get(chunk..).unwrap_or_default();
        chunks.iter().flat_map(|chunk| chunk.iter()).skip(place)
    }

    /// A map of these edits alone, which are in the order of paths.
    pub(super) fn of(edits: Vec<Edit>) -> NodeMap {
        NodeMap::default().edited(edits)
    }

    /// Another one, in which the edits are done. They are in the order of paths, one a path.
    pub(super) fn edited(&self, edits: Vec<Edit>) -> NodeMap {
        let mut map = NodeMap { chunks: Vec::with_capacity(self.chunks.len() + 1), len: 0 };
        let mut edits = edits.into_iter().peekable();
        for (number, chunk) in self.chunks.iter().enumerate() {
            // What is behind the last chunk is the last one's.
            let end = self.chunks.get(number + 1).map(|next| &next[0].path);
            let is_here = |edit: &Edit| end.is_none_or(|end| edit.0 < *end);
            if !edits.peek().is_some_and(is_here) {
                map.push_chunk(chunk);
                continue;
            }
            let mut nodes = chunk.iter().peekable();
            while let Some((path, edit)) = edits.next_if(is_here) {
                while let Some(node) = nodes.next_if(|node| node.path < path) {
                    map.push(Arc::clone(node));
                }
                nodes.next_if(|node| node.path == path);
                edit.into_iter().for_each(|node| map.push(node));
            }
            nodes.for_each(|node| map.push(Arc::clone(node)));
        }
        edits.filter_map(|(_, edit)| edit).for_each(|node| map.push(node));
        map
    }

    fn push_chunk(&mut self, chunk: &Chunk) {
        self.len += chunk.len();
        match self.chunks.last_mut() {
            // So that deletions leave no row of short ones.
            Some(last) if last.len() + chunk.len() <= CHUNK_MAX / 2 => {
                Arc::make_mut(last).extend(chunk.iter().cloned());
            }
            _ => self.chunks.push(Arc::clone(chunk)),
        }
    }

    fn push(&mut self, node: Arc<Node>) {
        self.len += 1;
        match self.chunks.last_mut().map(Arc::get_mut) {
            // It is this map's own.
            Some(Some(last)) if last.len() < CHUNK_MAX => last.push(node),
            _ => self.chunks.push(Arc::new(vec![node])),
        }
    }

    /// Calls `differs` for every path at which the two differ, in the order of paths.
    pub(super) fn diff<'a>(
        &'a self,
        newer: &'a NodeMap,
        mut differs: impl FnMut(Option<&'a Arc<Node>>, Option<&'a Arc<Node>>),
    ) {
        let (mut old, mut new) = (Cursor::of(self), Cursor::of(newer));
        loop {
            while old.skip_shared(&mut new) {}
            match (old.node(), new.node()) {
                (None, None) => return,
                (Some(was), Some(is)) if was.path == is.path => {
                    if !Arc::ptr_eq(was, is) {
                        differs(Some(was), Some(is));
                    }
                    old.step();
                    new.step();
                }
                (Some(was), is) if is.is_none_or(|is| was.path < is.path) => {
                    differs(Some(was), None);
                    old.step();
                }
                (_, is) => {
                    differs(None, is);
                    new.step();
                }
            }
        }
    }
}

/// A place in a map.
struct Cursor<'a> {
    chunks: &'a [Chunk],
    place: usize,
}

impl<'a> Cursor<'a> {
    fn of(map: &'a NodeMap) -> Cursor<'a> {
        Cursor { chunks: &map.chunks, place: 0 }
    }

    fn node(&self) -> Option<&'a Arc<Node>> {
        self.chunks.first()?.get(self.place)
    }

    fn step(&mut self) {
        self.place += 1;
        if self.chunks.first().is_some_and(|chunk| chunk.len() == self.place) {
            (self.chunks, self.place) = (&self.chunks[1..], 0);
        }
    }

    /// Passes over a chunk that both are at the beginning of.
    fn skip_shared(&mut self, other: &mut Cursor<'_>) -> bool {
        let shared = match (self.chunks.first(), other.chunks.first()) {
            (Some(chunk), Some(others)) if self.place == 0 && other.place == 0 => {
                Arc::ptr_eq(chunk, others)
            }
            _ => false,
        };
        if shared {
            self.chunks = &self.chunks[1..];
            other.chunks = &other.chunks[1..];
        }
        shared
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use proptest::prelude::*;
    use synod_core::model::{Path, Stat};

    use super::*;

    fn path(number: usize) -> Path {
        Path::new(format!("/{number:05}")).expect("valid")
    }

    fn node(number: usize, data: u8) -> Arc<Node> {
        Arc::new(Node::new(path(number), Bytes::copy_from_slice(&[data]), Stat::default()))
    }

    type Model = BTreeMap<Path, u8>;

    fn contents(map: &NodeMap) -> Model {
        let all: Vec<_> = map.iter_from("/").collect();
        assert!(all.is_sorted_by(|a, b| a.path < b.path), "in the order of paths");
        assert_eq!(map.len(), all.len());
        all.iter().map(|node| (node.path.clone(), node.data[0])).collect()
    }

    /// Of each path whether it is there then, and with what.
    type Change = BTreeMap<usize, Option<u8>>;

    fn edits(change: &Change) -> Vec<Edit> {
        let edit = |(number, data): (&usize, &Option<u8>)| {
            (path(*number), data.map(|data| node(*number, data)))
        };
        change.iter().map(edit).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn it_is_the_sorted_map_it_stands_for_and_tells_what_differs(
            first in 0..1_500usize,
            changes in prop::collection::vec(
                (
                    prop::collection::btree_map(0..2_000usize, any::<Option<u8>>(), 0..20),
                    // A range that goes, so that chunks do.
                    (0..2_000usize, 0..900usize),
                ),
                0..12,
            ),
        ) {
            let mut map = NodeMap::of(edits(&(0..first).map(|n| (n, Some(0))).collect()));
            let mut model = contents(&map);
            prop_assert_eq!(model.len(), first);
            for (mut change, (from, count)) in changes {
                if count % 3 == 0 {
                    (from..from + count).for_each(|number| *change.entry(number).or_default() = None);
                }
                let next = map.edited(edits(&change));
                let before = model.clone();
                for (number, data) in &change {
                    match data {
                        Some(data) => drop(model.insert(path(*number), *data)),
                        None => drop(model.remove(&path(*number))),
                    }
                }
                prop_assert_eq!(&contents(&next), &model);
                prop_assert_eq!(&contents(&map), &before, "the one before stays as it is");
                let mut told = before;
                map.diff(&next, |was, is| {
                    let path = was.or(is).map(|node| node.path.clone()).expect("one of them");
                    assert_eq!(told.remove(&path), was.map(|node| node.data[0]));
                    told.extend(is.map(|node| (path, node.data[0])));
                });
                prop_assert_eq!(&told, &model);
                for number in (0..2_000).step_by(97) {
                    let found = next.get(&path(number)).map(|node| node.data[0]);
                    prop_assert_eq!(found, model.get(&path(number)).copied());
                    let after = next.iter_from(&path(number)).next().map(|node| &node.path);
                    prop_assert_eq!(after, model.range(path(number)..).next().map(|(path, _)| path));
                }
                prop_assert!(next.chunks.iter().all(|chunk| (1..=CHUNK_MAX).contains(&chunk.len())));
                map = next;
            }
        }
    }

    #[test]
    fn a_change_copies_the_chunk_that_it_falls_into_and_no_other() {
        let map = NodeMap::of(edits(&(0..10_000).map(|number| (number, Some(0))).collect()));
        let next = map.edited(vec![(path(5_000), Some(node(5_000, 1)))]);
        let shared = |chunk: &&Chunk| map.chunks.iter().any(|other| Arc::ptr_eq(chunk, other));
        assert_eq!(next.chunks.iter().filter(shared).count(), map.chunks.len() - 1);
        let mut told = 0;
        map.diff(&next, |_, _| told += 1);
        assert_eq!(told, 1);
    }

    #[test]
    fn deletions_leave_no_row_of_short_chunks() {
        let mut map = NodeMap::of(edits(&(0..10_000).map(|number| (number, Some(0))).collect()));
        for number in 0..10_000 {
            if number % 100 != 0 {
                map = map.edited(vec![(path(number), None)]);
            }
        }
        assert_eq!(map.len(), 100);
        assert!(map.chunks.len() <= 4, "{}", map.chunks.len());
    }
}
