//! A model in a box: one account, counted ids, a clock that ticks with each operation.

#![allow(dead_code, reason = "each test binary uses its own part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "tests may panic"
)]

pub mod invariants;
pub mod scene;

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;

use isthmus_model::{Settings, Snapshot, apply, query};
use isthmus_ops::*;
use isthmus_types::*;

pub fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

pub fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

pub fn name(text: &str) -> ResourceName {
    ResourceName::new(text).unwrap()
}

pub fn zone(number: u8) -> ZoneName {
    ZoneName::new(format!("us-south-{number}")).unwrap()
}

pub fn bits(number: u128) -> ResourceBits {
    ResourceBits::from_random(number)
}

pub fn page(limit: u32, start: Option<String>) -> Page {
    Page {
        limit: NonZeroU32::new(limit).unwrap(),
        start,
    }
}

pub const ACCOUNT: u128 = 0xaaaa;
pub const OTHER_ACCOUNT: u128 = 0xbbbb;

pub fn caller(account: u128) -> Caller {
    Caller {
        account: AccountId(bits(account)),
        user: Some(UserId(bits(account + 1))),
        via: Via::Ibm,
        request_id: "test".to_owned(),
    }
}

pub fn system() -> Caller {
    Caller {
        account: AccountId(bits(ACCOUNT)),
        user: None,
        via: Via::System,
        request_id: "system".to_owned(),
    }
}

/// A state with everything needed to go on from it.
#[derive(Clone)]
pub struct World {
    pub state: Snapshot,
    pub now: u64,
    pub next_id: u128,
}

impl World {
    /// Two accounts and nothing else.
    pub fn new(settings: Settings) -> Self {
        let mut world = Self {
            state: Snapshot::empty(settings),
            now: 1_000,
            next_id: 1,
        };
        for account in [ACCOUNT, OTHER_ACCOUNT] {
            world
                .as_caller(
                    system(),
                    Operation::CreateAccount(CreateAccount {
                        account: AccountId(bits(account)),
                        name: name(&format!("account-{account:x}")),
                        user: UserId(bits(account + 1)),
                        user_name: name("admin"),
                        api_key_hash: [u8::try_from(account & 0xff).unwrap(); 32],
                    }),
                )
                .unwrap();
        }
        world
    }

