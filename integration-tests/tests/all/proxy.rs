//! A proxy in front of a server that breaks one connection just when a certain message passes. It knows where a message
//! begins and ends, so that it can count them: see
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_packets.html>,
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html> and
//! <https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/>.

use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

/// What happens to the connection on which the message passes, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Both ends are closed, and the server never hears of it.
    CutBefore,
    /// The server gets it and answers, and nobody hears the answer.
    CutAfter,
    /// The server gets it, and at once both ends are torn down by RST.
    Reset,
    /// The server gets it, and from there on nothing passes, while both ends stay open.
    Silence,
    /// The same, and the server does not get it.
    HalfOpen,
    /// It waits for two seconds, and then goes on as if nothing had been.
    Late,
}

/// Whether a message of the client, with its header, is the one that is waited for.
pub type Trigger = fn(&[u8]) -> bool;

/// Which message is struck.
#[derive(Debug, Clone, Copy)]
enum Place {
    First(Trigger),
    /// The first on a connection on which another one has passed before.
    After(Trigger, Trigger),
    /// The n-th command, counted over all connections from 1.
    Number(u64),
}

/// Whose messages they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Mysql,
    Postgres,
    Mongo,
}

/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(3_600);
/// Some commands have no answer.
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// Runs until it is dropped; connections without the message pass unchanged.
pub struct Proxy {
    port: u16,
    server: Arc<AtomicU16>,
    seen: Arc<Seen>,
    is_open: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// What has passed.
#[derive(Default)]
struct Seen {
    commands: AtomicU64,
    has_struck: AtomicBool,
    struck: Mutex<String>,
}

impl Proxy {
    /// In front of the server of a URL.
    pub async fn before(url: &str, trigger: Trigger, fault: Fault) -> Self {
        Self::start(port_of(url), protocol_of(url), Place::First(trigger), fault).await
    }

    /// The same for the first message that comes on a connection after another one.
    pub async fn after(url: &str, first: Trigger, trigger: Trigger, fault: Fault) -> Self {
        Self::start(port_of(url), protocol_of(url), Place::After(first, trigger), fault).await
    }

    /// The same for the n-th command of a client, counted over all connections from 1.
    pub async fn at_command(url: &str, number: u64, fault: Fault) -> Self {
        Self::start(port_of(url), protocol_of(url), Place::Number(number), fault).await
    }

    /// In front of a port, and it strikes nothing by itself.
    pub async fn of_port(port: u16) -> Self {
        Self::start(port, Protocol::Mysql, Place::First(|_| false), Fault::Late).await
    }

    /// The same in front of the server of a URL.
    pub async fn of(url: &str) -> Self {
        Self::start(port_of(url), protocol_of(url), Place::First(|_| false), Fault::Late).await
    }

    async fn start(server: u16, protocol: Protocol, place: Place, fault: Fault) -> Self {
        let seen = Arc::new(Seen::default());
        let (is_open, opened) = watch::channel(true);
        let striker = Striker { protocol, place, fault, seen: Arc::clone(&seen) };
        let server = Arc::new(AtomicU16::new(server));
        let pass = move |client, server| {
            let (striker, opened) = (striker.clone(), opened.clone());
            // A connection that ends, ends.
            async move { drop(striker.pass(client, server, opened).await) }
        };
        let (port, task) = between(Arc::clone(&server), pass).await;
        Self { port, server, seen, is_open, task }
    }

    /// The same target by way of the proxy, in clear text.
    pub fn url(&self, url: &str) -> String {
        through(url, self.port)
    }

    /// New connections lead to the server of another URL.
    pub fn lead_to(&self, url: &str) {
        self.server.store(port_of(url), Ordering::SeqCst);
    }

    /// Where it is, as `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The message has passed.
    pub fn has_struck(&self) -> bool {
        self.seen.has_struck.load(Ordering::SeqCst)
    }

