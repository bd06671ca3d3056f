//! The agent's loop: one task that owns everything known, and passes that work for it.
//!
//! Every event – a new plan, an announcement of the kernel, a timer – only marks parts of the plan as due. A pass over
//! a part reads the kernel itself and is told nothing of why it runs. So events may be lost, doubled or
//! late without harm, and the work follows the change: a part that nothing happened to is not looked at.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use isthmus_fabric::{Desired, Owner, diff, name};
use isthmus_hostplan::{AgentCounters, GatewayTunnels, HostPlan, HostReport, TunnelPlan, TunnelReport};
use isthmus_netlink::namespace;
use isthmus_netlink::visit;
use isthmus_netlink::watch::{Change, Watcher};
use isthmus_runtime::{Shutdown, clock};
use isthmus_types::{Generation, Timestamp, VpnGatewayId};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{Instant, sleep, sleep_until};

use crate::config::AgentConfig;
use crate::control::Control;
use crate::daemon::Daemon;
use crate::ledger::{Ledger, LedgerError};
use crate::pass::{Pass, chain, reconcile};
use crate::report::Facts;
use crate::sweep::sweep;
use crate::units::{Removed, UnitId, Units, Work};

/// Passes at a time.
const PASSES: usize = 4;

/// Announcements come in groups; the first of a group waits this long for the others.
const SETTLE: Duration = Duration::from_millis(30);

/// Everything is looked at again this often, for drift that the kernel does not announce.
const FULL_SWEEP: Duration = Duration::from_secs(300);

/// A report is sent at least this often.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

const CONTROL_RETRY_FIRST: Duration = Duration::from_millis(50);
const CONTROL_RETRY_MOST: Duration = Duration::from_secs(1);

