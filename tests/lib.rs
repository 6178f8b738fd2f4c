//! What the tests of more than one crate share: an independent model of the coordinator, and
//! random programs to compare it with the real ones.
//!
//! | module | what it holds |
//! |---|---|
//! | [`model`] | [`NaiveCoordinator`](model::NaiveCoordinator): the specification as plain maps and sets |
//! | [`program`] | [`Step`](program::Step)s of a program, and [`World`](program::World), which runs them on the model |
//! | [`generator`] | random steps over a universe so small that they keep meeting |
//! | [`engines`] | the real engine, twice, beside the model |
//! | [`recipes`] | the recipe suite, and the grounds it stands on |
//! | [`faults`] | clusters of real processes, what can be done to them, and what must hold |
//! | [`fire`] | holders, a resource and a cluster as processes, and faults of all of them |
//! | [`sim`] | a whole cluster, its network and its clients on virtual time, from a seed; and checkers |
//! | [`coverage`] | which operations ended in which way, so that a generator is known to bite |

pub mod coverage;
pub mod engines;
pub mod faults;
pub mod fire;
pub mod generator;
pub mod model;
pub mod program;
pub mod recipes;
pub mod sim;

/// Compiles the code of the book and of the README.
#[cfg(doctest)]
mod book {
    macro_rules! page {
        ($($name:ident: $file:literal)*) => { $(#[doc = include_str!($file)] struct $name;)* };
    }

    page! {
        Readme: "../README.md"
        RecipesReadme: "../recipes/README.md"
        FirstLock: "../docs/src/first-lock.md"
        ReadWriteLocks: "../docs/src/recipes/read-write-locks.md"
        Caches: "../docs/src/recipes/caches.md"
        ChangeFeed: "../docs/src/recipes/change-feed.md"
        Configuration: "../docs/src/recipes/configuration.md"
        Fencing: "../docs/src/recipes/fencing.md"
        Discovery: "../docs/src/recipes/discovery.md"
        Elections: "../docs/src/recipes/elections.md"
        Locks: "../docs/src/recipes/locks.md"
        Membership: "../docs/src/recipes/membership.md"
        Metrics: "../docs/src/recipes/metrics.md"
        Partitioning: "../docs/src/recipes/partitioning.md"
        SemaphoresAndBarriers: "../docs/src/recipes/semaphores-and-barriers.md"
        Queues: "../docs/src/recipes/queues.md"
        Testing: "../docs/src/testing.md"
    }
}
