//! A proxy that reads what a client asks and what the server answers, and keeps to a script: a command is answered with an
//! error as a `mongod` words it and never sent on, or sent on and answered otherwise, or its connection is cut. What an
//! election, a full oplog or a missing privilege does to a client is shown so on a server that has none of them.
//!
//! Source: <https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/>, and for the labels of errors
//! `src/mongo/db/error_labels.cpp` of the server.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use mongodb::bson::{Bson, Document, doc};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::proxy::{between, port_of, through};

/// Stands between a client and a server until it is dropped.
pub struct Wire {
    port: u16,
    rules: Arc<Vec<Rule>>,
    task: JoinHandle<()>,
}

impl Wire {
    /// In front of the server of a URL. Of the rules that fit a command the first one counts.
    pub async fn before(url: &str, rules: Vec<Rule>) -> Self {
        let rules = Arc::new(rules);
        let script = Arc::clone(&rules);
        let pass = move |client, server| {
            let connection =
                Connection { script: Arc::clone(&script), client, server, awaited: HashMap::new() };
            // A connection that ends, ends.
            async move { drop(connection.pass().await) }
        };
        let (port, task) = between(Arc::new(AtomicU16::new(port_of(url))), pass).await;
        Self { port, rules, task }
    }

    /// The same target by way of the proxy. A server that steps down tells its clients so at once; where one was only said to do it
    /// they look again soon, and not when the ten seconds are over that a look may take.
    pub fn url(&self, url: &str) -> String {
        format!("{}&serverMonitoringMode=poll&heartbeatFrequencyMS=500", through(url, self.port))
    }

    /// How often each rule was kept to.
    pub fn struck(&self) -> Vec<u64> {
        self.rules.iter().map(|rule| rule.struck.load(Ordering::SeqCst)).collect()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is done to which commands.
pub struct Rule {
    command: &'static str,
    fits: Vec<Fits>,
    passes: u64,
    times: u64,
    does: Does,
    seen: AtomicU64,
    struck: AtomicU64,
}

/// Whether it is about a command.
type Fits = Box<dyn Fn(&Document) -> bool + Send + Sync>;

/// What becomes of a command.
enum Does {
    /// The client gets this for an answer, and the server nothing.
    Answer(Reply),
    /// The server gets it, and the client this for an answer.
    Tell(Reply),
    /// Both ends are closed, and the server never hears of it.
    CutBefore,
    /// Both ends are closed once the server has answered.
    CutAfter,
    /// The server gets it when the test says so.
    Wait(Held),
}

/// A command that is held back until the test lets it go on.
#[derive(Clone, Default)]
pub struct Held(Arc<(Notify, Notify)>);

impl Held {
    /// Until it comes.
    ///
    /// # Panics
    /// When it does not within a minute.
    pub async fn comes(&self) {
        let coming = self.0.0.notified();
        tokio::time::timeout(Duration::from_secs(60), coming).await.expect("it comes within a minute");
    }

    /// Lets it go on.
    pub fn goes_on(&self) {
        self.0.1.notify_one();
    }
}

/// True of every n-th that it is asked about.
pub fn every(n: u64) -> impl Fn(&Document) -> bool + Send + Sync + 'static {
    let asked = AtomicU64::new(0);
    move |_| asked.fetch_add(1, Ordering::SeqCst) % n == n - 1
}

/// An answer, made of the command and of the server's answer, which is empty where the server was not asked.
type Reply = Box<dyn Fn(&Document, Document) -> Document + Send + Sync>;

impl Rule {
    /// About every command of a name, once, and it is left as it is.
    pub fn on(command: &'static str) -> Self {
        Self {
            command,
            fits: Vec::new(),
            passes: 0,
            times: 1,
            does: Does::Tell(Box::new(|_, answer| answer)),
            seen: AtomicU64::new(0),
            struck: AtomicU64::new(0),
        }
    }

    /// Only those that this is true of.
    pub fn with(mut self, fits: impl Fn(&Document) -> bool + Send + Sync + 'static) -> Self {
        self.fits.push(Box::new(fits));
        self
    }

    /// Only those of a collection, or of collections whose names begin so.
    pub fn of(self, prefix: &'static str) -> Self {
        let command = self.command;
        self.with(move |asked| {
            let named = if command == "getMore" { "collection" } else { command };
            asked.get_str(named).is_ok_and(|name| name.starts_with(prefix))
        })
    }

