//! A segment of the log: a file as it is, or one whose header and sums are made right. What is
//! accepted is read the same again, and its records are written in the same bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| synod_server::fuzz::log(input));
