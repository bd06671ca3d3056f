//! Instances and their network interface.

use http::StatusCode;
use isthmus_ops::{
    CreateInstance, InstanceAction, InstanceActionView, InstanceFilter, InstanceState, InstanceView,
    InterfaceAttachment, NewInterface, OpError, OpErrorCode, Operation, Query, ResourceKind,
};
use isthmus_types::{ResourceBits, ResourceName, SecurityGroupId};
use serde_json::{Value, json};

use crate::body::Fields;
use crate::call::{Call, Plan};
use crate::date::ApiDate;
use crate::fault::{Fault, Target};
use crate::id;
use crate::refusal;
use crate::render::{Render, Shape};
use crate::resource::catalogue::{DEFAULT_PROFILE, image_bits, image_id, profile_of};
use crate::resource::vpc::merge;
use crate::scalar;

const ONE_INTERFACE: &str = "is not offered: an instance has one network interface";
const LONGEST_DEVICE_NAME: usize = 15;

pub(crate) fn list(call: &Call<'_>) -> Result<Plan, Fault> {
    let filter = InstanceFilter {
        vpc: call.id_filter("vpc.id", "vpc.crn", &id::VPC)?,
        vpc_name: call.name_filter("vpc.name")?,
        name: call.name_filter("name")?,
        resource_group: call.group_filter(),
    };
    let page = call.page()?;
    let shape = Shape::Page {
        limit: page.limit.get(),
    };
    Ok(Plan::query(Query::Instances { filter, page }, shape))
}

pub(crate) fn create(call: &Call<'_>) -> Result<Plan, Fault> {
    let body = call.body()?;
    let fields = Fields::of(&body)?;
    let zone = fields.required("zone", scalar::zone(&fields, "zone")?)?;
    let image: ResourceBits = fields.required("image", call.identity(&fields, "image", &id::IMAGE)?)?;
    if image != image_bits() {
        let error = OpError::new(
            OpErrorCode::ReferenceNotFound,
            ResourceKind::Instance,
            "the image was not found",
        );
        return Err(refusal::fault(&error, call.subject(), call.date).at(Target::field("image.id")));
    }
    if fields
        .objects("network_interfaces")?
        .is_some_and(|more| !more.is_empty())
    {
        return Err(fields.bad_field("network_interfaces", ONE_INTERFACE));
    }
    fields.refuse(
        &["primary_network_attachment", "network_attachments"],
        ONE_INTERFACE,
    )?;
    let interface = fields.object("primary_network_interface")?;
    let interface = new_interface(call, &fields.required("primary_network_interface", interface)?)?;
    let operation = Operation::CreateInstance(CreateInstance {
        name: call.name(&fields)?,
        vpc: call.identity(&fields, "vpc", &id::VPC)?,
        zone,
        profile: profile(&fields)?,
        image: image_id(),
        interface,
        resource_group: scalar::resource_group(call, &fields)?,
    });
    Ok(Plan::operation(operation, StatusCode::CREATED))
}

fn profile(fields: &Fields<'_>) -> Result<String, Fault> {
    let Some(identity) = fields.object("profile")? else {
        return Ok(DEFAULT_PROFILE.to_owned());
    };
    let (form, name) = if let Some(name) = identity.text("name")? {
        ("name", name.to_owned())
    } else if let Some(href) = identity.text("href")? {
        let name = scalar::name_in_href(href, "profiles").unwrap_or_default();
        ("href", name)
    } else {
        return Err(identity.missing("name"));
    };
    match profile_of(&name) {
        Some(profile) => Ok(profile.name.to_owned()),
        None => Err(identity.bad_field(form, "names no instance profile")),
    }
}