    /// Only those within a transaction.
    pub fn in_transaction(self) -> Self {
        self.with(|asked| asked.get_bool("autocommit").is_ok_and(|alone| !alone))
    }

    /// So many of them pass first.
    pub fn after(self, passes: u64) -> Self {
        Self { passes, ..self }
    }

    /// So many of them, one after the other.
    pub fn times(self, times: u64) -> Self {
        Self { times, ..self }
    }

    /// Whenever it comes.
    pub fn always(self) -> Self {
        self.times(u64::MAX)
    }

    /// They fail, and nothing is done. The transaction that one is part of is undone, as a server does it.
    pub fn fails(self, code: i32) -> Self {
        Self { does: Does::Answer(Box::new(move |asked, _| failure(code, asked))), ..self }
    }

    /// They are done, and the client is told that they failed.
    pub fn done_and_fails(self, code: i32) -> Self {
        Self { does: Does::Tell(Box::new(move |asked, _| failure(code, asked))), ..self }
    }

    /// They are done, and the client is told that the majority may not have them.
    pub fn lacks_majority(self, code: i32) -> Self {
        let concern = move |asked: &Document, mut answer: Document| {
            let (name, message) = words(code);
            answer.insert("writeConcernError", doc! { "code": code, "codeName": name, "errmsg": message });
            let labels = labels(code, asked, true);
            if !labels.is_empty() {
                answer.insert("errorLabels", labels);
            }
            answer
        };
        Self { does: Does::Tell(Box::new(concern)), ..self }
    }

    /// The server's answer is replaced.
    pub fn tells(self, reply: impl Fn(Document) -> Document + Send + Sync + 'static) -> Self {
        Self { does: Does::Tell(Box::new(move |_, answer| reply(answer))), ..self }
    }

    /// They wait until the test lets each go on.
    pub fn held_by(self, held: &Held) -> Self {
        Self { does: Does::Wait(held.clone()), ..self }
    }

    /// The connection is cut in front of them.
    pub fn cut(self) -> Self {
        Self { does: Does::CutBefore, ..self }
    }

    /// The connection is cut once they are done.
    pub fn done_and_cut(self) -> Self {
        Self { does: Does::CutAfter, ..self }
    }

    fn is_about(&self, name: &str, asked: &Document) -> bool {
        name == self.command && self.fits.iter().all(|fits| fits(asked))
    }

    /// Whether this one is to be struck: it counts.
    fn strikes(&self) -> bool {
        let number = self.seen.fetch_add(1, Ordering::SeqCst);
        let strikes = number >= self.passes && number - self.passes < self.times;
        self.struck.fetch_add(u64::from(strikes), Ordering::SeqCst);
        strikes
    }
}

/// A failed command's answer.
fn failure(code: i32, asked: &Document) -> Document {
    let (name, message) = words(code);
    let message = if code == 13 { format!("{message} {asked}") } else { message.to_owned() };
    let mut answer = doc! { "ok": 0.0, "errmsg": message, "code": code, "codeName": name };
    let labels = labels(code, asked, false);
    if !labels.is_empty() {
        answer.insert("errorLabels", labels);
    }
    answer
}

/// A code's name, and what a server says with it.
fn words(code: i32) -> (&'static str, &'static str) {
    match code {
        13 => ("Unauthorized", "not authorized on orders to execute command"),
        50 => ("MaxTimeMSExpired", "operation exceeded time limit"),
        64 => ("WriteConcernTimeout", "waiting for replication timed out"),
        91 => ("ShutdownInProgress", "The server is in quiesce mode and will shut down"),
        112 => (
            "WriteConflict",
            "Caused by :: Write conflict during plan execution and yielding is disabled. :: Please retry your operation or \
             multi-document transaction.",
        ),
        121 => ("DocumentValidationFailure", "Document failed validation"),
        251 => ("NoSuchTransaction", "Given transaction number does not match any in-progress transactions."),
        286 => (
            "ChangeStreamHistoryLost",
            "PlanExecutor error during aggregation :: caused by :: Resume of change stream was not possible, as the resume point \
             may no longer be in the oplog.",
        ),
        10107 => ("NotWritablePrimary", "not primary"),
        11602 => ("InterruptedDueToReplStateChange", "operation was interrupted"),
        other => panic!("no words for {other}"),
    }
}

/// The labels that a `mongod` gives an error.
fn labels(code: i32, asked: &Document, is_concern: bool) -> Vec<&'static str> {
    const ELECTION: [i32; 3] = [91, 10107, 11602];
    let name = asked.keys().next().map_or("", String::as_str);
    let is_end = matches!(name, "commitTransaction" | "abortTransaction");
    let is_within = asked.get_bool("autocommit").is_ok_and(|alone| !alone);
    let is_election = ELECTION.contains(&code);
    let mut labels = Vec::new();
    let is_undone = matches!(code, 112 | 251) || (is_election && !is_end);
    if is_within && is_undone && !is_concern {
        labels.push("TransientTransactionError");
    }
    if asked.contains_key("txnNumber") && (!is_within || is_end) && is_election {
        labels.push("RetryableWriteError");
    }
    let opens_stream = asked.get_array("pipeline").is_ok_and(|stages| {
        stages.first().and_then(Bson::as_document).is_some_and(|first| first.contains_key("$changeStream"))
    });
    if is_election && (opens_stream || name == "getMore") {
        labels.push("ResumableChangeStreamError");
    }
    labels
}

