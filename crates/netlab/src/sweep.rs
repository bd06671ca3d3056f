//! Names of a lab's namespaces, and removal of what killed processes left behind.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use isthmus_netlink::namespace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What every namespace of every lab is named with.
pub const PREFIX: &str = "istlab-";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A stem for the names of one lab, unique among the labs of this machine.
pub(crate) fn unique_stem() -> String {
    format!(
        "{PREFIX}{}-{}",
        process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// Ends the processes in, and removes, every lab namespace whose owner process is dead. Failures are left to the next
/// sweep: another process may be sweeping too. Answers how many were removed.
pub fn sweep() -> usize {
    let stale: Vec<String> = namespace::list()
        .unwrap_or_default()
        .into_iter()
        .filter(|name| owner(name).is_some_and(|pid| fs::metadata(format!("/proc/{pid}")).is_err()))
        .collect();
    remove(&stale)
}

/// Ends the processes in the named namespaces and removes them. Answers how many are gone.
pub(crate) fn remove(names: &[String]) -> usize {
    if names.is_empty() {
        return 0;
    }
    let inodes: BTreeSet<u64> = names
        .iter()
        .filter_map(|name| fs::metadata(namespace::path_of(name).ok()?).ok())
        .map(|metadata| metadata.ino())
        .collect();
    // Killed ones may be forking while the list is read: ask again until nobody is left, a bounded number of times.
    for _ in 0..10 {
        let inside = processes_in(&inodes);
        if inside.is_empty() {
            break;
        }
        for pid in inside {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
    names
        .iter()
        .filter(|name| namespace::remove(name).is_ok())
        .count()
}

fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

fn processes_in(inodes: &BTreeSet<u64>) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid != process::id().cast_signed())
        .filter(|pid| {
            fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|metadata| inodes.contains(&metadata.ino()))
        })
        .map(Pid::from_raw)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn owner_is_read_from_the_name() {
        assert_eq!(owner("istlab-4711-0-gateway"), Some(4711));
        assert_eq!(owner("istlab-x-0"), None);
        assert_eq!(owner("other-4711-0"), None);
    }

    #[test]
    fn namespaces_of_dead_owners_go_with_their_processes_and_those_of_living_ones_stay() {
        // A process that has ended, and been waited for, leaves a number that is free.
        let mut ended = Command::new("true").spawn().unwrap();
        let dead = ended.id();
        ended.wait().unwrap();
        let stale = format!("{PREFIX}{dead}-0-stale");
        let living = format!("{}-living", unique_stem());
        namespace::create(&stale).unwrap();
        namespace::create(&living).unwrap();
        let mut inside = namespace::spawn(&stale, Command::new("sleep").arg("600")).unwrap();
        assert!(sweep() >= 1);
        assert!(!namespace::exists(&stale));
        assert!(namespace::exists(&living));
        assert!(!inside.wait().unwrap().success());
        assert_eq!(remove(std::slice::from_ref(&living)), 1);
        assert!(!namespace::exists(&living));
    }
}
