//! Requests about VPN connections, in the flat form of older dates and the nested form of newer ones.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use isthmus_ops::{
    CreateVpnConnection, DeadPeerAction, DeadPeerDetection, DeadPeerDetectionPatch, Establish, Identity,
    Operation, PeerAddress, Query, UpdateVpnConnection,
};
use isthmus_types::{Cidr, ResourceBits, Secret};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::body::Fields;
use crate::call::{Call, Plan};
use crate::date::ApiDate;
use crate::fault::{Fault, Target};
use crate::id::{self, IdKind};
use crate::render::Shape;
use crate::scalar;

const OTHER_DATE: &str = "does not exist at this version";
const ROUTE_MODE: &str = "belongs to route mode";
const KEY_ID_BYTES: usize = 255;

pub(crate) fn list(call: &Call<'_>) -> Result<Plan, Fault> {
    let gateway = call.id(0, &id::VPN_GATEWAY)?;
    let up = match call.parameter("status") {
        None => None,
        Some("up") => Some(true),
        Some("down") => Some(false),
        Some(other) => {
            return Err(Fault::bad("validation_enum", "status must be up or down")
                .at(Target::parameter("status").with_value(other)));
        }
    };
    let page = call.page()?;
    let shape = Shape::Page {
        limit: page.limit.get(),
    };
    Ok(Plan::query(Query::VpnConnections { gateway, up, page }, shape))
}

pub(crate) fn read(call: &Call<'_>) -> Result<Plan, Fault> {
    let gateway = call.id(0, &id::VPN_GATEWAY)?;
    let connection = call.id(1, &id::VPN_CONNECTION)?;
    Ok(Plan::query(
        Query::VpnConnection { gateway, connection },
        Shape::Whole,
    ))
}

pub(crate) fn delete(call: &Call<'_>) -> Result<Plan, Fault> {
    let gateway = call.id(0, &id::VPN_GATEWAY)?;
    let connection = call.id(1, &id::VPN_CONNECTION)?;
    let operation = Operation::DeleteVpnConnection {
        gateway,
        connection,
        if_match: call.if_match(),
    };
    Ok(Plan::silent(operation, StatusCode::ACCEPTED))
}

/// The two ends as a request gives them.
struct Ends {
    peer: PeerAddress,
    local_cidrs: Vec<Cidr>,
    peer_cidrs: Vec<Cidr>,
    local_identity: Option<Identity>,
    peer_identity: Option<Identity>,
}

pub(crate) fn create(call: &Call<'_>) -> Result<Plan, Fault> {
    let gateway = call.id(0, &id::VPN_GATEWAY)?;
    let body = call.body()?;
    let fields = Fields::of(&body)?;
    let flat = call.date < ApiDate::NESTED_CONNECTION;
    let ends = if flat {
        flat_ends(&fields)?
    } else {
        nested_ends(&fields)?
    };
    refuse_route_mode(&fields)?;
    let text = fields.required("psk", fields.text("psk")?)?;
    let psk = pre_shared_key(text)?;
    let defaults = default_detection(call.date);
    let patch = detection(&fields)?;
    let dead_peer_detection = DeadPeerDetection {
        action: patch.action.unwrap_or(defaults.action),
        interval: patch.interval.unwrap_or(defaults.interval),
        timeout: patch.timeout.unwrap_or(defaults.timeout),
    };
    if dead_peer_detection.interval > dead_peer_detection.timeout {
        return Err(Fault::bad(
            "bad_field",
            format!(
                "dead_peer_detection.interval is {}, which is more than the timeout of {}",
                dead_peer_detection.interval, dead_peer_detection.timeout
            ),
        )
        .at(Target::field("dead_peer_detection.interval")
            .with_value(dead_peer_detection.interval.to_string())));
    }
    let operation = Operation::CreateVpnConnection(CreateVpnConnection {
        gateway,
        name: call.name(&fields)?,
        psk,
        peer: ends.peer,
        local_cidrs: ends.local_cidrs,
        peer_cidrs: ends.peer_cidrs,
        admin_state_up: fields.flag("admin_state_up")?.unwrap_or(true),
        dead_peer_detection,
        ike_policy: call.identity(&fields, "ike_policy", &id::IKE_POLICY)?,
        ipsec_policy: call.identity(&fields, "ipsec_policy", &id::IPSEC_POLICY)?,
        establish: establish(&fields, flat)?.unwrap_or(Establish::Bidirectional),
        local_identity: ends.local_identity,
        peer_identity: ends.peer_identity,
    });
    Ok(Plan::operation(operation, StatusCode::CREATED))
}

