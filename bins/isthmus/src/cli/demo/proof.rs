//! The proof that the two VPCs are joined, and by nothing but the tunnel.

use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use isthmus_fabric::name::internet_namespace;
use isthmus_netlink::namespace::Namespace;

use super::scenario::{Scenario, Side, connect};
use crate::cli::context::Context;
use crate::cli::probe::End;
use crate::cli::probe::capture::{Capture, Seen};
use crate::cli::probe::ping::{Listener, Pinger};
use crate::cli::probe::{fetch, rate};
use crate::cli::progress::Progress;
use crate::cli::wait;

/// Bytes of the fetched document: enough to fill every queue on the way.
const DOCUMENT: usize = 10_000_000;

/// How long TCP is measured.
const RATE_TIME: Duration = Duration::from_secs(5);

/// How often the second connection is made anew to find the median.
const RECONNECTS: usize = 10;

/// How long pings go on while the connection is missing.
const MISSING: Duration = Duration::from_millis(50);

/// Between two pings while waiting for the first answer.
const PING_INTERVAL: Duration = Duration::from_millis(5);

/// How long any answer, or the host, may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// One line of the result.
pub struct Finding {
    /// What was looked at.
    pub what: String,
    /// What was found.
    pub found: String,
}

impl Finding {
    fn new(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            found: found.into(),
        }
    }
}

/// Proves it, or fails with what did not hold.
pub async fn run(
    context: &Context,
    scenario: &Scenario,
    progress: &mut Progress,
) -> anyhow::Result<Vec<Finding>> {
    let left = ends(context, &scenario.left)?;
    let right = ends(context, &scenario.right)?;
    let (Some(first_left), Some(first_right)) = (left.first(), right.first()) else {
        bail!("a side has no instance");
    };
    let realm = context
        .layout
        .recorded_realm()?
        .context("the installation has no realm")?;
    let internet = Namespace::open(&internet_namespace(&realm))?;
    let public = [&scenario.left, &scenario.right].map(|side| side.gateway.public_ip.address);
    let capture = Capture::begin(&internet, public)?;

    progress.begin("pinging between all tiers, both ways");
    let mut findings = pings(&left, &right).await?;
    progress.begin(format!("making the second connection anew {RECONNECTS} times"));
    let (first_answer, in_vain) = reconnects(context, scenario, first_left, first_right, progress).await?;
    let seen = capture.end()?;
    findings.push(public_side(&seen, public)?);
    findings.push(Finding::new(
        "pings while the connection was missing",
        format!("{in_vain} sent, 0 answered, 0 seen on the public side"),
    ));
    findings.push(first_answer);

    progress.begin("fetching a document over HTTP");
    findings.push(fetch(first_left, first_right).await?);
    progress.begin(format!("sending TCP for {} s", RATE_TIME.as_secs()));
    findings.push(rate(first_left, first_right).await?);
    Ok(findings)
}

fn ends(context: &Context, side: &Side) -> anyhow::Result<Vec<Arc<End>>> {
    side.instances
        .iter()
        .map(|instance| End::of(context, instance).map(Arc::new))
        .collect()
}

async fn pings(left: &[Arc<End>], right: &[Arc<End>]) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (from_side, to_side) in [(left, right), (right, left)] {
        for from in from_side {
            for to in to_side {
                let what = format!("ping {} to {}", from.address, to.address);
                let (from, to) = (Arc::clone(from), Arc::clone(to));
                let found = blocking(move || ping(&from, &to))
                    .await
                    .with_context(|| what.clone())?;
                findings.push(Finding::new(what, found));
            }
        }
    }
    Ok(findings)
}

fn ping(from: &End, to: &End) -> anyhow::Result<String> {
    let pinger = Pinger::open(&from.namespace, to.address, 56)?;
    let listener = Listener::open(&to.namespace)?;
    let took = pinger.once(0, PATIENCE)?.context("no answer")?;
    let source = listener
        .source_of(pinger.identifier(), PATIENCE)?
        .context("the request was not seen")?;
    ensure!(source == from.address, "the request came from {source}");
    Ok(format!(
        "answered in {:.2} ms, arrived from {source}",
        took.as_secs_f64() * 1000.0
    ))
}

