//! Names for pods that may ask no other DNS: those of the cluster, and no others; however many, malformed or slow the questions are.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use domain::base::iana::{Rcode, Rtype};
use domain::base::{Message, MessageBuilder, Name};
use domain::rdata::A;
use futures::future::join_all;
use support::unique;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::{Instant, sleep, timeout};

use crate::client;
use crate::dns::Script;
use crate::hosts::ZONE;
use crate::world::{Egress, World, fresh_address, run};

/// What a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(8);

struct Names {
    world: &'static World,
    proxy: Egress,
    at: SocketAddr,
}

impl Names {
    async fn start(flags: &[&str]) -> Self {
        let world = World::get().await;
        let at = free_port().await;
        let listen = format!("--dns-listen={at}");
        let proxy = world.proxy_with(&[&[listen.as_str()], flags].concat()).await;
        Self { world, proxy, at }
    }

    /// A pod of a workflow that declares no domains: names need none.
    async fn pod(&self) -> IpAddr {
        let namespace = self.world.namespace().await;
        let workflow = crate::world::Workflow {
            namespace,
            name: "triage".to_owned(),
        };
        self.world.pod(&workflow).await
    }

    /// A Service's name that no other test uses.
    fn service(&self, addresses: &[&str]) -> String {
        let name = format!("{}.ai.svc.cluster.local", unique("api"));
        self.world.dns.script(&name, Script::of(addresses));
        name
    }

    /// What is answered to bytes in one datagram; `None`: nothing, in that time.
    async fn send(&self, pod: IpAddr, bytes: &[u8], within: Duration) -> Option<Vec<u8>> {
        let socket = UdpSocket::bind(SocketAddr::new(pod, 0)).await.unwrap();
        socket.connect(self.at).await.unwrap();
        socket.send(bytes).await.unwrap();
        let mut buffer = vec![0; 65_535];
        let length = timeout(within, socket.recv(&mut buffer)).await.ok()?.unwrap();
        buffer.truncate(length);
        Some(buffer)
    }

    async fn ask(&self, pod: IpAddr, name: &str) -> Answer {
        let answer = self.send(pod, &question(name, Some(1232)), PATIENCE).await;
        read(
            &answer.unwrap_or_else(|| panic!("{name} is not answered: {}", self.proxy.log())),
            name,
        )
    }

    async fn count(&self, verdict: &str) -> f64 {
        self.proxy
            .metric(&format!("ringfence_egress_names_total{{verdict=\"{verdict}\"}}"))
            .await
    }
}

#[derive(Debug, Eq, PartialEq)]
struct Answer {
    code: Rcode,
    addresses: Vec<String>,
    is_cut: bool,
}

impl Answer {
    fn of(code: Rcode, addresses: &[&str]) -> Self {
        Self {
            code,
            addresses: addresses.iter().map(|address| (*address).to_owned()).collect(),
            is_cut: false,
        }
    }
}

fn question(name: &str, size: Option<u16>) -> Vec<u8> {
    let name: Name<Vec<u8>> = Name::vec_from_str(name).unwrap();
    let mut message = MessageBuilder::new_vec();
    message.header_mut().set_id(0x1234);
    message.header_mut().set_rd(true);
    let mut question = message.question();
    question.push((&name, Rtype::A)).unwrap();
    let mut additional = question.additional();
    if let Some(size) = size {
        additional
            .opt(|options| {
                options.set_udp_payload_size(size);
                Ok(())
            })
            .unwrap();
    }
    additional.finish()
}

/// Reads an answer, which repeats the question as it was written.
fn read(bytes: &[u8], name: &str) -> Answer {
    let message = Message::from_octets(bytes).unwrap();
    let asked = message.sole_question().unwrap();
    assert_eq!(asked.qname().to_string(), name.trim_end_matches('.'));
    assert!(message.header().qr() && message.header().id() == 0x1234);
    let records = message.answer().unwrap().limit_to::<A>();
    Answer {
        code: message.header().rcode(),
        addresses: records
            .map(|record| record.unwrap().data().addr().to_string())
            .collect(),
        is_cut: message.header().tc(),
    }
}

