//! The whole agent against a control that this test plays: plans in, reports out, drift repaired meanwhile.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

mod lab;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use isthmus_agent::{AgentConfig, remove_everything, run};
use isthmus_fabric::name;
use isthmus_hostplan::tunnel::{TunnelReply, TunnelRequest};
use isthmus_hostplan::*;
use isthmus_netlab::{Node, Ping};
use isthmus_netlink::namespace;
use isthmus_runtime::Shutdown;
use isthmus_runtime::supervise::ChildSpec;
use isthmus_types::*;
use lab::{Lab, must, reaches};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

/// Plays control.
struct Control {
    plan: watch::Sender<HostPlan>,
    reports: watch::Receiver<Option<HostReport>>,
    server: JoinHandle<()>,
}

impl Control {
    fn start(socket: &Path, plan: HostPlan) -> Self {
        let _ = fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let (plan, plans) = watch::channel(plan);
        let (sender, reports) = watch::channel(None);
        let sender = Arc::new(sender);
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (plans, sender) = (plans.clone(), sender.clone());
                tokio::spawn(async move {
                    let service = service_fn(|request| answer(request, plans.clone(), sender.clone()));
                    let _ = http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self {
            plan,
            reports,
            server,
        }
    }

    /// Waits for a report that `wanted` accepts, and tells how long it took.
    async fn report(&mut self, what: &str, wanted: impl Fn(&HostReport) -> bool) -> Duration {
        let began = Instant::now();
        let seen = self.reports.clone();
        let found = self
            .reports
            .wait_for(|report| report.as_ref().is_some_and(&wanted));
        match timeout(PATIENCE, found).await {
            Ok(found) => drop(found.unwrap()),
            Err(_) => panic!("no report of {what}; the last was {:#?}", *seen.borrow()),
        }
        began.elapsed()
    }

    async fn converged(&mut self, generation: u64) -> Duration {
        self.report(&format!("generation {generation}"), |report| {
            report.generation == Generation(generation) && report.status == PlanStatus::Converged
        })
        .await
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(
    request: Request<Incoming>,
    mut plans: watch::Receiver<HostPlan>,
    reports: Arc<watch::Sender<Option<HostReport>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let respond = |status, body: Vec<u8>| {
        Ok(Response::builder()
            .status(status)
            .body(Full::new(Bytes::from(body)))
            .unwrap())
    };
    let query = request.uri().query().unwrap_or_default().to_owned();
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/v1/plan") => {
            assert!(query.starts_with("host=lab&after="), "{query}");
            let after: u64 = query.rsplit('=').next().unwrap().parse().unwrap();
            let newer = plans.wait_for(|plan| plan.generation.0 > after);
            let Ok(Ok(plan)) = timeout(Duration::from_secs(2), newer)
                .await
                .map(|r| r.map(|plan| plan.clone()))
            else {
                return respond(StatusCode::NO_CONTENT, Vec::new());
            };
            let delta = PlanDelta {
                host: plan.host,
                realm: plan.realm,
                generation: plan.generation,
                uplink: plan.uplink,
                whole: true,
                changed: plan.vpcs.into_values().collect(),
                removed: Vec::new(),
            };
            respond(StatusCode::OK, serde_json::to_vec(&delta).unwrap())
        }
        (&Method::POST, "/v1/report") => {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            reports.send_replace(Some(serde_json::from_slice(&body).unwrap()));
            respond(StatusCode::NO_CONTENT, Vec::new())
        }
        _ => respond(StatusCode::NOT_FOUND, Vec::new()),
    }
}

/// Plays the tunnel daemon: says of every gateway it is told to run that it runs.
struct Tunnels {
    server: JoinHandle<()>,
    plans: watch::Receiver<TunnelPlan>,
    told: Arc<std::sync::Mutex<Vec<TunnelPlan>>>,
}

impl Tunnels {
    fn start(socket: &Path) -> Self {
        let _ = fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let (sender, plans) = watch::channel(TunnelPlan::default());
        let sender = Arc::new(sender);
        let told = Arc::new(std::sync::Mutex::new(Vec::new()));
        let record = told.clone();
        let server = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve_tunnels(stream, sender.clone(), record.clone()));
            }
        });
        Self { server, plans, told }
    }
}

