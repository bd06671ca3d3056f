//! Refused operations in this API's words.

use http::StatusCode;
use isthmus_ops::{OpError, OpErrorCode as Code, ResourceKind as Kind};
use isthmus_types::ResourceBits;

use crate::date::ApiDate;
use crate::fault::{Fault, Target};
use crate::id::IdKind;

/// The answer to a refused operation of a route about `subject`.
pub(crate) fn fault(error: &OpError, subject: Kind, date: ApiDate) -> Fault {
    if error.code == Code::Internal {
        return Fault::internal();
    }
    let (status, code) = status_and_code(error, subject);
    let fault = Fault::new(status, code, sentence(error, subject, date));
    let target = match (&error.field, error.code) {
        (_, Code::PreconditionFailed) => Some(Target::header("If-Match")),
        (Some(field), _) if field == "start" => Some(Target::parameter("start")),
        (Some(field), _) => Some(Target::field(property(field, subject, date))),
        (None, Code::NotFound) => Some(Target::parameter("id")),
        (None, _) => None,
    };
    match (target, &error.value) {
        (Some(target), Some(value)) => fault.at(target.with_value(with_our_ids(value, error.resource))),
        (Some(target), None) => fault.at(target),
        (None, _) => fault,
    }
}

// The error's sentence in the words that clients know: properties for fields, and our form of ids.
fn sentence(error: &OpError, subject: Kind, date: ApiDate) -> String {
    let text = with_our_ids(&error.message, error.resource);
    let Some(field) = error.field.as_deref() else {
        return text;
    };
    match text.strip_prefix(field) {
        Some(rest) if rest.starts_with(' ') => format!("{}{rest}", property(field, subject, date)),
        Some(_) | None => text,
    }
}

// The model writes ids as plain digits; clients know them in this dialect's form.
fn with_our_ids(text: &str, resource: Kind) -> String {
    let Some(kind) = IdKind::of(resource) else {
        return text.to_owned();
    };
    let words: Vec<String> = text
        .split(' ')
        .map(|word| {
            let bare = word.trim_end_matches([',', ';', ':', '.']);
            match bare.parse::<ResourceBits>() {
                Ok(bits) => format!(
                    "{}{}",
                    kind.text(bits),
                    word.strip_prefix(bare).unwrap_or_default()
                ),
                Err(_) => word.to_owned(),
            }
        })
        .collect();
    words.join(" ")
}

fn status_and_code(error: &OpError, subject: Kind) -> (StatusCode, &'static str) {
    const BAD: StatusCode = StatusCode::BAD_REQUEST;
    const CONFLICT: StatusCode = StatusCode::CONFLICT;
    let kind = error.resource;
    let field = error.field.as_deref().unwrap_or_default();
    match error.code {
        Code::AddressesExhausted => (CONFLICT, exhausted_code(kind, subject)),
        Code::AddressInUse => (CONFLICT, "address_is_already_reserved"),
        Code::AddressNotUsable => (BAD, "bad_field"),
        Code::CidrNotFound => (StatusCode::NOT_FOUND, "vpn_connection_cidr_not_found"),
        Code::CidrNotValid if subject == Kind::VpnConnection => (BAD, "vpn_connection_cidr_not_valid"),
        Code::CidrNotValid => (BAD, "validation_invalid_cidr"),
        Code::CidrOverlap => (CONFLICT, overlap_code(subject)),
        Code::CidrRepeated => (BAD, "vpn_connection_cidr_duplicated"),
        Code::DuplicateName => (CONFLICT, duplicate_name_code(subject)),
        Code::DefaultPrefixExists => (CONFLICT, "address_prefix_conflict"),
        Code::InUse => (CONFLICT, in_use_code(kind)),
        Code::InUseBySubnet if kind == Kind::Vpc => (CONFLICT, "vpc_in_use"),
        Code::InUseBySubnet => (CONFLICT, "address_prefix_in_use"),
        Code::InUseByInterface => (CONFLICT, "subnet_in_use_network_interface_exists"),
        Code::InUseByVpnGateway => (CONFLICT, "subnet_in_use_vpn_gateway_exists"),
        Code::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal_error"),
        Code::InvalidField => (BAD, invalid_field_code(error, subject)),
        Code::InvalidState => (CONFLICT, invalid_state_code(kind, subject)),
        Code::LastCidr => (CONFLICT, "vpn_connection_cidr_not_deleted"),
        Code::MissingField => (BAD, missing_field_code(error, subject)),
        Code::NoDefaultPrefix => (BAD, "no_default_address_prefix"),
        Code::NotFound => (StatusCode::NOT_FOUND, not_found_code(kind)),
        Code::NotInAddressPrefix => (BAD, "not_in_address_prefix"),
        Code::NotPermitted => (StatusCode::FORBIDDEN, "not_authorized"),
        Code::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, "precondition_failed"),
        Code::QuotaExceeded => (CONFLICT, quota_code(error, subject)),
        Code::ReferenceNotFound => (BAD, reference_code(kind, subject)),
        Code::ScopeMismatch if field == "zone" => (BAD, "zone_inconsistency"),
        Code::ScopeMismatch if field.ends_with("security_groups") => (BAD, "security_group_not_in_vpc"),
        Code::ScopeMismatch => (BAD, "vpc_resource_separation"),
        Code::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "backend_service_unavailable"),
    }
}

