//! Instances.

use std::net::Ipv4Addr;

use isthmus_ops::{
    CreateInstance, IfMatch, InstanceAction, InstanceActionView, InstanceState, InterfaceAttachment,
    NewInterface, OpError, OpErrorCode, Outcome, ResourceKind,
};
use isthmus_types::{InstanceId, NetworkInterfaceId, ResourceBits, ResourceName, SecurityGroupId, VpcId};

use super::{Draft, precondition, within};
use crate::address::{ipv4, lowest_free, lowest_free_public, usable};
use crate::record::{Instance, InstancePower, NetworkInterface, ReservedFor, ReservedIp, Subnet};
use crate::refusal::{invalid_field, over_quota, referenced};
use crate::snapshot::{NameScope, device_key};
use crate::view::{instance_state, instance_view};

const KIND: ResourceKind = ResourceKind::Instance;
/// Security groups that one interface may have.
const MOST_GROUPS: u32 = 5;
/// Longest profile name and image id.
const LONGEST_LABEL: usize = 255;

impl Draft<'_> {
    pub(super) fn create_instance(&mut self, new: &CreateInstance) -> Result<Outcome, OpError> {
        referenced(self.access().zone(&new.zone), "zone")?;
        if let Some(vpc) = new.vpc {
            referenced(self.access().vpc(vpc), "vpc")?;
        }
        let subnet = referenced(self.access().subnet(new.interface.subnet), "interface.subnet")?.clone();
        in_scope(new, &subnet)?;
        for (field, label) in [("profile", &new.profile), ("image", &new.image)] {
            if label.is_empty() || label.len() > LONGEST_LABEL || label.chars().any(char::is_control) {
                return Err(invalid_field(
                    KIND,
                    field,
                    label.escape_debug(),
                    "it must have 1 to 255 characters",
                ));
            }
        }
        let count = self.state.instance_count_of(self.account) + 1;
        within(self.state.settings().quotas.instances, count, |limit| {
            over_quota(KIND, "instances", limit)
        })?;
        let security_groups = self.groups(&new.interface, subnet.vpc)?;
        self.attachment(&new.interface.attachment)?;
        let address = self.workload_address(&new.interface, &subnet)?;
        let name = self.name(NameScope::Instances(subnet.vpc), new.name.as_ref(), KIND)?;
        self.ensure_source_nat(subnet.vpc)?;

        let instance = Instance {
            id: self.fresh(),
            meta: self.meta(name, new.resource_group.as_ref()),
            vpc: subnet.vpc,
            zone: subnet.zone.clone(),
            profile: new.profile.clone(),
            image: new.image.clone(),
            interface: self.fresh(),
            power: InstancePower::Running,
            deleting: None,
        };
        let interface_name = new.interface.name.clone().unwrap_or_else(|| self.any_name());
        let interface = NetworkInterface {
            id: instance.interface,
            name: interface_name,
            created_at: self.now,
            instance: instance.id,
            vpc: subnet.vpc,
            subnet: subnet.id,
            address,
            reserved_ip: self.fresh(),
            mac: mac_of(instance.interface),
            security_groups,
            allow_ip_spoofing: new.interface.allow_ip_spoofing,
            attachment: new.interface.attachment.clone(),
        };
        let reservation = ReservedIp {
            id: interface.reserved_ip,
            subnet: subnet.id,
            address,
            name: self.any_name(),
            created_at: self.now,
            holder: ReservedFor::Interface(interface.id),
        };
        self.put(reservation);
        self.put(interface);
        self.put(instance.clone());
        instance_view(&self.state, &instance).map(Outcome::Instance)
    }

    fn groups(&self, interface: &NewInterface, vpc: VpcId) -> Result<Vec<SecurityGroupId>, OpError> {
        let field = |position: usize| format!("interface.security_groups[{position}]");
        for (position, id) in interface.security_groups.iter().enumerate() {
            let group = referenced(self.access().security_group(*id), &field(position))?;
            if group.vpc != vpc {
                return Err(OpError::new(
                    OpErrorCode::ScopeMismatch,
                    ResourceKind::SecurityGroup,
                    format!("security group {} belongs to another VPC", group.meta.name),
                )
                .with_field(field(position))
                .with_value(id.to_string()));
            }
            if interface.security_groups[..position].contains(id) {
                let why = "it is listed twice";
                return Err(invalid_field(
                    ResourceKind::SecurityGroup,
                    &field(position),
                    id,
                    why,
                ));
            }
        }
        within(MOST_GROUPS, interface.security_groups.len(), |limit| {
            over_quota(
                ResourceKind::SecurityGroup,
                "security groups on an interface",
                limit,
            )
        })?;
        if !interface.security_groups.is_empty() {
            return Ok(interface.security_groups.clone());
        }
        Ok(vec![self.access().vpc(vpc)?.default_security_group])
    }

    fn attachment(&self, attachment: &InterfaceAttachment) -> Result<(), OpError> {
        const RESOURCE: ResourceKind = ResourceKind::NetworkInterface;
        let (namespace, device) = match attachment {
            InterfaceAttachment::Namespace => return Ok(()),
            InterfaceAttachment::HandOver { namespace, interface } => (Some(namespace), interface),
            InterfaceAttachment::Tap { interface } => (None, interface),
        };
        if let Some(namespace) = namespace.filter(|name| !file_name(name, 255)) {
            let why = "it is not the name of a network namespace";
            return Err(invalid_field(
                RESOURCE,
                "interface.attachment.namespace",
                namespace.escape_debug(),
                why,
            ));
        }
        let field = "interface.attachment.interface";
        if !device_name(device) {
            let why = "it is not the name of a network device";
            return Err(invalid_field(RESOURCE, field, device.escape_debug(), why));
        }
        match device_key(attachment).and_then(|key| self.state.device_holder(&key)) {
            None => Ok(()),
            Some(_) => Err(OpError::new(
                OpErrorCode::DuplicateName,
                RESOURCE,
                format!("the device {device} is taken"),
            )
            .with_field(field)
            .with_value(device)),
        }
    }

    fn workload_address(&self, interface: &NewInterface, subnet: &Subnet) -> Result<Ipv4Addr, OpError> {
        const RESOURCE: ResourceKind = ResourceKind::ReservedIp;
        let field = "interface.address";
        let net = ipv4(subnet.cidr, ResourceKind::Subnet, "cidr")?;
        let Some(address) = interface.address else {
            return lowest_free(net, self.state.held_addresses(subnet.id), 1)
                .and_then(|free| free.first().copied())
                .ok_or_else(|| no_addresses(subnet, 1));
        };
        let refusal = |code, why| {
            OpError::new(code, RESOURCE, format!("the address {address} {why}"))
                .with_field(field)
                .with_value(address.to_string())
        };
        if !usable(net, address) {
            let why = format!(
                "is not one that a workload in subnet {} may have",
                subnet.meta.name
            );
            return Err(refusal(OpErrorCode::AddressNotUsable, why));
        }
        if self.state.is_held(subnet.id, address) {
            return Err(refusal(OpErrorCode::AddressInUse, "is in use".to_owned()));
        }
        Ok(address)
    }

    fn ensure_source_nat(&mut self, vpc: VpcId) -> Result<(), OpError> {
        let mut vpc = self.access().vpc(vpc)?.clone();
        if vpc.source_nat.is_none() {
            vpc.source_nat = Some(self.public_address()?);
            self.put(vpc);
        }
        Ok(())
    }

    /// Any made-up name: for things whose names need not be unique.
    pub(super) fn any_name(&mut self) -> ResourceName {
        crate::names::made_up(self.ids.draw())
    }

    /// The lowest free public address.
    pub(super) fn public_address(&self) -> Result<Ipv4Addr, OpError> {
        let settings = self.state.settings();
        settings
            .public_pool
            .v4()
            .and_then(|pool| {
                let held = self.state.public_addresses().map(|(address, _)| address);
                lowest_free_public(pool, settings.uplink_router, held)
            })
            .ok_or_else(|| {
                OpError::new(
                    OpErrorCode::AddressesExhausted,
                    ResourceKind::PublicAddress,
                    "no public address is left",
                )
            })
    }

    pub(super) fn update_instance(
        &mut self,
        id: InstanceId,
        name: Option<&ResourceName>,
        if_match: &IfMatch,
    ) -> Result<Outcome, OpError> {
        let mut instance = self.access().instance(id)?.clone();
        precondition(&instance.meta, if_match, KIND)?;
        if instance.deleting.is_some() {
            return Err(wrong_state(id, "is being deleted"));
        }
        let scope = NameScope::Instances(instance.vpc);
        if self.rename(&mut instance.meta, scope, name, KIND)? {
            instance.meta.version += 1;
            self.put(instance.clone());
        }
        instance_view(&self.state, &instance).map(Outcome::Instance)
    }

    pub(super) fn delete_instance(&mut self, id: InstanceId, if_match: &IfMatch) -> Result<Outcome, OpError> {
        let mut instance = self.access().instance(id)?.clone();
        precondition(&instance.meta, if_match, KIND)?;
        if instance.deleting.is_none() {
            instance.deleting = Some(self.now);
            self.put(instance);
        }
        Ok(Outcome::Done)
    }

    pub(super) fn act_on_instance(
        &mut self,
        id: InstanceId,
        action: InstanceAction,
    ) -> Result<Outcome, OpError> {
        let mut instance = self.access().instance(id)?.clone();
        let state = instance_state(&self.state, &instance);
        instance.power = next_power(action, &state)
            .ok_or_else(|| wrong_state(id, &format!("is {}", state_word(&state))))?;
        instance.meta.version += 1;
        self.put(instance);
        Ok(Outcome::InstanceAction(InstanceActionView {
            id: self.fresh(),
            instance: id,
            action,
            created_at: self.now,
        }))
    }
}

