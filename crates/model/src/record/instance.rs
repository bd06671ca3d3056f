//! Workloads and their network interfaces.

use std::net::Ipv4Addr;

use isthmus_ops::InterfaceAttachment;
use isthmus_types::{
    InstanceId, NetworkInterfaceId, ReservedIpId, ResourceName, SecurityGroupId, SubnetId, Timestamp, VpcId,
    ZoneName,
};
use serde::{Deserialize, Serialize};

use super::Meta;

/// An instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// Name, owner, time.
    pub meta: Meta,
    /// Its VPC.
    pub vpc: VpcId,
    /// Its zone.
    pub zone: ZoneName,
    /// Name of its profile.
    pub profile: String,
    /// Id of its image.
    pub image: String,
    /// Its primary network interface.
    pub interface: NetworkInterfaceId,
    /// Whether it should run.
    pub power: InstancePower,
    /// Since when it is to be removed. Host plans no longer hold it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleting: Option<Timestamp>,
}

impl Instance {
    /// Whether hosts should have its ports up.
    pub const fn should_run(&self) -> bool {
        match self.power {
            InstancePower::RestartingUp | InstancePower::Running => true,
            InstancePower::RestartingDown | InstancePower::Stopped => false,
        }
    }
}

/// What an instance was last asked to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstancePower {
    /// Restarting, first half: down until it was observed stopped.
    RestartingDown,
    /// Restarting, second half: up, until it was observed running.
    RestartingUp,
    /// Up.
    Running,
    /// Down; address and interface stay.
    Stopped,
}

/// A network interface of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkInterface {
    /// Its id.
    pub id: NetworkInterfaceId,
    /// Its name.
    pub name: ResourceName,
    /// When it was made.
    pub created_at: Timestamp,
    /// The instance that it belongs to.
    pub instance: InstanceId,
    /// Its VPC.
    pub vpc: VpcId,
    /// Its subnet.
    pub subnet: SubnetId,
    /// Its private address.
    pub address: Ipv4Addr,
    /// The reservation of that address.
    pub reserved_ip: ReservedIpId,
    /// Its MAC address, locally administered.
    pub mac: [u8; 6],
    /// Its security groups, at least one.
    pub security_groups: Vec<SecurityGroupId>,
    /// Whether it may send from other addresses.
    pub allow_ip_spoofing: bool,
    /// What stands at the workload's end.
    pub attachment: InterfaceAttachment,
}
