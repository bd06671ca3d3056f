//! The refusals that several operations share.

use std::fmt::Display;

use isthmus_ops::{OpError, OpErrorCode, ResourceKind, Side};
use isthmus_types::{Cidr, ResourceName};

/// A field of the request has a value that is not allowed.
pub(crate) fn invalid_field(resource: ResourceKind, field: &str, value: impl Display, why: &str) -> OpError {
    OpError::new(
        OpErrorCode::InvalidField,
        resource,
        format!("{field} {value} is not allowed: {why}"),
    )
    .with_field(field)
    .with_value(value.to_string())
}

/// A field of the request is missing.
pub(crate) fn missing_field(resource: ResourceKind, field: &str, why: &str) -> OpError {
    OpError::new(
        OpErrorCode::MissingField,
        resource,
        format!("{field} is missing: {why}"),
    )
    .with_field(field)
}

/// The name is taken.
pub(crate) fn duplicate_name(resource: ResourceKind, name: &ResourceName) -> OpError {
    OpError::new(
        OpErrorCode::DuplicateName,
        resource,
        format!("the name {name} is taken by another {}", resource.words()),
    )
    .with_field("name")
    .with_value(name.as_str())
}

/// More than the account may have.
pub(crate) fn over_quota(resource: ResourceKind, what: &str, limit: u32) -> OpError {
    OpError::new(
        OpErrorCode::QuotaExceeded,
        resource,
        format!("the limit of {limit} {what} is reached"),
    )
}

/// Turns "not found", as for an id in the path, into what it means for an id in the body.
pub(crate) fn referenced<T>(result: Result<T, OpError>, field: &str) -> Result<T, OpError> {
    result.map_err(|mut error| {
        if error.code == OpErrorCode::NotFound {
            error.code = OpErrorCode::ReferenceNotFound;
        }
        error.field = Some(field.to_owned());
        error
    })
}

/// A record refers to one that does not exist, which no operation allows: a fault of ours.
pub(crate) fn dangling(resource: ResourceKind, id: impl Display) -> OpError {
    OpError::new(
        OpErrorCode::Internal,
        resource,
        "the service has an inconsistent state",
    )
    .with_private(format!("{} {id} is referred to and missing", resource.words()))
}

/// The name of the field that holds the ranges of a side of a connection.
pub(crate) const fn cidrs_field(side: Side) -> &'static str {
    match side {
        Side::Local => "local_cidrs",
        Side::Peer => "peer_cidrs",
    }
}

/// The range is not on this side of the connection.
pub(crate) fn cidr_not_found(side: Side, cidr: Cidr) -> OpError {
    OpError::new(
        OpErrorCode::CidrNotFound,
        ResourceKind::VpnConnection,
        format!("the range {cidr} is not on this side of the connection"),
    )
    .with_field(cidrs_field(side))
    .with_value(cidr.to_string())
}
