//! VPN gateways and connections.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use isthmus_client::{
    Change, ConnectionChange, ConnectionOptionsChange, EstablishMode, Identity, NewConnection, NewVpnGateway,
    PeerHost, VpnConnection, VpnGateway,
};
use isthmus_ops::{PeerLocation, TunnelIdentity};
use isthmus_types::Cidr;

use super::context::{Context, print, remark};
use super::doctor;
use super::gateway::{self, GatewayRow, Ipv6Options};
use super::key::{self, KeySource};
use super::output::ConnectionRow;
use super::peer_config;
use super::policy::{self, IkeCommand, IpsecCommand};
use super::vpn_options::{self, IdentityText, KeyLogOptions, OptionsOptions};
use super::vpn_reset::{self, ResetOptions};
use super::wait;

/// How long the host may take to carry out what was asked for.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// What stands for the host of a peer that is at none: a name that no resolver knows (RFC 2606).
const NO_HOST: &str = "anywhere.invalid";

/// Subcommands of `vpn`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// VPN gateways.
    #[command(subcommand)]
    Gateway(GatewayCommand),
    /// VPN connections.
    #[command(subcommand)]
    Connection(ConnectionCommand),
    /// Say how a connection is, what is wrong with it and how to mend it; exit code 1 if it is down or an error was found.
    Doctor(doctor::Options),
    /// IKE policies: how gateways authenticate and agree on keys.
    #[command(subcommand)]
    IkePolicy(IkeCommand),
    /// IPsec policies: how packets are protected.
    #[command(subcommand)]
    IpsecPolicy(IpsecCommand),
    /// Print what to enter at the other end of a connection.
    PeerConfig(peer_config::Options),
}

/// Carries out a subcommand of `vpn`.
pub async fn run(command: Command, context: &Context) -> anyhow::Result<ExitCode> {
    match command {
        Command::Doctor(options) => return doctor::run(options, context).await,
        Command::PeerConfig(options) => peer_config::run(options, context).await,
        Command::Gateway(command) => run_gateway(command, context).await,
        Command::Connection(command) => run_connection(command, context).await,
        Command::IkePolicy(command) => policy::run_ike(command, context).await,
        Command::IpsecPolicy(command) => policy::run_ipsec(command, context).await,
    }
    .map(|()| ExitCode::SUCCESS)
}

/// Subcommands of `vpn gateway`.
#[derive(Debug, Subcommand)]
pub enum GatewayCommand {
    /// List VPN gateways.
    List,
    /// Show a VPN gateway.
    Show {
        /// Name or id.
        gateway: String,
    },
    /// Create a VPN gateway, and wait until it is available.
    Create {
        /// Its name.
        name: Option<String>,
        /// Name or id of its subnet; it takes eight addresses there.
        #[arg(long)]
        subnet: String,
        /// The VPC that the subnet is in, if its name alone does not tell.
        #[arg(long)]
        vpc: Option<String>,
        /// Give it an IPv6 address outside too, for peers at IPv6 addresses.
        #[arg(long)]
        ipv6: bool,
        /// Do not wait.
        #[arg(long)]
        no_wait: bool,
    },
    /// Give a VPN gateway an IPv6 address outside, beside its IPv4 one, or take it away: off unless switched on.
    Ipv6(Ipv6Options),
    /// Write the keys of every SA of a gateway to files on its host, in clear, for Wireshark: off unless switched on.
    KeyLog(KeyLogOptions),
    /// Give a VPN gateway another name.
    Update {
        /// Name or id.
        gateway: String,
        /// The new name.
        #[arg(long)]
        name: String,
    },
    /// Delete a VPN gateway with its connections, and wait until it is gone.
    Delete {
        /// Name or id.
        gateway: String,
        /// Do not wait.
        #[arg(long)]
        no_wait: bool,
    },
}

