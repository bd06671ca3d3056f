//! A model that is changed through operations, and a host that has at once whatever its plan says.

use isthmus_hostplan::{
    ConnectionReport, DownReason, GatewayReport, HostPlan, HostReport, InstanceReport, ObjectState,
    PlanDelta, PlanStatus, Power, TunnelState, UplinkPlan, VpcReport,
};
use isthmus_model::{Settings, Snapshot, apply};
use isthmus_ops::{
    Caller, CreateAccount, CreateAddressPrefix, CreateInstance, CreateSubnet, CreateVpc, CreateVpnConnection,
    CreateVpnGateway, DeadPeerAction, DeadPeerDetection, Establish, InterfaceAttachment, NewInterface,
    OpError, Operation, Outcome, PeerAddress, PrefixManagement, Request, SubnetRange, Via,
};
use isthmus_types::{
    AccountId, Generation, InstanceId, ResourceBits, ResourceName, Secret, SubnetId, Timestamp, UserId,
    VpcId, VpnConnectionId, VpnGatewayId,
};

pub fn account() -> AccountId {
    AccountId(ResourceBits::from_random(1))
}

pub fn settings() -> Settings {
    Settings::default()
}

pub fn request(operation: Operation) -> Request {
    let is_internal = matches!(
        operation,
        Operation::CreateAccount(_) | Operation::RecordStatus(_) | Operation::FinishDeletion(_)
    );
    Request {
        caller: Caller {
            account: account(),
            user: None,
            via: if is_internal { Via::System } else { Via::Ibm },
            request_id: "test".to_owned(),
        },
        operation,
        idempotency_token: None,
    }
}

pub fn create_account() -> Operation {
    Operation::CreateAccount(CreateAccount {
        account: account(),
        name: ResourceName::new("lab").unwrap(),
        user: UserId(ResourceBits::from_random(2)),
        user_name: ResourceName::new("root").unwrap(),
        api_key_hash: [0; 32],
    })
}

pub fn create_vpc() -> Operation {
    Operation::CreateVpc(CreateVpc {
        name: None,
        prefixes: PrefixManagement::Manual,
        classic_access: false,
        resource_group: None,
    })
}

pub fn create_prefix(vpc: VpcId, octet: u8) -> Operation {
    Operation::CreateAddressPrefix(CreateAddressPrefix {
        vpc,
        cidr: format!("10.{octet}.0.0/16").parse().unwrap(),
        zone: settings().zones[0].clone(),
        name: None,
        is_default: true,
    })
}

pub fn create_subnet(vpc: VpcId, octet: u8) -> Operation {
    Operation::CreateSubnet(CreateSubnet {
        vpc,
        range: SubnetRange::Cidr(format!("10.{octet}.0.0/24").parse().unwrap()),
        zone: None,
        name: None,
        resource_group: None,
    })
}

pub fn create_instance(subnet: SubnetId) -> Operation {
    Operation::CreateInstance(CreateInstance {
        name: None,
        vpc: None,
        zone: settings().zones[0].clone(),
        profile: "cx2-2x4".to_owned(),
        image: "none".to_owned(),
        interface: NewInterface {
            subnet,
            name: None,
            address: None,
            security_groups: Vec::new(),
            allow_ip_spoofing: false,
            attachment: InterfaceAttachment::Namespace,
        },
        resource_group: None,
    })
}

pub fn create_gateway(subnet: SubnetId) -> Operation {
    Operation::CreateVpnGateway(CreateVpnGateway {
        subnet,
        name: None,
        resource_group: None,
        reserved_addresses: 8,
    })
}

pub fn create_connection(gateway: VpnGatewayId, octet: u8, number: u8) -> Operation {
    Operation::CreateVpnConnection(CreateVpnConnection {
        gateway,
        name: None,
        psk: Secret::new("a-shared-key".to_owned()),
        peer: PeerAddress::Address(format!("198.51.100.{}", number + 1).parse().unwrap()),
        local_cidrs: vec![format!("10.{octet}.0.0/24").parse().unwrap()],
        peer_cidrs: vec![format!("172.16.{number}.0/24").parse().unwrap()],
        admin_state_up: true,
        dead_peer_detection: DeadPeerDetection {
            action: DeadPeerAction::Restart,
            interval: 2,
            timeout: 10,
        },
        ike_policy: None,
        ipsec_policy: None,
        establish: Establish::Bidirectional,
        local_identity: None,
        peer_identity: None,
    })
}

/// A model changed through operations.
pub struct World {
    pub snapshot: Snapshot,
    drawn: u128,
}

impl World {
    pub fn new() -> Self {
        let mut world = Self {
            snapshot: Snapshot::empty(settings()),
            drawn: 1000,
        };
        world.apply(create_account());
        world
    }

