//! Engine.IO over HTTP requests: the server holds a GET until it has packets, and receives packets by POST.

use std::collections::VecDeque;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderMap, header};

use super::engine::{EngineTransport, Outgoing, Packet, SEPARATOR, Session};
use super::http::request;
use super::{Target, Trouble};

/// A session of HTTP requests.
pub(super) struct Polling {
    target: Target,
    session: Session,
    /// The cookies for a load balancer that finds the session's server by a cookie.
    cookies: String,
    /// The remaining packets of the last response.
    ready: VecDeque<Packet>,
    /// The GET that the server holds. It survives when the future of `receive` is dropped.
    poll: Option<BoxFuture<'static, Result<Bytes, Trouble>>>,
}

impl Polling {
    pub(super) async fn open(target: &Target) -> Result<Self, Trouble> {
        let (headers, body) = request(target, None, "", None).await?;
        let text = text_of(&body)?;
        let (open, rest) = text.split_once(SEPARATOR).unwrap_or((text, ""));
        let session = Session::read(open)?;
        let ready = if rest.is_empty() { VecDeque::new() } else { packets(rest)? };
        Ok(Self { target: target.clone(), session, cookies: cookies(&headers), ready, poll: None })
    }

    async fn post(&mut self, body: String) -> Result<(), Trouble> {
        request(&self.target, Some(&self.session.sid), &self.cookies, Some(body)).await.map(drop)
    }
}

impl EngineTransport for Polling {
    fn session(&self) -> &Session {
        &self.session
    }

    async fn receive(&mut self) -> Result<Packet, Trouble> {
        loop {
            if let Some(packet) = self.ready.pop_front() {
                return Ok(packet);
            }
            let poll = self.poll.get_or_insert_with(|| {
                let (target, sid, cookies) =
                    (self.target.clone(), self.session.sid.clone(), self.cookies.clone());
                async move { Ok(request(&target, Some(&sid), &cookies, None).await?.1) }.boxed()
            });
            let body = poll.await;
            self.poll = None;
            self.ready = packets(text_of(&body?)?)?;
        }
    }

    async fn send(&mut self, Outgoing { text, binaries }: Outgoing) -> Result<(), Trouble> {
        let mut body = format!("4{text}");
        for bytes in binaries {
            let packet = format!("b{}", STANDARD.encode(bytes));
            // The size limit of a packet also applies to a body.
            if self.session.takes(body.len() + 1 + packet.len()) {
                body.push(SEPARATOR);
                body.push_str(&packet);
            } else {
                self.post(std::mem::replace(&mut body, packet)).await?;
            }
        }
        self.post(body).await
    }

    async fn pong(&mut self) -> Result<(), Trouble> {
        self.post("3".into()).await
    }

    async fn close(mut self) {
        // A session that has ended needs no close packet.
        self.post("1".into()).await.ok();
    }
}

fn text_of(body: &Bytes) -> Result<&str, Trouble> {
    std::str::from_utf8(body).map_err(|_| Trouble::Protocol("an answer that is not UTF-8".into()))
}

/// Decodes the packets of a response.
fn packets(text: &str) -> Result<VecDeque<Packet>, Trouble> {
    let read = |packet: &str| match packet.strip_prefix('b') {
        Some(base64) => {
            let bytes = STANDARD.decode(base64);
            let bytes =
                bytes.map_err(|error| Trouble::Protocol(format!("binary that is not base64: {error}")));
            Ok(Packet::Binary(bytes?.into()))
        }
        None => Packet::read(packet),
    };
    text.split(SEPARATOR).map(read).collect()
}

/// The `Cookie` header with the cookies that a response sets.
fn cookies(headers: &HeaderMap) -> String {
    let set = headers.get_all(header::SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs: Vec<_> = set.filter_map(|cookie| cookie.split(';').next()).map(str::trim).collect();
    pairs.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_packets() {
        let read: Vec<_> = packets("42[\"a\"]\x1ebAQI=\x1e2").unwrap().into();
        assert_eq!(read, [Packet::Text("2[\"a\"]".into()), Packet::Binary(vec![1, 2].into()), Packet::Ping]);
        for bad in ["", "b?", "42\x1e"] {
            assert!(packets(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_cookies_of_a_balancer_come_back() {
        let mut headers = HeaderMap::new();
        assert_eq!(cookies(&headers), "");
        headers.append(header::SET_COOKIE, "io=abc; Path=/; HttpOnly".parse().unwrap());
        headers.append(header::SET_COOKIE, "route=1".parse().unwrap());
        assert_eq!(cookies(&headers), "io=abc; route=1");
    }
}