impl Drop for Tunnels {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve_tunnels(
    stream: UnixStream,
    plans: Arc<watch::Sender<TunnelPlan>>,
    told: Arc<std::sync::Mutex<Vec<TunnelPlan>>>,
) {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut replies = Vec::new();
        match serde_json::from_str(&line).unwrap() {
            TunnelRequest::Apply { plan } => {
                told.lock().unwrap().push(plan.clone());
                plans.send_replace(plan);
                replies.push(TunnelReply::Applied);
            }
            TunnelRequest::Watch => {
                let mut watched = plans.subscribe();
                loop {
                    let report = state_of(&watched.borrow_and_update());
                    let mut text = serde_json::to_vec(&TunnelReply::Report { report }).unwrap();
                    text.push(b'\n');
                    if writer.write_all(&text).await.is_err() || watched.changed().await.is_err() {
                        return;
                    }
                }
            }
            TunnelRequest::Report => replies.push(TunnelReply::Report {
                report: state_of(&plans.borrow()),
            }),
            TunnelRequest::Rekey { .. } => replies.push(TunnelReply::Applied),
            TunnelRequest::Stop => return,
        }
        for reply in replies {
            let mut text = serde_json::to_vec(&reply).unwrap();
            text.push(b'\n');
            writer.write_all(&text).await.unwrap();
        }
    }
}

fn state_of(plan: &TunnelPlan) -> TunnelReport {
    TunnelReport {
        gateways: plan
            .gateways
            .iter()
            .map(|gateway| GatewayReport {
                gateway: gateway.gateway,
                state: ObjectState::Present,
                counters: GatewayCounters::default(),
            })
            .collect(),
        connections: Vec::new(),
    }
}

/// A running agent and everything around it.
struct Host {
    lab: Lab,
    directory: tempfile::TempDir,
    shutdown: Shutdown,
    agent: Option<JoinHandle<()>>,
}

impl Host {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            lab: Lab::new(),
            directory,
            shutdown: Shutdown::new(),
            agent: None,
        }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn start(&mut self) {
        let config = AgentConfig {
            host: HostName::new("lab").unwrap(),
            realm: self.lab.realm.clone(),
            control_socket: self.path("control.sock"),
            plan_file: self.path("plan"),
            key_file: self.path("key"),
            tunnel_socket: self.path("tunneld.sock"),
            key_log_directory: self.path("key-log"),
            tunnel_daemon: ChildSpec {
                name: "tunneld",
                // The daemon that this test plays needs no process.
                program: "/bin/true".into(),
                arguments: Vec::new(),
                log: self.path("log"),
                pid_file: self.path("tunneld.pid"),
            },
        };
        self.shutdown = Shutdown::new();
        let shutdown = self.shutdown.clone();
        self.agent = Some(tokio::spawn(async move { run(config, shutdown).await.unwrap() }));
    }

    async fn stop(&mut self) {
        self.shutdown.trigger();
        if let Some(agent) = self.agent.take() {
            timeout(PATIENCE, agent).await.unwrap().unwrap();
        }
    }

    fn control(&self, plan: HostPlan) -> Control {
        Control::start(&self.path("control.sock"), plan)
    }
}

