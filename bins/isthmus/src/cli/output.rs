//! Tables and JSON.

use std::fmt::Write;

use anyhow::Context as _;
use isthmus_client::{
    AddressPrefix, IkePolicy, Instance, IpsecPolicy, Region, Subnet, Vpc, VpnConnection, VpnGateway,
};
use serde::Serialize;

/// Something that a table shows as one row.
pub trait Row {
    /// The columns.
    const COLUMNS: &'static [&'static str];

    /// One text for each column.
    fn cells(&self) -> Vec<String>;
}

/// The items below each other, under their columns.
pub fn table<T: Row>(items: &[T]) -> String {
    lines(T::COLUMNS, items.iter().map(Row::cells))
}

/// Rows under a header.
pub fn lines(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let header = header.iter().map(|&column| column.to_owned()).collect();
    aligned(&std::iter::once(header).chain(rows).collect::<Vec<_>>())
}

/// The columns of one item below each other.
pub fn details<T: Row>(item: &T) -> String {
    let rows: Vec<_> = T::COLUMNS
        .iter()
        .zip(item.cells())
        .map(|(column, cell)| vec![column.to_lowercase(), cell])
        .collect();
    aligned(&rows)
}

/// JSON for people and programs.
pub fn json<T: Serialize + ?Sized>(value: &T) -> anyhow::Result<String> {
    let mut text = serde_json::to_string_pretty(value).context("the answer cannot be written as JSON")?;
    text.push('\n');
    Ok(text)
}

// Each column as wide as its widest cell, two blanks between columns, none at the end of a line.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn joined<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}

impl Row for Region {
    const COLUMNS: &'static [&'static str] = &["REGION", "STATUS"];

    fn cells(&self) -> Vec<String> {
        vec![self.name.clone(), self.status.clone()]
    }
}

impl Row for Vpc {
    const COLUMNS: &'static [&'static str] = &["VPC", "STATUS", "CREATED", "ID"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.status.clone(),
            self.created_at.clone(),
            self.id.to_string(),
        ]
    }
}

impl Row for AddressPrefix {
    const COLUMNS: &'static [&'static str] = &["PREFIX", "RANGE", "ZONE", "DEFAULT", "IN USE", "ID"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.cidr.clone(),
            self.zone.name.clone(),
            yes(self.is_default),
            yes(self.has_subnets),
            self.id.to_string(),
        ]
    }
}

impl Row for Subnet {
    const COLUMNS: &'static [&'static str] = &["SUBNET", "VPC", "ZONE", "RANGE", "FREE", "STATUS", "ID"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.vpc.name.clone(),
            self.zone.name.clone(),
            self.ipv4_cidr_block.to_string(),
            format!(
                "{}/{}",
                self.available_ipv4_address_count, self.total_ipv4_address_count
            ),
            self.status.clone(),
            self.id.to_string(),
        ]
    }
}

impl Row for Instance {
    const COLUMNS: &'static [&'static str] = &["INSTANCE", "VPC", "SUBNET", "ADDRESS", "STATUS", "ID"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.vpc.name.clone(),
            self.primary_network_interface.subnet.name.clone(),
            self.primary_network_interface.primary_ip.address.to_string(),
            self.status.clone(),
            self.id.to_string(),
        ]
    }
}

impl Row for VpnGateway {
    const COLUMNS: &'static [&'static str] = &[
        "GATEWAY",
        "VPC",
        "SUBNET",
        "PUBLIC ADDRESS",
        "STATUS",
        "CONNECTIONS",
        "ID",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.vpc.name.clone(),
            self.subnet.name.clone(),
            self.public_ip.address.to_string(),
            self.status().to_owned(),
            self.connections.len().to_string(),
            self.id.to_string(),
        ]
    }
}

/// A connection with the gateway that it is on.
#[derive(Debug, Serialize)]
pub struct ConnectionRow {
    gateway: GatewayName,
    #[serde(flatten)]
    connection: VpnConnection,
}

#[derive(Debug, Serialize)]
struct GatewayName {
    id: String,
    name: String,
}

impl From<(VpnGateway, VpnConnection)> for ConnectionRow {
    fn from((gateway, connection): (VpnGateway, VpnConnection)) -> Self {
        Self {
            gateway: GatewayName {
                id: gateway.id.to_string(),
                name: gateway.name,
            },
            connection,
        }
    }
}

impl Row for ConnectionRow {
    const COLUMNS: &'static [&'static str] = &[
        "CONNECTION",
        "GATEWAY",
        "STATUS",
        "PEER",
        "LOCAL RANGES",
        "PEER RANGES",
        "IKE POLICY",
        "IPSEC POLICY",
        "ID",
        "REASON",
    ];

    fn cells(&self) -> Vec<String> {
        let connection = &self.connection;
        let policy = |name: Option<&str>| name.unwrap_or("auto").to_owned();
        vec![
            connection.name.clone(),
            self.gateway.name.clone(),
            if connection.admin_state_up {
                connection.status.clone()
            } else {
                format!("{} (switched off)", connection.status)
            },
            connection.peer.host().to_owned(),
            joined(&connection.local.cidrs),
            joined(&connection.peer.cidrs),
            policy(connection.ike_policy.as_ref().map(|policy| policy.name.as_str())),
            policy(
                connection
                    .ipsec_policy
                    .as_ref()
                    .map(|policy| policy.name.as_str()),
            ),
            connection.id.to_string(),
            connection.reasons(),
        ]
    }
}

impl Row for IkePolicy {
    const COLUMNS: &'static [&'static str] = &[
        "POLICY",
        "IKE",
        "ENCRYPTION",
        "AUTHENTICATION",
        "GROUPS",
        "LIFETIME",
        "USED BY",
        "ID",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.ike_version.to_string(),
            joined(&self.encryption_algorithms),
            joined(&self.authentication_algorithms),
            joined(&self.dh_groups),
            self.key_lifetime.to_string(),
            self.connections.len().to_string(),
            self.id.to_string(),
        ]
    }
}

impl Row for IpsecPolicy {
    const COLUMNS: &'static [&'static str] = &[
        "POLICY",
        "ENCRYPTION",
        "AUTHENTICATION",
        "PFS",
        "LIFETIME",
        "USED BY",
        "ID",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            joined(&self.encryption_algorithms),
            joined(&self.authentication_algorithms),
            joined(&self.pfs_groups),
            self.key_lifetime.to_string(),
            self.connections.len().to_string(),
            self.id.to_string(),
        ]
    }
}

fn yes(flag: bool) -> String {
    if flag { "yes" } else { "no" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_line_up_and_end_without_blanks() {
        let text = lines(&["A", "LONGER"], [vec!["first".to_owned(), "x".to_owned()]]);
        assert_eq!(text, "A      LONGER\nfirst  x\n");
        assert_eq!(lines(&["A", "B"], []), "A  B\n");
    }
}
