//! What is left in the memory of the processes of a key, shared or private, that was replaced or taken back, or whose
//! connection was deleted: nothing.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use isthmus_client::{CertificateChange, Change, ConnectionChange, ConnectionOptionsChange};
use isthmus_netlab::memory::PrivateKeyForms;
use isthmus_netlab::{eventually, memory};
use isthmus_simnet::pki::{Authority, Issued, KeyChoice, gateway};
use isthmus_system::{Pair, System};
use isthmus_types::Secret;

/// Who is given the key, by its way from the API to the tunnel.
const HOLDERS: [&str; 3] = ["server", "agent", "tunneld"];

/// The forms in which a text, or a part of one, stands in the memory of who has it: as it is, and in hexadecimal, which
/// carries it to the daemon.
fn forms_of_text(text: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut digits = String::new();
    for byte in text {
        write!(digits, "{byte:02x}")?;
    }
    Ok(vec![text.to_vec(), digits.into_bytes()])
}

/// The same for a private key, which also stands there as what its text says.
fn forms_of_private_key(key: &Issued) -> Result<Vec<Vec<u8>>> {
    let forms = PrivateKeyForms::of_elliptic_curve(key.key.reveal())?;
    let mut all = forms_of_text(&forms.text)?;
    all.extend([forms.scalar, forms.number]);
    Ok(all)
}

/// How often a key stands in the memory of a process, in any of its forms.
fn places(system: &System, process: &str, forms: &[Vec<u8>]) -> Result<usize> {
    let pid = u32::try_from(system.pid(process)?)?;
    let patterns: Vec<&[u8]> = forms.iter().map(|form| &form[..]).collect();
    Ok(memory::occurrences(pid, &patterns)?.iter().sum())
}

/// Waits until every process has the key: the search is worth nothing if it finds none that is in use.
fn held(system: &System, forms: &[Vec<u8>]) -> Result<[usize; 3]> {
    let mut in_use = [0; 3];
    for (process, times) in HOLDERS.into_iter().zip(&mut in_use) {
        *times = eventually("a key in use", || {
            let times = places(system, process, forms)?;
            ensure!(times > 0, "the {process} does not have it");
            Ok(times)
        })?;
    }
    Ok(in_use)
}

/// Waits until no process has the key any more.
fn forgotten(system: &System, forms: &[Vec<u8>], in_use: [usize; 3]) -> Result<()> {
    let mut left = Vec::new();
    for process in HOLDERS {
        let gone = eventually("memory without the key", || {
            let times = places(system, process, forms)?;
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
    let first = forms_of_text(pair.psk().as_bytes())?;
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
    let second = forms_of_text(second.as_bytes())?;
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

/// Changes the certificate of each connection: to one of its own by `authority`, or to none.
fn certify(system: &System, pair: &Pair, authority: Option<&Authority>) -> Result<Vec<Issued>> {
    let mut issued = Vec::new();
    for site in &pair.sites {
        let certificate = match authority {
            Some(authority) => {
                let parameters = gateway("gateway", site.public_address.into());
                let own = authority.issue(&parameters, KeyChoice::P256);
                issued.push(own.clone());
                Change::Set(CertificateChange {
                    chain: Some(own.certificate),
                    private_key: Some(own.key),
                    authorities: Some(authority.pem()),
                    ..CertificateChange::default()
                })
            }
            None => Change::Remove,
        };
        let change = ConnectionOptionsChange {
            certificate,
            ..ConnectionOptionsChange::default()
        };
        let connection = site.connection.as_ref().context("a connection")?;
        system.call(|client| client.change_connection_options(&site.gateway, connection, &change))?;
    }
    Ok(issued)
}

#[test]
fn no_process_keeps_a_private_key_that_was_replaced_taken_back_or_whose_connection_was_deleted() -> Result<()>
{
    let mut system = System::start()?;
    let mut pair = Pair::joined(&system, "private")?;
    let processes: Vec<i32> = HOLDERS
        .into_iter()
        .map(|process| system.pid(process))
        .collect::<Result<_>>()?;
    let authority = Authority::root("Root", KeyChoice::P256);
    let in_use = |issued: &[Issued]| -> Result<Vec<_>> {
        let all = issued.iter().map(|own| {
            let forms = forms_of_private_key(own)?;
            let times = held(&system, &forms)?;
            Ok((forms, times))
        });
        all.collect()
    };
    let gone = |keys: Vec<(Vec<Vec<u8>>, [usize; 3])>| -> Result<()> {
        keys.into_iter()
            .try_for_each(|(forms, times)| forgotten(&system, &forms, times))
    };

    let first = in_use(&certify(&system, &pair, Some(&authority))?)?;
    pair.wait_until_up(&system)?;
    let second = in_use(&certify(&system, &pair, Some(&authority))?)?;
    gone(first).context("the key that was replaced")?;
    pair.wait_until_up(&system)?;
    certify(&system, &pair, None)?;
    gone(second).context("the key that was taken back")?;
    pair.wait_until_up(&system)?;
    let third = in_use(&certify(&system, &pair, Some(&authority))?)?;
    pair.wait_until_up(&system)?;
    let stood: Vec<[usize; 3]> = third.iter().map(|(_, times)| *times).collect();
    for index in [0, 1] {
        pair.disconnect(&system, index)?;
    }
    gone(third).context("the key of a connection that is deleted")?;
    for (process, before) in HOLDERS.into_iter().zip(processes) {
        ensure!(system.pid(process)? == before, "the {process} is another one");
    }
    println!("private keys stood in {stood:?} places of {HOLDERS:?}, and stand in none");
    pair.delete(&system)?;
    system.stop()
}
