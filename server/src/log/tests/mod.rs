//! The log as a whole.

mod directed;
mod disk;
mod random;
