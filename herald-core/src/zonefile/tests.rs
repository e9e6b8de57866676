use proptest::prelude::*;

use domain::base::iana::Rtype;

use super::*;
use crate::alias::ALIAS;
use crate::rdata::tests::{known_rdata, known_types};
use crate::rdata::{format_rdata, format_rtype, is_system_type, parse_rdata};
use crate::rrset::{MAX_TTL_S, Rdatas, RrKey, Rrset};

fn origin() -> Name {
    Name::parse("example.com").unwrap()
}

fn parse(text: &str) -> ZoneFile {
    match parse_zone_file(text.as_bytes(), &origin(), None) {
        Ok(zone) => zone,
        Err(errors) => panic!("{errors:#?}"),
    }
}

/// The records of a zone as lines: owner, TTL, type, RDATA.
fn lines(zone: &ZoneFile) -> Vec<String> {
    let soa = zone.soa.iter().map(|(ttl_s, soa)| {
        format!("{} {ttl_s} SOA {}", origin(), format_rdata(Rtype::SOA, &soa.to_rdata()))
    });
    let rrsets = zone.rrsets.iter().flat_map(|(key, rrset)| {
        rrset.rdatas.iter().map(move |rdata| {
            let rtype = format_rtype(key.rtype);
            format!("{} {} {rtype} {}", key.owner, rrset.ttl, format_rdata(key.rtype, rdata))
        })
    });
    soa.chain(rrsets).collect()
}

fn errors(text: &str) -> Vec<String> {
    let errors = parse_zone_file(text.as_bytes(), &origin(), Some(60)).expect_err(text);
    errors.first.iter().map(ZoneFileError::to_string).collect()
}

fn warnings(zone: &ZoneFile) -> Vec<String> {
    zone.warnings.iter().map(ZoneFileWarning::to_string).collect()
}

/// The SOA is the example of RFC 1035 §5.3.
#[test]
fn all_that_the_format_allows() {
    let zone = parse(
        "\u{feff}; a comment\r\n\
         $TTL 1h30m\r\n\
         @   IN  SOA     VENERA      Action\\.domains (\r\n\
         \x20                                20     ; SERIAL\r\n\
         \x20                                7200   ; REFRESH\r\n\
         \x20                                600    ; RETRY\r\n\
         \x20                                3600000; EXPIRE\r\n\
         \x20                                60)    ; MINIMUM\r\n\
         \r\n\
         \x20       NS      A.ISI.EDU.\r\n\
         \tIN NS VENERA ; blank owner\r\n\
         a.example.com. 300 IN A 192.0.2.1\r\n\
         A IN 5m A 192.0.2.2 ; class first, the same owner in another case\r\n\
         \x20 300 A ( 192.0.2.3\r\n\
         )\r\n\
         $ORIGIN sub\r\n\
         @ class1 TXT \"a ; b\" (\"c\"\r\n\
         d \"\"e\r\n\
         )\r\n\
         www CNAME @\r\n\
         $ORIGIN example.com.\r\n\
         in A 192.0.2.4\r\n\
         300 A 192.0.2.5\r\n\
         mx MX 10 mail\r\n\
         *.wild TYPE65280 \\# 2 ab cd\r\n\
         _443._tcp TLSA 3 1 0 ab (\r\n\
         cd ef )\r\n\
         bücher AAAA 2001:db8::1",
    );
    assert_eq!(
        lines(&zone),
        [
            r"example.com. 5400 SOA venera.example.com. action\.domains.example.com. 20 7200 600 3600000 60",
            "example.com. 5400 NS a.isi.edu.",
            "example.com. 5400 NS venera.example.com.",
            "300.example.com. 5400 A 192.0.2.5",
            "_443._tcp.example.com. 5400 TLSA 3 1 0 ABCDEF",
            "a.example.com. 300 A 192.0.2.1",
            "a.example.com. 300 A 192.0.2.2",
            "a.example.com. 300 A 192.0.2.3",
            "in.example.com. 5400 A 192.0.2.4",
            "mx.example.com. 5400 MX 10 mail.example.com.",
            r#"sub.example.com. 5400 TXT "a ; b" "c" "d" "" "e""#,
            "www.sub.example.com. 5400 CNAME sub.example.com.",
            r"*.wild.example.com. 5400 TYPE65280 \# 2 ABCD",
            "xn--bcher-kva.example.com. 5400 AAAA 2001:db8::1",
        ]
    );
    assert_eq!(zone.warnings, []);
}

