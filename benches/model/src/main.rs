//! How the control plane's state holds up at size: ten thousand VPCs with forty thousand subnets.
//!
//! Fills a store, then measures in a fresh process: opening it, memory, durable creates, list pages, and planning after
//! one change. The same durable creates are measured on a store that is empty but for one VPC, and beside both the
//! bare flush to disk that each durable create contains.

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
    /// Measures the store in this directory and prints the figures: what the benchmark runs in a fresh process.
    #[arg(long, hide = true)]
    measure: Option<PathBuf>,
}

/// What a store of one size does. Times are milliseconds.
#[derive(Debug, Serialize, Deserialize)]
struct Figures {
    vpcs: usize,
    subnets: usize,
    open_ms: f64,
    resident_mib: f64,
    flush_ms: f64,
    create_subnet_ms: f64,
    create_subnet_p99_ms: f64,
    create_vpc_ms: f64,
    create_vpc_p99_ms: f64,
    list_50_ms: f64,
    list_100_ms: f64,
    list_filtered_ms: f64,
    plan_vpcs_touched: usize,
    plan_ms: f64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(directory) = &arguments.measure {
        let figures = measure::run(directory, arguments.samples)?;
        return print(&serde_json::to_string(&figures)?);
    }
    let scratch = match &arguments.directory {
        Some(directory) => tempfile::tempdir_in(directory),
        None => tempfile::tempdir(),
    }
    .context("making a working directory")?;

    let (empty, full) = (scratch.path().join("empty"), scratch.path().join("full"));
    fill::run(&empty, 1, 1)?;
    let before = in_fresh_process(&empty, arguments.samples)?;
    let filling = fill::run(&full, arguments.vpcs, arguments.subnets)?;
    let after = in_fresh_process(&full, arguments.samples)?;

    print(&format!(
        "Filled with {} VPCs and {} subnets in {:.1} s ({:.0} durable operations per second).\n{}",
        arguments.vpcs,
        arguments.vpcs * arguments.subnets,
        filling.as_secs_f64(),
        f64::from(arguments.vpcs * (arguments.subnets + 1)) / filling.as_secs_f64(),
        table(&before, &after)
    ))?;
    if arguments.json {
        print(&serde_json::to_string(&serde_json::json!({
            "vpcs": arguments.vpcs,
            "subnets": arguments.vpcs * arguments.subnets,
            "fill_seconds": filling.as_secs_f64(),
            "open_ms": after.open_ms,
            "resident_mib": after.resident_mib,
            "resident_mib_empty": before.resident_mib,
            "create_subnet_ms": after.create_subnet_ms,
            "create_subnet_p99_ms": after.create_subnet_p99_ms,
            "create_subnet_ms_empty": before.create_subnet_ms,
            "create_vpc_ms": after.create_vpc_ms,
            "create_vpc_p99_ms": after.create_vpc_p99_ms,
            "create_vpc_ms_empty": before.create_vpc_ms,
            "flush_ms": after.flush_ms,
            "list_50_ms": after.list_50_ms,
            "list_100_ms": after.list_100_ms,
            "list_filtered_ms": after.list_filtered_ms,
            "plan_vpcs_touched": after.plan_vpcs_touched,
            "plan_ms": after.plan_ms,
            "ratio_create_subnet": after.create_subnet_ms / before.create_subnet_ms,
            "ratio_create_vpc": after.create_vpc_ms / before.create_vpc_ms,
        }))?)?;
    }
    Ok(())
}

fn print(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{text}").context("writing to standard output")
}

fn in_fresh_process(directory: &Path, samples: usize) -> Result<Figures> {
    let output = Command::new(std::env::current_exe()?)
        .arg("--measure")
        .arg(directory)
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

fn table(before: &Figures, after: &Figures) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    let column = |figures: &Figures| format!("{} VPCs, {} subnets", figures.vpcs, figures.subnets);
    table.set_header(["", &column(before), &column(after), "ratio"]);
    let mut times = |what: &str, value: fn(&Figures) -> f64| {
        let (small, large) = (value(before), value(after));
        table.add_row([
            what.to_owned(),
            format!("{small:.4} ms"),
            format!("{large:.4} ms"),
            format!("{:.2}", large / small),
        ]);
    };
    times("create a subnet, durable, median", |figures| {
        figures.create_subnet_ms
    });
    times("create a subnet, durable, p99", |figures| {
        figures.create_subnet_p99_ms
    });
    times("create a VPC, durable, median", |figures| figures.create_vpc_ms);
    times("create a VPC, durable, p99", |figures| figures.create_vpc_p99_ms);
    times("bare append and flush of 4 KiB, median", |figures| {
        figures.flush_ms
    });
    times("list page of 50, median", |figures| figures.list_50_ms);
    times("list page of 100, median", |figures| figures.list_100_ms);
    times("list the subnets of one VPC, median", |figures| {
        figures.list_filtered_ms
    });
    times("plan after one change, median", |figures| figures.plan_ms);
    times("open", |figures| figures.open_ms);
    table.add_row([
        "resident memory".to_owned(),
        format!("{:.1} MiB", before.resident_mib),
        format!("{:.1} MiB", after.resident_mib),
        format!("{:.2}", after.resident_mib / before.resident_mib),
    ]);
    table.add_row([
        "VPCs planned after one change".to_owned(),
        before.plan_vpcs_touched.to_string(),
        after.plan_vpcs_touched.to_string(),
        String::new(),
    ]);
    table
}
