//! `posthaste demo`: the whole product in a temporary folder, in a few seconds: a real daemon with its
//! embedded store, a receiver that misbehaves on purpose, events, a retry, a dead letter, and what to type
//! next. It starts this same program as anybody would, and knows nothing of its inside.

use std::fs;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::receive::server::{Options, Received, Receiver};

/// How long any step may take before the demo gives up; they take milliseconds.
const STEP_BOUND: Duration = Duration::from_secs(20);

/// What the producers of the demo say. The last one repeats the first.
const EVENTS: [&str; 5] = [
    r#"{"type":"contact.created","source":"/demo","id":"c-1","data":{"name":"Ada","email":"ada@example.com"}}"#,
    r#"{"type":"contact.updated","source":"/demo","id":"c-2","data":{"name":"Ada Lovelace"}}"#,
    r#"{"type":"invoice.paid","source":"/demo","id":"i-1","data":{"amount":42}}"#,
    r#"{"type":"audit.login","source":"/demo","id":"a-1","data":{"user":"ada"}}"#,
    r#"{"type":"contact.created","source":"/demo","id":"c-1","data":{"name":"Ada","email":"ada@example.com"}}"#,
];

/// Requests that these events lead to: two to crm, two tries to billing, one to audit.
const REQUESTS: usize = 5;

/// Runs it; 1 when something did not go as told.
#[must_use]
pub fn run() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let result = Stage::set().and_then(|stage| {
        let shown = runtime.block_on(show(&stage));
        if shown.is_err() {
            eprintln!(
                "\nthe daemon's log:\n{}",
                fs::read_to_string(stage.log()).unwrap_or_default()
            );
        }
        shown
    });
    result.map_or_else(|error| failed(&error), |()| ExitCode::SUCCESS)
}

fn failed(error: &io::Error) -> ExitCode {
    eprintln!("posthaste demo: {error}");
    ExitCode::FAILURE
}

/// The temporary folder; removed at the end.
struct Stage(PathBuf);

impl Stage {
    fn set() -> io::Result<Self> {
        let folder = std::env::temp_dir().join(format!("posthaste-demo-{}", std::process::id()));
        fs::create_dir(&folder)?;
        Ok(Self(folder))
    }

    fn ingest(&self) -> PathBuf {
        self.0.join("ingest.sock")
    }

    fn control(&self) -> PathBuf {
        self.0.join("control.sock")
    }

    fn config(&self) -> PathBuf {
        self.0.join("config.toml")
    }

    fn log(&self) -> PathBuf {
        self.0.join("daemon.log")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // What stays behind is in the temporary folder, and the next start of the machine removes it.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The daemon; told to stop when the demo ends, however it ends.
struct Daemon(Child);

impl Daemon {
    fn start(stage: &Stage) -> io::Result<Self> {
        let log = fs::File::create(stage.log())?;
        let program = std::env::current_exe()?;
        let child = Command::new(program)
            .arg("run")
            .arg("--config")
            .arg(stage.config())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        Ok(Self(child))
    }

    fn stop(&mut self) -> io::Result<()> {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM)?;
        }
        let status = self.0.wait()?;
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("the daemon ended with {status}")))
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // After a clean stop this finds nobody, which is as it should be.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn show(stage: &Stage) -> io::Result<()> {
    let mut receiver = Receiver::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), Options::default()).await?;
    fs::write(stage.config(), config(stage, receiver.addr()))?;
    say(
        "A daemon, its store on disk and three endpoints, all in",
        stage.0.display(),
    );
    let mut daemon = Daemon::start(stage)?;
    let socket = connect(&stage.ingest())?;

    say(
        "Five lines to its socket, as any program would write them. Each answer comes after the flush:",
        "",
    );
    send(socket)?;

    say(
        "What the endpoints get, signed. billing fails once (503) and is tried again; audit says no (422):",
        "",
    );
    for _ in 0..REQUESTS {
        let next = tokio::time::timeout(STEP_BOUND, receiver.recv()).await;
        let request = next
            .ok()
            .flatten()
            .ok_or_else(|| io::Error::other("a delivery did not arrive in time"))?;
        println!("  {}", line(&request));
    }
    let dead = dead_letter(stage)?;

    say("Where things stand, and what a person has to look at:", "");
    command(stage, &["status"])?;
    command(stage, &["dead", "list"])?;
    stay(stage, &dead)?;
    daemon.stop()?;
    println!("\nThe daemon has stopped. Next: README.md, and config.toml for your own endpoints.");
    Ok(())
}

