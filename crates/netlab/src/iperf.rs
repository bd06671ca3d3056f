//! The standard throughput test.

use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::node::Node;
use crate::patience::stretched;

/// What one run moved.
#[derive(Clone, Debug, PartialEq)]
pub struct Throughput {
    /// Rate at the receiver, bits per second.
    pub bits_per_second: f64,
    /// Segments that the sender sent again.
    pub retransmits: u64,
}

/// One iperf3 run over TCP from `from` to `to`, which holds `address`: `flows` connections for `duration` (whole
/// seconds). The first `omitted` seconds are not counted.
///
/// # Errors
/// When iperf3 is missing, cannot connect or reports an error.
pub fn run(
    from: &Node,
    to: &Node,
    address: Ipv4Addr,
    flows: u8,
    duration: Duration,
    omitted: Duration,
) -> Result<Throughput> {
    let mut server = to.spawn(
        Command::new("iperf3")
            .args([
                "--server",
                "--one-off",
                "--forceflush",
                "--bind",
                &address.to_string(),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null()),
    )?;
    let output = server
        .child()
        .stdout
        .take()
        .context("output of the iperf3 server")?;
    let mut lines = BufReader::new(output).lines();
    loop {
        let line = lines
            .next()
            .context("the iperf3 server ended before it listened")??;
        if line.contains("listening") {
            break;
        }
    }
    let mut client = from.spawn(
        Command::new("iperf3")
            .args(["--json", "--connect-timeout", "5000"])
            .args(["--client", &address.to_string()])
            .args(["--parallel", &flows.to_string()])
            .args(["--time", &duration.as_secs().to_string()])
            .args(["--omit", &omitted.as_secs().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null()),
    )?;
    let report = client.read_output()?;
    client.wait_within(stretched(Duration::from_secs(10)))?;
    let report: Value = serde_json::from_str(&report).context("the iperf3 client's report")?;
    if let Some(error) = report["error"].as_str() {
        bail!("iperf3: {error}");
    }
    let end = &report["end"];
    Ok(Throughput {
        bits_per_second: end["sum_received"]["bits_per_second"]
            .as_f64()
            .context("no rate in the iperf3 report")?,
        retransmits: end["sum_sent"]["retransmits"].as_u64().unwrap_or(0),
    })
}