    pub fn apply(&mut self, operation: Operation) -> Outcome {
        self.attempt(operation).expect("allowed")
    }

    /// Applies what may be refused.
    pub fn attempt(&mut self, operation: Operation) -> Result<Outcome, OpError> {
        let drawn = &mut self.drawn;
        let mut ids = || {
            *drawn += 1;
            ResourceBits::from_random(*drawn)
        };
        let (changes, outcome) = apply(&self.snapshot, &request(operation), Timestamp(1_000), &mut ids)?;
        if !changes.is_empty() {
            self.snapshot = self.snapshot.with(&changes);
        }
        Ok(outcome)
    }

    pub fn vpc(&mut self, octet: u8) -> (VpcId, SubnetId) {
        let vpc = vpc_of(self.apply(create_vpc()));
        self.apply(create_prefix(vpc, octet));
        let subnet = subnet_of(self.apply(create_subnet(vpc, octet)));
        (vpc, subnet)
    }
}

pub fn vpc_of(outcome: Outcome) -> VpcId {
    let Outcome::Vpc(vpc) = outcome else {
        panic!("{outcome:?}")
    };
    vpc.id
}

pub fn subnet_of(outcome: Outcome) -> SubnetId {
    let Outcome::Subnet(subnet) = outcome else {
        panic!("{outcome:?}")
    };
    subnet.id
}

pub fn instance_of(outcome: Outcome) -> InstanceId {
    let Outcome::Instance(instance) = outcome else {
        panic!("{outcome:?}")
    };
    instance.id
}

pub fn gateway_of(outcome: Outcome) -> VpnGatewayId {
    let Outcome::VpnGateway(gateway) = outcome else {
        panic!("{outcome:?}")
    };
    gateway.id
}

pub fn connection_of(outcome: Outcome) -> VpnConnectionId {
    let Outcome::VpnConnection(connection) = outcome else {
        panic!("{outcome:?}")
    };
    connection.id
}

/// A host that has at once whatever its plan says, with every tunnel that may be up, up.
pub struct FakeHost {
    pub plan: HostPlan,
}

impl FakeHost {
    pub fn new() -> Self {
        let settings = settings();
        Self {
            plan: HostPlan::empty(
                settings.host,
                settings.realm,
                UplinkPlan::Private {
                    pool: settings.public_pool,
                    router: settings.uplink_router,
                    router_ipv6: Some(settings.uplink_router_ipv6),
                },
            ),
        }
    }

    pub fn generation(&self) -> Generation {
        self.plan.generation
    }

    pub fn take(&mut self, delta: PlanDelta) {
        self.plan.apply(delta);
    }

    pub fn report(&self) -> HostReport {
        let plans = || self.plan.vpcs.values();
        let gateways = || plans().flat_map(|plan| &plan.gateways);
        HostReport {
            host: self.plan.host.clone(),
            generation: self.plan.generation,
            status: PlanStatus::Converged,
            vpcs: plans()
                .map(|plan| VpcReport {
                    vpc: plan.vpc,
                    generation: plan.generation,
                    state: ObjectState::Present,
                })
                .collect(),
            instances: plans()
                .flat_map(|plan| &plan.ports)
                .map(|port| InstanceReport {
                    instance: port.instance,
                    running: port.power == Power::On,
                    state: ObjectState::Present,
                })
                .collect(),
            gateways: gateways()
                .map(|gateway| GatewayReport {
                    gateway: gateway.gateway,
                    state: ObjectState::Present,
                    counters: isthmus_hostplan::GatewayCounters::default(),
                })
                .collect(),
            connections: gateways()
                .flat_map(|gateway| &gateway.connections)
                .map(|connection| {
                    let state = if connection.admin_up {
                        TunnelState::Up
                    } else {
                        TunnelState::AdminDown
                    };
                    ConnectionReport {
                        reset_count: connection.reset_count,
                        ..connection_report(connection.connection, state)
                    }
                })
                .collect(),
            agent: isthmus_hostplan::AgentCounters::default(),
        }
    }
}

pub fn connection_report(connection: VpnConnectionId, state: TunnelState) -> ConnectionReport {
    ConnectionReport {
        connection,
        state,
        since: Timestamp(2_000),
        reset_count: 0,
        ike_suite: String::new(),
        esp_suite: String::new(),
        bytes_in: 0,
        bytes_out: 0,
        packets_in: 0,
        packets_out: 0,
        drops: Vec::new(),
        totals: Vec::new(),
        diagnosis: isthmus_hostplan::Diagnosis::default(),
    }
}

pub fn silent_peer() -> TunnelState {
    TunnelState::Down {
        reason: DownReason::PeerNotResponding,
        detail: "no answer from 198.51.100.1 since 3 s".to_owned(),
    }
}
