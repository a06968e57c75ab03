//! A1: the producers that README.md shows do what it says, word for word, but for the socket's path.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::servers::Target;
use crate::harness::{Daemon, endpoint, installed, run};
use crate::required;

/// Where README.md says that the socket is.
const SOCKET: &str = "/run/posthaste/ingest.sock";

/// The first block of this language that speaks to the socket, with another socket in it.
fn block(language: &str, daemon: &Daemon) -> String {
    let readme = include_str!("../../README.md");
    let fence = format!("```{language}\n");
    readme
        .split(&fence)
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap_or_default())
        .find(|block| block.contains(SOCKET))
        .unwrap_or_else(|| panic!("README.md has no {language} block with {SOCKET}"))
        .replace(SOCKET, daemon.ingest().to_str().unwrap())
}

fn runs(language: &str, programs: &[&str], interpreter: &[&str]) -> Option<String> {
    if let Some(missing) = programs.iter().find(|program| !installed(program)) {
        required::missing(missing, &format!("apt-get install {missing}"), "not found");
        return None;
    }
    let mut target = Target::new();
    let daemon = Daemon::start(&endpoint("crm", &target.url("/ok"), ""));
    let script = block(language, &daemon);
    let ran = run(
        Command::new(interpreter[0]).args(&interpreter[1..]).arg(script),
        "",
    )
    .unwrap()
    .exits(0);
    let got: Value = serde_json::from_slice(&target.next().body).unwrap();
    assert_eq!(
        (&got["type"], &got["data"]),
        (&json!("contact.created"), &json!({ "email": "ada@example.com" }))
    );
    Some(ran.out)
}

#[test]
fn a1_the_shell_producer_of_the_readme() {
    if let Some(out) = runs("sh", &["socat", "sh"], &["sh", "-c"]) {
        let answer: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(
            (&answer["status"], &answer["deliveries"]),
            (&json!("accepted"), &json!(1))
        );
    }
}

#[test]
fn a1_the_python_producer_of_the_readme() {
    runs("python", &["python3"], &["python3", "-c"]);
}
