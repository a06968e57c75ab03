//! What every theme uses: a daemon in a folder of its own, producers, its control API and command line, and waiting
//! for conditions with a bound. Knows no feature.

pub mod browser;
pub mod client;
pub mod desks;
pub mod servers;

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use posthaste::domain::time::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use client::{Answer, At};

/// The longest wait for anything. Far above what is usual, so that a busy machine fails no test.
pub const BOUND: Duration = Duration::from_secs(30);

/// Runs the servers and the clients of all tests.
pub static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime can be had")
});

/// Asks `found` again and again until it has something; fails the test after [`BOUND`], naming `what`.
pub fn eventually<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(started.elapsed() < BOUND, "in vain: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// What time it is, as the daemon would say it.
pub fn now() -> Timestamp {
    Timestamp(0).plus(SystemTime::UNIX_EPOCH.elapsed().expect("it is after 1970"))
}

/// The text of an `[[endpoint]]`; `rest` are more lines of it.
pub fn endpoint(name: &str, url: &str, rest: &str) -> String {
    format!("[[endpoint]]\nname = \"{name}\"\nurl = \"{url}\"\n{rest}\n")
}

/// The text of a line with an event of this type and id.
pub fn event(kind: &str, id: &str) -> String {
    json!({ "type": kind, "id": id, "data": { "n": id } }).to_string()
}

/// How a daemon is to be started.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    store: String,
    store_path: Option<PathBuf>,
    ingest: String,
    control: String,
    rest: String,
    env: Vec<(String, String)>,
    wrapper: Vec<String>,
}

impl Setup {
    /// The endpoints, and whatever else has a table of its own.
    pub fn new(rest: &str) -> Self {
        Self {
            rest: rest.to_owned(),
            ..Self::default()
        }
    }

    /// More lines for `[store]`.
    pub fn store(mut self, lines: &str) -> Self {
        self.store = lines.to_owned();
        self
    }

    /// The store's folder, if it is not to be in the daemon's own.
    pub fn store_path(mut self, path: &Path) -> Self {
        self.store_path = Some(path.to_owned());
        self
    }

    /// More lines for `[ingest]`.
    pub fn ingest(mut self, lines: &str) -> Self {
        self.ingest = lines.to_owned();
        self
    }

    /// More lines for `[control]`.
    pub fn control(mut self, lines: &str) -> Self {
        self.control = lines.to_owned();
        self
    }

    /// A variable of the daemon's environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A program that runs the daemon: its arguments come first.
    pub fn wrapper(mut self, words: &[&str]) -> Self {
        self.wrapper = words.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Starts it in a new folder and waits until it takes events.
    pub fn start(self) -> Daemon {
        let mut daemon = self.stopped();
        daemon.spawn();
        daemon.wait_until_ready();
        daemon
    }

    /// A folder with the configuration, and no daemon running yet.
    pub fn stopped(self) -> Daemon {
        let folder = tempfile::Builder::new()
            .prefix("posthaste-it-")
            .tempdir()
            .expect("a folder");
        let daemon = Daemon {
            folder,
            setup: self,
            child: None,
        };
        daemon.write_config(&daemon.setup.rest);
        daemon
    }
}

/// A daemon in a folder of its own. Killed when it is dropped; its log is shown when the test fails.
pub struct Daemon {
    folder: TempDir,
    setup: Setup,
    child: Option<Child>,
}

/// What a program said and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// Standard output as JSON lines.
    pub fn lines(&self) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {self:?}"));
        self.out.lines().map(parse).collect()
    }

    /// Itself, having checked the exit code.
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

