//! Pid files whose lock tells whether the process lives.
//!
//! The file is locked (an open file description lock) by the process for as long as it lives, however it ends; the
//! number in it is believed only while it is locked, so a reused process id is never mistaken for ours. Asking for
//! the holder takes no lock, so it disturbs nobody.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// A pid file held by this process.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    _file: File,
}

/// The process that holds a pid file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process id; none if it has just started and not written it yet.
    pub pid: Option<i32>,
    /// What it noted beside its id.
    pub note: String,
}

/// Why a pid file could not be taken or read.
#[derive(Debug, thiserror::Error)]
pub enum PidFileError {
    /// The file could not be made, read or locked.
    #[error("{}: {step} failed", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried.
        step: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another live process holds it.
    #[error("{} is held by {}", path.display(), describe(holder))]
    Held {
        /// The file.
        path: PathBuf,
        /// The process.
        holder: Holder,
    },
}

impl PidFile {
    /// Takes the file for this process and writes the process id and `note` (one line) into it.
    ///
    /// # Errors
    /// [`PidFileError::Held`] if another process lives that took it.
    pub fn take(path: &Path, note: &str) -> Result<Self, PidFileError> {
        loop {
            let mut file = open(path)?;
            if !try_lock(&file).map_err(|e| failed(path, "locking it", e))? {
                return Err(PidFileError::Held {
                    path: path.to_owned(),
                    holder: read(&mut file, path)?,
                });
            }
            // Its last holder may have removed the file between our opening and locking it.
            let ours = file
                .metadata()
                .map_err(|e| failed(path, "reading its identity", e))?;
            match fs::metadata(path) {
                Ok(there) if there.ino() == ours.ino() && there.dev() == ours.dev() => {}
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(path, "reading its identity", error)),
            }
            file.set_len(0)
                .and_then(|()| file.seek(SeekFrom::Start(0)))
                .and_then(|_| writeln!(file, "{}\n{note}", std::process::id()))
                .map_err(|e| failed(path, "writing it", e))?;
            return Ok(Self {
                path: path.to_owned(),
                _file: file,
            });
        }
    }

    /// The live process that holds `path`, if any.
    ///
    /// # Errors
    /// [`PidFileError::File`].
    pub fn holder(path: &Path) -> Result<Option<Holder>, PidFileError> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(failed(path, "opening it", source)),
        };
        if is_locked(&file).map_err(|e| failed(path, "asking for its lock", e))? {
            read(&mut file, path).map(Some)
        } else {
            Ok(None)
        }
    }

    /// What the last holder, dead or alive, noted in `path`.
    pub fn last_note(path: &Path) -> Option<String> {
        let mut file = File::open(path).ok()?;
        read(&mut file, path).ok().map(|holder| holder.note)
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Removed while still locked, so that no other process's file is meant.
        let _ = fs::remove_file(&self.path);
    }
}

fn try_lock(file: &File) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&whole_file())) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn is_locked(file: &File) -> io::Result<bool> {
    let mut lock = whole_file();
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

fn open(path: &Path) -> Result<File, PidFileError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|e| failed(path, "making its directory", e))?;
    }
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|e| failed(path, "opening it", e))
}

fn read(file: &mut File, path: &Path) -> Result<Holder, PidFileError> {
    let mut text = String::new();
    file.read_to_string(&mut text)
        .map_err(|e| failed(path, "reading it", e))?;
    let mut lines = text.lines();
    Ok(Holder {
        pid: lines.next().and_then(|line| line.parse().ok()),
        note: lines.next().unwrap_or_default().to_owned(),
    })
}

fn failed(path: &Path, step: &'static str, source: io::Error) -> PidFileError {
    PidFileError::File {
        path: path.to_owned(),
        step,
        source,
    }
}

fn describe(holder: &Holder) -> String {
    match holder.pid {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_file_names_its_holder_and_a_dropped_one_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("server.pid");
        assert_eq!(PidFile::holder(&path).unwrap(), None);
        let held = PidFile::take(&path, "note").unwrap();
        let holder = PidFile::holder(&path).unwrap().unwrap();
        assert_eq!(holder.pid, i32::try_from(std::process::id()).ok());
        assert_eq!(holder.note, "note");
        assert!(matches!(PidFile::take(&path, ""), Err(PidFileError::Held { .. })));
        drop(held);
        assert!(!path.exists());
        PidFile::take(&path, "").unwrap();
    }

    #[test]
    fn a_file_left_by_a_dead_process_is_taken_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.pid");
        fs::write(&path, "1\nold\n").unwrap();
        assert_eq!(PidFile::holder(&path).unwrap(), None);
        assert_eq!(PidFile::last_note(&path).as_deref(), Some("old"));
        let _held = PidFile::take(&path, "new").unwrap();
        assert_eq!(PidFile::holder(&path).unwrap().unwrap().note, "new");
    }
}
