//! Copies the head of a request out of the read buffer of its connection.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};

/// The headers of the websocket handshake, which tell nothing about the client.
const OF_HANDSHAKE: &str = "sec-websocket-";

/// Copies URI and headers. socketioxide keeps the head of a client's first request for as long as the client is connected,
/// and each header would keep the whole read buffer of the connection (8 KiB) in memory. The copies share one allocation. A
/// header takes 104 bytes of the map, so those of the websocket handshake are left out.
pub(super) fn copy_out_of_buffer<B>(request: &mut Request<B>) {
    let is_kept = |(name, _): &(&HeaderName, &HeaderValue)| !name.as_str().starts_with(OF_HANDSHAKE);
    let kept: Vec<_> = request.headers().iter().filter(is_kept).collect();
    let uri = request.uri().to_string();
    let values = kept.iter().map(|(_, value)| value.len()).sum::<usize>();
    let mut all = BytesMut::with_capacity(uri.len() + values);
    all.extend_from_slice(uri.as_bytes());
    kept.iter().for_each(|(_, value)| all.extend_from_slice(value.as_bytes()));
    let mut rest = all.freeze();
    let mut next = |bytes: usize| -> Bytes { rest.split_to(bytes) };

    let uri = Uri::from_maybe_shared(next(uri.len()));
    let mut headers = HeaderMap::with_capacity(kept.len());
    for (name, value) in kept {
        let Ok(mut copy) = HeaderValue::from_maybe_shared(next(value.len())) else { continue };
        copy.set_sensitive(value.is_sensitive());
        headers.append(name, copy);
    }
    *request.headers_mut() = headers;
    if let Ok(uri) = uri {
        *request.uri_mut() = uri;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_equals_the_original() {
        let request =
            Request::get("/socket.io/?EIO=4&transport=websocket").header("X-Two", "a").header("x-two", "b");
        let mut request = request.header("host", "h").body(()).unwrap();
        let (uri, headers) = (request.uri().clone(), request.headers().clone());
        copy_out_of_buffer(&mut request);
        assert_eq!((request.uri(), request.headers()), (&uri, &headers));
        let mut request =
            Request::get("https://h/x?%41=b").header("x", HeaderValue::from_bytes(b"\xff ").unwrap());
        request = request.header("empty", "").header("y", "z");
        let mut request = request.body(()).unwrap();
        let (uri, headers) = (request.uri().clone(), request.headers().clone());
        request.headers_mut().insert("sec-websocket-key", HeaderValue::from_static("AAAA"));
        copy_out_of_buffer(&mut request);
        assert_eq!((request.uri(), request.headers()), (&uri, &headers));
    }
}
