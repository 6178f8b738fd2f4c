//! What members say to each other, as frames: handshakes, messages of consensus, of couriers and
//! their leader, orders of whoever runs the cluster. What is accepted is written and read the same.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| synod_server::fuzz::message(input));
