//! Throughput of a site-to-site tunnel: ours, strongSwan's userspace ESP, and routing with no tunnel at all.
//!
//! Each contender stands in a topology of its own of the same shape (two hosts, two gateways, a router between them, all
//! on this machine), with its tunnel up all the time. The same iperf3 test runs on each in turn, for a number of rounds,
//! so that what else the machine does meets all of them; the median of the rounds counts.

mod contender;

use std::env;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::Parser;
use comfy_table::{CellAlignment, Table, presets};
use isthmus_runtime::logging;
use serde_json::json;

use contender::{Contender, Kind};

/// First argument that turns this program into a tunnel daemon.
const TUNNELD: &str = "tunneld";
/// What `--check` demands of our rate over strongSwan's.
const LEAST_OVER_STRONGSWAN: f64 = 10.0;
/// What `--check` demands of our rate over that of plain routing.
const LEAST_OVER_PLAIN: f64 = 0.25;

#[derive(Parser)]
#[command(about = "Measures TCP throughput of plain routing, Isthmus and strongSwan's userspace ESP")]
struct Arguments {
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
    /// Fail unless the ratios reach what the project promises
    #[arg(long)]
    check: bool,
    /// Number of rounds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
    /// Seconds counted in each test
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    seconds: u16,
    /// TCP connections at once
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=100))]
    flows: u8,
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
    let contenders = Kind::ALL
        .into_iter()
        .map(Contender::start)
        .collect::<Result<Vec<_>>>()?;
    let mut rates = vec![Vec::new(); contenders.len()];
    let mut out = io::stdout();
    for round in 1..=arguments.rounds {
        for (contender, rates) in contenders.iter().zip(&mut rates) {
            let rate = contender.measure(arguments.flows, Duration::from_secs(arguments.seconds.into()))?;
            writeln!(
                out,
                "round {round}: {:<24} {rate:7.3} Gbit/s",
                contender.kind().title()
            )?;
            rates.push(rate);
        }
    }
    for contender in &contenders {
        contender.verify()?;
    }
    let median_of = |kind: Kind| {
        contenders
            .iter()
            .zip(&rates)
            .find(|(contender, _)| contender.kind() == kind)
            .map_or(f64::NAN, |(_, rates)| median(rates))
    };
    let plain = median_of(Kind::Plain);
    let isthmus = median_of(Kind::Isthmus);
    let strongswan = median_of(Kind::StrongSwan);
    ensure!(
        plain > 0.0 && isthmus > 0.0 && strongswan > 0.0,
        "a contender moved nothing"
    );
    let (over_strongswan, over_plain) = (isthmus / strongswan, isthmus / plain);

    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["", "median", "least", "most", "of plain", "of strongSwan"]);
    for (contender, rates) in contenders.iter().zip(&rates) {
        let middle = median(rates);
        table.add_row([
            contender.kind().title().to_owned(),
            format!("{middle:.2} Gbit/s"),
            format!("{:.2}", rates.iter().copied().fold(f64::INFINITY, f64::min)),
            format!("{:.2}", rates.iter().copied().fold(0.0, f64::max)),
            format!("{:.0} %", 100.0 * middle / plain),
            format!("{:.1}x", middle / strongswan),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    writeln!(out, "\n{table}")?;
    writeln!(
        out,
        "{} round(s) of {} s, {} TCP connection(s), aes128gcm16-x25519, 1500-byte links",
        arguments.rounds, arguments.seconds, arguments.flows
    )?;
    if arguments.json {
        let summary = json!({
            "plain_gbps": plain,
            "isthmus_gbps": isthmus,
            "strongswan_gbps": strongswan,
            "ratio_strongswan": over_strongswan,
            "ratio_plain": over_plain,
        });
        writeln!(out, "{summary}")?;
    }
    let kept = over_strongswan >= LEAST_OVER_STRONGSWAN && over_plain >= LEAST_OVER_PLAIN;
    if arguments.check && !kept {
        writeln!(
            io::stderr(),
            "{over_strongswan:.1}x of strongSwan ({LEAST_OVER_STRONGSWAN}x demanded), {over_plain:.2} of plain routing \
             ({LEAST_OVER_PLAIN} demanded)"
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle_or_the_mean_of_both_middles() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
    }
}
