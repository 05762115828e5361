//! The decision: a pure function of limits and readings.

use std::time::Duration;

use super::{Limits, Reading};

/// What the copy may do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Go,
    /// Start no chunk, for this reason; keep applying.
    Wait(Waiting),
    /// Save the checkpoint and stop, for this reason.
    Stop(String),
}

/// Why the copy waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The signal that is bad. Its value may change every second, and this does not.
    pub signal: String,
    /// With the value, in words.
    pub reason: String,
}

/// Judges the readings against the limits.
///
/// `seen` names the signals that were read at some time in this run: one of those that has no value now
/// counts as bad, and so does one that a person asked for. Others that the server never offered are not judged.
#[must_use]
pub fn decide(limits: &Limits, lag: Duration, readings: &[Reading], seen: &[String]) -> Decision {
    let lag_ms = u64::try_from(lag.as_millis()).unwrap_or(u64::MAX);
    if limits.critical_lag_max_ms.is_some_and(|max| lag_ms > max) {
        return Decision::Stop(format!("lag {lag_ms} ms is over critical_lag_max_ms"));
    }
    let mut wait: Option<Waiting> = None;
    let mut wait_for = |signal: &str, reason: String| {
        wait.get_or_insert_with(|| Waiting { signal: signal.to_owned(), reason });
    };
    for reading in readings {
        let Some(bound) = bound(limits, &reading.signal) else { continue };
        let Some(value) = reading.value else {
            wait_for(&reading.signal, format!("{} cannot be read", reading.signal));
            continue;
        };
        if bound.critical.is_some_and(|limit| bound.is_bad(value, limit)) {
            return Decision::Stop(format!(
                "{} is {value}, critical limit {}",
                reading.signal,
                show(bound.critical)
            ));
        }
        if bound.soft.is_some_and(|limit| bound.is_bad(value, limit)) {
            wait_for(&reading.signal, format!("{} is {value}, limit {}", reading.signal, show(bound.soft)));
        }
    }
    let asked = limits.asked();
    for name in asked.iter().filter(|name| !readings.iter().any(|reading| reading.signal == **name)) {
        wait_for(name, format!("{name} cannot be read here"));
    }
    for name in seen {
        if bound(limits, name).is_some() && !readings.iter().any(|reading| &reading.signal == name) {
            wait_for(name, format!("{name} can no longer be read"));
        }
    }
    if limits.copy_workers == 0 {
        wait_for("copy_workers", "copy_workers is 0".to_owned());
    }
    if lag_ms > limits.lag_max_ms {
        wait_for("lag", format!("lag {lag_ms} ms is over lag_max_ms"));
    }
    wait.map_or(Decision::Go, Decision::Wait)
}

struct Bound {
    soft: Option<u64>,
    critical: Option<u64>,
    smaller_is_bad: bool,
}

impl Bound {
    fn is_bad(&self, value: f64, limit: u64) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "limits are far below 2^53")]
        let limit = limit as f64;
        if self.smaller_is_bad { value < limit } else { value > limit }
    }
}

fn show(limit: Option<u64>) -> String {
    limit.map_or_else(|| "none".to_owned(), |limit| limit.to_string())
}

