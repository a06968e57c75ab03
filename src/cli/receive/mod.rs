//! `posthaste receive`: a receiver for development. It shows what an endpoint would get, says whether the
//! signature is right, and misbehaves when the path asks for it. [`server`] is also what the demo, the bench
//! and the tests deliver to. Knows nothing of the daemon.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use schemars::JsonSchema;
use serde::Serialize;

use crate::domain::endpoint::Preset;
use crate::domain::names::{self, called};

pub mod behaviour;
pub mod server;
pub mod verify;

use behaviour::Behaviour;
use server::{Options, Received, Receiver};
use verify::{Verified, Verifier};

/// Requests that wait to be printed; past it, senders wait for their answers.
const UNPRINTED_MAX: usize = 1024;
/// Of a longer body only this much is printed.
const PRINTED_BYTES_MAX: usize = 16 * 1024;

/// Receive deliveries, show them, and verify their signatures.
///
/// A path that is one of these makes it misbehave: /status/503 /fail-first/2/503 (the first two tries of each
/// webhook-id) /slow/500 (milliseconds) /hang /drip /reset /close /garbage /redirect /gone /retry-after/2
/// /big/BYTES /created (201 with JSON). Any other path is answered with --status.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  posthaste receive --listen 127.0.0.1:9000 --secret whsec_bXkgc2VjcmV0
  posthaste receive --scheme github --secret my-secret")]
pub struct ReceiveArgs {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8027")]
    pub listen: SocketAddr,
    /// Secret (whsec_…) or public key (whpk_…) that signatures are verified with; may be given several times, any one may fit
    #[arg(long = "secret", value_name = "SECRET")]
    pub secrets: Vec<String>,
    /// How requests are signed, as in `[[endpoint.sign]]`
    #[arg(long, value_name = "NAME", default_value = "standard", value_parser = scheme_names())]
    pub scheme: String,
    /// Status to answer with
    #[arg(long, value_name = "STATUS", default_value_t = 200, value_parser = clap::value_parser!(u16).range(200..=599))]
    pub status: u16,
    /// Print one JSON object a request
    #[arg(long, conflicts_with = "quiet")]
    pub json: bool,
    /// Print nothing but the address
    #[arg(long)]
    pub quiet: bool,
}

fn scheme_names() -> clap::builder::PossibleValuesParser {
    clap::builder::PossibleValuesParser::new(names::list(Preset::NAMES))
}

/// Why receiving ended, or never began.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// A secret is not one.
    #[error("--secret: {0}")]
    Secret(String),
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}: {cause}; choose another address with --listen")]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        cause: io::Error,
    },
}

/// Receives until it is interrupted, or until nobody reads its output any more.
///
/// # Errors
/// [`ReceiveError`]: nothing was received.
pub async fn run(args: ReceiveArgs) -> Result<ExitCode, ReceiveError> {
    let preset = called(Preset::NAMES, &args.scheme).unwrap_or(Preset::Standard);
    let verifier = Verifier::new(preset, &args.secrets).map_err(ReceiveError::Secret)?;
    let options = Options {
        otherwise: Behaviour::Status(args.status),
        keep: if args.quiet { 0 } else { UNPRINTED_MAX },
    };
    let mut receiver = Receiver::bind(args.listen, options)
        .await
        .map_err(|cause| ReceiveError::Listen {
            address: args.listen,
            cause,
        })?;
    if !args.json {
        let _ = writeln!(io::stdout(), "receiving on http://{}", receiver.addr());
    }
    if args.quiet {
        std::future::pending::<()>().await;
    }
    while let Some(received) = receiver.recv().await {
        let signature = verifier.verify(&received);
        let text = if args.json {
            serde_json::json!(RequestLine::of(&received, &signature)).to_string()
        } else {
            as_text(&received, &signature)
        };
        if writeln!(io::stdout().lock(), "{text}").is_err() {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A block for people: request line, headers, verdict on the signature, body, and an empty line.
fn as_text(received: &Received, signature: &Result<Verified, String>) -> String {
    let mut text = format!(
        "{}  {} {}  answered: {}\n",
        received.at,
        received.method,
        harmless(&received.path),
        received.answer
    );
    for (name, value) in &received.headers {
        let value = harmless(&String::from_utf8_lossy(value.as_bytes()));
        text.push_str(&format!("  {name}: {value}\n"));
    }
    let verdict = match signature {
        Ok(Verified { scheme, secret }) => format!("verified: {scheme}, secret {secret}"),
        Err(why) => harmless(why),
    };
    text.push_str(&format!("  signature {verdict}\n"));
    let shown = &received.body[..received.body.len().min(PRINTED_BYTES_MAX)];
    text.push_str(&harmless(&String::from_utf8_lossy(shown)));
    if shown.len() < received.body.len() {
        text.push_str(&format!("… ({} bytes in all)", received.body.len()));
    }
    text.push('\n');
    text
}

/// A line of `receive --json`: one request.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct RequestLine {
    /// When it was there, RFC 3339.
    time: String,
    /// `POST`
    method: String,
    /// With the query.
    path: String,
    /// Names and values, in the order received.
    headers: Vec<(String, String)>,
    /// All of it; what is no UTF-8 is replaced.
    body: String,
    /// Whether its signature is good.
    verified: bool,
    /// By which scheme; `null`: it is not good.
    scheme: Option<&'static str>,
    /// With which of the secrets that were given, from 1; `null`: it is not good.
    secret: Option<usize>,
    /// What is wrong with the signature; `null`: it is good.
    signature: Option<String>,
    /// What it was answered: a status, or how the answer failed.
    answered: String,
}

impl RequestLine {
    fn of(received: &Received, signature: &Result<Verified, String>) -> Self {
        let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.to_string(), value)
        };
        let good = signature.as_ref().ok();
        Self {
            time: received.at.to_string(),
            method: received.method.to_string(),
            path: received.path.clone(),
            headers: received.headers.iter().map(header).collect(),
            body: String::from_utf8_lossy(&received.body).into_owned(),
            verified: signature.is_ok(),
            scheme: good.map(|verified| verified.scheme),
            secret: good.map(|verified| verified.secret),
            signature: signature.as_ref().err().cloned(),
            answered: received.answer.to_string(),
        }
    }
}

