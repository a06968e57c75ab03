//! A real daemon, this same program, with its store in a folder of its own; and how it is asked, killed and started
//! again. Knows the control API and files of /proc, and nothing of the daemon's inside.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::machine;
use crate::cli::client::Client;
use crate::control::types::status::Status;

/// How long the daemon may take to be ready, or to stop; past it something is wrong.
const STEP_BOUND: Duration = Duration::from_secs(120);

/// A folder that is removed at the end.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// A new one in `dir`.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn new(dir: &Path, name: &str) -> io::Result<Self> {
        let path = dir.join(format!("posthaste-bench-{}-{name}", std::process::id()));
        fs::create_dir(&path).map_err(|error| {
            io::Error::other(format!("{}: {error}; choose a folder with --dir", path.display()))
        })?;
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays behind is named after the bench, in the folder the user chose.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// One endpoint of the daemon's configuration, signed.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    /// Its name; it gets the events of type `NAME.event`.
    pub name: &'a str,
    /// Where it listens.
    pub address: SocketAddr,
    /// Which behaviour of the receiver.
    pub path: &'a str,
    /// Requests at once.
    pub connections: u16,
    /// A disabled one's events are parked.
    pub enabled: bool,
    /// More lines of its table.
    pub keys: &'a str,
}

impl Target<'_> {
    fn config(&self) -> String {
        let Self {
            name,
            address,
            path,
            connections,
            enabled,
            keys,
        } = self;
        format!(
            "\n[[endpoint]]\nname = \"{name}\"\nevents = [\"{name}.*\"]\nenabled = {enabled}\n\
             url = \"http://{address}{path}\"\nconcurrency = {connections}\ntimeout = \"2s\"\n\
             sign = [{{ scheme = \"standard\", secrets = [\"whsec_cG9zdGhhc3RlIGJlbmNoIHNlY3JldCAxMjM0\"] }}]\n{keys}"
        )
    }
}

/// A running daemon.
#[derive(Debug)]
pub struct Stage {
    folder: Folder,
    child: Child,
    /// More lines of `[store]`.
    store: &'static str,
}

impl Stage {
    /// Starts a daemon with an empty store.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn new(dir: &Path, name: &str, targets: &[Target<'_>]) -> io::Result<Self> {
        Self::with_store(dir, name, "", targets)
    }

    /// The same with `store` as more lines of its section.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn with_store(
        dir: &Path,
        name: &str,
        store: &'static str,
        targets: &[Target<'_>],
    ) -> io::Result<Self> {
        let folder = Folder::new(dir, name)?;
        configure(&folder, store, targets)?;
        let child = start(&folder)?;
        Ok(Self { folder, child, store })
    }

    /// Kills it with SIGKILL, puts other endpoints in force, starts it again; returns how long until it took events.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn crash(&mut self, targets: &[Target<'_>]) -> io::Result<Duration> {
        self.child.kill()?;
        self.child.wait()?;
        configure(&self.folder, self.store, targets)?;
        let started = Instant::now();
        self.child = start(&self.folder)?;
        Ok(started.elapsed())
    }

    /// The producers' socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("ingest.sock")
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Bytes of its store on disk.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        machine::disk_bytes(&self.folder.path().join("queue"))
    }

    /// How it is.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn status(&self) -> io::Result<Status> {
        let client = Client::new(self.folder.path().join("control.sock"));
        client.get("/v1/status").await.map_err(io::Error::other)
    }

    /// Waits until nothing is owed any more.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn drained(&self) -> io::Result<()> {
        self.down_to(0, Duration::from_millis(50)).await.map(drop)
    }

    /// Waits until at most `pending_max` deliveries are owed, and returns how many.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn down_to(&self, pending_max: u64, look_every: Duration) -> io::Result<u64> {
        loop {
            let pending = self.status().await?.totals.pending;
            if pending <= pending_max {
                return Ok(pending);
            }
            tokio::time::sleep(look_every).await;
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // It is a throw-away store: nothing is lost when it does not stop in time.
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

fn configure(folder: &Folder, store: &str, targets: &[Target<'_>]) -> io::Result<()> {
    let path = folder.path().display();
    let endpoints: String = targets.iter().map(Target::config).collect();
    fs::write(
        folder.path().join("config.toml"),
        format!(
            "[store]\npath = \"{path}/queue\"\nmin_free = \"0%\"\n{store}\n[log]\nlevel = \"warn\"\n\
             [ingest]\nsocket = \"{path}/ingest.sock\"\ngroup = \"\"\nspool = \"\"\n\
             [control]\nsocket = \"{path}/control.sock\"\ngroup = \"\"\n{endpoints}"
        ),
    )
}

/// Starts the daemon and waits until it takes connections; its log goes to a file in the folder.
fn start(folder: &Folder) -> io::Result<Child> {
    let log = folder.path().join("daemon.log");
    let mut child = Command::new(std::env::current_exe()?)
        .arg("run")
        .arg("--config")
        .arg(folder.path().join("config.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log)?)
        .spawn()?;
    let started = Instant::now();
    while UnixStream::connect(folder.path().join("ingest.sock")).is_err() {
        if child.try_wait()?.is_some() || started.elapsed() > STEP_BOUND {
            let log = fs::read_to_string(log).unwrap_or_default();
            return Err(io::Error::other(format!("the daemon did not start:\n{log}")));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(child)
}
