//! From a model snapshot to what a host must have. Every choice is made here; a host has none left.
//!
//! [`plan_vpc`] looks at one VPC only, so that a change costs what its VPC costs. [`check()`] says whether a plan may be
//! published. Both are plain functions: the same snapshot gives the same plan, in the same order.
//!
//! This crate knows neither kernel nor network, and nothing of how plans travel. Traffic limits of tunnels follow
//! RFC 4303 (packet layout) and RFC 3948 (encapsulation in UDP).

mod check;
mod gateway;
mod network;
pub mod proposal;
mod size;

use isthmus_hostplan::{UplinkPlan, VpcPlan};
use isthmus_model::{Settings, Snapshot};
use isthmus_types::{Generation, VpcId};

pub use check::{Violation, check};
pub use gateway::{Obstacle, obstacle};

/// Plans one VPC. None if the VPC does not exist or has nothing on the host.
///
/// Resources marked for deletion are left out. The generation is zero: whoever publishes the plan sets it, and only
/// when the content differs from what was published before.
pub fn plan_vpc(snapshot: &Snapshot, vpc: VpcId) -> Option<VpcPlan> {
    let record = snapshot.vpc(vpc)?;
    let ports = network::ports(snapshot, vpc);
    let gateways = gateway::gateways(snapshot, vpc);
    if ports.is_empty() && gateways.is_empty() {
        return None;
    }
    let subnets = network::subnets(snapshot, vpc, &ports);
    Some(VpcPlan {
        vpc,
        generation: Generation::default(),
        ranges: network::ranges(snapshot, vpc),
        source_nat: record.source_nat,
        security_groups: network::security_groups(snapshot, &ports),
        acls: network::acls(snapshot, &subnets),
        subnets,
        ports,
        gateways,
    })
}

/// How public addresses reach the outside.
pub fn uplink(settings: &Settings) -> UplinkPlan {
    UplinkPlan::Private {
        pool: settings.public_pool,
        router: settings.uplink_router,
        router_ipv6: Some(settings.uplink_router_ipv6),
    }
}

#[cfg(test)]
mod tests;
