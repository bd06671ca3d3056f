//! How the control plane's state holds up at size: ten thousand VPCs with forty thousand subnets.
//!
//! Fills a store, then measures in a fresh process: opening it, memory, durable creates, list pages, and planning after
//! one change. Each durable create alternates with the same one on a store that is empty but for one VPC, and with the
//! bare flush to disk that it contains.

mod fill;
mod measure;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::Parser;
use comfy_table::{Table, presets};
use serde::{Deserialize, Serialize};

/// Benchmark of model and store.
#[derive(Parser)]
struct Arguments {
    /// Print one JSON object as the last line.
    #[arg(long)]
    json: bool,
    /// VPCs to fill the store with.
    #[arg(long, default_value_t = 10_000)]
    vpcs: u32,
    /// Subnets in each VPC.
    #[arg(long, default_value_t = 4)]
    subnets: u32,
    /// Operations that are timed for each figure.
    #[arg(long, default_value_t = 400)]
    samples: usize,
    /// Directory to work in; must be on a real disk for the durable figures to mean anything.
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Measures the store in the first directory beside the one in the second, and prints the figures: what the
    /// benchmark runs in a fresh process.
    #[arg(long, hide = true, num_args = 2)]
    measure: Vec<PathBuf>,
}

/// What the full store does, and the durable operations on the one that is all but empty. Times are milliseconds.
#[derive(Debug, Serialize, Deserialize)]
struct Figures {
    open_ms: f64,
    resident_mib: f64,
    flush_ms: f64,
    create_subnet_ms: f64,
    create_subnet_p99_ms: f64,
    create_subnet_ms_empty: f64,
    create_subnet_p99_ms_empty: f64,
    create_vpc_ms: f64,
    create_vpc_p99_ms: f64,
    create_vpc_ms_empty: f64,
    create_vpc_p99_ms_empty: f64,
    list_50_ms: f64,
    list_100_ms: f64,
    list_filtered_ms: f64,
    plan_vpcs_touched: usize,
    plan_ms: f64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let [directory, beside] = arguments.measure.as_slice() {
        let figures = measure::run(directory, beside, arguments.samples)?;
        return print(&serde_json::to_string(&figures)?);
    }
    let scratch = match &arguments.directory {
        Some(directory) => tempfile::tempdir_in(directory),
        None => tempfile::tempdir(),
    }
    .context("making a working directory")?;

    let (empty, full) = (scratch.path().join("empty"), scratch.path().join("full"));
    fill::run(&empty, 1, 1)?;
    let filling = fill::run(&full, arguments.vpcs, arguments.subnets)?.as_secs_f64();
    let figures = in_fresh_process(&full, &empty, arguments.samples)?;

    let subnets = arguments.vpcs * arguments.subnets;
    print(&format!(
        "Filled with {} VPCs and {subnets} subnets in {filling:.1} s ({:.0} durable operations per second).\n{}",
        arguments.vpcs,
        f64::from(arguments.vpcs + subnets) / filling,
        table(&figures)
    ))?;
    if arguments.json {
        let mut object = serde_json::to_value(&figures)?;
        object["vpcs"] = arguments.vpcs.into();
        object["subnets"] = subnets.into();
        object["fill_seconds"] = filling.into();
        object["ratio_create_subnet"] = (figures.create_subnet_ms / figures.create_subnet_ms_empty).into();
        object["ratio_create_vpc"] = (figures.create_vpc_ms / figures.create_vpc_ms_empty).into();
        object["ratio_create_subnet_flush"] = (figures.create_subnet_ms / figures.flush_ms).into();
        print(&object.to_string())?;
    }
    Ok(())
}

fn print(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{text}").context("writing to standard output")
}

fn in_fresh_process(directory: &Path, beside: &Path, samples: usize) -> Result<Figures> {
    let output = Command::new(std::env::current_exe()?)
        .arg("--measure")
        .args([directory, beside])
        .args(["--samples", &samples.to_string()])
        .output()
        .context("starting the measuring process")?;
    anyhow::ensure!(
        output.status.success(),
        "measuring failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).context("reading the measured figures")
}

fn table(figures: &Figures) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["", "full store", "store of one VPC", "ratio"]);
    let mut pair = |what: &str, full: f64, small: f64| {
        table.add_row([
            what.to_owned(),
            format!("{full:.3} ms"),
            format!("{small:.3} ms"),
            format!("{:.2}", full / small),
        ]);
    };
    pair(
        "create a subnet, durable, median",
        figures.create_subnet_ms,
        figures.create_subnet_ms_empty,
    );
    pair(
        "create a subnet, durable, p99",
        figures.create_subnet_p99_ms,
        figures.create_subnet_p99_ms_empty,
    );
    pair(
        "create a VPC, durable, median",
        figures.create_vpc_ms,
        figures.create_vpc_ms_empty,
    );
    pair(
        "create a VPC, durable, p99",
        figures.create_vpc_p99_ms,
        figures.create_vpc_p99_ms_empty,
    );
    for (what, value) in [
        (
            "append and flush 4 KiB to a file, median",
            format!("{:.3} ms", figures.flush_ms),
        ),
        (
            "list page of 50 VPCs, median",
            format!("{:.3} ms", figures.list_50_ms),
        ),
        (
            "list page of 100 VPCs, median",
            format!("{:.3} ms", figures.list_100_ms),
        ),
        (
            "list the subnets of one VPC, median",
            format!("{:.3} ms", figures.list_filtered_ms),
        ),
        (
            "plan after one change, median",
            format!("{:.3} ms", figures.plan_ms),
        ),
        (
            "VPCs planned after one change",
            figures.plan_vpcs_touched.to_string(),
        ),
        ("open", format!("{:.0} ms", figures.open_ms)),
        (
            "resident memory after opening",
            format!("{:.1} MiB", figures.resident_mib),
        ),
    ] {
        table.add_row([what, &value]);
    }
    table
}
