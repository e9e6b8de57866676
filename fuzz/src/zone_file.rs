//! The path of a zone file: read, checked, written, read again. What was right stays equal, however it was cut into parts.

use herald_core::Name;
use herald_core::check::CheckedContent;
use herald_core::zonefile::{ZoneFileReader, parse_zone_file, write_zone_file};

/// The first octet chooses the origin, the default TTL and into which parts the file is cut; the rest is the file.
pub(crate) fn run(data: &[u8]) {
    let Some((&choice, text)) = data.split_first() else { return };
    let origin = ["example.com.", "a.b.2.0.192.in-addr.arpa.", ".", "xn--mnchen-3ya.example."];
    let origin = Name::parse(origin[usize::from(choice & 3)]).expect("a name");
    let default_ttl_s = (choice & 4 != 0).then_some(600);
    let read = parse_zone_file(text, &origin, default_ttl_s);

    let mut reader = ZoneFileReader::new(&origin, default_ttl_s);
    text.chunks(1 + usize::from(choice >> 3)).for_each(|part| reader.read(part));
    assert_eq!(reader.finish(), read, "in parts it reads otherwise");

    let file = match read {
        Ok(file) => file,
        Err(errors) => {
            assert!(!errors.first.is_empty() && errors.count >= errors.first.len() as u64);
            let lines = text.iter().filter(|octet| **octet == b'\n').count() + 1;
            for error in &errors.first {
                assert!((1..=lines).contains(&error.line) && error.column >= 1, "{error}");
                assert!(!error.message.is_empty(), "{error:?}");
            }
            return;
        }
    };
    let Ok(checked) = CheckedContent::new(origin.clone(), file.rrsets.clone()) else { return };
    let mut written = String::new();
    let soa = file.soa.as_ref().map(|(ttl_s, soa)| (*ttl_s, soa));
    write_zone_file(&origin, soa, checked.content().iter(), &mut written).expect("a String takes it");
    let again = parse_zone_file(written.as_bytes(), &origin, None)
        .unwrap_or_else(|errors| panic!("what was written isn't read: {errors:?}\n{written}"));
    assert_eq!((&again.soa, &again.rrsets), (&file.soa, checked.content()), "it reads otherwise:\n{written}");
    let mut twice = String::new();
    let soa = again.soa.as_ref().map(|(ttl_s, soa)| (*ttl_s, soa));
    write_zone_file(&origin, soa, again.rrsets.iter(), &mut twice).expect("a String takes it");
    assert_eq!(written, twice, "it is written otherwise");
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    const EXAMPLE: &str = include_str!("../../testbed/assets/example.zone");
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    let mut seed = |choice: u8, text: &str| seeds.push([&[choice], text.as_bytes()].concat());
    seed(0xf8, EXAMPLE);
    // Its entries one by one: mutations then hit what matters more often.
    for entry in EXAMPLE.split("\n").filter(|line| !line.trim().is_empty() && !line.contains(['(', ')'])) {
        seed(0x0c, entry);
    }
    for text in [
        "$TTL 1h30m\n@ IN SOA ns1 host\\.master ( 1 ; serial\n 2h 3m 4w 5 )\n\tNS ns1\nns1 300 IN A 192.0.2.1\n",
        "$GENERATE 1-10/3 host${0,3,d} A 192.0.2.$\n$GENERATE 0-15 ${0,0,n} PTR a${-3,2,x}.example.com.\n",
        "$ORIGIN sub.example.com.\n*.wild IN 60 TXT \"a b\" c\\032d \"\\\"\\255\"\n$INCLUDE other.zone\n",
        "a\\.b.c 1D IN TYPE65280 \\# 4 0a000001\na CLASS1 TYPE1 \\# 4 c0000201\n",
        "@ MX 10 mail\n@ 5 TXT ( \"one\"\n \"two\" ; comment\n )\nb CNAME a\n\n; only a comment\n",
        "1 IN PTR host.example.com.\r\n2 IN PTR host2.example.com.\r\n",
        "@ LOC 52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m\n@ APL 1:192.168.32.0/21 !2:fe80::/10\n",
        "@ HTTPS 1 . alpn=\"h2,h3\" port=8443 ipv4hint=192.0.2.1 ech=AAAA key65000=\"x\\,y\"\n",
        "@ NAPTR 100 10 \"u\" \"E2U+sip\" \"!^.*$!sip:info@example.com!\" .\n@ CAA 128 issue \"ca.example; a=b\"\n",
    ] {
        seed(0x0c, text);
        seed(0x81, text);
    }
    seeds
}

pub(crate) const WORDS: &[&str] = &[
    "$ORIGIN ",
    "$TTL ",
    "$GENERATE ",
    "$INCLUDE ",
    " IN ",
    " CH ",
    " CLASS1 ",
    "\n",
    "\r\n",
    "\t",
    "(",
    ")",
    ";",
    "\"",
    "\\",
    "\\000",
    "\\046",
    "\\#",
    "@",
    "*",
    ".",
    " A ",
    " AAAA ",
    " NS ",
    " SOA ",
    " MX ",
    " TXT ",
    " CNAME ",
    " DNAME ",
    " PTR ",
    " SRV ",
    " CAA ",
    " DS ",
    " TLSA ",
    " SSHFP ",
    " NAPTR ",
    " LOC ",
    " URI ",
    " SVCB ",
    " HTTPS ",
    " CERT ",
    " SMIMEA ",
    " HINFO ",
    " RP ",
    " APL ",
    " DNSKEY ",
    " RRSIG ",
    " NSEC ",
    " NSEC3 ",
    " NSEC3PARAM ",
    " CSYNC ",
    " ZONEMD ",
    " EUI48 ",
    " EUI64 ",
    " OPENPGPKEY ",
    " TYPE65280 ",
    "4294967295",
    "2147483648",
    "65536",
    "255",
    "1w2d3h4m5s",
    "192.0.2.1",
    "2001:db8::1",
    "0-10/2",
    "${0,3,d}",
    "${-1,2,n}",
    "alpn=",
    "mandatory=",
    "no-default-alpn",
    "ipv6hint=",
    "key65535=",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];