    /// The message, as text.
    pub fn struck(&self) -> String {
        self.seen.struck.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Commands that have come by.
    pub fn commands(&self) -> u64 {
        self.seen.commands.load(Ordering::SeqCst)
    }

    /// From now on nothing passes on any connection, while all stay open; or all passes again.
    pub fn set_open(&self, is_open: bool) {
        self.is_open.send_replace(is_open);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Listens on a port of its own, and hands each connection to `pass` with one to the server. They all end with the task.
pub async fn between<F>(
    server: Arc<AtomicU16>,
    pass: impl Fn(TcpStream, TcpStream) -> F + Send + Sync + 'static,
) -> (u16, JoinHandle<()>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let pass = Arc::new(pass);
    let task = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            while connections.try_join_next().is_some() {}
            let (pass, server) = (Arc::clone(&pass), ("127.0.0.1", server.load(Ordering::SeqCst)));
            connections.spawn(async move {
                // Where there is no server, there is no connection either.
                let Ok(server) = TcpStream::connect(server).await else { return };
                // Or a small message waits 40 ms for the one before it to be acknowledged.
                for stream in [&client, &server] {
                    drop(stream.set_nodelay(true));
                }
                pass(client, server).await;
            });
        }
    });
    (port, task)
}

/// A target by way of a port of this host's, in clear text.
pub fn through(url: &str, port: u16) -> String {
    let server = format!(":{}/", port_of(url));
    let clear = match protocol_of(url) {
        Protocol::Mysql => "ssl-mode=DISABLED",
        Protocol::Postgres => "sslmode=disable",
        // A member of a set says where it is, and a client that may would go there.
        Protocol::Mongo => "directConnection=true",
    };
    let join = if url.contains('?') { '&' } else { '?' };
    format!("{}{join}{clear}", url.replacen(&server, &format!(":{port}/"), 1))
}

/// The port in a target.
pub fn port_of(url: &str) -> u16 {
    let tail = url.rsplit_once(':').expect("a port").1;
    tail.split('/').next().and_then(|port| port.parse().ok()).expect("a port")
}

fn protocol_of(url: &str) -> Protocol {
    match url.split(':').next() {
        Some("postgres") => Protocol::Postgres,
        Some("mongodb") => Protocol::Mongo,
        _ => Protocol::Mysql,
    }
}

/// What goes on.
enum Passed {
    On,
    Ended,
}

#[derive(Clone)]
struct Striker {
    protocol: Protocol,
    place: Place,
    fault: Fault,
    seen: Arc<Seen>,
}

impl Striker {
    async fn pass(
        &self,
        mut client: TcpStream,
        mut server: TcpStream,
        mut opened: watch::Receiver<bool>,
    ) -> std::io::Result<()> {
        let mut asked = Vec::with_capacity(1 << 16);
        let mut so_far = SoFar::default();
        let mut answered = vec![0; 1 << 16];
        loop {
            // Also before the answer is read, so that a closed proxy holds both ways back.
            if opened.wait_for(|is_open| *is_open).await.is_err() {
                return Ok(());
            }
            tokio::select! {
                read = client.read_buf(&mut asked) => {
                    if read? == 0 {
                        return Ok(());
                    }
                    if opened.wait_for(|is_open| *is_open).await.is_err() {
                        return Ok(());
                    }
                    while let Some(message) = self.protocol.taken(&mut asked, &mut so_far) {
                        if let Passed::Ended = self.message(&message, &mut so_far, &mut client, &mut server).await? {
                            return Ok(());
                        }
                    }
                }
                read = server.read(&mut answered) => {
                    let length = read?;
                    if length == 0 {
                        return Ok(());
                    }
                    if opened.wait_for(|is_open| *is_open).await.is_err() {
                        return Ok(());
                    }
                    client.write_all(&answered[..length]).await?;
                }
            }
        }
    }

    async fn message(
        &self,
        message: &[u8],
        so_far: &mut SoFar,
        client: &mut TcpStream,
        server: &mut TcpStream,
    ) -> std::io::Result<Passed> {
        if !self.strikes(message, so_far) {
            server.write_all(message).await?;
            return Ok(Passed::On);
        }
        match self.fault {
            Fault::CutBefore => {}
            Fault::CutAfter => {
                server.write_all(message).await?;
                let mut answer = [0; 1 << 10];
                // One that never comes is as good as lost.
                drop(timeout(ANSWER_WAIT, server.read(&mut answer)).await);
            }
            Fault::Reset => {
                server.write_all(message).await?;
                server.set_zero_linger()?;
                client.set_zero_linger()?;
            }
            Fault::Late => {
                tokio::time::sleep(Duration::from_secs(2)).await;
                server.write_all(message).await?;
                return Ok(Passed::On);
            }
            Fault::Silence => {
                server.write_all(message).await?;
                tokio::time::sleep(FOR_EVER).await;
            }
            Fault::HalfOpen => tokio::time::sleep(FOR_EVER).await,
        }
        Ok(Passed::Ended)
    }

