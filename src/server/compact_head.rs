//! Copies the head of a request out of the read buffer of its connection.

use http::{HeaderMap, HeaderValue, Request};

/// Copies URI and headers. socketioxide keeps the head of a client's first request for as long as the client is connected, and
/// each header would keep the whole read buffer of the connection (8 KiB) in memory.
pub(super) fn copy_out_of_buffer<B>(request: &mut Request<B>) {
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
    fn the_copy_equals_the_original() {
        let request =
            Request::get("/socket.io/?EIO=4&transport=websocket").header("X-Two", "a").header("x-two", "b");
        let mut request = request.header("host", "h").body(()).unwrap();
        let (uri, headers) = (request.uri().clone(), request.headers().clone());
        copy_out_of_buffer(&mut request);
        assert_eq!((request.uri(), request.headers()), (&uri, &headers));
    }
}
