//! The ranges of a VPN connection as resources of their own, in the older path form (`local_cidrs/ADDRESS/LENGTH`) and
//! the newer one (`local/cidrs/CIDR`). Both forms are served at every date.

use http::StatusCode;
use isthmus_ops::{Operation, Query, Side};
use isthmus_types::{Cidr, VpnConnectionId, VpnGatewayId};

use crate::Ask;
use crate::call::{Call, Plan};
use crate::fault::Fault;
use crate::id;
use crate::render::Shape;
use crate::scalar;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Flat,
    Nested,
}

macro_rules! handlers {
    ($($name:ident = $verb:ident($side:ident, $form:ident);)+) => {$(
        pub(crate) fn $name(call: &Call<'_>) -> Result<Plan, Fault> {
            $verb(call, Side::$side, Form::$form)
        }
    )+};
}

handlers! {
    list_local = list(Local, Nested);
    list_peer = list(Peer, Nested);
    list_local_flat = list(Local, Flat);
    list_peer_flat = list(Peer, Flat);
    check_local = check(Local, Nested);
    check_peer = check(Peer, Nested);
    check_local_flat = check(Local, Flat);
    check_peer_flat = check(Peer, Flat);
    add_local = add(Local, Nested);
    add_peer = add(Peer, Nested);
    add_local_flat = add(Local, Flat);
    add_peer_flat = add(Peer, Flat);
    remove_local = remove(Local, Nested);
    remove_peer = remove(Peer, Nested);
    remove_local_flat = remove(Local, Flat);
    remove_peer_flat = remove(Peer, Flat);
}

fn list(call: &Call<'_>, side: Side, form: Form) -> Result<Plan, Fault> {
    let (gateway, connection) = ids(call)?;
    let key = match (form, side) {
        (Form::Nested, _) => "cidrs",
        (Form::Flat, Side::Local) => "local_cidrs",
        (Form::Flat, Side::Peer) => "peer_cidrs",
    };
    Ok(Plan::query(
        Query::ConnectionCidrs {
            gateway,
            connection,
            side,
        },
        Shape::Cidrs(key),
    ))
}

fn check(call: &Call<'_>, side: Side, form: Form) -> Result<Plan, Fault> {
    let (gateway, connection) = ids(call)?;
    let cidr = cidr(call, form)?;
    let query = Query::ConnectionCidr {
        gateway,
        connection,
        side,
        cidr,
    };
    Ok(Plan {
        ask: Ask::Query(Box::new(query)),
        success: StatusCode::NO_CONTENT,
        shape: Shape::Empty,
    })
}

fn add(call: &Call<'_>, side: Side, form: Form) -> Result<Plan, Fault> {
    let (gateway, connection) = ids(call)?;
    let cidr = cidr(call, form)?;
    let operation = Operation::AddConnectionCidr {
        gateway,
        connection,
        side,
        cidr,
    };
    Ok(Plan {
        ask: Ask::Operation(Box::new(operation)),
        success: StatusCode::NO_CONTENT,
        shape: Shape::CidrPut {
            tells_new: form == Form::Nested,
        },
    })
}

fn remove(call: &Call<'_>, side: Side, form: Form) -> Result<Plan, Fault> {
    let (gateway, connection) = ids(call)?;
    let cidr = cidr(call, form)?;
    let operation = Operation::RemoveConnectionCidr {
        gateway,
        connection,
        side,
        cidr,
    };
    Ok(Plan::silent(operation, StatusCode::NO_CONTENT))
}

fn ids(call: &Call<'_>) -> Result<(VpnGatewayId, VpnConnectionId), Fault> {
    Ok((call.id(0, &id::VPN_GATEWAY)?, call.id(1, &id::VPN_CONNECTION)?))
}

fn cidr(call: &Call<'_>, form: Form) -> Result<Cidr, Fault> {
    let parsed = match form {
        Form::Nested => scalar::connection_cidr(call.variable(2), "cidr"),
        Form::Flat => scalar::connection_cidr(&format!("{}/{}", call.variable(2), call.variable(3)), "cidr"),
    };
    parsed.map_err(|mut fault| {
        if let Some(target) = &mut fault.target {
            target.kind = crate::TargetKind::Parameter;
        }
        fault
    })
}
