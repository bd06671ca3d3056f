//! `isthmus join`: both sides of a VPN in one act.

use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use isthmus_client::{
    Client, EstablishMode, Id, NewConnection, NewVpnGateway, Subnet, Vpc, VpnConnection, VpnGateway,
};
use isthmus_types::{Cidr, Secret};

use super::context::{Context, remark};
use super::key::{self, KeySource};
use super::output::ConnectionRow;
use super::progress::Progress;
use super::wait;

/// Addresses that a gateway takes in its subnet.
const GATEWAY_ADDRESSES: u64 = 8;

/// How long a gateway may take to become available, and its removal.
const PATIENCE: Duration = Duration::from_secs(30);

/// Options of `join`.
#[derive(Debug, Args)]
pub struct Options {
    /// Name or id of one VPC.
    left: String,
    /// Name or id of the other VPC.
    right: String,
    #[command(flatten)]
    key: KeySource,
    /// Seconds to wait for the tunnel.
    #[arg(long, default_value_t = 60)]
    timeout: u64,
}

/// Joins two VPCs. What it made is removed again if it fails or is interrupted.
pub async fn run(options: Options, context: &Context) -> anyhow::Result<()> {
    let left = context.vpc(&options.left).await?;
    let right = context.vpc(&options.right).await?;
    if left.id == right.id {
        bail!("a VPC cannot be joined to itself");
    }
    let psk = options.key.read()?.unwrap_or_else(key::generate);
    let mut join = Join {
        client: &context.client,
        progress: Progress::new(),
        made: Vec::new(),
    };
    let work = join.sides(left, right, psk, Duration::from_secs(options.timeout));
    let result = tokio::select! {
        result = work => result,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    match result {
        Ok(connections) => {
            join.progress.end();
            let rows: Vec<_> = connections.into_iter().map(ConnectionRow::from).collect();
            context.show_all(&rows)
        }
        Err(error) => {
            join.progress.fail();
            join.undo().await;
            Err(error)
        }
    }
}

struct Join<'a> {
    client: &'a Client,
    progress: Progress,
    made: Vec<Made>,
}

enum Made {
    Connection(Id<VpnGateway>, Id<VpnConnection>),
    Gateway(Id<VpnGateway>),
}

/// One VPC with its gateway and the ranges that the other side will reach.
struct Side {
    vpc: Vpc,
    gateway: VpnGateway,
    prefixes: Vec<Cidr>,
    subnets: Vec<Cidr>,
}

