//! The system's lists of users and groups, passwd(5) and group(5), as texts: who has which number. Pure; whoever
//! asks has read the file. People known only to a directory service are not in them and go by their numbers.

/// What the user with this number is called, in a text like passwd(5): `name:password:uid:…`.
#[must_use]
pub fn user_name(users: &str, uid: u32) -> Option<&str> {
    users
        .lines()
        .filter_map(numbered)
        .find_map(|(name, number)| (number == uid && !name.is_empty()).then_some(name))
}

/// The number of the user called `name`.
#[must_use]
pub fn uid_of(users: &str, name: &str) -> Option<u32> {
    number_of(users, name)
}

/// The number of the group called `name`, in a text like group(5): `name:password:gid:members`.
#[must_use]
pub fn gid_of(groups: &str, name: &str) -> Option<u32> {
    number_of(groups, name)
}

/// The numbers of the users who are in the group `gid` beside their own. Names nobody has are left out.
#[must_use]
pub fn members_of(groups: &str, gid: u32, users: &str) -> Vec<u32> {
    let mut uids: Vec<u32> = groups
        .lines()
        .filter(|line| numbered(line).is_some_and(|(_, number)| number == gid))
        .filter_map(|line| line.split(':').nth(3))
        .flat_map(|members| members.split(','))
        .filter_map(|name| uid_of(users, name.trim()))
        .collect();
    uids.sort_unstable();
    uids.dedup();
    uids
}

fn number_of(list: &str, name: &str) -> Option<u32> {
    list.lines()
        .filter_map(numbered)
        .find_map(|(found, number)| (found == name).then_some(number))
}

/// Name and number of a line; `None` for remarks and broken lines.
fn numbered(line: &str) -> Option<(&str, u32)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    Some((name, fields.nth(1)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "root:x:0:0:root:/root:/bin/sh\n# a remark\nwww-data:x:33:33::/var/www:/bin/false\nada:x:1000:1000::/:\n";
    const GROUPS: &str = "root:x:0:\n# a remark\nposthaste:x:998:ada,nobody-knows, www-data\nempty:x::\n";

    #[test]
    fn users_are_found_by_name_and_number() {
        for (uid, expected) in [(0, Some("root")), (33, Some("www-data")), (3, None)] {
            assert_eq!(user_name(USERS, uid), expected);
        }
        for (name, expected) in [("www-data", Some(33)), ("x", None), ("# a remark", None)] {
            assert_eq!(uid_of(USERS, name), expected);
        }
    }

    #[test]
    fn groups_are_found_by_name() {
        for (name, expected) in [
            ("posthaste", Some(998)),
            ("root", Some(0)),
            ("empty", None),
            ("x", None),
        ] {
            assert_eq!(gid_of(GROUPS, name), expected);
        }
        assert_eq!(members_of(GROUPS, 998, USERS), [33, 1000]);
        assert_eq!(members_of(GROUPS, 0, USERS), [0; 0]);
    }
}