/// The code for a name that breaks the rules of names.
pub(crate) const fn invalid_name_code(subject: Kind) -> &'static str {
    match subject {
        Kind::VpnGateway => "vpn_gateway_invalid_name",
        Kind::VpnConnection => "vpn_connection_invalid_name",
        Kind::IkePolicy => "ike_policy_invalid_name",
        Kind::IpsecPolicy => "ipsec_policy_invalid_name",
        Kind::Account
        | Kind::AddressPrefix
        | Kind::ApiKey
        | Kind::CustomerGateway
        | Kind::Instance
        | Kind::NetworkAcl
        | Kind::NetworkInterface
        | Kind::PublicAddress
        | Kind::Region
        | Kind::ReservedIp
        | Kind::ResourceGroup
        | Kind::RouteTable
        | Kind::SecurityGroup
        | Kind::Subnet
        | Kind::User
        | Kind::Vpc
        | Kind::Zone => "validation_invalid_name",
    }
}

fn exhausted_code(kind: Kind, subject: Kind) -> &'static str {
    if subject == Kind::Subnet {
        "insufficient_space_for_subnet"
    } else if kind == Kind::PublicAddress {
        "over_quota"
    } else {
        "subnet_out_of_ip_addresses"
    }
}

fn overlap_code(subject: Kind) -> &'static str {
    if subject == Kind::VpnConnection {
        "vpn_connection_cidr_overlap"
    } else if subject == Kind::AddressPrefix {
        "address_prefix_conflict"
    } else if subject == Kind::Subnet {
        "subnet_conflict"
    } else {
        "network_conflict"
    }
}

fn duplicate_name_code(subject: Kind) -> &'static str {
    if subject == Kind::VpnGateway {
        "vpn_gateway_duplicate_name"
    } else if subject == Kind::VpnConnection {
        "vpn_connection_duplicate_name"
    } else if subject == Kind::IkePolicy {
        "ike_policy_duplicate_name"
    } else if subject == Kind::IpsecPolicy {
        "ipsec_policy_duplicate_name"
    } else if subject == Kind::Instance {
        "instance_name_exists"
    } else {
        "validation_unique_failed"
    }
}

fn in_use_code(kind: Kind) -> &'static str {
    if kind == Kind::Vpc {
        "vpc_in_use"
    } else if kind == Kind::IkePolicy {
        "ike_policy_in_use"
    } else if kind == Kind::IpsecPolicy {
        "ipsec_policy_in_use"
    } else if kind == Kind::AddressPrefix {
        "address_prefix_in_use"
    } else {
        "target_in_use"
    }
}