async fn run_gateway(command: GatewayCommand, context: &Context) -> anyhow::Result<()> {
    let client = &context.client;
    match command {
        GatewayCommand::List => {
            let mut rows = Vec::new();
            for gateway in client.vpn_gateways().await? {
                rows.push(GatewayRow::of(client, gateway).await);
            }
            context.show_all(&rows)
        }
        GatewayCommand::Show { gateway } => {
            let gateway = context.gateway(&gateway).await?;
            context.show(&GatewayRow::of(client, gateway).await)
        }
        GatewayCommand::Create {
            name,
            subnet,
            vpc,
            ipv6,
            no_wait,
        } => {
            let subnet = context.subnet(&subnet, vpc.as_deref()).await?.id;
            let mut gateway = client.create_vpn_gateway(&NewVpnGateway { name, subnet }).await?;
            if ipv6 {
                client.set_ipv6(&gateway.id, true).await?;
            }
            if !no_wait {
                gateway = wait::gateway_available(client, &gateway.id, PATIENCE).await?;
            }
            context.show(&GatewayRow::of(client, gateway).await)
        }
        GatewayCommand::Ipv6(options) => gateway::ipv6(options, context).await,
        GatewayCommand::KeyLog(options) => vpn_options::key_log(options, context).await,
        GatewayCommand::Update { gateway, name } => {
            let gateway = context.gateway(&gateway).await?;
            context.show(&client.rename_vpn_gateway(&gateway.id, &name).await?)
        }
        GatewayCommand::Delete { gateway, no_wait } => {
            let gateway = context.gateway(&gateway).await?;
            client.delete_vpn_gateway(&gateway.id).await?;
            if !no_wait {
                wait::gone("the VPN gateway", PATIENCE, || client.vpn_gateway(&gateway.id)).await?;
            }
            context.done(&gateway, "deleted")
        }
    }
}

/// Subcommands of `vpn connection`.
#[derive(Debug, Subcommand)]
pub enum ConnectionCommand {
    /// List VPN connections.
    List {
        /// Only those of this gateway.
        #[arg(long)]
        gateway: Option<String>,
    },
    /// Show a VPN connection.
    Show {
        /// Name or id.
        connection: String,
        /// The gateway that it is on, if its name alone does not tell.
        #[arg(long)]
        gateway: Option<String>,
        /// Print the shared key, and nothing else.
        #[arg(long)]
        key: bool,
    },
    /// Create a VPN connection. Without a source for the shared key, one is generated.
    Create(NewOptions),
    /// Show or change how the tunnel of a VPN connection behaves: certificates, ML-KEM, lifetimes and more.
    Options(Box<OptionsOptions>),
    /// Delete the SAs of a VPN connection at both ends and negotiate anew, and wait until it is up again.
    Reset(ResetOptions),
    /// Change a VPN connection.
    Update(UpdateOptions),
    /// Delete a VPN connection, and wait until it is gone.
    Delete {
        /// Name or id.
        connection: String,
        /// The gateway that it is on, if its name alone does not tell.
        #[arg(long)]
        gateway: Option<String>,
        /// Do not wait.
        #[arg(long)]
        no_wait: bool,
    },
}

/// Options of `vpn connection create`.
#[derive(Debug, Args)]
pub struct NewOptions {
    /// Its name.
    name: Option<String>,
    /// Name or id of the gateway.
    #[arg(long)]
    gateway: String,
    /// IPv4 or IPv6 address, or domain name, of the peer.
    #[arg(long, required_unless_present = "from_anywhere")]
    peer: Option<String>,
    /// Instead of an address: the identity of a peer that may be anywhere, in the forms of `options --peer-id`. It begins,
    /// and its identity tells who it is.
    #[arg(long, value_name = "IDENTITY", conflicts_with = "peer")]
    from_anywhere: Option<IdentityText>,
    /// Ranges on our side.
    #[arg(long, required = true, value_delimiter = ',', value_name = "RANGES")]
    local: Vec<Cidr>,
    /// Ranges on the peer's side.
    #[arg(long, required = true, value_delimiter = ',', value_name = "RANGES")]
    remote: Vec<Cidr>,
    #[command(flatten)]
    key: KeySource,
    /// IKE policy; automatic negotiation if missing.
    #[arg(long, value_name = "POLICY")]
    ike_policy: Option<String>,
    /// IPsec policy; automatic negotiation if missing.
    #[arg(long, value_name = "POLICY")]
    ipsec_policy: Option<String>,
    /// Never start negotiations; wait for the peer.
    #[arg(long)]
    peer_only: bool,
}

