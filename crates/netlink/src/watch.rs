//! Learns from the kernel that something in a namespace changed, or that a namespace came or went.
//!
//! An announcement says only *where* to look again, never what changed. A namespace is announced once, then it is
//! silent until a [`Hold`] on it ends: whoever looks again takes a hold, drains what has been announced before the
//! last look, and so does not take its own changes for somebody else's.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use isthmus_fabric::name::HOST_NAMESPACE;
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::socket::{MsgFlags, recv};

use crate::namespace::{self, Namespace, NamespaceError, NamespaceId};

/// Groups of the routing subsystem (`RTNLGRP_*` in `linux/rtnetlink.h`): links; IPv4 addresses, routes, rules, settings of
/// devices; IPv6 addresses, routes, settings of devices.
const ROUTE_GROUPS: [u32; 8] = [1, 5, 7, 8, 24, 9, 11, 25];

/// Group of nftables (`NFNLGRP_NFTABLES` in `linux/netfilter/nfnetlink.h`).
const NFTABLES_GROUP: u32 = 7;

const STOP: u64 = 0;
const DIRECTORY: u64 = 1;
const FIRST: u64 = 2;

/// What to look at again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Namespaces came or went.
    Directory,
    /// Something in this namespace changed.
    Namespace(String),
}

/// Why a namespace cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The namespace cannot be entered.
    #[error("following a namespace failed")]
    Namespace(#[from] NamespaceError),
    /// A socket or the poll set was refused.
    #[error("following namespace {namespace} failed")]
    System {
        /// The namespace.
        namespace: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Follows namespaces on a thread of its own, which sleeps while nothing happens. Dropping it ends the thread.
pub struct Watcher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    home: Namespace,
    epoll: Epoll,
    stop: EventFd,
    inotify: Inotify,
    followed: Mutex<Followed>,
}

#[derive(Default)]
struct Followed {
    by_name: BTreeMap<String, Entry>,
    names: BTreeMap<u64, String>,
    last: u64,
}

struct Entry {
    id: NamespaceId,
    sockets: [(u64, Socket); 2],
    held: usize,
}

impl Watcher {
    /// Starts following the directory of namespaces. The namespace that the caller is in is the host's own.
    /// `announce` is called on the watcher's thread and must not block.
    ///
    /// # Errors
    /// Those of making the poll set, the directory or the thread.
    pub fn start(announce: impl Fn(Change) + Send + 'static) -> io::Result<Self> {
        namespace::prepare_directory()?;
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        inotify.add_watch(
            namespace::DIRECTORY,
            AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE,
        )?;
        let shared = Arc::new(Shared {
            home: Namespace::current().map_err(io::Error::other)?,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            stop: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
            inotify,
            followed: Mutex::new(Followed::default()),
        });
        let read = EpollFlags::EPOLLIN;
        shared.epoll.add(&shared.stop, EpollEvent::new(read, STOP))?;
        shared
            .epoll
            .add(&shared.inotify, EpollEvent::new(read, DIRECTORY))?;
        let worker = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("netns-watch".to_owned())
            .spawn(move || worker.run(&announce))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Silences `namespaces` until the hold is dropped.
    pub fn hold(&self, namespaces: impl IntoIterator<Item = String>) -> Hold {
        let hold = Hold {
            shared: Arc::clone(&self.shared),
            namespaces: namespaces.into_iter().collect(),
        };
        let mut followed = self.shared.lock();
        for name in &hold.namespaces {
            if let Some(entry) = followed.by_name.get_mut(name) {
                entry.held += 1;
                self.shared.arm(entry, false);
            }
        }
        drop(followed);
        hold
    }

    /// Stops following a namespace. Until then it lives on, even without a name.
    pub fn forget(&self, namespace: &str) {
        self.shared.forget(&mut self.shared.lock(), namespace);
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // A full counter would do as well: the thread wakes up either way.
        let _ = self.shared.stop.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Silence over some namespaces. What is announced meanwhile, and not drained, is announced when it ends.
pub struct Hold {
    shared: Arc<Shared>,
    namespaces: Vec<String>,
}

impl Hold {
    /// Discards what the kernel announced until now, and begins to follow those namespaces that exist since. Those
    /// that are gone are forgotten.
    ///
    /// # Errors
    /// [`WatchError`] if one exists and cannot be followed; the others are done all the same.
    pub fn drain(&self) -> Result<(), WatchError> {
        let mut result = Ok(());
        for name in &self.namespaces {
            if let Err(error) = self.shared.refresh(name) {
                result = Err(error);
            }
        }
        result
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut followed = self.shared.lock();
        for name in &self.namespaces {
            if let Some(entry) = followed.by_name.get_mut(name) {
                entry.held = entry.held.saturating_sub(1);
                if entry.held == 0 {
                    self.shared.arm(entry, true);
                }
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Followed> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, announce: &impl Fn(Change)) {
        let mut events = [EpollEvent::empty(); 32];
        loop {
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                Err(error) => {
                    tracing::error!(%error, "watching namespaces ended");
                    return;
                }
            };
            for event in &events[..count] {
                match event.data() {
                    STOP => return,
                    DIRECTORY => {
                        // Which ones came or went is for the reader of the directory to find out.
                        while self.inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
                        announce(Change::Directory);
                    }
                    token => {
                        let name = self.lock().names.get(&token).cloned();
                        if let Some(name) = name {
                            announce(Change::Namespace(name));
                        }
                    }
                }
            }
        }
    }

    // One announcement only: the socket is disarmed by the event itself.
    fn arm(&self, entry: &Entry, armed: bool) {
        let flags = if armed {
            EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT
        } else {
            EpollFlags::empty()
        };
        for (token, socket) in &entry.sockets {
            let mut event = EpollEvent::new(flags, *token);
            if let Err(error) = self.epoll.modify(borrow(socket), &mut event) {
                tracing::warn!(%error, "a namespace is no longer watched");
            }
        }
    }

    fn forget(&self, followed: &mut Followed, name: &str) -> usize {
        let Some(entry) = followed.by_name.remove(name) else {
            return 0;
        };
        for (token, socket) in &entry.sockets {
            followed.names.remove(token);
            let _ = self.epoll.delete(borrow(socket));
        }
        entry.held
    }

    fn refresh(&self, name: &str) -> Result<(), WatchError> {
        let opened;
        let namespace = if name == HOST_NAMESPACE {
            &self.home
        } else {
            match Namespace::open(name) {
                Ok(found) => opened = found,
                Err(NamespaceError::NotFound { .. }) => {
                    self.forget(&mut self.lock(), name);
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
            &opened
        };
        let id = namespace.id()?;
        let mut followed = self.lock();
        if let Some(entry) = followed.by_name.get(name)
            && entry.id == id
        {
            for (_, socket) in &entry.sockets {
                drain(socket);
            }
            return Ok(());
        }
        // Holds on the name pass on to the namespace that took it over; this very hold counts if none was followed.
        let held = self.forget(&mut followed, name).max(1);
        let system = |source| WatchError::System {
            namespace: name.to_owned(),
            source,
        };
        let sockets = namespace.run(open_sockets)?.map_err(system)?;
        let mut entry = Entry {
            id,
            sockets: sockets.map(|socket| {
                followed.last = followed.last.max(FIRST) + 1;
                (followed.last, socket)
            }),
            held,
        };
        for (token, socket) in &mut entry.sockets {
            self.epoll
                .add(borrow(socket), EpollEvent::new(EpollFlags::empty(), *token))
                .map_err(|error| system(error.into()))?;
            followed.names.insert(*token, name.to_owned());
        }
        followed.by_name.insert(name.to_owned(), entry);
        Ok(())
    }
}

fn open_sockets() -> io::Result<[Socket; 2]> {
    Ok([
        open_socket(NETLINK_ROUTE, &ROUTE_GROUPS)?,
        open_socket(NETLINK_NETFILTER, &[NFTABLES_GROUP])?,
    ])
}

fn open_socket(protocol: isize, groups: &[u32]) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    for group in groups {
        socket.add_membership(*group)?;
    }
    socket.set_non_blocking(true)?;
    Ok(socket)
}

fn drain(socket: &Socket) {
    let mut buffer = [0; 512];
    loop {
        // An overrun is an announcement too, and drained with the others; what does not fit is cut off unread.
        match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(_) | Err(Errno::ENOBUFS | Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

fn borrow(socket: &Socket) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is open for as long as `socket` is borrowed, and is not -1.
    unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    use super::*;

    struct Temporary(String);

    impl Temporary {
        fn new(tag: &str) -> Self {
            let name = format!("istwt-{tag}-{}", std::process::id());
            namespace::create(&name).unwrap();
            Self(name)
        }

        fn run(&self, program: &str, arguments: &[&str]) {
            let mut command = Command::new(program);
            command.args(arguments);
            assert!(
                namespace::spawn(&self.0, &mut command)
                    .unwrap()
                    .wait()
                    .unwrap()
                    .success()
            );
        }
    }

    impl Drop for Temporary {
        fn drop(&mut self) {
            namespace::remove(&self.0).unwrap();
        }
    }

    fn follow(name: &str) -> (Watcher, Receiver<Change>) {
        let (sender, receiver) = channel();
        let watcher = Watcher::start(move |change| {
            let _ = sender.send(change);
        })
        .unwrap();
        let hold = watcher.hold([name.to_owned()]);
        hold.drain().unwrap();
        drop(hold);
        (watcher, receiver)
    }

    fn expect(receiver: &Receiver<Change>, wanted: &Change) {
        loop {
            // Other tests make and remove namespaces too.
            let change = receiver.recv_timeout(Duration::from_secs(10)).unwrap();
            if change == *wanted {
                return;
            }
        }
    }

    fn nothing_from(receiver: &Receiver<Change>, name: &str) {
        assert!(
            receiver
                .try_iter()
                .all(|change| change != Change::Namespace(name.to_owned()))
        );
    }

    #[test]
    fn announces_links_and_tables_once_until_looked_at() {
        let namespace = Temporary::new("once");
        let (watcher, receiver) = follow(&namespace.0);
        let change = Change::Namespace(namespace.0.clone());
        for command in [["link", "set", "lo", "up"], ["link", "set", "lo", "down"]] {
            namespace.run("ip", &command);
            expect(&receiver, &change);
            let hold = watcher.hold([namespace.0.clone()]);
            hold.drain().unwrap();
        }
        namespace.run("nft", &["add", "table", "inet", "x"]);
        expect(&receiver, &change);
    }

    #[test]
    fn own_changes_are_drained_and_later_ones_are_not() {
        let namespace = Temporary::new("own");
        let (watcher, receiver) = follow(&namespace.0);
        let hold = watcher.hold([namespace.0.clone()]);
        namespace.run("ip", &["link", "set", "lo", "up"]);
        hold.drain().unwrap();
        namespace.run("nft", &["add", "table", "inet", "x"]);
        nothing_from(&receiver, &namespace.0);
        drop(hold);
        expect(&receiver, &Change::Namespace(namespace.0.clone()));
    }

    #[test]
    fn namespaces_that_come_and_go_are_announced() {
        let namespace = Temporary::new("gone");
        let (watcher, receiver) = follow(&namespace.0);
        drop(namespace);
        expect(&receiver, &Change::Directory);
        drop(watcher);
    }
}