async fn within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < limit, "{what} took longer than {limit:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_becomes_true_and_drift_is_repaired_within_two_seconds() {
    let mut host = Host::new();
    let (one, two) = (lab::vpc(1), lab::vpc(2));
    let mut control = host.control(host.lab.plan(5, [one.clone(), two.clone()]));
    host.start();
    println!("two VPCs with eight ports after {:?}", control.converged(5).await);
    let report = control.reports.borrow().clone().unwrap();
    assert_eq!((report.vpcs.len(), report.instances.len()), (2, 8));
    assert!(
        report
            .instances
            .iter()
            .all(|instance| instance.running && instance.state == ObjectState::Present)
    );
    assert!(reaches(&host.lab.instance(&one.ports[0]), one.ports[3].address));

    let (router, instance) = (host.lab.router(&one), host.lab.instance(&one.ports[0]));
    let port = name::port_link(one.ports[0].interface);
    let address = one.ports[0].address;
    let drifts = [
        (
            &router,
            format!("ip route del {address}"),
            "ip route".to_owned(),
            address.to_string(),
        ),
        (
            &router,
            "nft flush ruleset".to_owned(),
            "nft list ruleset".to_owned(),
            "drop-guard".to_owned(),
        ),
        (
            &router,
            format!("ip link del {port}"),
            "ip -o link".to_owned(),
            format!("{port}@"),
        ),
        (
            &router,
            "ip link del uplink".to_owned(),
            "ip route".to_owned(),
            "default".to_owned(),
        ),
        (
            &instance,
            "ip route del default".to_owned(),
            "ip route".to_owned(),
            "default".to_owned(),
        ),
    ];
    for (namespace, command, look, sign) in drifts {
        must(namespace, &command);
        let took = within(Duration::from_secs(2), &command, || {
            must(namespace, &look).contains(&sign)
        })
        .await;
        println!("{command}: repaired after {took:?}");
    }
    for removed in [&instance, &router, &host.lab.internet()] {
        namespace::remove(removed).unwrap();
        let began = Instant::now();
        within(Duration::from_secs(2), "a removed namespace", || {
            namespace::exists(removed)
        })
        .await;
        for target in [one.ports[3].address, lab::ROUTER] {
            let instance = instance.clone();
            let answered = tokio::task::spawn_blocking(move || {
                // It may be made anew between two looks.
                isthmus_netlab::eventually("an answer", || {
                    Ping::until_answered(&Node::existing(&instance)?, target)
                })
            });
            answered.await.unwrap().unwrap();
        }
        let took = began.elapsed();
        assert!(took < Duration::from_secs(2), "{removed}: {took:?}");
        println!("{removed}: back after {took:?}");
    }
    control.converged(5).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_kept_plan_is_acted_on_without_control_and_changes_nothing_that_is_right() {
    let mut host = Host::new();
    let plan = lab::vpc(1);
    let mut control = host.control(host.lab.plan(5, [plan.clone()]));
    host.start();
    control.converged(5).await;
    // Killed without a word, as far as that can be in one process; packets flow all the while.
    let from = Node::existing(&host.lab.instance(&plan.ports[0])).unwrap();
    let ping = Ping::start(&from, plan.ports[3].address, Duration::from_millis(2)).unwrap();
    host.agent.take().unwrap().abort();
    drop(control);
    must(&host.lab.router(&plan), "nft flush ruleset");
    host.start();
    let router = host.lab.router(&plan);
    within(Duration::from_secs(2), "the repair by the kept plan", || {
        must(&router, "nft list ruleset").contains("drop-guard")
    })
    .await;
    host.stop().await;
    let monitor = Monitor::start(&router);
    let identities = || must(&router, "ip -br link") + &must(&router, "nft -s -a list ruleset");
    let before = identities();
    host.start();
    // It has done its first pass when it reports to a control that has returned.
    let mut control = host.control(host.lab.plan(5, [plan.clone()]));
    control.converged(5).await;
    assert_eq!(monitor.finish(), "", "the first pass changed something");
    assert_eq!(identities(), before);
    host.stop().await;
    let count = ping.finish().unwrap();
    println!("{} pings over two restarts, {} lost", count.sent, count.lost());
    assert_eq!(count.lost(), 0, "{count:?}");
}

/// Writes down every change of addresses, routes and rules in a namespace. (Links announce themselves late.)
struct Monitor {
    child: std::process::Child,
    output: tempfile::NamedTempFile,
    namespace: String,
}

impl Monitor {
    fn start(namespace: &str) -> Self {
        let output = tempfile::NamedTempFile::new().unwrap();
        let mut command = std::process::Command::new("ip");
        command
            .args(["-o", "monitor", "address", "route", "rule"])
            .stdout(output.reopen().unwrap());
        let child = namespace::spawn(namespace, &mut command).unwrap();
        let monitor = Self {
            child,
            output,
            namespace: namespace.to_owned(),
        };
        monitor.sentinel("203.0.113.1");
        monitor
    }