fn new_interface(call: &Call<'_>, fields: &Fields<'_>) -> Result<NewInterface, Fault> {
    let subnet = fields.required("subnet", call.identity(fields, "subnet", &id::SUBNET)?)?;
    let mut security_groups: Vec<SecurityGroupId> = Vec::new();
    for group in fields.objects("security_groups")?.unwrap_or_default() {
        let bits = call.identity_of(&group, "a security group", &id::SECURITY_GROUP)?;
        security_groups.push(bits.into());
    }
    let old_address = if call.date < ApiDate::RESERVED_IP {
        fields.text("primary_ipv4_address")?
    } else {
        None
    };
    let address = match (fields.object("primary_ip")?, old_address) {
        (Some(ip), _) => {
            ip.refuse(&["id", "href"], "is not offered: give an address, or nothing")?;
            ip.text("address")?
                .map(|text| scalar::ipv4(text, &ip.path_of("address")))
                .transpose()?
        }
        (None, Some(text)) => Some(scalar::ipv4(text, &fields.path_of("primary_ipv4_address"))?),
        (None, None) => None,
    };
    let name: Option<ResourceName> = call.name(fields)?;
    Ok(NewInterface {
        subnet,
        name,
        address,
        security_groups,
        allow_ip_spoofing: fields.flag("allow_ip_spoofing")?.unwrap_or(false),
        attachment: attachment(fields)?,
    })
}

fn attachment(fields: &Fields<'_>) -> Result<InterfaceAttachment, Fault> {
    #[derive(Clone, Copy)]
    enum Kind {
        HandOver,
        Namespace,
        Tap,
    }
    let Some(given) = fields.object("attachment")? else {
        return Ok(InterfaceAttachment::Namespace);
    };
    let kind = given.choice(
        "kind",
        &[
            ("namespace", Kind::Namespace),
            ("tap", Kind::Tap),
            ("hand_over", Kind::HandOver),
        ],
    )?;
    match given.required("kind", kind)? {
        Kind::Namespace => Ok(InterfaceAttachment::Namespace),
        Kind::Tap => Ok(InterfaceAttachment::Tap {
            interface: device_name(&given, "interface", LONGEST_DEVICE_NAME)?,
        }),
        Kind::HandOver => Ok(InterfaceAttachment::HandOver {
            namespace: device_name(&given, "namespace", 255)?,
            interface: device_name(&given, "interface", LONGEST_DEVICE_NAME)?,
        }),
    }
}

// What Linux takes as the name of a device or of a file: no slash, space or control character, and neither dot name.
fn device_name(fields: &Fields<'_>, name: &str, longest: usize) -> Result<String, Fault> {
    let text = fields.required(name, fields.text(name)?)?;
    let ok = (1..=longest).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b'%'))
        && text != "."
        && text != "..";
    if ok {
        Ok(text.to_owned())
    } else {
        Err(fields
            .bad_field(name, &format!("must be 1 to {longest} printable ASCII characters without space, slash, colon and percent"))
            .at(Target::field(fields.path_of(name)).with_value(text)))
    }
}

pub(crate) fn read(call: &Call<'_>) -> Result<Plan, Fault> {
    Ok(Plan::query(
        Query::Instance(call.id(0, &id::INSTANCE)?),
        Shape::Whole,
    ))
}

pub(crate) fn update(call: &Call<'_>) -> Result<Plan, Fault> {
    let instance = call.id(0, &id::INSTANCE)?;
    let body = call.body()?;
    let fields = Fields::of(&body)?;
    let operation = Operation::UpdateInstance {
        instance,
        name: call.name(&fields)?,
        if_match: call.if_match(),
    };
    Ok(Plan::operation(operation, StatusCode::OK))
}

pub(crate) fn delete(call: &Call<'_>) -> Result<Plan, Fault> {
    let instance = call.id(0, &id::INSTANCE)?;
    let operation = Operation::DeleteInstance {
        instance,
        if_match: call.if_match(),
    };
    Ok(Plan::silent(operation, StatusCode::NO_CONTENT))
}

