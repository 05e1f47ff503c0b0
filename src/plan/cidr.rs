//! Address ranges: how they must be written, what a class lets a workflow declare, and what is always excepted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Services from which a cloud hands out credentials: AWS, GCP, Azure and OpenStack share the first; then Azure's wire
/// server, Alibaba Cloud, the task and pod credential endpoints of AWS, the address behind the first on the nodes of GKE, Tencent
/// Cloud, Scaleway, Oracle's of old, Volcano Engine with BytePlus, and UCloud; over IPv6 AWS and its pods' endpoint, GCP, Oracle, OpenStack,
/// Scaleway, Linode and Alibaba Cloud. Source: the vendors' documents and client libraries, and cloud-init. The chart's policy of the egress proxy
/// lists the same, which `tests/chart` holds it to.
const METADATA_V4: [Ipv4Addr; 11] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    Ipv4Addr::new(169, 254, 169, 252),
    Ipv4Addr::new(169, 254, 0, 23),
    Ipv4Addr::new(169, 254, 42, 42),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(100, 96, 0, 96),
    Ipv4Addr::new(100, 80, 80, 80),
];
const METADATA_V6: [Ipv6Addr; 8] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),
    Ipv6Addr::new(0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0xfd00, 0x100, 0, 0, 0, 0, 0x100, 0x200),
];

/// NAT64's well-known prefix (RFC 6052), through which an IPv6 packet reaches an IPv4 address.
const NAT64: [u16; 2] = [0x64, 0xff9b];
/// The prefix for a NAT64 of the network's own (RFC 8215). Where in it the IPv4 address stands is the network's choice, so all of it may lead
/// to any.
const OWN_NAT64: (Ipv6Addr, u8) = (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48);

/// Parses a range. `Err` says what is wrong with it, as the end of a sentence that begins with the range.
pub(crate) fn parse(text: &str) -> Result<IpNet, &'static str> {
    const NOT_A_CIDR: &str = "is not a CIDR, such as 203.0.113.0/24";
    // The standard library's parser refuses 010.0.0.0, which some readers take for octal and ipnet takes for decimal.
    let (address, prefix) = text.split_once('/').ok_or(NOT_A_CIDR)?;
    let address: IpAddr = address.parse().map_err(|_| NOT_A_CIDR)?;
    // Neither +8 nor 08: a range that can be written in two ways is read in two ways.
    let is_plain = prefix.bytes().all(|byte| byte.is_ascii_digit()) && (prefix == "0" || !prefix.starts_with('0'));
    let prefix = prefix.parse().ok().filter(|_| is_plain).ok_or(NOT_A_CIDR)?;
    let net = IpNet::new(address, prefix).map_err(|_| NOT_A_CIDR)?;
    if net.trunc() != net {
        return Err("has bits set behind its prefix, so it says two things at once");
    }
    if let IpNet::V6(net) = net
        && (net.addr().to_ipv4_mapped().is_some() || mapped_range().is_some_and(|mapped| mapped.contains(&net)))
    {
        return Err("is an IPv4 range written as IPv6, which network plugins read differently");
    }
    Ok(net)
}

/// Whether `net` lies in one of the class's ranges. A class range that cannot be parsed covers nothing.
pub(super) fn covered(net: &IpNet, class: &[String]) -> bool {
    class
        .iter()
        .filter_map(|text| parse(text).ok())
        .any(|allowed| allowed.contains(net))
}

