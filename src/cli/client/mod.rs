//! `pgio client`: a Socket.IO client for operators.

mod print;

use std::time::Duration;

use clap::Args;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::arguments::Global;
use super::exit::{self, Failure};
use super::socket::{Incoming, Socket, Target, Transport, Trouble};
use super::{duration, values};
use crate::{Namespace, Value};
use print::Printer;

/// The acknowledgement id of the event of `--emit`.
const ACK: i64 = 0;

/// The longest pause between two attempts to reconnect.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Connect to a Socket.IO server as a client, and print the events that it sends
///
/// Needs no database. After a lost connection the client reconnects, with an exponential back-off of at most 5 s and
/// jitter. The event of --emit is sent once. `pgio emit --from` reads the output of -o json. TLS trusts the certificate
/// authorities of the system, and those in SSL_CERT_FILE.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pgio client http://localhost:3000          print the events of /
  pgio client localhost:3000 -n admin --auth '{\"token\":\"t\"}' --for 30s
  pgio client localhost:3000 --emit ask 42 --ack        print the answer
  pgio client https://chat.example.com --count 1 --for 10s && echo alive
  pgio client localhost:3000 --reply '{\"ok\":true}' --transport polling")]
pub(super) struct Client {
    /// The URL of the server, such as http://localhost:3000; with its path if that is not /socket.io
    url: String,
    /// The namespace; `admin` means `/admin`
    #[arg(short, long, value_name = "NSP", default_value = "/")]
    namespace: String,
    #[command(flatten)]
    access: Access,
    /// Send this event after connecting; each ARG is JSON, text or @FILE, as in `pgio emit`
    #[arg(long, value_names = ["EVENT", "ARG"], num_args = 1.., allow_negative_numbers = true)]
    emit: Vec<String>,
    /// Request an acknowledgement of the event and print it; then exit, unless --count or --for is given
    #[arg(long, requires = "emit")]
    ack: bool,
    /// Send every ARG as text, even if it looks like JSON or @FILE
    #[arg(long, requires = "emit")]
    string: bool,
    /// Exit after N received events; 0 exits as soon as the event of --emit is sent [default: no limit]
    #[arg(short, long, value_name = "N")]
    count: Option<u64>,
    /// Exit after this time, such as 30s; with status 4 if fewer events than --count have arrived [default: no limit]
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse)]
    for_: Option<Duration>,
    /// Acknowledge each event that requests it with this value [default: no acknowledgement]
    #[arg(long, value_name = "JSON", allow_negative_numbers = true)]
    reply: Option<String>,
    /// Do not truncate lines to the width of the terminal
    #[arg(long)]
    wide: bool,
}

/// The credentials, the transport and the deadline of a connection to a server.
#[derive(Args)]
pub(super) struct Access {
    /// The `auth` object of the handshake, such as {"token":"..."}, or @FILE with that JSON [default: none]
    ///
    /// The list of processes (ps) shows this flag. It does not show the variable PGIO_AUTH, which has the same meaning.
    #[arg(long, value_name = "JSON", env = "PGIO_AUTH", hide_env = true, hide_env_values = true)]
    auth: Option<String>,
    /// The transport of the connection
    #[arg(long, value_name = "TRANSPORT", value_enum, default_value_t)]
    pub(super) transport: Transport,
    /// The deadline for connecting, and for an acknowledgement
    #[arg(long, value_name = "TIME", value_parser = duration::parse_positive, default_value = "10s")]
    pub(super) timeout: Duration,
}

