//! Other people's verifiers of Standard Webhooks signatures: the official packages of npm and PyPI, installed by
//! `support/packages.rs`, which a test that uses this has as `mod packages`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::packages;

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
        let folder = packages::npm("standardwebhooks@1.1.1")?;
        Some(Self {
            program: "node",
            script: "verify.mjs",
            folder,
        })
    }

    /// The PyPI package. `None`, after saying so, where it can't be had; under `CI=true` that is a failure.
    pub fn pypi() -> Option<Self> {
        let folder = packages::pypi("standardwebhooks==1.1.0")?;
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