/// What hands out credentials, wherever it is: of IPv4, and of IPv6.
pub(super) fn metadata() -> [Vec<String>; 2] {
    let everywhere = [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
    everywhere.map(|net| metadata_in(&net).iter().map(IpNet::to_string).collect())
}

/// Addresses inside `net` that hand out credentials, in every form that a packet can carry them, and ranges that may lead to one. If `net`
/// is such an address itself, or part of such a range, it is all that is left.
pub(crate) fn metadata_in(net: &IpNet) -> Vec<IpNet> {
    let nat64 = METADATA_V4.iter().map(|address| IpAddr::V6(through_nat64(*address)));
    let plain = METADATA_V4.iter().map(|address| IpAddr::V4(*address));
    let six = METADATA_V6.iter().map(|address| IpAddr::V6(*address));
    let own = Ipv6Net::new(OWN_NAT64.0, OWN_NAT64.1).ok().map(IpNet::V6);
    let own = own.and_then(|own| match () {
        () if net.contains(&own) => Some(own),
        () if own.contains(net) => Some(*net),
        () => None,
    });
    plain
        .chain(six)
        .chain(nat64)
        .filter(|address| net.contains(address))
        .map(IpNet::from)
        .chain(own)
        .collect()
}

fn through_nat64(address: Ipv4Addr) -> Ipv6Addr {
    let [a, b, c, d] = address.octets();
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Ipv6Addr::new(NAT64[0], NAT64[1], 0, 0, 0, 0, high, low)
}

/// The range of IPv6 through which NAT64 reaches a range of IPv4.
pub(super) fn translated(net: &IpNet) -> Option<IpNet> {
    match net {
        IpNet::V4(net) => Ipv6Net::new(through_nat64(net.addr()), 96 + net.prefix_len())
            .ok()
            .map(IpNet::V6),
        IpNet::V6(_) => None,
    }
}

fn mapped_range() -> Option<Ipv6Net> {
    Ipv6Net::new(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96).ok()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::v4("203.0.113.0/24", true)]
    #[case::v6("2001:db8::/32", true)]
    #[case::everything("0.0.0.0/0", true)]
    #[case::host_bits("203.0.113.7/24", false)]
    #[case::no_prefix("203.0.113.7", false)]
    #[case::too_long("203.0.113.0/33", false)]
    #[case::octal("010.0.0.0/8", false)]
    #[case::prefix_with_a_zero("10.0.0.0/08", false)]
    #[case::prefix_with_a_sign("10.0.0.0/+8", false)]
    #[case::prefix_of_nothing("0.0.0.0/", false)]
    #[case::mapped("::ffff:169.254.169.254/128", false)]
    #[case::mapped_range("::ffff:0:0/96", false)]
    #[case::unicode("２03.0.113.0/24", false)]
    #[case::empty("", false)]
    fn ranges_are_written_one_way(#[case] text: &str, #[case] valid: bool) {
        assert_eq!(parse(text).is_ok(), valid, "{:?}", parse(text));
    }

    #[rstest]
    #[case::inside("10.1.2.0/24", true)]
    #[case::equal("10.0.0.0/8", true)]
    #[case::wider("10.0.0.0/7", false)]
    #[case::half_of_everything("0.0.0.0/1", false)]
    #[case::other_family("::/0", false)]
    fn a_range_must_lie_in_one_of_the_class(#[case] text: &str, #[case] expected: bool) {
        assert_eq!(
            covered(&parse(text).unwrap(), &["10.0.0.0/8".to_owned(), "nonsense".to_owned()]),
            expected
        );
    }

    #[rstest]
    #[case::all_of_v4("0.0.0.0/0", 11)]
    #[case::upper_half("128.0.0.0/1", 8)]
    #[case::link_local("169.254.0.0/16", 6)]
    #[case::none("203.0.113.0/24", 0)]
    #[case::shared("100.64.0.0/10", 3)]
    #[case::all_of_v6("::/0", 20)]
    #[case::all_nat64("64:ff9b::/32", 12)]
    #[case::nat64_of_the_networks_own("64:ff9b:1::/48", 1)]
    #[case::beside_it("64:ff9b:2::/48", 0)]
    #[case::link_local_of_v6("fe80::/10", 1)]
    #[case::nat64("64:ff9b::/96", 11)]
    fn credentials_are_found_in_every_form(#[case] text: &str, #[case] expected: usize) {
        assert_eq!(metadata_in(&parse(text).unwrap()).len(), expected);
    }

    /// Nothing is left of a range that may lead to any address of IPv4.
    #[rstest]
    #[case::whole("64:ff9b:1::/48")]
    #[case::as_the_well_known_prefix("64:ff9b:1::/96")]
    #[case::one_address("64:ff9b:1::a9fe:a9fe/128")]
    fn a_nat64_of_the_networks_own_is_taken_out_whole(#[case] text: &str) {
        let net = parse(text).unwrap();
        assert!(metadata_in(&net).contains(&net));
    }
}
