//! core
pub mod model;
