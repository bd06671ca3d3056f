//! `isthmus status`: health of everything, on one screen.

use std::fmt::Write;
use std::net::Ipv6Addr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use isthmus_client::{Client, Instance, VpnConnection, VpnGateway};
use isthmus_runtime::{PidFile, StateLayout};
use serde::Serialize;

use super::context::print;
use super::options::{GlobalOptions, OutputFormat};
use super::output;

/// The processes of an installation, by the name of their subcommand.
const PROCESSES: [&str; 3] = ["server", "agent", "tunneld"];

#[derive(Debug, Serialize)]
struct Status {
    healthy: bool,
    processes: Vec<Process>,
    api: Api,
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<Network>,
}

#[derive(Debug, Serialize)]
struct Process {
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    running: bool,
}

#[derive(Debug, Serialize)]
struct Api {
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answered_in_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Network {
    vpcs: usize,
    subnets: usize,
    instances: usize,
    instances_amiss: Vec<String>,
    /// Gateways whose keys are written in clear.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    key_logs: Vec<String>,
    tunnels: Vec<Tunnel>,
}

#[derive(Debug, Serialize)]
struct Tunnel {
    vpc: String,
    gateway: String,
    gateway_status: String,
    public_address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    public_ipv6: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection_status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    healthy: bool,
}

/// Prints the state of everything; the exit code says whether all is well.
pub async fn run(options: GlobalOptions) -> anyhow::Result<ExitCode> {
    let processes = processes(&options.layout());
    let (api, network) = match Client::from_profile(&options.profile_path()) {
        Ok(client) => ask(&client).await,
        Err(error) => (
            Api {
                url: None,
                answered_in_ms: None,
                error: Some(format!("{:#}", anyhow::Error::from(error))),
            },
            None,
        ),
    };
    let healthy = api.error.is_none()
        && processes.iter().all(|process| process.running)
        && network.as_ref().is_some_and(Network::healthy);
    let status = Status {
        healthy,
        processes,
        api,
        network,
    };
    match options.output {
        OutputFormat::Json => print(&output::json(&status)?)?,
        OutputFormat::Table => print(&render(&status))?,
    }
    Ok(if healthy {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

// Empty where no installation lives on this host: its processes are elsewhere then.
fn processes(layout: &StateLayout) -> Vec<Process> {
    if !matches!(layout.recorded_realm(), Ok(Some(_))) {
        return Vec::new();
    }
    let holder = |name| PidFile::holder(&layout.pid_file(name)).ok().flatten();
    PROCESSES
        .into_iter()
        .map(|name| {
            let holder = holder(name);
            Process {
                name,
                running: holder.is_some(),
                pid: holder.and_then(|holder| holder.pid),
            }
        })
        .collect()
}

async fn ask(client: &Client) -> (Api, Option<Network>) {
    let mut api = Api {
        url: Some(client.url().to_owned()),
        answered_in_ms: None,
        error: None,
    };
    // The first question includes logging in; the second tells how quickly the server answers.
    let network = async {
        client.regions().await?;
        let begin = Instant::now();
        client.regions().await?;
        let answered = begin.elapsed();
        Ok::<_, isthmus_client::ClientError>((answered, network(client).await?))
    };
    match network.await {
        Ok((answered, network)) => {
            api.answered_in_ms = Some(milliseconds(answered));
            (api, Some(network))
        }
        Err(error) => {
            api.error = Some(format!("{:#}", anyhow::Error::from(error)));
            (api, None)
        }
    }
}

async fn network(client: &Client) -> Result<Network, isthmus_client::ClientError> {
    let instances = client.instances(None).await?;
    let mut tunnels = Vec::new();
    let mut key_logs = Vec::new();
    for gateway in client.vpn_gateways().await? {
        let connections = client.connections(&gateway.id).await?;
        // A gateway that was deleted meanwhile has no options.
        let options = client.gateway_options(&gateway.id).await.ok();
        if options.as_ref().is_some_and(|options| options.key_log) {
            key_logs.push(gateway.name.clone());
        }
        let ipv6 = options.and_then(|options| options.ipv6_address);
        if connections.is_empty() {
            tunnels.push(Tunnel::new(&gateway, ipv6, None));
        }
        tunnels.extend(
            connections
                .iter()
                .map(|connection| Tunnel::new(&gateway, ipv6, Some(connection))),
        );
    }
    tunnels.sort_by(|a, b| (&a.vpc, &a.gateway, &a.connection).cmp(&(&b.vpc, &b.gateway, &b.connection)));
    Ok(Network {
        vpcs: client.vpcs().await?.len(),
        subnets: client.subnets(None).await?.len(),
        instances: instances.len(),
        instances_amiss: instances
            .iter()
            .filter(|instance| !is_well(instance))
            .map(amiss)
            .collect(),
        key_logs,
        tunnels,
    })
}

// Stopped is what someone asked for.
fn is_well(instance: &Instance) -> bool {
    matches!(instance.status.as_str(), "running" | "stopped")
}

fn amiss(instance: &Instance) -> String {
    format!("{} is {}", instance.name, instance.status)
}

impl Network {
    fn healthy(&self) -> bool {
        self.instances_amiss.is_empty() && self.tunnels.iter().all(|tunnel| tunnel.healthy)
    }
}

impl Tunnel {
    fn new(gateway: &VpnGateway, ipv6: Option<Ipv6Addr>, connection: Option<&VpnConnection>) -> Self {
        let reason = match connection {
            Some(connection) if !connection.admin_state_up => "switched off".to_owned(),
            Some(connection) => connection.reasons(),
            None => gateway
                .health_reasons
                .iter()
                .map(|reason| reason.message.as_str())
                .collect::<Vec<_>>()
                .join(" "),
        };
        Self {
            vpc: gateway.vpc.name.clone(),
            gateway: gateway.name.clone(),
            gateway_status: gateway.status().to_owned(),
            public_address: gateway.public_ip.address.to_string(),
            public_ipv6: ipv6.map(|address| address.to_string()),
            connection: connection.map(|connection| connection.name.clone()),
            connection_status: connection.map(|connection| connection.status.clone()),
            peer: connection.map(|connection| connection.peer.host().to_owned()),
            reason,
            healthy: gateway.is_available()
                && connection.is_none_or(|connection| connection.is_up() || !connection.admin_state_up),
        }
    }

    fn cells(&self) -> Vec<String> {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        vec![
            self.vpc.clone(),
            self.gateway.clone(),
            self.gateway_status.clone(),
            match &self.public_ipv6 {
                Some(ipv6) => format!("{}, {ipv6}", self.public_address),
                None => self.public_address.clone(),
            },
            or_dash(&self.connection),
            or_dash(&self.connection_status),
            or_dash(&self.peer),
            self.reason.clone(),
        ]
    }
}

fn render(status: &Status) -> String {
    let mut text = String::new();
    let _ = match &status.api {
        Api {
            error: Some(error), ..
        } => writeln!(text, "API        {error}"),
        Api {
            url, answered_in_ms, ..
        } => writeln!(
            text,
            "API        {}, answers in {:.1} ms",
            url.as_deref().unwrap_or_default(),
            answered_in_ms.unwrap_or_default()
        ),
    };
    if !status.processes.is_empty() {
        let each = status
            .processes
            .iter()
            .map(|process| match (process.running, process.pid) {
                (true, Some(pid)) => format!("{} {pid}", process.name),
                (true, None) => format!("{} starting", process.name),
                (false, _) => format!("{} not running", process.name),
            });
        let _ = writeln!(text, "processes  {}", each.collect::<Vec<_>>().join(", "));
    }
    if let Some(network) = &status.network {
        let _ = writeln!(
            text,
            "network    {}, {}, {}",
            counted(network.vpcs, "VPC"),
            counted(network.subnets, "subnet"),
            counted(network.instances, "instance")
        );
        for amiss in &network.instances_amiss {
            let _ = writeln!(text, "           {amiss}");
        }
        for gateway in &network.key_logs {
            let _ = writeln!(
                text,
                "WARNING    {gateway} writes the keys of its SAs to files, in clear; switch it off: isthmus vpn gateway \
                 key-log {gateway} off"
            );
        }
        if !network.tunnels.is_empty() {
            let header = [
                "VPC",
                "GATEWAY",
                "STATUS",
                "PUBLIC ADDRESS",
                "CONNECTION",
                "STATUS",
                "PEER",
                "REASON",
            ];
            text.push('\n');
            text.push_str(&output::lines(&header, network.tunnels.iter().map(Tunnel::cells)));
        }
    }
    text
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
