//! Deliberate mismatches: each row changes one thing, and the doctor must name it.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use isthmus_hostplan::diagnosis::FindingReport;
use isthmus_hostplan::tunnel::RekeyedSas;
use isthmus_hostplan::{ConnectionPlan, PeerEndpoint};
use isthmus_netlab::isthmus::{Program, connection_between};
use isthmus_netlab::patience::{eventually_within, stretched};
use isthmus_netlab::strongswan::SwanCertificate;
use isthmus_netlab::{Isthmus, Nat, Site, StrongSwan, SwanConnection, TwoSites, TwoSitesOptions};
use isthmus_types::{Cidr, IkeVersion, Secret};

use crate::harness::{self, say};

const TABLE: &str = include_str!("../mismatches.txt");
const KEY: &str = "one key for both, and for nobody else";
const IKE: &str = "aes128-sha256-prfsha256-ecp256";
const ESP: &str = "aes128-sha256-ecp256";
/// How long the doctor may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// One row.
#[derive(Debug)]
struct Mismatch {
    name: String,
    responds: bool,
    settings: Vec<(String, String)>,
    field: String,
    says: String,
}

/// What happens beside the two configurations.
#[derive(Debug, Default)]
struct Surroundings {
    drops: Vec<String>,
    nat: bool,
    our_rekey: bool,
    peers_rekeys: u32,
}