fn bound(limits: &Limits, signal: &str) -> Option<Bound> {
    if let Some(variable) = signal.strip_prefix("status.") {
        let (soft, critical) = (limits.status_max.get(variable), limits.critical_status_max.get(variable));
        let bound = Bound { soft: soft.copied(), critical: critical.copied(), smaller_is_bad: false };
        return (bound.soft.is_some() || bound.critical.is_some()).then_some(bound);
    }
    let (soft, critical, smaller_is_bad) = match signal {
        "threads_running" => (limits.threads_running_max, limits.critical_threads_running_max, false),
        "load" => (limits.load_max, limits.critical_load_max, false),
        "disk_free" => (limits.disk_free_min, limits.critical_disk_free_min, true),
        // Good is 0.
        "wait_file" => (limits.wait_file.as_ref().map(|_| 0), None, false),
        "wait_url" => (limits.wait_url.as_ref().map(|_| 0), None, false),
        "replica_lag_ms" => (Some(limits.lag_max_ms), limits.critical_lag_max_ms, false),
        _ => return None,
    };
    (soft.is_some() || critical.is_some()).then_some(Bound { soft, critical, smaller_is_bad })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(signal: &str, value: Option<f64>) -> Reading {
        Reading { signal: signal.to_owned(), value }
    }

    fn limits() -> Limits {
        Limits { threads_running_max: Some(50), critical_threads_running_max: Some(100), ..Limits::default() }
    }

    #[test]
    fn decisions() {
        let fresh = Duration::ZERO;
        type Case = (&'static str, Duration, Vec<Reading>, Vec<String>, &'static str);
        let cases: [Case; 8] = [
            ("quiet", fresh, vec![reading("threads_running", Some(3.0))], vec![], "go"),
            ("busy", fresh, vec![reading("threads_running", Some(51.0))], vec![], "wait"),
            ("far too busy", fresh, vec![reading("threads_running", Some(101.0))], vec![], "stop"),
            ("configured and unreadable", fresh, vec![reading("threads_running", None)], vec![], "wait"),
            ("read before, gone now", fresh, vec![], vec!["threads_running".to_owned()], "wait"),
            ("never offered", fresh, vec![], vec![], "go"),
            ("lagging", Duration::from_secs(11), vec![], vec![], "wait"),
            ("disk nearly full", fresh, vec![reading("disk_free", Some(1e6))], vec![], "stop"),
        ];
        for (name, lag, readings, seen, expected) in cases {
            let word = match decide(&limits(), lag, &readings, &seen) {
                Decision::Go => "go",
                Decision::Wait(_) => "wait",
                Decision::Stop(_) => "stop",
            };
            assert_eq!(word, expected, "{name}");
        }
    }
    #[test]
    fn what_a_person_asked_for_and_cannot_be_read_is_waited_for() {
        let mut limits = Limits::default();
        limits.set("status.Threads_connected", "10").expect("a limit");
        limits.set("critical_status.Threads_connected", "20").expect("a limit");
        let judged = |value: Option<Option<f64>>| {
            let readings = value.map(|value| reading("status.Threads_connected", value));
            decide(&limits, Duration::ZERO, &Vec::from_iter(readings), &[])
        };
        assert_eq!(judged(Some(Some(10.0))), Decision::Go);
        assert!(
            matches!(judged(Some(Some(11.0))), Decision::Wait(why) if why.reason.contains("Threads_connected is 11"))
        );
        assert!(matches!(judged(Some(Some(21.0))), Decision::Stop(_)));
        assert!(matches!(judged(Some(None)), Decision::Wait(_)));
        assert!(matches!(judged(None), Decision::Wait(why) if why.reason.contains("cannot be read here")));
        limits.status_max.clear();
        limits.critical_status_max.clear();
        let seen = ["status.Threads_connected".to_owned()];
        assert_eq!(decide(&limits, Duration::ZERO, &[], &seen), Decision::Go, "it is not asked for any more");
    }

    #[test]
    fn a_file_and_an_address_say_wait() {
        let mut limits = Limits::default();
        limits.set("wait_file", "/tmp/wait").expect("a limit");
        assert_eq!(decide(&limits, Duration::ZERO, &[reading("wait_file", Some(0.0))], &[]), Decision::Go);
        let there = decide(&limits, Duration::ZERO, &[reading("wait_file", Some(1.0))], &[]);
        assert!(matches!(there, Decision::Wait(_)), "{there:?}");
        limits.set("wait_file", "none").expect("a limit");
        limits.set("wait_url", "http://h/").expect("a limit");
        let bad = decide(&limits, Duration::ZERO, &[reading("wait_url", Some(503.0))], &[]);
        assert!(matches!(bad, Decision::Wait(why) if why.reason.contains("503")));
    }
}
