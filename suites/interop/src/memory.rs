//! What is left in the memory of a tunnel daemon after a connection was closed: no shared key, no private key, no key of an SA.
//!
//! Two daemons join two sites; the keys of their SAs are known from their key logs. All of them must be found while they
//! are in use, or the search is worth nothing.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use isthmus_hostplan::ConnectionPlan;
use isthmus_hostplan::tunnel::RekeyedSas;
use isthmus_netlab::isthmus::connection_between;
use isthmus_netlab::memory::PrivateKeyForms;
use isthmus_netlab::patience::{eventually, holds};
use isthmus_netlab::{Isthmus, Ping, SwanConnection, TwoSites, TwoSitesOptions, memory};
use isthmus_types::IkeVersion;

use crate::certificates;
use crate::harness::{self, say};
use crate::scenario::life::{FEW, PACE};
use crate::setup::program;
use crate::table::Authentication;

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Case {
    name: &'static str,
    key: &'static str,
    version: IkeVersion,
    ike: &'static str,
    esp: &'static str,
    certificates: bool,
    /// What ends the connection.
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It is taken out of the plan.
    Removed,
    /// It is set down: only the keys of SAs go.
    Down,
}

const PLAIN: Case = Case {
    name: "memory-gcm",
    key: "a shared key that stands nowhere else 71934",
    version: IkeVersion::V2,
    ike: "aes256gcm16-prfsha256-x25519",
    esp: "aes256gcm16-x25519",
    certificates: false,
    end: End::Removed,
};

/// What of a shared key is looked for: of one that is escaped somewhere, this is the same.
const PART_OF_KEY: std::ops::RangeFrom<usize> = 4..;

const CASES: &[Case] = &[
    PLAIN,
    Case {
        name: "memory-admin-down",
        end: End::Down,
        ..PLAIN
    },
    // JSON escapes some of it.
    Case {
        name: "memory-escaped-key",
        key: "\\ \"\t a shared key that stands nowhere else 71934",
        ..PLAIN
    },
    Case {
        name: "memory-cbc",
        ike: "aes256-sha256-prfsha256-modp2048",
        esp: "aes256-sha256-modp2048",
        ..PLAIN
    },
    Case {
        name: "memory-chacha20",
        ike: "chacha20poly1305-prfsha512-ecp384",
        esp: "chacha20poly1305",
        ..PLAIN
    },
    Case {
        name: "memory-version1",
        version: IkeVersion::V1,
        ike: "aes256-sha256-prfsha256-ecp256",
        esp: "aes256-sha256-ecp256",
        ..PLAIN
    },
    Case {
        name: "memory-certificates",
        certificates: true,
        ..PLAIN
    },
];

/// Something that is looked for.
#[derive(Debug)]
struct Wanted {
    what: String,
    bytes: Vec<u8>,
    /// Whether it must be found while in use: a key of a hash, and one that a library has as a number, is kept in another form.
    is_kept: bool,
    /// Whether it may stay.
    stays: bool,
}