fn say(text: &str, more: impl std::fmt::Display) {
    println!("\n{text} {more}");
}

/// Three endpoints at one receiver, which does by path what it is asked to.
fn config(stage: &Stage, receiver: SocketAddr) -> String {
    let folder = stage.0.display();
    let endpoint = |name: &str, events: &str, path: &str| {
        format!(
            "\n[[endpoint]]\nname = \"{name}\"\nevents = [\"{events}\"]\nurl = \"http://{receiver}{path}\"\n\
             sign = [{{ scheme = \"standard\", secrets = [\"whsec_cG9zdGhhc3RlIGRlbW8gc2VjcmV0IDEyMzQ1\"] }}]\n\
             retry = {{ delay = \"500ms\", max_attempts = 5 }}\n"
        )
    };
    format!(
        "[store]\npath = \"{folder}/queue\"\nmin_free = \"0%\"\n\
         [ingest]\nsocket = \"{folder}/ingest.sock\"\ngroup = \"\"\nspool = \"\"\n\
         [control]\nsocket = \"{folder}/control.sock\"\ngroup = \"\"\n{}{}{}",
        endpoint("crm", "contact.*", "/ok"),
        endpoint("billing", "invoice.*", "/fail-first/1/503"),
        endpoint("audit", "audit.**", "/status/422"),
    )
}

/// The daemon needs a moment to open its store; its socket is there when it is ready.
fn connect(socket: &Path) -> io::Result<UnixStream> {
    let started = Instant::now();
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return Ok(stream),
            Err(error) if started.elapsed() > STEP_BOUND => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn send(mut socket: UnixStream) -> io::Result<()> {
    let mut answers = BufReader::new(socket.try_clone()?);
    for event in EVENTS {
        writeln!(socket, "{event}")?;
        let mut answer = String::new();
        answers.read_line(&mut answer)?;
        println!("  > {event}\n  < {}", answer.trim_end());
    }
    Ok(())
}

fn line(request: &Received) -> String {
    let header = |name: &str| {
        request
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("-")
    };
    format!(
        "{} {:<18} id {}  attempt {}  {}  {} bytes",
        request.method,
        request.path,
        header("webhook-id"),
        header("x-posthaste-attempt"),
        header("webhook-signature"),
        request.body.len()
    )
}

/// The id of the dead letter. The endpoint's answer is in, but the dead letter is there only after its commit.
fn dead_letter(stage: &Stage) -> io::Result<String> {
    let started = Instant::now();
    loop {
        let listed = posthaste(stage, &["dead", "list", "--json"])?.output()?.stdout;
        let letter = serde_json::from_slice::<serde_json::Value>(&listed).unwrap_or_default();
        if let Some(id) = letter["id"].as_str() {
            return Ok(id.to_owned());
        }
        if started.elapsed() > STEP_BOUND {
            return Err(io::Error::other("the dead letter did not appear in time"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn posthaste(stage: &Stage, arguments: &[&str]) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments).env("POSTHASTE_SOCKET", stage.control());
    Ok(command)
}

fn command(stage: &Stage, arguments: &[&str]) -> io::Result<()> {
    println!("\n$ posthaste {}", arguments.join(" "));
    let status = posthaste(stage, arguments)?.status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("it ended with {status}")))
    }
}

/// On a terminal the daemon stays until Enter, so that the next commands can be typed.
fn stay(stage: &Stage, dead: &str) -> io::Result<()> {
    println!(
        "\nWhat to type next:\n  export POSTHASTE_SOCKET={control}\n  posthaste dead show {dead}              the request, the answer, \
         and the event\n  posthaste dead replay --endpoint audit   try again, with the whole retry budget\n  \
         posthaste send --socket {ingest} contact.created --data '{{\"name\":\"Grace\"}}'\n  posthaste events show c-1\n  \
         posthaste endpoints pause crm",
        control = stage.control().display(),
        ingest = stage.ingest().display(),
    );
    if io::stdin().is_terminal() && io::stdout().is_terminal() {
        println!("\nThe daemon runs until you press Enter.");
        io::stdin().read_line(&mut String::new())?;
    }
    Ok(())
}
