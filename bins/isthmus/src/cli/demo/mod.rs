//! The demo: two VPCs, joined by VPN through the public API, and the proof that packets pass.
//!
//! It runs an installation of its own, with its own state, realm and port, and leaves nothing behind.

mod installation;
mod proof;
mod scenario;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::context::{print, remark};
use super::output;
use super::progress::Progress;
use installation::Installation;

/// Options of `demo`.
#[derive(Debug, Args)]
pub struct Options {
    /// End after the proof.
    #[arg(long)]
    once: bool,
}

/// Runs the demo; the exit code says whether the proof held.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let mut interrupted = Interruption::listen()?;
    let mut progress = Progress::new();
    installation::remove_abandoned().await?;
    let mut installation = Installation::start()?;
    let shown = tokio::select! {
        result = show(&mut installation, &mut progress) => Some(result),
        () = interrupted.wait() => None,
    };
    let held = match shown {
        Some(Ok(text)) => {
            progress.end();
            print(&text)?;
            options.once || stay(&mut installation, &mut interrupted).await?
        }
        Some(Err(error)) => {
            progress.fail();
            remark(&format!("error: {error:#}\n{}", installation.last_words()));
            false
        }
        None => {
            progress.fail();
            remark("interrupted");
            false
        }
    };
    progress.begin("removing everything");
    installation.stop().await?;
    progress.end();
    Ok(if held {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

// Until a person has seen enough; tells whether the installation lasted that long.
async fn stay(installation: &mut Installation, interrupted: &mut Interruption) -> anyhow::Result<bool> {
    print(&epilogue(installation))?;
    tokio::select! {
        () = interrupted.wait() => Ok(true),
        ended = installation.ended() => {
            remark(&format!("error: {ended:#}\n{}", installation.last_words()));
            Ok(false)
        }
    }
}

async fn show(installation: &mut Installation, progress: &mut Progress) -> anyhow::Result<String> {
    progress.begin("starting isthmus up");
    let context = installation.answer().await?;
    let scenario = scenario::build(&context.client, progress).await?;
    let findings = proof::run(&context, &scenario, progress).await?;
    let rows = findings
        .iter()
        .map(|finding| vec![finding.what.clone(), finding.found.clone()]);
    Ok(format!("\n{}", output::lines(&["PROVED", "FOUND"], rows)))
}

fn epilogue(installation: &Installation) -> String {
    let program = relative(&installation.program);
    let state = installation.state.display();
    format!(
        "
API      {url}
log in   the API key is in {credentials}; the commands below use it by themselves
try      {program} --state-dir {state} status
         {program} --state-dir {state} probe ping left-1 right-2
         {program} --state-dir {state} instance exec left-1 -- ip address
stop     Ctrl-C removes everything again
",
        url = installation.url().unwrap_or_default(),
        credentials = installation.layout().credentials().display(),
        program = program.display(),
    )
}

// As short as a person would type it.
fn relative(program: &Path) -> PathBuf {
    let here = env::current_dir().unwrap_or_default();
    program.strip_prefix(here).unwrap_or(program).to_owned()
}

/// Ctrl-C, or a polite request to end.
struct Interruption {
    interrupt: Signal,
    terminate: Signal,
}

impl Interruption {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("signals cannot be waited for");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