/// Runs the cases whose names contain one of `arguments`, all without any.
pub fn run(arguments: &[String]) -> Result<ExitCode> {
    let request = harness::parse(arguments)?;
    let chosen: Vec<Case> = CASES
        .iter()
        .filter(|case| request.wants(case.name))
        .copied()
        .collect();
    if request.list {
        for case in &chosen {
            say(&format!("{}: test", case.name));
        }
        return Ok(ExitCode::SUCCESS);
    }
    isthmus_netlab::require()?;
    let (mut passed, mut failed) = (0, 0);
    for case in chosen {
        let start = Instant::now();
        let outcome = one(case);
        let seconds = start.elapsed().as_secs_f64();
        match outcome {
            Ok(account) => {
                passed += 1;
                say(&format!("passed  {:<28} {seconds:5.1} s  {account}", case.name));
            }
            Err(error) => {
                failed += 1;
                say(&format!("FAILED  {:<28} {seconds:5.1} s  {error:#}\n", case.name));
            }
        }
    }
    say(&format!("{passed} passed, {failed} failed, 0 skipped"));
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn one(case: Case) -> Result<String> {
    let sites = TwoSites::new(TwoSitesOptions::default())?;
    let logs = tempfile::Builder::new().prefix("istlab-keys-").tempdir()?;
    let (mut left_plan, mut right_plan) = plans(case, &sites)?;
    let private_keys = [private_key(&left_plan)?, private_key(&right_plan)?];
    // The tunnel is up only after the keys are logged.
    for plan in [&mut left_plan, &mut right_plan] {
        plan.admin_up = false;
    }
    let mut left = Isthmus::start(program()?, &sites.left, vec![left_plan])?;
    let mut right = Isthmus::start(program()?, &sites.right, vec![right_plan])?;
    for (end, name) in [(&mut left, "left"), (&mut right, "right")] {
        end.log_keys(Some(logs.path().join(name)))?;
        end.change(|connections| connections[0].admin_up = true)?;
    }
    joined(&sites, &left, &right)?;
    for sas in [RekeyedSas::Child, RekeyedSas::Ike] {
        left.rekey(sas)?;
    }
    joined(&sites, &left, &right)?;

    let mut account = Vec::new();
    for ((end, name), private_key) in [(&mut left, "left"), (&mut right, "right")]
        .into_iter()
        .zip(private_keys)
    {
        let mut wanted = keys_in(&logs.path().join(name))?;
        // Wireshark's tables have no word for ChaCha20-Poly1305, and none for IKEv1.
        ensure!(
            !wanted.is_empty() || case.esp.starts_with("chacha20"),
            "no key was logged"
        );
        let stays = case.end == End::Down;
        let secret = |what: &str, bytes: Vec<u8>| Wanted {
            what: what.to_owned(),
            bytes,
            is_kept: true,
            stays,
        };
        match private_key {
            Some(forms) => {
                wanted.push(secret("private key's text", forms.text));
                wanted.push(Wanted {
                    is_kept: false,
                    ..secret("private key's scalar", forms.scalar)
                });
                wanted.push(secret("private key's number", forms.number));
            }
            None => wanted.push(secret("shared key", case.key.as_bytes()[PART_OF_KEY].into())),
        }
        let pid = end.daemon().context("the daemon does not run")?.pid();
        let in_use = search(pid, &wanted)?;
        for (wanted, times) in wanted.iter().zip(&in_use).filter(|(wanted, _)| wanted.is_kept) {
            ensure!(*times > 0, "{} is not found even in use", wanted.what);
        }
        let places: usize = in_use.iter().sum();
        account.push((pid, wanted, places));
    }
    for end in [&mut left, &mut right] {
        match case.end {
            End::Removed => end.change(Vec::clear)?,
            End::Down => end.change(|connections| connections[0].admin_up = false)?,
        }
    }
    let places: usize = account.iter().map(|(_, _, places)| places).sum();
    for (pid, wanted, _) in &account {
        eventually("memory without secrets", || {
            let left: Vec<String> = wanted
                .iter()
                .zip(search(*pid, wanted)?)
                .filter(|(wanted, times)| *times > 0 && !wanted.stays)
                .map(|(wanted, times)| format!("{} {times} times", wanted.what))
                .collect();
            holds(left.is_empty(), || format!("still there: {}", left.join(", ")))
        })?;
    }
    Ok(format!(
        "{} secrets stood in {places} places of two daemons, none does after the close",
        account.iter().map(|(_, wanted, _)| wanted.len()).sum::<usize>()
    ))
}

fn plans(case: Case, sites: &TwoSites) -> Result<(ConnectionPlan, ConnectionPlan)> {
    let plan = |here, there| connection_between(here, there, case.key, case.ike, case.esp);
    let mut left = plan(&sites.left, &sites.right)?;
    let mut right = plan(&sites.right, &sites.left)?;
    if case.certificates {
        let mut other = SwanConnection::between(&sites.right, &sites.left, case.key, case.ike, case.esp);
        certificates::equip(&mut left, &mut other, Authentication::Ecdsa, None)?;
        right.options.certificate = Some(certificates::of_peer(&other)?);
        right.local_identity = left.peer_identity.clone();
        right.peer_identity = left.local_identity.clone();
    }
    for plan in [&mut left, &mut right] {
        plan.version = case.version;
    }
    Ok((left, right))
}

/// How the private key that a plan holds may stand in memory.
fn private_key(plan: &ConnectionPlan) -> Result<Option<PrivateKeyForms>> {
    let options = plan.options.certificate.as_ref();
    options
        .map(|options| PrivateKeyForms::of_elliptic_curve(options.private_key.reveal()))
        .transpose()
}

fn joined(sites: &TwoSites, left: &Isthmus, right: &Isthmus) -> Result<()> {
    left.wait_until_up()?;
    right.wait_until_up()?;
    let (near, far) = (&sites.left.hosts[0], &sites.right.hosts[0]);
    Ping::until_answered(&near.node, far.address)?;
    let count = Ping::exactly(&near.node, far.address, PACE, FEW)?;
    ensure!(count.lost() == 0, "lost pings: {count:?}");
    Ok(())
}

fn search(pid: u32, wanted: &[Wanted]) -> Result<Vec<usize>> {
    let patterns: Vec<&[u8]> = wanted.iter().map(|wanted| &wanted.bytes[..]).collect();
    memory::occurrences(pid, &patterns)
}

/// The keys in a key log; those of the SAs in use must be found in memory.
fn keys_in(directory: &Path) -> Result<Vec<Wanted>> {
    let mut wanted = Vec::new();
    for (table, places) in [("ikev2_decryption_table", [2, 3, 5, 6]), ("esp_sa", [5, 5, 7, 7])] {
        let text = fs::read_to_string(directory.join(table)).unwrap_or_default();
        for (line_number, line) in text.lines().filter(|line| !line.starts_with('#')).enumerate() {
            let fields: Vec<&str> = line.split(',').map(|field| field.trim_matches('"')).collect();
            let mut seen = Vec::new();
            for place in places {
                let digits = fields[place].trim_start_matches("0x");
                if digits.is_empty() || seen.contains(&place) {
                    continue;
                }
                seen.push(place);
                wanted.push(Wanted {
                    what: format!("key {place} of line {line_number} of {table}"),
                    // Without the salt, which is kept apart.
                    bytes: bytes(digits)?.into_iter().take(32).collect(),
                    is_kept: false,
                    stays: false,
                });
            }
        }
    }
    if let Some(last) = wanted.iter_mut().rfind(|wanted| wanted.what.contains("key 5 of")) {
        last.is_kept = true;
    }
    Ok(wanted)
}

fn bytes(digits: &str) -> Result<Vec<u8>> {
    (0..digits.len())
        .step_by(2)
        .map(|at| {
            let pair = digits.get(at..at + 2).context("half a byte")?;
            Ok(u8::from_str_radix(pair, 16)?)
        })
        .collect()
}