/// Runs the rows whose names contain one of `arguments`, all without any.
pub fn run(arguments: &[String]) -> Result<ExitCode> {
    let request = harness::parse(arguments)?;
    let chosen: Vec<Mismatch> = rows()?
        .into_iter()
        .filter(|row| request.wants(&row.name))
        .collect();
    if request.list {
        for row in &chosen {
            say(&format!("{}: test", row.name));
        }
        return Ok(ExitCode::SUCCESS);
    }
    isthmus_netlab::require()?;
    let (mut passed, mut failed) = (0, 0);
    for row in &chosen {
        let start = Instant::now();
        let outcome = one(row);
        let seconds = start.elapsed().as_secs_f64();
        match outcome {
            Ok(found) => {
                passed += 1;
                say(&format!(
                    "passed  {:<22} {seconds:5.1} s  {}: {}",
                    row.name, found.field, found.sentence
                ));
            }
            Err(error) => {
                failed += 1;
                say(&format!("FAILED  {:<22} {seconds:5.1} s  {error:?}\n", row.name));
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

fn rows() -> Result<Vec<Mismatch>> {
    TABLE
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| row(line).with_context(|| format!("in the row {line:?} of mismatches.txt")))
        .collect()
}

fn row(line: &str) -> Result<Mismatch> {
    let columns: Vec<&str> = line.split_whitespace().collect();
    let &[name, role, settings, field, says] = columns.as_slice() else {
        bail!("{} columns where five should be", columns.len());
    };
    Ok(Mismatch {
        name: name.to_owned(),
        responds: match role {
            "initiate" => false,
            "respond" => true,
            other => bail!("no role {other:?}"),
        },
        settings: settings
            .split(',')
            .map(|setting| {
                let (what, value) = setting.split_once('=').unwrap_or((setting, ""));
                (what.to_owned(), value.to_owned())
            })
            .collect(),
        field: field.to_owned(),
        says: says.replace('_', " "),
    })
}

fn one(row: &Mismatch) -> Result<FindingReport> {
    let nat = row.settings.iter().any(|(what, _)| what == "nat");
    let sites = TwoSites::new(TwoSitesOptions {
        subnets: 2,
        left_nat: if nat { Nat::Masquerade } else { Nat::Absent },
        ..TwoSitesOptions::default()
    })?;
    let (ours, theirs) = (&sites.left, &sites.right);
    let mut plan = connection_between(ours, theirs, KEY, IKE, ESP)?;
    let mut connection = SwanConnection::between(theirs, ours, KEY, IKE, ESP);
    let mut around = Surroundings::default();
    for (what, value) in &row.settings {
        change(what, value, &mut plan, &mut connection, &mut around)
            .with_context(|| format!("the setting {what}={value}"))?;
    }
    if row.responds {
        refuse_our_beginnings(&sites, ours)?;
    }
    for what in &around.drops {
        drop_on_the_way(&sites, what)?;
    }
    let peer = StrongSwan::start(&theirs.gateway, connection)?;
    let isthmus = Isthmus::start(
        Program {
            path: std::env::current_exe()?,
            arguments: vec![crate::TUNNELD.to_owned()],
        },
        ours,
        vec![plan],
    )?;
    if row.responds {
        peer.start_initiating()?;
    }
    let logs = || format!("{}\n{}", isthmus.log_tail(), peer.log_tail());
    if around.our_rekey || around.peers_rekeys > 0 {
        isthmus.wait_until_up().with_context(logs)?;
    }
    if around.our_rekey {
        isthmus.rekey(RekeyedSas::Child)?;
    }
    for _ in 0..around.peers_rekeys {
        let before = isthmus
            .connection()?
            .diagnosis
            .children
            .first()
            .map(|child| child.inbound_spi);
        peer.rekey_child()?;
        if around.peers_rekeys > 1 {
            eventually_within(stretched(PATIENCE), "the peer's rekey to be done", || {
                let children = isthmus.connection()?.diagnosis.children;
                let [child] = children.as_slice() else {
                    bail!("there are {children:?}");
                };
                ensure!(Some(child.inbound_spi) != before, "it is the old one");
                Ok(())
            })
            .with_context(logs)?;
        }
    }
    eventually_within(stretched(PATIENCE), "the doctor's finding", || {
        let findings = isthmus.connection()?.diagnosis.findings;
        let gravest = findings.first().context("nothing was found")?;
        ensure!(
            gravest.field == row.field && gravest.sentence.contains(&row.says),
            "expected {} with {:?}, found {findings:#?}",
            row.field,
            row.says
        );
        Ok(gravest.clone())
    })
    .with_context(logs)
}

fn change(
    what: &str,
    value: &str,
    plan: &mut ConnectionPlan,
    peer: &mut SwanConnection,
    around: &mut Surroundings,
) -> Result<()> {
    match what {
        "none" => {}
        "our.address" => {
            plan.peer = PeerEndpoint::Address {
                address: value.parse()?,
            };
        }
        "our.esn" => plan.options.extended_sequence_numbers = false,
        "our.esp" => plan.esp_proposals = vec![isthmus_netlab::proposal::esp(value)?],
        "our.fragments" => plan.options.fragment_size = 0,
        "our.ike" => plan.ike_proposals = vec![isthmus_netlab::proposal::ike(value)?],
        "our.ranges" => {
            let range = |side: u8, number: u8| format!("fd00:{side}:0:{number}::/64").parse::<Cidr>();
            let ranges = |side| {
                (0..value.parse::<u8>()?)
                    .map(|number| Ok(range(side, number)?))
                    .collect()
            };
            let both: [Result<Vec<Cidr>>; 2] = [ranges(1), ranges(2)];
            let [ours, theirs] = both;
            (plan.local_cidrs, plan.peer_cidrs) = (ours?, theirs?);
        }
        "peer.auth" => peer.certificate = Some(certificate()?),
        "peer.esp" => peer.esp_proposals = vec![value.to_owned()],
        "peer.expects" => peer.remote_id = value.to_owned(),
        "peer.id" => peer.local_id = value.to_owned(),
        "peer.ike" => peer.ike_proposals = vec![value.to_owned()],
        "peer.local" => peer.local_ranges = vec![value.parse()?],
        "peer.mode" => {
            // Transport mode is between the gateways themselves.
            let host = |address: std::net::IpAddr| format!("{address}/32").parse::<Cidr>();
            let (there, here) = (host(peer.local)?, host(peer.remote)?);
            (peer.local_ranges, peer.remote_ranges) = (vec![there], vec![here]);
            peer.transport_mode = true;
        }
        "peer.psk" => peer.psk = Secret::new(value.to_owned()),
        "peer.remote" => peer.remote_ranges = vec![value.parse()?],
        "peer.version" => peer.version = IkeVersion::V1,
        "drop" => around.drops = value.split('+').map(str::to_owned).collect(),
        "nat" => around.nat = true,
        "rekey" => match value.strip_prefix("peers") {
            Some(times) => around.peers_rekeys = times.parse()?,
            None => around.our_rekey = true,
        },
        other => bail!("there is no setting {other:?}"),
    }
    Ok(())
}

/// A certificate that the peer made for itself.
fn certificate() -> Result<SwanCertificate> {
    let directory = tempfile::tempdir()?;
    let (key, chain) = (directory.path().join("key"), directory.path().join("certificate"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=peer", "-addext", "subjectAltName=IP:203.0.113.2"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&chain)
        .output()
        .context("running openssl")?;
    ensure!(made.status.success(), "openssl made no certificate");
    let chain = std::fs::read_to_string(chain)?;
    Ok(SwanCertificate {
        private_key: Secret::new(std::fs::read_to_string(key)?),
        authorities: vec![chain.clone()],
        chain: vec![chain],
        revocation_lists: Vec::new(),
    })
}

fn drop_on_the_way(sites: &TwoSites, what: &str) -> Result<()> {
    let rule = match what {
        "500" => "udp dport 500 drop",
        "4500" => "udp dport 4500 drop",
        "fragments" => "ip frag-off & 0x3fff != 0 drop",
        other => bail!("nothing to drop by the name of {other:?}"),
    };
    sites.internet.nft(&format!(
        "table ip blocked{what} {{
            chain forward {{
                type filter hook forward priority filter;
                {rule}
            }}
        }}"
    ))
}

/// Drops each IKE_SA_INIT request of ours on its way: exchange type 34 without the response flag, after the UDP header,
/// and after the marker of four zero bytes on port 4500 (RFC 7296 section 3.1, RFC 3948 section 2.2).
fn refuse_our_beginnings(sites: &TwoSites, ours: &Site) -> Result<()> {
    sites.internet.nft(&format!(
        "table ip beginnings {{
            chain forward {{
                type filter hook forward priority filter;
                ip saddr {address} udp dport 500 @th,208,8 34 @th,216,8 & 0x20 == 0 drop
                ip saddr {address} udp dport 4500 @th,64,32 0 @th,240,8 34 @th,248,8 & 0x20 == 0 drop
            }}
        }}",
        address = ours.public_address
    ))
}
