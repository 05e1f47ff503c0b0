//! CONNECT: a tunnel for TLS to one host.
//!
//! Must never: let a byte through before the handshake was seen to be for that host.

use std::sync::Arc;
use std::{fmt, io};

use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::TRANSFER_ENCODING;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::answer::{Body, Refused, opened};
use super::line::Line;
use super::open::{Opened, carry, open};
use super::patient::Patient;
use super::relay::{Direction, relay};
use super::serve::Caller;
use crate::egress::{Host, NotForHost, Reader, Target};
use crate::telemetry::EgressVerdict;

/// What is read of a handshake at a time.
const CHUNK: usize = 4 << 10;

/// Fatal alerts of TLS (RFC 8446, 6) in a record of their own: that the name is not known here, and that it is not let through.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];
const ACCESS_DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

/// Answers CONNECT, and goes on with the tunnel by itself.
pub(super) async fn connect(caller: &Arc<Caller>, mut request: Request<Incoming>) -> Response<Body> {
    let mut line = Line::new(&caller.proxy.metrics, caller.address, "connect");
    let asked = target(&request).and_then(|target| Ok((target, caller.proxy.shown(request.headers())?)));
    let made = match asked {
        Ok((target, shown)) => Box::pin(open(caller, &target, shown.as_ref(), &mut line))
            .await
            .map(|opened| (target, opened)),
        Err(refused) => Err(refused),
    };
    let (target, made) = match made {
        Ok(made) => made,
        Err(refused) => {
            line.decided(refused.verdict, &refused.reason);
            return refused.into_response();
        }
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let of = Arc::clone(caller);
    caller
        .tasks
        .spawn(async move { tunnel(of, upgrade, target.host, made, line).await });
    opened()
}

fn target(request: &Request<Incoming>) -> Result<Target, Refused> {
    let has_body = request.headers().contains_key(TRANSFER_ENCODING) || !request.body().is_end_stream();
    if has_body {
        return Err(Refused::bad_request(
            "CONNECT with a body: send the handshake after the answer",
        ));
    }
    let uri = request.uri();
    if uri.scheme().is_some() || uri.path_and_query().is_some() {
        return Err(Refused::bad_request("CONNECT names a host and a port, and no URL"));
    }
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    Target::of_connect(authority).map_err(Refused::bad_request)
}

/// The tunnel, until both ends have ended it. What begins it is more than what it takes while it is open.
async fn tunnel(caller: Arc<Caller>, upgrade: OnUpgrade, host: Host, opened: Opened, mut line: Line) {
    let whose = Arc::clone(&opened.passed.workflow);
    let begun = Box::pin(begin(&caller, upgrade, &host, opened, &mut line)).await;
    let Some((mut pod, mut server, withdrawn)) = begun else {
        return;
    };
    drop(host);
    let proxy = &caller.proxy;
    let count = |direction, bytes| proxy.count(line.used.as_deref(), direction, bytes);
    let waiting = proxy.waiting.tunnel(&whose);
    let relayed = relay(
        &mut pod,
        &mut server,
        &proxy.buffers,
        &line.flow,
        &waiting,
        proxy.limits.idle,
        count,
    );
    let ended = tokio::select! {
        ended = relayed => ended.err().map(|error| Cut::of(&error)),
        () = caller.end.cancelled() => Some(Cut::Stopped),
        // The line knows why.
        () = withdrawn.cancelled() => None,
    };
    if let Some(cut) = ended {
        // What an end has not taken until now would stay with the kernel after it was closed.
        drop(server.set_zero_linger());
        if matches!(cut, Cut::Crowded) {
            drop(pod.set_zero_linger());
        }
        if matches!(cut, Cut::Late | Cut::Crowded) {
            proxy.metrics.stalled();
        }
        line.ended(cut.to_string());
    }
}

/// Why a tunnel was over before both ends had ended it.
enum Cut {
    Late,
    Crowded,
    Broken(io::ErrorKind),
    Stopped,
}

impl Cut {
    fn of(error: &io::Error) -> Self {
        match error.kind() {
            // The kernel's own: what the proxy's clock ends is no stall.
            io::ErrorKind::TimedOut if error.raw_os_error().is_some() => Self::Late,
            io::ErrorKind::QuotaExceeded => Self::Crowded,
            kind => Self::Broken(kind),
        }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late => f.write_str("stalled: an end took nothing, or did not answer, for a minute"),
            Self::Crowded => f.write_str(
                "stalled: bytes waited in more tunnels of the namespace than may be, and in this one for longest",
            ),
            Self::Broken(kind) => kind.fmt(f),
            Self::Stopped => f.write_str("the proxy stops"),
        }
    }
}