fn invalid_field_code(error: &OpError, subject: Kind) -> &'static str {
    match error.field.as_deref() {
        Some("start") => "invalid_id_format",
        Some("name") => invalid_name_code(subject),
        Some("psk") => "vpn_connection_invalid_psk_format",
        _ => "bad_field",
    }
}

fn invalid_state_code(kind: Kind, subject: Kind) -> &'static str {
    if kind == Kind::VpnGateway {
        "vpn_gateway_invalid_state"
    } else if kind == Kind::Subnet && subject == Kind::VpnGateway {
        "vpn_gateway_subnet_status_error"
    } else {
        "invalid_state"
    }
}

fn missing_field_code(error: &OpError, subject: Kind) -> &'static str {
    match error.field.as_deref() {
        Some("local_cidrs") if subject == Kind::VpnConnection => "vpn_connection_local_cidrs_required",
        Some("peer_cidrs") if subject == Kind::VpnConnection => "vpn_connection_peer_cidrs_required",
        Some("subnet") if subject == Kind::VpnGateway => "vpn_gateway_missing_subnet_id",
        // An empty list is the value "disabled" here, so it is not missing but wrong.
        Some("integrity") if subject == Kind::IpsecPolicy => "bad_field",
        _ => "missing_field",
    }
}

fn not_found_code(kind: Kind) -> &'static str {
    if kind == Kind::VpnGateway {
        "vpn_gateway_not_found"
    } else if kind == Kind::VpnConnection {
        "vpn_connection_not_found"
    } else if kind == Kind::IkePolicy {
        "ike_policy_not_found"
    } else if kind == Kind::IpsecPolicy {
        "ipsec_policy_not_found"
    } else {
        "not_found"
    }
}

fn quota_code(error: &OpError, subject: Kind) -> &'static str {
    let field = error.field.as_deref().unwrap_or_default();
    if subject == Kind::VpnConnection && field.starts_with("local_cidrs") {
        "vpn_connection_local_subnets_quota_exceeded"
    } else if subject == Kind::VpnConnection && field.starts_with("peer_cidrs") {
        "vpn_connection_peer_subnets_quota_exceeded"
    } else if subject == Kind::VpnConnection {
        "vpn_connections_quota_exceeded"
    } else if subject == Kind::VpnGateway {
        "vpn_gateways_quota_exceeded"
    } else if subject == Kind::IkePolicy {
        "ike_policies_quota_exceeded"
    } else if subject == Kind::IpsecPolicy {
        "ipsec_policies_quota_exceeded"
    } else {
        "over_quota"
    }
}

fn reference_code(kind: Kind, subject: Kind) -> &'static str {
    if kind == Kind::Subnet && subject == Kind::VpnGateway {
        "vpn_gateway_subnet_not_found"
    } else if kind == Kind::Zone {
        "invalid_zone"
    } else {
        "bad_field"
    }
}

