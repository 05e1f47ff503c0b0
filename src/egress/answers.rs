//! Which of the addresses that DNS answers with may be connected to.
//!
//! Whoever owns a declared domain says what its addresses are. Must never: let a name lead to the cluster, to the proxy's own machine or
//! network, or to a service that hands out credentials, in whatever form the address is written.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::plan::cidr;

/// Of IPv4, what is not of the world: IANA's registry of special addresses, multicast, and what is reserved.
const NOT_OF_THE_WORLD_V4: [Ipv4Net; 15] = [
    v4([0, 0, 0, 0], 8),
    v4([10, 0, 0, 0], 8),
    v4([100, 64, 0, 0], 10),
    v4([127, 0, 0, 0], 8),
    v4([169, 254, 0, 0], 16),
    v4([172, 16, 0, 0], 12),
    v4([192, 0, 0, 0], 24),
    v4([192, 0, 2, 0], 24),
    v4([192, 88, 99, 0], 24),
    v4([192, 168, 0, 0], 16),
    v4([198, 18, 0, 0], 15),
    v4([198, 51, 100, 0], 24),
    v4([203, 0, 113, 0], 24),
    v4([224, 0, 0, 0], 4),
    v4([240, 0, 0, 0], 4),
];

/// Of IPv6, all that is of the world lies in the first; the second leads to IPv4.
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0, 0, 0], 3);
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0], 96);
/// Within the first: Teredo, whose addresses hide others, what stands in documents, and what identifies without leading anywhere.
const NOT_OF_THE_WORLD_V6: [Ipv6Net; 4] = [
    v6([0x2001, 0, 0, 0], 32),
    v6([0x2001, 0x20, 0, 0], 28),
    v6([0x2001, 0xdb8, 0, 0], 32),
    v6([0x3fff, 0, 0, 0], 20),
];
const SIX_TO_FOUR: Ipv6Net = v6([0x2002, 0, 0, 0], 16);

/// What the platform says of addresses beyond what is the same everywhere.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    opened: Vec<IpNet>,
    closed: Vec<IpNet>,
}

/// Why an address is not connected to.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Closed {
    /// It hands out credentials. Nothing opens it.
    #[error("it is of a service that hands out credentials")]
    Metadata,
    /// A range that the platform has closed.
    #[error("it is in a range that the platform has closed")]
    ByThePlatform,
    /// In a range of the cluster's own pods, Services or nodes.
    #[error("it is of the cluster's own pods, Services or nodes")]
    OfTheCluster,
    /// Not of the world, and not opened.
    #[error("it is private, or of this machine or network")]
    Private,
}

impl Answers {
    /// `opened`: ranges that are private and may be reached all the same. `closed`: ranges that may not, such as the cluster's own where they
    /// are of the world.
    pub fn new(opened: Vec<IpNet>, closed: Vec<IpNet>) -> Self {
        Self { opened, closed }
    }

    /// The address to connect to for one that DNS answered with. An IPv4 address written as IPv6 is the IPv4 address. `cluster`: ranges of the
    /// cluster's own, which nothing opens.
    pub fn admit(&self, answered: IpAddr, cluster: &[IpNet]) -> Result<IpAddr, Closed> {
        for form in forms(answered) {
            self.check(form, cluster)?;
        }
        Ok(answered.to_canonical())
    }

    fn check(&self, address: IpAddr, cluster: &[IpNet]) -> Result<(), Closed> {
        let lies_in = |ranges| lies_in(address, ranges);
        match () {
            () if !cidr::metadata_in(&IpNet::from(address)).is_empty() => Err(Closed::Metadata),
            () if lies_in(&self.closed) => Err(Closed::ByThePlatform),
            () if lies_in(cluster) => Err(Closed::OfTheCluster),
            () if is_of_the_world(address) || lies_in(&self.opened) => Ok(()),
            () => Err(Closed::Private),
        }
    }
}

/// Whether a packet to the address ends in one of the ranges.
pub(super) fn leads_into(address: IpAddr, ranges: &[IpNet]) -> bool {
    forms(address).any(|form| lies_in(form, ranges))
}