/// The octets of a raw `ü` are those of the escaped label, but mean its A-label.
#[test]
fn an_escaped_label_is_not_the_raw_one() {
    let zone = parse("$TTL 1\n\\195\\188 A 192.0.2.1\nü A 192.0.2.2\n");
    let mut expected = ["xn--tda.example.com. 1 A 192.0.2.2", r"\195\188.example.com. 1 A 192.0.2.1"];
    expected.sort();
    let mut found = lines(&zone);
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn which_ttl_a_record_gets() {
    let soa = "@ SOA ns h 1 2 3 4 77\n";
    let ttls = |text: &str, default_ttl_s| {
        let zone = parse_zone_file(text.as_bytes(), &origin(), default_ttl_s).unwrap();
        let soa_ttl_s = zone.soa.map(|(ttl_s, _)| ttl_s);
        (soa_ttl_s, zone.rrsets.iter().map(|(_, rrset)| rrset.ttl).collect::<Vec<_>>())
    };
    // The SOA's minimum, the default, the last record's own, `$TTL`, its own.
    assert_eq!(ttls(&format!("{soa}a A 192.0.2.1"), None), (Some(77), vec![77]));
    assert_eq!(ttls(&format!("{soa}a A 192.0.2.1"), Some(5)), (Some(5), vec![5]));
    // A SOA without a TTL says what others without one have, up to a `$TTL`.
    assert_eq!(ttls(&format!("{soa}a 9 A 192.0.2.1\nb A 192.0.2.1"), None), (Some(77), vec![9, 77]));
    assert_eq!(ttls(&format!("{soa}$TTL 8\na A 192.0.2.1"), None), (Some(77), vec![8]));
    assert_eq!(ttls("@ 6 SOA ns h 1 2 3 4 77\na A 192.0.2.1", None), (Some(6), vec![6]));
    assert_eq!(ttls("a 9 A 192.0.2.1\nb A 192.0.2.1", Some(5)), (None, vec![9, 9]));
    assert_eq!(ttls("$TTL 8\na 9 A 192.0.2.1\nb A 192.0.2.1", Some(5)), (None, vec![9, 8]));
    assert_eq!(ttls("$TTL 8\na A 192.0.2.1\n$TTL 7\nb A 192.0.2.1", None), (None, vec![8, 7]));
}

#[test]
fn warnings_say_what_was_done() {
    let zone = parse(
        "$TTL 60\n\
         @ SOA ns h 1 2 3 4 5\n\
         a 300 A 192.0.2.1\n\
         a 200 A 192.0.2.2\n\
         a 300 A 192.0.2.2\n\
         a RRSIG A 13 3 300 1 1 1 . AA==\n\
         b RRSIG A 13 3 300 1 1 1 . AA==\n\
         @ NSEC3PARAM 1 0 0 -\n\
         @ SOA ns h 1 2 3 4 5\n",
    );
    assert_eq!(lines(&zone)[1..], ["a.example.com. 200 A 192.0.2.1", "a.example.com. 200 A 192.0.2.2"]);
    assert_eq!(
        warnings(&zone),
        [
            "line 4: the A records of a.example.com. have different TTLs: the lowest, 200, was taken",
            "line 6: RRSIG records were left out: signing makes them",
            "line 8: NSEC3PARAM records were left out: signing makes them",
            "line 9: the same SOA again was left out",
        ]
    );
}

#[test]
fn all_errors_are_reported() {
    assert_eq!(
        errors(
            " A 192.0.2.1\n\
             a A 192.0.2\n\
             a MX ten mail\n\
             ü..b A 192.0.2.1\n\
             \tA 192.0.2.2\n\
             b (\n\
             \x20 300\n\
             \x20 MX 10 ü..b )\n\
             c CH A 192.0.2.1\n\
             c NOSUCH x\n\
             c\n\
             c 99999999999 A 192.0.2.1\n\
             c 300 TXT \"open\n\
             \x20 A 192.0.2\n\
             d A 192.0.2.1 )\n\
             example.org. A 192.0.2.1\n\
             d SOA ns h 1 2 3 4 5\n\
             @ SOA ns h 1 2 3 4 5\n\
             @ SOA ns h 2 2 3 4 5\n\
             @ ANY x\n\
             $INCLUDE other\n\
             $ORIGIN\n\
             $TTL x\n\
             $TTL 1 2\n\
             $NOSUCH\n\
             @ TXT a\\\n\
             z ( A 192.0.2.1\n"
        ),
        [
            "line 1, column 2: the first record has no owner",
            "line 2, column 5: A address: expected an IPv4 address, found \"192.0.2\"",
            "line 3, column 6: MX preference: expected a number from 0 to 65535, found \"ten\"",
            "line 4, column 1: owner: the domain name has an empty label (two dots in a row, or a dot in front), found \"ü..b\"",
            "line 8, column 9: MX exchange: the domain name has an empty label (two dots in a row, or a dot in front), found \"ü..b\"",
            "line 9, column 3: only class IN is possible",
            "line 10, column 3: unknown record type \"NOSUCH\"",
            "line 11, column 1: the type is missing",
            "line 12, column 3: expected a TTL from 0 to 2147483647 seconds, or like 1h30m",
            "line 13, column 11: the quotation mark is not closed on its line",
            "line 15, column 15: a closing parenthesis without an opening one",
            "line 16, column 1: example.org. is not in the zone example.com.",
            "line 17, column 1: the SOA is not at the top of the zone",
            "line 19, column 1: a second SOA",
            "line 20, column 3: ANY: no record of this type can be in a zone",
            "line 21, column 1: $INCLUDE is not possible here: put the other file in its place",
            "line 22, column 1: the domain name is missing",
            "line 23, column 6: expected a TTL from 0 to 2147483647 seconds, or like 1h30m",
            "line 24, column 8: unexpected text after the TTL",
            "line 25, column 1: unknown directive \"$NOSUCH\"",
            "line 26, column 7: a backslash at the end of the line",
            "line 27, column 3: the parenthesis is never closed",
        ]
    );
    let many = parse_zone_file("a A x\n".repeat(5_000).as_bytes(), &origin(), None).unwrap_err();
    assert_eq!((many.first.len(), many.count), (MAX_ERRORS, 5_000));
    let without_ttl = parse_zone_file(b"a A 192.0.2.1", &origin(), None).unwrap_err();
    assert_eq!(
        without_ttl.first[0].to_string(),
        "line 1, column 3: the record has no TTL, and there is no $TTL and no SOA above it"
    );
    let not_utf8 = parse_zone_file(b"\xff A 192.0.2.1", &origin(), Some(1)).unwrap_err();
    assert_eq!(not_utf8.first[0].message, "owner: the domain name is not UTF-8");
}

/// Of a file that is no zone file, or has no end, no more is kept than one entry.
#[test]
fn entries_without_an_end() {
    for (rubbish, message) in [
        (&b"a ( b\n"[..], "line 3, column 1: the parenthesis is not closed within 1048576 octets"),
        (b"\0\xff", "line 3, column 1: the line is longer than 1048576 octets"),
    ] {
        let mut reader = ZoneFileReader::new(&origin(), Some(1));
        reader.read(b"a A 192.0.2.1\n\n");
        for _ in 0..100 {
            reader.read(&rubbish.repeat(20_000));
            assert!(reader.held.len() <= MAX_ENTRY_BYTES);
        }
        let errors = reader.finish().unwrap_err();
        assert_eq!((errors.first[0].to_string().as_str(), errors.count), (message, 1));
    }
}

#[test]
fn a_signed_file_loses_what_its_signer_made() {
    let zone = parse(
        "$TTL 60\n\
         @ SOA ns h 1 2 3 4 5\n\
         @ RRSIG SOA 8 2 60 20300101000000 20200101000000 1 example.com. AAAA\n\
         @ DNSKEY 256 3 8 AwEAAQ==\n\
         sub DNSKEY 256 3 8 AwEAAQ==\n\
         sub DS 1 8 9 00\n\
         @ NSEC sub SOA\n",
    );
    assert_eq!(
        lines(&zone)[1..],
        ["sub.example.com. 60 DS 1 8 9 00", "sub.example.com. 60 DNSKEY 256 3 8 AwEAAQ=="]
    );
    assert_eq!(
        warnings(&zone),
        [
            "the DNSKEY records of the apex were left out: they belong to the signer of the file",
            "line 3: RRSIG records were left out: signing makes them",
            "line 7: NSEC records were left out: signing makes them",
        ]
    );
    // In a file that isn't signed they are the user's: those of a second signer, say.
    assert_eq!(lines(&parse("@ 60 DNSKEY 256 3 8 AwEAAQ==\n")).len(), 1);
}

#[test]
fn generated_records() {
    let generated = |line: &str| lines(&parse(&format!("$TTL 60\n{line}\n")));
    assert_eq!(
        generated("$GENERATE 1-3 host$ A 192.0.2.$"),
        [
            "host1.example.com. 60 A 192.0.2.1",
            "host2.example.com. 60 A 192.0.2.2",
            "host3.example.com. 60 A 192.0.2.3"
        ]
    );
    assert_eq!(
        generated("$GENERATE 0-4/2 ${0,3,d} 300 IN PTR h${-0,2,x}.${10,4,o}.$$.\\$"),
        [
            r"000.example.com. 300 PTR h00.0012.\$.\$.example.com.",
            r"002.example.com. 300 PTR h02.0014.\$.\$.example.com.",
            r"004.example.com. 300 PTR h04.0016.\$.\$.example.com.",
        ]
    );
    // Nibbles in reverse, as for `ip6.arpa`; the width counts the dots.
    assert_eq!(
        generated("$GENERATE 26-26 ${0,3,n} TXT ${0,5,N} ${255,0,n} ${0,0,X}"),
        [r#"a.1.example.com. 60 TXT "A.1.0" "9.1.1" "1A""#]
    );
    for (line, message) in [
        ("$GENERATE 1-3 a$ A", "line 1, column 1: $GENERATE needs a range, an owner, a type and RDATA"),
        ("$GENERATE 3-1 a$ A x", "line 1, column 11: expected a range like 1-10 or 1-10/2"),
        ("$GENERATE 1-3/0 a$ A x", "line 1, column 11: expected a range like 1-10 or 1-10/2"),
        ("$GENERATE +1-3 a$ A x", "line 1, column 11: expected a range like 1-10 or 1-10/2"),
        ("$GENERATE 0-65536 a$ A x", "line 1, column 11: the range makes more than 65536 records"),
        ("$GENERATE 1-3 a${0 A x", "line 1, column 15: `${` without `}`"),
        (
            "$GENERATE 1-3 a${0,1,q} A x",
            "line 1, column 15: expected ${offset,width,base} with the base d, o, x, X, n or N",
        ),
        ("$GENERATE 1-3 a${-2} A x", "line 1, column 15: the number with its offset is less than 0"),
        (
            "$GENERATE 250-300 a$ A 192.0.2.$",
            "line 1, column 24: A address: expected an IPv4 address, found \"192.0.2.256\"",
        ),
    ] {
        assert_eq!(errors(line), [message], "{line}");
    }
    let bomb = "$GENERATE 0-65535 a$ A 192.0.2.1\n".repeat(17);
    assert_eq!(errors(&bomb), ["line 17, column 1: the $GENERATE lines of the file make too many records"]);
}

#[test]
fn written_files() {
    let zone = parse(
        "$TTL 60\n\
         www A 192.0.2.1\n\
         @ 300 SOA ns h 1 2 3 4 5\n\
         @ NS ns\n\
         \\@.\\$a.b\\.c TXT \"x\\\"y\"\n",
    );
    let mut text = String::new();
    let soa = zone.soa.as_ref().map(|(ttl_s, soa)| (*ttl_s, soa));
    write_zone_file(&origin(), soa, zone.rrsets.iter(), &mut text).unwrap();
    assert_eq!(
        text,
        "$ORIGIN example.com.\n\
         $TTL 300\n\
         @\t300\tIN\tSOA\tns.example.com. h.example.com. 1 2 3 4 5\n\
         @\t60\tIN\tNS\tns.example.com.\n\
         \\@.\\$a.b\\.c\t60\tIN\tTXT\t\"x\\\"y\"\n\
         www\t60\tIN\tA\t192.0.2.1\n"
    );
    assert_eq!(parse(&text), zone);
}

#[test]
fn the_root_zone() {
    let root = Name::root();
    let text = b". 86400 SOA a.root-servers.net. nstld.verisign-grs.com. 1 2 3 4 5\ncom 60 NS a.nic.com.\n";
    let zone = parse_zone_file(text, &root, None).unwrap();
    let mut written = String::new();
    let soa = zone.soa.as_ref().map(|(ttl_s, soa)| (*ttl_s, soa));
    write_zone_file(&root, soa, zone.rrsets.iter(), &mut written).unwrap();
    assert!(written.ends_with("\ncom.\t60\tIN\tNS\ta.nic.com.\n"), "{written}");
    assert_eq!(parse_zone_file(written.as_bytes(), &root, None).unwrap(), zone);
}

/// Files of the styles that are out there, each beside its canonical form, which is read back as the same zone.
#[test]
fn files_of_every_style() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/testdata/zonefiles");
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "zone") {
            continue;
        }
        seen += 1;
        let file = std::fs::read(&path).unwrap();
        let head = String::from_utf8_lossy(&file).lines().next().unwrap().to_owned();
        let origin = Name::parse(head.strip_prefix("; zone: ").unwrap()).unwrap();
        let zone = parse_zone_file(&file, &origin, None).unwrap_or_else(|e| panic!("{path:?}: {e:#?}"));
        let mut canonical = String::new();
        let soa = zone.soa.as_ref().map(|(ttl_s, soa)| (*ttl_s, soa));
        write_zone_file(&origin, soa, zone.rrsets.iter(), &mut canonical).unwrap();
        let again = parse_zone_file(canonical.as_bytes(), &origin, None).unwrap();
        assert_eq!((&again.soa, &again.rrsets), (&zone.soa, &zone.rrsets), "{path:?}");
        assert_eq!(again.warnings, [], "{path:?}");
        zone.warnings.iter().for_each(|warning| canonical.push_str(&format!("; {warning}\n")));
        let expected = path.with_extension("canonical");
        if std::env::var_os("HERALD_REGENERATE_ZONE_FILES").is_some() {
            std::fs::write(&expected, &canonical).unwrap();
        }
        assert_eq!(canonical, std::fs::read_to_string(&expected).unwrap_or_default(), "{path:?}");
    }
    assert_eq!(seen, 18);
}

