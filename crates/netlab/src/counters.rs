//! What crossed the internet between two gateways, counted by the kernel packet by packet.

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::node::Node;
use crate::topology::TwoSites;

/// Packets that entered the internet's router from either side since the counters were set up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCount {
    /// UDP between ports 500 or 4500 of the two public addresses (IKE, and ESP in UDP).
    pub udp: u64,
    /// IP protocol 50 between the two public addresses.
    pub esp: u64,
    /// With a private source or destination: what must never be seen.
    pub clear: u64,
    /// Anything else.
    pub other: u64,
}

/// Counters at the internet's router of a [`TwoSites`].
#[derive(Debug)]
pub struct LinkCounters {
    internet: Node,
}

impl LinkCounters {
    /// Sets them up at zero. What neighbours tell each other by IPv6 does not count.
    ///
    /// # Errors
    /// When nft refuses, for one because they are set up already.
    pub fn new(sites: &TwoSites) -> Result<Self> {
        let (left, right) = (sites.left.public_address, sites.right.public_address);
        let (left_v6, right_v6) = (sites.left.address_v6, sites.right.address_v6);
        sites.internet.nft(&format!(
            "table inet watch {{
                counter over_udp {{ }}
                counter native_esp {{ }}
                counter in_clear {{ }}
                counter anything_else {{ }}
                set gateways {{ type ipv4_addr; elements = {{ {left}, {right} }} }}
                set gateways_v6 {{ type ipv6_addr; elements = {{ {left_v6}, {right_v6} }} }}
                chain prerouting {{
                    type filter hook prerouting priority raw;
                    iifname lo accept
                    ip saddr {{ 10.0.0.0/8, 100.64.0.0/10 }} counter name in_clear accept
                    ip daddr {{ 10.0.0.0/8, 100.64.0.0/10 }} counter name in_clear accept
                    ip6 saddr fd00::/16 counter name in_clear accept
                    ip6 daddr fd00::/16 counter name in_clear accept
                    ip saddr @gateways ip daddr @gateways jump between
                    ip6 saddr @gateways_v6 ip6 daddr @gateways_v6 jump between
                    ip6 saddr fe80::/10 accept
                    ip6 saddr :: accept
                    ip6 nexthdr icmpv6 icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
                    counter name anything_else
                }}
                chain between {{
                    meta l4proto esp counter name native_esp accept
                    ip frag-off & 0x1fff != 0 meta l4proto udp counter name over_udp accept
                    udp sport {{ 500, 4500 }} counter name over_udp accept
                    udp dport {{ 500, 4500 }} counter name over_udp accept
                }}
            }}"
        ))?;
        Ok(Self {
            internet: sites.internet.clone(),
        })
    }

    /// Reads them.
    ///
    /// # Errors
    /// When nft does not list them.
    pub fn read(&self) -> Result<LinkCount> {
        let listing = self
            .internet
            .command("nft", &["--json", "list", "counters", "table", "inet", "watch"])?;
        let listing: Value = serde_json::from_str(&listing)?;
        let packets = |name: &str| {
            listing["nftables"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|object| &object["counter"])
                .find(|counter| counter["name"] == name)
                .and_then(|counter| counter["packets"].as_u64())
                .with_context(|| format!("no counter {name} in the nft listing"))
        };
        Ok(LinkCount {
            udp: packets("over_udp")?,
            esp: packets("native_esp")?,
            clear: packets("in_clear")?,
            other: packets("anything_else")?,
        })
    }
}