pub(crate) fn update(call: &Call<'_>) -> Result<Plan, Fault> {
    let gateway = call.id(0, &id::VPN_GATEWAY)?;
    let connection = call.id(1, &id::VPN_CONNECTION)?;
    let body = call.body()?;
    let fields = Fields::of(&body)?;
    if fields.is_array("tunnels") {
        call.require_if_match("tunnels")?;
    }
    let flat = call.date < ApiDate::NESTED_CONNECTION;
    let peer = changed_peer(&fields, flat)?;
    refuse_route_mode(&fields)?;
    let patch = detection(&fields)?;
    let detection_given = fields.has("dead_peer_detection");
    let psk = fields.text("psk")?.map(pre_shared_key).transpose()?;
    let operation = Operation::UpdateVpnConnection(UpdateVpnConnection {
        gateway,
        connection,
        name: call.name(&fields)?,
        psk,
        peer,
        admin_state_up: fields.flag("admin_state_up")?,
        dead_peer_detection: detection_given.then_some(patch),
        ike_policy: changed_policy(call, &fields, "ike_policy", &id::IKE_POLICY)?,
        ipsec_policy: changed_policy(call, &fields, "ipsec_policy", &id::IPSEC_POLICY)?,
        establish: establish(&fields, flat)?,
        local_identity: None,
        peer_identity: None,
        if_match: call.if_match(),
    });
    Ok(Plan::operation(operation, StatusCode::OK))
}

fn flat_ends(fields: &Fields<'_>) -> Result<Ends, Fault> {
    fields.refuse(&["local", "peer"], OTHER_DATE)?;
    let address = fields.required("peer_address", fields.text("peer_address")?)?;
    Ok(Ends {
        peer: PeerAddress::Address(peer_ip(address, "peer_address")?),
        local_cidrs: cidrs(fields, "local_cidrs", "vpn_connection_local_cidrs_required")?,
        peer_cidrs: cidrs(fields, "peer_cidrs", "vpn_connection_peer_cidrs_required")?,
        local_identity: None,
        peer_identity: None,
    })
}

fn nested_ends(fields: &Fields<'_>) -> Result<Ends, Fault> {
    fields.refuse(&["local_cidrs", "peer_cidrs", "peer_address"], OTHER_DATE)?;
    let peer = fields.required("peer", fields.object("peer")?)?;
    let address = peer_of(&peer)?.ok_or_else(|| peer.missing("address"))?;
    let Some(local) = fields.object("local")? else {
        return Err(
            Fault::bad("vpn_connection_local_cidrs_required", "local.cidrs is missing")
                .at(Target::field("local.cidrs")),
        );
    };
    let identities = local.objects("ike_identities")?.unwrap_or_default();
    let local_identity = match identities.as_slice() {
        [] => None,
        [one] => Some(identity(one)?),
        _ => return Err(local.bad_field("ike_identities", "may have only one entry in policy mode")),
    };
    Ok(Ends {
        peer: address,
        local_cidrs: cidrs(&local, "cidrs", "vpn_connection_local_cidrs_required")?,
        peer_cidrs: cidrs(&peer, "cidrs", "vpn_connection_peer_cidrs_required")?,
        local_identity,
        peer_identity: peer
            .object("ike_identity")?
            .map(|fields| identity(&fields))
            .transpose()?,
    })
}

