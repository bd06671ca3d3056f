//! One running installation.

use std::fs::{self, File};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use isthmus_client::{Client, ClientError, Id, Instance};
use isthmus_fabric::name;
use isthmus_netlab::Node;
use isthmus_netlab::patience::{eventually, eventually_within, stretched};
use isthmus_runtime::{PidFile, Profile, StateLayout};
use isthmus_types::{InstanceId, Realm};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::runtime::Runtime;

static NEXT_REALM: AtomicU32 = AtomicU32::new(0);

/// One installation: `isthmus up` with server, agent and tunnel daemon.
pub struct System {
    directory: TempDir,
    layout: StateLayout,
    realm: Realm,
    up: Option<Child>,
    client: Option<Client>,
    runtime: Runtime,
}

impl System {
    /// Starts `isthmus up` in a new realm and waits until its API answers.
    ///
    /// # Errors
    /// When it does not come up; the text has the end of its output.
    pub fn start() -> Result<Self> {
        Self::start_with("")
    }

    /// Starts `isthmus up` with a configuration file of this content.
    ///
    /// # Errors
    /// When it does not come up; the text has the end of its output.
    pub fn start_with(configuration: &str) -> Result<Self> {
        let directory = TempDir::with_prefix("isthmus-system-")?;
        let number = NEXT_REALM.fetch_add(1, Ordering::Relaxed);
        let realm = Realm::new(format!("s{}x{number}", std::process::id()))?;
        let layout = StateLayout::new(directory.path().join("state"));
        fs::write(directory.path().join("config.toml"), configuration)?;
        let runtime = Runtime::new()?;
        let mut system = Self {
            directory,
            layout,
            realm,
            up: None,
            client: None,
            runtime,
        };
        system.spawn_up()?;
        system.connect()?;
        Ok(system)
    }

    /// The binary under test: the one beside the test's own build.
    ///
    /// # Errors
    /// When it has not been built.
    pub fn binary() -> Result<PathBuf> {
        let test = std::env::current_exe()?;
        let profile = test
            .parent()
            .and_then(Path::parent)
            .context("the test's target directory")?;
        let binary = profile.join("isthmus");
        ensure!(
            binary.exists(),
            "{} is missing: build the workspace first",
            binary.display()
        );
        Ok(binary)
    }

    /// Its realm.
    pub const fn realm(&self) -> &Realm {
        &self.realm
    }

    /// Where it keeps its state.
    pub const fn layout(&self) -> &StateLayout {
        &self.layout
    }

    /// Runs an API call to its end.
    ///
    /// # Errors
    /// Those of the call.
    pub fn call<'a, T, F>(&'a self, call: impl FnOnce(&'a Client) -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>> + 'a,
    {
        self.runtime.block_on(call(self.client()))
    }

    /// The runtime and client, for calls at the same time.
    pub fn parts(&self) -> (&Runtime, &Client) {
        (&self.runtime, self.client())
    }

    /// Runs `isthmus` with `arguments` on this installation and yields its standard output.
    ///
    /// # Errors
    /// When it fails; the text has its standard error.
    pub fn isthmus(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(Self::binary()?)
            .args(arguments)
            .arg("--state-dir")
            .arg(self.layout.root())
            .stdin(Stdio::null())
            .output()?;
        ensure!(
            output.status.success(),
            "isthmus {arguments:?} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Process id of `server`, `agent` or `tunneld`.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid(&self, process: &str) -> Result<i32> {
        let holder = PidFile::holder(&self.layout.pid_file(process))?;
        holder
            .and_then(|holder| holder.pid)
            .with_context(|| format!("{process} does not run"))
    }

    /// Kills a process without warning and returns its process id.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&self, process: &str) -> Result<i32> {
        let pid = self.pid(process)?;
        kill(Pid::from_raw(pid), Signal::SIGKILL)?;
        Ok(pid)
    }

    /// Kills `isthmus up` itself without warning.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_up(&mut self) -> Result<()> {
        let mut up = self.up.take().context("isthmus up runs")?;
        up.kill()?;
        up.wait()?;
        Ok(())
    }

    /// Waits until `process` runs under another process id than `old`, and yields that.
    ///
    /// # Errors
    /// When it does not in the usual time.
    pub fn wait_for_successor(&self, process: &str, old: i32) -> Result<i32> {
        eventually("a successor of the killed process", || {
            let pid = self.pid(process)?;
            ensure!(pid != old, "{process} still has process id {pid}");
            Ok(pid)
        })
    }

