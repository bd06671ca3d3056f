//! Measuring a store that is there.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use isthmus_ops::{
    CreateInstance, CreateVpnConnection, CreateVpnGateway, DeadPeerAction, DeadPeerDetection, Establish,
    InterfaceAttachment, NewInterface, Operation, Outcome, Page, PeerAddress, Query, SubnetFilter, Via,
    VpcFilter,
};
use isthmus_plan::plan_vpc;
use isthmus_store::{ChangedVpcs, Store};
use isthmus_types::{InstanceId, ResourceName, Secret, VpcId};

use crate::Figures;
use crate::fill::{caller, create_vpc, open, request, subnet_operation};

const BLOCK: usize = 4096;

/// Milliseconds, ascending.
struct Times(Vec<f64>);

impl Times {
    fn new(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        Self(times)
    }

    fn quantile(&self, quantile: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        let position = (last as f64 * quantile).round() as usize;
        self.0.get(position).copied().unwrap_or(f64::NAN)
    }

    fn median(&self) -> f64 {
        self.quantile(0.5)
    }
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// Measures the store in `directory`, each time with so many samples. Durable operations alternate with the same ones
/// on the small store in `beside` and with bare flushes, so that all of them meet the same moods of the disk.
#[tokio::main]
pub async fn run(directory: &Path, beside: &Path, samples: usize) -> Result<Figures> {
    let started = Instant::now();
    let store = open(directory)?;
    let open_ms = milliseconds(started);
    let resident_mib = resident_mib()?;
    let vpcs = vpcs_of(&store)?;

    let small = open(beside)?;
    let small_vpcs = vpcs_of(&small)?;
    let mut flush = Flush::new(directory)?;
    let (mut flushes, mut subnets, mut small_subnets) = (Vec::new(), Vec::new(), Vec::new());
    let (mut new_vpcs, mut new_small_vpcs) = (Vec::new(), Vec::new());
    for sample in 0..samples {
        flushes.push(flush.once()?);
        subnets.push(timed_subnet(&store, &vpcs, sample).await?);
        small_subnets.push(timed_subnet(&small, &small_vpcs, sample).await?);
        new_vpcs.push(timed_vpc(&store).await?);
        new_small_vpcs.push(timed_vpc(&small).await?);
    }
    let (list_50, list_100) = (
        list(&store, &vpcs, 50, samples)?,
        list(&store, &vpcs, 100, samples)?,
    );
    let filtered = list_filtered(&store, &vpcs, samples)?;
    let (plan, plan_vpcs_touched) = plan_after_change(&store, &vpcs, samples).await?;
    store.close().await;
    small.close().await;

    let (subnets, small_subnets) = (Times::new(subnets), Times::new(small_subnets));
    let (new_vpcs, new_small_vpcs) = (Times::new(new_vpcs), Times::new(new_small_vpcs));
    Ok(Figures {
        open_ms,
        resident_mib,
        flush_ms: Times::new(flushes).median(),
        create_subnet_ms: subnets.median(),
        create_subnet_p99_ms: subnets.quantile(0.99),
        create_subnet_ms_empty: small_subnets.median(),
        create_subnet_p99_ms_empty: small_subnets.quantile(0.99),
        create_vpc_ms: new_vpcs.median(),
        create_vpc_p99_ms: new_vpcs.quantile(0.99),
        create_vpc_ms_empty: new_small_vpcs.median(),
        create_vpc_p99_ms_empty: new_small_vpcs.quantile(0.99),
        list_50_ms: list_50.median(),
        list_100_ms: list_100.median(),
        list_filtered_ms: filtered.median(),
        plan_vpcs_touched,
        plan_ms: plan.median(),
    })
}

fn vpcs_of(store: &Store) -> Result<Vec<VpcId>> {
    let vpcs: Vec<VpcId> = store.snapshot().vpcs().map(|vpc| vpc.id).collect();
    anyhow::ensure!(!vpcs.is_empty(), "the store has no VPC");
    Ok(vpcs)
}

fn resident_mib() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let kib: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_ascii_whitespace().next())
        .context("the process status has no VmRSS")?
        .parse()?;
    Ok(kib / 1024.0)
}

/// Spreads samples over all VPCs.
fn spread(vpcs: &[VpcId], sample: usize) -> VpcId {
    vpcs[sample.wrapping_mul(7919) % vpcs.len()]
}

fn limit(limit: u32) -> Result<NonZeroU32> {
    NonZeroU32::new(limit).context("a page has at least one item")
}

// Pages from all over the list.
fn list(store: &Store, vpcs: &[VpcId], size: u32, samples: usize) -> Result<Times> {
    let caller = caller(Via::Ibm);
    let mut times = Vec::with_capacity(samples);
    for sample in 0..samples {
        let question = Query::Vpcs {
            filter: VpcFilter::default(),
            page: Page {
                limit: limit(size)?,
                start: Some(spread(vpcs, sample).to_string()),
            },
        };
        let started = Instant::now();
        let answer = store.query(&caller, &question)?;
        times.push(milliseconds(started));
        let Outcome::Vpcs(page) = answer else {
            bail!("a list of VPCs was expected")
        };
        anyhow::ensure!(page.total >= vpcs.len() as u64, "the list has another length");
    }
    Ok(Times::new(times))
}

