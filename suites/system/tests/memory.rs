//! What is left in the memory of the processes of a shared key that was replaced, or whose connection was deleted: nothing.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use isthmus_client::ConnectionChange;
use isthmus_netlab::{eventually, memory};
use isthmus_system::{Pair, System};
use isthmus_types::Secret;

/// Who is given the key, by its way from the API to the tunnel.
const HOLDERS: [&str; 3] = ["server", "agent", "tunneld"];

/// How often a key stands in the memory of a process, as it is and in hexadecimal, which carries it to the daemon.
fn places(system: &System, process: &str, key: &str) -> Result<usize> {
    let pid = u32::try_from(system.pid(process)?)?;
    let mut digits = String::new();
    for byte in key.bytes() {
        write!(digits, "{byte:02x}")?;
    }
    let found = memory::occurrences(pid, &[key.as_bytes(), digits.as_bytes()])?;
    Ok(found.iter().sum())
}

/// Waits until every process has the key: the search is worth nothing if it finds none that is in use.
fn held(system: &System, key: &str) -> Result<[usize; 3]> {
    let mut in_use = [0; 3];
    for (process, times) in HOLDERS.into_iter().zip(&mut in_use) {
        *times = eventually("a key in use", || {
            let times = places(system, process, key)?;
            ensure!(times > 0, "the {process} does not have it");
            Ok(times)
        })?;
    }
    Ok(in_use)
}

/// Waits until no process has the key any more.
fn forgotten(system: &System, key: &str, in_use: [usize; 3]) -> Result<()> {
    let mut left = Vec::new();
    for process in HOLDERS {
        let gone = eventually("memory without the key", || {
            let times = places(system, process, key)?;
            ensure!(times == 0, "the {process} has it in {times} places");
            Ok(())
        });
        if let Err(error) = gone {
            left.push(format!("{error:#}"));
        }
    }
    ensure!(left.is_empty(), "{}; in use: {in_use:?}", left.join("; "));
    Ok(())
}

#[test]
fn no_process_keeps_a_key_that_was_replaced_or_whose_connection_was_deleted() -> Result<()> {
    let mut system = System::start()?;
    let mut pair = Pair::joined(&system, "memory")?;
    let processes: Vec<i32> = HOLDERS
        .into_iter()
        .map(|process| system.pid(process))
        .collect::<Result<_>>()?;
    let first = pair.psk().to_owned();
    let first_in_use = held(&system, &first)?;

    let second = format!("another-key-{}", std::process::id());
    for site in &pair.sites {
        let change = ConnectionChange {
            psk: Some(Secret::new(second.clone())),
            ..ConnectionChange::default()
        };
        let connection = site.connection.as_ref().context("a connection")?;
        system.call(|client| client.change_connection(&site.gateway, connection, &change))?;
    }
    let second_in_use = held(&system, &second)?;
    forgotten(&system, &first, first_in_use).context("the key that was replaced")?;
    pair.wait_until_up(&system)?;

    for index in [0, 1] {
        pair.disconnect(&system, index)?;
    }
    forgotten(&system, &second, second_in_use).context("the key of a connection that is deleted")?;
    for (process, before) in HOLDERS.into_iter().zip(processes) {
        ensure!(system.pid(process)? == before, "the {process} is another one");
    }
    println!("keys stood in {first_in_use:?} and {second_in_use:?} places of {HOLDERS:?}, and stand in none");
    pair.delete(&system)?;
    system.stop()
}
