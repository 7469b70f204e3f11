//! The head of a request, freed of the buffer that it was read into.

use http::{HeaderMap, HeaderValue, Request};

/// Copies what outlives the request. socketioxide keeps the head of a client's first request for as long as the client is
/// there, and each of its headers would keep the whole buffer of the connection, of 8 KiB.
pub(super) fn from_buffer<B>(request: &mut Request<B>) {
    let copied: HeaderMap = request
        .headers()
        .iter()
        .filter_map(|(name, value)| {
            let mut copy = HeaderValue::from_bytes(value.as_bytes()).ok()?;
            copy.set_sensitive(value.is_sensitive());
            Some((name.clone(), copy))
        })
        .collect();
    *request.headers_mut() = copied;
    if let Ok(uri) = request.uri().to_string().parse() {
        *request.uri_mut() = uri;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_stays_as_it_was() {
        let request =
            Request::get("/socket.io/?EIO=4&transport=websocket").header("X-Two", "a").header("x-two", "b");
        let mut request = request.header("host", "h").body(()).unwrap();
        let (uri, headers) = (request.uri().clone(), request.headers().clone());
        from_buffer(&mut request);
        assert_eq!((request.uri(), request.headers()), (&uri, &headers));
    }
}
