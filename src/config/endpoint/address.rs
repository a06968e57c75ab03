//! Where requests go: `url`, `urls`, `fallback_urls`, and what may be shown of them.

use crate::config::NetworkConfig;
use crate::config::language::{self, Names};
use crate::config::raw::{Table, Value};
use crate::config::url;
use crate::config::values::{Read, Wrong};
use crate::domain::endpoint::Address;
use crate::domain::url::{is_loopback, parse};
use crate::template::Target;

/// Most addresses of one kind.
const ADDRESSES_MAX: usize = 64;

/// What has to be known to read an address.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    /// What its template may name.
    pub names: &'a Names<'a>,
    /// Whether http:// may lead to other machines.
    pub allows_plaintext: bool,
}

/// Whether this endpoint's requests may go to other machines without encryption (D7).
pub(super) fn allows_plaintext(table: &Table<'_>, network: &NetworkConfig) -> bool {
    !network.https_only || super::allows_http(table)
}

impl Reader<'_> {
    /// The addresses of an endpoint: `url`, or `urls`.
    pub(super) fn addresses(self, table: &Table<'_>) -> Vec<Address> {
        match (table.value("url"), table.value("urls")) {
            (Some(_), Some(urls)) if !urls.is_empty() => {
                let help = "keep one of them; fallback_urls are tried after url";
                urls.reject(&Wrong::whole("there are both url and urls", help));
                Vec::new()
            }
            (Some(url), _) => url.read(|value| self.address(value)).into_iter().collect(),
            (None, _) => self.listed(table, "urls"),
        }
    }

    /// The addresses in the array at `key`.
    pub(super) fn listed(self, table: &Table<'_>, key: &str) -> Vec<Address> {
        let Some(list) = table.value(key) else {
            return Vec::new();
        };
        let items = list.items("write it like [\"https://one.example.com\", \"https://two.example.com\"]");
        let items = items.unwrap_or_default();
        if items.len() > ADDRESSES_MAX {
            list.reject(&Wrong::whole(
                format!("there are more than {ADDRESSES_MAX} addresses"),
                "",
            ));
        }
        items
            .iter()
            .filter_map(|item| item.read(|value| self.address(value)))
            .collect()
    }

    /// One address.
    pub(super) fn address(self, value: &Value<'_>) -> Read<Address> {
        let written = value.masked()?;
        let template = language::template(Target::Url, self.names)(value)?;
        let shown = match template.fixed() {
            Some(text) => {
                let url = parse(text).ok_or_else(no_url)?;
                self.check_encrypted(&url)?;
                url::masked(&url, &written)
            }
            None => {
                if let Some(origin) = literal_origin(template.source()) {
                    self.check_encrypted(&parse(origin).ok_or_else(no_url)?)?;
                }
                url::masked_template(template.source())
            }
        };
        Ok(Address {
            url: template,
            shown: shown.into(),
        })
    }

    fn check_encrypted(self, url: &::url::Url) -> Read<()> {
        if url.scheme() == "http" && !self.allows_plaintext && !is_loopback(url) {
            return Err(Wrong::whole(
                "http:// sends events and signatures readable for everybody on the way",
                "write https://, or allow_http = true for this endpoint",
            ));
        }
        Ok(())
    }
}

fn no_url() -> Wrong {
    Wrong::whole(
        "the value is not an absolute http or https URL",
        "write it like https://example.com/hook",
    )
}

/// The scheme and host of a template whose host is written out.
fn literal_origin(source: &str) -> Option<&str> {
    let host_start = source.find("://")? + 3;
    let rest = source.get(host_start..)?;
    let end = host_start + rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let origin = source.get(..end)?;
    (!origin.contains('{') && !origin.contains("***")).then_some(origin)
}
