//! Named places at which a test can have the process killed, and a disk that fails on demand: for tests of
//! what a crash or a failing disk leaves behind. In debug builds, and with the feature `crash-points`;
//! otherwise nothing of this is in the program.

/// Every place: first those of a commit, in the order in which it passes them (those of the next
/// one may come before its flush), then those of opening a store, then
/// those of rewriting it into a smaller one. Those of a step that has nothing to write are passed over.
pub const CRASH_POINTS: [&str; 21] = [
    "after-floors",
    "after-ring",
    "after-intent",
    "after-chunks",
    "after-delays",
    "after-records",
    "after-intent-done",
    "after-moves",
    "after-owed",
    "after-ids",
    "after-freed",
    "after-removals",
    "after-cleared",
    "before-flush",
    "after-flush",
    "queue-made",
    "queue-current",
    "repairs-written",
    "rewrite-copied",
    "rewrite-current",
    "rewrite-done",
];

/// Kills this process, as SIGKILL does, if `POSTHASTE_CRASH_AT` names this place: `after-chunks`, or
/// `after-chunks:3` for the third time it is passed. With `POSTHASTE_CRASH_WHEN`, passes count only
/// while the file of that name exists.
#[cfg(any(feature = "crash-points", debug_assertions))]
pub fn crash_point(name: &str) {
    crash_point_after(name, || ());
}

/// As [`crash_point`], but after `prepare`: what was written so far, and would die with this process, can be
/// put on the disk, where the next one finds it.
#[cfg(any(feature = "crash-points", debug_assertions))]
pub fn crash_point_after(name: &str, prepare: impl FnOnce()) {
    use std::sync::LazyLock;
    static ORDER: LazyLock<Option<order::Order>> =
        LazyLock::new(|| order::Order::from_env("POSTHASTE_CRASH_AT"));

    if ORDER.as_ref().is_some_and(|order| order.is_due_at(name)) {
        prepare();
        // It cannot fail: the target is this process, and the signal cannot be caught.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// Whether this flush of a file is to fail, and every later one: `POSTHASTE_FAIL_AT` is `sync`, or `sync:3`
/// for the third. `POSTHASTE_CRASH_WHEN` holds here too.
#[cfg(any(feature = "crash-points", debug_assertions))]
pub fn sync_fails() -> bool {
    use std::sync::LazyLock;
    static ORDER: LazyLock<Option<order::Order>> =
        LazyLock::new(|| order::Order::from_env("POSTHASTE_FAIL_AT"));

    ORDER.as_ref().is_some_and(|order| order.is_due_at("sync"))
}

/// Does nothing in this build.
#[cfg(not(any(feature = "crash-points", debug_assertions)))]
#[inline]
pub fn crash_point(_name: &str) {}

/// Does nothing in this build.
#[cfg(not(any(feature = "crash-points", debug_assertions)))]
#[inline]
pub fn crash_point_after(_name: &str, _prepare: impl FnOnce()) {}

/// Never in this build.
#[cfg(not(any(feature = "crash-points", debug_assertions)))]
#[inline]
pub fn sync_fails() -> bool {
    false
}

#[cfg(any(feature = "crash-points", debug_assertions))]
mod order {
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// What the environment asks for: something at a place, from its `nth` pass on.
    #[derive(Debug)]
    pub struct Order {
        place: String,
        nth: u64,
        when: Option<PathBuf>,
        passed: AtomicU64,
    }

    impl Order {
        /// What `variable` asks for, if it is set.
        pub fn from_env(variable: &str) -> Option<Self> {
            let when = std::env::var_os("POSTHASTE_CRASH_WHEN").map(PathBuf::from);
            std::env::var(variable)
                .ok()
                .map(|wanted| Self::new(&wanted, when))
        }

        /// `place`, or `place:nth`.
        pub fn new(wanted: &str, when: Option<PathBuf>) -> Self {
            let (place, nth) = wanted.split_once(':').unwrap_or((wanted, "1"));
            Self {
                place: place.to_owned(),
                nth: nth.parse().unwrap_or(1),
                when,
                passed: AtomicU64::new(0),
            }
        }

        /// Counts a pass of `place`; whether it is the one asked for or a later one.
        pub fn is_due_at(&self, place: &str) -> bool {
            place == self.place
                && self.when.as_ref().is_none_or(|file| file.exists())
                && self.passed.fetch_add(1, Ordering::Relaxed) + 1 >= self.nth
        }
    }
}

#[cfg(all(test, any(feature = "crash-points", debug_assertions)))]
mod tests {
    use super::order::Order;

    #[test]
    fn an_order_is_due_at_its_place_from_its_pass_on() {
        let order = Order::new("after-chunks:2", None);
        let due =
            ["after-chunks", "after-ring", "after-chunks", "after-chunks"].map(|at| order.is_due_at(at));
        assert_eq!(due, [false, false, true, true]);
        assert!(Order::new("sync", None).is_due_at("sync"));
    }

    #[test]
    fn passes_count_only_while_the_file_exists() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("now");
        let order = Order::new("sync", Some(file.clone()));
        assert!(!order.is_due_at("sync"));
        std::fs::write(file, "").unwrap();
        assert!(order.is_due_at("sync"));
    }
}
