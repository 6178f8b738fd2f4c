//! What is behind the header of a request that leaves watches again: the first byte says which of
//! the two.
#![no_main]

#[path = "../shared/request.rs"]
mod request;

use libfuzzer_sys::fuzz_target;

const SET_WATCHES: i32 = 101;
const SET_WATCHES2: i32 = 105;

fuzz_target!(|input: &[u8]| {
    let Some((which, body)) = input.split_first() else { return };
    request::check(request::of(if which % 2 == 0 { SET_WATCHES } else { SET_WATCHES2 }, body));
});
