//! One question to one resolver, and its answer.
//!
//! Must never: take somebody else's answer for the resolver's, read more than may be, or leave a port behind. How long it takes is bounded by
//! whoever asks.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::egress::NotAnAnswer;

/// Longest datagram that is read: more than is asked for.
const MAX_DATAGRAM: usize = 4096;

/// From a port of its own, that the kernel chose, for each question.
pub(super) async fn by_datagram<T>(
    server: SocketAddr,
    message: &[u8],
    read: impl Fn(&[u8]) -> Result<T, NotAnAnswer>,
) -> io::Result<T> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(message).await?;
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // Somebody else's answer does not end the wait for the right one.
        if let Ok(reply) = read(buffer.get(..length).unwrap_or_default()) {
            return Ok(reply);
        }
    }
}

/// One that is longer than `most` is not read.
pub(super) async fn by_stream<T>(
    server: SocketAddr,
    message: &[u8],
    most: usize,
    read: impl Fn(&[u8]) -> Result<T, NotAnAnswer>,
) -> io::Result<T> {
    let mut stream = TcpStream::connect(server).await?;
    // Resolvers keep it open, so it is closed from here, and the kernel would keep its port for a minute: some hundred questions a second would
    // leave none. Nothing is lost by a reset, since what was asked for has come, or is not waited for any more.
    stream.set_zero_linger()?;
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await?;
    let length = usize::from(stream.read_u16().await?);
    if length > most {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut buffer = vec![0; length];
    stream.read_exact(&mut buffer).await?;
    read(&buffer).map_err(|_| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::time::{Duration, timeout};

    use super::*;

    /// A port that is left to the kernel is kept for a minute.
    #[tokio::test]
    async fn a_stream_to_a_resolver_leaves_nothing_behind() {
        let streams = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = streams.local_addr().unwrap();
        let answered = async {
            let (mut stream, _) = streams.accept().await.unwrap();
            stream.read_exact(&mut [0; 3]).await.unwrap();
            stream.write_all(&[0, 1, 7]).await.unwrap();
            stream.read_u8().await.unwrap_err().kind()
        };
        let read = |bytes: &[u8]| Ok(bytes.to_vec());
        let (asked, ended) = tokio::join!(by_stream(address, &[1], 9, read), answered);
        assert_eq!((asked.unwrap(), ended), (vec![7], io::ErrorKind::ConnectionReset));
        let silent = async {
            let (mut stream, _) = streams.accept().await.unwrap();
            stream.read_exact(&mut [0; 3]).await.unwrap();
            stream.read_u8().await.unwrap_err().kind()
        };
        let given_up = timeout(Duration::from_millis(200), by_stream(address, &[1], 9, read));
        let (given_up, ended) = tokio::join!(given_up, silent);
        assert!(given_up.is_err());
        assert_eq!(ended, io::ErrorKind::ConnectionReset);
    }
}
