//! The gate at the resource: the only thing that protects it from a holder who does not know
//! that it has lost its lock.
//!
//! A process can be paused at any moment, for any time: by the scheduler, a garbage collector, a
//! debugger, a hypervisor. When it goes on it may still believe to hold a lock that others have
//! held since. Nothing inside the process can prevent that. The resource can: it remembers the
//! highest fencing token it has seen, and refuses lower ones (Kleppmann, "How to do distributed
//! locking", 2016).
//!
//! Where the resource is decides which gate it needs:
//!
//! | the resource | its gate |
//! |---|---|
//! | is in the tree | none: a [guarded transaction](crate::Guard::txn) |
//! | is a process of yours | [`Fence`]; for the permits of a semaphore, [`SlotFences`] |
//! | is a table | a column: `UPDATE … SET fence = ?1 WHERE fence <= ?1` |
//! | is an object of a store with conditional writes | [`FencedObject`] |
//!
//! In a table or a store the highest token lies beside the data, and one atomic step compares,
//! writes and remembers it. The program `fenced_table` among the examples does so in SQLite.
//!
//! # Shared holders
//! Several readers hold a read/write lock at the same time, each with a token of its own. They
//! take [`Fence::admit_shared`], which refuses a reader below the highest *writer's* token, but no
//! reader because of another: a gate that let through only the highest token of all would refuse
//! valid co-holders. In return a writer below the highest *reader's* token is refused: that
//! reader was granted after the writer had gone, and what it reads must not change.

mod gate;
mod object;

pub use gate::{Fence, SLOT_MAX, SlotFences, Stale};
pub use object::{
    ConditionalStore, FencedObject, MemoryStore, Object, StoreError, UPDATE_ATTEMPTS_MAX, When,
};
