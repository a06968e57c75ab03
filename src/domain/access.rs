//! Who may do what, by what the kernel says of the process at the other end of a socket. Pure: names have been
//! turned into numbers when the configuration was read, and `now` is handed in.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use super::rate::{Bucket, Rate};
use super::route::TypePattern;
use super::time::Timestamp;

/// Buckets kept at once; past it those that are full again are forgotten.
const BUCKETS_MAX: usize = 4096;

/// The credentials of a process, as they were when it connected (unix(7), SO_PEERCRED). Without a number nothing
/// is known: the peer is not on this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// Effective uid.
    pub uid: Option<u32>,
    /// Effective gid.
    pub gid: Option<u32>,
}

/// A set of local processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Every one.
    Anybody,
    /// Those of one user.
    User {
        /// As written; `None`: by number.
        name: Option<Box<str>>,
        /// The number.
        uid: u32,
    },
    /// Those of a group: with it as their own, or of a user who is listed in it.
    Group {
        /// As written; `None`: by number.
        name: Option<Box<str>>,
        /// The number.
        gid: u32,
        /// The users listed in it.
        members: Vec<u32>,
    },
}

impl Who {
    /// Whether the process with these credentials is one of them.
    #[must_use]
    pub fn includes(&self, peer: Credentials) -> bool {
        match self {
            Self::Anybody => true,
            Self::User { uid, .. } => peer.uid == Some(*uid),
            Self::Group { gid, members, .. } => {
                peer.gid == Some(*gid) || peer.uid.is_some_and(|uid| members.contains(&uid))
            }
        }
    }

    /// The key and the value it is written with: `("user", "www-data")`, `("gid", "33")`.
    #[must_use]
    pub fn written(&self) -> Option<(&'static str, String)> {
        match self {
            Self::Anybody => None,
            Self::User { name: Some(name), .. } => Some(("user", name.to_string())),
            Self::User { name: None, uid } => Some(("uid", uid.to_string())),
            Self::Group { name: Some(name), .. } => Some(("group", name.to_string())),
            Self::Group { name: None, gid, .. } => Some(("gid", gid.to_string())),
        }
    }
}

/// `user:www-data`, `gid:33`.
impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.written() {
            None => f.write_str("anybody"),
            Some((key, value)) => write!(f, "{key}:{value}"),
        }
    }
}

/// What somebody may do at the operators' door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// See and change everything.
    Operator,
    /// See everything.
    Reader,
    /// Nothing.
    Nobody,
}

/// The role of a local process. Without lists whoever got this far is an operator: the socket's mode and group decide.
/// Once operators are listed, who is on neither list may do nothing; as long as only readers are, everybody else
/// may do everything.
#[must_use]
pub fn role(peer: Credentials, operators: &[Who], readers: &[Who]) -> Role {
    let on = |list: &[Who]| list.iter().any(|who| who.includes(peer));
    if on(operators) {
        Role::Operator
    } else if on(readers) {
        Role::Reader
    } else if operators.is_empty() {
        Role::Operator
    } else {
        Role::Nobody
    }
}

/// `[[ingest.allow]]`: who may send which events, and how fast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowRule {
    /// Who.
    pub who: Who,
    /// Which event types.
    pub types: Vec<TypePattern>,
    /// At most so many events, for each uid by itself.
    pub rate: Option<Rate>,
}

/// Why an event is not taken from its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// No rule lets this sender send this type.
    Forbidden,
    /// The rule lets it, but not so fast: again after so long.
    TooFast(Duration),
}

/// The rules in force, with what each sender has left of its rates.
#[derive(Debug, Default)]
pub struct Access {
    rules: Vec<AllowRule>,
    buckets: HashMap<BucketKey, Bucket>,
}

/// The rule by its place, and the sender.
type BucketKey = (usize, Option<u32>);

impl Access {
    /// These rules, all rates unused. No rules: everybody may send everything.
    #[must_use]
    pub fn new(rules: Vec<AllowRule>) -> Self {
        Self {
            rules,
            buckets: HashMap::new(),
        }
    }

