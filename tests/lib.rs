//! What the tests of more than one crate share: an independent model of the coordinator, and
//! random programs to compare it with the real ones.
//!
//! | module | what it holds |
//! |---|---|
//! | [`model`] | [`NaiveCoordinator`](model::NaiveCoordinator): the specification as plain maps and sets |
//! | [`program`] | [`Step`](program::Step)s of a program, and [`World`](program::World), which runs them on the model |
//! | [`generator`] | random steps over a universe so small that they keep meeting |
//! | [`engines`] | the real engine, twice, beside the model |
//! | [`coverage`] | which operations ended in which way, so that a generator is known to bite |

pub mod coverage;
pub mod engines;
pub mod generator;
pub mod model;
pub mod program;
