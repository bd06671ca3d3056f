//! One namespace of a lab, and the processes in it.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use isthmus_netlink::namespace::Namespace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::patience::{eventually_within, holds, stretched};

/// One namespace of a lab. Copies mean the same namespace; the [`Lab`](crate::Lab) removes it.
#[derive(Clone, Debug)]
pub struct Node {
    namespace: Arc<Namespace>,
}

impl Node {
    pub(crate) fn open(name: &str) -> Result<Self> {
        let node = Self {
            namespace: Arc::new(Namespace::open(name)?),
        };
        node.ip(["link set lo up"])?;
        Ok(node)
    }

    /// A namespace that somebody else made and will remove; nothing in it is changed.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn existing(name: &str) -> Result<Self> {
        Ok(Self {
            namespace: Arc::new(Namespace::open(name)?),
        })
    }

    /// Name of the namespace, as in `/run/netns`.
    pub fn namespace(&self) -> &str {
        self.namespace.name()
    }

    /// Runs `work` inside, on a thread of its own.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        Ok(self.namespace.run(work)?)
    }

    /// Runs a command inside and yields its standard output.
    ///
    /// # Errors
    /// When it cannot be started or fails; the text has its standard error.
    pub fn command<S: AsRef<OsStr>>(&self, program: &str, arguments: &[S]) -> Result<String> {
        self.command_with_input(program, arguments, "")
    }

    /// Runs a command inside with `input` as its standard input, and yields its standard output.
    ///
    /// # Errors
    /// When it cannot be started or fails; the text has its standard error.
    pub fn command_with_input<S: AsRef<OsStr>>(
        &self,
        program: &str,
        arguments: &[S],
        input: &str,
    ) -> Result<String> {
        let mut child = self
            .namespace
            .spawn(
                Command::new(program)
                    .args(arguments)
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped()),
            )
            .with_context(|| format!("{program} in {}", self.namespace()))?;
        let mut stdin = child.stdin.take().expect("it was asked for as a pipe");
        // A command that ends without reading all of it tells the reason in its status.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!(
                "{program} in {}: {}: {}{}",
                self.namespace(),
                output.status,
                String::from_utf8_lossy(&output.stderr).trim(),
                String::from_utf8_lossy(&output.stdout).trim(),
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts a command inside; it is killed when the handle is dropped.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, command: &mut Command) -> Result<Running> {
        let program = command.get_program().to_string_lossy().into_owned();
        let child = self
            .namespace
            .spawn(command)
            .with_context(|| format!("{program} in {}", self.namespace()))?;
        Ok(Running { program, child })
    }

    /// Gives `lines` to `ip -batch`.
    ///
    /// # Errors
    /// When one of them fails.
    pub fn ip<S: AsRef<str>>(&self, lines: impl IntoIterator<Item = S>) -> Result<()> {
        let mut batch = String::new();
        for line in lines {
            writeln!(batch, "{}", line.as_ref())?;
        }
        self.command_with_input("ip", &["-batch", "-"], &batch)
            .with_context(|| format!("ip batch:\n{batch}"))?;
        Ok(())
    }

    /// Makes it a translator: what leaves by `outside` gets its address there, and only answers come in.
    ///
    /// # Errors
    /// When nft refuses the rules.
    pub fn masquerade(&self, outside: &str) -> Result<()> {
        self.nft(&format!(
            "table ip translator {{
                chain postrouting {{
                    type nat hook postrouting priority srcnat;
                    oifname {outside} masquerade
                }}
                chain forward {{
                    type filter hook forward priority filter; policy drop;
                    iifname != {outside} accept
                    ct state established,related accept
                }}
            }}"
        ))
    }

    /// Gives `script` to `nft`, which takes it whole or not at all.
    ///
    /// # Errors
    /// When nft refuses it.
    pub fn nft(&self, script: &str) -> Result<()> {
        self.command_with_input("nft", &["-f", "-"], script)
            .with_context(|| format!("nft script:\n{script}"))?;
        Ok(())
    }

    /// Sets `/proc/sys/net/KEY` of the namespace, such as `ipv4/ip_forward`.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/net/{key}");
        self.run(|| fs::write(&path, value))?
            .with_context(|| format!("writing {value} to {path} in {}", self.namespace()))
    }
}

/// A process in a [`Node`]: killed, and waited for, when dropped.
#[derive(Debug)]
pub struct Running {
    program: String,
    child: Child,
}

impl Running {
    pub(crate) const fn adopt(program: String, child: Child) -> Self {
        Self { program, child }
    }

    /// The process.
    pub const fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn is_alive(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Kills it with SIGKILL and waits for its end.
    ///
    /// # Errors
    /// When it had ended before.
    pub fn kill(mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} had ended before it was killed: {status}", self.program);
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end with SIGTERM and waits for its end.
    ///
    /// # Errors
    /// When it does not end in the usual time; it is killed then.
    pub fn terminate(mut self) -> Result<ExitStatus> {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM)?;
        self.wait()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end in the usual time; it is killed then.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        self.wait_within(stretched(Duration::from_secs(20)))
    }

    /// Waits for its end, at most for `limit`.
    ///
    /// # Errors
    /// When it does not end in that time; it is killed then.
    pub fn wait_within(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.program);
        eventually_within(limit, &what, || {
            let status = self.child.try_wait()?;
            holds(status.is_some(), || "it runs".to_owned())?;
            Ok(status.expect("just checked"))
        })
    }

    /// Everything that it writes to its standard output until it closes it.
    ///
    /// # Errors
    /// When its output was not a pipe, or is no text.
    pub fn read_output(&mut self) -> Result<String> {
        let mut text = String::new();
        self.child
            .stdout
            .take()
            .with_context(|| format!("output of {} is no pipe", self.program))?
            .read_to_string(&mut text)?;
        Ok(text)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
