//! A DNS server that answers as each name is scripted, over UDP and TCP.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use domain::base::iana::{Class, Rcode};
use domain::base::{Message, MessageBuilder, Name, Record, Rtype, Ttl};
use domain::rdata::{A, Aaaa, Cname};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

/// What a name answers.
#[derive(Clone, Debug)]
pub struct Script {
    /// Addresses at the first question of a family, the second, and so on; the last ones go on.
    pub turns: Vec<Vec<IpAddr>>,
    pub seconds: u32,
    /// Names between it and its addresses.
    pub aliases: Vec<String>,
    pub code: Rcode,
    /// A datagram holds too little.
    pub is_cut: bool,
    /// Nothing is answered.
    pub is_silent: bool,
}

impl Script {
    pub fn of(addresses: &[&str]) -> Self {
        Self::in_turn(&[addresses])
    }

    pub fn in_turn(turns: &[&[&str]]) -> Self {
        let turn = |texts: &&[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Self {
            turns: turns.iter().map(turn).collect(),
            seconds: 0,
            aliases: Vec::new(),
            code: Rcode::NOERROR,
            is_cut: false,
            is_silent: false,
        }
    }
}

#[derive(Default)]
struct Scripts {
    of: HashMap<String, Script>,
    asked: HashMap<(String, Rtype), usize>,
    streams: usize,
}

/// The server.
#[derive(Clone)]
pub struct Dns {
    pub address: SocketAddr,
    scripts: Arc<Mutex<Scripts>>,
}

impl Dns {
    /// At an address of this machine.
    pub async fn start(address: Ipv4Addr) -> Self {
        let (datagrams, streams) = both(address).await;
        let address = datagrams.local_addr().unwrap();
        let dns = Self {
            address,
            scripts: Arc::default(),
        };
        let of_datagrams = dns.clone();
        tokio::spawn(async move {
            let mut buffer = vec![0; 4096];
            loop {
                let (length, from) = datagrams.recv_from(&mut buffer).await.unwrap();
                if let Some(answer) = of_datagrams.answer(&buffer[..length], false) {
                    datagrams.send_to(&answer, from).await.unwrap();
                }
            }
        });
        let of_streams = dns.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = streams.accept().await.unwrap();
                let length = stream.read_u16().await.unwrap();
                let mut asked = vec![0; length.into()];
                stream.read_exact(&mut asked).await.unwrap();
                of_streams.scripts.lock().unwrap().streams += 1;
                if let Some(answer) = of_streams.answer(&asked, true) {
                    stream.write_u16(answer.len() as u16).await.unwrap();
                    stream.write_all(&answer).await.unwrap();
                }
            }
        });
        dns
    }

    pub fn script(&self, name: &str, script: Script) {
        self.scripts.lock().unwrap().of.insert(name.to_owned(), script);
    }

    pub fn change(&self, name: &str, change: impl FnOnce(&mut Script)) {
        change(self.scripts.lock().unwrap().of.get_mut(name).unwrap());
    }

    /// How often a name was asked for, by IPv4 alone.
    pub fn asked(&self, name: &str) -> usize {
        let scripts = self.scripts.lock().unwrap();
        scripts
            .asked
            .get(&(name.to_owned(), Rtype::A))
            .copied()
            .unwrap_or_default()
    }

    /// How often somebody came by TCP.
    pub fn streams(&self) -> usize {
        self.scripts.lock().unwrap().streams
    }

    fn answer(&self, asked: &[u8], is_stream: bool) -> Option<Vec<u8>> {
        let asked = Message::from_octets(asked).unwrap();
        let question = asked.sole_question().unwrap();
        let name = question.qname().to_string().trim_end_matches('.').to_owned();
        let mut scripts = self.scripts.lock().unwrap();
        let turn = scripts.asked.entry((name.clone(), question.qtype())).or_default();
        *turn += 1;
        let turn = *turn - 1;
        let Some(script) = scripts.of.get(&name) else {
            return Some(
                MessageBuilder::new_vec()
                    .start_answer(&asked, Rcode::NXDOMAIN)
                    .unwrap()
                    .finish(),
            );
        };
        if script.is_silent {
            return None;
        }
        let mut answer = MessageBuilder::new_vec().start_answer(&asked, script.code).unwrap();
        if script.is_cut && !is_stream {
            answer.header_mut().set_tc(true);
            return Some(answer.finish());
        }
        let mut owner: Name<Vec<u8>> = Name::vec_from_str(&name).unwrap();
        let seconds = Ttl::from_secs(script.seconds);
        for alias in &script.aliases {
            let alias: Name<Vec<u8>> = Name::vec_from_str(alias).unwrap();
            answer
                .push(Record::new(owner, Class::IN, seconds, Cname::new(alias.clone())))
                .unwrap();
            owner = alias;
        }
        let addresses = script.turns.get(turn).or(script.turns.last());
        for address in addresses.into_iter().flatten() {
            match (address, question.qtype()) {
                (IpAddr::V4(address), Rtype::A) => {
                    answer
                        .push(Record::new(&owner, Class::IN, seconds, A::new(*address)))
                        .unwrap();
                }
                (IpAddr::V6(address), Rtype::AAAA) => {
                    answer
                        .push(Record::new(&owner, Class::IN, seconds, Aaaa::new(*address)))
                        .unwrap();
                }
                _ => {}
            }
        }
        Some(answer.finish())
    }
}

/// One port for both. That of the one may be taken for the other.
async fn both(address: Ipv4Addr) -> (UdpSocket, TcpListener) {
    loop {
        let datagrams = UdpSocket::bind((address, 0)).await.unwrap();
        if let Ok(streams) = TcpListener::bind(datagrams.local_addr().unwrap()).await {
            return (datagrams, streams);
        }
    }
}