const MESSAGE: i32 = 2013;
const HEADER: usize = 16;

/// A connection of a client's, and its own to the server.
struct Connection {
    script: Arc<Vec<Rule>>,
    client: TcpStream,
    server: TcpStream,
    /// By number, what was asked, and the rule that says what becomes of the answer.
    awaited: HashMap<i32, (usize, Document)>,
}

/// What goes on.
enum Passed {
    On,
    Ended,
}

impl Connection {
    async fn pass(mut self) -> std::io::Result<()> {
        let (mut asked, mut answered) = (Vec::new(), Vec::new());
        loop {
            let passed = tokio::select! {
                read = self.client.read_buf(&mut asked) => {
                    if read? == 0 {
                        return Ok(());
                    }
                    self.ask(&mut asked).await?
                }
                read = self.server.read_buf(&mut answered) => {
                    if read? == 0 {
                        return Ok(());
                    }
                    self.answer(&mut answered).await?
                }
            };
            if let Passed::Ended = passed {
                return Ok(());
            }
        }
    }

    async fn ask(&mut self, read: &mut Vec<u8>) -> std::io::Result<Passed> {
        while let Some(message) = taken(read) {
            if let Some((at, asked)) = self.struck(&message) {
                let number = number_at(&message, 4);
                match &self.script[at].does {
                    Does::CutBefore => return Ok(Passed::Ended),
                    Does::Wait(held) => {
                        held.0.0.notify_one();
                        held.0.1.notified().await;
                    }
                    Does::Answer(reply) => {
                        if let Some(undoing) = undoing(&asked) {
                            self.awaited.insert(number, (at, asked));
                            self.server.write_all(&asking(&undoing, number)).await?;
                        } else {
                            let reply = reply(&asked, Document::new());
                            self.client.write_all(&answering(&reply, number)).await?;
                        }
                        continue;
                    }
                    Does::Tell(_) | Does::CutAfter => {
                        self.awaited.insert(number, (at, asked));
                    }
                }
            }
            self.server.write_all(&message).await?;
        }
        Ok(Passed::On)
    }

    /// The rule that is kept to with this message, and the command in it.
    fn struck(&self, message: &[u8]) -> Option<(usize, Document)> {
        let asked = body(message)?;
        let name = asked.keys().next()?.clone();
        let about = self.script.iter().position(|rule| rule.is_about(&name, &asked) && rule.strikes())?;
        Some((about, asked))
    }

    async fn answer(&mut self, read: &mut Vec<u8>) -> std::io::Result<Passed> {
        while let Some(message) = taken(read) {
            let number = number_at(&message, 8);
            match self.awaited.remove(&number).map(|(at, asked)| (&self.script[at].does, asked)) {
                None => self.client.write_all(&message).await?,
                Some((Does::Tell(reply) | Does::Answer(reply), asked)) => {
                    let answer = body(&message).expect("a server answers with a document");
                    self.client.write_all(&answering(&reply(&asked, answer), number)).await?;
                }
                Some(_) => return Ok(Passed::Ended),
            }
        }
        Ok(Passed::On)
    }
}

