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
//! | [`coverage`] | which operations ended in which way, so that a generator is known to bite |

pub mod coverage;
pub mod engines;
pub mod generator;
pub mod model;
pub mod program;
pub mod recipes;

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
        Testing: "../docs/src/testing.md"
    }
}