    fn strikes(&self, message: &[u8], so_far: &mut SoFar) -> bool {
        let is_command = self.protocol.is_command(message);
        let number = self.seen.commands.fetch_add(u64::from(is_command), Ordering::SeqCst) + 1;
        let is_it = match self.place {
            Place::First(trigger) => trigger(message),
            Place::After(first, trigger) => {
                let is_after = so_far.has_passed;
                so_far.has_passed |= first(message);
                is_after && trigger(message)
            }
            Place::Number(wanted) => is_command && number == wanted,
        };
        let strikes = is_it && !self.seen.has_struck.swap(true, Ordering::SeqCst);
        if strikes {
            // Four bytes of length, or of length and number, and one that says what kind of command it is.
            let text = String::from_utf8_lossy(message.get(5..).unwrap_or_default());
            *self.seen.struck.lock().unwrap_or_else(PoisonError::into_inner) = text.into_owned();
        }
        strikes
    }
}

/// What has come by on one connection.
#[derive(Debug, Default)]
struct SoFar {
    /// The message that has to come before.
    has_passed: bool,
    /// The one that opens a session, which says no kind.
    has_begun: bool,
}

impl Protocol {
    /// The first message of what has been read, if all of it has.
    fn taken(self, read: &mut Vec<u8>, so_far: &mut SoFar) -> Option<Vec<u8>> {
        let end = match self {
            Self::Mysql => {
                let length = read.get(..3)?;
                4 + usize::from(length[0]) + (usize::from(length[1]) << 8) + (usize::from(length[2]) << 16)
            }
            Self::Postgres => {
                let kind = usize::from(so_far.has_begun);
                let length = read.get(kind..kind + 4)?;
                let length = length.iter().fold(0, |sum, byte| (sum << 8) + usize::from(*byte));
                kind + length
            }
            Self::Mongo => {
                let length = read.get(..4)?;
                length.iter().rev().fold(0, |sum, byte| (sum << 8) + usize::from(*byte))
            }
        };
        if read.len() < end {
            return None;
        }
        // Before a session is opened, its encryption may be asked for: 1234 is in the place of the protocol's version.
        so_far.has_begun |= read.get(4..6).is_some_and(|version| version != 1234_u16.to_be_bytes());
        let rest = read.split_off(end);
        Some(std::mem::replace(read, rest))
    }

    fn is_command(self, message: &[u8]) -> bool {
        match self {
            // Numbers begin anew with each command; those of the handshake go on from the server's greeting.
            Self::Mysql => message[3] == 0,
            // A query, or the opening of a session.
            Self::Postgres => matches!(message[0], b'Q' | 0),
            // The client's own looks at the server are of no session.
            Self::Mongo => message.windows(5).any(|window| window == b"lsid\0"),
        }
    }
}

#[test]
fn messages_are_told_apart_however_they_arrive() {
    let mut read = vec![2, 0, 0, 0, 3, b'a', 1, 0];
    let taken = |read: &mut Vec<u8>| Protocol::Mysql.taken(read, &mut SoFar::default());
    assert_eq!(taken(&mut read), Some(vec![2, 0, 0, 0, 3, b'a']));
    assert_eq!(taken(&mut read), None, "half a header");
    read.extend([0, 0]);
    assert_eq!(taken(&mut read), None, "no body yet");
    read.push(1);
    assert_eq!(taken(&mut read), Some(vec![1, 0, 0, 0, 1]));
    assert!(read.is_empty());
}

#[test]
fn messages_of_postgres_have_a_kind_once_the_session_is_open() {
    let (mut so_far, mut read) = (SoFar::default(), vec![0, 0, 0, 8, 4, 210, 22, 47, 0, 0, 0, 9, 0, 3, 0, 0]);
    let mut taken = |read: &mut Vec<u8>| Protocol::Postgres.taken(read, &mut so_far);
    assert_eq!(taken(&mut read), Some(vec![0, 0, 0, 8, 4, 210, 22, 47]), "may it be encrypted?");
    assert_eq!(taken(&mut read), None, "half of the opening");
    read.extend([0, b'Q', 0, 0, 0]);
    assert_eq!(taken(&mut read), Some(vec![0, 0, 0, 9, 0, 3, 0, 0, 0]));
    read.extend([5, 0]);
    assert_eq!(taken(&mut read), Some(vec![b'Q', 0, 0, 0, 5, 0]));
    assert!(read.is_empty());
}

#[test]
fn a_target_leads_through_the_proxy_whatever_it_says_besides() {
    assert_eq!(through("mysql://root@127.0.0.1:3306/d", 7), "mysql://root@127.0.0.1:7/d?ssl-mode=DISABLED");
    assert_eq!(
        through("mongodb://127.0.0.1:27017/d?w=majority", 7),
        "mongodb://127.0.0.1:7/d?w=majority&directConnection=true"
    );
}