impl Access {
    /// The `auth` object for the handshake: the value of `--auth`, or the content of its file.
    pub(super) fn auth(&self) -> Result<Option<Value>, Failure> {
        let Some(given) = &self.auth else { return Ok(None) };
        let text = match given.strip_prefix('@') {
            Some(file) => std::fs::read_to_string(file).map_err(|error| Failure::file(file, &error))?,
            None => given.clone(),
        };
        // The text is a secret, so the errors do not quote it.
        match Value::from_json(&text) {
            Ok(auth @ Value::Object(_)) => Ok(Some(auth)),
            Ok(_) => Err(Failure::Usage("--auth is not a JSON object".into())
                .with_hint("write it as {\"token\":\"...\"}")),
            Err(_) => {
                Err(Failure::Usage("--auth is not JSON".into()).with_hint("write it as {\"token\":\"...\"}"))
            }
        }
    }

    /// Connects within the timeout.
    pub(super) async fn connect(
        &self,
        target: &Target,
        nsp: &Namespace,
        auth: Option<&Value>,
    ) -> Result<Socket, Trouble> {
        match timeout(self.timeout, Socket::connect(target, self.transport, nsp, auth)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Trouble::Transient(format!("no connection within {:?}", self.timeout))),
        }
    }
}

/// The state of the command, which outlives a lost connection.
struct Run<'a> {
    client: &'a Client,
    target: Target,
    nsp: Namespace,
    printer: Printer<'a>,
    /// The event to send, or `None` after it is sent.
    to_send: Option<(String, Vec<Value>)>,
    /// The deadline of the acknowledgement.
    answer_until: Option<Instant>,
    reply: Option<Value>,
    events: u64,
}

impl Client {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let target = Target::parse(&self.url).map_err(Failure::Usage)?;
        let auth = self.access.auth()?;
        let reply = self.reply.as_deref().map(values::parse).transpose();
        let reply = reply.map_err(|failure| failure.at("--reply"))?;
        let to_send = match self.emit.split_first() {
            Some((event, args)) => Some((event.clone(), values::parse_all(args, self.string)?)),
            None => None,
        };
        let nsp = Namespace::new(&self.namespace);
        let printer = Printer::new(global, nsp.clone(), self.wide);
        let mut run =
            Run { client: &self, target, nsp, printer, to_send, answer_until: None, reply, events: 0 };
        let mut open = None;
        let work = async {
            // If the end of the time overflows the clock, there is no deadline.
            let deadline = self.for_.and_then(|time| Instant::now().checked_add(time));
            let done = run.until_done(global, auth.as_ref(), &mut open);
            let Some(deadline) = deadline else { return done.await };
            match timeout_at(deadline, done).await {
                Ok(outcome) => outcome,
                Err(_) => run.when_time_is_over(),
            }
        };
        let outcome = exit::unless_interrupted(work).await;
        if let Some(socket) = open {
            // A server would keep a socket that polls until its ping timeout.
            socket.close().await;
        }
        outcome
    }
}