fn lies_in(address: IpAddr, ranges: &[IpNet]) -> bool {
    ranges.iter().any(|range| range.contains(&address))
}

/// The addresses that a packet may end at. An IPv4 address written as IPv6 is the IPv4 address.
fn forms(address: IpAddr) -> impl Iterator<Item = IpAddr> {
    let address = address.to_canonical();
    let inner = match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => carried(address),
    };
    std::iter::once(address).chain(inner.map(IpAddr::V4))
}

fn is_of_the_world(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !NOT_OF_THE_WORLD_V4.iter().any(|range| range.contains(&address)),
        IpAddr::V6(address) => {
            let is_not = NOT_OF_THE_WORLD_V6.iter().any(|range| range.contains(&address));
            (GLOBAL_V6.contains(&address) && !is_not) || NAT64.contains(&address)
        }
    }
}

/// The address of IPv4 that a packet to one of IPv6 may end at: through NAT64, 6to4 or ISATAP.
fn carried(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [_, b, c, _, e, f, g, h] = address.segments();
    let joined = |high: u16, low: u16| Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low));
    match () {
        () if NAT64.contains(&address) => Some(joined(g, h)),
        () if SIX_TO_FOUR.contains(&address) => Some(joined(b, c)),
        () if f == 0x5efe && matches!(e, 0 | 0x200) => Some(joined(g, h)),
        () => None,
    }
}

