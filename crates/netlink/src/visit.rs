//! A thread that goes from namespace to namespace.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::panic;
use std::thread;

use isthmus_fabric::name::HOST_NAMESPACE;
use nix::sched::{CloneFlags, setns};

use crate::namespace::{Namespace, NamespaceError};
use crate::socket::RouteSocket;

/// Goes from namespace to namespace on a thread of its own. Made by [`visit()`] alone; what it keeps open goes when
/// the work ends.
pub struct Visitor {
    home: Namespace,
    open: BTreeMap<String, Namespace>,
    sockets: BTreeMap<String, RouteSocket>,
    // Where the thread is; none after a failure to enter.
    inside: Option<String>,
}

/// Runs `work` on a thread made for it, and waits for its result. A panic of `work` continues in the caller.
///
/// # Errors
/// Those of the operating system when it cannot make the thread or tell the namespace it starts in.
pub fn visit<T, F>(work: F) -> io::Result<T>
where
    T: Send,
    F: FnOnce(&mut Visitor) -> T + Send,
{
    thread::scope(|scope| {
        let worker = thread::Builder::new()
            .name("netns-visit".to_owned())
            .spawn_scoped(scope, || {
                let home = Namespace::current().map_err(io::Error::other)?;
                let mut visitor = Visitor {
                    home,
                    open: BTreeMap::new(),
                    sockets: BTreeMap::new(),
                    inside: Some(HOST_NAMESPACE.to_owned()),
                };
                Ok(work(&mut visitor))
            })?;
        worker
            .join()
            .unwrap_or_else(|payload| panic::resume_unwind(payload))
    })
}

impl Visitor {
    /// Moves the thread into a namespace; [`HOST_NAMESPACE`] is where the process runs.
    ///
    /// # Errors
    /// Those of [`Namespace::open`], and the kernel's refusal to enter.
    pub fn enter(&mut self, name: &str) -> Result<(), NamespaceError> {
        if self.inside.as_deref() == Some(name) {
            return Ok(());
        }
        self.inside = None;
        if name != HOST_NAMESPACE && !self.open.contains_key(name) {
            self.open.insert(name.to_owned(), Namespace::open(name)?);
        }
        let namespace = self.open.get(name).unwrap_or(&self.home);
        setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|error| NamespaceError::System {
            name: name.to_owned(),
            step: "entering it",
            source: error.into(),
        })?;
        self.inside = Some(name.to_owned());
        Ok(())
    }

    /// Forgets what is kept open of a namespace, because another may have taken its name.
    pub(crate) fn forget(&mut self, name: &str) {
        self.open.remove(name);
        self.sockets.remove(name);
        if self.inside.as_deref() == Some(name) {
            self.inside = None;
        }
    }

    /// Enters a namespace and hands out its socket.
    pub(crate) fn routes(&mut self, name: &str) -> io::Result<&mut RouteSocket> {
        self.enter(name).map_err(io::Error::other)?;
        if !self.sockets.contains_key(name) {
            self.sockets.insert(name.to_owned(), RouteSocket::open()?);
        }
        self.sockets
            .get_mut(name)
            .ok_or_else(|| io::Error::other("the socket is gone"))
    }

    /// Descriptor of a namespace, valid until it is forgotten.
    pub(crate) fn descriptor(&mut self, name: &str) -> Result<RawFd, NamespaceError> {
        use std::os::fd::AsFd;
        if name != HOST_NAMESPACE && !self.open.contains_key(name) {
            self.open.insert(name.to_owned(), Namespace::open(name)?);
        }
        let namespace = self.open.get(name).unwrap_or(&self.home);
        Ok(namespace.as_fd().as_raw_fd())
    }
}
