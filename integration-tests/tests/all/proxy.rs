//! A proxy in front of a server that breaks one connection just when a certain message passes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What happens to the connection on which the message passes, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Both ends are closed, and the server never hears of it.
    CutBefore,
    /// The server gets it and answers, and nobody hears the answer.
    CutAfter,
    /// The server gets it, and from there on nothing passes, while both ends stay open.
    Silence,
    /// It waits for two seconds, and then goes on as if nothing had been.
    Late,
}

/// Whether a piece of what the client sends is the message that is waited for.
pub type Trigger = fn(&[u8]) -> bool;

/// Runs until it is dropped; connections without the message pass unchanged.
pub struct Proxy {
    port: u16,
    has_struck: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// In front of the server of a URL.
    pub async fn before(url: &str, trigger: Trigger, fault: Fault) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let server = port_of(url);
        let has_struck = Arc::new(AtomicBool::new(false));
        let struck = Arc::clone(&has_struck);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let struck = Arc::clone(&struck);
                tokio::spawn(async move {
                    let server =
                        TcpStream::connect(("127.0.0.1", server)).await.expect("the server is there");
                    // A connection that ends, ends.
                    drop(pass(client, server, trigger, fault, &struck).await);
                });
            }
        });
        Self { port, has_struck, task }
    }

    /// The same target by way of the proxy, in clear text.
    pub fn url(&self, url: &str) -> String {
        let server = format!(":{}/", port_of(url));
        format!("{}?ssl-mode=DISABLED", url.replacen(&server, &format!(":{}/", self.port), 1))
    }

    /// The message has passed.
    pub fn has_struck(&self) -> bool {
        self.has_struck.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn port_of(url: &str) -> u16 {
    let tail = url.rsplit_once(':').expect("a port").1;
    tail.split('/').next().and_then(|port| port.parse().ok()).expect("a port")
}

async fn pass(
    mut client: TcpStream,
    mut server: TcpStream,
    trigger: Trigger,
    fault: Fault,
    has_struck: &AtomicBool,
) -> std::io::Result<()> {
    let (mut asked, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let length = read?;
                if length == 0 {
                    return Ok(());
                }
                let message = &asked[..length];
                if !trigger(message) || has_struck.swap(true, Ordering::SeqCst) {
                    server.write_all(message).await?;
                    continue;
                }
                match fault {
                    Fault::CutBefore => return Ok(()),
                    Fault::CutAfter => {
                        server.write_all(message).await?;
                        let _answer = server.read(&mut answered).await?;
                        return Ok(());
                    }
                    Fault::Late => {
                        tokio::time::sleep(Duration::from_secs(2)).await;
                        server.write_all(message).await?;
                    }
                    Fault::Silence => {
                        server.write_all(message).await?;
                        // Longer than any test.
                        tokio::time::sleep(Duration::from_secs(3_600)).await;
                        return Ok(());
                    }
                }
            }
            read = server.read(&mut answered) => {
                let length = read?;
                if length == 0 {
                    return Ok(());
                }
                client.write_all(&answered[..length]).await?;
            }
        }
    }
}
