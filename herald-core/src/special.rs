//! Addresses that no tenant may have the platform connect to: special-purpose ones (IANA's registries, RFC 6890), multicast, and
//! whatever isn't global unicast.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::steering::Prefix;

/// Which addresses tenants may have the platform connect to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressRules {
    /// Special-purpose ones that they may, by the operator's word. A prefix of a single address lets go one of the platform's own, too.
    pub allowed: Vec<Prefix>,
    /// Those that they may not, whatever else is said, by the operator's word.
    pub refused: Vec<Prefix>,
    /// Those of the platform's hosts, ascending.
    pub own: Vec<IpAddr>,
}

impl AddressRules {
    /// Why they may not, if so: what is special about an address. An IPv4 address within an IPv6 one is the IPv6 address that it is
    /// written as.
    pub fn refused(&self, address: IpAddr) -> Option<&'static str> {
        const OWN: &str = "the platform's own";
        if self.refused.iter().any(|prefix| prefix.contains(address)) {
            return Some(OWN);
        }
        if self.own.binary_search(&address).is_ok()
            && !self.allowed.iter().any(|prefix| prefix.is_only(address))
        {
            return Some(OWN);
        }
        special_purpose(address).filter(|_| !self.allowed.iter().any(|prefix| prefix.contains(address)))
    }
}

/// IPv4 networks by address and length, and what they are.
const IPV4: [(Ipv4Addr, u32, &str); 18] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, "this network"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "private use"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "shared address space"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "private use"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "IETF protocol assignments"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "documentation"),
    (Ipv4Addr::new(192, 31, 196, 0), 24, "AS112"),
    (Ipv4Addr::new(192, 52, 193, 0), 24, "AMT"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "6to4 relay anycast"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "private use"),
    (Ipv4Addr::new(192, 175, 48, 0), 24, "AS112"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "benchmarking"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "documentation"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "documentation"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved"),
];

/// IPv6 networks, longer prefixes before those that they are in.
const IPV6: [(Ipv6Addr, u32, &str); 16] = [
    (Ipv6Addr::UNSPECIFIED, 128, "unspecified"),
    (Ipv6Addr::LOCALHOST, 128, "loopback"),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96, "IPv4-mapped"),
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 32, "IPv4/IPv6 translation"),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 32, "discard-only"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, "documentation"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "IETF protocol assignments"),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, "6to4"),
    (Ipv6Addr::new(0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0), 48, "AS112"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "documentation"),
    (Ipv6Addr::new(0x5f00, 0, 0, 0, 0, 0, 0, 0), 16, "segment routing"),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, "unique-local"),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, "link-local"),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, "site-local"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "multicast"),
    // Nothing but 2000::/3 is assigned for global unicast.
    (Ipv6Addr::UNSPECIFIED, 0, "not global unicast"),
];

/// Whether an address says which host it is of, also from elsewhere: every host has loopback and link-local ones of its own.
pub fn names_a_host(address: IpAddr) -> bool {
    let is_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !(is_local || address.is_loopback() || address.is_unspecified() || address.is_multicast())
}

/// What is special about an address; none if it is a plain global unicast one.
pub fn special_purpose(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => IPV4
            .iter()
            .find(|(network, length, _)| (address.to_bits() ^ network.to_bits()) >> (32 - length) == 0)
            .map(|(.., what)| *what),
        IpAddr::V6(address) => {
            let is_in = |network: &Ipv6Addr, length: u32| {
                (address.to_bits() ^ network.to_bits()).checked_shr(128 - length).unwrap_or(0) == 0
            };
            let found = IPV6.iter().find(|(network, length, _)| is_in(network, *length));
            let is_global = address.to_bits() >> 125 == 1;
            found.filter(|(_, length, _)| *length > 0 || !is_global).map(|(.., what)| *what)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_special_or_not() {
        for (address, what) in [
            ("0.1.2.3", Some("this network")),
            ("10.255.0.1", Some("private use")),
            ("100.63.255.255", None),
            ("100.64.0.0", Some("shared address space")),
            ("100.127.255.255", Some("shared address space")),
            ("100.128.0.0", None),
            ("127.0.0.1", Some("loopback")),
            ("169.254.169.254", Some("link-local")),
            ("172.15.255.255", None),
            ("172.31.0.1", Some("private use")),
            ("172.32.0.0", None),
            ("192.0.0.9", Some("IETF protocol assignments")),
            ("192.0.1.1", None),
            ("192.0.2.1", Some("documentation")),
            ("192.168.1.1", Some("private use")),
            ("198.17.255.255", None),
            ("198.19.0.1", Some("benchmarking")),
            ("223.255.255.255", None),
            ("224.0.0.1", Some("multicast")),
            ("255.255.255.255", Some("reserved")),
            ("8.8.8.8", None),
            ("::", Some("unspecified")),
            ("::1", Some("loopback")),
            ("::2", Some("not global unicast")),
            ("::ffff:8.8.8.8", Some("IPv4-mapped")),
            ("64:ff9b::7f00:1", Some("IPv4/IPv6 translation")),
            ("2001::1", Some("IETF protocol assignments")),
            ("2001:200::1", None),
            ("2001:db8::1", Some("documentation")),
            ("2002:7f00:1::", Some("6to4")),
            ("2606:4700::1111", None),
            ("3fff:fff::1", Some("documentation")),
            ("3fff:1000::1", None),
            ("4000::1", Some("not global unicast")),
            ("fd00::1", Some("unique-local")),
            ("fe80::1", Some("link-local")),
            ("fec0::1", Some("site-local")),
            ("ff02::1", Some("multicast")),
        ] {
            assert_eq!(special_purpose(address.parse().unwrap()), what, "{address}");
        }
    }

    #[test]
    fn operators_allow_and_refuse() {
        let prefixes =
            |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Prefix>>();
        let rules = AddressRules {
            allowed: prefixes(&["10.1.0.0/16", "::1", "1.1.1.1"]),
            refused: prefixes(&["10.1.2.0/24", "9.9.9.9"]),
            own: ["1.1.1.1", "8.8.8.8", "10.1.0.2", "2620:fe::9"].map(|own| own.parse().unwrap()).to_vec(),
        };
        let why = |address: &str| rules.refused(address.parse().unwrap());
        assert_eq!(why("10.1.0.1"), None);
        assert_eq!(why("10.1.2.1"), Some("the platform's own"));
        assert_eq!(why("10.2.0.1"), Some("private use"));
        assert_eq!((why("::1"), why("::ffff:10.1.0.1")), (None, Some("IPv4-mapped")));
        assert_eq!((why("9.9.9.9"), why("9.9.9.10")), (Some("the platform's own"), None));
        assert_eq!((why("8.8.8.8"), why("8.8.4.4")), (Some("the platform's own"), None));
        assert_eq!((why("2620:fe::9"), why("2620:fe::10")), (Some("the platform's own"), None));
        // A host of the platform's in a network that is allowed stays its own; one that is named is let go.
        assert_eq!((why("10.1.0.2"), why("1.1.1.1")), (Some("the platform's own"), None));
    }
}
