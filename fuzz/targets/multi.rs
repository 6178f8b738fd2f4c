//! What is behind the header of a transaction or a multi-read: the first byte says which.
#![no_main]

#[path = "../shared/request.rs"]
mod request;

use libfuzzer_sys::fuzz_target;

const MULTI: i32 = 14;
const MULTI_READ: i32 = 22;

fuzz_target!(|input: &[u8]| {
    let Some((which, body)) = input.split_first() else { return };
    request::check(request::of(if which % 2 == 0 { MULTI } else { MULTI_READ }, body));
});
