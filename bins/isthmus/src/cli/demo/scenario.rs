//! What the demo builds, step by step, through the public API.

use std::time::Duration;

use anyhow::Context as _;
use isthmus_client::{
    Attachment, Client, EstablishMode, Identity, Instance, NameReference, NewAddressPrefix, NewConnection,
    NewInstance, NewSubnet, NewVpc, NewVpnGateway, PrefixManagement, Subnet, SubnetRange, Vpc, VpnConnection,
    VpnGateway,
};
use isthmus_types::{Cidr, Secret};

use crate::cli::key;
use crate::cli::progress::Progress;
use crate::cli::wait;

/// How long the host may take for each thing.
const PATIENCE: Duration = Duration::from_secs(30);

/// Both sides, joined.
pub struct Scenario {
    /// 10.1.0.0/16.
    pub left: Side,
    /// 10.2.0.0/16.
    pub right: Side,
    /// The key that both connections share.
    pub psk: Secret,
}

/// One VPC and all that is in it.
pub struct Side {
    /// The VPC.
    pub vpc: Vpc,
    /// Its tiers.
    pub subnets: Vec<Subnet>,
    /// An instance in each tier.
    pub instances: Vec<Instance>,
    /// Its VPN gateway.
    pub gateway: VpnGateway,
    /// The connection to the other side.
    pub connection: Option<VpnConnection>,
}

impl Side {
    /// Ranges of its tiers.
    pub fn ranges(&self) -> Vec<Cidr> {
        self.subnets.iter().map(|subnet| subnet.ipv4_cidr_block).collect()
    }
}

/// Builds everything and waits until both connections are up.
pub async fn build(client: &Client, progress: &mut Progress) -> anyhow::Result<Scenario> {
    let region = client
        .regions()
        .await?
        .into_iter()
        .next()
        .context("the server has no region")?;
    let zone = client
        .zones(&region.name)
        .await?
        .into_iter()
        .next()
        .context("the region has no zone")?
        .name;

    progress.begin("making two VPCs, two tiers in each, an instance in each tier, a VPN gateway in each VPC");
    let mut left = side(client, &zone, "left", 1).await?;
    let mut right = side(client, &zone, "right", 2).await?;
    progress.begin(format!(
        "waiting for the host: the gateways are {}",
        left.gateway.status()
    ));
    for side in [&mut left, &mut right] {
        for instance in &mut side.instances {
            *instance = wait::instance_is(client, &instance.id, "running", PATIENCE).await?;
        }
        side.gateway = wait::gateway_available(client, &side.gateway.id, PATIENCE).await?;
    }

    let psk = key::generate();
    progress.begin(format!(
        "connecting {} ({}) and {} ({})",
        left.vpc.name, left.gateway.public_ip.address, right.vpc.name, right.gateway.public_ip.address
    ));
    left.connection = Some(connect(client, &left, &right, &psk).await?);
    right.connection = Some(connect(client, &right, &left, &psk).await?);
    progress.begin("waiting until both connections are up");
    for side in [&mut left, &mut right] {
        if let Some(connection) = &mut side.connection {
            let tell = |now: &VpnConnection| progress.note(&now.reasons());
            *connection =
                wait::connection_up(client, &side.gateway.id, &connection.id, PATIENCE, tell).await?;
        }
    }
    Ok(Scenario { left, right, psk })
}

/// Creates the connection from one side to the other.
pub async fn connect(client: &Client, from: &Side, to: &Side, psk: &Secret) -> anyhow::Result<VpnConnection> {
    let new = NewConnection {
        name: Some(format!("to-{}", to.vpc.name)),
        psk: psk.clone(),
        peer: to.gateway.public_ip.address.to_string(),
        local_cidrs: from.ranges(),
        peer_cidrs: to.ranges(),
        ike_policy: None,
        ipsec_policy: None,
        admin_state_up: true,
        establish_mode: EstablishMode::Bidirectional,
    };
    Ok(client.create_connection(&from.gateway.id, &new).await?)
}

async fn side(client: &Client, zone: &str, name: &str, number: u8) -> anyhow::Result<Side> {
    let vpc = client
        .create_vpc(&NewVpc {
            name: Some(name.to_owned()),
            address_prefix_management: PrefixManagement::Manual,
        })
        .await?;
    client
        .create_prefix(
            &vpc.id,
            &NewAddressPrefix {
                name: Some(format!("{name}-range")),
                cidr: format!("10.{number}.0.0/16").parse()?,
                zone: NameReference::to(zone),
                is_default: true,
            },
        )
        .await?;
    let mut subnets = Vec::new();
    let mut instances = Vec::new();
    for tier in 0..2 {
        let subnet = client
            .create_subnet(&NewSubnet {
                name: Some(format!("{name}-tier-{}", tier + 1)),
                vpc: Identity::from(&vpc.id),
                zone: Some(NameReference::to(zone)),
                range: SubnetRange::Cidr(format!("10.{number}.{tier}.0/24").parse()?),
            })
            .await?;
        let instance = client
            .create_instance(&NewInstance {
                name: Some(format!("{name}-{}", tier + 1)),
                subnet: subnet.id.clone(),
                zone: zone.to_owned(),
                address: None,
                attachment: Attachment::Namespace,
            })
            .await?;
        subnets.push(subnet);
        instances.push(instance);
    }
    let home = subnets.first().context("a side has a tier")?.id.clone();
    let gateway = client
        .create_vpn_gateway(&NewVpnGateway {
            name: Some(format!("{name}-gateway")),
            subnet: home,
        })
        .await?;
    Ok(Side {
        vpc,
        subnets,
        instances,
        gateway,
        connection: None,
    })
}
