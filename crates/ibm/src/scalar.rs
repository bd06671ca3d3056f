//! Values that many properties share: names, addresses, ranges, zones, identities of other resources.

use std::net::Ipv4Addr;

use isthmus_ops::{OpError, OpErrorCode};
use isthmus_types::{Cidr, CidrError, ResourceBits, ResourceName, ZoneName};

use crate::body::Fields;
use crate::call::Call;
use crate::fault::{Fault, Target};
use crate::id::{IdKind, last_segments};
use crate::refusal;

/// The one range with host bits that is accepted, and what it stands for.
const SERVICE_RANGE_AS_WRITTEN: &str = "166.9.0.0/14";
const SERVICE_RANGE: &str = "166.8.0.0/14";

impl Call<'_> {
    /// The `name` of a resource that is made or changed.
    pub fn name(&self, fields: &Fields<'_>) -> Result<Option<ResourceName>, Fault> {
        name_at(fields, refusal::invalid_name_code(self.subject()))
    }

    /// An identity object that must name an existing resource.
    pub fn identity<I: From<ResourceBits>>(
        &self,
        fields: &Fields<'_>,
        name: &str,
        kind: &IdKind,
    ) -> Result<Option<I>, Fault> {
        match fields.object(name)? {
            Some(identity) => self
                .identity_of(&identity, name, kind)
                .map(|bits| Some(I::from(bits))),
            None => Ok(None),
        }
    }

    /// The resource that an identity object (`id`, `crn` or `href`) names.
    pub fn identity_of(
        &self,
        identity: &Fields<'_>,
        name: &str,
        kind: &IdKind,
    ) -> Result<ResourceBits, Fault> {
        let mut found: Option<ResourceBits> = None;
        for (form, read) in [
            ("id", IdKind::bits as fn(&IdKind, &str) -> Option<ResourceBits>),
            ("crn", IdKind::bits_of_crn),
            ("href", IdKind::bits_of_href),
        ] {
            let Some(text) = identity.text(form)? else {
                continue;
            };
            let path = identity.path_of(form);
            let bits = read(kind, text).ok_or_else(|| {
                let error = OpError::new(
                    OpErrorCode::ReferenceNotFound,
                    kind.resource,
                    format!("{} {text} was not found", kind.resource.words()),
                );
                refusal::fault(&error, self.subject(), self.date).at(Target::field(&path).with_value(text))
            })?;
            if found.is_some_and(|other| other != bits) {
                return Err(identity.bad_field(form, "names another resource than the rest of the object"));
            }
            found = Some(bits);
        }
        found.ok_or_else(|| {
            let path = identity.path_of("id");
            Fault::bad(
                "missing_field",
                format!("{path} is missing: {name} is given by id, crn or href"),
            )
            .at(Target::field(path))
        })
    }
}

fn name_at(fields: &Fields<'_>, code: &'static str) -> Result<Option<ResourceName>, Fault> {
    let Some(text) = fields.text("name")? else {
        return Ok(None);
    };
    let invalid = || {
        let path = fields.path_of("name");
        Fault::bad(
            code,
            format!(
                "{path} must be 1 to 63 lower-case letters, digits and hyphens, start with a letter and not end with a hyphen"
            ),
        )
        .at(Target::field(path).with_value(text))
    };
    let bytes = text.as_bytes();
    let ok = (1..=63).contains(&bytes.len())
        && bytes
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
        && bytes.first().is_some_and(u8::is_ascii_lowercase)
        && bytes.last() != Some(&b'-');
    if !ok {
        return Err(invalid());
    }
    ResourceName::new(text).map(Some).map_err(|_| invalid())
}

/// A zone given by `name` or `href`.
pub(crate) fn zone(fields: &Fields<'_>, name: &str) -> Result<Option<ZoneName>, Fault> {
    let Some(identity) = fields.object(name)? else {
        return Ok(None);
    };
    let (path, text) = if let Some(text) = identity.text("name")? {
        (identity.path_of("name"), text.to_owned())
    } else if let Some(href) = identity.text("href")? {
        (
            identity.path_of("href"),
            name_in_href(href, "zones").unwrap_or_default(),
        )
    } else {
        return Err(identity.missing("name"));
    };
    ZoneName::new(text.as_str()).map(Some).map_err(|_| {
        Fault::bad("invalid_zone", format!("{path} names no zone")).at(Target::field(path).with_value(&text))
    })
}

/// The id in a `resource_group` identity. Any group is accepted: there is no resource manager to ask.
pub(crate) fn resource_group(call: &Call<'_>, fields: &Fields<'_>) -> Result<Option<String>, Fault> {
    let Some(identity) = fields.object("resource_group")? else {
        return Ok(None);
    };
    let id = identity.required("id", identity.text("id")?)?;
    Ok(known_group(
        call,
        check_group(id).ok_or_else(|| {
            identity.bad_field("id", "must be 1 to 128 printable ASCII characters without spaces")
        })?,
    ))
}

/// A group id that is not the default group's.
pub(crate) fn known_group(call: &Call<'_>, id: &str) -> Option<String> {
    (id != default_group_id(call.request.scene.account)).then(|| id.to_owned())
}

pub(crate) fn check_group(id: &str) -> Option<&str> {
    ((1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic())).then_some(id)
}

/// Id of an account's default resource group.
pub(crate) fn default_group_id(account: isthmus_types::AccountId) -> String {
    format!("{:032x}", account.bits().value())
}

/// An IPv4 range without host bits, in its canonical form.
pub(crate) fn cidr(text: &str, path: &str, code: &'static str) -> Result<Cidr, Fault> {
    let fault = |why: &str| {
        Fault::bad(code, format!("{path} is not a valid IPv4 range: {why}"))
            .at(Target::field(path).with_value(text))
    };
    match text.parse::<Cidr>() {
        Ok(cidr) if cidr.v4().is_some() && cidr.to_string() == text => Ok(cidr),
        Err(CidrError::HostBits) => Err(fault("host bits are set")),
        Ok(_) | Err(CidrError::Malformed) => Err(fault("it must read like 10.1.0.0/24")),
    }
}

/// A range of a VPN connection; the one documented literal with host bits is accepted.
pub(crate) fn connection_cidr(text: &str, path: &str) -> Result<Cidr, Fault> {
    let text = if text == SERVICE_RANGE_AS_WRITTEN {
        SERVICE_RANGE
    } else {
        text
    };
    cidr(text, path, "vpn_connection_cidr_not_valid")
}

/// An IPv4 address.
pub(crate) fn ipv4(text: &str, path: &str) -> Result<Ipv4Addr, Fault> {
    text.parse().map_err(|_| {
        Fault::bad(
            "validation_invalid_ipv4_address",
            format!("{path} is not an IPv4 address"),
        )
        .at(Target::field(path).with_value(text))
    })
}

/// The name at the end of an href whose segment before it is `collection`.
pub(crate) fn name_in_href(href: &str, collection: &str) -> Option<String> {
    last_segments(href)
        .filter(|(before, _)| before == collection)
        .map(|(_, name)| name)
}
