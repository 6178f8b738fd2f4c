use std::sync::Arc;

/// Slots in a chunk: what the first write after a view copies. With so many znodes and its counts a
/// chunk has 10,216 bytes. Allocators that round sizes up have one of 10,240; of 64 slots, a fifth of
/// all memory would be what they round up by.
const CHUNK_SLOTS: usize = 75;

/// Chunks in a page: what it copies the counts of.
const PAGE_CHUNKS: usize = 64;

/// Values under small numbers, kept in chunks that are shared with views and copied when they
/// are written to while a view still holds them.
pub(crate) struct Arena<T> {
    slots: Slots<T>,
    /// How many slots were ever used; those above are fresh.
    used: u32,
    /// Used slots that are empty now, the last emptied on top: an undo that goes strictly
    /// backwards gets every value its old number.
    free: Vec<u32>,
    /// How many values each chunk has: one that has none is given back.
    counts: Vec<u8>,
}

/// The chunks of an arena, or of a view of one, in pages, so that a view counts pages.
#[derive(Clone)]
pub(crate) struct Slots<T> {
    pages: Vec<Arc<Page<T>>>,
}

type Page<T> = [Option<Arc<Chunk<T>>>; PAGE_CHUNKS];

type Chunk<T> = [Option<T>; CHUNK_SLOTS];

impl<T> Slots<T> {
    /// The value of that number, if there is one.
    pub(crate) fn find(&self, id: u32) -> Option<&T> {
        let (page, chunk, slot) = split(id);
        self.pages.get(page)?[chunk].as_ref()?[slot].as_ref()
    }

    /// All values, in the order of their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        let chunks = self.pages.iter().flat_map(|page| page.iter().flatten());
        chunks.flat_map(|chunk| chunk.iter().flatten())
    }

    /// The value of a number that is known to be in use.
    pub(crate) fn get(&self, id: u32) -> &T {
        self.find(id).expect("a link, the index and the sets name only numbers in use")
    }
}

/// The place of a number: page, chunk in the page, slot in the chunk.
fn split(id: u32) -> (usize, usize, usize) {
    let id = id as usize;
    (id / (CHUNK_SLOTS * PAGE_CHUNKS), id / CHUNK_SLOTS % PAGE_CHUNKS, id % CHUNK_SLOTS)
}

impl<T: Clone> Arena<T> {
    pub(crate) fn new() -> Arena<T> {
        Arena { slots: Slots { pages: Vec::new() }, used: 0, free: Vec::new(), counts: Vec::new() }
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.used as usize - self.free.len()
    }

    /// The number that the next value gets.
    pub(crate) fn next(&self) -> u32 {
        self.free.last().copied().unwrap_or(self.used)
    }

    pub(crate) fn slots(&self) -> &Slots<T> {
        &self.slots
    }

    pub(crate) fn get(&self, id: u32) -> &T {
        self.slots.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> &mut T {
        self.slot_mut(id).as_mut().expect("a number in use, as in `Slots::get`")
    }

    pub(crate) fn insert(&mut self, value: T) -> u32 {
        let id = self.free.pop().unwrap_or_else(|| {
            let id = self.used;
            if split(id).0 == self.slots.pages.len() {
                self.slots.pages.push(Arc::new([const { None }; PAGE_CHUNKS]));
            }
            // The highest number stands for "none" in links. So many znodes take 800 GB.
            assert!(id < u32::MAX - 1, "fewer than 2^32 - 1 values");
            self.used += 1;
            self.counts.resize(id as usize / CHUNK_SLOTS + 1, 0);
            id
        });
        *self.slot_mut(id) = Some(value);
        self.counts[id as usize / CHUNK_SLOTS] += 1;
        id
    }

    pub(crate) fn remove(&mut self, id: u32) -> Option<T> {
        self.slots.find(id)?;
        let value = self.slot_mut(id).take()?;
        self.free.push(id);
        let count = &mut self.counts[id as usize / CHUNK_SLOTS];
        *count -= 1;
        if *count == 0 {
            let (page, chunk, _) = split(id);
            Arc::make_mut(&mut self.slots.pages[page])[chunk] = None;
        }
        Some(value)
    }

    /// The arena as it is now, at the cost of one count a page.
    pub(crate) fn view(&self) -> Slots<T> {
        self.slots.clone()
    }

    fn slot_mut(&mut self, id: u32) -> &mut Option<T> {
        let (page, chunk, slot) = split(id);
        let chunk = &mut Arc::make_mut(&mut self.slots.pages[page])[chunk];
        let chunk = chunk.get_or_insert_with(|| Arc::new([const { None }; CHUNK_SLOTS]));
        &mut Arc::make_mut(chunk)[slot]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(arena: &Arena<u32>) -> usize {
        arena.slots.pages.iter().flat_map(|page| page.iter().flatten()).count()
    }

    #[test]
    fn chunks_without_values_are_given_back_and_a_view_keeps_its_own() {
        let mut arena = Arena::new();
        let ids: Vec<u32> = (0..1_000).map(|value| arena.insert(value)).collect();
        let full = chunks(&arena);
        assert_eq!(full, 1_000_usize.div_ceil(CHUNK_SLOTS));
        let view = arena.view();
        for id in &ids[1..] {
            assert_eq!(arena.remove(*id), Some(*id));
            assert_eq!(arena.remove(*id), None);
        }
        assert_eq!((chunks(&arena), arena.len(), *arena.get(0)), (1, 1, 0));
        assert!(ids.iter().all(|id| view.find(*id) == Some(id)));
        for value in 1..1_000 {
            let next = arena.next();
            assert_eq!(arena.insert(value), next);
        }
        assert_eq!((chunks(&arena), arena.len()), (full, 1_000));
        assert_eq!(arena.slots().iter().count(), 1_000);
    }
}
