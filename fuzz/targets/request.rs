//! The payload of a request, of whichever operation.
#![no_main]

#[path = "../shared/request.rs"]
mod request;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| request::check(Bytes::copy_from_slice(input)));