fn next_power(action: InstanceAction, state: &InstanceState) -> Option<InstancePower> {
    match (action, state) {
        (InstanceAction::Reboot, InstanceState::Running) => Some(InstancePower::RestartingDown),
        (
            InstanceAction::Start,
            InstanceState::Failed { .. } | InstanceState::Stopped | InstanceState::Stopping,
        ) => Some(InstancePower::Running),
        (
            InstanceAction::Stop,
            InstanceState::Failed { .. }
            | InstanceState::Restarting
            | InstanceState::Running
            | InstanceState::Starting,
        ) => Some(InstancePower::Stopped),
        (InstanceAction::Reboot | InstanceAction::Start | InstanceAction::Stop, _) => None,
    }
}

const fn state_word(state: &InstanceState) -> &'static str {
    match state {
        InstanceState::Deleting => "being deleted",
        InstanceState::Failed { .. } => "failed",
        InstanceState::Pending => "pending",
        InstanceState::Restarting => "restarting",
        InstanceState::Running => "running",
        InstanceState::Starting => "starting",
        InstanceState::Stopped => "stopped",
        InstanceState::Stopping => "stopping",
    }
}

fn wrong_state(id: InstanceId, why: &str) -> OpError {
    OpError::new(OpErrorCode::InvalidState, KIND, format!("instance {id} {why}"))
}

