//! What the kernel tells about processes and processors (proc(5)). Knows nothing of what is measured.

use std::fs;
use std::io;
use std::path::Path;

/// The type of a file system in memory (statfs(2), `TMPFS_MAGIC`).
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// The unit of times in `/proc`, in microseconds: USER_HZ is 100 on every Linux that this program runs on.
const TICK_US: u64 = 10_000;

/// Says so if `folder` is not on a disk: flushes are free there, so ratios to them mean nothing.
pub fn warn_of_memory_disk(folder: &Path) {
    if rustix::fs::statfs(folder).is_ok_and(|system| system.f_type == TMPFS_MAGIC) {
        eprintln!(
            "posthaste bench: {} is in memory (tmpfs): flushes cost nothing there; choose a folder on a disk with --dir",
            folder.display()
        );
    }
}

/// Processor time used so far, in the kernel's ticks.
#[derive(Clone, Copy, Debug)]
struct Ticks {
    /// By everybody, idling included.
    all: u64,
    /// By programs, whoever's, and by other machines on the same host.
    used: u64,
    /// By this process and its children.
    ours: u64,
}

/// Tells how much of the processors other programs used while something was measured.
#[derive(Debug)]
pub struct Watch(Ticks);

impl Watch {
    /// From now on.
    ///
    /// # Errors
    /// When `/proc` can't be read.
    pub fn start() -> io::Result<Self> {
        ticks().map(Self)
    }

    /// The share that others used, 0 to 1.
    ///
    /// # Errors
    /// The same.
    pub fn others(&self) -> io::Result<f64> {
        let now = ticks()?;
        let used = now.used.saturating_sub(self.0.used);
        let ours = now.ours.saturating_sub(self.0.ours);
        let all = now.all.saturating_sub(self.0.all).max(1);
        Ok(used.saturating_sub(ours) as f64 / all as f64)
    }
}

fn ticks() -> io::Result<Ticks> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().unwrap_or_default();
    let columns: Vec<u64> = line
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq steal; guests are in user already.
    let column = |at: usize| columns.get(at).copied().unwrap_or(0);
    Ok(Ticks {
        all: (0..8).map(column).sum(),
        used: [0, 1, 2, 7].into_iter().map(column).sum(),
        ours: our_ticks()?,
    })
}

/// This process, the children it has, and those it had.
fn our_ticks() -> io::Result<u64> {
    let me = std::process::id();
    let mut sum = 0;
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // A process that has ended meanwhile counts no more.
        let Ok(fields) = stat(pid) else { continue };
        let field = |at: usize| fields.get(at).copied().unwrap_or(0);
        // After the name: state ppid … utime (11) stime (12) cutime (13) cstime (14).
        if pid == me {
            sum += field(11) + field(12) + field(13) + field(14);
        } else if field(1) == u64::from(me) {
            sum += field(11) + field(12);
        }
    }
    Ok(sum)
}

/// The fields of `/proc/PID/stat` behind the name; 0 for what is no number.
fn stat(pid: u32) -> io::Result<Vec<u64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let behind_name = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    Ok(behind_name
        .split_whitespace()
        .map(|word| word.parse().unwrap_or(0))
        .collect())
}

/// Processor time a process has used, in microseconds, as exact as a tick.
///
/// # Errors
/// When the process is gone.
pub fn cpu_us(pid: u32) -> io::Result<u64> {
    let fields = stat(pid)?;
    let field = |at: usize| fields.get(at).copied().unwrap_or(0);
    Ok((field(11) + field(12)) * TICK_US)
}

/// A process's memory in use, in bytes.
///
/// # Errors
/// When the process is gone.
pub fn rss_bytes(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(number_behind(&text, "VmRSS:") * 1024)
}

/// How often the threads of a process have gone to sleep by themselves: each time is a wake-up.
///
/// # Errors
/// When the process is gone.
pub fn wake_ups(pid: u32) -> io::Result<u64> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread that has just ended wakes up no more.
        let text = fs::read_to_string(thread?.path().join("status")).unwrap_or_default();
        sum += number_behind(&text, "voluntary_ctxt_switches:");
    }
    Ok(sum)
}

fn number_behind(text: &str, name: &str) -> u64 {
    let rest = text.lines().find_map(|line| line.strip_prefix(name));
    let word = rest.and_then(|rest| rest.split_whitespace().next());
    word.and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// Bytes that the files below `folder` take on disk.
#[must_use]
pub fn disk_bytes(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(about) if about.is_dir() => disk_bytes(&entry.path()),
            Ok(about) => about.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_proc_are_found() {
        let text =
            "Name:\tx\nVmRSS:\t   1234 kB\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t9\n";
        assert_eq!(number_behind(text, "VmRSS:"), 1234);
        assert_eq!(number_behind(text, "voluntary_ctxt_switches:"), 7);
        assert_eq!(number_behind(text, "VmSwap:"), 0);
    }

    #[test]
    fn our_own_work_is_not_that_of_others() {
        let watch = Watch::start().unwrap();
        let before = cpu_us(std::process::id()).unwrap();
        while cpu_us(std::process::id()).unwrap() < before + 50_000 {
            std::hint::black_box([0_u8; 4096].iter().map(|b| u64::from(*b)).sum::<u64>());
        }
        let now = ticks().unwrap();
        assert!(now.ours >= watch.0.ours + 4, "{now:?} after {watch:?}");
        assert!((0.0..=1.0).contains(&watch.others().unwrap()));
    }
}