    /// Whether there is nothing to ask.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.rules.is_empty()
    }

    /// Lets events of these types, one of each mention, be sent together or not at all. For each the first rule
    /// that fits sender and type decides.
    ///
    /// # Errors
    /// The place of the event that is not let through, and why; no rate is used up.
    pub fn admit<'a>(
        &mut self,
        peer: Credentials,
        kinds: impl Iterator<Item = &'a str>,
        now: Timestamp,
    ) -> Result<(), (usize, Denied)> {
        let mut wanted: Vec<(usize, usize, usize)> = Vec::new();
        for (index, kind) in kinds.enumerate() {
            let rule = self
                .rules
                .iter()
                .position(|rule| {
                    rule.who.includes(peer) && rule.types.iter().any(|pattern| pattern.matches(kind))
                })
                .ok_or((index, Denied::Forbidden))?;
            match wanted.iter_mut().find(|(known, ..)| *known == rule) {
                Some((_, count, _)) => *count += 1,
                None => wanted.push((rule, 1, index)),
            }
        }
        let key = |rule: usize| (rule, peer.uid);
        let before: Vec<_> = wanted
            .iter()
            .map(|(rule, ..)| (key(*rule), self.buckets.get(&key(*rule)).copied()))
            .collect();
        for (rule, count, index) in &wanted {
            if let Err(wait) = self.take(key(*rule), *count, now) {
                self.put_back(before);
                return Err((*index, Denied::TooFast(wait)));
            }
        }
        Ok(())
    }

    fn put_back(&mut self, before: Vec<(BucketKey, Option<Bucket>)>) {
        for (key, bucket) in before {
            match bucket {
                Some(bucket) => self.buckets.insert(key, bucket),
                None => self.buckets.remove(&key),
            };
        }
    }

    fn take(&mut self, key: BucketKey, count: usize, now: Timestamp) -> Result<(), Duration> {
        let Some(rate) = self.rules.get(key.0).and_then(|rule| rule.rate) else {
            return Ok(());
        };
        if self.buckets.len() >= BUCKETS_MAX && !self.buckets.contains_key(&key) {
            let rules = &self.rules;
            let rate_of = |rule: usize| rules.get(rule).and_then(|rule| rule.rate);
            self.buckets
                .retain(|(rule, _), bucket| rate_of(*rule).is_some_and(|rate| !bucket.is_full(rate, now)));
        }
        self.buckets
            .entry(key)
            .or_insert_with(|| Bucket::full(rate, now))
            .take(rate, count, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: Credentials = Credentials {
        uid: Some(33),
        gid: Some(33),
    };
    const ADA: Credentials = Credentials {
        uid: Some(1000),
        gid: Some(1000),
    };
    const REMOTE: Credentials = Credentials { uid: None, gid: None };

    fn rule(who: Who, types: &[&str], rate: &str) -> AllowRule {
        AllowRule {
            who,
            types: types
                .iter()
                .map(|text| TypePattern::parse(text).unwrap())
                .collect(),
            rate: Rate::parse(rate).ok(),
        }
    }

    fn user(uid: u32) -> Who {
        Who::User { name: None, uid }
    }

    fn group(gid: u32, members: &[u32]) -> Who {
        Who::Group {
            name: Some("staff".into()),
            gid,
            members: members.to_vec(),
        }
    }

    #[test]
    fn a7_who_is_who() {
        for (who, peer, expected) in [
            (Who::Anybody, REMOTE, true),
            (user(33), WEB, true),
            (user(33), ADA, false),
            (user(0), REMOTE, false),
            (group(33, &[]), WEB, true),
            (group(50, &[1000]), ADA, true),
            (group(50, &[1000]), WEB, false),
            (group(0, &[]), REMOTE, false),
        ] {
            assert_eq!(who.includes(peer), expected, "{who} {peer:?}");
        }
        assert_eq!(
            [user(33).to_string(), group(1, &[]).to_string()],
            ["uid:33", "group:staff"]
        );
    }

    /// A7: operators change, readers see.
    #[test]
    fn a7_roles_follow_the_lists() {
        let (web, ada) = ([user(33)], [user(1000)]);
        for (peer, operators, readers, expected) in [
            (WEB, &[][..], &[][..], Role::Operator),
            (WEB, &[], &web, Role::Reader),
            (ADA, &[], &web, Role::Operator),
            (ADA, &ada, &web, Role::Operator),
            (WEB, &ada, &web, Role::Reader),
            (WEB, &ada, &[], Role::Nobody),
            (WEB, &web, &web, Role::Operator),
        ] {
            assert_eq!(
                role(peer, operators, readers),
                expected,
                "{peer:?} {operators:?} {readers:?}"
            );
        }
    }

    /// A7: the first rule that fits decides; nobody else's types, and no rule means no.
    #[test]
    fn a7_rules_are_by_sender_and_type() {
        let mut access = Access::new(vec![
            rule(user(33), &["contact.*", "order.paid"], ""),
            rule(Who::Anybody, &["ping"], ""),
        ]);
        for (peer, kinds, expected) in [
            (WEB, &["contact.created", "order.paid", "ping"][..], Ok(())),
            (WEB, &["ping", "order.sent"], Err((1, Denied::Forbidden))),
            (ADA, &["contact.created"], Err((0, Denied::Forbidden))),
            (REMOTE, &["ping"], Ok(())),
        ] {
            assert_eq!(
                access.admit(peer, kinds.iter().copied(), Timestamp(0)),
                expected,
                "{peer:?} {kinds:?}"
            );
        }
    }

    /// A7: each uid has its own rate, and a batch that is refused uses nothing up.
    #[test]
    fn a7_rates_are_for_each_uid() {
        let mut access = Access::new(vec![
            rule(Who::Anybody, &["a"], "2/s"),
            rule(Who::Anybody, &["b"], "1/s"),
        ]);
        let mut admit = |peer, kinds: &[&str], at| access.admit(peer, kinds.iter().copied(), Timestamp(at));
        assert_eq!(admit(WEB, &["b"], 0), Ok(()));
        let refused = Err((1, Denied::TooFast(Duration::from_secs(1))));
        assert_eq!(admit(WEB, &["a", "b"], 0), refused);
        assert_eq!(admit(WEB, &["a", "a"], 0), Ok(()), "nothing was used up");
        assert!(admit(WEB, &["a"], 0).is_err());
        assert_eq!(admit(ADA, &["a", "b"], 0), Ok(()));
        assert_eq!(admit(WEB, &["a"], 500), Ok(()));
    }

    #[test]
    fn a7_buckets_are_bounded() {
        let mut access = Access::new(vec![rule(Who::Anybody, &["**"], "1/s")]);
        for uid in 0..20_000 {
            let peer = Credentials {
                uid: Some(uid),
                gid: None,
            };
            let at = Timestamp(u64::from(uid));
            assert_eq!(access.admit(peer, ["a"].into_iter(), at), Ok(()));
            assert!(access.buckets.len() <= BUCKETS_MAX);
        }
    }
}