fn public_side(seen: &Seen, public: [std::net::Ipv4Addr; 2]) -> anyhow::Result<Finding> {
    let what = format!("public side between {} and {}", public[0], public[1]);
    ensure!(seen.tunnel > 0, "{what}: nothing was captured");
    ensure!(
        seen.other == 0,
        "{what}: {} other packets: {}",
        seen.other,
        seen.examples.join("; ")
    );
    Ok(Finding::new(
        what,
        format!(
            "{} packets on UDP 500 and 4500, 0 others ({} ARP)",
            seen.tunnel, seen.arp
        ),
    ))
}

// From the request that creates the connection to the first answered ping, with pings under way all the time; and how
// many pings were sent while there was no connection.
async fn reconnects(
    context: &Context,
    scenario: &Scenario,
    from: &Arc<End>,
    to: &Arc<End>,
    progress: &Progress,
) -> anyhow::Result<(Finding, usize)> {
    let client = &context.client;
    let gateway = &scenario.right.gateway.id;
    let mut connection = scenario
        .right
        .connection
        .clone()
        .context("the right side has a connection")?;
    let mut times = Vec::new();
    let mut in_vain = 0;
    for run in 1..=RECONNECTS {
        client.delete_connection(gateway, &connection.id).await?;
        wait::gone("the VPN connection", PATIENCE, || {
            client.connection(gateway, &connection.id)
        })
        .await?;
        let pinger = Pinger::open(&from.namespace, to.address, 56)?;
        let pinger = blocking(move || silent(&pinger).map(|()| pinger)).await?;
        let deadline = Instant::now() + PATIENCE;
        let answer = tokio::task::spawn_blocking(move || pinger.until_answered(PING_INTERVAL, deadline));
        tokio::time::sleep(MISSING).await;
        let begin = Instant::now();
        connection = connect(client, &scenario.right, &scenario.left, &scenario.psk).await?;
        let awaited = answer.await.context("pinging failed")??;
        in_vain += awaited.sent.iter().filter(|sent| **sent < begin).count();
        let Some(answered) = awaited.answered else {
            let now = client.connection(gateway, &connection.id).await?;
            bail!(
                "no ping was answered in run {run}; the connection is {}: {}",
                now.status,
                now.reasons()
            );
        };
        ensure!(
            answered > begin,
            "a ping was answered while there was no connection"
        );
        times.push(answered - begin);
        progress.tick(&format!("{run} of {RECONNECTS}"));
    }
    // Leaves both ends as a person expects to find them.
    wait::connection_up(client, gateway, &connection.id, PATIENCE, |_| ()).await?;
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    let longest = times.last().copied().unwrap_or_default();
    let first_answer = Finding::new(
        "second connection created to first ping answered",
        format!(
            "median {:.0} ms of {RECONNECTS} runs, longest {:.0} ms",
            median.as_secs_f64() * 1000.0,
            longest.as_secs_f64() * 1000.0
        ),
    );
    Ok((first_answer, in_vain))
}

// Waits until the host has taken the connection down: until pings are not answered any more.
fn silent(pinger: &Pinger) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut unanswered = 0;
    while unanswered < 3 {
        ensure!(
            Instant::now() < deadline,
            "pings are still answered after the connection was deleted"
        );
        match pinger.once(unanswered, MISSING)? {
            Some(_) => {
                unanswered = 0;
                thread::sleep(PING_INTERVAL);
            }
            None => unanswered += 1,
        }
    }
    Ok(())
}

async fn fetch(from: &Arc<End>, to: &Arc<End>) -> anyhow::Result<Finding> {
    let source = from.address;
    let (from, to) = (Arc::clone(from), Arc::clone(to));
    let fetched = blocking(move || fetch::run(&from, &to, DOCUMENT))
        .await
        .context("HTTP fetch")?;
    ensure!(
        fetched.seen == IpAddr::V4(source),
        "the HTTP request came from {}",
        fetched.seen
    );
    Ok(Finding::new("HTTP fetch", fetched.to_string()))
}

async fn rate(from: &Arc<End>, to: &Arc<End>) -> anyhow::Result<Finding> {
    let (from, to) = (Arc::clone(from), Arc::clone(to));
    let measured = blocking(move || rate::run(&from, &to, RATE_TIME))
        .await
        .context("TCP")?;
    Ok(Finding::new("TCP", measured.to_string()))
}

// Traffic is sent and awaited on a thread of its own, so that Ctrl-C is heard meanwhile.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .context("a probe panicked")?
}