    pub fn as_caller(&mut self, caller: Caller, operation: Operation) -> Result<Outcome, OpError> {
        self.now += 1;
        let request = Request {
            caller,
            operation,
            idempotency_token: None,
        };
        let before = self.state.clone();
        let next_id = &mut self.next_id;
        // Spread over the id space, so that order by id is not order of creation.
        let mut ids = || {
            *next_id += 1;
            bits(next_id.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
        };
        let result = apply(&self.state, &request, Timestamp(self.now), &mut ids);
        assert_eq!(self.state, before, "apply changed its input");
        let (changes, outcome) = result?;
        if !changes.is_empty() {
            self.state = self.state.with(&changes);
        }
        Ok(outcome)
    }

    pub fn run(&mut self, operation: Operation) -> Result<Outcome, OpError> {
        self.as_caller(caller(ACCOUNT), operation)
    }

    pub fn run_as_system(&mut self, operation: Operation) {
        assert_eq!(self.as_caller(system(), operation), Ok(Outcome::Done));
    }

    /// The code that the operation is refused with. The state stays as it is.
    pub fn refusal(&mut self, operation: Operation) -> OpErrorCode {
        self.refused(operation).code
    }

    /// The error that the operation is refused with. The state stays as it is.
    pub fn refused(&mut self, operation: Operation) -> OpError {
        let before = self.state.clone();
        let error = self.run(operation).expect_err("the operation must be refused");
        assert_eq!(self.state, before);
        error
    }

    pub fn ask(&self, question: Query) -> Result<Outcome, OpError> {
        query(&self.state, &caller(ACCOUNT), &question)
    }

    pub fn vpc(&mut self, wanted: &str) -> VpcView {
        match self
            .run(create_vpc(Some(wanted), PrefixManagement::Auto))
            .unwrap()
        {
            Outcome::Vpc(view) => view,
            other => panic!("{other:?}"),
        }
    }

    /// A VPC without prefixes but one, in zone 1.
    pub fn vpc_with_prefix(&mut self, wanted: &str, range: &str) -> VpcId {
        let vpc = match self
            .run(create_vpc(Some(wanted), PrefixManagement::Manual))
            .unwrap()
        {
            Outcome::Vpc(view) => view.id,
            other => panic!("{other:?}"),
        };
        self.run(create_prefix(vpc, range, 1, true)).unwrap();
        vpc
    }

    pub fn subnet(&mut self, vpc: VpcId, range: &str) -> SubnetId {
        match self.run(create_subnet(vpc, range, None)).unwrap() {
            Outcome::Subnet(view) => view.id,
            other => panic!("{other:?}"),
        }
    }

    pub fn instance(&mut self, subnet: SubnetId, wanted: &str) -> InstanceView {
        match self.run(create_instance(subnet, Some(wanted))).unwrap() {
            Outcome::Instance(view) => view,
            other => panic!("{other:?}"),
        }
    }

    pub fn gateway(&mut self, subnet: SubnetId) -> VpnGatewayView {
        match self.run(create_gateway(subnet, None)).unwrap() {
            Outcome::VpnGateway(view) => view,
            other => panic!("{other:?}"),
        }
    }

    pub fn available_gateway(&mut self, subnet: SubnetId) -> VpnGatewayId {
        let gateway = self.gateway(subnet).id;
        self.report_gateway(gateway, GatewayStatus::Available);
        gateway
    }

    pub fn report_gateway(&mut self, gateway: VpnGatewayId, status: GatewayStatus) {
        self.run_as_system(Operation::RecordStatus(vec![StatusUpdate::VpnGateway {
            gateway,
            status,
        }]));
    }

    pub fn report_instance(&mut self, instance: InstanceId, status: InstanceStatus) {
        self.run_as_system(Operation::RecordStatus(vec![StatusUpdate::Instance {
            instance,
            status,
        }]));
    }

    pub fn connection(&mut self, new: CreateVpnConnection) -> VpnConnectionView {
        match self.run(Operation::CreateVpnConnection(new)).unwrap() {
            Outcome::VpnConnection(view) => view,
            other => panic!("{other:?}"),
        }
    }

    pub fn ike_policy(&mut self, version: IkeVersion) -> IkePolicyId {
        match self.run(Operation::CreateIkePolicy(ike_policy(version))).unwrap() {
            Outcome::IkePolicy(view) => view.id,
            other => panic!("{other:?}"),
        }
    }

    pub fn ipsec_policy(&mut self, new: CreateIpsecPolicy) -> IpsecPolicyId {
        match self.run(Operation::CreateIpsecPolicy(new)).unwrap() {
            Outcome::IpsecPolicy(view) => view.id,
            other => panic!("{other:?}"),
        }
    }

    pub fn subnet_view(&self, subnet: SubnetId) -> SubnetView {
        match self.ask(Query::Subnet(subnet)).unwrap() {
            Outcome::Subnet(view) => view,
            other => panic!("{other:?}"),
        }
    }

    pub fn gateway_view(&self, gateway: VpnGatewayId) -> VpnGatewayView {
        match self.ask(Query::VpnGateway(gateway)).unwrap() {
            Outcome::VpnGateway(view) => view,
            other => panic!("{other:?}"),
        }
    }

    pub fn connection_view(&self, gateway: VpnGatewayId, connection: VpnConnectionId) -> VpnConnectionView {
        match self.ask(Query::VpnConnection { gateway, connection }).unwrap() {
            Outcome::VpnConnection(view) => view,
            other => panic!("{other:?}"),
        }
    }

    pub fn instance_state(&self, instance: InstanceId) -> InstanceState {
        match self.ask(Query::Instance(instance)).unwrap() {
            Outcome::Instance(view) => view.state,
            other => panic!("{other:?}"),
        }
    }
}

pub fn create_vpc(wanted: Option<&str>, prefixes: PrefixManagement) -> Operation {
    Operation::CreateVpc(CreateVpc {
        name: wanted.map(name),
        prefixes,
        classic_access: false,
        resource_group: None,
    })
}

pub fn create_prefix(vpc: VpcId, range: &str, in_zone: u8, is_default: bool) -> Operation {
    Operation::CreateAddressPrefix(CreateAddressPrefix {
        vpc,
        cidr: cidr(range),
        zone: zone(in_zone),
        name: None,
        is_default,
    })
}

pub fn create_subnet(vpc: VpcId, range: &str, wanted: Option<&str>) -> Operation {
    Operation::CreateSubnet(CreateSubnet {
        vpc,
        range: SubnetRange::Cidr(cidr(range)),
        zone: None,
        name: wanted.map(name),
        resource_group: None,
    })
}

pub fn new_instance(subnet: SubnetId, wanted: Option<&str>) -> CreateInstance {
    CreateInstance {
        name: wanted.map(name),
        vpc: None,
        zone: zone(1),
        profile: "bx2-2x8".to_owned(),
        image: "image-1".to_owned(),
        interface: NewInterface {
            subnet,
            name: None,
            address: None,
            security_groups: Vec::new(),
            allow_ip_spoofing: false,
            attachment: InterfaceAttachment::Namespace,
        },
        resource_group: None,
    }
}

pub fn create_instance(subnet: SubnetId, wanted: Option<&str>) -> Operation {
    Operation::CreateInstance(new_instance(subnet, wanted))
}

pub fn create_gateway(subnet: SubnetId, wanted: Option<&str>) -> Operation {
    Operation::CreateVpnGateway(CreateVpnGateway {
        subnet,
        name: wanted.map(name),
        resource_group: None,
        reserved_addresses: 8,
    })
}

pub fn new_connection(gateway: VpnGatewayId, local: &[&str], peer: &[&str]) -> CreateVpnConnection {
    CreateVpnConnection {
        gateway,
        name: None,
        psk: Secret::new("lkj14b1oi0alcniejkso".to_owned()),
        peer: PeerAddress::Address(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7))),
        local_cidrs: local.iter().map(|text| cidr(text)).collect(),
        peer_cidrs: peer.iter().map(|text| cidr(text)).collect(),
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
    }
}

pub fn no_update(gateway: VpnGatewayId, connection: VpnConnectionId) -> UpdateVpnConnection {
    UpdateVpnConnection {
        gateway,
        connection,
        name: None,
        psk: None,
        peer: None,
        admin_state_up: None,
        dead_peer_detection: None,
        ike_policy: None,
        ipsec_policy: None,
        establish: None,
        local_identity: None,
        peer_identity: None,
        if_match: None,
    }
}

pub fn ike_policy(version: IkeVersion) -> CreateIkePolicy {
    CreateIkePolicy {
        name: None,
        version,
        encryption: vec![Encryption::Aes128Cbc],
        integrity: vec![Integrity::HmacSha2_256_128],
        dh: vec![PolicyGroup(14)],
        key_lifetime: 28_800,
        resource_group: None,
    }
}

pub fn ipsec_policy() -> CreateIpsecPolicy {
    CreateIpsecPolicy {
        name: None,
        encryption: vec![Encryption::Aes128Cbc],
        integrity: vec![Integrity::HmacSha2_256_128],
        pfs: Vec::new(),
        key_lifetime: 3_600,
        resource_group: None,
    }
}
