//! How a gateway's threads depend on the cores that it may use.

use anyhow::{Context, Result};
use isthmus_netlab::{Ping, transfer};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::harness::{joined, ping};

#[test]
fn one_core_is_enough() -> Result<()> {
    // The daemon's threads inherit it.
    let this_thread = Pid::from_raw(0);
    let allowed = sched_getaffinity(this_thread)?;
    let first = (0..CpuSet::count()).find(|core| allowed.is_set(*core).unwrap_or(false));
    let mut one = CpuSet::new();
    one.set(first.context("a core that may be used")?)?;
    sched_setaffinity(this_thread, &one)?;

    let (sites, daemon, _) = joined()?;
    let (left, right) = (&sites.left.hosts[0], &sites.right.hosts[0]);
    Ping::until_answered(&left.node, right.address)?;
    ping(&sites, 50)?;
    transfer(&left.node, &right.node, right.address, 10 << 20)?;
    transfer(&right.node, &left.node, left.address, 10 << 20)?;
    for connection in daemon.connections()? {
        assert_eq!(connection.drops, [], "{connection:?}");
    }
    daemon.stop()
}