/// Options of `vpn connection update`.
#[derive(Debug, Args)]
pub struct UpdateOptions {
    /// Name or id.
    connection: String,
    /// The gateway that it is on, if its name alone does not tell.
    #[arg(long)]
    gateway: Option<String>,
    /// The new name.
    #[arg(long)]
    name: Option<String>,
    /// IPv4 or IPv6 address, or domain name, of the new peer.
    #[arg(long)]
    peer: Option<String>,
    #[command(flatten)]
    key: KeySource,
    /// Switch the connection on or off.
    #[arg(long, value_name = "STATE")]
    admin_state: Option<AdminState>,
    /// IKE policy, or `auto` for automatic negotiation.
    #[arg(long, value_name = "POLICY")]
    ike_policy: Option<String>,
    /// IPsec policy, or `auto` for automatic negotiation.
    #[arg(long, value_name = "POLICY")]
    ipsec_policy: Option<String>,
    /// Add ranges on our side.
    #[arg(long, value_delimiter = ',', value_name = "RANGES")]
    add_local: Vec<Cidr>,
    /// Remove ranges on our side.
    #[arg(long, value_delimiter = ',', value_name = "RANGES")]
    remove_local: Vec<Cidr>,
    /// Add ranges on the peer's side.
    #[arg(long, value_delimiter = ',', value_name = "RANGES")]
    add_remote: Vec<Cidr>,
    /// Remove ranges on the peer's side.
    #[arg(long, value_delimiter = ',', value_name = "RANGES")]
    remove_remote: Vec<Cidr>,
}

/// Whether a connection should be up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AdminState {
    /// It should not.
    Down,
    /// It should.
    Up,
}

async fn run_connection(command: ConnectionCommand, context: &Context) -> anyhow::Result<()> {
    let client = &context.client;
    match command {
        ConnectionCommand::List { gateway } => {
            let found = context.connections(gateway.as_deref()).await?;
            let rows: Vec<_> = found.into_iter().map(ConnectionRow::from).collect();
            context.show_all(&rows)
        }
        ConnectionCommand::Show {
            connection,
            gateway,
            key,
        } => {
            let found = context.connection(&connection, gateway.as_deref()).await?;
            if key {
                return print(&format!("{}\n", found.1.psk.reveal()));
            }
            context.show(&ConnectionRow::from(found))
        }
        ConnectionCommand::Create(options) => create_connection(options, context).await,
        ConnectionCommand::Options(options) => vpn_options::run(*options, context).await,
        ConnectionCommand::Reset(options) => vpn_reset::run(options, context).await,
        ConnectionCommand::Update(options) => update_connection(options, context).await,
        ConnectionCommand::Delete {
            connection,
            gateway,
            no_wait,
        } => {
            let (gateway, connection) = context.connection(&connection, gateway.as_deref()).await?;
            client.delete_connection(&gateway.id, &connection.id).await?;
            if !no_wait {
                let read = || client.connection(&gateway.id, &connection.id);
                wait::gone("the VPN connection", PATIENCE, read).await?;
            }
            context.done(&connection, "deleted")
        }
    }
}