/// `text` without the control characters by which a request could write over the reader's terminal.
fn harmless(text: &str) -> String {
    let is_plain = |c: char| !c.is_control() || c == '\n' || c == '\t';
    text.chars()
        .map(|c| {
            if is_plain(c) {
                c
            } else {
                char::REPLACEMENT_CHARACTER
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;
    use bytes::Bytes;
    use http::HeaderMap;
    use serde_json::json;

    const GOOD: Verified = Verified {
        scheme: "github",
        secret: 2,
    };

    fn received(body: &'static [u8]) -> Received {
        Received {
            at: Timestamp(1_736_937_000_123),
            method: http::Method::POST,
            path: "/hook?a=1".to_owned(),
            headers: HeaderMap::from_iter([(
                http::header::CONTENT_TYPE,
                "application/json".parse().unwrap(),
            )]),
            body: Bytes::from_static(body),
            answer: Behaviour::Status(200),
        }
    }

    /// H4: what a person sees, with nothing that could drive the terminal.
    #[test]
    fn h4_the_block_for_people() {
        assert_eq!(
            as_text(
                &received(b"{\"n\":1}\x1b[2J"),
                &Err("not verified: no --secret".to_owned())
            ),
            "2025-01-15T10:30:00.123Z  POST /hook?a=1  answered: 200\n  content-type: application/json\n  \
             signature not verified: no --secret\n{\"n\":1}\u{fffd}[2J\n"
        );
        let long = as_text(&received(&[b'x'; 100_000]), &Ok(GOOD));
        assert!(
            long.contains("  signature verified: github, secret 2\n"),
            "{long}"
        );
        assert!(
            long.len() < 20_000 && long.ends_with("… (100000 bytes in all)\n"),
            "{}",
            long.len()
        );
    }

    #[test]
    fn h4_the_line_for_programs() {
        let line: serde_json::Value = json!(RequestLine::of(&received(b"{}"), &Ok(GOOD)));
        assert_eq!(
            line,
            json!({"time": "2025-01-15T10:30:00.123Z", "method": "POST", "path": "/hook?a=1",
                   "headers": [["content-type", "application/json"]], "body": "{}",
                   "verified": true, "scheme": "github", "secret": 2, "signature": null, "answered": "200"})
        );
    }

    #[tokio::test]
    async fn what_stops_it_from_beginning_is_said() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let args = |secrets: &[&str]| ReceiveArgs {
            listen: address,
            secrets: secrets.iter().map(ToString::to_string).collect(),
            scheme: "standard".to_owned(),
            status: 200,
            json: false,
            quiet: true,
        };
        let error = run(args(&[])).await.unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("cannot listen on {address}: ")),
            "{error}"
        );
        let error = run(args(&["hunter2"])).await.unwrap_err().to_string();
        assert!(
            error.starts_with("--secret: ") && !error.contains("hunter2"),
            "{error}"
        );
    }
}
