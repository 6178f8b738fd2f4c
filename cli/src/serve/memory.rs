//! How much memory this process may have: what the machine has, or what its control group is given.

use std::fs::read_to_string;
use std::path::Path;

/// Which part of it the state may take by default, one in so many: the rest is for what waits to be sent and
/// to be written, for snapshots, and for what the allocator keeps.
const PART_OF_STATE: u64 = 2;

/// What znodes, sessions and watches may take by default, in bytes: half of what there is; 0, no
/// bound, where nobody says how much that is (elsewhere than on Linux).
pub(super) fn of_state() -> u64 {
    available(Path::new("/proc"), Path::new("/sys/fs/cgroup")).map_or(0, |it| it / PART_OF_STATE)
}

/// See proc(5), and memory.max in the kernel's page on control groups of version 2: a group has no
/// more than the groups that it is in.
fn available(proc: &Path, groups: &Path) -> Option<u64> {
    let meminfo = read_to_string(proc.join("meminfo")).ok()?;
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let total = total.split_whitespace().next()?.parse::<u64>().ok()? << 10;
    let own = read_to_string(proc.join("self/cgroup")).unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let within = Path::new(own).ancestors().filter_map(|group| {
        let max = read_to_string(groups.join(group).join("memory.max")).ok()?;
        max.trim().parse::<u64>().ok()
    });
    Some(within.fold(total, u64::min))
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir_all, write};

    use super::*;

    #[test]
    fn it_is_the_least_of_what_the_machine_has_and_the_groups_are_given() {
        let folder = tempfile::tempdir().expect("a folder");
        let (proc, groups) = (folder.path().join("proc"), folder.path().join("groups"));
        create_dir_all(proc.join("self")).expect("made");
        create_dir_all(groups.join("a/b")).expect("made");
        let given = || available(&proc, &groups);
        assert_eq!(given(), None, "nobody says");
        write(proc.join("meminfo"), "MemTotal:  8192 kB\nMemFree: 1 kB\n").expect("written");
        assert_eq!(given(), Some(8192 << 10), "no groups");
        write(proc.join("self/cgroup"), "1:name=x:/\n0::/a/b\n").expect("written");
        write(groups.join("a/b/memory.max"), "max\n").expect("written");
        assert_eq!(given(), Some(8192 << 10), "a group without a bound");
        write(groups.join("a/memory.max"), "5000000\n").expect("written");
        assert_eq!(given(), Some(5_000_000), "the bound of the group around it");
        write(groups.join("a/b/memory.max"), "4000000\n").expect("written");
        assert_eq!(given(), Some(4_000_000));
        write(groups.join("memory.max"), "3000000\n").expect("written");
        assert_eq!(given(), Some(3_000_000), "as a container sees it");
    }
}