pub(crate) fn act(call: &Call<'_>) -> Result<Plan, Fault> {
    let instance = call.id(0, &id::INSTANCE)?;
    let body = call.body()?;
    let fields = Fields::of(&body)?;
    fields.flag("force")?;
    let action = fields.choice(
        "type",
        &[
            ("start", InstanceAction::Start),
            ("stop", InstanceAction::Stop),
            ("reboot", InstanceAction::Reboot),
        ],
    )?;
    let action = fields.required("type", action)?;
    Ok(Plan::operation(
        Operation::ActOnInstance { instance, action },
        StatusCode::CREATED,
    ))
}

pub(crate) fn initialization(call: &Call<'_>) -> Result<Plan, Fault> {
    Ok(Plan::query(
        Query::Instance(call.id(0, &id::INSTANCE)?),
        Shape::Initialization,
    ))
}

pub(crate) fn interfaces(call: &Call<'_>) -> Result<Plan, Fault> {
    Ok(Plan::query(
        Query::Instance(call.id(0, &id::INSTANCE)?),
        Shape::Interfaces,
    ))
}

pub(crate) fn interface(call: &Call<'_>) -> Result<Plan, Fault> {
    let instance = call.id(0, &id::INSTANCE)?;
    let wanted = call.id(1, &id::INTERFACE)?;
    Ok(Plan::query(Query::Instance(instance), Shape::Interface(wanted)))
}

/// `status`, `lifecycle_state` and `health_state` for a state.
fn words(state: &InstanceState) -> (&'static str, &'static str, &'static str) {
    match state {
        InstanceState::Deleting => ("deleting", "deleting", "inapplicable"),
        InstanceState::Failed { .. } => ("failed", "failed", "faulted"),
        InstanceState::Pending => ("pending", "pending", "inapplicable"),
        InstanceState::Restarting => ("restarting", "stable", "ok"),
        InstanceState::Running => ("running", "stable", "ok"),
        InstanceState::Starting => ("starting", "stable", "ok"),
        InstanceState::Stopped => ("stopped", "stable", "ok"),
        InstanceState::Stopping => ("stopping", "stable", "ok"),
    }
}

impl Render {
    pub(crate) fn instance_view(&self, instance: &InstanceView) -> Value {
        let bits = instance.id.bits();
        let own_id = id::INSTANCE.text(bits);
        let (status, lifecycle, health) = words(&instance.state);
        let reasons = match &instance.state {
            InstanceState::Failed { reason } => json!([{ "code": "cannot_start", "message": reason }]),
            InstanceState::Deleting
            | InstanceState::Pending
            | InstanceState::Restarting
            | InstanceState::Running
            | InstanceState::Starting
            | InstanceState::Stopped
            | InstanceState::Stopping => json!([]),
        };
        let (vcpus, memory, bandwidth) = profile_of(&instance.profile).map_or((1, 1, 1000), |profile| {
            (profile.vcpus, profile.memory, profile.bandwidth)
        });
        let interface = self.interface_reference(instance);
        let boot_volume = self.boot_volume(instance);
        let mut map = self.head(&id::INSTANCE, bits, &instance.common);
        let rest = json!({
            "availability": { "class": "standard" },
            "availability_policy": { "host_failure": "restart", "preemption": "stop" },
            "bandwidth": bandwidth,
            "boot_volume_attachment": boot_volume,
            "cluster_network_attachments": [],
            "confidential_compute_mode": "disabled",
            "crn": self.crn(instance.zone.as_str(), &id::INSTANCE, &own_id),
            "disks": [],
            "enable_secure_boot": false,
            "health_reasons": [],
            "health_state": health,
            "image": self.image_reference(),
            "lifecycle_reasons": [],
            "lifecycle_state": lifecycle,
            "memory": memory,
            "metadata_service": { "enabled": false, "protocol": "http", "response_hop_limit": 1 },
            "network_attachments": [],
            "network_interfaces": [interface.clone()],
            "primary_network_interface": interface,
            "profile": self.profile_reference(&instance.profile),
            "reservation_affinity": { "policy": "disabled", "pool": [] },
            "resource_type": "instance",
            "software_attachments": [],
            "startable": matches!(instance.state, InstanceState::Stopped),
            "status": status,
            "status_reasons": reasons,
            "threads_per_core": 1,
            "total_network_bandwidth": bandwidth,
            "total_volume_bandwidth": 0,
            "vcpu": { "architecture": "amd64", "count": vcpus, "manufacturer": "intel", "percentage": 100 },
            "volume_attachments": [boot_volume],
            "volume_bandwidth_qos_mode": "weighted",
            "vpc": self.vpc(&instance.vpc),
            "zone": self.zone(&instance.zone),
        });
        merge(&mut map, rest);
        Value::Object(map)
    }