/// Waits for the handshake, and passes it on where it is for the host.
async fn begin(
    caller: &Caller,
    upgrade: OnUpgrade,
    host: &Host,
    opened: Opened,
    line: &mut Line,
) -> Option<(TcpStream, TcpStream, CancellationToken)> {
    let Opened {
        host: mut server,
        passed,
        starting,
    } = opened;
    let limits = &caller.proxy.limits;
    let upgraded = timeout(limits.hello, upgrade).await.ok()?.ok()?;
    let (mut pod, read) = taken_apart(upgraded)?;
    caller.speaks_no_more();
    let Ok(hello) = timeout(limits.hello, hello(&mut pod, &read, host)).await else {
        line.decided(EgressVerdict::NotForHost, "the client sent no TLS handshake in time");
        return None;
    };
    let hello = match hello {
        Ok(hello) => hello?,
        Err(error) => {
            line.decided(EgressVerdict::NotForHost, error);
            refuse(&mut pod, alert_for(error)).await;
            return None;
        }
    };
    let withdrawn = match carry(&caller.proxy, passed, line) {
        Ok(withdrawn) => withdrawn,
        Err(refused) => {
            line.decided(refused.verdict, &refused.reason);
            refuse(&mut pod, Some(ACCESS_DENIED)).await;
            return None;
        }
    };
    timeout(limits.hello, server.write_all(&hello)).await.ok()?.ok()?;
    let carried = hello.len() as u64;
    line.flow.add(Direction::Sent, carried);
    caller.proxy.count(line.used.as_deref(), Direction::Sent, carried);
    line.allowed();
    drop(starting);
    Some((pod, server, withdrawn))
}

/// The connection itself, and what was read of it already.
fn taken_apart(upgraded: Upgraded) -> Option<(TcpStream, Bytes)> {
    let parts = upgraded.downcast::<TokioIo<Patient>>().ok()?;
    Some((parts.io.into_inner().into_inner(), parts.read_buf))
}

/// All that has come, once there is a handshake in it that is for the host. `None`: the client has gone before.
async fn hello(pod: &mut TcpStream, read: &[u8], host: &Host) -> Result<Option<Vec<u8>>, NotForHost> {
    let mut reader = Reader::default();
    let mut all = read.to_vec();
    let mut said = reader.push(read)?;
    loop {
        if let Some(hello) = said {
            return hello.is_for(host).map(|()| Some(all));
        }
        let before = all.len();
        all.reserve(CHUNK);
        match pod.read_buf(&mut all).await {
            Ok(0) | Err(_) => return Ok(None),
            Ok(_) => said = reader.push(all.get(before..).unwrap_or_default())?,
        }
    }
}

/// Where TLS is spoken.
const fn alert_for(error: NotForHost) -> Option<[u8; 7]> {
    match error {
        NotForHost::NotTls => None,
        NotForHost::OtherName | NotForHost::NoName => Some(UNRECOGNIZED_NAME),
        NotForHost::Malformed(_) | NotForHost::Encrypted => Some(ACCESS_DENIED),
    }
}

async fn refuse(pod: &mut TcpStream, alert: Option<[u8; 7]>) {
    let Some(alert) = alert else { return };
    // It fits into what the kernel holds, or the client does not listen.
    if pod.try_write(&alert).is_ok() {
        drop(pod.shutdown().await);
    }
}