impl Run<'_> {
    /// Reconnects after each lost connection until the command is done. Leaves the last socket in `open`.
    async fn until_done(
        &mut self,
        global: &Global,
        auth: Option<&Value>,
        open: &mut Option<Socket>,
    ) -> Result<(), Failure> {
        let mut socket = open.insert(self.connect(auth).await.map_err(|trouble| self.failure(trouble))?);
        loop {
            global.note(&format!("connected to {} as {}", self.target, socket.id()));
            match self.stay(socket).await? {
                None => return Ok(()),
                Some(trouble) if trouble.is_transient() && self.answer_until.is_none() => {
                    global.warn(&format!("{}: {trouble}; connecting again", self.target));
                    *open = None;
                    socket = open.insert(self.connect_again(global, auth).await?);
                }
                Some(trouble) => return Err(self.failure(trouble)),
            }
        }
    }

    async fn connect(&self, auth: Option<&Value>) -> Result<Socket, Trouble> {
        self.client.access.connect(&self.target, &self.nsp, auth).await
    }

    /// Reconnects with back-off until the server is reachable. Only `--for` limits the time.
    async fn connect_again(&self, global: &Global, auth: Option<&Value>) -> Result<Socket, Failure> {
        let mut pause = Duration::from_millis(100);
        let mut told = None;
        loop {
            sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            match self.connect(auth).await {
                Ok(socket) => return Ok(socket),
                Err(trouble) if trouble.is_transient() => {
                    if told.as_ref() != Some(&trouble) {
                        global.warn(&format!("{}: {trouble}; trying again", self.target));
                        told = Some(trouble);
                    }
                }
                Err(trouble) => return Err(self.failure(trouble)),
            }
        }
    }

    /// Sends the event, prints incoming events and replies to them. Returns the trouble if the connection ends before
    /// the command is done, else `None`.
    async fn stay(&mut self, socket: &mut Socket) -> Result<Option<Trouble>, Failure> {
        if let Some((event, args)) = &self.to_send {
            let ack = self.client.ack.then_some(ACK);
            // The server may have got it: a second attempt could send it twice.
            socket.emit(event, args, ack).await.map_err(|trouble| self.failure(trouble))?;
            self.to_send = None;
            self.answer_until = ack.and_then(|_| Instant::now().checked_add(self.client.access.timeout));
        }
        while !self.is_done() {
            let incoming = match self.answer_until {
                None => socket.next().await,
                Some(deadline) => match timeout_at(deadline, socket.next()).await {
                    Ok(incoming) => incoming,
                    Err(_) => return Err(self.no_answer()),
                },
            };
            match incoming {
                Ok(Incoming::Event { name, args, ack }) => {
                    self.printer.event(&name, &args, ack.is_some())?;
                    self.events += 1;
                    if let (Some(id), Some(reply)) = (ack, &self.reply)
                        && let Err(trouble) = socket.acknowledge(id, std::slice::from_ref(reply)).await
                    {
                        return Ok(Some(trouble));
                    }
                }
                Ok(Incoming::Ack { id: ACK, args }) if self.answer_until.take().is_some() => {
                    self.printer.answer(&self.client.emit[0], &args)?;
                }
                // Ignores an acknowledgement without a request.
                Ok(Incoming::Ack { .. }) => {}
                Err(trouble) => return Ok(Some(trouble)),
            }
        }
        Ok(None)
    }

    fn is_done(&self) -> bool {
        let Client { count, for_, ack, .. } = self.client;
        self.answer_until.is_none()
            && match count {
                Some(count) => self.events >= *count,
                None => *ack && for_.is_none(),
            }
    }

    fn when_time_is_over(&self) -> Result<(), Failure> {
        if self.answer_until.is_some() {
            return Err(self.no_answer());
        }
        if let Some((event, _)) = &self.to_send {
            let target = &self.target;
            return Err(Failure::Other(format!("{target}: {event} could not be sent in the time of --for")));
        }
        match self.client.count {
            Some(count) if self.events < count => {
                let verb = if self.events == 1 { "event has" } else { "events have" };
                let (target, events) = (&self.target, self.events);
                Err(Failure::TooFew(format!("{target}: {events} of {count} {verb} come in time")))
            }
            _ => Ok(()),
        }
    }

    fn no_answer(&self) -> Failure {
        let event = self.client.emit.first().map_or("", String::as_str);
        Failure::TooFew(format!("{}: no acknowledgement of {event} in time", self.target))
    }

    fn failure(&self, trouble: Trouble) -> Failure {
        failure(&self.target, &self.nsp, &trouble)
    }
}

/// The failure for trouble with a server, as one line that names the server.
pub(super) fn failure(target: &Target, nsp: &Namespace, trouble: &Trouble) -> Failure {
    let place = if *nsp == Namespace::default() { String::new() } else { format!(", namespace {nsp}") };
    let failure = Failure::Other(format!("{target}{place}: {trouble}"));
    match trouble {
        Trouble::Transient(reason) if reason.starts_with("HTTP 404") => {
            failure.with_hint("the path of the URL is the server's --path; -n names a namespace")
        }
        _ => failure,
    }
}