    // Workloads have no volumes; clients insist on one to boot from.
    fn boot_volume(&self, instance: &InstanceView) -> Value {
        let bits = instance.id.bits();
        let instance_id = id::INSTANCE.text(bits);
        let own_id = id::VOLUME_ATTACHMENT.text(bits);
        json!({
            "href": self.href(&format!("instances/{instance_id}/volume_attachments/{own_id}")),
            "id": own_id,
            "name": "host",
            "volume": self.reference(&id::VOLUME, bits, "host", Some(instance.zone.as_str()), Some("volume")),
        })
    }

    // What an instance shows of its interface.
    fn interface_reference(&self, instance: &InstanceView) -> Value {
        let interface = &instance.interface;
        let own_id = id::INTERFACE.text(interface.id.bits());
        let instance_id = id::INSTANCE.text(instance.id.bits());
        let mut value = json!({
            "href": self.href(&format!("instances/{instance_id}/network_interfaces/{own_id}")),
            "id": own_id,
            "name": interface.name.as_str(),
            "primary_ip": self.reserved_ip(interface.subnet.id, &interface.reserved_ip, interface.address),
            "resource_type": "network_interface",
            "subnet": self.subnet(&interface.subnet, &instance.zone),
        });
        if self.date < ApiDate::RESERVED_IP {
            value["primary_ipv4_address"] = interface.address.to_string().into();
        }
        value
    }

    /// The network interface of an instance.
    pub(crate) fn interface_view(&self, instance: &InstanceView) -> Value {
        let interface = &instance.interface;
        let (_, lifecycle, _) = words(&instance.state);
        let status = match lifecycle {
            "stable" => "available",
            other => other,
        };
        let groups: Vec<Value> = interface
            .security_groups
            .iter()
            .map(|group| self.security_group(group))
            .collect();
        let [a, b, c, d, e, f] = interface.mac;
        let mut value = self.interface_reference(instance);
        if let Value::Object(map) = &mut value {
            let rest = json!({
                "allow_ip_spoofing": interface.allow_ip_spoofing,
                "attachment": attachment_view(&interface.attachment),
                "created_at": interface.created_at.to_string(),
                "floating_ips": [],
                "mac_address": format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"),
                "port_speed": 1000,
                "security_groups": groups,
                "status": status,
                "type": "primary",
            });
            merge(map, rest);
        }
        value
    }

    pub(crate) fn instance_action_view(&self, action: &InstanceActionView) -> Value {
        let own_id = id::INSTANCE_ACTION.text(action.id.bits());
        let instance = id::INSTANCE.text(action.instance.bits());
        json!({
            "created_at": action.created_at.to_string(),
            "href": self.href(&format!("instances/{instance}/actions/{own_id}")),
            "id": own_id,
            "status": "pending",
            "type": match action.action {
                InstanceAction::Reboot => "reboot",
                InstanceAction::Start => "start",
                InstanceAction::Stop => "stop",
            },
        })
    }
}

fn attachment_view(attachment: &InterfaceAttachment) -> Value {
    match attachment {
        InterfaceAttachment::Namespace => json!({ "kind": "namespace" }),
        InterfaceAttachment::HandOver { namespace, interface } => {
            json!({ "kind": "hand_over", "namespace": namespace, "interface": interface })
        }
        InterfaceAttachment::Tap { interface } => json!({ "kind": "tap", "interface": interface }),
    }
}
