//! VPN gateways with the addresses that they have outside, of both IP versions.

use std::net::Ipv6Addr;

use clap::Args;
use isthmus_client::{Client, VpnGateway};
use serde::Serialize;

use super::context::Context;
use super::output::Row;
use super::vpn_options::Switch;

/// Options of `vpn gateway ipv6`.
#[derive(Debug, Args)]
pub struct Ipv6Options {
    /// Name or id of the gateway.
    gateway: String,
    /// Whether it has an IPv6 address outside.
    state: Switch,
}

/// A gateway, and its IPv6 address, of which the provider's API knows nothing.
#[derive(Debug, Serialize)]
pub struct GatewayRow {
    #[serde(flatten)]
    gateway: VpnGateway,
    #[serde(skip_serializing_if = "Option::is_none")]
    ipv6_address: Option<Ipv6Addr>,
}

impl GatewayRow {
    /// Asks for the address that belongs to `gateway`. One that was deleted meanwhile has none.
    pub async fn of(client: &Client, gateway: VpnGateway) -> Self {
        let options = client.gateway_options(&gateway.id).await;
        Self {
            ipv6_address: options.ok().and_then(|options| options.ipv6_address),
            gateway,
        }
    }
}

impl Row for GatewayRow {
    const COLUMNS: &'static [&'static str] = VpnGateway::COLUMNS;

    fn cells(&self) -> Vec<String> {
        let own = self.gateway.public_ip.address.to_string();
        let mut cells = self.gateway.cells();
        if let (Some(ipv6), Some(cell)) = (self.ipv6_address, cells.iter_mut().find(|cell| **cell == own)) {
            *cell = format!("{own}, {ipv6}");
        }
        cells
    }
}

/// Gives a gateway an IPv6 address outside, or takes it away.
pub async fn ipv6(options: Ipv6Options, context: &Context) -> anyhow::Result<()> {
    let gateway = context.gateway(&options.gateway).await?;
    let client = &context.client;
    client.set_ipv6(&gateway.id, options.state == Switch::On).await?;
    context.show(&GatewayRow::of(client, gateway).await)
}
