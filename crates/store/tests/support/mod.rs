//! Requests and stores for tests.

#![allow(dead_code, reason = "each test binary uses its own part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "tests may panic"
)]

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use isthmus_crypto::prf::sha256;
use isthmus_crypto::seal::SealingKey;
use isthmus_model::{Quotas, Settings};
use isthmus_ops::*;
use isthmus_store::{Store, StoreOptions, load_or_create_key};
use isthmus_types::*;

pub const API_KEY: &str = "an-api-key-that-nobody-guesses";
pub const PSK: &str = "PresharedKeyToBeFoundNowhere";

pub fn name(text: &str) -> ResourceName {
    ResourceName::new(text).unwrap()
}

pub fn account() -> AccountId {
    AccountId(ResourceBits::from_random(0xa))
}

pub fn user() -> UserId {
    UserId(ResourceBits::from_random(0xb))
}

pub fn caller() -> Caller {
    Caller {
        account: account(),
        user: Some(user()),
        via: Via::Ibm,
        request_id: "request-1".to_owned(),
    }
}

pub fn system() -> Caller {
    Caller {
        account: account(),
        user: None,
        via: Via::System,
        request_id: "system".to_owned(),
    }
}

pub fn request(operation: Operation) -> Request {
    Request {
        caller: caller(),
        operation,
        idempotency_token: None,
    }
}

pub fn create_account() -> Request {
    Request {
        caller: system(),
        operation: Operation::CreateAccount(CreateAccount {
            account: account(),
            name: name("first"),
            user: user(),
            user_name: name("admin"),
            api_key_hash: sha256(&[API_KEY.as_bytes()]),
        }),
        idempotency_token: None,
    }
}

pub fn create_vpc(wanted: &str) -> Operation {
    Operation::CreateVpc(CreateVpc {
        name: Some(name(wanted)),
        prefixes: PrefixManagement::Auto,
        classic_access: false,
        resource_group: None,
    })
}

pub fn create_subnet(vpc: VpcId, range: &str) -> Operation {
    Operation::CreateSubnet(CreateSubnet {
        vpc,
        range: SubnetRange::Cidr(range.parse().unwrap()),
        zone: None,
        name: None,
        resource_group: None,
    })
}

pub fn create_connection(gateway: VpnGatewayId) -> Operation {
    Operation::CreateVpnConnection(CreateVpnConnection {
        gateway,
        name: None,
        psk: Secret::new(PSK.to_owned()),
        peer: PeerAddress::Address(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7))),
        local_cidrs: vec!["10.240.0.0/24".parse().unwrap()],
        peer_cidrs: vec!["10.2.0.0/16".parse().unwrap()],
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

pub fn settings() -> Settings {
    Settings {
        quotas: Quotas::unlimited(),
        ..Settings::default()
    }
}

/// A clock that tests move.
#[derive(Clone, Default)]
pub struct TestClock(Arc<AtomicU64>);

impl TestClock {
    pub fn at(milliseconds: u64) -> Self {
        let clock = Self::default();
        clock.advance(milliseconds);
        clock
    }

    pub fn advance(&self, milliseconds: u64) {
        self.0.fetch_add(milliseconds, Ordering::SeqCst);
    }

    pub fn read(&self) -> impl Fn() -> Timestamp + Send + 'static {
        let time = Arc::clone(&self.0);
        move || Timestamp(time.load(Ordering::SeqCst))
    }
}

/// Opens the store in a directory, making it if it is not there.
pub fn open(directory: &Path) -> Store {
    open_at(directory, &TestClock::at(1_000))
}

pub fn open_at(directory: &Path, clock: &TestClock) -> Store {
    let options = StoreOptions {
        path: directory.join("isthmus.db"),
        sealing_key: load_or_create_key(&directory.join("store.key")).unwrap(),
        settings: settings(),
    };
    Store::open(options, clock.read()).unwrap()
}

/// The same key for every caller, for engines that are shared between stores.
pub fn fixed_key() -> SealingKey {
    SealingKey::from_bytes([7; 32])
}

pub async fn vpc(store: &Store, wanted: &str) -> VpcView {
    match store.execute(request(create_vpc(wanted))).await.unwrap() {
        Outcome::Vpc(view) => view,
        other => panic!("{other:?}"),
    }
}

pub async fn gateway(store: &Store, subnet: SubnetId) -> VpnGatewayView {
    let operation = Operation::CreateVpnGateway(CreateVpnGateway {
        subnet,
        name: None,
        resource_group: None,
        reserved_addresses: 8,
    });
    match store.execute(request(operation)).await.unwrap() {
        Outcome::VpnGateway(view) => view,
        other => panic!("{other:?}"),
    }
}

pub async fn subnet(store: &Store, vpc: VpcId, range: &str) -> SubnetView {
    match store.execute(request(create_subnet(vpc, range))).await.unwrap() {
        Outcome::Subnet(view) => view,
        other => panic!("{other:?}"),
    }
}

pub async fn connection(store: &Store, gateway: VpnGatewayId) -> VpnConnectionView {
    match store.execute(request(create_connection(gateway))).await.unwrap() {
        Outcome::VpnConnection(view) => view,
        other => panic!("{other:?}"),
    }
}
