//! A run of the binary that stands still at a boundary, so that something can happen to it just there.

use std::process::{Child, Stdio};
use std::time::Duration;

use crate::binary::{Ended, replank};

/// A process that has stopped itself.
pub struct Stopped {
    child: Child,
}

impl Stopped {
    /// Runs a command line until it stops at the boundary.
    ///
    /// # Panics
    /// When it ends before, or does not come there within a minute.
    pub async fn at(boundary: &str, args: &[&str]) -> Self {
        Self::within(boundary, args, &[]).await
    }

    /// The same in an environment.
    pub async fn within(boundary: &str, args: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = replank(args);
        command.envs(environment.iter().copied());
        command.env("REPLANK_STOP_AT", boundary).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut stopped = Self { child: command.spawn().expect("the binary runs") };
        for _ in 0..6_000 {
            if stopped.state() == 'T' {
                return stopped;
            }
            if stopped.child.try_wait().expect("it is our child").is_some() {
                let ended = stopped.end().await;
                panic!("it ended before {boundary}:\n{}\n{}", ended.out, ended.err);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stopped.child.kill().expect("it is our child");
        panic!("it did not come to {boundary}");
    }

    /// Lets it go on, and waits for its end.
    pub async fn go_on(self) -> Ended {
        self.signal("CONT");
        self.end().await
    }

    /// Lets it go on.
    pub fn wake(&self) {
        self.signal("CONT");
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = std::process::Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(sent.expect("kill runs").success(), "signal {name} to {pid}");
    }

    /// Waits for its end.
    pub async fn end(self) -> Ended {
        tokio::task::spawn_blocking(move || Ended::of(self.child.wait_with_output().expect("it ends")))
            .await
            .expect("joins")
    }

    /// The letter of its state, as the kernel has it.
    fn state(&self) -> char {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        // The name before it is in parentheses, and may hold any character.
        let after = stat.rsplit(')').next().unwrap_or_default();
        after.trim_start().chars().next().unwrap_or('?')
    }
}
