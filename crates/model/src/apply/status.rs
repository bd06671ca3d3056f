//! What hosts report.

use isthmus_ops::{HostFindings, InstanceStatus, Outcome, StatusUpdate};
use isthmus_types::{InstanceId, VpnConnectionId, VpnGatewayId};

use super::Draft;
use crate::record::{
    ConnectionObservation, GatewayObservation, InstanceObservation, InstancePower, RecordKey,
};

impl Draft<'_> {
    /// Keeps what is new. Reports about what is gone or going are late, not wrong: they are passed over.
    pub(super) fn record_status(&mut self, updates: &[StatusUpdate]) -> Outcome {
        for update in updates {
            match update {
                StatusUpdate::Instance { instance, status } => self.observe_instance(*instance, status),
                StatusUpdate::VpnGateway { gateway, status } => {
                    let wanted = self
                        .state
                        .vpn_gateway(*gateway)
                        .is_some_and(|gateway| gateway.deleting.is_none());
                    if wanted && self.state.gateway_status(*gateway) != Some(status) {
                        self.put(GatewayObservation {
                            gateway: *gateway,
                            status: status.clone(),
                        });
                    }
                }
                StatusUpdate::VpnConnection { connection, status } => {
                    let wanted = self
                        .state
                        .vpn_connection(*connection)
                        .is_some_and(|connection| connection.deleting.is_none());
                    if wanted && self.state.connection_status(*connection) != Some(status) {
                        self.put(ConnectionObservation {
                            connection: *connection,
                            status: status.clone(),
                        });
                    }
                }
            }
        }
        Outcome::Done
    }

    fn observe_instance(&mut self, id: InstanceId, status: &InstanceStatus) {
        let Some(mut instance) = self
            .state
            .instance(id)
            .filter(|instance| instance.deleting.is_none())
            .cloned()
        else {
            return;
        };
        if self.state.instance_status(id) != Some(status) {
            self.put(InstanceObservation {
                instance: id,
                status: status.clone(),
            });
        }
        // A restart goes down first and comes up only after that was seen.
        let power = match (instance.power, status) {
            (InstancePower::RestartingDown, InstanceStatus::Stopped) => InstancePower::RestartingUp,
            (InstancePower::RestartingUp, InstanceStatus::Running) => InstancePower::Running,
            (unchanged, _) => unchanged,
        };
        if power != instance.power {
            instance.power = power;
            self.put(instance);
        }
    }

    /// Removes what was marked for deletion and no host has any more. Findings about other things are passed over.
    pub(super) fn finish_deletion(&mut self, findings: &HostFindings) -> Outcome {
        for id in &findings.instances {
            self.remove_instance(*id);
        }
        for id in &findings.connections {
            let marked = self
                .state
                .vpn_connection(*id)
                .is_some_and(|connection| connection.deleting.is_some());
            if marked {
                self.remove_connection(*id);
            }
        }
        for id in &findings.gateways {
            self.remove_gateway(*id);
        }
        Outcome::Done
    }

    fn remove_instance(&mut self, id: InstanceId) {
        let Some(interface) = self
            .state
            .instance(id)
            .filter(|instance| instance.deleting.is_some())
            .map(|instance| instance.interface)
        else {
            return;
        };
        if let Some(reserved) = self
            .state
            .network_interface(interface)
            .map(|found| found.reserved_ip)
        {
            self.delete(RecordKey::ReservedIp(reserved));
        }
        self.delete(RecordKey::NetworkInterface(interface));
        self.delete(RecordKey::InstanceObservation(id));
        self.delete(RecordKey::Instance(id));
    }

    fn remove_gateway(&mut self, id: VpnGatewayId) {
        let Some(reserved) = self
            .state
            .vpn_gateway(id)
            .filter(|gateway| gateway.deleting.is_some())
            .map(|gateway| gateway.reserved_ips.clone())
        else {
            return;
        };
        let connections: Vec<VpnConnectionId> = self
            .state
            .connections_of(id)
            .map(|connection| connection.id)
            .collect();
        for connection in connections {
            self.remove_connection(connection);
        }
        for address in reserved {
            self.delete(RecordKey::ReservedIp(address));
        }
        self.delete(RecordKey::GatewayObservation(id));
        self.delete(RecordKey::VpnGateway(id));
    }

    fn remove_connection(&mut self, id: VpnConnectionId) {
        if let Some(peer) = self.state.vpn_connection(id).map(|found| found.customer_gateway) {
            self.delete(RecordKey::CustomerGateway(peer));
        }
        self.delete(RecordKey::PreSharedKey(id));
        self.delete(RecordKey::TunnelSettings(id));
        self.delete(RecordKey::ConnectionObservation(id));
        self.delete(RecordKey::VpnConnection(id));
    }
}
