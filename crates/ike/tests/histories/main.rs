//! Random histories of two ends: a bad network, a NAT that forgets, sleeps, restarts, changes of the configuration and
//! rekeys from either end at any moment. Then the network turns clean, and the ends must agree. In one history of eight
//! the ends differ in something that keeps the tunnel down: then they must say what it is, and agree once it is removed.
//!
//! `ISTHMUS_HISTORIES=10000` runs that many, `ISTHMUS_SEED=7` runs just that one and prints what happens in it. Without
//! either a few hundred run. A seed that fails is printed.

mod difference;
mod history;

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use isthmus_types::IkeVersion;

use crate::history::History;

const DEFAULT_COUNT: u64 = 300;
/// Versions that the histories are run with.
const VERSIONS: [IkeVersion; 2] = [IkeVersion::V1, IkeVersion::V2];

#[test]
fn every_history_ends_with_one_ike_sa_and_one_child_for_each_pair_or_with_the_reason_and_leaks_nothing() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("ISTHMUS_SEED") {
        for version in VERSIONS {
            let mut history = History::new(seed, version);
            history.narrate();
            if let Err(what) = history.run() {
                history.print_journal();
                panic!("{what}");
            }
        }
        return;
    }
    let count = number("ISTHMUS_HISTORIES").unwrap_or(DEFAULT_COUNT);
    let next = AtomicU64::new(0);
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let failures: Vec<String> = thread::scope(|scope| {
        let handles: Vec<_> = (0..workers).map(|_| scope.spawn(|| work(&next, count))).collect();
        handles
            .into_iter()
            .flat_map(|handle| handle.join().expect("a worker ends"))
            .collect()
    });
    let mut text = String::new();
    for failure in failures.iter().take(20) {
        let _ = writeln!(text, "{failure}");
    }
    assert!(
        failures.is_empty(),
        "{} of {count} histories failed; replay one with ISTHMUS_SEED\n{text}",
        failures.len()
    );
}

fn work(next: &AtomicU64, count: u64) -> Vec<String> {
    let mut failures = Vec::new();
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= count {
            return failures;
        }
        for version in VERSIONS {
            let outcome = catch_unwind(AssertUnwindSafe(|| History::new(seed, version).run()));
            match outcome {
                Ok(Ok(())) => {}
                Ok(Err(what)) => failures.push(format!("seed {seed}, {version:?}: {what}")),
                Err(panic) => {
                    let what = panic
                        .downcast_ref::<String>()
                        .cloned()
                        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                    let what = what.unwrap_or_default();
                    failures.push(format!("seed {seed}, {version:?}: panic: {what}"));
                }
            }
        }
    }
}
