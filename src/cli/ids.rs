//! Ids on a command line: as arguments, and for `-` those on standard input. Knows no verb.

use std::io::BufRead;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::client::Client;
use super::failure::{Done, Failure};

/// The ids given, with those of `input` in the place of `-`: one a line, or JSON lines as the listings write them.
/// `members` are the names that an id goes by there, the first that a line has counts.
///
/// # Errors
/// [`Failure::Usage`] when the input can't be read, or a line of JSON has no id.
pub fn read(given: &[String], input: impl BufRead, members: &[&str]) -> Result<Vec<String>, Failure> {
    let mut ids: Vec<String> = given.iter().filter(|id| *id != "-").cloned().collect();
    if ids.len() == given.len() {
        return Ok(ids);
    }
    for line in input.lines() {
        let line = line.map_err(|error| Failure::Usage(format!("cannot read ids: {error}")))?;
        let text = line.trim();
        if text.starts_with('{') {
            ids.push(named(text, members)?);
        } else if !text.is_empty() {
            ids.push(text.to_owned());
        }
    }
    Ok(ids)
}

/// The id in a line of JSON.
fn named(text: &str, members: &[&str]) -> Result<String, Failure> {
    let line: Map<String, Value> = serde_json::from_str(text)
        .map_err(|error| Failure::Usage(format!("{text:.60} is no JSON: {error}")))?;
    let id = members.iter().find_map(|member| line.get(*member)?.as_str());
    id.map(str::to_owned).ok_or_else(|| {
        Failure::Usage(format!(
            "{text:.60} has no id: there is no {}",
            members.join(" and no ")
        ))
    })
}

/// Asks for what is at each path and shows it. What is not there is said when the rest has been shown.
///
/// # Errors
/// [`Failure::Wrong`] with a line for each that is not there; at once when the daemon can't be reached.
pub async fn show_each<V: DeserializeOwned>(
    client: &Client,
    paths: impl Iterator<Item = String>,
    show: impl Fn(&V) -> Done,
) -> Done {
    let mut missing = Vec::new();
    for path in paths {
        match client.get(&path).await {
            Ok(found) => show(&found)?,
            Err(Failure::Wrong(why)) => missing.push(why),
            Err(failure) => return Err(failure),
        }
    }
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Failure::Wrong(missing.join("\n"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G2: ids come from arguments, from lines, or from what a listing wrote.
    #[test]
    fn g2_ids_from_arguments_and_input() {
        let input = "crm:1\n\n  crm:2  \n{\"id\":\"crm:3\",\"endpoint\":\"crm\",\"event_id\":\"e3\"}\n";
        let read = |given: &[&str], members: &[&str]| {
            let given: Vec<String> = given.iter().map(|id| (*id).to_owned()).collect();
            read(&given, input.as_bytes(), members)
        };
        assert_eq!(read(&["a:1", "b:2"], &["id"]).unwrap(), ["a:1", "b:2"]);
        assert_eq!(
            read(&["a:1", "-"], &["id"]).unwrap(),
            ["a:1", "crm:1", "crm:2", "crm:3"]
        );
        assert_eq!(
            read(&["-"], &["event_id", "id"]).unwrap(),
            ["crm:1", "crm:2", "e3"]
        );
        let refused = read(&["-"], &["tenant", "key"]).unwrap_err();
        assert!(refused.to_string().ends_with("no tenant and no key"), "{refused}");
    }
}
