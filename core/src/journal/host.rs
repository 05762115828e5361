//! Who this process is, and whether another process of this host still lives.

use crate::driver::LeaseHolder;
use crate::ident::RunId;

/// This process, as a lease's holder.
///
/// What `/proc` does not tell is left empty, which only means that a takeover waits for the expiry.
#[must_use]
pub fn this_process(run: &RunId) -> LeaseHolder {
    let pid = std::process::id();
    LeaseHolder {
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        boot: boot_id(),
        pid,
        started: start_time(pid).unwrap_or(0),
        run: run.clone(),
    }
}

/// Whether `holder` was a process of this host, in this boot, that is gone.
///
/// A pid that another process has now counts as gone: its start time differs.
#[must_use]
pub fn is_dead_here(holder: &LeaseHolder, me: &LeaseHolder) -> bool {
    let same_host = !me.boot.is_empty() && holder.host == me.host;
    if !same_host {
        return false;
    }
    holder.boot != me.boot || start_time(holder.pid) != Some(holder.started)
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

/// Field 22 of `/proc/<pid>/stat`: proc_pid_stat(5). A zombie has ended as far as we care.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name, field 2, is in parentheses and may hold anything, parentheses included.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    if fields.next()? == "Z" {
        return None;
    }
    // Field 3 was just taken; 22 is the nineteenth after it.
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> LeaseHolder {
        this_process(&RunId::parse("0123456789abcdef").expect("valid"))
    }

    #[test]
    fn this_process_lives() {
        assert!(me().started > 0, "the start time was read");
        assert!(!is_dead_here(&me(), &me()));
    }

    #[test]
    fn a_pid_with_another_start_time_is_dead_and_another_host_is_unknown() {
        let reused = LeaseHolder { started: me().started + 1, ..me() };
        assert!(is_dead_here(&reused, &me()));
        let rebooted = LeaseHolder { boot: "another boot".to_owned(), ..me() };
        assert!(is_dead_here(&rebooted, &me()));
        let elsewhere = LeaseHolder { host: "elsewhere".to_owned(), started: 1, ..me() };
        assert!(!is_dead_here(&elsewhere, &me()));
    }
}