/// The first message of what has been read, if all of it has.
fn taken(read: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = usize::try_from(i32::from_le_bytes(read.get(..4)?.try_into().ok()?)).ok()?;
    if read.len() < length {
        return None;
    }
    let rest = read.split_off(length);
    Some(std::mem::replace(read, rest))
}

fn number_at(message: &[u8], at: usize) -> i32 {
    i32::from_le_bytes(message[at..at + 4].try_into().expect("four bytes"))
}

/// The document of a message, without the lists that are sent beside it; `None` for a message of another kind.
fn body(message: &[u8]) -> Option<Document> {
    if number_at(message, 12) != MESSAGE {
        return None;
    }
    // Flags, of which the first says that a checksum comes last; a document is behind a zero, a list with a name behind a one.
    let end = message.len() - if message[HEADER] & 1 == 1 { 4 } else { 0 };
    let mut rest = &message[HEADER + 4..end];
    let mut body = None;
    while let Some((kind, section)) = rest.split_first() {
        let length = usize::try_from(number_at(section, 0)).ok().filter(|length| *length <= section.len())?;
        if *kind == 0 {
            body = Some(Document::from_reader(&section[..length]).ok()?);
        }
        rest = &section[length..];
    }
    body
}

/// What undoes the transaction that a command is a later part of.
fn undoing(asked: &Document) -> Option<Document> {
    if !asked.contains_key("autocommit") || asked.contains_key("startTransaction") {
        return None;
    }
    let mut undoing = doc! { "abortTransaction": 1 };
    for field in ["lsid", "txnNumber", "autocommit"] {
        undoing.insert(field, asked.get(field)?.clone());
    }
    undoing.insert("$db", "admin");
    Some(undoing)
}

/// A message with this number.
fn asking(command: &Document, number: i32) -> Vec<u8> {
    message([number, 0], command)
}

/// A message that answers the one with this number. Nobody answers it, so its own says nothing.
fn answering(answer: &Document, number: i32) -> Vec<u8> {
    message([0, number], answer)
}

fn message([number, answered]: [i32; 2], body: &Document) -> Vec<u8> {
    let body = body.to_vec().expect("a document has bytes");
    let length = i32::try_from(HEADER + 5 + body.len()).expect("a short message");
    let mut message: Vec<u8> =
        [length, number, answered, MESSAGE, 0].iter().flat_map(|number| number.to_le_bytes()).collect();
    message.push(0);
    message.extend(body);
    message
}

#[test]
fn a_message_is_read_as_it_was_written_and_struck_in_its_turn() {
    let command = doc! { "collMod": "orders", "validator": { "$expr": false }, "$db": "d" };
    let mut sent = answering(&command, 7);
    sent.extend([1, 0]);
    let message = taken(&mut sent).expect("it is whole");
    assert_eq!((number_at(&message, 8), sent.len()), (7, 2));
    assert_eq!(body(&message), Some(command.clone()));
    assert_eq!(taken(&mut sent), None, "half a length");
    let rule = Rule::on("collMod").of("ord").after(1).times(2);
    assert!(rule.is_about("collMod", &command) && !rule.is_about("create", &command));
    let struck: Vec<bool> = (0..4).map(|_| rule.strikes()).collect();
    assert_eq!(struck, [false, true, true, false]);
}

#[test]
fn errors_have_the_labels_that_a_client_acts_on() {
    let within = doc! { "insert": "t", "txnNumber": 1_i64, "autocommit": false };
    assert_eq!(labels(112, &within, false), ["TransientTransactionError"]);
    assert_eq!(labels(10107, &within, false), ["TransientTransactionError"]);
    let commit = doc! { "commitTransaction": 1, "txnNumber": 1_i64, "autocommit": false };
    assert_eq!(labels(91, &commit, false), ["RetryableWriteError"]);
    assert_eq!(labels(251, &commit, false), ["TransientTransactionError"]);
    let alone = doc! { "update": "t", "txnNumber": 1_i64 };
    assert_eq!(labels(11602, &alone, false), ["RetryableWriteError"]);
    assert_eq!(labels(91, &alone, true), ["RetryableWriteError"]);
    let stream = doc! { "aggregate": 1, "pipeline": [{ "$changeStream": {} }] };
    assert_eq!(labels(91, &stream, false), ["ResumableChangeStreamError"]);
    assert!(labels(286, &stream, false).is_empty());
}
