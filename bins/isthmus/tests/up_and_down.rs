//! `isthmus up` and `isthmus down` on this machine, with every process killed in turn. Needs root.
#![expect(clippy::unwrap_used, reason = "a test that unwraps in vain has failed")]

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use isthmus_client::{Client, NewVpc, PrefixManagement};
use isthmus_fabric::name;
use isthmus_netlink::namespace;
use isthmus_runtime::{PidFile, Profile, StateLayout};
use isthmus_types::Realm;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::runtime::Runtime;

const BINARY: &str = env!("CARGO_BIN_EXE_isthmus");
const PATIENCE: Duration = Duration::from_secs(30);

/// An installation of its own realm and state directory; taken down when dropped.
struct Installation {
    directory: TempDir,
    realm: Realm,
    layout: StateLayout,
    up: Option<Child>,
    runtime: Runtime,
}

impl Installation {
    fn new(mark: &str) -> Self {
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

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command
            .args(arguments)
            .arg("--state-dir")
            .arg(self.layout.root())
            .env_remove("ISTHMUS_CONFIG")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn up(&mut self) {
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

    fn output_file(&self) -> PathBuf {
        self.directory.path().join("up.out")
    }

    fn output(&self) -> String {
        fs::read_to_string(self.output_file()).unwrap_or_default()
    }

    fn client(&self) -> Option<Client> {
        let profile = Profile::load(&self.layout.credentials()).ok()??;
        Client::new(&profile).ok()
    }

    /// Names of the VPCs, once the API answers.
    fn vpcs(&self) -> Vec<String> {
        self.eventually("the API to answer", || {
            let vpcs = self.runtime.block_on(self.client()?.vpcs()).ok()?;
            Some(vpcs.into_iter().map(|vpc| vpc.name).collect())
        })
    }

    fn eventually<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(Instant::now() < deadline, "waited for {what}\n{}", self.output());
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn pid(&self, process: &str) -> Option<i32> {
        PidFile::holder(&self.layout.pid_file(process)).unwrap()?.pid
    }

    /// Kills a process and waits for its successor.
    fn replace(&self, process: &str) {
        let old = self.eventually("the process", || self.pid(process));
        kill(Pid::from_raw(old), Signal::SIGKILL).unwrap();
        self.eventually("its successor", || self.pid(process).filter(|pid| *pid != old));
    }

    fn kill_up(&mut self) {
        let mut up = self.up.take().unwrap();
        up.kill().unwrap();
        up.wait().unwrap();
    }

    fn wait_for_end(&mut self) -> bool {
        let mut up = self.up.take().unwrap();
        self.eventually("isthmus up to end", || up.try_wait().unwrap())
            .success()
    }

    fn namespaces(&self) -> Vec<String> {
        let mut names = namespace::list().unwrap();
        names.retain(|found| name::is_of_realm(&self.realm, found));
        names
    }

    fn assert_nothing_left(&self) {
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

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn everything_is_found_again_after_every_process_was_killed() {
    let mut lab = Installation::new("ud");
    lab.up();
    lab.eventually("the words about the credentials", || {
        lab.output().contains("credentials.toml").then_some(())
    });
    let vpc = NewVpc {
        name: Some("kept".to_owned()),
        address_prefix_management: PrefixManagement::Manual,
    };
    lab.runtime
        .block_on(lab.client().unwrap().create_vpc(&vpc))
        .unwrap();
    let url = fs::read_to_string(lab.layout.api_url()).unwrap();
    lab.eventually("the private internet", || {
        (!lab.namespaces().is_empty()).then_some(())
    });

    for process in ["server", "agent"] {
        lab.replace(process);
        assert_eq!(lab.vpcs(), ["kept"]);
    }
    assert_eq!(
        fs::read_to_string(lab.layout.api_url()).unwrap(),
        url,
        "clients find the API where it was"
    );

    // Its children outlive it, and the next one adopts them.
    let children = [lab.pid("server"), lab.pid("agent")];
    lab.kill_up();
    assert_eq!(lab.vpcs(), ["kept"]);
    lab.up();
    lab.eventually("the children to be adopted", || {
        (lab.output().matches("found at work").count() == 2).then_some(())
    });
    assert_eq!([lab.pid("server"), lab.pid("agent")], children);

    // Ctrl-C leaves the database and nothing else.
    kill(Pid::from_raw(lab.pid("up").unwrap()), Signal::SIGINT).unwrap();
    assert!(lab.wait_for_end(), "{}", lab.output());
    lab.assert_nothing_left();
    lab.up();
    assert_eq!(lab.vpcs(), ["kept"]);
}

#[test]
fn down_removes_everything_whatever_was_killed_and_may_be_repeated() {
    let mut lab = Installation::new("dn");
    lab.up();
    lab.eventually("the private internet", || {
        (!lab.namespaces().is_empty()).then_some(())
    });
    lab.kill_up();
    for process in ["server", "agent"] {
        let pid = lab.pid(process).unwrap();
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        lab.eventually("its end", || lab.pid(process).is_none().then_some(()));
    }
    assert!(!lab.namespaces().is_empty());
    for _ in 0..2 {
        let down = lab.run(&["down"]);
        assert!(down.status.success(), "{}", text(&down.stderr));
    }
    lab.assert_nothing_left();
    assert!(lab.layout.database().exists());

    // Down also ends an up that is at work.
    lab.up();
    assert!(lab.run(&["down"]).status.success());
    assert!(lab.wait_for_end(), "{}", lab.output());
    lab.assert_nothing_left();
    assert!(lab.run(&["down", "--purge"]).status.success());
    assert!(!lab.layout.root().exists());
}

#[test]
fn a_realm_is_up_once_on_a_machine() {
    let mut lab = Installation::new("tw");
    lab.up();
    let other = lab.directory.path().join("other");
    for directory in [lab.layout.root(), other.as_path()] {
        let second = Command::new(BINARY)
            .args(["up", "--listen", "127.0.0.1:0", "--realm", lab.realm.as_str()])
            .arg("--state-dir")
            .arg(directory)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let words = text(&second.stderr);
        assert!(!second.status.success());
        assert!(
            words.contains("is up already") && words.contains("--realm"),
            "{words}"
        );
        assert_eq!(words.lines().count(), 1, "{words}");
    }
    // After a kill of `up`, its agent still works: another directory may not take the realm over.
    lab.kill_up();
    let second = Command::new(BINARY)
        .args(["up", "--listen", "127.0.0.1:0", "--realm", lab.realm.as_str()])
        .arg("--state-dir")
        .arg(&other)
        .output()
        .unwrap();
    let words = text(&second.stderr);
    assert!(
        !second.status.success() && words.contains("still works"),
        "{words}"
    );
    assert_eq!(lab.vpcs(), Vec::<String>::new());
}

#[test]
fn what_cannot_work_is_said_in_one_line() {
    let lab = Installation::new("no");
    let config = lab.directory.path().join("config.toml");
    fs::write(&config, "zonse = []\n").unwrap();
    let up = lab
        .command(&["up", "--realm", lab.realm.as_str()])
        .arg("--config")
        .arg(&config)
        .output()
        .unwrap();
    let words = text(&up.stderr);
    assert!(!up.status.success() && words.contains("zonse"), "{words}");
    assert!(lab.namespaces().is_empty());
    let up = lab.command(&["up", "--realm", "Not-A-Realm"]).output().unwrap();
    assert!(text(&up.stderr).contains("Not-A-Realm"));
}
