//! Resets of connections.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "tests may panic"
)]

mod support;

use isthmus_model::Settings;
use isthmus_ops::*;
use isthmus_types::*;

use support::*;

struct Lab {
    world: World,
    gateway: VpnGatewayId,
    connection: VpnConnectionId,
}

impl Lab {
    fn new() -> Self {
        let mut world = World::new(Settings::default());
        let vpc = world.vpc_with_prefix("blue", "10.1.0.0/16");
        let subnet = world.subnet(vpc, "10.1.0.0/24");
        let gateway = world.available_gateway(subnet);
        let connection = world.connection(new_connection(gateway, &["10.1.0.0/24"], &["10.2.0.0/24"]));
        Self {
            world,
            gateway,
            connection: connection.id,
        }
    }

    fn reset(&self, if_match: IfMatch) -> Operation {
        Operation::ResetVpnConnection {
            gateway: self.gateway,
            connection: self.connection,
            if_match,
        }
    }

    fn resets(&self) -> u32 {
        let connection = self.world.state.vpn_connection(self.connection).unwrap();
        connection.reset_count
    }

    /// The host says that the connection is up after so many resets.
    fn up(&mut self, reset_count: u32) {
        let status = ConnectionStatus {
            state: ConnectionState::Up,
            since: Timestamp(u64::from(reset_count)),
            reset_count,
            ike_suite: "aes256".to_owned(),
            esp_suite: "aes256gcm16".to_owned(),
        };
        let updates = vec![StatusUpdate::VpnConnection {
            connection: self.connection,
            status,
        }];
        self.world.run_as_system(Operation::RecordStatus(updates));
    }

    fn state(&self) -> ConnectionState {
        self.world.connection_view(self.gateway, self.connection).state
    }
}

fn negotiating(state: &ConnectionState) -> bool {
    matches!(
        state,
        ConnectionState::Down {
            reason: ConnectionDownReason::Negotiating,
            ..
        }
    )
}

#[test]
fn a_connection_reads_down_until_its_host_has_carried_out_every_reset() {
    let mut lab = Lab::new();
    lab.up(0);
    assert_eq!(lab.state(), ConnectionState::Up);
    for _ in 0..2 {
        let outcome = lab.world.run(lab.reset(None)).unwrap();
        let Outcome::VpnConnection(view) = outcome else {
            panic!("{outcome:?}")
        };
        assert!(negotiating(&view.state), "{:?}", view.state);
        assert_eq!((view.ike_suite.as_str(), view.esp_suite.as_str()), ("", ""));
        // What callers can write back is the same.
        assert_eq!(view.common.version, 1);
    }
    assert_eq!(lab.resets(), 2);
    // Late words about what was there before, and about the first of both.
    for late in [0, 1] {
        lab.up(late);
        assert!(negotiating(&lab.state()), "{:?}", lab.state());
    }
    lab.up(2);
    assert_eq!(lab.state(), ConnectionState::Up);
}

#[test]
fn a_reset_of_what_is_switched_off_gone_or_another_s_is_refused() {
    let mut lab = Lab::new();
    let wrong_version = lab.reset(Some(vec![7]));
    assert_eq!(lab.world.refusal(wrong_version), OpErrorCode::PreconditionFailed);
    lab.world.run(lab.reset(Some(vec![1]))).unwrap();
    let elsewhere = Operation::ResetVpnConnection {
        gateway: VpnGatewayId::from(bits(99)),
        connection: lab.connection,
        if_match: None,
    };
    assert_eq!(lab.world.refusal(elsewhere), OpErrorCode::NotFound);
    let before = lab.world.state.clone();
    let error = lab
        .world
        .as_caller(caller(OTHER_ACCOUNT), lab.reset(None))
        .unwrap_err();
    assert_eq!(error.code, OpErrorCode::NotFound);
    assert_eq!(lab.world.state, before);

    let mut off = no_update(lab.gateway, lab.connection);
    off.admin_state_up = Some(false);
    lab.world.run(Operation::UpdateVpnConnection(off)).unwrap();
    let error = lab.world.run(lab.reset(None)).unwrap_err();
    assert_eq!(error.code, OpErrorCode::InvalidState);
    assert!(error.message.contains("switch it on"), "{}", error.message);

    let delete = Operation::DeleteVpnConnection {
        gateway: lab.gateway,
        connection: lab.connection,
        if_match: None,
    };
    lab.world.run(delete).unwrap();
    assert_eq!(lab.world.refusal(lab.reset(None)), OpErrorCode::NotFound);
    assert_eq!(lab.resets(), 1);
}

#[test]
fn a_connection_of_a_release_without_resets_is_up_as_it_was_seen() {
    let mut lab = Lab::new();
    lab.up(0);
    let status = lab.world.state.connection_status(lab.connection).unwrap();
    let mut kept = serde_json::to_value(status).unwrap();
    kept.as_object_mut().unwrap().remove("reset_count").unwrap();
    let read: ConnectionStatus = serde_json::from_value(kept).unwrap();
    assert_eq!(&read, status);
}
