//! A query, as the hooks see it.

use std::marker::PhantomData;
use std::net::IpAddr;
use std::ptr::NonNull;

use steering::query_log::Edns;

use super::abi::{self, AF_INET, AF_INET6, Packet, QueryData, SocketAddress, SocketAddressRoom};
use super::answer::{Answer, Section, name_of};

/// A query that runs.
#[derive(Debug)]
pub struct Query<'q> {
    data: NonNull<QueryData>,
    running: PhantomData<&'q mut ()>,
}

/// What a resolver says of its client (RFC 7871).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// Its first address.
    pub address: IpAddr,
    /// How many bits of it are told.
    pub length: u8,
}

impl<'q> Query<'q> {
    /// # Safety
    /// In a hook, with what knotd gave to it, and not beyond.
    #[inline]
    pub(super) unsafe fn new(data: *mut QueryData) -> Option<Query<'q>> {
        NonNull::new(data).map(|data| Query { data, running: PhantomData })
    }

    #[inline]
    fn data(&self) -> &QueryData {
        // SAFETY: knotd keeps it for as long as the hook runs, and nobody else has it meanwhile.
        unsafe { self.data.as_ref() }
    }

    #[inline]
    fn packet(&self) -> &Packet {
        // SAFETY: `query` is set before any hook is called, and is knotd's for as long as the query runs.
        unsafe { &*self.data().query }
    }

    /// The name asked for, in small letters and wire format.
    #[inline]
    pub fn name(&self) -> &[u8] {
        let packet = self.packet();
        packet.lower_qname.get(..usize::from(packet.qname_size)).unwrap_or_default()
    }

    /// The type asked for; zero if there is no question.
    #[inline]
    pub fn rtype(&self) -> u16 {
        let packet = self.packet();
        let at = 12 + usize::from(packet.qname_size);
        if packet.qname_size == 0 || at + 2 > packet.size {
            return 0;
        }
        // SAFETY: `wire` has `size` octets.
        unsafe { u16::from_be_bytes([*packet.wire.add(at), *packet.wire.add(at + 1)]) }
    }

    /// Whether it is a question for records of the Internet: no transfer, NOTIFY or UPDATE.
    pub fn is_question(&self) -> bool {
        let packet = self.packet();
        let at = 12 + usize::from(packet.qname_size) + 2;
        if self.data().kind != abi::QUERY_NORMAL || packet.qname_size == 0 || at + 2 > packet.size {
            return false;
        }
        // SAFETY: `wire` has `size` octets.
        let class = unsafe { u16::from_be_bytes([*packet.wire.add(at), *packet.wire.add(at + 1)]) };
        i32::from(class) == abi::CLASS_IN
    }

    /// The zone of knotd's that the query is in, if there is one.
    pub fn zone_name(&self) -> Option<&[u8]> {
        // SAFETY: the function takes any query data, and gives null or a name that lives as long as the query.
        unsafe {
            let name = abi::knotd_qdata_zone_name(self.data.as_ptr());
            if name.is_null() { None } else { Some(name_of(name)) }
        }
    }

    /// Whether it came in a datagram.
    pub fn is_udp(&self) -> bool {
        // SAFETY: the parameters are knotd's for as long as the query runs.
        unsafe { self.data().params.as_ref() }.is_some_and(|params| params.protocol == abi::PROTO_UDP)
    }

    /// The response code of the answer, the extended one (RFC 6891).
    #[inline]
    pub fn rcode(&self) -> u16 {
        self.data().rcode
    }

    /// How it came, as [`steering::counts::Transport`] has it.
    #[inline]
    pub fn transport(&self) -> u8 {
        // SAFETY: the parameters are knotd's for as long as the query runs. Its numbers of protocols are those of the transports.
        unsafe { self.data().params.as_ref() }.map_or(0, |params| params.protocol as u8)
    }

    /// Whether it is one of the agent's own, which asks what is served: it is marked by a bit that nobody else uses (Z, RFC 1035
    /// §4.1.1), and comes from this machine.
    #[inline]
    pub fn is_own(&self) -> bool {
        const Z: u8 = 0x40;
        // SAFETY: knotd calls no hook for less than a header, whose fourth octet this is.
        let is_marked = unsafe { *self.packet().wire.add(3) } & Z != 0;
        is_marked && self.is_local()
    }

    #[cold]
    fn is_local(&self) -> bool {
        let mut room = SocketAddressRoom([0; 128]);
        // SAFETY: the function takes any query data, and gives null, or an address that is in the room or lives as long as the query does.
        let local = unsafe { address_of(abi::knotd_qdata_local_addr(self.data.as_ptr(), &raw mut room)) };
        self.source().is_some_and(|source| source.is_loopback() || Some(source) == local)
    }

    /// Sets the response code of the answer.
    pub fn set_rcode(&mut self, rcode: u16) {
        // SAFETY: nobody else has the query's data meanwhile.
        unsafe { self.data.as_mut() }.rcode = rcode;
    }

    /// The message's id.
    #[inline]
    pub fn message_id(&self) -> u16 {
        // SAFETY: knotd calls no hook for less than a header, whose first octets these are.
        unsafe { u16::from_be_bytes([*self.packet().wire, *self.packet().wire.add(1)]) }
    }

    /// The number of knotd's thread that answers it: from zero on, and each thread's own. More than any if it isn't known.
    #[inline]
    pub fn thread(&self) -> usize {
        // SAFETY: the parameters are knotd's for as long as the query runs.
        unsafe { self.data().params.as_ref() }.map_or(usize::MAX, |params| params.thread_id as usize)
    }

    /// Where it came from.
    #[inline]
    pub fn source(&self) -> Option<IpAddr> {
        // SAFETY: the function takes any query data, and gives null or an address that lives as long as the query does.
        unsafe { address_of(abi::knotd_qdata_remote_addr(self.data.as_ptr())) }
    }

    /// Where it came from, as in [`bits_of`]; zero if that isn't known.
    #[inline]
    pub fn source_bits(&self) -> (u64, bool) {
        // SAFETY: as in `source`; an IPv6 address is only read if the family says that there is one.
        unsafe {
            let address = abi::knotd_qdata_remote_addr(self.data.as_ptr());
            match address.as_ref().map(|address| address.family) {
                Some(AF_INET) => (u32::from_be_bytes((*address).ipv4).into(), false),
                Some(AF_INET6) => bits_of((*address).ipv6),
                _ => (0, false),
            }
        }
    }

    /// The first address of the client subnet that came with it, as in [`bits_of`]; the source's if none did.
    #[inline]
    pub fn client_bits(&self, source: (u64, bool)) -> (u64, bool) {
        if !self.has_client_subnet() {
            return source;
        }
        match self.client_subnet().map(|subnet| subnet.address) {
            None => source,
            Some(IpAddr::V4(v4)) => (v4.to_bits().into(), false),
            Some(IpAddr::V6(v6)) => bits_of(v6.octets()),
        }
    }

    /// Whether a client subnet came with it, and is to be answered with its scope.
    #[inline]
    pub fn has_client_subnet(&self) -> bool {
        !self.data().ecs.is_null()
    }

    /// The client subnet that came with it.
    #[inline]
    pub fn client_subnet(&self) -> Option<Subnet> {
        // SAFETY: null, or knotd's for as long as the query runs.
        let subnet = unsafe { self.data().ecs.as_ref() }?;
        let address = match subnet.family {
            1 => {
                let [a, b, c, d, ..] = subnet.address;
                IpAddr::from([a, b, c, d])
            }
            2 => IpAddr::from(subnet.address),
            _ => return None,
        };
        Some(Subnet { address, length: subnet.source_len })
    }

    /// Has the answer tell the resolver a scope of at least this length.
    #[inline]
    pub fn raise_scope(&mut self, length: u8) {
        // SAFETY: as in `client_subnet`, and nobody else writes it meanwhile.
        if let Some(subnet) = unsafe { self.data().ecs.as_mut() } {
            subnet.scope_len = subnet.scope_len.max(length);
        }
    }

    /// Acts as if no client subnet had come: the answer has none either.
    pub fn drop_client_subnet(&mut self, answer: &mut Answer<'q>) {
        // SAFETY: nobody else has the query's data meanwhile.
        let data = unsafe { self.data.as_mut() };
        data.ecs = std::ptr::null_mut();
        let rdata = data.opt_rr.rrs.rdata;
        if rdata.is_null() || data.opt_rr.rrs.count != 1 {
            return;
        }
        // SAFETY: an RDATA is its length in two octets and so many octets; knotd made this one for this query.
        let octets = unsafe {
            let length = usize::from(rdata.cast::<u16>().read_unaligned());
            std::slice::from_raw_parts_mut(rdata.add(2), length)
        };
        let Some(removed) = remove_option(octets, abi::OPTION_CLIENT_SUBNET) else { return };
        // SAFETY: as above; it only gets shorter.
        unsafe { rdata.cast::<u16>().write_unaligned((octets.len() - usize::from(removed)) as u16) };
        let length = octets.len() as u32 - u32::from(removed);
        data.opt_rr.rrs.size = 2 + length + (length & 1);
        answer.reclaim(removed);
    }

    /// The serial of the zone's content that this query is answered from.
    #[inline]
    pub fn zone_serial(&self) -> Option<u32> {
        let soa = self.apex_rdata(6)?;
        // After two names there are five numbers of four octets, the serial first.
        let numbers = soa.get(soa.len().checked_sub(20)?..)?;
        numbers.first_chunk().map(|serial| u32::from_be_bytes(*serial))
    }

    /// Whether signatures are asked for (RFC 3225), and the zone has some.
    #[inline]
    pub fn wants_signatures(&self) -> bool {
        const DNSKEY: u16 = 48;
        // SAFETY: null, or the OPT record of the query's packet. The flag is in what a TTL is elsewhere.
        let wants = unsafe { self.packet().opt_rr.as_ref() }.is_some_and(|opt| opt.ttl & 0x8000 != 0);
        wants && self.apex_rdata(DNSKEY).is_some()
    }

    /// EDNS of the query (RFC 6891), if it had any; the client subnet also where it was dropped.
    pub fn edns(&self) -> Option<Edns> {
        // SAFETY: null, or the OPT record of the query's packet. Class and TTL of it are other things; an RDATA is its length in two
        // octets and so many octets.
        let (opt, octets) = unsafe {
            let opt = self.packet().opt_rr.as_ref()?;
            let rdata = opt.rrs.rdata;
            let octets: &[u8] = match rdata.is_null() || opt.rrs.count == 0 {
                true => &[],
                false => {
                    let length = usize::from(rdata.cast::<u16>().read_unaligned());
                    std::slice::from_raw_parts(rdata.add(2), length)
                }
            };
            (opt, octets)
        };
        let subnet = find_option(octets, abi::OPTION_CLIENT_SUBNET).and_then(subnet_of);
        Some(Edns { udp_bytes: opt.class, wants_dnssec: opt.ttl & 0x8000 != 0, subnet })
    }

    /// The first RDATA of a type at the apex of the zone's content that this query is answered from.
    #[inline]
    fn apex_rdata(&self, rtype: u16) -> Option<&[u8]> {
        // SAFETY: the function takes any query data; what it gives points into the zone's content, which is kept for the query. An RDATA
        // is its length in two octets and so many octets.
        unsafe {
            let rrset = abi::knotd_qdata_zone_apex_rrset(self.data.as_ptr(), rtype);
            if rrset.rrs.rdata.is_null() || rrset.rrs.count == 0 {
                return None;
            }
            let length = usize::from(rrset.rrs.rdata.cast::<u16>().read_unaligned());
            Some(std::slice::from_raw_parts(rrset.rrs.rdata.add(2), length))
        }
    }

    /// Puts the SOA of the zone, as negative answers carry it (RFC 2308 §3). False if there is none or no room.
    pub fn put_negative_soa(&self, answer: &mut Answer<'q>) -> bool {
        // SAFETY: as in `apex_rdata`.
        let mut rrset = unsafe { abi::knotd_qdata_zone_apex_rrset(self.data.as_ptr(), 6) };
        let minimum =
            self.apex_rdata(6).and_then(|soa| soa.last_chunk()).map(|octets| u32::from_be_bytes(*octets));
        let Some(minimum) = minimum else { return false };
        rrset.ttl = rrset.ttl.min(minimum);
        rrset.additional = std::ptr::null_mut();
        answer.begin(Section::Authority);
        answer.put_rrset(&rrset, abi::HINT_NONE as u16, abi::PF_NOTRUNC as u16)
    }

    /// Has knotd go on with this name, the target of an alias that was put. False if there is no memory.
    pub fn follow(&mut self, answer: &mut Answer<'q>, name: &[u8]) -> bool {
        let Some(copy) = answer.copy(name) else { return false };
        // SAFETY: nobody else has the query's data meanwhile; the copy lives as long as the query.
        unsafe { self.data.as_mut() }.name = copy;
        true
    }

    /// Says that the answer, once it has failed, is an empty truncated one.
    pub fn fail_truncated(&mut self) {
        // SAFETY: nobody else has the query's data meanwhile.
        let data = unsafe { self.data.as_mut() };
        data.rcode = 0;
        data.err_truncated = true;
    }
}

