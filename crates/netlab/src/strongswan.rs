//! A strongSwan as a peer: its `charon` daemon with userspace ESP (`kernel-libipsec`, a TUN device `ipsec0`). That of
//! Debian stable always encapsulates ESP in UDP; a later one is taken from a root of its own.
//!
//! Several run side by side: each has its own configuration, control socket and log in a directory of its own, which it
//! sees as `/run`. Nothing is started by time: rekeys and deletes happen when asked for.

mod connection;
mod distribution;
mod sa;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use isthmus_types::IkeVersion;
use nix::unistd::{chdir, chroot};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::mounts;
use crate::node::{Node, Running};
use crate::patience::{eventually, holds, stretched};
use crate::vici::Vici;

pub use connection::{SwanCertificate, SwanChildren, SwanConnection};
pub use distribution::{Distribution, STRONGSWAN6_ROOT};
pub use sa::{SwanChildSa, SwanIkeSa};

use connection::{CHILD, CONNECTION};

/// Lines of a daemon's log that the report of a failure shows.
pub(crate) const LOG_TAIL: usize = 200;
/// How long the daemon may take to delete an SA, with the routes that it has for it, milliseconds.
const DELETION: &str = "30000";
/// How long it may take to answer a command, a deletion among them.
const ANSWER: Duration = Duration::from_secs(40);

/// A charon daemon in a gateway's namespace. Dropping it kills the daemon without a word to its peer.
#[derive(Debug)]
pub struct StrongSwan {
    node: Node,
    distribution: Distribution,
    connection: SwanConnection,
    charon: Option<Running>,
    directory: TempDir,
}

/// What the daemon writes to its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wording {
    /// What happens.
    Events,
    /// Secrets and keys too.
    Secrets,
}

impl StrongSwan {
    /// Starts that of Debian stable in `node` with one connection. It negotiates nothing by itself.
    ///
    /// # Errors
    /// When the package is missing, or the daemon does not come up or refuses the connection.
    pub fn start(node: &Node, connection: SwanConnection) -> Result<Self> {
        Self::start_release(Distribution::Installed, node, connection)
    }

    /// Starts one of a distribution, as [`StrongSwan::start`].
    ///
    /// # Errors
    /// As [`StrongSwan::start`].
    pub fn start_release(
        distribution: Distribution,
        node: &Node,
        connection: SwanConnection,
    ) -> Result<Self> {
        Self::start_with(distribution, node, connection, Wording::Events)
    }

    /// As [`StrongSwan::start`], with every secret and key of its SAs in its log: to record what others can be tried with.
    ///
    /// # Errors
    /// As [`StrongSwan::start`].
    pub fn start_revealing(node: &Node, connection: SwanConnection) -> Result<Self> {
        Self::start_with(Distribution::Installed, node, connection, Wording::Secrets)
    }

    fn start_with(
        distribution: Distribution,
        node: &Node,
        connection: SwanConnection,
        wording: Wording,
    ) -> Result<Self> {
        crate::require()?;
        distribution.require()?;
        let mut swan = Self {
            node: node.clone(),
            distribution,
            connection,
            charon: None,
            directory: tempfile::Builder::new().prefix("istlab-swan-").tempdir()?,
        };
        fs::write(swan.path("strongswan.conf"), swan.daemon_configuration(wording))?;
        swan.restart()?;
        Ok(swan)
    }

    /// Starts the daemon again after [`StrongSwan::kill`].
    ///
    /// # Errors
    /// When it runs, does not come up or refuses the connection.
    pub fn restart(&mut self) -> Result<()> {
        ensure!(self.charon.is_none(), "charon runs");
        let _ = fs::remove_file(self.socket());
        self.charon = Some(self.launch()?);
        eventually("charon's control socket", || {
            self.vici()?.command("version", &json!({}))
        })
        .with_context(|| self.log_tail())?;
        self.load(&self.connection)
    }