impl Join<'_> {
    async fn sides(
        &mut self,
        left: Vpc,
        right: Vpc,
        psk: Secret,
        patience: Duration,
    ) -> anyhow::Result<Vec<(VpnGateway, VpnConnection)>> {
        let left = self.side(left).await?;
        let right = self.side(right).await?;
        let (left_ranges, right_ranges) = ranges(&left, &right)?;
        self.refuse_second(&left, &right).await?;
        self.refuse_second(&right, &left).await?;

        self.progress
            .begin(format!("connecting {} and {}", left.vpc.name, right.vpc.name));
        let there = self
            .connect(&left, &right, &left_ranges, &right_ranges, &psk)
            .await?;
        let back = self
            .connect(&right, &left, &right_ranges, &left_ranges, &psk)
            .await?;

        self.progress.begin("negotiating the tunnel");
        let there = self.wait_up(&left, &there, patience).await?;
        let back = self.wait_up(&right, &back, patience).await?;
        Ok(vec![(left.gateway, there), (right.gateway, back)])
    }

    /// The VPC's gateway, made if it has none.
    async fn side(&mut self, vpc: Vpc) -> anyhow::Result<Side> {
        let subnets = self.client.subnets(Some(&vpc.id)).await?;
        let existing = self
            .client
            .vpn_gateways()
            .await?
            .into_iter()
            .find(|gateway| gateway.vpc.id == vpc.id && gateway.lifecycle_state != "deleting");
        let gateway = match existing {
            Some(gateway) => gateway,
            None => {
                let subnet = roomiest(&vpc, &subnets)?;
                self.progress
                    .begin(format!("making a VPN gateway in {}", vpc.name));
                let new = NewVpnGateway {
                    name: Some(gateway_name(&vpc.name)),
                    subnet: subnet.id.clone(),
                };
                let gateway = self.client.create_vpn_gateway(&new).await?;
                self.made.push(Made::Gateway(gateway.id.clone()));
                gateway
            }
        };
        let gateway = wait::gateway_available(self.client, &gateway.id, PATIENCE).await?;
        let home = subnets
            .iter()
            .find(|subnet| subnet.id == gateway.subnet.id)
            .with_context(|| format!("VPN gateway {} is in no subnet of {}", gateway.name, vpc.name))?;
        // A gateway serves the instances of its own zone.
        let zone = home.zone.name.clone();
        let prefixes = self.client.prefixes(&vpc.id).await?;
        Ok(Side {
            prefixes: prefixes
                .into_iter()
                .filter(|prefix| prefix.zone.name == zone && prefix.has_subnets)
                .map(|prefix| prefix.cidr.parse())
                .collect::<Result<_, _>>()
                .context("an address prefix is no range")?,
            subnets: subnets
                .iter()
                .filter(|subnet| subnet.zone.name == zone)
                .map(|subnet| subnet.ipv4_cidr_block)
                .collect(),
            vpc,
            gateway,
        })
    }

    async fn refuse_second(&self, from: &Side, to: &Side) -> anyhow::Result<()> {
        let address = to.gateway.public_ip.address.to_string();
        for connection in self.client.connections(&from.gateway.id).await? {
            if connection.peer.host() == address {
                bail!(
                    "{} already has a VPN connection to {}: {} ({})",
                    from.vpc.name,
                    to.vpc.name,
                    connection.name,
                    connection.status
                );
            }
        }
        Ok(())
    }

    async fn connect(
        &mut self,
        from: &Side,
        to: &Side,
        local: &[Cidr],
        remote: &[Cidr],
        psk: &Secret,
    ) -> anyhow::Result<VpnConnection> {
        let new = NewConnection {
            name: Some(connection_name(&to.vpc.name)),
            psk: psk.clone(),
            peer: to.gateway.public_ip.address.to_string(),
            local_cidrs: local.to_vec(),
            peer_cidrs: remote.to_vec(),
            ike_policy: None,
            ipsec_policy: None,
            admin_state_up: true,
            establish_mode: EstablishMode::Bidirectional,
        };
        let connection = self.client.create_connection(&from.gateway.id, &new).await?;
        self.made
            .push(Made::Connection(from.gateway.id.clone(), connection.id.clone()));
        Ok(connection)
    }

    async fn wait_up(
        &self,
        side: &Side,
        connection: &VpnConnection,
        patience: Duration,
    ) -> anyhow::Result<VpnConnection> {
        let tell = |now: &VpnConnection| {
            let reasons = now.reasons();
            if !reasons.is_empty() {
                self.progress.note(&format!("{}: {reasons}", side.vpc.name));
            }
        };
        wait::connection_up(self.client, &side.gateway.id, &connection.id, patience, tell)
            .await
            .with_context(|| format!("{} could not be joined", side.vpc.name))
    }

    // Latest first. What cannot be removed is named, so that a person can see to it.
    async fn undo(&mut self) {
        if self.made.is_empty() {
            return;
        }
        self.progress.begin("removing what was made");
        while let Some(made) = self.made.pop() {
            let (what, result) = match &made {
                Made::Connection(gateway, id) => (
                    "VPN connection",
                    remove_connection(self.client, gateway, id)
                        .await
                        .with_context(|| id.to_string()),
                ),
                Made::Gateway(id) => (
                    "VPN gateway",
                    remove_gateway(self.client, id)
                        .await
                        .with_context(|| id.to_string()),
                ),
            };
            if let Err(error) = result {
                remark(&format!("the {what} is still there: {error:#}"));
            }
        }
        self.progress.end();
    }
}

