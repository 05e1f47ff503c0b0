//! From a request to an open connection: who asks, by address and token, whether they may, which addresses, and the first of them that answers.
//!
//! Must never: look a name up, or dial, for somebody who may not.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hyper::StatusCode;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::answer::Refused;
use super::line::Line;
use super::places::Place;
use super::resolve::NotResolved;
use super::serve::{Caller, Proxy};
use super::{Callers, dial};
use crate::egress::{Denied, Host, NoCaller, Passed, Snapshot, Target, Token, Workflow};
use crate::telemetry::EgressVerdict;

/// A connection to the host that was asked for.
pub(super) struct Opened {
    pub(super) host: TcpStream,
    pub(super) passed: Passed,
    /// Until it carries something.
    pub(super) starting: Place,
}

/// Opens a connection for whoever calls, and tells `line` what is known meanwhile. `shown`: the token, where any is heeded.
pub(super) async fn open(
    of: &Caller,
    target: &Target,
    shown: Option<&Token>,
    line: &mut Line,
) -> Result<Opened, Refused> {
    let (proxy, address) = (&*of.proxy, of.address);
    line.target = Some(target.clone());
    let crowded = || {
        Refused::too_many(
            "as many connections are being made as may be, of this pod, of its namespace or in all: open fewer at a time",
        )
    };
    let starting = proxy.starting.take(address, proxy.known(address).as_ref());
    let starting = starting.ok_or_else(crowded)?;
    let (workflow, snapshot) = caller(&proxy.callers, address, proxy.limits.unknown)
        .await
        .map_err(|nobody| Refused::new(StatusCode::FORBIDDEN, EgressVerdict::UnknownCaller, nobody))?;
    line.workflow = Some(Arc::clone(&workflow));
    if !(of.is_of(&workflow) && starting.is_of(&workflow)) {
        return Err(crowded());
    }
    let snapshot = match &proxy.tokens {
        None => snapshot,
        Some(tokens) => {
            let pods = snapshot.pods_at(address).to_vec();
            drop(snapshot);
            tokens.check(&pods, (address, &workflow), shown).await?;
            proxy.callers.now()
        }
    };
    let permit = snapshot.decide(&workflow, target).map_err(|denied| {
        // Of others, nobody has said that there is such a workflow: their number is not bounded.
        if let Denied::NotDeclared(_) = denied {
            proxy.accounts.refused(&workflow, target);
        }
        let reason = format!("workflow {workflow} may not reach {target}: {denied}");
        Refused::new(StatusCode::FORBIDDEN, EgressVerdict::NotDeclared, reason)
    })?;
    // Below a wildcard that is declared. Whoever may make a Service has a name there, and says where it leads.
    if proxy.cluster_domains.hold(&target.host) {
        proxy.accounts.refused(&workflow, target);
        let reason = format!(
            "workflow {workflow} may not reach {target}: it is a name of the cluster: declare what is in the cluster in pods, workflow or cidrs, and connect to it without the proxy"
        );
        return Err(Refused::new(StatusCode::FORBIDDEN, EgressVerdict::NotDeclared, reason));
    }
    line.rule = Some(permit.rule.to_owned());
    line.used = proxy.accounts.used(&workflow, permit);
    // It may be large, and what follows takes long.
    drop(snapshot);
    let addresses = addresses(of, &target.host, &workflow).await?;
    let port = |to: IpAddr| {
        let towards = SocketAddr::new(to, target.port);
        Some((to, proxy.ports.take(towards, address, &workflow)?))
    };
    let mut ports: Vec<_> = dial::in_turn(&addresses).into_iter().filter_map(port).collect();
    if ports.is_empty() && !addresses.is_empty() {
        return Err(Refused::too_many(
            "so many connections were made within a minute, to that host or in all, that no more may be made for its namespace: keep them \
             open, and use them again",
        ));
    }
    let dialled = ports.iter().map(|(to, _)| *to).collect();
    let host = dial::connect(dialled, target.port, proxy.limits.dial).await;
    let host = host.and_then(|host| dial::settle(&host).and_then(|()| Ok((host.peer_addr()?.ip(), host))));
    let (at, host) = host.map_err(|error| unreachable(target, &error))?;
    let of_host = ports.iter().position(|(to, _)| *to == at);
    line.port = of_host.map(|of_host| ports.swap_remove(of_host).1.used());
    proxy.metrics.connected(line.age());
    let passed = Passed {
        address,
        workflow,
        target: target.clone(),
        host: at,
    };
    Ok(Opened { host, passed, starting })
}

