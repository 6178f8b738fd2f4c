//! Partitioning: items are divided among the members that live, and each is held by one at a time.
//!
//! ```text
//! /jobs                                    made when needed, and all below it
//! ├── members/                             a [`Group`](crate::Group): who takes part
//! │   ├── _m_9f1c…-node-2  {"weight":1}
//! │   └── _m_40ab…-node-7  {"weight":2}
//! └── items/
//!     ├── eu/                              a [`Lock`](crate::Lock) an item
//!     │   ├── _c_d33e…-lock-0000000004     node-7 holds eu; czxid = fencing token
//!     │   └── _c_1b7a…-lock-0000000005     node-2 has it next, when node-7 gives it up
//!     └── us/
//!         └── _c_77f0…-lock-0000000002
//! ```
//!
//! 1. A member joins the group, with its weight as metadata, and watches who is there.
//! 2. Whose an item is, a [`HashRing`] of the members says: the same to each of them.
//! 3. A member acquires the lock of each item that is its own: it waits there for whoever holds it.
//! 4. A holder whose item is another's by now is told so, finishes, and releases.
//! 5. A member that dies loses membership and locks with its session; the others see it, and take
//!    what was its own.
//!
//! Nobody leads, and no assignment is stored. For a moment members may see different groups, and
//! two may want one item: the lock decides, and the token of its guard fences.

mod member;
mod partitioner;
mod ring;
mod tend;

pub use partitioner::{ITEMS_MAX, Partition, PartitionEvent, Partitioner, Partitions};
pub use ring::{HashRing, VIRTUAL_NODES, VIRTUAL_NODES_MAX, WEIGHT_MAX};
