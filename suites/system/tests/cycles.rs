//! What is made and deleted again and again leaves nothing behind.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use isthmus_netlab::eventually;
use isthmus_system::{Pair, System};

/// What an installation holds of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Holdings {
    namespaces: usize,
    links_and_routes: usize,
    nft_tables: usize,
    descriptors: BTreeMap<&'static str, usize>,
    threads: BTreeMap<&'static str, usize>,
}

impl Holdings {
    /// The same kernel objects, and no more descriptors or threads: pools may have shrunk meanwhile.
    fn within(&self, before: &Self) -> bool {
        let no_more = |now: &BTreeMap<&str, usize>, before: &BTreeMap<&str, usize>| {
            now.iter().all(|(process, count)| *count <= before[process])
        };
        self.namespaces == before.namespaces
            && self.links_and_routes == before.links_and_routes
            && self.nft_tables == before.nft_tables
            && no_more(&self.descriptors, &before.descriptors)
            && no_more(&self.threads, &before.threads)
    }
}

#[test]
fn fifty_cycles_leave_everything_as_it_was() -> Result<()> {
    let mut system = System::start()?;
    // The first cycles make what is made once: caches, pools, allocator arenas.
    for round in 0..3 {
        cycle(&system, round)?;
    }
    let before = settled(&system)?;
    let memory_before = memory(&system)?;
    for round in 3..53 {
        cycle(&system, round)?;
    }
    eventually("everything back where it was", || {
        let now = holdings(&system)?;
        ensure!(now.within(&before), "before {before:?}, now {now:?}");
        Ok(())
    })?;
    let memory_after = memory(&system)?;
    println!("before 50 cycles {before:?}, after them {:?}", holdings(&system)?);
    for (process, before) in &memory_before {
        let after = memory_after[process];
        println!("{process}: resident {before} KiB before, {after} KiB after");
        ensure!(
            after <= before + before / 4 + 4096,
            "{process} grew from {before} to {after} KiB"
        );
    }
    system.stop()
}

fn cycle(system: &System, round: u32) -> Result<()> {
    Pair::joined(system, &format!("cycle{round}"))?.delete(system)
}

fn settled(system: &System) -> Result<Holdings> {
    let mut last = None;
    eventually("holdings that stay the same", || {
        let now = holdings(system)?;
        let before = last.replace(now.clone());
        ensure!(
            before.as_ref() == Some(&now) && now.namespaces <= 1,
            "still changing: {now:?}"
        );
        Ok(now)
    })
}

fn holdings(system: &System) -> Result<Holdings> {
    let namespaces = system.namespaces()?;
    let (mut links_and_routes, mut nft_tables) = (0, 0);
    for namespace in &namespaces {
        let node = isthmus_netlab::Node::existing(namespace)?;
        links_and_routes += node.command("ip", &["-o", "link"])?.lines().count();
        links_and_routes += node
            .command("ip", &["-o", "route", "show", "table", "all"])?
            .lines()
            .count();
        nft_tables += node.command("nft", &["list", "tables"])?.lines().count();
    }
    let mut descriptors = BTreeMap::new();
    let mut threads = BTreeMap::new();
    for process in ["server", "agent", "tunneld"] {
        let pid = system.pid(process)?;
        descriptors.insert(process, fs::read_dir(format!("/proc/{pid}/fd"))?.count());
        threads.insert(process, fs::read_dir(format!("/proc/{pid}/task"))?.count());
    }
    Ok(Holdings {
        namespaces: namespaces.len(),
        links_and_routes,
        nft_tables,
        descriptors,
        threads,
    })
}

fn memory(system: &System) -> Result<BTreeMap<&'static str, u64>> {
    ["server", "agent", "tunneld"]
        .into_iter()
        .map(|process| {
            let status = fs::read_to_string(format!("/proc/{}/status", system.pid(process)?))?;
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("VmRSS:"))
                .context("VmRSS")?;
            Ok((process, line.trim().trim_end_matches(" kB").parse()?))
        })
        .collect()
}
