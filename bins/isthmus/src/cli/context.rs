//! What the verbs share, and how they find what a person named.

use std::io::{self, Write};

use anyhow::{Context as _, bail};
use isthmus_client::{
    Client, IkePolicy, Instance, IpsecPolicy, Resource, Subnet, Vpc, VpnConnection, VpnGateway,
};
use isthmus_runtime::StateLayout;
use serde::Serialize;

use super::options::OutputFormat;
use super::output::{self, Row};

/// What the verbs share.
#[derive(Debug)]
pub struct Context {
    /// The API.
    pub client: Client,
    /// The installation on this host, if there is one.
    pub layout: StateLayout,
    /// How results are printed.
    pub output: OutputFormat,
}

impl Context {
    /// Puts the parts together.
    pub const fn new(client: Client, layout: StateLayout, output: OutputFormat) -> Self {
        Self {
            client,
            layout,
            output,
        }
    }

    /// Prints a list.
    pub fn show_all<T: Row + Serialize>(&self, items: &[T]) -> anyhow::Result<()> {
        let text = match self.output {
            OutputFormat::Json => output::json(items)?,
            OutputFormat::Table => output::table(items),
        };
        print(&text)
    }

    /// Prints one resource.
    pub fn show<T: Row + Serialize>(&self, item: &T) -> anyhow::Result<()> {
        let text = match self.output {
            OutputFormat::Json => output::json(item)?,
            OutputFormat::Table => output::details(item),
        };
        print(&text)
    }

    /// Prints that something was done to a resource, for people only.
    pub fn done<R: Resource>(&self, item: &R, what: &str) -> anyhow::Result<()> {
        match self.output {
            OutputFormat::Json => Ok(()),
            OutputFormat::Table => print(&format!("{} {} {what}\n", R::KIND, item.name())),
        }
    }

    /// The VPC of that name or id.
    pub async fn vpc(&self, wanted: &str) -> anyhow::Result<Vpc> {
        pick(self.client.vpcs().await?, wanted)
    }

    /// The VPC of that name or id, if one is wanted.
    pub async fn vpc_if_any(&self, wanted: Option<&str>) -> anyhow::Result<Option<Vpc>> {
        match wanted {
            Some(wanted) => self.vpc(wanted).await.map(Some),
            None => Ok(None),
        }
    }

    /// The subnet of that name or id, in that VPC or any.
    pub async fn subnet(&self, wanted: &str, vpc: Option<&str>) -> anyhow::Result<Subnet> {
        let vpc = self.vpc_if_any(vpc).await?;
        pick(
            self.client.subnets(vpc.as_ref().map(|vpc| &vpc.id)).await?,
            wanted,
        )
    }

    /// The instance of that name or id.
    pub async fn instance(&self, wanted: &str) -> anyhow::Result<Instance> {
        pick(self.client.instances(None).await?, wanted)
    }

    /// The VPN gateway of that name or id.
    pub async fn gateway(&self, wanted: &str) -> anyhow::Result<VpnGateway> {
        pick(self.client.vpn_gateways().await?, wanted)
    }

    /// Every connection, or those of the gateway of that name or id, each with its gateway.
    pub async fn connections(
        &self,
        gateway: Option<&str>,
    ) -> anyhow::Result<Vec<(VpnGateway, VpnConnection)>> {
        let gateways = match gateway {
            Some(wanted) => vec![self.gateway(wanted).await?],
            None => self.client.vpn_gateways().await?,
        };
        let mut found = Vec::new();
        for gateway in gateways {
            let connections = self.client.connections(&gateway.id).await?;
            found.extend(
                connections
                    .into_iter()
                    .map(|connection| (gateway.clone(), connection)),
            );
        }
        Ok(found)
    }

    /// The connection of that name or id, on that gateway or any.
    pub async fn connection(
        &self,
        wanted: &str,
        gateway: Option<&str>,
    ) -> anyhow::Result<(VpnGateway, VpnConnection)> {
        let mut found = self.connections(gateway).await?;
        found.retain(|(_, connection)| is(connection, wanted));
        if found.len() > 1 {
            let gateways: Vec<_> = found.iter().map(|(gateway, _)| gateway.name.as_str()).collect();
            bail!(
                "VPN connections named {wanted:?} are on the gateways {}; name one with --gateway",
                gateways.join(", ")
            );
        }
        found
            .pop()
            .with_context(|| format!("there is no VPN connection {wanted:?}"))
    }

    /// The IKE policy of that name or id.
    pub async fn ike_policy(&self, wanted: &str) -> anyhow::Result<IkePolicy> {
        pick(self.client.ike_policies().await?, wanted)
    }

    /// The IPsec policy of that name or id.
    pub async fn ipsec_policy(&self, wanted: &str) -> anyhow::Result<IpsecPolicy> {
        pick(self.client.ipsec_policies().await?, wanted)
    }
}

/// The one item of that name or id.
pub fn pick<R: Resource>(mut items: Vec<R>, wanted: &str) -> anyhow::Result<R> {
    items.retain(|item| is(item, wanted));
    if items.len() > 1 {
        let choices: Vec<_> = items
            .iter()
            .map(|item| match item.scope() {
                Some(scope) => format!("{} (in {scope})", item.id()),
                None => item.id().to_string(),
            })
            .collect();
        bail!(
            "more than one {} is named {wanted:?}; give the id: {}",
            R::KIND,
            choices.join(", ")
        );
    }
    items
        .pop()
        .with_context(|| format!("there is no {} {wanted:?}", R::KIND))
}

fn is<R: Resource>(item: &R, wanted: &str) -> bool {
    item.name() == wanted || item.id().as_str() == wanted
}

/// Writes a result.
pub fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever reads has seen enough, as with `isthmus … | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("standard output cannot be written"),
    }
}

/// Writes a remark.
pub fn remark(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use isthmus_client::Rest;

    use super::*;

    fn vpc(id: &str, name: &str) -> Vpc {
        Vpc {
            id: isthmus_client::Id::new(id),
            name: name.to_owned(),
            status: "available".to_owned(),
            created_at: String::new(),
            rest: Rest::new(),
        }
    }

    #[test]
    fn picks_by_name_or_id() {
        let items = || vec![vpc("r006-1", "left"), vpc("r006-2", "right")];
        assert_eq!(pick(items(), "right").unwrap().id.as_str(), "r006-2");
        assert_eq!(pick(items(), "r006-1").unwrap().name, "left");
        assert_eq!(
            pick(items(), "lef").unwrap_err().to_string(),
            "there is no VPC \"lef\""
        );
    }

    #[test]
    fn same_name_twice_asks_for_the_id() {
        let error = pick(vec![vpc("r006-1", "a"), vpc("r006-2", "a")], "a")
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "more than one VPC is named \"a\"; give the id: r006-1, r006-2"
        );
    }
}