async fn stream(at: SocketAddr, pod: IpAddr) -> TcpStream {
    client::connection(at, pod).await
}

async fn by_stream(stream: &mut TcpStream, name: &str) -> std::io::Result<Answer> {
    let bytes = question(name, None);
    stream.write_u16(bytes.len() as u16).await?;
    stream.write_all(&bytes).await?;
    let mut answer = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut answer).await?;
    Ok(read(&answer, name))
}

/// One port for both.
async fn free_port() -> SocketAddr {
    loop {
        let datagrams = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = datagrams.local_addr().unwrap();
        if TcpListener::bind(at).await.is_ok() {
            return at;
        }
    }
}

/// A wildcard above the cluster's domain is declared, and below that a neighbour's Service leads wherever it says.
#[test]
fn a_name_of_the_cluster_is_reached_through_no_proxy() {
    run(async {
        let world = World::get().await;
        let (service, beside) = (world.host("service"), world.host("beside"));
        let domain = format!("--cluster-domain=cluster.local,{service}");
        let proxy = world.proxy_with(&[&domain]).await;
        let workflow = world
            .workflow(&[&format!("*.{ZONE}"), &service], &[world.hosts.tls])
            .await;
        let pod = world.pod(&workflow).await;
        let below = format!("x.svc.{service}");
        world.dns.script(&below, Script::of(&["127.0.0.1"]));
        for name in [&service, &below] {
            let refused = client::tunnel(proxy.address(), pod, &format!("{name}:{}", world.hosts.tls)).await;
            let refused = refused.unwrap_err();
            assert_eq!(refused.status, 403);
            assert!(refused.body.contains("is a name of the cluster"), "{}", refused.body);
            assert_eq!(world.dns.asked(name), 0, "{name}");
        }
        let others = client::tunnel(proxy.address(), pod, &format!("{beside}:{}", world.hosts.tls)).await;
        assert!(others.is_ok());
    });
}

/// The DNS behind it answers for all of them, and is asked for those of the cluster alone.
#[test]
fn names_of_the_cluster_are_passed_on_and_there_are_no_others() {
    run(async {
        let names = Names::start(&["--cluster-domain=cluster.local,clusterset.local"]).await;
        let pod = names.pod().await;
        let service = names.service(&["10.96.7.1", "10.96.7.2"]);
        let found = Answer::of(Rcode::NOERROR, &["10.96.7.1", "10.96.7.2"]);
        assert_eq!(names.ask(pod, &service).await, found);
        let shouted = service.replace("svc.cluster", "SVC.Cluster");
        assert_eq!(names.ask(pod, &shouted).await, found, "as a client spells it");
        let elsewhere = format!("{}.ai.svc.clusterset.local", unique("api"));
        names.world.dns.script(&elsewhere, Script::of(&["10.96.7.3"]));
        assert_eq!(
            names.ask(pod, &elsewhere).await,
            Answer::of(Rcode::NOERROR, &["10.96.7.3"])
        );
        let missing = format!("{}.ai.svc.cluster.local", unique("no"));
        assert_eq!(names.ask(pod, &missing).await, Answer::of(Rcode::NXDOMAIN, &[]));
        assert!(names.world.dns.asked(&missing) > 0, "its DNS says so");

        for tunnel in [
            names.world.host("secret"),
            format!("{}.evil.example", unique("secret")),
            format!("{}.cluster.local.evil.example", unique("secret")),
            format!("{}.in-addr.arpa", unique("secret")),
            format!("{}.local", unique("secret")),
        ] {
            names.world.dns.script(&tunnel, Script::of(&["192.0.2.1"]));
            assert_eq!(
                names.ask(pod, &tunnel).await,
                Answer::of(Rcode::NXDOMAIN, &[]),
                "{tunnel}"
            );
            assert_eq!(names.world.dns.asked(&tunnel), 0, "{tunnel}");
        }
        let mut tcp = stream(names.at, pod).await;
        let tunnel = names.world.host("secret");
        assert_eq!(
            by_stream(&mut tcp, &tunnel).await.unwrap(),
            Answer::of(Rcode::NXDOMAIN, &[])
        );
        assert_eq!(
            by_stream(&mut tcp, &service).await.unwrap(),
            found,
            "on the same connection"
        );
        assert_eq!(names.world.dns.asked(&tunnel), 0);
        assert!(names.count("passed-on").await >= 5.0 && names.count("not-of-cluster").await >= 6.0);
        assert!(
            !names.proxy.log().contains("secret"),
            "what a pod asks for is its own business"
        );
    });
}