fn refuse_route_mode(fields: &Fields<'_>) -> Result<(), Fault> {
    if fields.flag("distribute_traffic")? == Some(true) {
        return Err(fields.bad_field("distribute_traffic", ROUTE_MODE));
    }
    if fields.choice("routing_protocol", &[("none", false), ("bgp", true)])? == Some(true) {
        return Err(fields.bad_field("routing_protocol", ROUTE_MODE));
    }
    fields.refuse(&["tunnels"], ROUTE_MODE)
}

fn changed_peer(fields: &Fields<'_>, flat: bool) -> Result<Option<PeerAddress>, Fault> {
    let not_here = |path: String| {
        Fault::bad(
            "vpn_connection_update_cidrs_not_permitted",
            format!("{path} is changed through its own path, not here"),
        )
        .at(Target::field(path))
    };
    if flat {
        fields.refuse(&["local", "peer"], OTHER_DATE)?;
        if let Some(name) = ["local_cidrs", "peer_cidrs"].iter().find(|name| fields.has(name)) {
            return Err(not_here((*name).to_owned()));
        }
        let address = fields.text("peer_address")?;
        return address
            .map(|text| peer_ip(text, "peer_address").map(PeerAddress::Address))
            .transpose();
    }
    fields.refuse(&["local_cidrs", "peer_cidrs", "peer_address"], OTHER_DATE)?;
    for side in ["local", "peer"] {
        if let Some(end) = fields.object(side)?
            && end.has("cidrs")
        {
            return Err(not_here(end.path_of("cidrs")));
        }
    }
    fields
        .object("peer")?
        .map(|peer| peer_of(&peer))
        .transpose()
        .map(Option::flatten)
}

fn peer_of(peer: &Fields<'_>) -> Result<Option<PeerAddress>, Fault> {
    match (peer.text("address")?, peer.text("fqdn")?) {
        (Some(_), Some(_)) => Err(Fault::bad(
            "validation_only_one",
            "give peer.address or peer.fqdn, not both",
        )
        .at(Target::field("peer.fqdn"))),
        (Some(text), None) => Ok(Some(PeerAddress::Address(peer_ip(text, "peer.address")?))),
        (None, Some(text)) if is_domain_name(text) => Ok(Some(PeerAddress::Fqdn(text.to_ascii_lowercase()))),
        (None, Some(text)) => Err(peer
            .bad_field("fqdn", "is not a fully qualified domain name")
            .at(Target::field("peer.fqdn").with_value(text))),
        (None, None) => Ok(None),
    }
}

fn peer_ip(text: &str, path: &str) -> Result<IpAddr, Fault> {
    // Where it may be, and whether the gateway can reach it, is the model's to say.
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Ok(address.into());
    }
    let address: Ipv4Addr = scalar::ipv4(text, path)?;
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() || address.is_broadcast() {
        return Err(Fault::bad(
            "validation_invalid_ipv4_address",
            format!("{path} is not an address that a peer can have"),
        )
        .at(Target::field(path).with_value(text)));
    }
    Ok(address.into())
}

fn is_domain_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253
        && text.contains('.')
        && text.split('.').all(label)
        && text
            .rsplit('.')
            .next()
            .is_some_and(|last| last.bytes().any(|b| b.is_ascii_alphabetic()))
}

fn cidrs(fields: &Fields<'_>, name: &str, missing: &'static str) -> Result<Vec<Cidr>, Fault> {
    let items = fields.texts(name)?.unwrap_or_default();
    if items.is_empty() {
        let path = fields.path_of(name);
        return Err(
            Fault::bad(missing, format!("{path} must have at least one range")).at(Target::field(path)),
        );
    }
    items
        .iter()
        .map(|(path, text)| scalar::connection_cidr(text, path))
        .collect()
}

