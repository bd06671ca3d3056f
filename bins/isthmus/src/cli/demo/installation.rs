//! An installation for the demo alone: `isthmus up` with its own state, realm and port.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;
use std::{env, io};

use anyhow::{Context as _, anyhow, bail, ensure};
use isthmus_client::{Client, Profile};
use isthmus_netlink::namespace;
use isthmus_runtime::{StateLayout, environment};
use tokio::process::{Child, Command as AsyncCommand};

use crate::cli::context::Context;
use crate::cli::options::OutputFormat;
use crate::cli::wait::{self, Answer};

/// What the directory of a demo is called, before the id of its process.
const PREFIX: &str = "isthmus-demo-";

/// How long `isthmus up` may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Lines of the log that are shown after a failure.
const LAST_WORDS: usize = 15;

/// A running installation. Dropped without [`Installation::stop`], it is taken down all the same.
#[derive(Debug)]
pub struct Installation {
    /// This program.
    pub program: PathBuf,
    /// Its state directory.
    pub state: PathBuf,
    directory: PathBuf,
    up: Option<Child>,
}

impl Installation {
    /// Starts it.
    pub fn start() -> anyhow::Result<Self> {
        let program = env::current_exe().context("the path of this program is unknown")?;
        let id = std::process::id();
        let directory = env::temp_dir().join(format!("{PREFIX}{id}"));
        DirBuilder::new()
            .mode(0o700)
            .create(&directory)
            .with_context(|| format!("{} cannot be made", directory.display()))?;
        let mut installation = Self {
            program,
            state: directory.join("state"),
            directory,
            up: None,
        };
        let log = File::create(installation.log()).context("the log cannot be written")?;
        let mut up = AsyncCommand::from(installation.isthmus());
        // In a process group of its own, Ctrl-C reaches the demo alone, which then takes it down in order.
        up.args(["up", "--log", "warn"])
            .args(["--realm", &format!("demo{id}"), "--listen", "127.0.0.1:0"])
            .stdout(log.try_clone().context("the log cannot be written")?)
            .stderr(log)
            .process_group(0);
        installation.up = Some(up.spawn().context("isthmus up cannot be started")?);
        Ok(installation)
    }

    /// Waits until the API answers.
    pub async fn answer(&mut self) -> anyhow::Result<Context> {
        let layout = self.layout();
        let asking = wait::until("the API did not answer", PATIENCE, || async {
            let Ok(Some(profile)) = Profile::load(&layout.credentials()) else {
                return Ok(Answer::NotYet("there are no credentials yet".to_owned()));
            };
            let Ok(client) = Client::new(&profile) else {
                return Ok(Answer::NotYet("it has no address yet".to_owned()));
            };
            match client.regions().await {
                Ok(_) => Ok(Answer::Ready(Context::new(
                    client,
                    layout.clone(),
                    OutputFormat::Table,
                ))),
                Err(error) => Ok(Answer::NotYet(format!("{:#}", anyhow::Error::from(error)))),
            }
        });
        tokio::select! {
            answer = asking => answer,
            ended = self.ended() => Err(ended),
        }
    }

    /// Waits until it ends by itself, which it should not.
    pub async fn ended(&mut self) -> anyhow::Error {
        match &mut self.up {
            Some(up) => match up.wait().await {
                Ok(status) => anyhow!("isthmus up ended: {status}"),
                Err(error) => anyhow!(error).context("isthmus up is lost"),
            },
            None => anyhow!("isthmus up is not running"),
        }
    }

    /// Address of the API.
    pub fn url(&self) -> Option<String> {
        Profile::load(&self.layout().credentials())
            .ok()
            .flatten()
            .map(|profile| profile.url)
    }

    /// Its state directory.
    pub fn layout(&self) -> StateLayout {
        StateLayout::new(&self.state)
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let mut text = String::new();
        for file in [
            self.log(),
            self.layout().log_file("server"),
            self.layout().log_file("agent"),
        ] {
            let log = fs::read_to_string(&file).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let end = lines
                .get(lines.len().saturating_sub(LAST_WORDS)..)
                .unwrap_or_default();
            text.push_str(&format!("--- {}\n{}\n", file.display(), end.join("\n")));
        }
        text
    }

    /// Takes it down, and checks that nothing is left.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let up = self.up.take();
        let down = AsyncCommand::from(self.down()).status().await;
        finish(&self.directory, down)?;
        if let Some(mut up) = up {
            up.wait().await.context("isthmus up is lost")?;
        }
        let mark = format!("ist-demo{}-", std::process::id());
        let left = namespace::list()?
            .into_iter()
            .filter(|name| name.starts_with(&mark));
        let left: Vec<_> = left.collect();
        ensure!(left.is_empty(), "namespaces are left: {}", left.join(", "));
        Ok(())
    }

    fn isthmus(&self) -> Command {
        command(&self.program, &self.state)
    }

    fn down(&self) -> Command {
        let mut down = self.isthmus();
        down.args(["down", "--purge"]).stdout(Stdio::null());
        down
    }

    fn log(&self) -> PathBuf {
        self.directory.join("up.log")
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        if self.up.take().is_some() {
            let down = self.down().status();
            if let Err(error) = finish(&self.directory, down) {
                tracing::warn!(error = %format!("{error:#}"), "the demo leaves something behind");
            }
        }
    }
}

/// Takes down what demos left that were killed outright.
pub async fn remove_abandoned() -> anyhow::Result<()> {
    let program = env::current_exe().context("the path of this program is unknown")?;
    let Ok(entries) = fs::read_dir(env::temp_dir()) else {
        return Ok(());
    };
    for directory in entries.flatten().map(|entry| entry.path()) {
        let owner = directory
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_prefix(PREFIX))
            .and_then(|id| id.parse::<u32>().ok());
        let Some(owner) = owner else { continue };
        if owner != std::process::id() && is_isthmus(owner) {
            continue;
        }
        let mut down = AsyncCommand::from(command(&program, &directory.join("state")));
        let down = down
            .args(["down", "--realm", &format!("demo{owner}"), "--purge"])
            .stdout(Stdio::null());
        finish(&directory, down.status().await).with_context(|| {
            format!(
                "what an earlier demo left in {} cannot be removed",
                directory.display()
            )
        })?;
    }
    Ok(())
}

// The program name of a process; its id may long belong to another program.
fn is_isthmus(process: u32) -> bool {
    fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|name| name.trim_end() == "isthmus")
}

fn command(program: &Path, state: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("--state-dir").arg(state).stdin(Stdio::null());
    for variable in [
        environment::STATE_DIR,
        environment::PROFILE,
        environment::CONFIG,
        environment::LOG,
    ] {
        command.env_remove(variable);
    }
    command
}

fn finish(directory: &Path, down: io::Result<ExitStatus>) -> anyhow::Result<()> {
    let status = down.context("isthmus down cannot be started")?;
    if !status.success() {
        bail!("isthmus down failed: {status}");
    }
    fs::remove_dir_all(directory).with_context(|| format!("{} cannot be removed", directory.display()))
}