    /// Kills the daemon with SIGKILL: its peer hears nothing, its TUN device and SAs are gone.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<()> {
        self.charon.take().context("charon does not run")?.kill()
    }

    /// Ends the daemon in good order: its peer gets a DELETE.
    ///
    /// # Errors
    /// When it does not run or does not end.
    pub fn stop(&mut self) -> Result<()> {
        self.charon.take().context("charon does not run")?.terminate()?;
        Ok(())
    }

    /// Replaces the connection's definition; SAs stay as they are.
    ///
    /// # Errors
    /// When the daemon refuses it.
    pub fn reload(&mut self, connection: SwanConnection) -> Result<()> {
        self.load(&connection)?;
        self.connection = connection;
        Ok(())
    }

    /// Replaces everything that it knows by what a `swanctl.conf` says, as an administrator does, and starts what that says is
    /// to be started.
    ///
    /// # Errors
    /// When `swanctl` or the daemon refuses the file.
    pub fn load_file(&self, configuration: &str) -> Result<()> {
        let file = self.path("swanctl.conf");
        fs::write(&file, configuration)?;
        let output = Command::new("swanctl")
            .args(["--load-all", "--clear", "--noprompt", "--uri"])
            .arg(format!("unix://{}", self.socket().display()))
            .arg("--file")
            .arg(&file)
            .output()
            .context("running swanctl")?;
        let said = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
        ensure!(
            output.status.success(),
            "swanctl refuses\n{configuration}\n{}{}",
            said(&output.stdout),
            said(&output.stderr)
        );
        Ok(())
    }

    /// Puts certificates and a key where a file for [`StrongSwan::load_file`] finds them: `peer.pem` is its own certificate,
    /// `ca.pem` the first authority.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn store(&self, certificate: &SwanCertificate) -> Result<()> {
        let write = |directory: &str, name: &str, pem: &str| -> Result<()> {
            let directory = self.path(directory);
            fs::create_dir_all(&directory)?;
            fs::write(directory.join(name), pem)?;
            Ok(())
        };
        for (number, pem) in certificate.chain.iter().enumerate() {
            let name = match number {
                0 => "peer.pem".to_owned(),
                other => format!("between{other}.pem"),
            };
            write("x509", &name, pem)?;
        }
        for pem in &certificate.authorities {
            write("x509ca", "ca.pem", pem)?;
        }
        write("private", "peer.key", certificate.private_key.reveal())
    }

    /// Brings the connection up as initiator and waits until it is.
    ///
    /// # Errors
    /// When the negotiation fails.
    pub fn initiate(&self) -> Result<()> {
        self.initiate_all("15000")
    }

    /// Starts bringing the connection up as initiator and does not wait.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn start_initiating(&self) -> Result<()> {
        self.initiate_all("-1")
    }

    fn initiate_all(&self, timeout: &str) -> Result<()> {
        for child in self.connection.child_names() {
            self.act(
                "initiate",
                &json!({"ike": CONNECTION, "child": child, "timeout": timeout}),
            )?;
        }
        Ok(())
    }

    /// Starts a rekey of each Child SA.
    ///
    /// # Errors
    /// When there is none.
    pub fn rekey_child(&self) -> Result<()> {
        for child in self.connection.child_names() {
            self.act("rekey", &json!({"child": child}))?;
        }
        Ok(())
    }

    /// Starts a rekey of the IKE SA.
    ///
    /// # Errors
    /// When there is none.
    pub fn rekey_ike(&self) -> Result<()> {
        self.act("rekey", &json!({"ike": CONNECTION}))
    }

    /// Deletes the IKE SA with its children and waits for the peer's answer.
    ///
    /// # Errors
    /// When there is none or the peer does not answer.
    pub fn terminate(&self) -> Result<()> {
        self.act("terminate", &json!({"ike": CONNECTION, "timeout": DELETION}))
    }

    /// Deletes the (first) Child SA alone and waits for the peer's answer.
    ///
    /// # Errors
    /// When there is none or the peer does not answer.
    pub fn terminate_child(&self) -> Result<()> {
        self.act("terminate", &json!({"child": CHILD, "timeout": DELETION}))
    }

    /// Every SA that it has, in any state.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn sas(&self) -> Result<Vec<SwanIkeSa>> {
        let events = self.vici()?.stream("list-sas", "list-sa", &json!({}))?;
        Ok(events
            .iter()
            .filter_map(Value::as_object)
            .flat_map(|event| event.values())
            .map(sa::ike_sa)
            .collect())
    }

    /// The one established IKE SA with its one installed Child SA: what is there when nothing is going on.
    ///
    /// # Errors
    /// When there is anything more or less.
    pub fn settled(&self) -> Result<(SwanIkeSa, SwanChildSa)> {
        let ike = self.settled_with(1)?;
        let child = ike.children[0].clone();
        Ok((ike, child))
    }

    /// The one established IKE SA with exactly `children` installed Child SAs.
    ///
    /// # Errors
    /// When there is anything more or less.
    pub fn settled_with(&self, children: usize) -> Result<SwanIkeSa> {
        let sas = self.sas()?;
        let [ike] = sas.as_slice() else {
            bail!("the peer has IKE SAs {sas:?}");
        };
        ensure!(ike.state == "ESTABLISHED", "the peer has {ike:?}");
        ensure!(
            ike.children.len() == children && ike.children.iter().all(|child| child.state == "INSTALLED"),
            "the peer has child SAs {:?}",
            ike.children
        );
        Ok(ike.clone())
    }

    /// Waits until there is no SA of any kind.
    ///
    /// # Errors
    /// When there is one after the usual time.
    pub fn wait_for_none(&self) -> Result<()> {
        eventually("an empty SA list at the peer", || {
            let sas = self.sas()?;
            holds(sas.is_empty(), || format!("the peer has {sas:?}"))
        })
    }

    /// The daemon's log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("charon.log")).unwrap_or_default()
    }

    /// The last lines of the daemon's log, for the report of a failure.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().filter(|line| !line.contains("vici client")).collect();
        let tail = lines.len().saturating_sub(LOG_TAIL);
        format!(
            "log of strongSwan in {}:\n{}",
            self.node.namespace(),
            lines[tail..].join("\n")
        )
    }

    fn act(&self, command: &str, arguments: &Value) -> Result<()> {
        self.vici()?
            .command(command, arguments)
            .map(drop)
            .with_context(|| self.log_tail())
    }

    fn load(&self, connection: &SwanConnection) -> Result<()> {
        let mut vici = self.vici()?;
        vici.command("clear-creds", &json!({}))?;
        for (command, arguments) in connection.credentials() {
            vici.command(command, &arguments)?;
        }
        vici.command("load-conn", &connection.definition())?;
        Ok(())
    }

    // The thread's own view of the file system ends with it; the daemon, started from it, keeps that view.
    fn launch(&self) -> Result<Running> {
        let (root, own) = (self.distribution.root(), self.directory.path());
        let mut command = Command::new(self.distribution.daemon());
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("STRONGSWAN_CONF", "/run/strongswan.conf")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = self.node.run(|| -> Result<_> {
            enter(&root, own)?;
            Ok(command.spawn()?)
        })??;
        Ok(Running::adopt("charon".to_owned(), child))
    }

    fn daemon_configuration(&self, wording: Wording) -> String {
        // In IKEv1 it would remove a Child SA in the moment in which it tells so: what is on the way would be lost.
        // Its default is to leave that to the other end, which we are but where it is recorded with one of its own kind.
        let delete_rekeyed = match (self.connection.version, wording) {
            (IkeVersion::V1, Wording::Events) => "no",
            (IkeVersion::V1, Wording::Secrets) | (IkeVersion::V2, _) => "yes",
        };
        let more = match wording {
            Wording::Events => "",
            Wording::Secrets => "ike = 4; chd = 4; ",
        };
        format!(
            "charon {{
    load = {plugins}
    install_routes = yes
    install_virtual_ip = no
    retransmit_tries = 4
    retransmit_timeout = 1.0
    retransmit_base = 1.5
    retry_initiate_interval = 0
    delete_rekeyed_delay = 1
    delete_rekeyed = {delete_rekeyed}
    signature_authentication = {signatures}
    plugins {{
        vici {{ socket = unix:///run/charon.vici }}
        kernel-libipsec {{ allow_peer_ts = no; raw_esp = yes; }}
    }}
    filelog {{
        main {{ path = /run/charon.log; time_format = %T; time_add_ms = yes; append = yes; flush_line = yes; default = 1; cfg = 1; {more}}}
    }}
}}
",
            signatures = if self.connection.named_signatures { "yes" } else { "no" },
            plugins = self.distribution.plugins(),
        )
        .replace("; ", "\n        ")
    }

    fn vici(&self) -> Result<Vici> {
        Vici::connect(&self.socket(), stretched(ANSWER))
    }

    fn socket(&self) -> PathBuf {
        self.path("charon.vici")
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }
}

/// Moves the calling thread into the file system `root`, with `run` as its `/run`. Nobody else sees a change.
fn enter(root: &Path, run: &Path) -> Result<()> {
    mounts::make_own()?;
    mounts::show(run, &root.join("run"))?;
    if root != Path::new("/") {
        for shared in ["dev", "proc", "sys"] {
            mounts::show(&Path::new("/").join(shared), &root.join(shared))?;
        }
        chroot(root).context("making it the root")?;
        chdir("/").context("entering it")?;
    }
    Ok(())
}