/// A datagram holds as much as the client takes: the rest comes by TCP.
#[test]
fn what_a_datagram_does_not_hold_comes_by_tcp() {
    run(async {
        let names = Names::start(&[]).await;
        let pod = names.pod().await;
        let many: Vec<String> = (0..200).map(|number| format!("10.97.0.{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let service = names.service(&many);
        for (size, most) in [(None, 512), (Some(4096), 1232)] {
            let answer = names.send(pod, &question(&service, size), PATIENCE).await.unwrap();
            assert!(answer.len() <= most, "{} bytes", answer.len());
            assert!(read(&answer, &service).is_cut);
        }
        let mut tcp = stream(names.at, pod).await;
        assert_eq!(by_stream(&mut tcp, &service).await.unwrap().addresses.len(), 200);
    });
}

#[test]
fn who_is_no_workflows_pod_is_told_no_name() {
    run(async {
        let names = Names::start(&[]).await;
        let service = names.service(&["10.96.7.1"]);
        let stranger = fresh_address();
        assert_eq!(names.ask(stranger, &service).await, Answer::of(Rcode::REFUSED, &[]));
        assert_eq!(names.world.dns.asked(&service), 0);
        // A pod asks before anybody has told of it.
        let namespace = names.world.namespace().await;
        let workflow = crate::world::Workflow {
            namespace,
            name: "triage".to_owned(),
        };
        let new = fresh_address();
        let asked = names.ask(new, &service);
        let made = async {
            sleep(Duration::from_millis(300)).await;
            names.world.pod_at(&workflow, "new", new, serde_json::json!({})).await;
        };
        let (answer, ()) = tokio::join!(asked, made);
        assert_eq!(answer, Answer::of(Rcode::NOERROR, &["10.96.7.1"]));
    });
}

/// It ends, in twelve bytes or in nothing, and the next question is answered.
#[test]
fn what_is_no_question_is_refused_and_nobody_is_harmed() {
    run(async {
        let names = Names::start(&[]).await;
        let pod = names.pod().await;
        let service = names.service(&["10.96.7.1"]);
        let head = |flags: u8, counts: [u8; 4]| {
            let [a, b, c, d] = counts;
            vec![0x12, 0x34, flags, 0, 0, a, 0, b, 0, c, 0, d]
        };
        let asking = |rest: &[u8]| [&head(1, [1, 0, 0, 0])[..], rest].concat();
        let (unreadable, not_done) = (Some(1), Some(4));
        for (bytes, code) in [
            (Vec::new(), None),
            (vec![0; 11], None),
            (head(0x81, [1, 0, 0, 0]), None),
            (head(0x29, [1, 0, 0, 0]), not_done),
            (head(1, [0; 4]), unreadable),
            (asking(&[0xc0, 12, 0, 1, 0, 1]), unreadable),
            (asking(&[1, b'a', 0xc0, 12, 0, 1, 0, 1]), unreadable),
            (asking(&[63]), unreadable),
            ([&question(&service, None)[..], &[0; 2000]].concat(), unreadable),
            ([&question(&service, None)[..], &[0; 60_000]].concat(), unreadable),
        ] {
            let patience = if code.is_none() {
                Duration::from_millis(300)
            } else {
                PATIENCE
            };
            let answer = names.send(pod, &bytes, patience).await;
            assert_eq!(
                answer.as_ref().map(|answer| answer[3] & 15),
                code,
                "{} bytes",
                bytes.len()
            );
            assert!(answer.is_none_or(|answer| answer.len() == 12));
        }
        // By TCP, what is too long ends the connection before it is read.
        let mut tcp = stream(names.at, pod).await;
        tcp.write_u16(u16::MAX).await.unwrap();
        assert!(timeout(PATIENCE, tcp.read_u8()).await.unwrap().is_err());
        assert_eq!(
            names.ask(pod, &service).await,
            Answer::of(Rcode::NOERROR, &["10.96.7.1"])
        );
        assert!(names.count("bad-request").await >= 9.0);
    });
}

/// A pod that asks for what nobody answers, and one that holds connections, take their own places and no one else's.
#[test]
fn many_and_slow_ones_leave_others_theirs() {
    run(async {
        let names = Names::start(&[]).await;
        let (greedy, other) = (names.pod().await, names.pod().await);
        let service = names.service(&["10.96.7.1"]);
        for pod in [greedy, other] {
            names.ask(pod, &service).await;
        }
        let silent = names.service(&["10.96.7.9"]);
        names.world.dns.change(&silent, |script| script.is_silent = true);
        let asks = (0..200).map(|_| async {
            let answer = names.send(greedy, &question(&silent, None), PATIENCE).await;
            answer.map(|answer| read(&answer, &silent).code)
        });
        let beside = async {
            sleep(Duration::from_millis(500)).await;
            let began = Instant::now();
            assert_eq!(
                names.ask(other, &service).await,
                Answer::of(Rcode::NOERROR, &["10.96.7.1"])
            );
            assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        };
        let (codes, ()) = tokio::join!(join_all(asks), beside);
        let failed = codes.iter().filter(|code| **code == Some(Rcode::SERVFAIL)).count();
        let dropped = codes.iter().filter(|code| code.is_none()).count();
        assert_eq!(failed + dropped, 200);
        assert!(
            (32..64).contains(&failed),
            "{failed}: as many as one address may have at a time"
        );

        // Connections that say nothing, or half a question.
        let mut held = Vec::new();
        for number in 0..8 {
            let mut tcp = stream(names.at, greedy).await;
            if number % 2 == 0 {
                tcp.write_all(&[0]).await.unwrap();
            }
            held.push(tcp);
        }
        let mut beyond = stream(names.at, greedy).await;
        assert!(
            timeout(PATIENCE, by_stream(&mut beyond, &service))
                .await
                .unwrap()
                .is_err()
        );
        let mut tcp = stream(names.at, other).await;
        assert_eq!(by_stream(&mut tcp, &service).await.unwrap().addresses, ["10.96.7.1"]);
        for mut tcp in held {
            let ended = timeout(Duration::from_secs(15), tcp.read_u8()).await;
            assert!(ended.expect("it is ended").is_err());
        }
        let mut tcp = stream(names.at, greedy).await;
        assert_eq!(by_stream(&mut tcp, &service).await.unwrap().addresses, ["10.96.7.1"]);
        assert!(names.count("too-many").await > 136.0);
    });
}

#[test]
fn a_name_port_in_use_is_told() {
    run(async {
        let world = World::get().await;
        let taken = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let listen = format!("--dns-listen={}", taken.local_addr().unwrap());
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_ringfence"))
            .args([
                "egress",
                "--listen=127.0.0.1:0",
                "--metrics-listen=127.0.0.1:0",
                "--nameserver=127.0.0.1:9",
                &listen,
            ])
            .env("KUBECONFIG", &world.kubeconfig)
            .output();
        let output = timeout(PATIENCE, output).await.expect("its end").unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(
            !output.status.success() && said.contains("cannot listen for questions on"),
            "{said}"
        );
    });
}