async fn remove_connection(
    client: &Client,
    gateway: &Id<VpnGateway>,
    id: &Id<VpnConnection>,
) -> anyhow::Result<()> {
    client.delete_connection(gateway, id).await?;
    wait::gone("it", PATIENCE, || client.connection(gateway, id)).await
}

async fn remove_gateway(client: &Client, id: &Id<VpnGateway>) -> anyhow::Result<()> {
    // One that is still pending cannot be deleted yet.
    if let Err(error) = wait::gateway_available(client, id, PATIENCE).await {
        tracing::debug!(gateway = %id, error = %error, "removing a gateway that did not become available");
    }
    client.delete_vpn_gateway(id).await?;
    wait::gone("it", PATIENCE, || client.vpn_gateway(id)).await
}

/// What each side reaches at the other: whole address prefixes, so that later subnets are reached too, or the subnets
/// alone where the prefixes overlap.
fn ranges(left: &Side, right: &Side) -> anyhow::Result<(Vec<Cidr>, Vec<Cidr>)> {
    if overlap(&left.prefixes, &right.prefixes).is_none() {
        return Ok((left.prefixes.clone(), right.prefixes.clone()));
    }
    match overlap(&left.subnets, &right.subnets) {
        None => Ok((left.subnets.clone(), right.subnets.clone())),
        Some((one, other)) => bail!(
            "{} and {} have overlapping addresses, which cannot be joined: {one} and {other}",
            left.vpc.name,
            right.vpc.name
        ),
    }
}

fn overlap(left: &[Cidr], right: &[Cidr]) -> Option<(Cidr, Cidr)> {
    let pairs = left
        .iter()
        .flat_map(|one| right.iter().map(move |other| (*one, *other)));
    pairs.into_iter().find(|(one, other)| one.overlaps(*other))
}

fn roomiest<'a>(vpc: &Vpc, subnets: &'a [Subnet]) -> anyhow::Result<&'a Subnet> {
    subnets
        .iter()
        .filter(|subnet| subnet.available_ipv4_address_count >= GATEWAY_ADDRESSES)
        .max_by_key(|subnet| {
            (
                subnet.available_ipv4_address_count,
                std::cmp::Reverse(&subnet.name),
            )
        })
        .with_context(|| {
            format!(
                "{} has no subnet with {GATEWAY_ADDRESSES} free addresses, which a VPN gateway takes",
                vpc.name
            )
        })
}

fn gateway_name(vpc: &str) -> String {
    short(format!("{vpc}-gateway"))
}

fn connection_name(peer_vpc: &str) -> String {
    short(format!("to-{peer_vpc}"))
}

// Names have at most 63 characters and end in none but a letter or digit.
fn short(name: String) -> String {
    let cut: String = name.chars().take(63).collect();
    cut.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidrs(texts: &[&str]) -> Vec<Cidr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn finds_the_overlapping_pair() {
        let left = cidrs(&["10.1.0.0/24", "10.3.0.0/24"]);
        assert_eq!(overlap(&left, &cidrs(&["10.2.0.0/24"])), None);
        let (one, other) = overlap(&left, &cidrs(&["10.2.0.0/24", "10.3.0.128/25"])).unwrap();
        assert_eq!(
            (one.to_string(), other.to_string()),
            ("10.3.0.0/24".to_owned(), "10.3.0.128/25".to_owned())
        );
    }

    #[test]
    fn long_names_are_cut_to_what_the_api_takes() {
        let name = connection_name(&format!("{}-x", "a".repeat(59)));
        assert_eq!(name, format!("to-{}", "a".repeat(59)));
        assert!(name.len() <= 63);
    }
}
