//! The server as clients and other members meet it: one program, which is built and linked once.

mod cluster;
mod common;
mod config;
mod drain;
mod durable;
mod emptied;
mod expiry;
mod handshake;
mod hostile;
mod input;
mod limits;
mod no_leader;
mod read_only;
mod reconfig;
mod requests;
mod sasl;
mod slow_reader;
mod three_members;
mod tls;
mod vulnerabilities;
mod watches;
mod words;
