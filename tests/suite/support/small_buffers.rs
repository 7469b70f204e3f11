//! Connections for which the kernel holds only some 100 KB that the test does not read.

use std::pin::Pin;

use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tokio_openssl::SslStream;

/// Connects without TLS. The send buffer of the server starts with a number of segments, so small segments bound it as well.
pub async fn connect(address: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    SockRef::from(&socket).set_tcp_mss(536).unwrap();
    socket.connect(address.parse().unwrap()).await.unwrap()
}

/// Connects with TLS. Any certificate will do.
pub async fn connect_with_tls(address: &str) -> SslStream<TcpStream> {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
    builder.set_verify(SslVerifyMode::NONE);
    let ssl = builder.build().configure().unwrap().into_ssl("localhost").unwrap();
    let mut stream = SslStream::new(ssl, connect(address).await).unwrap();
    Pin::new(&mut stream).connect().await.unwrap();
    stream
}
