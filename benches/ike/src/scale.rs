//! Many tunnels in one daemon: how long they take to come up at once, what each costs in memory, and what they cost while
//! nothing happens.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use isthmus_hostplan::{EstablishMode, TunnelState};
use isthmus_netlab::patience::eventually_within;
use isthmus_netlab::{Isthmus, patience::holds, resident};
use serde::Serialize;

use crate::gateway::Stage;

const IKE: &str = "aes128gcm16-prfsha256-x25519";
const ESP: &str = "aes128gcm16";
/// How long tunnels may take before the measurement gives up.
const LIMIT: Duration = Duration::from_secs(180);

/// What many tunnels cost.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Scale {
    /// How many.
    pub tunnels: u16,
    /// Seconds from the plan to the last tunnel that is up, all negotiated at once.
    pub settle_seconds: f64,
    /// Resident memory for each of them, KiB, above the daemon with a gateway and no connection.
    pub idle_kib_per_tunnel: f64,
    /// Share of one core that they take while nothing but liveness checks happens, percent.
    pub idle_cpu_percent: f64,
}

/// Measures `tunnels` tunnels; the idle part lasts for `idle`.
pub fn measure(tunnels: u16, idle: Duration) -> Result<Scale> {
    let stage = Stage::new(tunnels)?;
    let crowd = stage.crowd(tunnels, IKE, ESP, None)?;
    let mut isthmus = stage.isthmus(1, IKE, ESP, EstablishMode::PeerOnly)?;
    let pid = isthmus.daemon().context("it was started")?.pid();
    // With a gateway, its devices and its threads; its one connection waits for a peer that does not begin.
    eventually_within(LIMIT, "the gateway to be there", || {
        let report = isthmus.report()?;
        holds(report.gateways.len() == 1, || format!("{report:?}"))
    })?;
    let empty = resident(pid)?;
    let plans = stage.plans(tunnels, IKE, ESP, EstablishMode::Bidirectional)?;

    let start = Instant::now();
    isthmus.change(|connections| *connections = plans)?;
    eventually_within(LIMIT, "every tunnel to be up", || {
        let up = up(&isthmus)?;
        holds(up == usize::from(tunnels), || format!("{up} of {tunnels} are up"))
    })?;
    let settle_seconds = start.elapsed().as_secs_f64();

    let busy = cpu_seconds(pid)?;
    let start = Instant::now();
    thread::sleep(idle);
    let idle_cpu_percent = 100.0 * (cpu_seconds(pid)? - busy) / start.elapsed().as_secs_f64();
    let full = resident(pid)?;
    ensure!(
        up(&isthmus)? == usize::from(tunnels),
        "a tunnel went down while nothing happened"
    );
    let account = crowd.account()?;
    ensure!(
        account.up == usize::from(tunnels),
        "{} of {tunnels} peers have a tunnel",
        account.up
    );
    Ok(Scale {
        tunnels,
        settle_seconds,
        idle_kib_per_tunnel: full.saturating_sub(empty) as f64 / f64::from(tunnels),
        idle_cpu_percent,
    })
}

fn up(isthmus: &Isthmus) -> Result<usize> {
    Ok(isthmus
        .report()?
        .connections
        .iter()
        .filter(|connection| connection.state == TunnelState::Up)
        .count())
}

/// Processor time of a process so far (proc(5): fields 14 and 15, in ticks of 1/100 s).
fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit_once(')').context("no name")?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |place: usize| -> Result<f64> { Ok(fields.get(place).context("too few fields")?.parse()?) };
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}
