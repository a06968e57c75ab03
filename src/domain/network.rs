//! Which addresses requests may go to. Pure rules over addresses (which are values; sockets are not known
//! here): groups by name, CIDR blocks, and the IPv4 addresses that IPv6 addresses stand for.

use std::fmt;
use std::time::Duration;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Rules for the network that hold for every endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NetworkPolicy {
    /// Where requests may go.
    pub addresses: AddressPolicy,
    /// How long the addresses of a name are used before the name is looked up again; zero: looked up for
    /// each connection.
    pub dns_cache: Duration,
}

impl Default for NetworkPolicy {
    fn default() -> Self {
        Self {
            addresses: AddressPolicy::default(),
            dns_cache: Duration::from_secs(300),
        }
    }
}

/// Where requests may go: anywhere but to `deny`, except for `allow`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AddressPolicy {
    /// Refused.
    pub deny: Vec<AddressRange>,
    /// Not refused although `deny` says so.
    pub allow: Vec<AddressRange>,
}

/// Link-local addresses and the metadata services of clouds: nobody delivers events there, but whoever gets
/// a URL into the configuration could read a machine's credentials.
impl Default for AddressPolicy {
    fn default() -> Self {
        Self {
            deny: ["link-local", "metadata"]
                .into_iter()
                .filter_map(AddressRange::parse)
                .collect(),
            allow: Vec::new(),
        }
    }
}

/// Addresses, as they are named in the file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AddressRange {
    name: Box<str>,
    blocks: Vec<IpNet>,
}

/// An address that requests may not go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// The address.
    pub address: IpAddr,
    /// The entry of `deny` that holds it.
    pub range: Box<str>,
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, range } = self;
        write!(f, "{address} is refused by {range:?} in [network] deny")
    }
}

impl std::error::Error for Blocked {}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix))
}

const fn v6(segments: [u16; 8], prefix: u8) -> IpNet {
    let [a, b, c, d, e, f, g, h] = segments;
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix))
}

/// The groups that have names.
const GROUPS: &[(&str, &[IpNet])] = &[
    // RFC 3927 and RFC 4291 §2.5.6.
    (
        "link-local",
        &[v4(169, 254, 0, 0, 16), v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10)],
    ),
    // Where clouds tell a machine about itself: most at the first, then AWS and Google over IPv6, Alibaba,
    // Azure's wire server, Oracle.
    (
        "metadata",
        &[
            v4(169, 254, 169, 254, 32),
            v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128),
            v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128),
            v4(100, 100, 100, 200, 32),
            v4(168, 63, 129, 16, 32),
            v4(192, 0, 0, 192, 32),
        ],
    ),
    // RFC 1918, RFC 6598, RFC 2544, RFC 4193, and RFC 3879's site-local addresses, which still work.
    (
        "private",
        &[
            v4(10, 0, 0, 0, 8),
            v4(172, 16, 0, 0, 12),
            v4(192, 168, 0, 0, 16),
            v4(100, 64, 0, 0, 10),
            v4(198, 18, 0, 0, 15),
            v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7),
            v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10),
        ],
    ),
    // RFC 1122 §3.2.1.3 and RFC 4291 §2.5.2 f. Linux connects to the unspecified address as to loopback.
    (
        "loopback",
        &[
            v4(127, 0, 0, 0, 8),
            v4(0, 0, 0, 0, 8),
            v6([0, 0, 0, 0, 0, 0, 0, 0], 127),
        ],
    ),
];

impl AddressRange {
    /// The names of groups that [`AddressRange::parse`] knows.
    #[must_use]
    pub fn groups() -> Vec<&'static str> {
        GROUPS.iter().map(|(name, _)| *name).collect()
    }

    /// Reads the name of a group, a CIDR block or a single address. `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let blocks = match GROUPS.iter().find(|(name, _)| *name == text) {
            Some((_, blocks)) => blocks.to_vec(),
            None => vec![
                text.parse::<IpNet>()
                    .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
                    .ok()?,
            ],
        };
        Some(Self {
            name: text.into(),
            blocks,
        })
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.blocks.iter().any(|block| block.contains(&address))
    }
}

impl AddressPolicy {
    /// Whether a connection to `address` is fine.
    ///
    /// # Errors
    /// The entry that refuses it, or an IPv4 address that it stands for.
    pub fn check(&self, address: IpAddr) -> Result<(), Blocked> {
        for meant in stands_for(address) {
            let contains = |range: &&AddressRange| range.contains(meant);
            if let Some(range) = self.deny.iter().find(contains)
                && !self.allow.iter().any(|range| range.contains(meant))
            {
                return Err(Blocked {
                    address,
                    range: range.name.clone(),
                });
            }
        }
        Ok(())
    }
}

/// `address` itself, and every IPv4 address that a packet to it may end up at: a rule about the one would be
/// no rule if the other went round it.
fn stands_for(address: IpAddr) -> impl Iterator<Item = IpAddr> {
    let embedded = match address {
        IpAddr::V4(_) => Vec::new(),
        IpAddr::V6(v6) => embedded(v6),
    };
    std::iter::once(address).chain(embedded.into_iter().map(IpAddr::V4))
}