/// No type is forgotten in the files that hold one of each.
#[test]
fn files_with_every_type() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/testdata/zonefiles");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let text = read("every-type.canonical") + &read("rare-types.canonical");
    // No other software reads an ALIAS in the same way, and PoPs don't get it.
    let known = known_types().into_iter().filter(|rtype| !is_system_type(*rtype) && *rtype != ALIAS);
    for rtype in known {
        let records = text.lines().filter(|line| line.split('\t').nth(3) == Some(&format_rtype(rtype)));
        assert!(records.count() > 0, "there is no {rtype}");
    }
}

/// BIND takes RDATA in quotation marks, and only so if it has several fields.
#[test]
fn generated_records_with_quoted_rdata() {
    for (line, first) in [
        (r#"$GENERATE 1-2 h$ MX "${9} mail-$""#, "h1.example.com. 60 MX 10 mail-1.example.com."),
        (r#"$GENERATE 1-2 h$ 5m IN SRV "0 $ 80 a$""#, "h1.example.com. 300 SRV 0 1 80 a1.example.com."),
        (r#"$GENERATE 1-2 h$ IN 5 A "192.0.2.$""#, "h1.example.com. 5 A 192.0.2.1"),
        (r#"$GENERATE 1-2 h$ TXT "\"a $\" b\$""#, r#"h1.example.com. 60 TXT "a 1" "b$""#),
        (r#"$GENERATE 1-2 h$ TXT "a;$""#, r#"h1.example.com. 60 TXT "a;1""#),
        (r#"$GENERATE 1-2 h$ TXT """#, r#"h1.example.com. 60 TXT """#),
        // What BIND refuses: the fields as in any other record.
        (r#"$GENERATE 1-2 h$ MX $ mail"#, "h1.example.com. 60 MX 1 mail.example.com."),
        (r#"$GENERATE 1-2 h$ HINFO $ "a b""#, r#"h1.example.com. 60 HINFO "1" "a b""#),
    ] {
        assert_eq!(lines(&parse(&format!("$TTL 60\n{line}\n")))[0], first, "{line}");
    }
    let zone = parse("$TTL 60\n$GENERATE 1-2 h$ TXT \"two words\"\n");
    assert_eq!(
        warnings(&zone),
        ["line 2: the quoted text was read as the RDATA, as BIND does: it is more than one string"]
    );
    assert_eq!(
        errors("$GENERATE 1-2 h$ MX \"$ a..b\"\n$GENERATE 1-2 h$ MX \"1\"\n$GENERATE 1-2 h$ TXT \"\\\"a\"\n"),
        [
            "line 1, column 21: MX exchange: the domain name has an empty label (two dots in a row, or a dot in front), found \"a..b\"",
            "line 2, column 21: MX exchange: missing",
            "line 3, column 22: the quotation mark is not closed on its line",
        ]
    );
}

fn any_record() -> impl Strategy<Value = (RrKey, u32, Vec<u8>)> {
    let labels = prop::collection::vec(prop::collection::vec(any::<u8>(), 1..6), 0..3);
    let rdata = prop_oneof![
        any::<[u8; 4]>().prop_map(|octets| (Rtype::A, octets.to_vec())),
        prop::collection::vec(any::<u8>(), 0..40)
            .prop_map(|octets| { (Rtype::TXT, [vec![octets.len() as u8], octets].concat()) }),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|octets| (Rtype::from_int(65280), octets)),
        "[a-zA-Z0-9]{1,9}"
            .prop_map(|host| (Rtype::MX, parse_rdata(Rtype::MX, &format!("10 {host}")).unwrap())),
        // What signing makes is left out of files, and the SOA is read by itself.
        known_rdata().prop_filter("of a zone file's RRsets", |(rtype, _)| {
            *rtype != Rtype::SOA && !is_system_type(*rtype)
        }),
    ];
    (labels, 0..=MAX_TTL_S, rdata).prop_map(|(labels, ttl_s, (rtype, rdata))| {
        let owner = labels.iter().fold(origin(), |name, label| name.child(label).unwrap());
        (RrKey { owner, rtype }, ttl_s, rdata)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn written_and_read_back(records in prop::collection::vec(any_record(), 0..20)) {
        let mut rrsets = Content::default();
        for (key, ttl, rdata) in records {
            let old = rrsets.get(&key).cloned().unwrap_or(Rrset { ttl, rdatas: Rdatas::single(&rdata) });
            let rdatas = old.rdatas.iter().chain([&rdata[..]]).collect();
            rrsets.put(key, Rrset { ttl: old.ttl, rdatas });
        }
        let mut text = String::new();
        write_zone_file(&origin(), None, rrsets.iter(), &mut text).unwrap();
        let read = parse_zone_file(text.as_bytes(), &origin(), None);
        prop_assert_eq!(read, Ok(ZoneFile { rrsets, ..ZoneFile::default() }));
    }

    /// Wherever the parts end that a file arrives in, it is the same file, and has the same errors.
    #[test]
    fn parts_don_t_matter(
        lines in prop::collection::vec(
            prop::sample::select(vec![
                "a A 192.0.2.1\r\n", "$TTL 5\n", "b ( ; x\n  A\n 192.0.2.2 )\n", "c A x\n", " TXT \"a\\\"b\" (\nd)\n", "\n",
                "$ORIGIN e\n", "; ü (\n", "@ MX 10 ( ü..b\n) \n", "f TXT \"open\n", "g )\n", "h (",
            ]),
            0..12,
        ),
        ends in prop::collection::vec(0..200_usize, 0..6),
    ) {
        let text = lines.concat();
        let mut ends: Vec<usize> = ends.iter().map(|end| end % (text.len() + 1)).collect();
        ends.sort_unstable();
        let mut reader = ZoneFileReader::new(&origin(), Some(1));
        let mut start = 0;
        for end in ends.into_iter().chain([text.len()]) {
            reader.read(&text.as_bytes()[start..end]);
            start = end;
        }
        prop_assert_eq!(reader.finish(), parse_zone_file(text.as_bytes(), &origin(), Some(1)));
    }

    #[test]
    fn any_octets_are_read_or_refused(text in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_zone_file(&text, &origin(), None);
    }

    #[test]
    fn what_looks_like_a_file_is_read_or_refused(
        pieces in prop::collection::vec(
            prop::sample::select(vec![
                "@", "a", " ", " ", "\t", "\n", "\n", "\r\n", "(", ")", "\"", ";", "\\", "$", "$TTL", "$ORIGIN",
                "$GENERATE 1-3", "${0,2,n}", "IN", "A", "TXT", "192.0.2.1", "300", "\\#", "SOA", "ü", ".",
            ]),
            0..60,
        ),
    ) {
        if let Ok(zone) = parse_zone_file(pieces.concat().as_bytes(), &origin(), Some(1)) {
            prop_assert!(zone.rrsets.iter().all(|(key, _)| key.owner.is_at_or_below(&origin())));
        }
    }
}