async fn create_connection(options: NewOptions, context: &Context) -> anyhow::Result<()> {
    let gateway = context.gateway(&options.gateway).await?;
    let given = options.key.read()?;
    let generated = given.is_none();
    let ike_policy = match &options.ike_policy {
        Some(wanted) => Some(context.ike_policy(wanted).await?.id),
        None => None,
    };
    let ipsec_policy = match &options.ipsec_policy {
        Some(wanted) => Some(context.ipsec_policy(wanted).await?.id),
        None => None,
    };
    let anywhere = match options.from_anywhere {
        None => None,
        Some(IdentityText(Some(identity))) => Some(identity),
        Some(IdentityText(None)) => anyhow::bail!("a peer that may be anywhere needs an identity of its own"),
    };
    let new = NewConnection {
        name: options.name,
        psk: given.unwrap_or_else(key::generate),
        peer: match (&anywhere, options.peer) {
            (None, Some(peer)) => peer,
            // The provider's API wants one.
            (Some(TunnelIdentity::Fqdn(name)), _) => name.clone(),
            (Some(_), _) | (None, None) => NO_HOST.to_owned(),
        },
        local_cidrs: options.local,
        peer_cidrs: options.remote,
        ike_policy,
        ipsec_policy,
        establish_mode: if options.peer_only {
            EstablishMode::PeerOnly
        } else {
            EstablishMode::Bidirectional
        },
        // Not before it is known that the peer is not there.
        admin_state_up: anywhere.is_none(),
    };
    let mut connection = context.client.create_connection(&gateway.id, &new).await?;
    if let Some(identity) = anywhere {
        connection = let_in_from_anywhere(context, &gateway, &connection, identity).await?;
    }
    if generated {
        remark(&format!(
            "a shared key was generated; for the other side, print it with: isthmus vpn connection show {} --key",
            connection.name
        ));
    }
    show_connection(context, gateway, connection)
}

/// Makes a connection that is switched off one whose peer may be anywhere, and switches it on. If that is refused, the
/// connection goes again.
async fn let_in_from_anywhere(
    context: &Context,
    gateway: &VpnGateway,
    connection: &VpnConnection,
    identity: TunnelIdentity,
) -> anyhow::Result<VpnConnection> {
    let client = &context.client;
    let change = ConnectionOptionsChange {
        peer_id: Change::Set(identity),
        peer_location: Change::Set(PeerLocation::Anywhere),
        ..ConnectionOptionsChange::default()
    };
    let changed = client
        .change_connection_options(&gateway.id, &connection.id, &change)
        .await;
    if let Err(error) = changed {
        let deleted = client.delete_connection(&gateway.id, &connection.id).await;
        let error = anyhow::Error::from(error);
        return Err(match deleted {
            Ok(_) => error,
            Err(failure) => error.context(format!(
                "{} is left behind, switched off, as it could not be deleted: {failure}",
                connection.name
            )),
        });
    }
    let change = ConnectionChange {
        admin_state_up: Some(true),
        ..ConnectionChange::default()
    };
    Ok(client
        .change_connection(&gateway.id, &connection.id, &change)
        .await?)
}

async fn update_connection(options: UpdateOptions, context: &Context) -> anyhow::Result<()> {
    let client = &context.client;
    let (gateway, connection) = context
        .connection(&options.connection, options.gateway.as_deref())
        .await?;
    let ike_policy = match options.ike_policy.as_deref() {
        None => Change::Keep,
        Some("auto") => Change::Remove,
        Some(wanted) => Change::Set(Identity::from(&context.ike_policy(wanted).await?.id)),
    };
    let ipsec_policy = match options.ipsec_policy.as_deref() {
        None => Change::Keep,
        Some("auto") => Change::Remove,
        Some(wanted) => Change::Set(Identity::from(&context.ipsec_policy(wanted).await?.id)),
    };
    let change = ConnectionChange {
        name: options.name,
        psk: options.key.read()?,
        admin_state_up: options.admin_state.map(|state| state == AdminState::Up),
        peer: options.peer.as_deref().map(PeerHost::from),
        ike_policy,
        ipsec_policy,
    };
    // Additions first: a side may not be without ranges in between.
    for cidr in options.add_local {
        client.add_local_cidr(&gateway.id, &connection.id, cidr).await?;
    }
    for cidr in options.add_remote {
        client.add_peer_cidr(&gateway.id, &connection.id, cidr).await?;
    }
    for cidr in options.remove_local {
        client
            .remove_local_cidr(&gateway.id, &connection.id, cidr)
            .await?;
    }
    for cidr in options.remove_remote {
        client.remove_peer_cidr(&gateway.id, &connection.id, cidr).await?;
    }
    let connection = client
        .change_connection(&gateway.id, &connection.id, &change)
        .await?;
    show_connection(context, gateway, connection)
}

fn show_connection(context: &Context, gateway: VpnGateway, connection: VpnConnection) -> anyhow::Result<()> {
    context.show(&ConnectionRow::from((gateway, connection)))
}
