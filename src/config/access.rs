//! Who may send what, and who may see and change things: `[[ingest.allow]]` and the lists of `[control]`. Names become
//! numbers here, by the system's own lists, so that whoever judges a peer later needs no file.

use std::fs;
use std::net::SocketAddr;

use super::raw::{Table, Value};
use super::values::{self, Read, Wrong};
use crate::domain::access::{AllowRule, Who};
use crate::domain::people;
use crate::domain::route::TypePattern;
use crate::domain::secret::Secret;

const USERS_FILE: &str = "/etc/passwd";
const GROUPS_FILE: &str = "/etc/group";
/// Shortest token of the TCP listener, in bytes: what fewer bytes hold can be found by trying.
const TOKEN_BYTES_MIN: usize = 16;

/// The rules of `[[ingest.allow]]`, in the order written.
pub(super) fn allow(ingest: &Table<'_>) -> Vec<AllowRule> {
    ingest.tables("allow").iter().filter_map(rule).collect()
}

fn rule(table: &Table<'_>) -> Option<AllowRule> {
    let keys = ["user", "group", "uid", "gid"];
    let written = keys.iter().filter(|key| table.has(key)).count();
    if written > 1 {
        table.reject_key(
            &keys,
            &Wrong::whole(
                "a rule names one of user, group, uid and gid",
                "write one [[ingest.allow]] for each",
            ),
        );
    }
    let who = match written {
        0 => Who::Anybody,
        _ => keys
            .iter()
            .find_map(|key| table.value(key)?.read(|value| named(key, value)))?,
    };
    let types = match table.value("types") {
        None => TypePattern::parse("**").into_iter().collect(),
        Some(list) => list
            .some_items(
                "write it like [\"contact.*\"], or [\"**\"] for all",
                "no event type is listed",
            )
            .iter()
            .filter_map(|item| {
                item.read(|value| {
                    TypePattern::parse(&values::text(value)?).map_err(|says| Wrong::whole(says, ""))
                })
            })
            .collect(),
    };
    let rate = table.read("rate", values::rate).flatten();
    Some(AllowRule { who, types, rate })
}

/// What stands at `user`, `group`, `uid` or `gid`.
fn named(key: &str, value: &Value<'_>) -> Read<Who> {
    match key {
        "user" => user(&values::text(value)?),
        "group" => group(&values::text(value)?),
        _ => {
            let number = values::count(0..=u32::MAX - 1)(value)?;
            Ok(if key == "uid" {
                Who::User {
                    name: None,
                    uid: number,
                }
            } else {
                by_gid(number)
            })
        }
    }
}

fn user(name: &str) -> Read<Who> {
    people::uid_of(&list(USERS_FILE), name)
        .map(|uid| Who::User {
            name: Some(name.into()),
            uid,
        })
        .ok_or_else(|| nobody(USERS_FILE, "uid"))
}

fn group(name: &str) -> Read<Who> {
    let groups = list(GROUPS_FILE);
    let gid = people::gid_of(&groups, name).ok_or_else(|| nobody(GROUPS_FILE, "gid"))?;
    Ok(Who::Group {
        name: Some(name.into()),
        gid,
        members: people::members_of(&groups, gid, &list(USERS_FILE)),
    })
}

fn by_gid(gid: u32) -> Who {
    Who::Group {
        name: None,
        gid,
        members: people::members_of(&list(GROUPS_FILE), gid, &list(USERS_FILE)),
    }
}

/// A list that can't be read names nobody.
fn list(file: &str) -> String {
    fs::read_to_string(file).unwrap_or_default()
}

fn nobody(file: &str, number: &str) -> Wrong {
    Wrong::new(
        format!("is not in {file}"),
        format!("create it, or write its number ({number}) where it is known to a directory service only"),
    )
}

/// `control.operators` or `control.readers`.
pub(super) fn people(control: &Table<'_>, key: &str) -> Vec<Who> {
    let list = control
        .value(key)
        .and_then(|list| list.items("write it like [\"group:posthaste-admin\", \"user:ada\"]"));
    list.unwrap_or_default()
        .iter()
        .filter_map(|item| item.read(person))
        .collect()
}

fn person(value: &Value<'_>) -> Read<Who> {
    let text = values::text(value)?;
    let number = |text: &str| text.parse().ok().filter(|number| *number != u32::MAX);
    match text.split_once(':') {
        Some(("user", name)) => user(name),
        Some(("group", name)) => group(name),
        Some(("uid", uid)) => number(uid)
            .map(|uid| Who::User { name: None, uid })
            .ok_or_else(unclear),
        Some(("gid", gid)) => number(gid).map(by_gid).ok_or_else(unclear),
        _ => Err(unclear()),
    }
}

fn unclear() -> Wrong {
    Wrong::new(
        "names nobody",
        "write it like user:ada, group:posthaste-admin, uid:1000 or gid:1000",
    )
}

/// `control.listen` and `control.token`: never one without the other, because whoever reaches the port would be
/// an operator.
pub(super) fn tcp(control: &Table<'_>) -> (Option<SocketAddr>, Option<Secret>) {
    let listen = control.read("listen", address).flatten();
    let token = control.read("token", token).flatten();
    if listen.is_some() && !control.has("token") {
        control.reject_key(
            &["listen"],
            &Wrong::whole(
                "whoever reaches this address could change everything: it needs a token",
                "add token = \"${cred:control-token}\", or remove listen",
            ),
        );
    }
    if let (Some(address), Some(value)) = (listen, control.value("listen"))
        && !address.ip().is_loopback()
    {
        value.warn(&Wrong::whole(
            "the API is served there without encryption: the token can be read on the way",
            "listen on 127.0.0.1 and let a TLS proxy or an SSH tunnel lead there",
        ));
    }
    (listen, token)
}

