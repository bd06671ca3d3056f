//! `isthmus vpn peer-config`: what to enter at the other end.

use anyhow::Context as _;
use clap::Args;
use clap::builder::PossibleValuesParser;
use isthmus_peerconfig::{Peering, Vendor, configuration};

use super::context::{Context, print};

/// Options of `vpn peer-config`.
#[derive(Debug, Args)]
pub struct Options {
    /// Name or id of the connection.
    connection: String,
    /// What stands at the other end.
    #[arg(
        long = "for",
        value_name = "VENDOR",
        value_parser = PossibleValuesParser::new(Vendor::ALL.map(Vendor::word))
    )]
    vendor: String,
    /// The gateway that it is on, if its name alone does not tell.
    #[arg(long)]
    gateway: Option<String>,
    /// Print the shared key too, instead of a placeholder.
    #[arg(long)]
    show_key: bool,
}

/// Prints it.
pub async fn run(options: Options, context: &Context) -> anyhow::Result<()> {
    let vendor = Vendor::from_word(&options.vendor).context("there is no such vendor")?;
    let (gateway, connection) = context
        .connection(&options.connection, options.gateway.as_deref())
        .await?;
    let answer = context
        .client
        .connection_settings(&gateway.id, &connection.id)
        .await?;
    let peering: Peering = serde_json::from_value(answer).context("the server's answer is not understood")?;
    let key = options.show_key.then_some(&connection.psk);
    print(&configuration(vendor, &peering, key)?)
}
