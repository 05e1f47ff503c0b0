//! Sockets to listen on: both families at once, where the kernel has both.
//!
//! Must never: end the proxy because there is no IPv6, or leave IPv4 out because there is.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tracing::warn;

/// Connections that may wait to be taken.
const WAITING: i32 = 1024;

/// Listens at an address. `[::]` is every address of both families; where the kernel has no IPv6, every one of IPv4.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    listen_by(address, bind)
}

/// The same for datagrams.
pub fn listen_for_datagrams(address: SocketAddr) -> io::Result<UdpSocket> {
    listen_by(address, |address| {
        let socket = socket(address, Type::DGRAM, Protocol::UDP)?;
        socket.bind(&address.into())?;
        Ok(socket.into())
    })
}

fn listen_by<T>(address: SocketAddr, bind: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    match bind(address) {
        Err(error) if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && lacks_ipv6(&error) => {
            let address = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
            warn!(%error, %address, "this machine has no IPv6: listening on IPv4 alone");
            bind(address)
        }
        bound => bound,
    }
}

/// The kernel was built or started without it, or no interface has it.
fn lacks_ipv6(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address, Type::STREAM, Protocol::TCP)?;
    // One that has just stopped leaves connections behind.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(WAITING)?;
    Ok(socket.into())
}

fn socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        // Whatever the machine's own default is. Of one address it says nothing.
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn parsed(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_socket_takes_both_families() {
        let listener = listen(parsed("[::]:0")).unwrap();
        listener.set_nonblocking(false).unwrap();
        let port = listener.local_addr().unwrap().port();
        for from in ["127.0.0.1", "::1"] {
            let from: IpAddr = from.parse().unwrap();
            let stream = TcpStream::connect(SocketAddr::new(from, port)).unwrap();
            let (_, peer) = listener.accept().unwrap();
            assert_eq!(peer.ip().to_canonical(), from);
            drop(stream);
        }
        // It is taken, on either.
        for address in [format!("[::]:{port}"), format!("127.0.0.1:{port}")] {
            assert_eq!(listen(parsed(&address)).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        }
    }

    #[test]
    fn without_ipv6_it_is_every_address_of_ipv4() {
        let without = |errno: Errno| {
            move |address: SocketAddr| match address {
                SocketAddr::V6(_) => Err(io::Error::from_raw_os_error(errno.raw_os_error())),
                SocketAddr::V4(_) => Ok(address),
            }
        };
        for errno in [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL] {
            assert_eq!(
                listen_by(parsed("[::]:3128"), without(errno)).unwrap(),
                parsed("0.0.0.0:3128")
            );
            assert!(
                listen_by(parsed("[::1]:3128"), without(errno)).is_err(),
                "one address is meant"
            );
        }
        assert!(listen_by(parsed("[::]:3128"), without(Errno::ADDRINUSE)).is_err());
    }
}