/// The subnet has fewer free addresses than are needed.
pub(super) fn no_addresses(subnet: &Subnet, needed: usize) -> OpError {
    OpError::new(
        OpErrorCode::AddressesExhausted,
        ResourceKind::Subnet,
        format!(
            "subnet {} has fewer than {needed} free addresses",
            subnet.meta.name
        ),
    )
    .with_value(subnet.id.to_string())
}

fn in_scope(new: &CreateInstance, subnet: &Subnet) -> Result<(), OpError> {
    let mismatch = |field: &str, value: String| {
        OpError::new(
            OpErrorCode::ScopeMismatch,
            KIND,
            format!("subnet {} is not in {field} {value}", subnet.meta.name),
        )
        .with_field(field)
        .with_value(value)
    };
    match new.vpc {
        Some(vpc) if vpc != subnet.vpc => return Err(mismatch("vpc", vpc.to_string())),
        Some(_) | None => {}
    }
    if new.zone != subnet.zone {
        return Err(mismatch("zone", new.zone.to_string()));
    }
    Ok(())
}

fn file_name(text: &str, longest: usize) -> bool {
    !text.is_empty()
        && text.len() <= longest
        && text != "."
        && text != ".."
        && !text.chars().any(|c| c == '/' || c.is_control())
}

// What Linux takes for a device name (net/core/dev.c: dev_valid_name), in printable ASCII only.
fn device_name(text: &str) -> bool {
    file_name(text, 15)
        && text
            .bytes()
            .all(|b| b.is_ascii_graphic() && b != b':' && b != b'%')
}

// Locally administered, unicast; five bytes of the interface's id.
fn mac_of(interface: NetworkInterfaceId) -> [u8; 6] {
    let bits: ResourceBits = interface.bits();
    let [.., a, b, c, d, e] = bits.value().to_be_bytes();
    [0x02, a, b, c, d, e]
}
