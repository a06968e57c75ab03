//! Verifiers that receivers use for signatures other than those of Standard Webhooks: packages of npm and PyPI and Node's
//! own `crypto`. A test that uses this also has `support/packages.rs` as `mod packages` and
//! `support/standard_webhooks.rs` as `mod verifiers`.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::packages;
use crate::verifiers::run_verifier;

/// The npm packages, in the versions that the scripts were written for.
const NPM: &[&str] = &[
    "stripe@23.1.0",
    "@octokit/webhooks-methods@6.0.0",
    "discord-interactions@4.4.0",
    "@shopify/shopify-api@13.1.0",
];

/// A request as it arrived, and what is needed to verify it.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The scheme, as in the configuration.
    pub scheme: String,
    /// What the receiver knows: the secret, or the public key.
    pub secret: String,
    /// The method.
    pub method: String,
    /// Path and query.
    pub url: String,
    /// Every header, names in small letters.
    pub headers: Vec<(String, String)>,
    /// The body, byte for byte.
    pub body: Vec<u8>,
}

/// The verdict on each request, in order: `ok`, or `bad` and why. `None`, after saying so, where a verifier can't be
/// had; under `CI=true` that is a failure.
pub fn verdicts(requests: &[Signed]) -> Option<Vec<String>> {
    let node = packages::npm_all("signatures", NPM)?;
    let python = packages::pypi("slack_sdk==3.47.0")?;
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/verifiers");
    let by = |slack: bool| {
        requests
            .iter()
            .filter(move |request| (request.scheme == "slack") == slack)
    };
    let lines = |slack| by(slack).map(line).collect::<String>();
    let mut by_node = run_verifier("node", &scripts.join("verify.mjs"), &node, lines(false)).into_iter();
    let mut by_python = run_verifier("python3", &scripts.join("verify.py"), &python, lines(true)).into_iter();
    let next = |request: &Signed| match request.scheme.as_str() {
        "slack" => by_python.next(),
        _ => by_node.next(),
    };
    let verdicts: Option<Vec<_>> = requests.iter().map(next).collect();
    Some(verdicts.expect("a verdict for each request"))
}

fn line(request: &Signed) -> String {
    let headers: serde_json::Map<_, _> = request
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    let line = json!({
        "scheme": request.scheme,
        "secret": request.secret,
        "method": request.method,
        "url": request.url,
        "headers": headers,
        "body_base64": STANDARD.encode(&request.body),
    });
    format!("{line}\n")
}
