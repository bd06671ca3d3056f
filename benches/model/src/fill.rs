//! Filling a store through its front, many operations at a time.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use isthmus_model::{Quotas, Settings};
use isthmus_ops::{
    Caller, CreateAccount, CreateSubnet, CreateVpc, Operation, Outcome, PrefixManagement, Request,
    SubnetRange, Via,
};
use isthmus_runtime::clock;
use isthmus_store::{Store, StoreOptions, load_or_create_key};
use isthmus_types::{AccountId, Cidr, ResourceBits, ResourceName, UserId, VpcId};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Operations under way at the same time.
const AT_ONCE: usize = 512;

/// Who asks for everything here.
pub fn caller(via: Via) -> Caller {
    Caller {
        account: AccountId(ResourceBits::from_random(1)),
        user: Some(UserId(ResourceBits::from_random(2))),
        via,
        request_id: "bench".to_owned(),
    }
}

/// Opens the store in `directory`.
pub fn open(directory: &Path) -> Result<Store> {
    std::fs::create_dir_all(directory)?;
    let options = StoreOptions {
        path: directory.join("isthmus.db"),
        sealing_key: load_or_create_key(&directory.join("store.key"))?,
        settings: Settings {
            quotas: Quotas::unlimited(),
            ..Settings::default()
        },
    };
    Store::open(options, clock::now).context("opening the store")
}

/// A request of the caller.
pub fn request(operation: Operation) -> Request {
    Request {
        caller: caller(Via::Ibm),
        operation,
        idempotency_token: None,
    }
}

/// Creates a VPC with its default prefixes.
pub async fn create_vpc(store: &Store) -> Result<VpcId> {
    let operation = Operation::CreateVpc(CreateVpc {
        name: None,
        prefixes: PrefixManagement::Auto,
        classic_access: false,
        resource_group: None,
    });
    let Outcome::Vpc(view) = store.execute(request(operation)).await? else {
        bail!("a VPC was expected")
    };
    Ok(view.id)
}

/// The operation that creates the subnet of this number in a VPC with default prefixes.
pub fn subnet_operation(vpc: VpcId, number: u32) -> Result<Operation> {
    let cidr: Cidr = format!("10.240.{}.{}/28", number / 16, number % 16 * 16).parse()?;
    Ok(Operation::CreateSubnet(CreateSubnet {
        vpc,
        range: SubnetRange::Cidr(cidr),
        zone: None,
        name: None,
        resource_group: None,
    }))
}

/// Makes a store with an account and so many VPCs and subnets. How long that took.
#[tokio::main]
pub async fn run(directory: &Path, vpcs: u32, subnets: u32) -> Result<Duration> {
    let store = open(directory)?;
    let account = caller(Via::System);
    let operation = Operation::CreateAccount(CreateAccount {
        account: account.account,
        name: ResourceName::new("bench")?,
        user: UserId(ResourceBits::from_random(2)),
        user_name: ResourceName::new("bench")?,
        api_key_hash: [7; 32],
    });
    let new_account = Request {
        caller: account,
        operation,
        idempotency_token: None,
    };
    store.execute(new_account).await?;

    let started = Instant::now();
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for _ in 0..vpcs {
        let permit = Arc::clone(&permits).acquire_owned().await?;
        let store = store.clone();
        tasks.spawn(async move {
            let vpc = create_vpc(&store).await?;
            for number in 0..subnets {
                store.execute(request(subnet_operation(vpc, number)?)).await?;
            }
            drop(permit);
            anyhow::Ok(())
        });
    }
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    let elapsed = started.elapsed();
    store.close().await;
    Ok(elapsed)
}