/// Why an agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The kept plan's key is unusable.
    #[error("the kept plan cannot be used")]
    Ledger(#[from] LedgerError),
    /// The kernel's announcements cannot be had.
    #[error("watching the kernel failed")]
    Watch(#[source] io::Error),
}

enum Event {
    Audited(Vec<UnitId>),
    Change(Change),
    Daemon(Option<TunnelReport>),
    Passed(UnitId, Work, Pass, Duration),
    Plan(Arc<HostPlan>),
    Swept(bool),
}

/// Runs an agent until `shutdown`. The kernel objects, the tunnel daemon and the kept plan stay as they are then.
///
/// # Errors
/// [`AgentError`] if it cannot begin; once begun it retries whatever fails.
pub async fn run(config: AgentConfig, shutdown: Shutdown) -> Result<(), AgentError> {
    raise_file_limit();
    let ledger = Ledger::open(
        config.host.clone(),
        config.realm.clone(),
        config.plan_file.clone(),
        &config.key_file,
    )?;
    let (events, inbox) = mpsc::unbounded_channel();
    let announcements = events.clone();
    let watcher = Watcher::start(move |change| {
        // Without a receiver the agent is ending.
        let _ = announcements.send(Event::Change(change));
    })
    .map_err(AgentError::Watch)?;
    let (daemon_reports, mut daemon_inbox) = mpsc::unbounded_channel();
    let daemon = Daemon::start(
        config.tunnel_socket.clone(),
        config.tunnel_daemon.clone(),
        shutdown.clone(),
        daemon_reports,
    );
    let from_daemon = events.clone();
    let forward = tokio::spawn(async move {
        while let Some(report) = daemon_inbox.recv().await {
            if from_daemon.send(Event::Daemon(report)).is_err() {
                return;
            }
        }
    });
    if let Some(plan) = ledger.plan() {
        // Nobody but us receives, and we live.
        let _ = events.send(Event::Plan(Arc::new(plan.clone())));
    }
    let control = Control::new(&config.control_socket);
    let fetch = tokio::spawn(fetch_plans(
        control.clone(),
        config.clone(),
        ledger,
        events.clone(),
    ));
    let (reports, report_inbox) = watch::channel(None);
    let send = tokio::spawn(send_reports(control, report_inbox));
    let reconciler = Reconciler {
        realm: config.realm,
        watcher: Arc::new(watcher),
        daemon,
        events,
        reports,
        plan: None,
        units: Units {
            key_logs: config.key_log_directory,
            ..Units::default()
        },
        removing: Removed::default(),
        sweep_due: false,
        sweeping: false,
        audit_due: false,
        auditing: false,
        finished: Generation(0),
        daemon_report: None,
        daemon_since: clock::now(),
        counters: AgentCounters::default(),
        applied: None,
    };
    reconciler.work(inbox, shutdown).await;
    for task in [fetch, send, forward] {
        task.abort();
    }
    Ok(())
}

struct Reconciler {
    realm: isthmus_types::Realm,
    watcher: Arc<Watcher>,
    daemon: Daemon,
    events: mpsc::UnboundedSender<Event>,
    reports: watch::Sender<Option<HostReport>>,
    plan: Option<Arc<HostPlan>>,
    units: Units,
    removing: Removed,
    sweep_due: bool,
    sweeping: bool,
    audit_due: bool,
    auditing: bool,
    finished: Generation,
    daemon_report: Option<TunnelReport>,
    daemon_since: Timestamp,
    counters: AgentCounters,
    // What the tunnel daemon was told of each gateway. None until every VPC of the kept plan was looked at: until then
    // a daemon that outlived an earlier agent goes on with what it has.
    applied: Option<BTreeMap<VpnGatewayId, GatewayTunnels>>,
}

impl Reconciler {
    async fn work(mut self, mut inbox: mpsc::UnboundedReceiver<Event>, shutdown: Shutdown) {
        let mut full_sweep = Instant::now() + FULL_SWEEP;
        let mut settled_at: Option<Instant> = None;
        loop {
            let timer = self
                .next_retry()
                .into_iter()
                .chain(settled_at)
                .fold(full_sweep, Instant::min);
            tokio::select! {
                event = inbox.recv() => {
                    let Some(event) = event else { return };
                    let mut next = Some(event);
                    while let Some(event) = next {
                        if matches!(event, Event::Change(_)) {
                            settled_at.get_or_insert_with(|| Instant::now() + SETTLE);
                        }
                        self.handle(event);
                        next = inbox.try_recv().ok();
                    }
                }
                () = sleep_until(timer) => {}
                () = shutdown.wait() => break,
            }
            let now = Instant::now();
            if now >= full_sweep {
                full_sweep = now + FULL_SWEEP;
                self.look_at_everything();
            }
            if settled_at.is_some_and(|at| now < at) && !self.has_news() {
                continue;
            }
            settled_at = None;
            self.schedule(now);
            self.publish();
        }
        // Nothing of ours changes the kernel any more once we have ended.
        while self.running() > 0 || self.sweeping {
            let Some(event) = inbox.recv().await else { return };
            if matches!(event, Event::Passed(..) | Event::Swept(_)) {
                self.handle(event);
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Audited(units) => {
                self.auditing = false;
                for id in units {
                    if let Some(unit) = self.units.by_id.get_mut(&id) {
                        unit.due = true;
                    }
                }
            }
            Event::Change(Change::Directory) => self.compare_directory(),
            Event::Change(Change::Namespace(name)) => {
                if name == name::internet_namespace(&self.realm) {
                    self.audit_due = true;
                } else {
                    self.units.mark(&name);
                }
            }
            Event::Daemon(report) => {
                if report.is_some() != self.daemon_report.is_some() {
                    self.daemon_since = clock::now();
                }
                self.daemon_report = report;
            }
            Event::Passed(id, work, pass, took) => {
                self.count(&pass, took);
                self.finish_pass(id, work, pass);
            }
            Event::Plan(plan) => self.take_up(plan),
            Event::Swept(clean) => {
                self.sweeping = false;
                if clean {
                    self.removing = Removed::default();
                } else {
                    self.sweep_due = true;
                }
            }
        }
    }

    fn take_up(&mut self, plan: Arc<HostPlan>) {
        tracing::info!(generation = %plan.generation, vpcs = plan.vpcs.len(), "a plan came into force");
        // The host's own namespace is not removed, so what is planned there no longer must be looked for.
        let first = self.plan.is_none() || self.units.of_namespace.contains_key(name::HOST_NAMESPACE);
        let removed = self.units.update(self.plan.as_deref(), &plan);
        self.sweep_due |= first || !removed.is_empty();
        self.removing.add(removed, &plan);
        self.plan = Some(plan);
    }

    fn count(&mut self, pass: &Pass, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.counters.passes.add(micros);
        self.counters.failed_passes += u64::from(!pass.is_converged());
        self.counters.changes += pass.changes as u64;
    }

    fn finish_pass(&mut self, id: UnitId, work: Work, pass: Pass) {
        if pass.changes > 0 || !pass.is_converged() {
            tracing::info!(unit = ?id, changes = pass.changes, failed = pass.failed.len(), blocked = pass.blocked.len(), "a pass ended");
        }
        match self.units.by_id.get_mut(&id) {
            Some(unit) => unit.finish(work, pass, Instant::now()),
            // Its part is planned no longer, and what it made meanwhile must go.
            None => self.sweep_due = true,
        }
    }

    fn compare_directory(&mut self) {
        let Ok(names) = namespace::list() else { return };
        let missing: Vec<String> = self
            .units
            .of_namespace
            .keys()
            .filter(|name| *name != name::HOST_NAMESPACE && names.binary_search(name).is_err())
            .cloned()
            .collect();
        for name in missing {
            self.units.mark(&name);
        }
        let planned = &self.units.of_namespace;
        let orphan = names
            .iter()
            .any(|name| name::is_of_realm(&self.realm, name) && !planned.contains_key(name));
        self.sweep_due |= orphan && self.plan.is_some();
        for unit in self.units.by_id.values_mut() {
            unit.due |= !unit.pass.blocked.is_empty();
        }
    }

    fn look_at_everything(&mut self) {
        for unit in self.units.by_id.values_mut() {
            unit.due = true;
        }
        self.sweep_due |= self.plan.is_some();
    }

    fn next_retry(&self) -> Option<Instant> {
        let waiting = self.units.by_id.values().filter(|unit| !unit.running);
        waiting.filter_map(|unit| unit.retry).min()
    }

    // Anything but an announcement: it is not to wait for the rest of its group.
    fn has_news(&self) -> bool {
        self.units.by_id.values().any(|unit| !unit.is_settled())
    }

    fn running(&self) -> usize {
        self.units.by_id.values().filter(|unit| unit.running).count()
    }

    fn schedule(&mut self, now: Instant) {
        if !self.sweeping {
            self.start_passes(now);
        }
        let idle = self.running() == 0 && self.units.by_id.values().all(|unit| !unit.due);
        if idle && self.sweep_due && !self.sweeping {
            self.start_sweep();
        }
        if self.audit_due && !self.auditing {
            self.start_audit();
        }
        self.tell_daemon();
        let settled = self.units.by_id.values().all(super::units::Unit::is_settled);
        if let Some(plan) = &self.plan
            && idle
            && settled
            && !self.sweep_due
            && !self.sweeping
        {
            self.finished = plan.generation;
        }
    }

    fn start_passes(&mut self, now: Instant) {
        let mut free = PASSES.saturating_sub(self.running());
        for (id, unit) in &mut self.units.by_id {
            unit.due |= unit.retry.is_some_and(|at| at <= now);
            if free == 0 {
                return;
            }
            if !unit.due || unit.running {
                continue;
            }
            free -= 1;
            let (id, work) = (*id, unit.begin());
            let (watcher, events) = (Arc::clone(&self.watcher), self.events.clone());
            tokio::spawn(async move {
                let desired = Arc::clone(&work.desired);
                let begun = Instant::now();
                let pass = spawn_blocking(move || pass_over(&desired, &watcher)).await;
                let pass = pass.unwrap_or_else(|error| all_failed(&work.desired, &panicked(&error)));
                // Without a receiver the agent is ending.
                let _ = events.send(Event::Passed(id, work, pass, begun.elapsed()));
            });
        }
    }

    fn start_sweep(&mut self) {
        self.sweep_due = false;
        self.sweeping = true;
        let (realm, wanted) = (self.realm.clone(), self.units.wanted());
        let (watcher, events) = (Arc::clone(&self.watcher), self.events.clone());
        tokio::spawn(async move {
            let swept = spawn_blocking(move || sweep(&realm, &wanted, |name| watcher.forget(name))).await;
            let clean = match swept {
                Ok(Ok(removed)) => {
                    if removed > 0 {
                        tracing::info!(removed, "namespaces that no plan names are gone");
                    }
                    true
                }
                Ok(Err(error)) => {
                    tracing::warn!(error = chain(&error), "a namespace that no plan names stays");
                    sleep(CONTROL_RETRY_MOST).await;
                    false
                }
                Err(error) => {
                    tracing::error!(error = panicked(&error), "removing namespaces failed");
                    false
                }
            };
            let _ = events.send(Event::Swept(clean));
        });
    }

    // All VPCs share the internet namespace, so a change there is looked at once, for all of them.
    fn start_audit(&mut self) {
        self.audit_due = false;
        self.auditing = true;
        let internet = name::internet_namespace(&self.realm);
        let parts: Vec<(UnitId, Desired)> = self
            .units
            .by_id
            .iter()
            .filter_map(|(id, unit)| {
                let namespace = unit.desired.namespaces.get(&internet)?.clone();
                let namespaces = [(internet.clone(), namespace)].into();
                Some((*id, Desired { namespaces }))
            })
            .collect();
        let (watcher, events) = (Arc::clone(&self.watcher), self.events.clone());
        tokio::spawn(async move {
            let audited = spawn_blocking(move || audit(&parts, &internet, &watcher)).await;
            let _ = events.send(Event::Audited(audited.unwrap_or_default()));
        });
    }

    // A gateway is handed over when its device is there; one that is handed over stays so through later passes.
    fn tell_daemon(&mut self) {
        let settled = self.plan.is_some() && self.units.by_id.values().all(super::units::Unit::is_settled);
        if self.applied.is_none() && !settled {
            return;
        }
        let mut applied = BTreeMap::new();
        for unit in self.units.by_id.values() {
            for tunnel in &unit.tunnels {
                let current = if unit.is_settled() {
                    Some(tunnel)
                } else {
                    self.applied.as_ref().and_then(|told| told.get(&tunnel.gateway))
                };
                if let Some(current) = current {
                    applied.insert(current.gateway, current.clone());
                }
            }
        }
        if self.applied.as_ref() != Some(&applied) {
            self.daemon.apply(TunnelPlan {
                gateways: applied.values().cloned().collect(),
            });
            self.applied = Some(applied);
        }
    }

    fn publish(&self) {
        let Some(plan) = &self.plan else { return };
        let facts = Facts {
            plan,
            units: &self.units,
            removing: &self.removing,
            daemon: self.daemon_report.as_ref(),
            daemon_since: self.daemon_since,
            generation: self.finished,
            agent: &self.counters,
        };
        let report = facts.report();
        self.reports.send_if_modified(|current| {
            let changed = current.as_ref() != Some(&report);
            if changed {
                *current = Some(report);
            }
            changed
        });
    }
}

fn pass_over(desired: &Desired, watcher: &Watcher) -> Pass {
    let hold = watcher.hold(desired.namespaces.keys().cloned());
    let settle = || {
        if let Err(error) = hold.drain() {
            tracing::warn!(error = chain(&error), "changes of a namespace will be seen late");
        }
    };
    reconcile(desired, settle).unwrap_or_else(|error| all_failed(desired, &chain(&error)))
}

fn all_failed(desired: &Desired, reason: &str) -> Pass {
    let failed: BTreeMap<Owner, String> = desired
        .owners()
        .into_iter()
        .map(|owner| (owner, reason.to_owned()))
        .collect();
    Pass {
        failed,
        ..Pass::default()
    }
}

fn audit(parts: &[(UnitId, Desired)], internet: &str, watcher: &Watcher) -> Vec<UnitId> {
    let hold = watcher.hold([internet.to_owned()]);
    // What cannot be looked at here is looked at by each part's own pass.
    let all = || parts.iter().map(|(id, _)| *id).collect();
    if hold.drain().is_err() {
        return all();
    }
    let Some((_, own)) = parts.iter().find(|(id, _)| *id == UnitId::Internet) else {
        return all();
    };
    match visit(|visitor| visitor.observe(own)) {
        Ok(Ok(observed)) => parts
            .iter()
            .filter(|(_, desired)| !diff(desired, &observed).is_empty())
            .map(|(id, _)| *id)
            .collect(),
        Ok(Err(_)) | Err(_) => all(),
    }
}

fn panicked(error: &JoinError) -> String {
    format!("a pass broke off: {error}")
}

async fn fetch_plans(
    control: Control,
    config: AgentConfig,
    mut ledger: Ledger,
    events: mpsc::UnboundedSender<Event>,
) {
    let mut retry = CONTROL_RETRY_FIRST;
    loop {
        let delta = match control.plan(&config.host, ledger.generation()).await {
            Ok(delta) => delta,
            Err(error) => {
                tracing::debug!(error = chain(&error), "control cannot be asked");
                sleep(retry).await;
                retry = (retry * 2).min(CONTROL_RETRY_MOST);
                continue;
            }
        };
        retry = CONTROL_RETRY_FIRST;
        let Some(delta) = delta else { continue };
        let accepted = spawn_blocking(move || {
            let accepted = ledger.accept(delta);
            (ledger, accepted)
        });
        let result;
        (ledger, result) = match accepted.await {
            Ok(done) => done,
            Err(error) => {
                tracing::error!(%error, "keeping the plan broke off");
                return;
            }
        };
        match result {
            Ok(true) => {
                let plan = ledger.plan().cloned().map(Arc::new);
                if plan.is_some_and(|plan| events.send(Event::Plan(plan)).is_err()) {
                    return;
                }
            }
            Ok(false) => {}
            Err(error) => {
                tracing::error!(error = chain(&error), "a plan was refused");
                sleep(CONTROL_RETRY_MOST).await;
            }
        }
    }
}

async fn send_reports(control: Control, mut inbox: watch::Receiver<Option<HostReport>>) {
    loop {
        let report = inbox.borrow_and_update().clone();
        let mut pause = REPORT_INTERVAL;
        if let Some(report) = report
            && let Err(error) = control.report(&report).await
        {
            tracing::debug!(error = chain(&error), "control cannot be told");
            pause = CONTROL_RETRY_MOST;
        }
        tokio::select! {
            changed = inbox.changed() => if changed.is_err() { return },
            () = sleep(pause) => {}
        }
    }
}

// Each namespace that is watched takes two descriptors.
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}
