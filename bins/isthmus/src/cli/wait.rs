//! Waiting for the host to catch up with what was asked for.

use std::cell::RefCell;
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::bail;
use isthmus_client::{Client, ClientError, Id, Instance, VpnConnection, VpnGateway};

/// How often the API is asked.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks `question` until it answers with something; after `patience`, fails with the words of `what`: what did not happen.
pub async fn until<T, F>(what: &str, patience: Duration, mut question: impl FnMut() -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<Answer<T>>>,
{
    let deadline = Instant::now() + patience;
    loop {
        match question().await? {
            Answer::Ready(value) => return Ok(value),
            Answer::NotYet(state) if Instant::now() >= deadline => {
                bail!("{what} within {} s: {state}", patience.as_secs())
            }
            Answer::NotYet(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// What a question was answered with.
#[derive(Debug)]
pub enum Answer<T> {
    /// Not there yet; the words say how far it is.
    NotYet(String),
    /// There.
    Ready(T),
}

/// Waits until a VPN gateway is available.
pub async fn gateway_available(
    client: &Client,
    id: &Id<VpnGateway>,
    patience: Duration,
) -> anyhow::Result<VpnGateway> {
    until("the VPN gateway did not become available", patience, || async {
        let gateway = client.vpn_gateway(id).await?;
        if gateway.is_available() {
            return Ok(Answer::Ready(gateway));
        }
        if gateway.status() == "failed" {
            let reasons: Vec<_> = gateway
                .health_reasons
                .iter()
                .map(|r| r.message.as_str())
                .collect();
            bail!("VPN gateway {} failed: {}", gateway.name, reasons.join(" "));
        }
        Ok(Answer::NotYet(format!("it is {}", gateway.status())))
    })
    .await
}

/// Waits until an instance has this status.
pub async fn instance_is(
    client: &Client,
    id: &Id<Instance>,
    status: &str,
    patience: Duration,
) -> anyhow::Result<Instance> {
    until(
        &format!("the instance did not become {status}"),
        patience,
        || async {
            let instance = client.instance(id).await?;
            if instance.status == status {
                return Ok(Answer::Ready(instance));
            }
            if instance.status == "failed" {
                bail!("instance {} failed", instance.name);
            }
            Ok(Answer::NotYet(format!("it is {}", instance.status)))
        },
    )
    .await
}

/// Waits until a connection is up; `tell` hears of each new reason why it is not.
pub async fn connection_up(
    client: &Client,
    gateway: &Id<VpnGateway>,
    id: &Id<VpnConnection>,
    patience: Duration,
    tell: impl Fn(&VpnConnection),
) -> anyhow::Result<VpnConnection> {
    let told = RefCell::new(String::new());
    until("the VPN connection did not come up", patience, || async {
        let connection = client.connection(gateway, id).await?;
        if connection.is_up() {
            return Ok(Answer::Ready(connection));
        }
        let reasons = connection.reasons();
        if *told.borrow() != reasons {
            tell(&connection);
            told.replace(reasons.clone());
        }
        let reasons = if reasons.is_empty() {
            "no reason is known".to_owned()
        } else {
            reasons
        };
        Ok(Answer::NotYet(format!(
            "{} is {}: {reasons}",
            connection.name, connection.status
        )))
    })
    .await
}

/// Waits until reading something answers that it does not exist.
pub async fn gone<T, F>(what: &str, patience: Duration, mut read: impl FnMut() -> F) -> anyhow::Result<()>
where
    F: Future<Output = Result<T, ClientError>>,
{
    until(&format!("{what} was not removed"), patience, || {
        let reading = read();
        async {
            match reading.await {
                Ok(_) => Ok(Answer::NotYet("it is still there".to_owned())),
                Err(error) if error.is_not_found() => Ok(Answer::Ready(())),
                Err(error) => Err(error.into()),
            }
        }
    })
    .await
}
