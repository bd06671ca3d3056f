//! Speed of a site-to-site tunnel: ours, wireguard-go, strongSwan's userspace ESP, and routing with no tunnel at all.
//!
//! Each contender stands in a topology of its own of the same shape (two hosts, two gateways, a router between them, all
//! on this machine), with its tunnel up all the time. The same tests run on each in turn, for a number of rounds, so that
//! what else the machine does meets all of them; the median of the rounds counts.

mod contender;
mod packets;
mod results;
mod wireguard;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use isthmus_runtime::logging;

use contender::{Contender, Kind, Measure, Programs};
use results::Results;

/// First argument that turns this program into a tunnel daemon.
const TUNNELD: &str = "tunneld";
/// Where the system keeps the default congestion control of TCP.
const CONGESTION_CONTROL: &str = "/proc/sys/net/ipv4/tcp_congestion_control";

#[derive(Parser)]
#[command(about = "Measures plain routing, Isthmus, wireguard-go and strongSwan's userspace ESP")]
struct Arguments {
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
    /// Fail unless the figures reach what the project promises
    #[arg(long)]
    check: bool,
    /// Number of rounds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
    /// Seconds counted in each test
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    seconds: u16,
    /// One round of one second
    #[arg(long, conflicts_with_all = ["rounds", "seconds", "check"])]
    quick: bool,
    /// Only these measures
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Measure>,
    /// Only these contenders
    #[arg(long, value_enum, value_delimiter = ',')]
    contenders: Vec<Kind>,
    /// Another build of this benchmark, whose tunnel daemon is measured too
    #[arg(long)]
    other: Option<PathBuf>,
    /// Child SAs for the same traffic (RFC 9611), each on threads of its own; for Isthmus itself, not for the other build
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    lanes: u8,
    /// How TCP of the hosts limits what it sends, instead of this system's default: one of
    /// net.ipv4.tcp_allowed_congestion_control
    #[arg(long)]
    congestion_control: Option<String>,
    /// The wireguard-go to measure
    #[arg(long, default_value = "wireguard-go")]
    wireguard_go: PathBuf,
}

fn main() -> Result<ExitCode> {
    let mut arguments = env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == TUNNELD) {
        return tunneld(arguments);
    }
    measure(&Arguments::parse())
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
    let (rounds, seconds) = if arguments.quick {
        (1, 1)
    } else {
        (arguments.rounds, arguments.seconds)
    };
    let programs = Programs {
        congestion_control: arguments.congestion_control.clone(),
        lanes: arguments.lanes,
        other: arguments.other.clone(),
        wireguard_go: arguments.wireguard_go.clone(),
    };
    let contenders = kinds(arguments)
        .into_iter()
        .map(|kind| Contender::start(kind, &programs))
        .collect::<Result<Vec<_>>>()?;
    let measures: Vec<Measure> = Measure::ALL
        .into_iter()
        .filter(|measure| arguments.only.is_empty() || arguments.only.contains(measure))
        .collect();
    let mut results = Results::default();
    let mut out = io::stdout();
    for round in 1..=rounds {
        for &measure in &measures {
            for contender in &contenders {
                let kind = contender.kind();
                let value = contender.measure(measure, Duration::from_secs(seconds.into()))?;
                writeln!(
                    out,
                    "round {round}: {:<12} {:<24} {:>12}",
                    measure.title(),
                    kind.title(),
                    measure.show(value)
                )?;
                results.add(kind, measure, value);
            }
        }
    }
    for contender in &contenders {
        contender.verify()?;
    }
    writeln!(out, "\n{}", results.table())?;
    writeln!(
        out,
        "{rounds} round(s) of {seconds} s, aes128gcm16-x25519, 1500-byte links, TCP with {}",
        congestion_control(arguments)?
    )?;
    if arguments.json {
        writeln!(out, "{}", results.summary())?;
    }
    let shortcomings = results.shortcomings();
    if arguments.check && !shortcomings.is_empty() {
        for shortcoming in shortcomings {
            writeln!(io::stderr(), "{shortcoming}")?;
        }
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// The one asked for; otherwise this system's.
fn congestion_control(arguments: &Arguments) -> Result<String> {
    if let Some(name) = &arguments.congestion_control {
        return Ok(name.clone());
    }
    let name =
        fs::read_to_string(CONGESTION_CONTROL).with_context(|| format!("reading {CONGESTION_CONTROL}"))?;
    Ok(name.trim().to_owned())
}

/// Those asked for; otherwise all that can be measured.
fn kinds(arguments: &Arguments) -> Vec<Kind> {
    if !arguments.contenders.is_empty() {
        return arguments.contenders.clone();
    }
    let mut kinds = vec![Kind::Plain, Kind::Isthmus, Kind::WireguardGo, Kind::Strongswan];
    if arguments.other.is_some() {
        kinds.insert(2, Kind::Other);
    }
    kinds
}