    fn text(&self) -> String {
        fs::read_to_string(self.output.path()).unwrap()
    }

    // A change of our own tells that the monitor has seen all before it.
    fn sentinel(&self, address: &str) {
        let began = Instant::now();
        while !self.text().contains(address) {
            assert!(began.elapsed() < PATIENCE, "the monitor sees nothing");
            must(
                &self.namespace,
                &format!("ip route replace {address}/32 dev lo table 77"),
            );
            must(
                &self.namespace,
                &format!("ip route del {address}/32 dev lo table 77"),
            );
        }
    }

    fn finish(self) -> String {
        self.sentinel("203.0.113.2");
        let text = self.text();
        text.lines().filter(|line| !line.contains("203.0.113.")).collect()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_is_present_when_kernel_and_daemon_have_it() {
    let mut host = Host::new();
    let plan = lab::with_gateway(lab::vpc(1), 1, 2);
    let gateway = plan.gateways[0].gateway;
    let state = |report: &HostReport| {
        report
            .gateways
            .iter()
            .find(|found| found.gateway == gateway)
            .map(|g| g.state.clone())
    };
    let mut control = host.control(host.lab.plan(5, [plan.clone()]));
    host.start();
    control
        .report("a gateway that waits for its daemon", |report| {
            report.generation == Generation(5)
                && state(report)
                    == Some(ObjectState::Blocked {
                        on: "the tunnel daemon".to_owned(),
                    })
        })
        .await;
    let mut tunnels = Tunnels::start(&host.path("tunneld.sock"));
    control
        .report("a present gateway", |report| {
            state(report) == Some(ObjectState::Present)
        })
        .await;
    let applied = tunnels
        .plans
        .wait_for(|plan| plan.gateways.len() == 1)
        .await
        .unwrap()
        .gateways[0]
        .clone();
    assert_eq!(applied.namespace, host.lab.router(&plan));
    assert_eq!(applied.connections, plan.gateways[0].connections);
    // A new agent tells the daemon that outlived the old one nothing but the plan that it runs.
    tunnels.told.lock().unwrap().clear();
    host.stop().await;
    host.start();
    control
        .report("a present gateway", |report| {
            state(report) == Some(ObjectState::Present)
        })
        .await;
    let told = || tunnels.told.lock().unwrap().clone();
    within(PATIENCE, "the plan to be told again", || !told().is_empty()).await;
    assert!(
        told().iter().all(|plan| plan.gateways == [applied.clone()]),
        "{:?}",
        told()
    );
    // The daemon dies, and is told everything again when it is back.
    drop(tunnels);
    control
        .report("a lost daemon", |report| {
            report.connections.iter().all(|connection| {
                matches!(
                    connection.state,
                    TunnelState::Down {
                        reason: DownReason::Internal,
                        ..
                    }
                )
            }) && state(report) != Some(ObjectState::Present)
        })
        .await;
    let mut tunnels = Tunnels::start(&host.path("tunneld.sock"));
    let began = Instant::now();
    timeout(PATIENCE, tunnels.plans.wait_for(|plan| plan.gateways.len() == 1))
        .await
        .unwrap()
        .unwrap();
    println!("a new daemon was told its plan after {:?}", began.elapsed());
    control
        .report("a present gateway", |report| {
            state(report) == Some(ObjectState::Present)
        })
        .await;
    // Gone from the plan, gone from the daemon, gone from the report.
    let mut without = lab::vpc(1);
    without.generation = Generation(6);
    control.plan.send_replace(host.lab.plan(6, [without]));
    control.converged(6).await;
    timeout(PATIENCE, tunnels.plans.wait_for(|plan| plan.gateways.is_empty()))
        .await
        .unwrap()
        .unwrap();
    assert!(control.reports.borrow().as_ref().unwrap().gateways.is_empty());
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_plan_names_is_removed_with_its_processes() {
    let mut host = Host::new();
    let orphan = name::instance_namespace(&host.lab.realm, InstanceId(lab::bits(4, 4711)));
    namespace::create(&orphan).unwrap();
    let foreign = format!("{}mine", name::namespace_prefix(&host.lab.realm));
    namespace::create(&foreign).unwrap();
    let mut sleeper = namespace::spawn(&orphan, std::process::Command::new("sleep").arg("600")).unwrap();
    let tap = format!("ist{}", std::process::id());
    let mut machine = lab::vpc(2);
    machine.ports[0].attachment = Attachment::Tap {
        interface: tap.clone(),
    };
    let mut control = host.control(host.lab.plan(5, [lab::vpc(1), machine]));
    host.start();
    control.converged(5).await;
    let in_host = || {
        let links = std::process::Command::new("ip")
            .args(["-o", "link"])
            .output()
            .unwrap()
            .stdout;
        let tables = isthmus_netlink::nft::tables(name::WIRE_FAMILY).unwrap();
        let prefix = name::wire_table_prefix(&host.lab.realm);
        (
            String::from_utf8(links).unwrap().contains(&tap),
            tables.iter().any(|table| table.starts_with(&prefix)),
        )
    };
    assert_eq!(in_host(), (true, true));
    // Somebody deletes the device.
    assert!(
        std::process::Command::new("ip")
            .args(["link", "del", &tap])
            .status()
            .unwrap()
            .success()
    );
    within(Duration::from_secs(2), "the device to return", || {
        in_host() == (true, true)
    })
    .await;
    assert!(!namespace::exists(&orphan));
    assert!(sleeper.wait().unwrap().code().is_none(), "it was killed");
    let mut plan = lab::vpc(1);
    plan.generation = Generation(6);
    plan.ports.truncate(1);
    control.plan.send_replace(host.lab.plan(6, [plan.clone()]));
    control.converged(6).await;
    let left: BTreeSet<String> = host.lab.namespaces().into_iter().collect();
    let wanted = [
        host.lab.internet(),
        host.lab.router(&plan),
        host.lab.instance(&plan.ports[0]),
        foreign.clone(),
    ];
    assert_eq!(left, wanted.into());
    assert_eq!(in_host(), (false, false));
    host.stop().await;
    for _ in 0..2 {
        remove_everything(&host.lab.realm, &host.path("tunneld.pid"))
            .await
            .unwrap();
        assert_eq!(host.lab.namespaces(), [foreign.as_str()]);
    }
}

fn resources() -> (usize, usize, usize, usize) {
    let count = |path: &str| fs::read_dir(path).unwrap().count();
    let links = std::process::Command::new("ip")
        .args(["-o", "link"])
        .output()
        .unwrap()
        .stdout;
    let links = String::from_utf8(links).unwrap().lines().count();
    (
        count("/proc/self/fd"),
        count("/proc/self/task"),
        count("/run/netns"),
        links,
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_cycles_leave_nothing_behind() {
    let mut host = Host::new();
    let mut control = host.control(host.lab.plan(1, []));
    host.start();
    control.converged(1).await;
    let mut before = None;
    let mut generation = 1;
    let began = Instant::now();
    for cycle in 0..50 {
        let mut plans = [lab::with_gateway(lab::vpc(1), 1, 2), lab::vpc(2)];
        generation += 1;
        for plan in &mut plans {
            plan.generation = Generation(generation);
        }
        control.plan.send_replace(host.lab.plan(generation, plans));
        control
            .report("everything made", |report| {
                report.generation == Generation(generation)
                    && report.vpcs.len() == 2
                    && report.vpcs.iter().all(|vpc| vpc.state == ObjectState::Present)
            })
            .await;
        generation += 1;
        control.plan.send_replace(host.lab.plan(generation, []));
        control.converged(generation).await;
        assert_eq!(host.lab.namespaces(), [host.lab.internet()]);
        if cycle == 4 {
            before = Some(resources());
        }
    }
    println!("fifty cycles in {:?}", began.elapsed());
    let before = before.unwrap();
    // Threads of the blocking pool and links of namespaces that are being torn down go in their own time.
    within(PATIENCE, "resources to be as before", || {
        let now = resources();
        now.0 <= before.0 + 2 && now.1 <= before.1 + 2 && now.2 <= before.2 + 8
    })
    .await;
    println!(
        "descriptors, threads, namespaces, links: {before:?} then {:?}",
        resources()
    );
    host.stop().await;
}
