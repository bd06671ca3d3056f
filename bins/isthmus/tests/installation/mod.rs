//! An installation of its own on this machine, for tests. Needs root.

#![allow(dead_code, reason = "each test binary uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain has failed")]

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use isthmus_client::Client;
use isthmus_fabric::name;
use isthmus_netlink::namespace;
use isthmus_runtime::{PidFile, Profile, StateLayout};
use isthmus_types::Realm;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub const BINARY: &str = env!("CARGO_BIN_EXE_isthmus");
const PATIENCE: Duration = Duration::from_secs(30);

/// An installation of its own realm and state directory; taken down when dropped.
pub struct Installation {
    pub directory: TempDir,
    pub realm: Realm,
    pub layout: StateLayout,
    pub up: Option<Child>,
    pub runtime: Runtime,
}

impl Installation {
    pub fn new(mark: &str) -> Self {
        let directory = TempDir::with_prefix("isthmus-up-").unwrap();
        let layout = StateLayout::new(directory.path().join("state"));
        Self {
            realm: Realm::new(format!("{mark}{}", std::process::id())).unwrap(),
            layout,
            directory,
            up: None,
            runtime: Runtime::new().unwrap(),
        }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command
            .args(arguments)
            .arg("--state-dir")
            .arg(self.layout.root())
            .env_remove("ISTHMUS_CONFIG")
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub fn up(&mut self) {
        let output = File::options()
            .create(true)
            .append(true)
            .open(self.output_file())
            .unwrap();
        let up = self
            .command(&["up", "--listen", "127.0.0.1:0", "--realm", self.realm.as_str()])
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        self.up = Some(up);
        self.vpcs();
    }

    pub fn output_file(&self) -> PathBuf {
        self.directory.path().join("up.out")
    }

    pub fn output(&self) -> String {
        fs::read_to_string(self.output_file()).unwrap_or_default()
    }

    pub fn client(&self) -> Option<Client> {
        let profile = Profile::load(&self.layout.credentials()).ok()??;
        Client::new(&profile).ok()
    }

    /// Names of the VPCs, once the API answers.
    pub fn vpcs(&self) -> Vec<String> {
        self.eventually("the API to answer", || {
            let vpcs = self.runtime.block_on(self.client()?.vpcs()).ok()?;
            Some(vpcs.into_iter().map(|vpc| vpc.name).collect())
        })
    }

    pub fn eventually<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(Instant::now() < deadline, "waited for {what}\n{}", self.output());
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn pid(&self, process: &str) -> Option<i32> {
        PidFile::holder(&self.layout.pid_file(process)).unwrap()?.pid
    }

    /// Kills a process and waits for its successor.
    pub fn replace(&self, process: &str) {
        let old = self.eventually("the process", || self.pid(process));
        kill(Pid::from_raw(old), Signal::SIGKILL).unwrap();
        self.eventually("its successor", || self.pid(process).filter(|pid| *pid != old));
    }

    pub fn kill_up(&mut self) {
        let mut up = self.up.take().unwrap();
        up.kill().unwrap();
        up.wait().unwrap();
    }

    pub fn wait_for_end(&mut self) -> bool {
        let mut up = self.up.take().unwrap();
        self.eventually("isthmus up to end", || up.try_wait().unwrap())
            .success()
    }

    pub fn namespaces(&self) -> Vec<String> {
        let mut names = namespace::list().unwrap();
        names.retain(|found| name::is_of_realm(&self.realm, found));
        names
    }

    pub fn assert_nothing_left(&self) {
        assert_eq!(self.namespaces(), Vec::<String>::new());
        for process in ["up", "server", "agent", "tunneld"] {
            assert_eq!(self.pid(process), None, "{process} still runs");
        }
        for file in [
            self.layout.api_url(),
            self.layout.control_socket(),
            self.layout.tunnel_socket(),
            self.layout.agent_plan(),
            StateLayout::realm_claim(&self.realm),
        ] {
            assert!(!file.exists(), "{} is left", file.display());
        }
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        if let Some(mut up) = self.up.take() {
            let _ = up.kill();
            let _ = up.wait();
        }
        let _ = self.run(&["down", "--purge", "--realm", self.realm.as_str()]);
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