const fn v4([a, b, c, d]: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6([a, b, c, d]: [u16; 4], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), prefix)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn admit(address: &str) -> Result<IpAddr, Closed> {
        Answers::default().admit(address.parse().unwrap(), &[])
    }

    #[rstest]
    #[case::v4("93.184.216.34")]
    #[case::v6("2606:2800:220:1::1")]
    #[case::nat64("64:ff9b::5db8:d822")]
    #[case::six_to_four("2002:5db8:d822::1")]
    #[case::beside_private("172.32.0.1")]
    #[case::beside_shared("100.63.255.255")]
    fn the_world_may_be_reached(#[case] address: &str) {
        assert_eq!(admit(address), Ok(address.parse().unwrap()));
    }

    #[rstest]
    #[case::loopback("127.0.0.1")]
    #[case::loopback_elsewhere("127.255.0.1")]
    #[case::unspecified("0.0.0.0")]
    #[case::this_network("0.1.2.3")]
    #[case::ten("10.96.0.1")]
    #[case::shared("100.64.0.1")]
    #[case::link_local("169.254.1.1")]
    #[case::node_local_dns("169.254.20.10")]
    #[case::seventeen_two("172.31.255.255")]
    #[case::nineteen_two("192.168.1.1")]
    #[case::benchmarks("198.19.0.1")]
    #[case::multicast("239.0.0.1")]
    #[case::reserved("240.0.0.1")]
    #[case::broadcast("255.255.255.255")]
    #[case::loopback_v6("::1")]
    #[case::unspecified_v6("::")]
    #[case::unique_local("fd12:3456::1")]
    #[case::link_local_v6("fe80::1")]
    #[case::site_local("fec0::1")]
    #[case::multicast_v6("ff02::1")]
    #[case::mapped("::ffff:127.0.0.1")]
    #[case::mapped_private("::ffff:10.0.0.1")]
    #[case::compatible("::10.0.0.1")]
    #[case::translated("::ffff:0:10.0.0.1")]
    #[case::nat64("64:ff9b::10.0.0.1")]
    #[case::nat64_of_the_networks_own("64:ff9b:1:a00::1")]
    #[case::six_to_four("2002:a00:1::1")]
    #[case::six_to_four_loopback("2002:7f00:1::")]
    #[case::isatap("2001:4860::5efe:10.0.0.1")]
    #[case::teredo("2001:0:4136:e378:8000:63bf:3fff:fdd2")]
    #[case::documents("2001:db8::1")]
    #[case::discard("100::1")]
    fn what_is_not_of_the_world_may_not(#[case] address: &str) {
        let closed = admit(address);
        assert!(matches!(closed, Err(Closed::Private | Closed::Metadata)), "{closed:?}");
    }

    #[rstest]
    #[case::aws("169.254.169.254")]
    #[case::azure("168.63.129.16")]
    #[case::alibaba("100.100.100.200")]
    #[case::volcano_engine("100.96.0.96")]
    #[case::ucloud("100.80.80.80")]
    #[case::alibaba_v6("fd00:100::100:200")]
    #[case::aws_v6("fd00:ec2::254")]
    #[case::mapped("::ffff:169.254.169.254")]
    #[case::nat64("64:ff9b::a9fe:a9fe")]
    #[case::six_to_four("2002:a9fe:a9fe::1")]
    #[case::nat64_of_the_networks_own("64:ff9b:1::a9fe:a9fe")]
    fn nothing_opens_what_hands_out_credentials(#[case] address: &str) {
        let all = ["0.0.0.0/0", "::/0"].map(|range| range.parse().unwrap());
        let answers = Answers::new(all.into(), Vec::new());
        assert_eq!(answers.admit(address.parse().unwrap(), &[]), Err(Closed::Metadata));
    }

    #[test]
    fn the_platform_opens_what_is_private_and_closes_what_is_not() {
        let range = |text: &str| vec![text.parse().unwrap()];
        let answers = Answers::new(range("10.20.0.0/16"), range("198.35.0.0/16"));
        let admit = |address: &str| answers.admit(address.parse().unwrap(), &[]);
        assert!(admit("10.20.0.1").is_ok() && admit("::ffff:10.20.0.1").is_ok() && admit("64:ff9b::10.20.0.1").is_ok());
        assert_eq!(admit("10.21.0.1"), Err(Closed::Private));
        assert_eq!(admit("198.35.1.1"), Err(Closed::ByThePlatform));
        assert_eq!(admit("::ffff:198.35.1.1"), Err(Closed::ByThePlatform));
        let closed_first = Answers::new(range("10.0.0.0/8"), range("10.96.0.0/12"));
        assert_eq!(
            closed_first.admit("10.96.0.1".parse().unwrap(), &[]),
            Err(Closed::ByThePlatform)
        );
    }

    /// Pods of IPv6 have addresses of the world, and so have those of a cluster that took a range of IPv4 for itself.
    #[rstest]
    #[case::pod_v6("2a0e:8f02::1:7")]
    #[case::pod_v4("25.1.2.3")]
    #[case::mapped("::ffff:25.1.2.3")]
    #[case::nat64("64:ff9b::1901:203")]
    #[case::six_to_four("2002:1901:203::1")]
    #[case::opened("10.1.0.7")]
    fn nothing_leads_into_the_cluster(#[case] address: &str) {
        let ranges = ["2a0e:8f02::/48", "25.0.0.0/8", "10.1.0.0/16"].map(|range| range.parse().unwrap());
        let answers = Answers::new(vec!["10.0.0.0/8".parse().unwrap()], Vec::new());
        let address = address.parse().unwrap();
        assert!(answers.admit(address, &[]).is_ok());
        assert_eq!(answers.admit(address, &ranges), Err(Closed::OfTheCluster));
        assert!(answers.admit("10.2.0.7".parse().unwrap(), &ranges).is_ok());
    }

    proptest! {
        /// However an address of IPv4 is wrapped, the verdict about it is at least as hard.
        #[test]
        fn wrapping_opens_nothing(bits in any::<u32>()) {
            let inner = Ipv4Addr::from_bits(bits);
            let [high, low] = [(bits >> 16) as u16, bits as u16];
            let wrapped = [
                inner.to_ipv6_mapped(),
                inner.to_ipv6_compatible(),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
                Ipv6Addr::new(0x2a00, 1, 0, 0, 0, 0x5efe, high, low),
            ];
            let answers = Answers::default();
            if answers.admit(inner.into(), &[]).is_err() {
                for form in wrapped {
                    prop_assert!(answers.admit(form.into(), &[]).is_err(), "{form}");
                }
            }
        }
    }
}
