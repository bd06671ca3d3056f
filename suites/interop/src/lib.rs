//! Our IPsec engine against foreign ones: a matrix of cases as data (`cases.txt`), each in a topology of its own.
//!
//! `cargo nextest run -p isthmus-interop` runs one process per case. `cargo xtask interop` runs them four at a
//! time and ends with `N passed, N failed, N skipped`; its arguments choose the cases whose names contain one of
//! them. Cases that are known to fail stand in `disabled.txt` with a reason; they run too, and one that passes is an error,
//! so that no stale entry remains.
//!
//! The peers are Debian stable's strongSwan, Debian unstable's in a root of its own, and libreswan as far as it goes where
//! the kernel has no ESP. Ours is the tunnel daemon as a process of its own: this test program started again,
//! or the program that `ISTHMUS_BIN` names.

mod certificates;
mod harness;
mod memory;
mod mismatch;
mod peer_config;
mod scenario;
mod setup;
mod table;
mod tunneld;

use std::env;
use std::process::ExitCode;

/// First argument that turns the test program into a tunnel daemon.
const TUNNELD: &str = "tunneld";

/// The test program.
pub fn main() -> ExitCode {
    start(harness::run)
}

/// The test program of the deliberate mismatches.
pub fn mismatches() -> ExitCode {
    start(mismatch::run)
}

/// The test program of the secrets in memory.
pub fn memory() -> ExitCode {
    start(memory::run)
}

/// The test program of the configurations for peers.
pub fn peer_config() -> ExitCode {
    start(peer_config::run)
}

fn start(run: impl FnOnce(&[String]) -> anyhow::Result<ExitCode>) -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let outcome = match arguments.split_first() {
        Some((first, rest)) if first == TUNNELD => tunneld::run(rest),
        _ => run(&arguments),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            harness::complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
