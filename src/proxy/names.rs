//! Names for pods that may ask no other DNS: those of the cluster are asked of its DNS, and there are no others.
//!
//! Must never: wait for one pod while another could be answered, answer with more than was asked for where the caller may be forged, or hold
//! what somebody sends slowly.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::open::caller;
use super::places::Place;
use super::resolve::Way;
use super::serve::{Proxy, REST, next};
use crate::egress::{Asked, Code, Fate, MAX_QUESTION};
use crate::telemetry::NameVerdict;

/// Where names are asked for.
#[derive(Debug)]
pub struct NamePort {
    /// Questions of one datagram each.
    pub datagrams: UdpSocket,
    /// Questions whose answers are longer.
    pub streams: TcpListener,
}

/// Answers until `stop`; ends what still goes on at `end`. `tasks` holds all that goes on.
pub async fn serve_names(
    proxy: Arc<Proxy>,
    port: NamePort,
    tasks: TaskTracker,
    stop: CancellationToken,
    end: CancellationToken,
) {
    let NamePort { datagrams, streams } = port;
    tokio::join!(
        serve_datagrams(&proxy, datagrams, &tasks, &stop, &end),
        serve_streams(&proxy, streams, &tasks, &stop, &end),
    );
}

async fn serve_datagrams(
    proxy: &Arc<Proxy>,
    socket: UdpSocket,
    tasks: &TaskTracker,
    stop: &CancellationToken,
    end: &CancellationToken,
) {
    let socket = Arc::new(socket);
    // One byte more than is read: what is cut off here is too long.
    let mut buffer = vec![0; MAX_QUESTION + 1];
    loop {
        let received = tokio::select! {
            () = stop.cancelled() => return,
            received = socket.recv_from(&mut buffer) => received,
        };
        let (length, from) = match received {
            Ok(received) => received,
            Err(error) => {
                warn!(%error, "a question could not be received");
                sleep(REST).await;
                continue;
            }
        };
        let address = from.ip().to_canonical();
        let Some(place) = proxy.names.take(address, proxy.known(address).as_ref()) else {
            proxy.metrics.named(NameVerdict::TooMany);
            continue;
        };
        let bytes = buffer.get(..length).unwrap_or_default().to_vec();
        let (proxy, socket, end) = (Arc::clone(proxy), Arc::clone(&socket), end.clone());
        tasks.spawn(async move {
            let answered = tokio::select! {
                () = end.cancelled() => None,
                answered = answer(&proxy, &place, address, &bytes, Way::Datagram) => answered,
            };
            if let Some(answer) = answered {
                // What does not go at once is asked for again.
                drop(socket.try_send_to(&answer, from));
            }
        });
    }
}

async fn serve_streams(
    proxy: &Arc<Proxy>,
    listener: TcpListener,
    tasks: &TaskTracker,
    stop: &CancellationToken,
    end: &CancellationToken,
) {
    while let Some((stream, address)) = next(&listener, stop).await {
        let Some(place) = proxy.name_streams.take(address, proxy.known(address).as_ref()) else {
            proxy.metrics.named(NameVerdict::TooMany);
            continue;
        };
        let (proxy, stop, end) = (Arc::clone(proxy), stop.clone(), end.clone());
        tasks.spawn(async move {
            let ended = tokio::select! {
                () = end.cancelled() => Ok(()),
                ended = talk(&proxy, &place, address, stream, &stop) => ended,
            };
            if let Err(error) = ended {
                debug!(%error, "a connection for names has ended early");
            }
        });
    }
}

/// One question after another, each answered before the next is read.
async fn talk(
    proxy: &Proxy,
    place: &Place,
    address: IpAddr,
    mut stream: TcpStream,
    stop: &CancellationToken,
) -> io::Result<()> {
    let limits = &proxy.limits;
    loop {
        let length = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            length = timeout(limits.name_idle, stream.read_u16()) => usize::from(length??),
        };
        if length > MAX_QUESTION {
            proxy.metrics.named(NameVerdict::BadRequest);
            return Ok(());
        }
        let mut bytes = vec![0; length];
        timeout(limits.name_whole, stream.read_exact(&mut bytes)).await??;
        let Some(answer) = answer(proxy, place, address, &bytes, Way::Stream).await else {
            return Ok(());
        };
        let length = u16::try_from(answer.len()).map_err(|_| io::ErrorKind::InvalidData)?;
        let framed = [&length.to_be_bytes(), answer.as_slice()].concat();
        timeout(limits.name_whole, stream.write_all(&framed)).await??;
    }
}

/// What is sent back, if anything.
async fn answer(proxy: &Proxy, place: &Place, address: IpAddr, bytes: &[u8], way: Way) -> Option<Vec<u8>> {
    let said = |verdict| proxy.metrics.named(verdict);
    let asked = match Asked::read(bytes) {
        Ok(asked) => asked,
        Err(unreadable) => {
            said(NameVerdict::BadRequest);
            return unreadable.answer();
        }
    };
    let Ok((workflow, _)) = caller(&proxy.callers, address, proxy.limits.unknown).await else {
        said(NameVerdict::UnknownCaller);
        return Some(asked.answer(Code::Refused));
    };
    if !place.is_of(&workflow) {
        said(NameVerdict::TooMany);
        return None;
    }
    if let Fate::Answered(code) = asked.fate(&proxy.cluster_domains) {
        said(NameVerdict::NotOfCluster);
        return Some(asked.answer(code));
    }
    let passed_on = timeout(proxy.limits.name, proxy.resolver.pass_on(&asked, way)).await;
    let verdict = match passed_on {
        Ok(Some(_)) => NameVerdict::PassedOn,
        Ok(None) | Err(_) => NameVerdict::NoAnswer,
    };
    said(verdict);
    let passed_back = passed_on.ok().flatten();
    Some(passed_back.unwrap_or_else(|| asked.answer(Code::Failed)))
}
