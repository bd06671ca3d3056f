//! Instances.

use isthmus_ops::{InstanceState, InstanceStatus, InstanceView, InterfaceView, OpError, ResourceKind};

use super::{common, group_reference, reserved_ip_reference, subnet_reference, vpc_reference};
use crate::record::{Instance, InstancePower, NetworkInterface};
use crate::refusal::dangling;
use crate::snapshot::Snapshot;

/// What callers see as an instance's state: what was asked for, joined with what was observed.
pub(crate) fn instance_state(snapshot: &Snapshot, instance: &Instance) -> InstanceState {
    if instance.deleting.is_some() {
        return InstanceState::Deleting;
    }
    match (instance.power, snapshot.instance_status(instance.id)) {
        (_, Some(InstanceStatus::Failed { reason })) => InstanceState::Failed {
            reason: reason.clone(),
        },
        (InstancePower::RestartingDown | InstancePower::RestartingUp, _) => InstanceState::Restarting,
        (InstancePower::Running, None) => InstanceState::Pending,
        (InstancePower::Running, Some(InstanceStatus::Running)) => InstanceState::Running,
        (InstancePower::Running, Some(InstanceStatus::Stopped)) => InstanceState::Starting,
        (InstancePower::Stopped, Some(InstanceStatus::Stopped)) => InstanceState::Stopped,
        (InstancePower::Stopped, None | Some(InstanceStatus::Running)) => InstanceState::Stopping,
    }
}

pub(crate) fn instance_view(snapshot: &Snapshot, instance: &Instance) -> Result<InstanceView, OpError> {
    let interface = snapshot
        .network_interface(instance.interface)
        .ok_or_else(|| dangling(ResourceKind::NetworkInterface, instance.interface))?;
    Ok(InstanceView {
        id: instance.id,
        common: common(&instance.meta),
        vpc: vpc_reference(snapshot, instance.vpc)?,
        zone: instance.zone.clone(),
        profile: instance.profile.clone(),
        image: instance.image.clone(),
        state: instance_state(snapshot, instance),
        interface: interface_view(snapshot, interface)?,
    })
}

fn interface_view(snapshot: &Snapshot, interface: &NetworkInterface) -> Result<InterfaceView, OpError> {
    Ok(InterfaceView {
        id: interface.id,
        name: interface.name.clone(),
        created_at: interface.created_at,
        subnet: subnet_reference(snapshot, interface.subnet)?,
        address: interface.address,
        reserved_ip: reserved_ip_reference(snapshot, interface.reserved_ip)?,
        mac: interface.mac,
        security_groups: interface
            .security_groups
            .iter()
            .map(|group| group_reference(snapshot, *group))
            .collect::<Result<_, OpError>>()?,
        allow_ip_spoofing: interface.allow_ip_spoofing,
        attachment: interface.attachment.clone(),
    })
}
