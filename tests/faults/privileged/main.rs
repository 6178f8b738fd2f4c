//! Faults that plain `cargo test` cannot make: system calls that fail, and a file system without
//! room. They want Linux, `strace`, and root to mount: `tests/faults/run privileged`.

mod disks;
mod syscalls;
mod trace;
