//! Signals from outside the database: a file on the runner's machine, an address that is asked.

use std::time::Duration;

use tokio::task::JoinHandle;

use super::{Limits, Reading};

/// Who answers later than this does not say go on. Chosen.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// What is good: no file, an answer of 200.
const GOOD: f64 = 0.0;

/// Looks outside, beside the run: a slow answer keeps nothing waiting but the copy.
#[derive(Debug, Default)]
pub struct Outside {
    looking: Option<JoinHandle<Vec<Reading>>>,
    last: Vec<Reading>,
}

impl Outside {
    /// What was seen last, and the next look is begun. Before the first is over there is nothing, which counts as bad
    /// for what is asked for.
    pub async fn readings(&mut self, limits: &Limits) -> Vec<Reading> {
        if limits.wait_file.is_none() && limits.wait_url.is_none() {
            return Vec::new();
        }
        if self.looking.as_ref().is_some_and(JoinHandle::is_finished)
            && let Some(looking) = self.looking.take()
        {
            // One that panicked saw nothing.
            self.last = looking.await.unwrap_or_default();
        }
        if self.looking.is_none() {
            let (file, url) = (limits.wait_file.clone(), limits.wait_url.clone());
            self.looking = Some(tokio::task::spawn_blocking(move || look(file.as_deref(), url.as_deref())));
        }
        self.last.clone()
    }
}

fn look(file: Option<&str>, url: Option<&str>) -> Vec<Reading> {
    let file = file.map(|file| {
        let is_there = std::fs::exists(file).ok();
        Reading {
            signal: "wait_file".to_owned(),
            value: is_there.map(|is_there| if is_there { 1.0 } else { GOOD }),
        }
    });
    let url = url.map(|url| Reading { signal: "wait_url".to_owned(), value: ask(url) });
    file.into_iter().chain(url).collect()
}

/// The status that an address answers with; [`GOOD`] for 200, `None` for no answer.
fn ask(url: &str) -> Option<f64> {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(ANSWER_WITHIN))
        .http_status_as_error(false)
        .max_redirects(0)
        .build();
    let answer = ureq::Agent::new_with_config(config).head(url).call().ok()?;
    let status = answer.status().as_u16();
    Some(if status == 200 { GOOD } else { f64::from(status) })
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    fn answering(status: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            let (mut client, _) = listener.accept().expect("a client");
            let mut request = [0_u8; 512];
            let read = client.read(&mut request).expect("a request");
            assert!(request[..read].starts_with(b"HEAD /load "), "{:?}", &request[..read]);
            client
                .write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes())
                .expect("sent");
        });
        format!("http://{address}/load")
    }

    #[test]
    fn an_address_says_go_on_with_200_only() {
        assert_eq!(ask(&answering("200 OK")), Some(0.0));
        assert_eq!(ask(&answering("429 Too Many Requests")), Some(429.0));
        assert_eq!(ask(&answering("302 Found")), Some(302.0));
        assert_eq!(ask("http://127.0.0.1:1/"), None, "nobody answers");
    }

    #[tokio::test]
    async fn a_file_is_seen_and_its_absence_too() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("wait");
        let mut limits = Limits::default();
        limits.set("wait_file", file.to_str().expect("a path")).expect("a limit");
        let mut outside = Outside::default();
        let value = async |outside: &mut Outside| loop {
            if let Some(reading) = outside.readings(&limits).await.first() {
                return reading.value;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        assert_eq!(value(&mut outside).await, Some(0.0));
        std::fs::write(&file, "").expect("written");
        while value(&mut outside).await != Some(1.0) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
