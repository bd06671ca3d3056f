//! What is left to remove once server and agent have ended: the tunnel daemon, kernel objects, and files.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use isthmus_hostplan::tunnel::TunnelRequest;
use isthmus_runtime::supervise::running;
use isthmus_runtime::{PidFile, StateLayout, private_file};
use isthmus_types::Realm;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Time that the tunnel daemon has to say goodbye to its peers.
const FAREWELL: Duration = Duration::from_secs(3);

/// Stops the tunnel daemon and removes every kernel object of the realm and every file that is of no use while nothing
/// runs. Server and agent must have ended.
pub async fn remove_all(layout: &StateLayout, realm: &Realm) -> anyhow::Result<()> {
    stop_tunnels(layout).await?;
    isthmus_agent::remove_everything(realm, &layout.pid_file("tunneld"))
        .await
        .context("kernel objects are left")?;
    for file in [
        layout.control_socket(),
        layout.tunnel_socket(),
        layout.api_url(),
        layout.agent_plan(),
        layout.pid_file("server"),
        layout.pid_file("agent"),
        layout.pid_file("tunneld"),
        layout.pid_file("up"),
        layout.realm_record(),
    ] {
        private_file::remove(&file).with_context(|| format!("{} cannot be removed", file.display()))?;
    }
    forget_claim(layout, realm)
}

/// Lets the tunnel daemon say goodbye, so that its peers need not wait to find out. Whatever it does then, it is
/// stopped with the kernel objects.
async fn stop_tunnels(layout: &StateLayout) -> anyhow::Result<()> {
    if running(&layout.pid_file("tunneld"))?.is_some() {
        let said = timeout(FAREWELL, say_stop(&layout.tunnel_socket())).await;
        if !matches!(said, Ok(Ok(()))) {
            tracing::info!("the tunnel daemon does not take a stop request");
        }
    }
    Ok(())
}

/// Asks the daemon to stop and waits until it closes the stream.
async fn say_stop(socket: &Path) -> anyhow::Result<()> {
    let mut stream = UnixStream::connect(socket).await?;
    let mut line = serde_json::to_vec(&TunnelRequest::Stop)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await?;
    Ok(())
}

/// Removes the machine-wide claim of the realm if it was ours and its holder is dead.
fn forget_claim(layout: &StateLayout, realm: &Realm) -> anyhow::Result<()> {
    let claim = StateLayout::realm_claim(realm);
    let is_ours = PidFile::last_note(&claim).is_some_and(|note| Path::new(&note) == layout.root());
    if is_ours && PidFile::holder(&claim)?.is_none() {
        private_file::remove(&claim)?;
    }
    Ok(())
}
