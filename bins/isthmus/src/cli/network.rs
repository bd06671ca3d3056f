//! VPCs, address prefixes, subnets and regions.

use clap::{Args, Subcommand};
use isthmus_client::{
    Identity, NameReference, NewAddressPrefix, NewSubnet, NewVpc, PrefixManagement, SubnetRange, Zone,
};
use isthmus_types::Cidr;

use super::context::{Context, pick};
use super::output::Row;

/// Subcommands of `vpc`.
#[derive(Debug, Subcommand)]
pub enum VpcCommand {
    /// List VPCs.
    List,
    /// Show a VPC.
    Show {
        /// Name or id.
        vpc: String,
    },
    /// Create a VPC.
    Create {
        /// Its name.
        name: Option<String>,
        /// Make no address prefixes; you create your own.
        #[arg(long)]
        manual_prefixes: bool,
    },
    /// Give a VPC another name.
    Update {
        /// Name or id.
        vpc: String,
        /// The new name.
        #[arg(long)]
        name: String,
    },
    /// Delete a VPC that has no subnets.
    Delete {
        /// Name or id.
        vpc: String,
    },
}

/// Carries out a subcommand of `vpc`.
pub async fn run_vpc(command: VpcCommand, context: &Context) -> anyhow::Result<()> {
    let client = &context.client;
    match command {
        VpcCommand::List => context.show_all(&client.vpcs().await?),
        VpcCommand::Show { vpc } => context.show(&context.vpc(&vpc).await?),
        VpcCommand::Create {
            name,
            manual_prefixes,
        } => {
            let management = if manual_prefixes {
                PrefixManagement::Manual
            } else {
                PrefixManagement::Auto
            };
            let new = NewVpc {
                name,
                address_prefix_management: management,
            };
            context.show(&client.create_vpc(&new).await?)
        }
        VpcCommand::Update { vpc, name } => {
            let vpc = context.vpc(&vpc).await?;
            context.show(&client.rename_vpc(&vpc.id, &name).await?)
        }
        VpcCommand::Delete { vpc } => {
            let vpc = context.vpc(&vpc).await?;
            client.delete_vpc(&vpc.id).await?;
            context.done(&vpc, "deleted")
        }
    }
}

/// Subcommands of `prefix`.
#[derive(Debug, Subcommand)]
pub enum PrefixCommand {
    /// List the address prefixes of a VPC.
    List {
        /// Name or id of the VPC.
        vpc: String,
    },
    /// Show an address prefix.
    Show {
        /// Name or id of the VPC.
        vpc: String,
        /// Name or id.
        prefix: String,
    },
    /// Give a range of addresses to a zone of a VPC.
    Create {
        /// Name or id of the VPC.
        vpc: String,
        /// The range, such as 10.1.0.0/16.
        range: Cidr,
        /// The zone.
        #[arg(long)]
        zone: String,
        /// Its name.
        #[arg(long)]
        name: Option<String>,
        /// Carve subnets from it that are asked for by size.
        #[arg(long)]
        default: bool,
    },
    /// Delete an address prefix that holds no subnet.
    Delete {
        /// Name or id of the VPC.
        vpc: String,
        /// Name or id.
        prefix: String,
    },
}

/// Carries out a subcommand of `prefix`.
pub async fn run_prefix(command: PrefixCommand, context: &Context) -> anyhow::Result<()> {
    let client = &context.client;
    match command {
        PrefixCommand::List { vpc } => {
            let vpc = context.vpc(&vpc).await?;
            context.show_all(&client.prefixes(&vpc.id).await?)
        }
        PrefixCommand::Show { vpc, prefix } => {
            let vpc = context.vpc(&vpc).await?;
            context.show(&pick(client.prefixes(&vpc.id).await?, &prefix)?)
        }
        PrefixCommand::Create {
            vpc,
            range,
            zone,
            name,
            default,
        } => {
            let vpc = context.vpc(&vpc).await?;
            let new = NewAddressPrefix {
                name,
                cidr: range,
                zone: NameReference::to(zone),
                is_default: default,
            };
            context.show(&client.create_prefix(&vpc.id, &new).await?)
        }
        PrefixCommand::Delete { vpc, prefix } => {
            let vpc = context.vpc(&vpc).await?;
            let prefix = pick(client.prefixes(&vpc.id).await?, &prefix)?;
            client.delete_prefix(&vpc.id, &prefix.id).await?;
            context.done(&prefix, "deleted")
        }
    }
}