/// From here on it carries something, for as long as it would be let through.
pub(super) fn carry(proxy: &Proxy, passed: Passed, line: &mut Line) -> Result<CancellationToken, Refused> {
    let connection = line.connection.insert(proxy.connections.enter(passed.clone()));
    let end = connection.end().clone();
    // It may have been withdrawn since it was decided: names, addresses and handshakes take their time.
    let may = proxy.callers.now().may_go_on(&passed);
    may.map(|()| end)
        .map_err(|withdrawn| Refused::new(StatusCode::FORBIDDEN, EgressVerdict::NotDeclared, withdrawn))
}

fn unreachable(target: &Target, error: &io::Error) -> Refused {
    let status = match error.kind() {
        io::ErrorKind::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::BAD_GATEWAY,
    };
    let reason = format!("{target} may be reached, and does not answer ({})", error.kind());
    Refused::new(status, EgressVerdict::Unreachable, reason)
}

/// Whose pod has the address. A pod that is new is told of a moment after it starts.
pub(super) async fn caller(
    callers: &Callers,
    address: IpAddr,
    within: std::time::Duration,
) -> Result<(Arc<Workflow>, Arc<Snapshot>), NoCaller> {
    let mut changes: watch::Receiver<Arc<Snapshot>> = callers.subscribe();
    let known = async {
        loop {
            let snapshot = Arc::clone(&changes.borrow_and_update());
            if let Ok(workflow) = snapshot.caller(address) {
                return (Arc::clone(workflow), snapshot);
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    match timeout(within, known).await {
        Ok(known) => Ok(known),
        Err(_) => Err(callers.now().caller(address).err().unwrap_or(NoCaller::Unknown)),
    }
}

/// The addresses of a host that may be connected to.
async fn addresses(of: &Caller, host: &Host, whose: &Arc<Workflow>) -> Result<Vec<IpAddr>, Refused> {
    let proxy = &*of.proxy;
    let place = || proxy.look_ups.take(of.address, Some(whose));
    let resolved = timeout(
        proxy.limits.resolve,
        Box::pin(proxy.resolver.resolve(host, &whose.namespace, place)),
    )
    .await;
    let resolved = resolved.unwrap_or(Err(NotResolved::NoAnswer)).map_err(|error| {
        let status = match error {
            NotResolved::TooMany => return Refused::too_many(error),
            NotResolved::NoAnswer => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::BAD_GATEWAY,
        };
        Refused::new(status, EgressVerdict::NoAddress, format!("{host}: {error}"))
    })?;
    let (known, mut closed) = (proxy.callers.now(), None);
    let admit = |address| proxy.answers.admit(address, known.cluster());
    let admitted: Vec<IpAddr> = resolved
        .into_iter()
        .filter_map(|address| admit(address).map_err(|why| closed = Some(why)).ok())
        .collect();
    match closed {
        Some(why) if admitted.is_empty() => Err(Refused::new(
            StatusCode::BAD_GATEWAY,
            EgressVerdict::NoAddress,
            format!(
                "{host}: DNS answers with an address that is not connected to, because {why}. What is within the cluster is declared in pods, \
                 workflow or cidrs; for another private network, see --allow-private-answers"
            ),
        )),
        _ => Ok(admitted),
    }
}