/// Runs a program to its end with `input` on its standard input.
pub fn run(command: &mut Command, input: &str) -> std::io::Result<Ran> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let input = input.to_owned();
    // A program that doesn't read its input may close it.
    let writer = thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output()?;
    writer.join().expect("the writer doesn't panic");
    Ok(Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

impl Daemon {
    /// Starts one with `rest` as its configuration beside folders and sockets.
    pub fn start(rest: &str) -> Self {
        Setup::new(rest).start()
    }

    /// A path in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Its ingest socket.
    pub fn ingest(&self) -> PathBuf {
        self.path("ingest.sock")
    }

    /// Its control socket.
    pub fn control(&self) -> PathBuf {
        self.path("control.sock")
    }

    /// `line` for a shell in its folder that finds the program, and the daemon's sockets by the environment.
    pub fn shell(&self, line: &str) -> Command {
        let program = Path::new(env!("CARGO_BIN_EXE_posthaste"));
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("sh");
        command
            .args(["-c", line])
            .current_dir(self.path(""))
            .env("PATH", format!("{}:{path}", program.parent().unwrap().display()))
            .env("POSTHASTE_SOCKET", self.control())
            .env("POSTHASTE_INGEST", self.ingest());
        command
    }

    /// What it has written to standard error, in all its lives.
    pub fn log(&self) -> String {
        fs::read(self.path("log"))
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }

    /// Waits until the log has `text`.
    pub fn logs(&self, text: &str) {
        eventually(&format!("{text:?} in the log"), || {
            self.log().contains(text).then_some(())
        });
    }

    /// Replaces what [`Setup::new`] was given; a running daemon learns of it by a reload.
    pub fn write_config(&self, rest: &str) {
        let folder = self.folder.path().display();
        let store_path = self
            .setup
            .store_path
            .clone()
            .unwrap_or_else(|| self.path("queue"));
        let mut text = format!(
            "[store]\npath = \"{}\"\n{}\n",
            store_path.display(),
            self.setup.store
        );
        if !self.setup.store.contains("min_free") {
            text.push_str("min_free = \"0%\"\n");
        }
        write!(
            text,
            "[ingest]\nsocket = \"{folder}/ingest.sock\"\n{}\n",
            self.setup.ingest
        )
        .unwrap();
        if !self.setup.ingest.contains("group") {
            text.push_str("group = \"\"\n");
        }
        if !self.setup.ingest.contains("spool") {
            text.push_str("spool = \"\"\n");
        }
        write!(
            text,
            "[control]\nsocket = \"{folder}/control.sock\"\ngroup = \"\"\n{}\n{rest}\n",
            self.setup.control
        )
        .unwrap();
        fs::write(self.path("config.toml"), text).expect("the configuration can be written");
    }

    /// The daemon as a command, with everything but its arguments.
    pub fn command(&self) -> Command {
        let program = env!("CARGO_BIN_EXE_posthaste");
        let mut command = match self.setup.wrapper.split_first() {
            Some((wrapper, arguments)) => {
                let mut command = Command::new(wrapper);
                command.args(arguments).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.envs(self.setup.env.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.folder.path());
        command
    }

    /// Starts it without waiting for anything.
    pub fn spawn(&mut self) {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .expect("a log");
        let mut command = self.command();
        command.arg("run").arg("--config").arg(self.path("config.toml"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().expect("the daemon can be started"));
    }

    /// Waits until somebody answers at the ingest socket.
    pub fn wait_until_ready(&mut self) {
        let socket = self.ingest();
        let child = self.child.as_mut().expect("it was started");
        eventually("the daemon gets ready", || {
            let ended = child.try_wait().expect("it is our child");
            assert!(ended.is_none(), "the daemon ended with {ended:?}");
            UnixStream::connect(&socket).ok()
        });
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("it runs"))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it is our child");
    }

    /// Waits until it has ended.
    pub fn wait(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        eventually("the daemon ends", || child.try_wait().expect("it is our child"))
    }

    /// Ends it with SIGKILL, as a crash would.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait();
    }

    /// Ends it with SIGTERM, in order.
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert!(status.success(), "it stopped with {status}");
    }

    /// Starts it again on the same folder.
    pub fn restart(&mut self) {
        self.spawn();
        self.wait_until_ready();
    }

    /// A new connection to the ingest socket.
    pub fn producer(&self) -> Producer {
        Producer::connect(&self.ingest())
    }

    /// Sends one line on a connection of its own; its answer.
    pub fn send(&self, line: &str) -> Value {
        self.producer().send(line)
    }

    /// Sends one line that must be accepted; its answer.
    pub fn accept(&self, line: &str) -> Value {
        let answer = self.send(line);
        assert_eq!(answer["status"], "accepted", "{line}: {answer}");
        answer
    }

    /// Sends `count` events of a type, with ids `PREFIX-0` and so on, all of which must be accepted.
    pub fn accept_many(&self, kind: &str, prefix: &str, count: usize) {
        let mut producer = self.producer();
        let lines: String = (0..count)
            .map(|n| event(kind, &format!("{prefix}-{n}")) + "\n")
            .collect();
        producer.write(lines.as_bytes());
        for n in 0..count {
            let answer = producer.answer();
            assert_eq!(answer["status"], "accepted", "{prefix}-{n}: {answer}");
        }
    }

    /// Asks the control API: status and JSON.
    pub fn get(&self, path: &str) -> (u16, Value) {
        let (status, body) = self.http("GET", path, None);
        (status, parsed(&body))
    }

    /// Tells the control API: status and JSON.
    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let (status, body) = self.http("POST", path, Some(body.to_string()));
        (status, parsed(&body))
    }

    /// One exchange with the control API: status and body.
    pub fn http(&self, method: &str, path: &str, body: Option<String>) -> (u16, String) {
        let headers = [("content-type", "application/json")];
        let answer = self.ask(method, path, &headers, body.unwrap_or_default());
        (answer.status, answer.body)
    }

    /// The same with these headers and no others; everything the answer has.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        client::ask(At::Socket(&self.control()), method, path, headers, body)
    }

    /// The row of an endpoint in the status.
    pub fn row(&self, name: &str) -> Value {
        let (_, status) = self.get("/v1/status");
        let rows = status["endpoints"].as_array().expect("rows");
        rows.iter()
            .find(|row| row["name"] == name)
            .cloned()
            .unwrap_or(Value::Null)
    }

    /// Waits until an endpoint's row is as asked for.
    pub fn until_row(&self, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let started = Instant::now();
        while started.elapsed() < BOUND {
            last = self.row(name);
            if is(&last) {
                return last;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("in vain: {name} {what}; it is {last}");
    }

    /// Waits until an endpoint is in this state.
    pub fn until_state(&self, name: &str, state: &str) -> Value {
        self.until_row(name, state, |row| row["state"] == state)
    }

    /// Waits until there are so many dead letters of an endpoint; all of them, with their evidence.
    pub fn until_dead(&self, name: &str, count: usize) -> Vec<Value> {
        eventually(&format!("{count} dead letters of {name}"), || {
            let (_, page) = self.get(&format!("/v1/dead?endpoint={name}&limit=500"));
            let items = page["items"].as_array().cloned().unwrap_or_default();
            (items.len() == count).then_some(items)
        })
    }

    /// Waits until nothing is owed to an endpoint and nothing is under way.
    pub fn until_settled(&self, name: &str) {
        self.until_row(name, "settled", |row| {
            row["pending"] == 0 && row["in_flight"] == 0
        });
    }

    /// Runs `posthaste` with these arguments against this daemon.
    pub fn cli(&self, arguments: &[&str]) -> Ran {
        self.cli_with(arguments, "")
    }

    /// The same with something on standard input.
    pub fn cli_with(&self, arguments: &[&str], input: &str) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_posthaste"));
        command.args(arguments).current_dir(self.folder.path());
        command
            .env("POSTHASTE_SOCKET", self.control())
            .env("POSTHASTE_INGEST", self.ingest());
        run(&mut command, input).expect("posthaste can be run")
    }
}