/// Subcommands of `subnet`.
#[derive(Debug, Subcommand)]
pub enum SubnetCommand {
    /// List subnets.
    List {
        /// Only those of this VPC.
        #[arg(long)]
        vpc: Option<String>,
    },
    /// Show a subnet.
    Show {
        /// Name or id.
        subnet: String,
        /// The VPC that it is in, if its name alone does not tell.
        #[arg(long)]
        vpc: Option<String>,
    },
    /// Create a subnet.
    Create {
        /// Name or id of the VPC.
        vpc: String,
        /// Its name.
        name: Option<String>,
        /// Its addresses.
        #[command(flatten)]
        range: RangeOptions,
        /// Its zone; that of the address prefix around it if missing.
        #[arg(long)]
        zone: Option<String>,
    },
    /// Give a subnet another name.
    Update {
        /// Name or id.
        subnet: String,
        /// The VPC that it is in, if its name alone does not tell.
        #[arg(long)]
        vpc: Option<String>,
        /// The new name.
        #[arg(long)]
        name: String,
    },
    /// Delete a subnet that nothing uses.
    Delete {
        /// Name or id.
        subnet: String,
        /// The VPC that it is in, if its name alone does not tell.
        #[arg(long)]
        vpc: Option<String>,
    },
}

/// A subnet's addresses: one of the two.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct RangeOptions {
    /// Its range, such as 10.1.0.0/24.
    #[arg(long)]
    range: Option<Cidr>,
    /// Take so many addresses (a power of two) from the zone's default address prefix.
    #[arg(long, value_name = "COUNT")]
    size: Option<u32>,
}

/// Carries out a subcommand of `subnet`.
pub async fn run_subnet(command: SubnetCommand, context: &Context) -> anyhow::Result<()> {
    let client = &context.client;
    match command {
        SubnetCommand::List { vpc } => {
            let vpc = context.vpc_if_any(vpc.as_deref()).await?;
            context.show_all(&client.subnets(vpc.as_ref().map(|vpc| &vpc.id)).await?)
        }
        SubnetCommand::Show { subnet, vpc } => context.show(&context.subnet(&subnet, vpc.as_deref()).await?),
        SubnetCommand::Create {
            vpc,
            name,
            range,
            zone,
        } => {
            let vpc = context.vpc(&vpc).await?;
            let range = match (range.range, range.size) {
                (Some(cidr), _) => SubnetRange::Cidr(cidr),
                (None, size) => SubnetRange::Count(size.unwrap_or_default()),
            };
            let new = NewSubnet {
                name,
                vpc: Identity::from(&vpc.id),
                zone: zone.map(NameReference::to),
                range,
            };
            context.show(&client.create_subnet(&new).await?)
        }
        SubnetCommand::Update { subnet, vpc, name } => {
            let subnet = context.subnet(&subnet, vpc.as_deref()).await?;
            context.show(&client.rename_subnet(&subnet.id, &name).await?)
        }
        SubnetCommand::Delete { subnet, vpc } => {
            let subnet = context.subnet(&subnet, vpc.as_deref()).await?;
            client.delete_subnet(&subnet.id).await?;
            context.done(&subnet, "deleted")
        }
    }
}

/// Subcommands of `region`.
#[derive(Debug, Subcommand)]
pub enum RegionCommand {
    /// List regions.
    List,
    /// Show the zones of a region.
    Show {
        /// Its name.
        region: String,
    },
}

/// Carries out a subcommand of `region`.
pub async fn run_region(command: RegionCommand, context: &Context) -> anyhow::Result<()> {
    match command {
        RegionCommand::List => context.show_all(&context.client.regions().await?),
        RegionCommand::Show { region } => context.show_all(&context.client.zones(&region).await?),
    }
}

impl Row for Zone {
    const COLUMNS: &'static [&'static str] = &["ZONE", "REGION", "STATUS"];

    fn cells(&self) -> Vec<String> {
        vec![self.name.clone(), self.region.name.clone(), self.status.clone()]
    }
}
