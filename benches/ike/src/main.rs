//! IKE at scale: handshakes a second as responder, ours against strongSwan's with the same initiators, and what a thousand
//! tunnels cost one daemon.
//!
//! The initiators are a crowd of peers in one process, each with its own address: INIT, AUTH with a Child SA, DELETE, and
//! again. Both responders are whole gateways: the daemon installs each Child SA into its packet plane. Rounds alternate, so
//! that what else the machine does meets both; the median counts.

mod crowd;
mod gateway;
mod layout;
mod scale;

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::Parser;
use comfy_table::{CellAlignment, Table, presets};
use isthmus_hostplan::EstablishMode;
use isthmus_runtime::logging;
use serde_json::{Map, Value, json};

use gateway::Stage;

/// First argument that turns this program into a tunnel daemon.
const TUNNELD: &str = "tunneld";
/// First argument that turns this program into a crowd of peers.
const CROWD: &str = "crowd";
/// Groups of the key exchange that are measured.
const GROUPS: [&str; 3] = ["modp2048", "ecp256", "x25519"];
const ESP: &str = "aes128gcm16";
/// What `--check` demands.
const LEAST_OVER_STRONGSWAN: f64 = 1.5;
const MOST_KIB: f64 = 64.0;
const MOST_SETTLE_SECONDS: f64 = 30.0;
const MOST_IDLE_PERCENT: f64 = 1.0;

#[derive(Parser)]
#[command(about = "Measures IKE handshakes a second against strongSwan, and what many tunnels cost")]
struct Arguments {
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
    /// Fail unless the figures are what the project promises
    #[arg(long)]
    check: bool,
    /// Number of rounds
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
    /// Seconds of each test
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Peers that shake hands at the same time
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=200))]
    peers: u16,
    /// Tunnels that are up at the same time; 0 leaves that part out
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(0..=20000))]
    tunnels: u16,
    /// Seconds in which the idle tunnels are watched
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    idle: u64,
}

#[derive(Parser)]
struct CrowdArguments {
    #[command(flatten)]
    orders: crowd::Orders,
}

fn main() -> Result<ExitCode> {
    let mut arguments = env::args_os().skip(1);
    match arguments.next() {
        Some(first) if first == TUNNELD => tunneld(arguments),
        Some(first) if first == CROWD => {
            let own = env::args_os().take(1);
            crowd::run(&CrowdArguments::parse_from(own.chain(arguments)).orders)?;
            Ok(ExitCode::SUCCESS)
        }
        _ => measure(&Arguments::parse()),
    }
}

/// Runs as our tunnel daemon: `--socket PATH`.
fn tunneld(mut arguments: impl Iterator<Item = OsString>) -> Result<ExitCode> {
    let (Some(_), Some(socket)) = (arguments.next(), arguments.next()) else {
        bail!("expected --socket PATH");
    };
    logging::start("info")?;
    isthmus_tunnel::run(Path::new(&socket))?;
    Ok(ExitCode::SUCCESS)
}

fn measure(arguments: &Arguments) -> Result<ExitCode> {
    let mut out = io::stdout();
    let mut summary = Map::new();
    let mut kept = true;
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["", "Isthmus", "strongSwan", "ratio"]);
    let mut rates: BTreeMap<&str, [Vec<f64>; 2]> = BTreeMap::new();
    for group in GROUPS {
        let ike = format!("aes128gcm16-prfsha256-{group}");
        let ours = Stage::new(arguments.peers)?;
        let _daemon = ours.isthmus(arguments.peers, &ike, ESP, EstablishMode::PeerOnly)?;
        let theirs = Stage::new(arguments.peers)?;
        let _charon = theirs.strongswan(&ike, ESP)?;
        for round in 1..=arguments.rounds {
            for (place, stage) in [&ours, &theirs].into_iter().enumerate() {
                let account = stage
                    .crowd(arguments.peers, &ike, ESP, Some(arguments.seconds))?
                    .account()?;
                ensure!(account.handshakes > 0, "no handshake with {group}");
                let rate = account.handshakes as f64 / account.seconds;
                let name = ["Isthmus", "strongSwan"][place];
                writeln!(
                    out,
                    "round {round}: {group:<9} {name:<11} {rate:8.0} handshakes/s"
                )?;
                rates.entry(group).or_default()[place].push(rate);
            }
        }
    }
    for group in GROUPS {
        let [ours, theirs] = rates.entry(group).or_default();
        let (ours, theirs) = (median(ours), median(theirs));
        let ratio = ours / theirs;
        kept &= ratio >= LEAST_OVER_STRONGSWAN;
        table.add_row([
            group.to_owned(),
            format!("{ours:.0}/s"),
            format!("{theirs:.0}/s"),
            format!("{ratio:.2}x"),
        ]);
        summary.insert(format!("isthmus_{group}"), json!(ours));
        summary.insert(format!("strongswan_{group}"), json!(theirs));
        summary.insert(format!("ratio_{group}"), json!(ratio));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    writeln!(
        out,
        "\n{table}\n{} round(s) of {} s, {} peers at a time, pre-shared keys, one Child SA each",
        arguments.rounds, arguments.seconds, arguments.peers
    )?;
    if arguments.tunnels > 0 {
        let scale = scale::measure(arguments.tunnels, Duration::from_secs(arguments.idle))?;
        writeln!(
            out,
            "{} tunnels: up after {:.1} s, {:.1} KiB each, {:.2} % of a core while idle",
            scale.tunnels, scale.settle_seconds, scale.idle_kib_per_tunnel, scale.idle_cpu_percent
        )?;
        kept &= scale.settle_seconds <= MOST_SETTLE_SECONDS
            && scale.idle_kib_per_tunnel <= MOST_KIB
            && scale.idle_cpu_percent <= MOST_IDLE_PERCENT;
        if let Value::Object(values) = json!(scale) {
            summary.extend(values);
        }
    }
    if arguments.json {
        writeln!(out, "{}", Value::Object(summary))?;
    }
    if arguments.check && !kept {
        writeln!(
            io::stderr(),
            "demanded: {LEAST_OVER_STRONGSWAN}x of strongSwan for each group, {MOST_SETTLE_SECONDS} s, {MOST_KIB} KiB, \
             {MOST_IDLE_PERCENT} %"
        )?;
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn median(rates: &[f64]) -> f64 {
    let mut sorted = rates.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        length if length % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}