// The message and the target never hold the key.
fn pre_shared_key(text: &str) -> Result<Secret, Fault> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-+&!@#$%^*(),.:_".contains(&byte);
    let why = if !(6..=128).contains(&text.chars().count()) {
        "psk must have 6 to 128 characters"
    } else if !text.bytes().all(allowed) {
        "psk has a character other than letters, digits and - + & ! @ # $ % ^ * ( ) , . : _"
    } else if text.starts_with("0x") || text.starts_with("0s") {
        "psk must not begin with 0x or 0s"
    } else {
        return Ok(Secret::new(text.to_owned()));
    };
    Err(Fault::bad("vpn_connection_invalid_psk_format", why).at(Target::field("psk")))
}

fn default_detection(date: ApiDate) -> DeadPeerDetection {
    if date < ApiDate::RESTART_BY_DEFAULT {
        DeadPeerDetection {
            action: DeadPeerAction::None,
            interval: 30,
            timeout: 120,
        }
    } else {
        DeadPeerDetection {
            action: DeadPeerAction::Restart,
            interval: 2,
            timeout: 10,
        }
    }
}

fn detection(fields: &Fields<'_>) -> Result<DeadPeerDetectionPatch, Fault> {
    let Some(given) = fields.object("dead_peer_detection")? else {
        return Ok(DeadPeerDetectionPatch::default());
    };
    Ok(DeadPeerDetectionPatch {
        action: given.choice(
            "action",
            &[
                ("restart", DeadPeerAction::Restart),
                ("clear", DeadPeerAction::Clear),
                ("hold", DeadPeerAction::Hold),
                ("none", DeadPeerAction::None),
            ],
        )?,
        interval: given.integer("interval", 1..=86_399)?,
        timeout: given.integer("timeout", 2..=86_399)?,
    })
}

fn establish(fields: &Fields<'_>, flat: bool) -> Result<Option<Establish>, Fault> {
    if flat {
        return Ok(None);
    }
    fields.choice(
        "establish_mode",
        &[
            ("bidirectional", Establish::Bidirectional),
            ("peer_only", Establish::PeerOnly),
        ],
    )
}

fn changed_policy<I: From<ResourceBits>>(
    call: &Call<'_>,
    fields: &Fields<'_>,
    name: &str,
    kind: &IdKind,
) -> Result<Option<Option<I>>, Fault> {
    if fields.is_null(name) {
        return Ok(Some(None));
    }
    Ok(call.identity(fields, name, kind)?.map(Some))
}

fn identity(fields: &Fields<'_>) -> Result<Identity, Fault> {
    #[derive(Clone, Copy)]
    enum Form {
        Address,
        Fqdn,
        Hostname,
        KeyId,
    }
    let form = fields.choice(
        "type",
        &[
            ("ipv4_address", Form::Address),
            ("fqdn", Form::Fqdn),
            ("hostname", Form::Hostname),
            ("key_id", Form::KeyId),
        ],
    )?;
    let form = fields.required("type", form)?;
    let value = fields.required("value", fields.text("value")?)?;
    let invalid = |why: &str| {
        fields
            .bad_field("value", why)
            .at(Target::field(fields.path_of("value")).with_value(value))
    };
    match form {
        Form::Address => Ok(Identity::Address(
            scalar::ipv4(value, &fields.path_of("value"))?.into(),
        )),
        Form::Fqdn if is_domain_name(value) => Ok(Identity::Fqdn(value.to_owned())),
        Form::Fqdn => Err(invalid("is not a fully qualified domain name")),
        Form::Hostname => {
            let label = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
            if (1..=253).contains(&value.len()) && value.bytes().all(label) {
                Ok(Identity::Hostname(value.to_owned()))
            } else {
                Err(invalid("is not a host name"))
            }
        }
        Form::KeyId => match STANDARD.decode(value) {
            Ok(bytes) if (1..=KEY_ID_BYTES).contains(&bytes.len()) => Ok(Identity::KeyId(bytes)),
            Ok(_) => Err(invalid("must stand for 1 to 255 bytes")),
            Err(_) => Err(invalid("is not base64")),
        },
    }
}
