//! Named network namespaces, laid out as iproute2 does it, so that `ip netns` sees and enters ours.
//!
//! A namespace is entered only on a thread of its own that ends with the work, so that no thread of a pool is
//! ever left in a foreign namespace. Sockets opened inside belong to the namespace for good and may be used from
//! any thread afterwards: open them with [`run`], return them, and go on outside.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::panic;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::statfs;

/// Where named namespaces are mounted.
pub const DIRECTORY: &str = "/run/netns";

/// Magic number of the file system that namespace handles live on (`NSFS_MAGIC` in `linux/magic.h`).
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// Why a namespace could not be made, entered or removed.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// A namespace of this name exists.
    #[error("namespace {name} already exists")]
    Exists {
        /// Its name.
        name: String,
    },
    /// The text is empty, too long, a path, or `.` or `..`.
    #[error("{name:?} is no name for a namespace")]
    InvalidName {
        /// The text.
        name: String,
    },
    /// No namespace has this name.
    #[error("namespace {name} does not exist")]
    NotFound {
        /// The name.
        name: String,
    },
    /// The kernel refused a step.
    #[error("namespace {name}: {step} failed")]
    System {
        /// The namespace's name.
        name: String,
        /// What was tried.
        step: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Identity of a namespace: another namespace that later takes the same name has another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespaceId {
    device: u64,
    inode: u64,
}

impl NamespaceId {
    /// Inode number, as `/proc/PID/ns/net` has it.
    pub const fn inode(self) -> u64 {
        self.inode
    }
}

/// An open namespace. It stays usable, and alive, even when its name is removed.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// Opens the namespace of that name.
    ///
    /// # Errors
    /// [`NamespaceError::NotFound`] also if a plain file, not mounted, stands at its place.
    pub fn open(name: &str) -> Result<Self, NamespaceError> {
        let path = path_of(name)?;
        if !is_mounted(&path) {
            return Err(NamespaceError::NotFound {
                name: name.to_owned(),
            });
        }
        let file = File::open(&path).map_err(|e| system(name, "opening it", e))?;
        Ok(Self {
            name: name.to_owned(),
            file,
        })
    }

    /// The namespace that the calling thread is in.
    ///
    /// # Errors
    /// [`NamespaceError::System`] if `/proc` is not mounted.
    pub fn current() -> Result<Self, NamespaceError> {
        let name = "of this thread";
        let file = File::open("/proc/thread-self/ns/net").map_err(|e| system(name, "opening it", e))?;
        Ok(Self {
            name: name.to_owned(),
            file,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its identity.
    ///
    /// # Errors
    /// [`NamespaceError::System`] if the kernel does not tell.
    pub fn id(&self) -> Result<NamespaceId, NamespaceError> {
        let metadata = self
            .file
            .metadata()
            .map_err(|e| system(&self.name, "reading its identity", e))?;
        Ok(NamespaceId {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }

    /// Runs `work` in the namespace, on a thread made for it, and waits for its result. A panic of `work` continues
    /// in the caller.
    ///
    /// # Errors
    /// [`NamespaceError::System`] if the thread cannot be made or cannot enter.
    pub fn run<T, F>(&self, work: F) -> Result<T, NamespaceError>
    where
        T: Send,
        F: FnOnce() -> T + Send,
    {
        on_own_thread(&self.name, || {
            setns(&self.file, CloneFlags::CLONE_NEWNET)
                .map_err(|e| system(&self.name, "entering it", e.into()))?;
            Ok(work())
        })
    }

    /// Starts `command` in the namespace. Everything else of the process is inherited as usual; in particular,
    /// `/sys` is not remounted.
    ///
    /// # Errors
    /// [`NamespaceError::System`] if entering or starting fails.
    pub fn spawn(&self, command: &mut Command) -> Result<Child, NamespaceError> {
        self.run(|| command.spawn())?
            .map_err(|e| system(&self.name, "starting a command in it", e))
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Makes a namespace.
///
/// # Errors
/// [`NamespaceError::Exists`] if there is one of that name.
pub fn create(name: &str) -> Result<(), NamespaceError> {
    let path = path_of(name)?;
    let _lock = prepare_directory().map_err(|e| system(name, "preparing /run/netns", e))?;
    if is_mounted(&path) {
        return Err(NamespaceError::Exists {
            name: name.to_owned(),
        });
    }
    // A plain file left by an interrupted creation is taken over.
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o444)
        .open(&path)
        .map_err(|e| system(name, "making its mount point", e))?;
    on_own_thread(name, || {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|e| system(name, "making it", e.into()))?;
        mount(
            Some("/proc/thread-self/ns/net"),
            &path,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .map_err(|e| system(name, "mounting it", e.into()))
    })
    .inspect_err(|_| {
        let _ = fs::remove_file(&path);
    })
}

/// Removes the name; the namespace itself goes when no process, socket or descriptor holds it any more. One that
/// does not exist is removed already.
///
/// # Errors
/// [`NamespaceError::System`] if the kernel refuses.
pub fn remove(name: &str) -> Result<(), NamespaceError> {
    let path = path_of(name)?;
    let _lock = prepare_directory().map_err(|e| system(name, "preparing /run/netns", e))?;
    loop {
        // Mounted several times over by an interrupted earlier run: each layer goes.
        match umount2(&path, MntFlags::MNT_DETACH) {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => break,
            Err(error) => return Err(system(name, "unmounting it", error.into())),
        }
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(system(name, "removing its mount point", error))
        }
        _ => Ok(()),
    }
}

/// Names of all namespaces, in order. Plain files in the directory are none.
///
/// # Errors
/// [`NamespaceError::System`] if the directory cannot be read.
pub fn list() -> Result<Vec<String>, NamespaceError> {
    let failed = |e| system("list", "reading /run/netns", e);
    let entries = match fs::read_dir(DIRECTORY) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if let Ok(name) = entry.file_name().into_string()
            && is_mounted(&entry.path())
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Whether a namespace of that name exists.
pub fn exists(name: &str) -> bool {
    path_of(name).is_ok_and(|path| is_mounted(&path))
}

/// Path of the namespace of that name, whether it exists or not.
///
/// # Errors
/// [`NamespaceError::InvalidName`].
pub fn path_of(name: &str) -> Result<PathBuf, NamespaceError> {
    let valid =
        !name.is_empty() && name.len() <= 255 && !name.contains(['/', '\0']) && name != "." && name != "..";
    if valid {
        Ok(Path::new(DIRECTORY).join(name))
    } else {
        Err(NamespaceError::InvalidName {
            name: name.to_owned(),
        })
    }
}

/// Runs `work` in the namespace of that name; see [`Namespace::run`].
///
/// # Errors
/// Those of [`Namespace::open`] and [`Namespace::run`].
pub fn run<T, F>(name: &str, work: F) -> Result<T, NamespaceError>
where
    T: Send,
    F: FnOnce() -> T + Send,
{
    Namespace::open(name)?.run(work)
}

/// Starts `command` in the namespace of that name; see [`Namespace::spawn`].
///
/// # Errors
/// Those of [`Namespace::open`] and [`Namespace::spawn`].
pub fn spawn(name: &str, command: &mut Command) -> Result<Child, NamespaceError> {
    Namespace::open(name)?.spawn(command)
}

fn is_mounted(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type().0 == NSFS_MAGIC)
}

// Makes the directory a shared mount point as iproute2 does, so that names made here show up in other mount
// namespaces, and locks it against others doing the same.
pub(crate) fn prepare_directory() -> io::Result<Flock<File>> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(DIRECTORY)?;
    let lock =
        Flock::lock(File::open(DIRECTORY)?, FlockArg::LockExclusive).map_err(|(_, e)| io::Error::from(e))?;
    let share = || {
        mount(
            None::<&str>,
            DIRECTORY,
            None::<&str>,
            MsFlags::MS_SHARED | MsFlags::MS_REC,
            None::<&str>,
        )
    };
    match share() {
        Ok(()) => {}
        Err(Errno::EINVAL) => {
            // Not a mount point yet.
            mount(
                Some(DIRECTORY),
                DIRECTORY,
                None::<&str>,
                MsFlags::MS_BIND | MsFlags::MS_REC,
                None::<&str>,
            )?;
            share()?;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(lock)
}

fn on_own_thread<T, F>(name: &str, work: F) -> Result<T, NamespaceError>
where
    T: Send,
    F: FnOnce() -> Result<T, NamespaceError> + Send,
{
    thread::scope(|scope| {
        let worker = thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, work)
            .map_err(|e| system(name, "making a thread for it", e))?;
        worker
            .join()
            .unwrap_or_else(|payload| panic::resume_unwind(payload))
    })
}

fn system(name: &str, step: &'static str, source: io::Error) -> NamespaceError {
    NamespaceError::System {
        name: name.to_owned(),
        step,
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::process::Stdio;

    use super::*;

    struct Temporary(String);

    impl Temporary {
        fn new(tag: &str) -> Self {
            let name = format!("istnl-{tag}-{}", std::process::id());
            create(&name).unwrap();
            Self(name)
        }
    }

    impl Drop for Temporary {
        fn drop(&mut self) {
            remove(&self.0).unwrap();
        }
    }

    #[test]
    fn is_seen_by_iproute2_and_gone_after_removal() {
        let namespace = Temporary::new("seen");
        let name = namespace.0.clone();
        assert!(matches!(create(&name), Err(NamespaceError::Exists { .. })));
        let seen = Command::new("ip").args(["netns", "list"]).output().unwrap();
        assert!(String::from_utf8(seen.stdout).unwrap().contains(&name));
        assert!(list().unwrap().contains(&name));
        drop(namespace);
        assert!(!exists(&name));
        assert!(!list().unwrap().contains(&name));
        remove(&name).unwrap();
        assert!(matches!(
            Namespace::open(&name),
            Err(NamespaceError::NotFound { .. })
        ));
    }

    #[test]
    fn work_runs_inside_and_the_caller_stays_outside() {
        let namespace = Temporary::new("run");
        let outside = Namespace::current().unwrap().id().unwrap();
        let inside = run(&namespace.0, || Namespace::current().unwrap().id().unwrap()).unwrap();
        assert_ne!(inside, outside);
        assert_eq!(Namespace::open(&namespace.0).unwrap().id().unwrap(), inside);
        assert_eq!(Namespace::current().unwrap().id().unwrap(), outside);
        // Loopback is down in a new namespace: nothing can be reached there.
        let refused = run(&namespace.0, || {
            UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", "127.0.0.1:9")
        });
        assert!(refused.unwrap().is_err());
    }

    #[test]
    fn command_starts_inside() {
        let namespace = Temporary::new("spawn");
        let mut command = Command::new("readlink");
        command.arg("/proc/self/ns/net").stdout(Stdio::piped());
        let output = spawn(&namespace.0, &mut command)
            .unwrap()
            .wait_with_output()
            .unwrap();
        let inode = Namespace::open(&namespace.0).unwrap().id().unwrap().inode;
        assert_eq!(
            String::from_utf8(output.stdout).unwrap().trim(),
            format!("net:[{inode}]")
        );
    }

    #[test]
    fn leftover_mount_point_is_taken_over() {
        let name = format!("istnl-left-{}", std::process::id());
        drop(prepare_directory().unwrap());
        fs::write(path_of(&name).unwrap(), b"").unwrap();
        assert!(!exists(&name));
        create(&name).unwrap();
        assert!(exists(&name));
        remove(&name).unwrap();
    }

    #[test]
    fn refuses_names_that_are_paths() {
        for name in ["", ".", "..", "a/b", "a\0b"] {
            assert!(
                matches!(create(name), Err(NamespaceError::InvalidName { .. })),
                "{name:?}"
            );
        }
    }

    #[test]
    fn panic_inside_reaches_the_caller() {
        let namespace = Temporary::new("panic");
        let caught = panic::catch_unwind(|| run(&namespace.0, || panic!("inside")));
        assert!(caught.is_err());
    }
}
