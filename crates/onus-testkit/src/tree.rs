//! What a process and all its descendants cost: servers that fork for each connection (sshd) can't be measured by one
//! process id. Deliberately Linux only, like [`crate::proc`], and by `/proc` alone (proc(5)).

use std::fs;
use std::time::Duration;

/// Memory of several processes together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident memory in KiB; pages that several of them share count once for each.
    pub rss_kib: u64,
    /// Proportional set size in KiB: a page that n processes share counts 1/n for each, so a sum says what is really
    /// used.
    pub pss_kib: u64,
    /// How many processes these are.
    pub processes: u64,
}

/// All living descendants of a process, parents before their children. Those that were given to another parent, because
/// theirs ended, are none any more.
pub fn descendants(pid: u32) -> Vec<u32> {
    let mut found = children(pid);
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        found.extend(children(pid));
        next += 1;
    }
    found
}

/// CPU time until now of these processes and all their descendants, those included that ended and were waited for. In
/// steps of 10 ms for each living process, so it is for long measurements; see [`run_time`] for short ones.
///
/// A child that ended counts once its parent has waited for it, and as a zombie; let things settle before reading.
pub fn cpu(pids: &[u32]) -> Duration {
    with_descendants(pids).iter().map(|&pid| with_reaped(pid)).sum()
}

/// CPU time until now of all living threads of these processes and their living descendants, exact to the microsecond
/// or so. Threads and processes that ended don't count, so what is measured must live on both ends of the measurement.
///
/// `None` where the kernel doesn't tell (`/proc/PID/task/TID/schedstat`).
pub fn run_time(pids: &[u32]) -> Option<Duration> {
    let threads = with_descendants(pids).into_iter().flat_map(tasks);
    let read = |(pid, thread): (u32, u32)| -> Option<u64> {
        fs::read_to_string(format!("/proc/{pid}/task/{thread}/schedstat")).ok()?.split_whitespace().next()?.parse().ok()
    };
    fs::metadata("/proc/self/schedstat").ok()?;
    // One that ended between the two looks is no reason to give up.
    Some(Duration::from_nanos(threads.filter_map(read).sum()))
}

/// Memory of these processes and their descendants. Processes that we may not look into are left out.
pub fn memory(pids: &[u32]) -> Memory {
    let mut sum = Memory::default();
    for pid in with_descendants(pids) {
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else { continue };
        let field = |name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        sum.rss_kib += field("Rss:");
        sum.pss_kib += field("Pss:");
        sum.processes += 1;
    }
    sum
}

fn with_descendants(pids: &[u32]) -> Vec<u32> {
    let mut all: Vec<u32> = pids.iter().flat_map(|&pid| std::iter::once(pid).chain(descendants(pid))).collect();
    // Somebody may name a process and its child.
    all.sort_unstable();
    all.dedup();
    all
}

fn tasks(pid: u32) -> Vec<(u32, u32)> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    entries.flatten().filter_map(|entry| Some((pid, entry.file_name().to_str()?.parse().ok()?))).collect()
}

/// The kernel keeps children by the thread that made them.
fn children(pid: u32) -> Vec<u32> {
    let of = |(pid, thread): (u32, u32)| {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{thread}/children")).unwrap_or_default();
        text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
    };
    tasks(pid).into_iter().flat_map(of).collect()
}

fn with_reaped(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold anything; field 3 is the first after it, and utime, stime, cutime and cstime are
    // fields 14 to 17, in ticks of USER_HZ, which is 100 everywhere (time(7)).
    let after = stat.rfind(')').map_or("", |at| &stat[at + 1..]);
    let ticks: u64 = after.split_whitespace().skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proc::Running;
    use crate::wait;
    use std::process::Command;

    const SOON: Duration = Duration::from_secs(30);
    const SPIN: &str = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";

    fn shell(script: &str) -> Running {
        Running::spawn("sh", Command::new("sh").args(["-c", script])).unwrap()
    }

    #[test]
    fn grandchildren_are_found_and_their_memory_counts() {
        let child = shell("sh -c 'sleep 300 & echo up; wait' & wait");
        child.wait_for("up", SOON).unwrap();
        let found = descendants(child.pid());
        assert_eq!(found.len(), 2, "{found:?}");
        let (one, all) = (memory(&found[1..]), memory(&[child.pid(), found[0]]));
        assert_eq!((one.processes, all.processes), (1, 3), "one named twice counts once");
        assert!(all.rss_kib > one.rss_kib && one.rss_kib >= one.pss_kib && one.pss_kib > 0, "{one:?} {all:?}");
    }

    #[test]
    fn cpu_time_of_a_child_that_ended_stays() {
        let child = shell(&format!("({SPIN}); echo done; exec sleep 300"));
        child.wait_for("done", SOON).unwrap();
        wait::until(SOON, "the subshell's end", || descendants(child.pid()).is_empty().then_some(())).unwrap();
        let own = crate::proc::usage(child.pid()).unwrap().cpu;
        assert!(cpu(&[child.pid()]) >= own + Duration::from_millis(10), "{own:?}");
    }

    #[test]
    fn run_time_counts_the_living() {
        let child = shell(&format!("sh -c '{SPIN}; echo done; exec sleep 300' & wait"));
        child.wait_for("done", SOON).unwrap();
        let Some(all) = run_time(&[child.pid()]) else { return };
        let ticks = cpu(&[child.pid()]);
        assert!(all > Duration::from_millis(5), "{all:?}");
        assert!(all.abs_diff(ticks) < Duration::from_millis(60), "{all:?} and {ticks:?}");
        assert_eq!(cpu(&[u32::MAX]), Duration::ZERO);
    }
}