    /// Waits until the API answers again after the server was killed; it may have another address.
    ///
    /// # Errors
    /// When it does not in the usual time.
    pub fn connect(&mut self) -> Result<()> {
        let (layout, runtime) = (&self.layout, &self.runtime);
        let client = eventually_within(stretched(Duration::from_secs(20)), "an answer of the API", || {
            let profile = Profile::load(&layout.credentials())?.context("no credentials yet")?;
            let client = Client::new(&profile)?;
            runtime.block_on(client.regions())?;
            Ok(client)
        })
        .with_context(|| self.output_tail())?;
        self.client = Some(client);
        Ok(())
    }

    fn client(&self) -> &Client {
        self.client.as_ref().expect("a system that started has connected")
    }

    /// The namespace of an instance.
    ///
    /// # Errors
    /// When it does not exist.
    pub fn node_of(&self, instance: &Id<Instance>) -> Result<Node> {
        let bits = instance.bits().context("an id of ours")?;
        Node::existing(&name::instance_namespace(&self.realm, InstanceId(bits)))
    }

    /// The namespace that plays the internet.
    ///
    /// # Errors
    /// When it does not exist.
    pub fn internet(&self) -> Result<Node> {
        Node::existing(&name::internet_namespace(&self.realm))
    }

    /// Names of this realm's namespaces.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn namespaces(&self) -> Result<Vec<String>> {
        let mut names = isthmus_netlink::namespace::list()?;
        names.retain(|namespace| name::is_of_realm(&self.realm, namespace));
        Ok(names)
    }

    /// Ends `isthmus up` as Ctrl-C does and checks that it succeeds and leaves nothing behind.
    ///
    /// # Errors
    /// When something is left.
    pub fn stop(&mut self) -> Result<()> {
        let mut up = self.up.take().context("isthmus up runs")?;
        kill(Pid::from_raw(i32::try_from(up.id())?), Signal::SIGINT)?;
        let status = eventually_within(
            stretched(Duration::from_secs(30)),
            "the end of isthmus up",
            || up.try_wait()?.context("still running"),
        )?;
        ensure!(
            status.success(),
            "isthmus up ended with {status}: {}",
            self.output_tail()
        );
        self.nothing_left()
    }

    /// Checks that no namespace and no process of this realm exists.
    ///
    /// # Errors
    /// When there is one.
    pub fn nothing_left(&self) -> Result<()> {
        let namespaces = self.namespaces()?;
        ensure!(namespaces.is_empty(), "namespaces left: {namespaces:?}");
        for process in ["server", "agent", "tunneld", "up"] {
            if let Ok(pid) = self.pid(process) {
                bail!("{process} still runs as {pid}");
            }
        }
        Ok(())
    }

    /// The end of what the processes wrote.
    pub fn output_tail(&self) -> String {
        let mut text = String::new();
        let mut files = vec![self.directory.path().join("up.out")];
        files.extend(["server", "agent", "tunneld"].map(|process| self.layout.log_file(process)));
        for file in files {
            let content = fs::read_to_string(&file).unwrap_or_default();
            let lines: Vec<&str> = content.lines().rev().take(25).collect();
            text.push_str(&format!("--- {}\n", file.display()));
            for line in lines.into_iter().rev() {
                text.push_str(line);
                text.push('\n');
            }
        }
        text
    }

    /// Starts `isthmus up` again, on the state that is there.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn_up(&mut self) -> Result<()> {
        let output = File::options()
            .create(true)
            .append(true)
            .open(self.directory.path().join("up.out"))?;
        let up = Command::new(Self::binary()?)
            .args([
                "up",
                "--listen",
                "127.0.0.1:0",
                "--realm",
                self.realm.as_str(),
                "--state-dir",
            ])
            .arg(self.layout.root())
            .arg("--config")
            .arg(self.directory.path().join("config.toml"))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        self.up = Some(up);
        Ok(())
    }
}

impl Drop for System {
    fn drop(&mut self) {
        if let Some(mut up) = self.up.take() {
            drop(up.kill());
            drop(up.wait());
        }
        drop(self.isthmus(&["down", "--purge"]));
    }
}
