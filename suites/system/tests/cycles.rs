//! What is made and deleted again and again leaves nothing behind.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use isthmus_netlab::{eventually, resident};
use isthmus_system::{Pair, System};

const CYCLES: usize = 50;

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
    /// The same kernel objects, and no more descriptors or threads. Pools may have shrunk meanwhile, and idle HTTP
    /// connections of the test's own client come and go: fewer than one object per ten cycles is no leak.
    fn within(&self, before: &Self) -> bool {
        let no_more = |now: &BTreeMap<&str, usize>, before: &BTreeMap<&str, usize>| {
            now.iter()
                .all(|(process, count)| *count <= before[process] + CYCLES / 10)
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
    for round in 3..3 + CYCLES {
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

fn cycle(system: &System, round: usize) -> Result<()> {
    Pair::joined(system, &format!("cycle{round}"))?.delete(system)
}

fn settled(system: &System) -> Result<Holdings> {
    let mut seen = Vec::new();
    eventually("holdings that stay the same", || {
        seen.push(holdings(system)?);
        let steady = seen
            .last_chunk::<20>()
            .is_some_and(|last| last.iter().all(|one| *one == last[0]));
        let now = seen.last().cloned().context("one was pushed")?;
        ensure!(steady && now.namespaces <= 1, "still changing: {now:?}");
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
        .map(|process| Ok((process, resident(system.pid(process)?.cast_unsigned())?)))
        .collect()
}
