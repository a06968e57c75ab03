//! What is sent for which arguments, and what is told of the answers.

use std::os::unix::net::UnixListener;

use clap::Parser;
use serde_json::{Value, json};

use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    send: SendArgs,
}

fn args(line: &[&str]) -> SendArgs {
    Cli::try_parse_from([&["send"], line].concat()).unwrap().send
}

/// A12: one event from arguments.
#[test]
fn a12_arguments_become_an_event() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data.json");
    std::fs::write(&file, "{\n  \"a\": \"x\\ny\"\r\n}\n").unwrap();
    let from_file = format!("@{}", file.display());
    for (line, expected) in [
        (vec!["a.b"], json!({"type": "a.b"})),
        (vec!["a", "--data", "-1"], json!({"type": "a", "data": -1})),
        (
            vec!["a", "--data", &from_file],
            json!({"type": "a", "data": {"a": "x\ny"}}),
        ),
        (
            vec![
                "a",
                "--id",
                "1",
                "--source",
                "/s",
                "--subject",
                "\"q\"",
                "--endpoint",
                "crm",
                "--delay",
                "5m",
                "--expires",
                "t",
                "--key",
                "k",
                "--tenant",
                "acme",
                "-e",
                "x=1=2",
                "-e",
                "y=",
            ],
            json!({"type": "a", "id": "1", "source": "/s", "subject": "\"q\"", "endpoint": "crm", "delay": "5m",
                   "expirytime": "t", "partitionkey": "k", "tenant": "acme", "x": "1=2", "y": ""}),
        ),
        (
            vec!["a", "--deliver-at", "t"],
            json!({"type": "a", "deliverat": "t"}),
        ),
    ] {
        let text = event_line(&args(&line)).ok().unwrap();
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
    }
}

#[test]
fn a12_mistakes_are_told() {
    for (line, message) in [
        (["a", "--data", "hello"], "its own quotes"),
        (["a", "--data", "@/no/such/file"], "/no/such/file"),
        (["a", "-e", "novalue"], "NAME=VALUE"),
    ] {
        let failure = event_line(&args(&line)).err().unwrap();
        assert_eq!(failure.exit, EXIT_USAGE);
        assert!(failure.message.contains(message), "{}", failure.message);
    }
    for line in [
        &["send"][..],
        &["send", "a", "--ndjson"],
        &["send", "a", "--delay", "1s", "--deliver-at", "t"],
    ] {
        assert!(Cli::try_parse_from(line).is_err(), "{line:?}");
    }
}

#[test]
fn the_socket_is_named_by_argument_then_config_then_default() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    std::fs::write(&file, "[ingest]\nsocket = \"/tmp/i.sock\"\n").unwrap();
    let mut named = SendArgs {
        config: Some(file),
        ..SendArgs::default()
    };
    let found = |args: &SendArgs| {
        let ingest = ingest(args).ok().unwrap();
        (ingest.socket, ingest.spool)
    };
    let default = Some("/var/spool/posthaste".into());
    assert_eq!(found(&named), ("/tmp/i.sock".into(), default.clone()));
    named.socket = Some("/tmp/other.sock".into());
    assert_eq!(found(&named), ("/tmp/other.sock".into(), default.clone()));
    named.spool = Some("".into());
    assert_eq!(found(&named).1, None);
    named.config = None;
    named.spool = None;
    assert_eq!(
        found(&named).1,
        None,
        "another daemon's socket, and the usual spool"
    );
    named.spool = Some("/tmp/spool".into());
    assert_eq!(found(&named).1, Some("/tmp/spool".into()));
    named = SendArgs::default();
    named.config = Some(folder.path().join("empty.toml"));
    assert_eq!(
        ingest(&named).err().unwrap().exit,
        EXIT_USAGE,
        "a named file has to be there"
    );
    std::fs::write(folder.path().join("empty.toml"), "").unwrap();
    assert_eq!(found(&named), (IngestConfig::default().socket, default));
}

#[test]
fn a_daemon_that_is_not_there_is_exit_3_with_a_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut args = args(&["a"]);
    args.socket = Some(folder.path().join("none.sock"));
    let failure = one(&args).err().unwrap();
    assert_eq!(failure.exit, EXIT_UNREACHABLE);
    assert!(failure.message.contains("posthaste run"), "{}", failure.message);
}

/// A daemon that reads everything and then writes `answers`.
fn fake_daemon(folder: &Path, answers: &'static str) -> PathBuf {
    let path = folder.join("ingest.sock");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        stream.write_all(answers.as_bytes()).unwrap();
    });
    path
}

/// A12: NDJSON, blank lines and a last line without an end; every kind of answer is counted.
#[test]
fn a12_a_stream_is_tallied() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("events.ndjson");
    std::fs::write(&input, "{\"type\":\"a\"}\n\n[1]\r\n \nx\n{}\n{\"type\":\"b\"}").unwrap();
    let socket = fake_daemon(
        folder.path(),
        "{\"status\":\"accepted\",\"id\":\"1\",\"deliveries\":2}\n\
         {\"status\":\"accepted\",\"ids\":[\"2\",\"3\"],\"deliveries\":1,\"duplicates\":1}\n\
         {\"status\":\"rejected\",\"code\":\"invalid_json\",\"message\":\"m\",\"line\":5}\n\
         {\"status\":\"rejected\",\"code\":\"invalid_event\",\"message\":\"m\",\"line\":6}\n\
         {\"status\":\"duplicate\",\"id\":\"4\"}\n",
    );
    let args = args(&[
        "--ndjson",
        input.to_str().unwrap(),
        "--socket",
        socket.to_str().unwrap(),
    ]);
    let tally = stream(&args, &input).ok().unwrap();
    let expected = Tally {
        answers: 5,
        accepted: 2,
        duplicates: 2,
        deliveries: 3,
        rejected: 2,
    };
    assert_eq!(tally, expected);
}

#[test]
fn lines_without_an_answer_are_told_and_exit_3() {
    let folder = tempfile::tempdir().unwrap();
    let socket = fake_daemon(folder.path(), "");
    let args = args(&["a", "--socket", socket.to_str().unwrap()]);
    let failure = one(&args).err().unwrap();
    assert_eq!(failure.exit, EXIT_UNREACHABLE);
    assert!(failure.message.contains("1 of 1 lines"), "{}", failure.message);
}