/// # Safety
/// Null, or a socket's address. An IPv6 address is only read if the family says that there is one.
#[inline]
unsafe fn address_of(address: *const SocketAddress) -> Option<IpAddr> {
    // SAFETY: the caller's promise.
    unsafe {
        if address.is_null() {
            return None;
        }
        match (*address).family {
            AF_INET => Some(IpAddr::from((*address).ipv4)),
            AF_INET6 => Some(IpAddr::from((*address).ipv6).to_canonical()),
            _ => None,
        }
    }
}

/// The first 64 bits of an IPv6 address, and true; or all bits of the IPv4 address that is mapped to it (RFC 4291 §2.5.5.2), and false.
#[inline]
fn bits_of(ipv6: [u8; 16]) -> (u64, bool) {
    let bits = u128::from_be_bytes(ipv6);
    if bits >> 32 == 0xffff { (u64::from(bits as u32), false) } else { ((bits >> 64) as u64, true) }
}

/// What the first option of this code says.
fn find_option(octets: &[u8], code: i32) -> Option<&[u8]> {
    let mut rest = octets;
    while let Some((&[a, b, c, d], behind)) = rest.split_first_chunk::<4>() {
        let (option, next) = behind.split_at_checked(usize::from(u16::from_be_bytes([c, d])))?;
        if i32::from(u16::from_be_bytes([a, b])) == code {
            return Some(option);
        }
        rest = next;
    }
    None
}

/// The first address and the length of a client subnet (RFC 7871 §6).
fn subnet_of(option: &[u8]) -> Option<(IpAddr, u8)> {
    let (&[a, b, length, _], address) = option.split_first_chunk::<4>()?;
    let mut octets = [0; 16];
    octets.get_mut(..address.len())?.copy_from_slice(address);
    match u16::from_be_bytes([a, b]) {
        1 => octets.first_chunk::<4>().map(|v4| (IpAddr::from(*v4), length)),
        2 => Some((IpAddr::from(octets), length)),
        _ => None,
    }
}

/// Moves what is behind the first option of this code over it, and says how many octets that made room for.
fn remove_option(octets: &mut [u8], code: i32) -> Option<u16> {
    let mut at = 0;
    while let Some(&[a, b, c, d]) = octets.get(at..).and_then(|rest| rest.first_chunk::<4>()) {
        let bytes = 4 + usize::from(u16::from_be_bytes([c, d]));
        let end = at + bytes;
        if end > octets.len() {
            return None;
        }
        if i32::from(u16::from_be_bytes([a, b])) == code {
            octets.copy_within(end.., at);
            return u16::try_from(bytes).ok();
        }
        at = end;
    }
    None
}
