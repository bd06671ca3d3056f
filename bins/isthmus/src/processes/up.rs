//! `isthmus up`: the whole installation on this host, as separate processes that it supervises.
//!
//! Killed outright, it leaves its children at work; the next `up` adopts them.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use isthmus_runtime::supervise::{AtShutdown, running, supervise};
use isthmus_runtime::{
    ChildSpec, Config, PidFile, PidFileError, Shutdown, StateLayout, SupervisionEvent, logging,
};
use isthmus_types::Realm;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::sleep;

use super::words::{say, tell, welcome};
use super::{ServiceOptions, offer, requirements, take, teardown};
use crate::cli::GlobalOptions;

/// How often is looked whether the API answers yet.
const POLL: Duration = Duration::from_millis(20);

/// Runs until interrupted, then leaves nothing behind but the database.
pub fn run(options: &GlobalOptions, service: ServiceOptions) -> anyhow::Result<ExitCode> {
    requirements::check()?;
    let layout = options.layout();
    let config = service.load(&layout)?;
    offer::settings(&config)?;
    layout.prepare()?;
    let _claim = claim(&layout, &config.realm)?;
    let _pid_file = take(&layout, "up", config.realm.as_str())?;
    super::keep_realm(&layout, &config.realm)?;
    logging::start(&config.log)?;
    super::event_loop()?.block_on(keep_up(layout, config, service))?;
    Ok(ExitCode::SUCCESS)
}

/// Claims the realm on this machine for the state directory.
fn claim(layout: &StateLayout, realm: &Realm) -> anyhow::Result<PidFile> {
    let path = StateLayout::realm_claim(realm);
    let ours = layout.root().display().to_string();
    let last = PidFile::last_note(&path).filter(|last| !last.is_empty() && *last != ours);
    if let (Some(last), None) = (last, PidFile::holder(&path)?) {
        let other = StateLayout::new(PathBuf::from(&last));
        anyhow::ensure!(
            PidFile::holder(&other.pid_file("agent"))?.is_none(),
            "the agent of {last} still works in the realm {realm}: run isthmus --state-dir {last} down first"
        );
    }
    PidFile::take(&path, &ours).map_err(|error| match error {
        PidFileError::Held { holder, .. } => anyhow::anyhow!(
            "the realm {realm} is up already{}, with the state directory {}: name another with --realm and --state-dir",
            holder.pid.map(|pid| format!(" as process {pid}")).unwrap_or_default(),
            holder.note
        ),
        other @ PidFileError::File { .. } => other.into(),
    })
}

async fn keep_up(layout: StateLayout, config: Config, service: ServiceOptions) -> anyhow::Result<()> {
    let shutdown = Shutdown::on_signals().context("signals cannot be waited for")?;
    let new = !layout.credentials().exists();
    say(&format!(
        "isthmus {}: realm {}, state in {}",
        env!("CARGO_PKG_VERSION"),
        config.realm,
        layout.root().display()
    ));
    let mut children = Vec::new();
    let (server, serving) = watch::channel(None);
    for name in ["server", "agent"] {
        let spec = child(&layout, &service, name)?;
        let log = spec.log.clone();
        let server = server.clone();
        children.push(tokio::spawn(supervise(
            spec,
            AtShutdown::Stop,
            shutdown.clone(),
            move |event| {
                say(&tell(name, &event, &log));
                if name == "server" {
                    server.send_replace(process_of(&event));
                }
            },
        )));
    }
    tokio::select! {
        url = wait_for_api(&layout, &serving) => say(&welcome(&layout, &url, new)?),
        () = shutdown.wait() => {}
    }
    shutdown.wait().await;
    say("going down");
    for child in children {
        child.await.context("a supervisor failed")?;
    }
    teardown::remove_all(&layout, &config.realm).await?;
    say("everything is removed but the database");
    Ok(())
}

fn child(layout: &StateLayout, service: &ServiceOptions, name: &'static str) -> anyhow::Result<ChildSpec> {
    Ok(ChildSpec {
        name,
        program: env::current_exe().context("the path of this program is unknown")?,
        arguments: service.to_arguments(layout, name)?,
        log: layout.log_file(name),
        pid_file: layout.pid_file(name),
    })
}

/// The child's process id, if it runs after `event`.
const fn process_of(event: &SupervisionEvent) -> Option<i32> {
    match event {
        SupervisionEvent::Adopted { pid } | SupervisionEvent::Started { pid } => Some(*pid),
        SupervisionEvent::Ended { .. } | SupervisionEvent::Stopped => None,
    }
}

/// Address of the API, once the server that is supervised answers there.
async fn wait_for_api(layout: &StateLayout, serving: &watch::Receiver<Option<i32>>) -> String {
    loop {
        let supervised = *serving.borrow();
        let is_ours = supervised.is_some()
            && running(&layout.pid_file("server")).is_ok_and(|running| running == supervised);
        if is_ours && let Ok(url) = fs::read_to_string(layout.api_url()) {
            let url = url.trim().to_owned();
            let authority = url.split("://").nth(1).unwrap_or_default().to_owned();
            if TcpStream::connect(authority).await.is_ok() {
                return url;
            }
        }
        sleep(POLL).await;
    }
}