fn address(value: &Value<'_>) -> Read<Option<SocketAddr>> {
    let text = values::text(value)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        Wrong::new(
            "is not an address with a port",
            "write it like 127.0.0.1:8026 or [::1]:8026",
        )
    })
}

fn token(value: &Value<'_>) -> Read<Option<Secret>> {
    let text = values::text(value)?;
    if text.is_empty() {
        return Ok(None);
    }
    let can_be_sent = text.bytes().all(|byte| byte.is_ascii_graphic());
    if text.len() < TOKEN_BYTES_MIN || !can_be_sent {
        return Err(Wrong::whole(
            format!("a token has at least {TOKEN_BYTES_MIN} letters, digits or signs, and no blanks"),
            "make one with: openssl rand -hex 32",
        ));
    }
    Ok(Some(Secret::new(&text)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::effective;
    use super::super::load::load_text;
    use super::super::secrets::Secrets;
    use super::super::{Config, Loaded, Problems};
    use super::*;

    fn read(text: &str) -> Result<Loaded, Problems> {
        let variable = |name: &str| (name == "TOKEN").then(|| "correct-horse-battery".to_owned());
        let path = Path::new("/nowhere/config.toml");
        load_text(path, text.to_owned(), &Secrets { variable: &variable })
    }

    fn config(text: &str) -> Config {
        read(text).unwrap().config
    }

    /// A7: a rule names one sort of sender or everybody; what it leaves out is everything.
    #[test]
    fn a7_rules_are_read() {
        let config = config(
            "[[ingest.allow]]\nuser = \"root\"\ntypes = [\"a.*\", \"b\"]\nrate = \"10/m\"\n[[ingest.allow]]\ngid = 7\n\
             [[ingest.allow]]\nrate = \"\"",
        );
        let [root, group, all] = &config.ingest.allow[..] else {
            panic!("{:?}", config.ingest.allow);
        };
        assert_eq!(
            (root.who.to_string().as_str(), root.types.len()),
            ("user:root", 2)
        );
        assert_eq!(root.rate.map(|rate| rate.to_string()), Some("10/m".to_owned()));
        assert!(matches!(group.who, Who::Group { gid: 7, .. }) && group.types[0].as_str() == "**");
        assert_eq!((&all.who, all.rate), (&Who::Anybody, None));
    }

    /// A7: people are named with their sort, and have to be there.
    #[test]
    fn a7_people_are_read() {
        let config = config("control.operators = [\"user:root\", \"gid:7\"]\ncontrol.readers = [\"uid:5\"]");
        let shown: Vec<_> = config.control.operators.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["user:root", "gid:7"]);
        assert_eq!(config.control.readers, [Who::User { name: None, uid: 5 }]);
    }

    /// A7: what is wrong is named with its key, and what the token is stays unsaid.
    #[test]
    fn a7_mistakes_are_named() {
        for (text, expected) in [
            (
                "[[ingest.allow]]\nuser = \"root\"\nuid = 0",
                "ingest.allow[1].user: a rule names one of",
            ),
            (
                "[[ingest.allow]]\nuser = \"nobody-has-it\"",
                "is not in /etc/passwd; create it, or write its number (uid)",
            ),
            (
                "[[ingest.allow]]\ngroup = \"nobody-has-it\"",
                "is not in /etc/group",
            ),
            (
                "[[ingest.allow]]\nuid = -1",
                "ingest.allow[1].uid: -1 is out of range",
            ),
            ("[[ingest.allow]]\ntypes = []", "no event type is listed"),
            ("[[ingest.allow]]\ntypes = [\"a.b*\"]", "wildcard"),
            (
                "[[ingest.allow]]\nrate = \"fast\"",
                "\"fast\" is not a rate; write it like 100/s",
            ),
            (
                "control.operators = [\"ada\"]",
                "control.operators: \"ada\" names nobody",
            ),
            ("control.readers = [\"uid:x\"]", "names nobody"),
            (
                "control.listen = \"127.0.0.1:1\"",
                "control.listen: whoever reaches this address",
            ),
            (
                "control.listen = \"here\"\ncontrol.token = \"${env:TOKEN}\"",
                "is not an address with a port",
            ),
            (
                "control.token = \"S3CRET\"",
                "control.token: a token has at least 16",
            ),
            ("control.token = \"S3CRET with blanks in it\"", "no blanks"),
        ] {
            let found = read(text).unwrap_err().to_string();
            assert!(found.contains(expected), "{text}\n{found}");
            assert!(!found.contains("S3CRET"), "{found}");
        }
        let open = read("control.listen = \"192.0.2.7:1\"\ncontrol.token = \"${env:TOKEN}\"").unwrap();
        assert!(
            open.warnings
                .iter()
                .any(|warning| warning.message.contains("without encryption"))
        );
    }

    /// C6, A7: what is shown means the same when it is read again, and never shows the token.
    #[test]
    fn c6_access_is_shown_without_the_token() {
        let before = config(
            "[[ingest.allow]]\nuser = \"root\"\ntypes = [\"a\"]\nrate = \"1/h\"\n[[ingest.allow]]\nuid = 33\n\
             [control]\noperators = [\"uid:5\"]\nlisten = \"127.0.0.1:1\"\ntoken = \"${env:TOKEN}\"",
        );
        let shown = effective(&before);
        assert_eq!(shown["control"]["token"], "***");
        let again = toml::to_string(&shown)
            .unwrap()
            .replace("\"***\"", "\"${env:TOKEN}\"");
        let again = config(&again);
        assert_eq!((again.ingest, again.control), (before.ingest, before.control));
    }
}
