//! What instances can be made of: constant lists of profiles and images, and no keys.
//!
//! A workload here is a namespace or a device, so a profile or an image changes nothing; clients that look one up before
//! they create an instance find it.

use http::StatusCode;
use isthmus_types::ResourceBits;
use serde_json::{Value, json};

use crate::Ask;
use crate::call::{Call, Plan};
use crate::date::ApiDate;
use crate::fault::{Fault, Target};
use crate::id;
use crate::render::{Render, Shape};

/// A profile.
pub(crate) struct Profile {
    pub name: &'static str,
    pub family: &'static str,
    pub vcpus: u32,
    /// GiB.
    pub memory: u32,
    /// Mbit/s.
    pub bandwidth: u32,
}

const PROFILES: [Profile; 4] = [
    Profile {
        name: "bx2-2x8",
        family: "balanced",
        vcpus: 2,
        memory: 8,
        bandwidth: 4000,
    },
    Profile {
        name: "bx2-4x16",
        family: "balanced",
        vcpus: 4,
        memory: 16,
        bandwidth: 8000,
    },
    Profile {
        name: "cx2-2x4",
        family: "compute",
        vcpus: 2,
        memory: 4,
        bandwidth: 4000,
    },
    Profile {
        name: "cx2-4x8",
        family: "compute",
        vcpus: 4,
        memory: 8,
        bandwidth: 8000,
    },
];

/// The profile of an instance that names none.
pub(crate) const DEFAULT_PROFILE: &str = "bx2-2x8";

/// Name of the only image: a workload that uses the host's own file system.
pub(crate) const IMAGE_NAME: &str = "isthmus-host-1";

const IMAGE_BITS: ResourceBits = ResourceBits::from_random(0x1_5748_4d55_5349_4d41);
const IMAGE_CREATED: &str = "2026-01-01T00:00:00.000Z";

/// Id of the only image.
pub(crate) fn image_id() -> String {
    id::IMAGE.text(IMAGE_BITS)
}

/// The bits of the only image's id.
pub(crate) const fn image_bits() -> ResourceBits {
    IMAGE_BITS
}

/// The profile of this name.
pub(crate) fn profile_of(name: &str) -> Option<&'static Profile> {
    PROFILES.iter().find(|profile| profile.name == name)
}

pub(crate) fn profiles(call: &Call<'_>) -> Result<Plan, Fault> {
    let (limit, start) = if call.date < ApiDate::PAGED_PROFILES {
        (100, 0)
    } else {
        call.slice()?
    };
    let render = call.render();
    let all = PROFILES.iter().map(|profile| render.profile(profile)).collect();
    Ok(answer(&render, &render.slice("profiles", all, limit, start)))
}

pub(crate) fn profile(call: &Call<'_>) -> Result<Plan, Fault> {
    let profile =
        profile_of(call.variable(0)).ok_or_else(|| unknown("instance profile", call.variable(0)))?;
    let render = call.render();
    Ok(answer(&render, &render.profile(profile)))
}

pub(crate) fn images(call: &Call<'_>) -> Result<Plan, Fault> {
    let (limit, start) = call.slice()?;
    let render = call.render();
    let wanted = call.parameter("name").is_none_or(|name| name == IMAGE_NAME);
    let all = if wanted { vec![render.image()] } else { Vec::new() };
    Ok(answer(&render, &render.slice("images", all, limit, start)))
}

pub(crate) fn image(call: &Call<'_>) -> Result<Plan, Fault> {
    if call.variable(0) != image_id() {
        return Err(unknown("image", call.variable(0)));
    }
    let render = call.render();
    Ok(answer(&render, &render.image()))
}

pub(crate) fn keys(call: &Call<'_>) -> Result<Plan, Fault> {
    let (limit, start) = call.slice()?;
    let render = call.render();
    Ok(answer(&render, &render.slice("keys", Vec::new(), limit, start)))
}

pub(crate) fn key(call: &Call<'_>) -> Result<Plan, Fault> {
    Err(unknown("key", call.variable(0)))
}

