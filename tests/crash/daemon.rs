//! The built daemon in a folder of its own, that can be killed and started again on the same store. Knows
//! nothing of what is sent through it.

use std::fs::{self, File, OpenOptions};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// The longest wait for anything. Far above what is usual, so that a busy machine fails no test.
pub const BOUND: Duration = Duration::from_secs(60);
/// Between two looks at something that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Asks `found` again and again until it has something; fails the test after [`BOUND`], naming `what`.
pub fn eventually<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(started.elapsed() < BOUND, "in vain: {what}");
        thread::sleep(LOOK_EVERY);
    }
}

/// A folder with configuration, sockets, store and log; what outlives a daemon.
#[derive(Debug)]
pub struct Site {
    folder: TempDir,
    endpoints: fn(SocketAddr) -> String,
    receiver: SocketAddr,
    runs: u32,
}

impl Site {
    /// A new folder. `endpoints` gives the `[[endpoint]]` tables for a receiver's address; each request says
    /// in `x-run` by which run of the daemon it was made.
    pub fn new(endpoints: fn(SocketAddr) -> String, receiver: SocketAddr) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("posthaste-crash-")
            .tempdir()
            .expect("a folder");
        let site = Self {
            folder,
            endpoints,
            receiver,
            runs: 0,
        };
        site.write_config();
        site
    }

    /// Other endpoints from the next start on.
    pub fn set_endpoints(&mut self, endpoints: fn(SocketAddr) -> String) {
        self.endpoints = endpoints;
        self.write_config();
    }

    fn write_config(&self) {
        let folder = self.folder.path().display();
        let text = format!(
            "[store]\npath = \"{folder}/store\"\nmin_free = \"0%\"\n\
             [ingest]\nsocket = \"{folder}/in\"\ngroup = \"\"\nspool = \"\"\n\
             [control]\nsocket = \"{folder}/control\"\ngroup = \"\"\n\
             [log]\nformat = \"text\"\nlevel = \"warn\"\n\
             [limits]\nin_flight = {IN_FLIGHT_MAX}\nshutdown = \"10s\"\n\
             [defaults]\nheaders = {{ X-Run = \"{}\" }}\n{}",
            self.runs,
            (self.endpoints)(self.receiver)
        );
        fs::write(self.config(), text).expect("the configuration can be written");
    }

    /// A file beside the store.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The store's folder.
    pub fn store(&self) -> PathBuf {
        self.file("store")
    }

    /// Where producers connect.
    pub fn ingest(&self) -> PathBuf {
        self.file("in")
    }

    fn config(&self) -> PathBuf {
        self.file("config.toml")
    }

    /// How often the daemon was started.
    pub fn runs(&self) -> u32 {
        self.runs
    }

    /// What every daemon has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    /// Starts the daemon; it may not be ready yet. `env` is added to its environment.
    pub fn spawn(&mut self, env: &[(&str, &str)]) -> Daemon {
        self.spawn_as(Command::new(env!("CARGO_BIN_EXE_posthaste")), &[], env)
    }

    /// Starts the daemon with further arguments.
    pub fn spawn_with(&mut self, more: &[&str]) -> Daemon {
        self.spawn_as(Command::new(env!("CARGO_BIN_EXE_posthaste")), more, &[])
    }

    /// Starts the daemon by `program`, whose arguments end with the daemon's: for wrappers.
    pub fn spawn_as(&mut self, mut program: Command, more: &[&str], env: &[(&str, &str)]) -> Daemon {
        self.runs += 1;
        self.write_config();
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.file("log"))
            .expect("a log");
        program
            .arg("run")
            .arg("--config")
            .arg(self.config())
            .args(more)
            .envs(env.iter().copied());
        program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = program.spawn().expect("the daemon can be run");
        Daemon {
            child,
            ingest: self.ingest(),
        }
    }

    /// Starts the daemon and waits until it takes events.
    pub fn start(&mut self) -> Daemon {
        let mut daemon = self.spawn(&[]);
        if let Err(status) = daemon.wait_until_ready() {
            panic!("the daemon did not start: {status}\n{}", self.log());
        }
        daemon
    }

    /// Runs a command of the command line.
    pub fn cli(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_posthaste"));
        command.args(words).arg("--config").arg(self.config());
        command.output().expect("the command can be run")
    }

    /// Runs a command that has to succeed; its JSON lines.
    pub fn json(&self, words: &[&str]) -> Vec<Value> {
        let output = self.cli(&[words, &["--json"]].concat());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {errors}\n{}", self.log());
        let lines = String::from_utf8(output.stdout).expect("JSON is UTF-8");
        lines
            .lines()
            .map(|line| serde_json::from_str(line).expect("a line of JSON"))
            .collect()
    }

    /// Waits until nothing is pending and nothing is under way.
    pub fn drained(&self) {
        let started = Instant::now();
        loop {
            let status = &self.json(&["status"])[0];
            let totals = &status["totals"];
            if totals["pending"] == 0 && totals["in_flight"] == 0 {
                return;
            }
            assert!(
                started.elapsed() < BOUND,
                "in vain: the queue is drained\n{status:#}\n{}",
                self.log()
            );
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Reads the whole store of a daemon that has stopped: nothing may be damaged or set aside.
    pub fn assert_sound(&self) {
        let report = &self.json(&["store", "check"])[0];
        assert_eq!(report["damaged"], 0, "{report}");
        assert_eq!(report["quarantined"], 0, "{report}");
    }
}

/// The last words of the daemons of a test that failed: their folder is about to go.
impl Drop for Site {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.log();
            let from = log.lines().count().saturating_sub(40);
            let last: Vec<_> = log.lines().skip(from).collect();
            eprintln!(
                "{} runs of the daemon; its log ends with\n{}",
                self.runs,
                last.join("\n")
            );
        }
    }
}

/// Requests under way at once.
pub const IN_FLIGHT_MAX: u32 = 64;

/// A daemon that runs; killed when it is dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    ingest: PathBuf,
}

impl Daemon {
    /// Waits until it takes events.
    ///
    /// # Errors
    /// How it ended, if it did before.
    pub fn wait_until_ready(&mut self) -> Result<(), ExitStatus> {
        let ingest = self.ingest.clone();
        eventually("the daemon starts", || match self.exited() {
            Some(status) => Some(Err(status)),
            None => UnixStream::connect(&ingest).ok().map(|_| Ok(())),
        })
    }

    /// How it ended, if it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be asked for")
    }

    /// Waits until it ends by itself; `why` says what for.
    pub fn wait(&mut self, why: &str) -> ExitStatus {
        eventually(why, || self.exited())
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }

    /// SIGTERM; it has to end well.
    pub fn stop(mut self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).expect("a child can be told");
        let status = self.wait("the daemon ends when it is told to");
        assert!(status.success(), "the daemon ended with {status}");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes an empty file; a daemon may be told to do something while it is there.
pub fn touch(file: &Path) {
    File::create(file).expect("a file can be made");
}

/// Copies a folder with everything in it.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder can be made");
    for entry in fs::read_dir(from).expect("a folder can be read") {
        let from = entry.expect("a folder can be read").path();
        let to = to.join(from.file_name().expect("an entry has a name"));
        if from.is_dir() {
            copy_folder(&from, &to);
        } else {
            fs::copy(from, to).expect("a file can be copied");
        }
    }
}