fn list_filtered(store: &Store, vpcs: &[VpcId], samples: usize) -> Result<Times> {
    let caller = caller(Via::Ibm);
    let mut times = Vec::with_capacity(samples);
    for sample in 0..samples {
        let question = Query::Subnets {
            filter: SubnetFilter {
                vpc: Some(spread(vpcs, sample)),
                ..SubnetFilter::default()
            },
            page: Page {
                limit: limit(50)?,
                start: None,
            },
        };
        let started = Instant::now();
        black_box(store.query(&caller, &question)?);
        times.push(milliseconds(started));
    }
    Ok(Times::new(times))
}

/// The part of a durable write that no store can do without.
struct Flush {
    file: File,
    path: PathBuf,
}

impl Flush {
    fn new(directory: &Path) -> Result<Self> {
        let path = directory.join("flush");
        Ok(Self {
            file: File::create(&path)?,
            path,
        })
    }

    fn once(&mut self) -> Result<f64> {
        let started = Instant::now();
        self.file.write_all(&[7; BLOCK])?;
        self.file.sync_data()?;
        Ok(milliseconds(started))
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        // The working directory goes as a whole soon after.
        let _ = fs::remove_file(&self.path);
    }
}

async fn timed_subnet(store: &Store, vpcs: &[VpcId], sample: usize) -> Result<f64> {
    // Above the subnets that the store was filled with; in a single VPC each gets its own range.
    let number = u32::try_from(500 + sample % 500)?;
    let operation = subnet_operation(spread(vpcs, sample), number)?;
    let started = Instant::now();
    store.execute(request(operation)).await?;
    Ok(milliseconds(started))
}

async fn timed_vpc(store: &Store) -> Result<f64> {
    let started = Instant::now();
    create_vpc(store).await?;
    Ok(milliseconds(started))
}

/// Instances in the VPC that is planned.
const WORKLOADS: u32 = 10;

// A VPC with workloads, a gateway and a connection: something to plan. Its instances.
async fn furnish(store: &Store, vpc: VpcId) -> Result<Vec<InstanceId>> {
    let mut subnets = Vec::new();
    for number in [1000, 1001] {
        let operation = subnet_operation(vpc, number)?;
        let Outcome::Subnet(view) = store.execute(request(operation)).await? else {
            bail!("a subnet was expected")
        };
        subnets.push(view);
    }
    let mut instances = Vec::new();
    for _ in 0..WORKLOADS {
        let operation = Operation::CreateInstance(CreateInstance {
            name: None,
            vpc: None,
            zone: subnets[0].zone.clone(),
            profile: "bx2-2x8".to_owned(),
            image: "bench".to_owned(),
            interface: NewInterface {
                subnet: subnets[0].id,
                name: None,
                address: None,
                security_groups: Vec::new(),
                allow_ip_spoofing: false,
                attachment: InterfaceAttachment::Namespace,
            },
            resource_group: None,
        });
        let Outcome::Instance(view) = store.execute(request(operation)).await? else {
            bail!("an instance was expected")
        };
        instances.push(view.id);
    }
    let operation = Operation::CreateVpnGateway(CreateVpnGateway {
        subnet: subnets[1].id,
        name: None,
        resource_group: None,
        reserved_addresses: 8,
    });
    let Outcome::VpnGateway(gateway) = store.execute(request(operation)).await? else {
        bail!("a VPN gateway was expected")
    };
    let operation = Operation::CreateVpnConnection(CreateVpnConnection {
        gateway: gateway.id,
        name: None,
        psk: Secret::new("only-for-the-bench".to_owned()),
        peer: PeerAddress::Address(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7))),
        local_cidrs: vec![subnets[0].cidr],
        peer_cidrs: vec!["10.2.0.0/16".parse()?],
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
    });
    store.execute(request(operation)).await?;
    Ok(instances)
}

// What control does after each change: ask which VPCs changed, plan those.
async fn plan_after_change(store: &Store, vpcs: &[VpcId], samples: usize) -> Result<(Times, usize)> {
    let instances = furnish(store, spread(vpcs, 1)).await?;
    let mut times = Vec::with_capacity(samples);
    let mut touched = 0;
    for sample in 0..samples {
        let before = store.snapshot().revision();
        let rename = Operation::UpdateInstance {
            instance: instances[sample % instances.len()],
            name: Some(ResourceName::new(format!("renamed-{sample}"))?),
            if_match: None,
        };
        store.execute(request(rename)).await?;
        let started = Instant::now();
        let snapshot = store.snapshot();
        let ChangedVpcs::Some(changed) = store.changed_vpcs_since(before) else {
            bail!("the store forgot the latest change")
        };
        for vpc in &changed {
            let plan = black_box(plan_vpc(&snapshot, *vpc)).context("the VPC has nothing to plan")?;
            anyhow::ensure!(plan.ports.len() == instances.len(), "the plan lacks ports");
        }
        times.push(milliseconds(started));
        touched = touched.max(changed.len());
    }
    Ok((Times::new(times), touched))
}
