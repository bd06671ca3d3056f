//! `isthmus vpn connection reset`.

use clap::Args;
use isthmus_client::{Id, VpnConnection, VpnGateway};
use serde_json::Value;

use super::context::Context;
use super::output::ConnectionRow;
use super::vpn::PATIENCE;
use super::wait::{self, Answer};

/// Options of `vpn connection reset`.
#[derive(Debug, Args)]
pub struct ResetOptions {
    /// Name or id.
    connection: String,
    /// The gateway that it is on, if its name alone does not tell.
    #[arg(long)]
    gateway: Option<String>,
    /// Do not wait.
    #[arg(long)]
    no_wait: bool,
}

/// Resets a connection, and waits until it is up again or waits for its peer, which alone may begin.
pub async fn run(options: ResetOptions, context: &Context) -> anyhow::Result<()> {
    let client = &context.client;
    let (gateway, connection) = context
        .connection(&options.connection, options.gateway.as_deref())
        .await?;
    let mut connection = client.reset_connection(&gateway.id, &connection.id).await?;
    if !options.no_wait {
        connection = until_back(context, &gateway.id, &connection.id).await?;
    }
    context.show(&ConnectionRow::from((gateway, connection)))
}

async fn until_back(
    context: &Context,
    gateway: &Id<VpnGateway>,
    id: &Id<VpnConnection>,
) -> anyhow::Result<VpnConnection> {
    let client = &context.client;
    let what = "the VPN connection was reset, but did not come up again";
    wait::until(what, PATIENCE, || async {
        let connection = client.connection(gateway, id).await?;
        // It reads down until its host has carried out the reset.
        if connection.is_up() || awaits_peer(&client.connection_doctor(gateway, id).await?) {
            return Ok(Answer::Ready(connection));
        }
        let reasons = connection.reasons();
        Ok(Answer::NotYet(format!("it is {}: {reasons}", connection.status)))
    })
    .await
}

/// Whether the peer alone may begin and has not. Before its reset was carried out, only a connection without SAs is so.
fn awaits_peer(doctor: &Value) -> bool {
    doctor["report"]["state"]["reason"] == "awaiting_peer"
}