fn embedded(address: Ipv6Addr) -> Vec<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let from = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match [a, b, c, d, e, f] {
        // IPv4-mapped and IPv4-compatible (RFC 4291 §2.5.5), and the translated form of RFC 2765.
        [0, 0, 0, 0, 0, 0 | 0xffff] | [0, 0, 0, 0, 0xffff, 0] => vec![from(g, h)],
        // NAT64 (RFC 6052 §2.1); behind a prefix of the network's own (RFC 8215) it stands at one of several places.
        [0x64, 0xff9b, 0, 0, 0, 0] => vec![from(g, h)],
        [0x64, 0xff9b, 1, ..] => {
            let mut places = vec![
                from(g, h),
                from(d, (e << 8) | (f >> 8)),
                from((d << 8) | (e & 0xff), f),
                from((e << 8) | (f >> 8), (f << 8) | (g >> 8)),
            ];
            // Zeros fill up what holds no address.
            places.retain(|place| !place.is_unspecified());
            places
        }
        // 6to4 (RFC 3056 §2).
        [0x2002, ..] => vec![from(b, c)],
        // Teredo (RFC 4380 §4): the server, and the client with its bits turned over.
        [0x2001, 0, ..] => vec![from(c, d), from(!g, !h)],
        // ISATAP (RFC 5214 §6.1).
        [_, _, _, _, 0 | 0x200, 0x5efe] => vec![from(g, h)],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(deny: &[&str], allow: &[&str]) -> AddressPolicy {
        let ranges = |list: &[&str]| {
            list.iter()
                .map(|text| AddressRange::parse(text).unwrap())
                .collect()
        };
        AddressPolicy {
            deny: ranges(deny),
            allow: ranges(allow),
        }
    }

    fn refuses(policy: &AddressPolicy, address: &str) -> bool {
        policy.check(address.parse().unwrap()).is_err()
    }

    /// D8: what each group holds, first and last addresses, and what lies beside them.
    #[test]
    fn d8_groups() {
        for (group, inside, outside) in [
            (
                "link-local",
                &["169.254.0.0", "169.254.255.255", "fe80::1", "febf::1"][..],
                &["169.253.255.255", "169.255.0.0", "fec0::1"][..],
            ),
            (
                "metadata",
                &[
                    "169.254.169.254",
                    "fd00:ec2::254",
                    "fd20:ce::254",
                    "100.100.100.200",
                    "168.63.129.16",
                    "192.0.0.192",
                ],
                &["169.254.169.253", "fd00:ec2::253", "8.8.8.8"],
            ),
            (
                "private",
                &[
                    "10.0.0.0",
                    "10.255.255.255",
                    "172.16.0.1",
                    "172.31.255.255",
                    "192.168.0.1",
                    "100.64.0.1",
                    "198.19.0.1",
                    "fc00::1",
                    "fdff::1",
                    "fec0::1",
                ],
                &[
                    "9.255.255.255",
                    "11.0.0.0",
                    "172.15.0.1",
                    "172.32.0.1",
                    "192.169.0.1",
                    "100.128.0.0",
                    "fe00::1",
                    "127.0.0.1",
                ],
            ),
            (
                "loopback",
                &["127.0.0.1", "127.255.255.255", "0.0.0.0", "::1", "::"],
                &["128.0.0.1", "1.0.0.0", "2001:db8::1"],
            ),
        ] {
            let policy = policy(&[group], &[]);
            for address in inside {
                assert!(refuses(&policy, address), "{group} holds {address}");
            }
            for address in outside {
                assert!(!refuses(&policy, address), "{group} does not hold {address}");
            }
        }
    }

    /// D8: an IPv4 address is recognised in every form an IPv6 address can hold it in.
    #[test]
    fn d8_embedded_ipv4() {
        let policy = policy(&["10.1.2.3"], &[]);
        for address in [
            "::ffff:10.1.2.3",
            "::10.1.2.3",
            "::ffff:0:10.1.2.3",
            "64:ff9b::10.1.2.3",
            "64:ff9b:1::10.1.2.3",
            "64:ff9b:1:a01:2:300::",
            "64:ff9b:1:a:1:203::",
            "64:ff9b:1:0:a:102:300:0",
            "2002:a01:203::1",
            "2001:0:a01:203::1",
            "2001:0:808:808:0:0:f5fe:fdfc",
            "fe80::5efe:10.1.2.3",
            "2001:db8::200:5efe:10.1.2.3",
        ] {
            assert!(refuses(&policy, address), "{address}");
        }
        for address in ["::ffff:10.1.2.4", "64:ff9b::8.8.8.8", "2001:db8::a01:203"] {
            assert!(!refuses(&policy, address), "{address}");
        }
    }

    /// D8: exceptions hold for the address that is meant, in whatever form it comes.
    #[test]
    fn d8_allow_comes_before_deny() {
        let policy = policy(&["private", "loopback"], &["10.0.0.0/24", "::1"]);
        for (address, refused) in [
            ("10.0.0.7", false),
            ("::ffff:10.0.0.7", false),
            ("::ffff:10.0.1.7", true),
            ("10.0.1.7", true),
            ("127.0.0.1", true),
            ("93.184.216.34", false),
        ] {
            assert_eq!(refuses(&policy, address), refused, "{address}");
        }
    }

    #[test]
    fn d8_the_default_refuses_what_leaks_credentials() {
        let policy = AddressPolicy::default();
        for (address, refused) in [
            ("169.254.169.254", true),
            ("100.100.100.200", true),
            ("fe80::1", true),
            ("10.0.0.1", false),
            ("127.0.0.1", false),
        ] {
            assert_eq!(refuses(&policy, address), refused, "{address}");
        }
        let blocked = policy.check("169.254.169.254".parse().unwrap()).unwrap_err();
        assert_eq!(
            blocked.to_string(),
            "169.254.169.254 is refused by \"link-local\" in [network] deny"
        );
    }

    #[test]
    fn d8_what_is_no_range() {
        for text in [
            "",
            "lan",
            "10.0.0.0/33",
            "10.0.0",
            "10.0.0.0-10.0.0.9",
            "example.com",
        ] {
            assert_eq!(AddressRange::parse(text), None, "{text}");
        }
    }
}
