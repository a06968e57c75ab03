//! Other people's verifiers of Standard Webhooks signatures: the official packages of npm and PyPI, installed once
//! into `target/tmp`. A test that uses this also has `support/required.rs` as `mod required`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::required;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Signed {
    /// As in the configuration: `whsec_…`.
    pub secret: String,
    /// `webhook-id`, `webhook-timestamp`, `webhook-signature`; others don't matter.
    pub headers: Vec<(String, String)>,
    /// The body, byte for byte.
    pub body: Vec<u8>,
}

/// One of the packages, ready to be run.
#[derive(Debug)]
pub struct Verifier {
    program: &'static str,
    script: &'static str,
    folder: PathBuf,
}

impl Verifier {
    /// The npm package. `None`, after saying so, where it can't be had; under `CI=true` that is a failure.
    pub fn npm() -> Option<Self> {
        let folder = installed("npm", "standardwebhooks@1.1.1", |folder, package| {
            npm_install(folder, &[package])
        })?;
        Some(Self {
            program: "node",
            script: "verify.mjs",
            folder,
        })
    }

    /// The PyPI package. `None`, after saying so, where it can't be had; under `CI=true` that is a failure.
    pub fn pypi() -> Option<Self> {
        let folder = installed("pip", "standardwebhooks==1.1.0", pip_install)?;
        Some(Self {
            program: "python3",
            script: "verify.py",
            folder,
        })
    }

    /// The verdict on each request, in order: `ok`, or `bad` and why.
    pub fn verdicts(&self, requests: &[Signed]) -> Vec<String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/standard_webhooks")
            .join(self.script);
        let lines = requests.iter().map(line).collect();
        let verdicts = run_verifier(self.program, &script, &self.folder, lines);
        assert_eq!(
            verdicts.len(),
            requests.len(),
            "{}: a verdict for each request",
            self.script
        );
        verdicts
    }
}

/// Runs a verifier's script on lines of JSON; the lines it prints.
pub fn run_verifier(program: &str, script: &Path, folder: &Path, lines: String) -> Vec<String> {
    let mut child = Command::new(program)
        .arg(script)
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("what has installed the package can also be run");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    // From a thread, because both pipes may be full at once.
    let writer = thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = child
        .wait_with_output()
        .expect("the verifier ends when its input does");
    writer
        .join()
        .expect("the writer doesn't panic")
        .expect("the verifier reads all of its input");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect()
}

/// The command that installs packages of npm into a folder.
pub fn npm_install(folder: &Path, packages: &[&str]) -> Command {
    let mut install = Command::new("npm");
    install.args([
        "install",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
        "--prefix",
    ]);
    install.arg(folder).args(packages);
    install
}

/// The command that installs a package of PyPI into a folder.
pub fn pip_install(folder: &Path, package: &str) -> Command {
    let mut install = Command::new("python3");
    install.args(["-m", "pip", "install", "--quiet", "--target"]);
    install.arg(folder).arg(package);
    install
}

fn line(request: &Signed) -> String {
    let headers: serde_json::Map<_, _> = request
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    let body = STANDARD.encode(&request.body);
    format!(
        "{}\n",
        json!({ "secret": request.secret, "headers": headers, "body_base64": body })
    )
}

/// The folder with `package` in it. Tests that ask at once wait for the first; what is installed stays.
pub fn installed(
    manager: &str,
    package: &str,
    install: impl FnOnce(&Path, &str) -> Command,
) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{manager}-{package}"));
    fs::create_dir_all(&folder).expect("target/tmp can be written");
    let lock = File::create(folder.join("lock")).expect("target/tmp can be written");
    lock.lock().expect("the file system knows locks");
    let done = folder.join("installed");
    if !done.exists() {
        if let Err(error) = run(install(&folder, package)) {
            required::missing(
                &format!("{package}, installed by {manager}"),
                "needs the network, Debian's nodejs and npm or python3 and python3-pip",
                error,
            );
            return None;
        }
        File::create(done).expect("target/tmp can be written");
    }
    Some(folder)
}

fn run(mut command: Command) -> io::Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "{}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}