fn parsed(body: &str) -> Value {
    serde_json::from_str(body).unwrap_or_else(|_| Value::from(body))
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // One that has ended already needs no killing.
            let _ = child.kill();
            let _ = child.wait();
        }
        if thread::panicking() {
            let log = self.log();
            let start = log.len().saturating_sub(8000);
            let start = (start..log.len())
                .find(|at| log.is_char_boundary(*at))
                .unwrap_or(log.len());
            eprintln!("--- the daemon's log ---\n{}", &log[start..]);
        }
    }
}

/// A connection to the ingest socket.
pub struct Producer {
    stream: UnixStream,
    answers: BufReader<UnixStream>,
}

impl Producer {
    /// Connects.
    pub fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).expect("the ingest socket");
        stream.set_read_timeout(Some(BOUND)).expect("a timeout");
        stream.set_write_timeout(Some(BOUND)).expect("a timeout");
        let answers = BufReader::new(stream.try_clone().expect("a second handle"));
        Self { stream, answers }
    }

    /// Writes bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the daemon reads");
    }

    /// The next answer.
    pub fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("an answer in time");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?} is no answer: {error}"))
    }

    /// Writes a line and reads its answer.
    pub fn send(&mut self, line: &str) -> Value {
        self.write(format!("{line}\n").as_bytes());
        self.answer()
    }

    /// Whether nothing comes for a while. Only to be asked when the daemon had what it needs for an answer.
    pub fn is_silent_for(&mut self, while_waiting: Duration) -> bool {
        self.stream
            .set_read_timeout(Some(while_waiting))
            .expect("a timeout");
        let silent =
            matches!(self.answers.fill_buf(), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
        self.stream.set_read_timeout(Some(BOUND)).expect("a timeout");
        silent
    }

    /// Ends the writing side; all answers until the daemon closes.
    pub fn end(mut self) -> Vec<Value> {
        self.stream.shutdown(Shutdown::Write).expect("a half-close");
        let mut text = String::new();
        self.answers.read_to_string(&mut text).expect("answers in time");
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?}: {error}")))
            .collect()
    }
}

/// The files beneath a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found
}

/// Whether a program is installed.
pub fn installed(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|paths| {
        std::env::split_paths(&paths).any(|folder| File::open(folder.join(program)).is_ok())
    })
}