fn answer(render: &Render, body: &Value) -> Plan {
    Plan {
        ask: Ask::Answer(Box::new(render.answer(body))),
        success: StatusCode::OK,
        shape: Shape::Whole,
    }
}

fn unknown(what: &str, name: &str) -> Fault {
    let shown: String = name.chars().take(80).collect();
    Fault::new(
        StatusCode::NOT_FOUND,
        "not_found",
        format!("{what} {shown} was not found"),
    )
    .at(Target::parameter("id").with_value(&shown))
}

impl Render {
    /// `href`, `name` and `resource_type` of a profile.
    pub(crate) fn profile_reference(&self, name: &str) -> Value {
        json!({
            "href": self.href(&format!("instance/profiles/{name}")),
            "name": name,
            "resource_type": "instance_profile",
        })
    }

    /// An image; all that exist have been this one.
    pub(crate) fn image_reference(&self) -> Value {
        self.reference(
            &id::IMAGE,
            IMAGE_BITS,
            IMAGE_NAME,
            Some(self.region()),
            Some("image"),
        )
    }

    fn profile(&self, profile: &Profile) -> Value {
        let fixed = |value: u32| json!({ "type": "fixed", "value": value });
        let mut value = self.profile_reference(profile.name);
        let rest = json!({
            "availability_class": { "type": "fixed", "value": "standard" },
            "bandwidth": fixed(profile.bandwidth),
            "cluster_network_attachment_count": { "type": "dependent" },
            "confidential_compute_modes": { "type": "enum", "default": "disabled", "values": ["disabled"] },
            "disks": [],
            "family": profile.family,
            "memory": fixed(profile.memory),
            "network_attachment_count": { "type": "range", "min": 1, "max": 1 },
            "network_bandwidth_mode": { "type": "fixed", "value": "dependent" },
            "network_interface_count": { "type": "range", "min": 1, "max": 1 },
            "os_architecture": { "type": "enum", "default": "amd64", "values": ["amd64"] },
            "port_speed": fixed(profile.bandwidth),
            "reservation_terms": { "type": "enum", "values": [] },
            "secure_boot_modes": { "type": "enum", "default": false, "values": [false] },
            "status": "current",
            "supported_cluster_network_profiles": [],
            "threads_per_core": { "type": "enum", "default": 1, "values": [1] },
            "total_volume_bandwidth": fixed(profile.bandwidth / 4),
            "vcpu_architecture": { "type": "fixed", "value": "amd64" },
            "vcpu_burst_limit": fixed(100),
            "vcpu_count": fixed(profile.vcpus),
            "vcpu_manufacturer": { "type": "fixed", "value": "intel" },
            "vcpu_percentage": { "type": "enum", "default": 100, "values": [100] },
            "volume_bandwidth_qos_modes": { "type": "enum", "default": "weighted", "values": ["weighted"] },
            "zones": [],
        });
        if let (Value::Object(map), rest) = (&mut value, rest) {
            super::vpc::merge(map, rest);
        }
        value
    }

    fn image(&self) -> Value {
        let own_id = image_id();
        json!({
            "allowed_use": { "api_version": "2024-06-23", "bare_metal_server": "false", "instance": "true" },
            "catalog_offering": { "managed": false },
            "created_at": IMAGE_CREATED,
            "crn": self.crn(self.region(), &id::IMAGE, &own_id),
            "encryption": "none",
            "file": {},
            "href": self.href(&format!("images/{own_id}")),
            "id": own_id,
            "minimum_provisioned_size": 1,
            "name": IMAGE_NAME,
            "operating_system": {
                "allow_user_image_creation": false,
                "architecture": "amd64",
                "dedicated_host_only": false,
                "display_name": "The host's own Linux",
                "family": "Linux",
                "href": self.href("operating_systems/isthmus-host"),
                "name": "isthmus-host",
                "user_data_format": "cloud_init",
                "vendor": "Isthmus",
                "version": "1",
            },
            "owner_type": "provider",
            "resource_group": self.default_group(),
            "resource_type": "image",
            "status": "available",
            "status_reasons": [],
            "user_data_format": "cloud_init",
            "visibility": "public",
            "zones": [],
        })
    }
}