/// The property that clients know for a field of an operation.
fn property(field: &str, subject: Kind, date: ApiDate) -> String {
    let (head, index) = field.find('[').map_or((field, ""), |at| field.split_at(at));
    let nested = date >= ApiDate::NESTED_CONNECTION;
    let name = match (subject, head) {
        (Kind::VpnConnection, "local_cidrs") if nested => "local.cidrs",
        (Kind::VpnConnection, "peer_cidrs") if nested => "peer.cidrs",
        (Kind::VpnConnection, "peer") if nested => "peer.address",
        (Kind::VpnConnection, "peer") => "peer_address",
        (Kind::VpnConnection, "local_identity") => "local.ike_identities",
        (Kind::VpnConnection, "peer_identity") => "peer.ike_identity",
        (Kind::VpnConnection, "establish") => "establish_mode",
        (Kind::VpnConnection, "ike_policy") => "ike_policy.id",
        (Kind::VpnConnection, "ipsec_policy") => "ipsec_policy.id",
        (Kind::IkePolicy | Kind::IpsecPolicy, "encryption") => "encryption_algorithms",
        (Kind::IkePolicy | Kind::IpsecPolicy, "integrity") => "authentication_algorithms",
        (Kind::IkePolicy, "dh") => "dh_groups",
        (Kind::IkePolicy, "version") => "ike_version",
        (Kind::IpsecPolicy, "pfs") => "pfs_groups",
        (Kind::Subnet, "vpc") => "vpc.id",
        (Kind::Subnet, "range" | "cidr") => "ipv4_cidr_block",
        (Kind::Subnet | Kind::AddressPrefix | Kind::Instance, "zone") => "zone.name",
        (Kind::VpnGateway, "subnet") => "subnet.id",
        (Kind::Instance, "subnet" | "interface.subnet") => "primary_network_interface.subnet.id",
        (Kind::Instance, "address" | "interface.address") => "primary_network_interface.primary_ip.address",
        (Kind::Instance, "security_groups" | "interface.security_groups") => {
            "primary_network_interface.security_groups"
        }
        (Kind::Instance, "attachment" | "interface.attachment") => "primary_network_interface.attachment",
        (Kind::Instance, "vpc") => "vpc.id",
        (Kind::Instance, "action") => "type",
        (_, other) => other,
    };
    format!("{name}{index}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(text: &str) -> ApiDate {
        ApiDate::from_parameter(Some(text), isthmus_types::Timestamp(0)).unwrap()
    }

    #[test]
    fn errors_name_the_property_of_the_callers_date() {
        let error = OpError::new(Code::CidrOverlap, Kind::VpnConnection, "overlaps")
            .with_field("peer_cidrs[1]")
            .with_value("10.2.0.0/24");
        let nested = fault(&error, Kind::VpnConnection, date("2026-10-06"));
        assert_eq!(nested.status, StatusCode::CONFLICT);
        assert_eq!(nested.code, "vpn_connection_cidr_overlap");
        let target = nested.target.unwrap();
        assert_eq!(target.name, "peer.cidrs[1]");
        assert_eq!(target.value.as_deref(), Some("10.2.0.0/24"));
        let flat = fault(&error, Kind::VpnConnection, date("2020-02-14"));
        assert_eq!(flat.target.unwrap().name, "peer_cidrs[1]");
    }

    #[test]
    fn ids_are_shown_in_the_form_that_clients_know() {
        let id = isthmus_types::VpnGatewayId::from(ResourceBits::from_random(77));
        let shown = fault(
            &OpError::not_found(Kind::VpnGateway, id),
            Kind::VpnGateway,
            date("2026-10-06"),
        );
        let known = format!("0717-{}", id.bits().to_uuid());
        assert_eq!(shown.message, format!("VPN gateway {known} was not found"));
        assert_eq!(shown.target.unwrap().value, Some(known));
    }

    #[test]
    fn internal_errors_tell_nothing() {
        let error = OpError::new(Code::Internal, Kind::Vpc, "row 7 of table x").with_field("secret");
        let fault = fault(&error, Kind::Vpc, date("2026-10-06"));
        assert_eq!((fault.status.as_u16(), fault.code), (500, "internal_error"));
        assert!(!fault.message.contains("row") && fault.target.is_none());
    }

    #[test]
    fn not_found_codes_follow_the_resource() {
        for (kind, code) in [
            (Kind::VpnGateway, "vpn_gateway_not_found"),
            (Kind::VpnConnection, "vpn_connection_not_found"),
            (Kind::IkePolicy, "ike_policy_not_found"),
            (Kind::IpsecPolicy, "ipsec_policy_not_found"),
            (Kind::Subnet, "not_found"),
        ] {
            let fault = fault(&OpError::not_found(kind, "x"), kind, date("2026-10-06"));
            assert_eq!((fault.status.as_u16(), fault.code), (404, code));
        }
    }
}
