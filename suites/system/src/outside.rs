//! Counts what passes the namespace that plays the internet.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use isthmus_netlab::Node;
use serde_json::Value;

const TABLE: &str = "watch";

/// Counters on everything that arrives in the internet's namespace.
pub struct Outside {
    node: Node,
}

/// Packets since the counters were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutsideCount {
    /// UDP to port 500 or 4500 between the two gateways. Datagrams that one send has joined count as one.
    pub tunnel: u64,
    /// Bytes of that.
    pub tunnel_bytes: u64,
    /// ESP without UDP between the two gateways.
    pub native: u64,
    /// Any other packet of their IP version, but for neighbour discovery.
    pub other: u64,
    /// Packets from or to a private address of a VPC: these must never be seen outside.
    pub private: u64,
}

impl Outside {
    /// Starts counting in `node`, with `gateways` as the only two addresses that may talk.
    ///
    /// # Errors
    /// When nftables refuses.
    pub fn watch(node: Node, gateways: [impl Into<IpAddr>; 2]) -> Result<Self> {
        let [left, right] = gateways.map(Into::into);
        let (ip, version) = match left {
            IpAddr::V4(_) => ("ip", "ipv4"),
            IpAddr::V6(_) => ("ip6", "ipv6"),
        };
        let between = format!("{ip} saddr {{ {left}, {right} }} {ip} daddr {{ {left}, {right} }}");
        node.nft(&format!(
            "table inet {TABLE} {{
                counter tunnel {{ }}
                counter native {{ }}
                counter other {{ }}
                counter private {{ }}
                chain arriving {{
                    type filter hook prerouting priority -400; policy accept;
                    ip daddr 10.0.0.0/8 counter name private
                    ip saddr 10.0.0.0/8 counter name private
                    meta nfproto != {version} return
                    {between} udp dport {{ 500, 4500 }} counter name tunnel return
                    {between} meta l4proto esp counter name native return
                    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} return
                    counter name other
                }}
            }}"
        ))?;
        Ok(Self { node })
    }

    /// Reads the counters.
    ///
    /// # Errors
    /// When they are gone.
    pub fn count(&self) -> Result<OutsideCount> {
        let listing = self
            .node
            .command("nft", &["-j", "list", "counters", "table", "inet", TABLE])?;
        let listing: Value = serde_json::from_str(&listing)?;
        let objects = listing["nftables"].as_array().context("a list of objects")?;
        let counted = |name: &str, what: &str| {
            objects
                .iter()
                .find(|object| object["counter"]["name"] == name)
                .and_then(|object| object["counter"][what].as_u64())
                .with_context(|| format!("counter {name}"))
        };
        Ok(OutsideCount {
            tunnel: counted("tunnel", "packets")?,
            tunnel_bytes: counted("tunnel", "bytes")?,
            native: counted("native", "packets")?,
            other: counted("other", "packets")?,
            private: counted("private", "packets")?,
        })
    }
}
