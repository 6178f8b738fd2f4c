//! A snapshot: a file as it is, one whose sums are made right, or what is in its chunks. What is
//! accepted is written and read the same.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| synod_server::fuzz::snapshot(input));
