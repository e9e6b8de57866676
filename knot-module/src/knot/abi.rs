//! What of `knot/module.h` (ABI 400, Knot 3.2) is used, declared by hand.
//!
//! Every size, offset, constant and signature is in `layout400.rs` too, from where both compilers assert it.

use std::ffi::{c_char, c_int, c_void};

/// An instance of the module, knotd's.
#[repr(C)]
pub(super) struct Mod {
    _opaque: [u8; 0],
}

pub(super) type LoadFn = extern "C" fn(*mut Mod) -> c_int;
pub(super) type UnloadFn = extern "C" fn(*mut Mod);
pub(super) type Hook = extern "C" fn(c_int, *mut Packet, *mut QueryData, *mut Mod) -> c_int;

#[repr(C)]
pub(super) struct ModApi {
    pub(super) version: u32,
    pub(super) name: *const c_char,
    pub(super) flags: u32,
    pub(super) load: LoadFn,
    pub(super) unload: UnloadFn,
    pub(super) config: *const YpItem,
    pub(super) config_check: *const c_void,
}

/// An item of the configuration's schema.
#[repr(C)]
pub(super) struct YpItem {
    /// Its length in one octet, then the name.
    pub(super) name: *const c_char,
    pub(super) kind: c_int,
    pub(super) var: [usize; 4],
    pub(super) flags: c_int,
    pub(super) misc: [*const c_void; 4],
    pub(super) parent: *mut YpItem,
    pub(super) sub_items: *mut YpItem,
}

/// A value of the configuration; `single` is a union, of which strings and booleans are read.
#[repr(C)]
pub(super) struct Conf {
    pub(super) single: ConfValue,
    pub(super) multi: *mut c_void,
    pub(super) count: usize,
}

#[repr(C)]
pub(super) union ConfValue {
    pub(super) boolean: bool,
    pub(super) string: *const c_char,
    pub(super) _bytes: [usize; 33],
}

#[repr(C)]
pub(super) struct Params {
    pub(super) protocol: c_int,
    _flags: c_int,
    _remote: *const SocketAddress,
    _socket: c_int,
    pub(super) thread_id: u32,
    _rest: [u64; 3],
}

#[repr(C)]
pub(super) struct QueryData {
    pub(super) query: *mut Packet,
    pub(super) kind: c_int,
    pub(super) name: *const u8,
    pub(super) rcode: u16,
    _rcode_tsig: u16,
    _rcode_ede: c_int,
    pub(super) opt_rr: RrsetView,
    _sign: [u64; 8],
    pub(super) ecs: *mut ClientSubnet,
    pub(super) err_truncated: bool,
    _mm: *mut Memory,
    pub(super) params: *mut Params,
    _extra: *mut c_void,
}

#[repr(C)]
pub(super) struct Packet {
    pub(super) wire: *mut u8,
    pub(super) size: usize,
    pub(super) max_size: usize,
    _parsed: usize,
    pub(super) reserved: u16,
    pub(super) qname_size: u16,
    pub(super) rrset_count: u16,
    _flags: u16,
    pub(super) opt_rr: *mut RrsetView,
    _tsig_rr: *mut RrsetView,
    _edns_opts: *mut c_void,
    _tsig_wire: [usize; 2],
    pub(super) current: c_int,
    pub(super) sections: [Section; 3],
    _rrset_allocated: usize,
    pub(super) rr_info: *mut RrInfo,
    pub(super) rr: *mut RrsetView,
    pub(super) mm: Memory,
    pub(super) compr: Compression,
    pub(super) lower_qname: [u8; 255],
}

#[repr(C)]
pub(super) struct Section {
    _pkt: *mut Packet,
    pub(super) pos: u16,
    pub(super) count: u16,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct RrsetView {
    pub(super) owner: *mut u8,
    pub(super) ttl: u32,
    pub(super) rtype: u16,
    pub(super) class: u16,
    pub(super) rrs: RdataSet,
    pub(super) additional: *mut c_void,
}

/// RDATA one after another: each its length in the machine's order, its octets, and a filling octet if they are odd.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct RdataSet {
    pub(super) count: u16,
    pub(super) size: u32,
    pub(super) rdata: *mut u8,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct RrInfo {
    pub(super) pos: u16,
    pub(super) flags: u16,
    pub(super) compress_ptr: [u16; 16],
}

#[repr(C)]
pub(super) struct Compression {
    pub(super) wire: *mut u8,
    pub(super) rrinfo: *mut RrInfo,
    pub(super) suffix_pos: u16,
    pub(super) suffix_labels: u8,
}

#[repr(C)]
pub(super) struct Memory {
    pub(super) ctx: *mut c_void,
    pub(super) alloc: Option<extern "C" fn(*mut c_void, usize) -> *mut c_void>,
    _free: *const c_void,
}

#[repr(C)]
pub(super) struct ClientSubnet {
    pub(super) family: u16,
    pub(super) source_len: u8,
    pub(super) scope_len: u8,
    pub(super) address: [u8; 16],
}

/// `struct sockaddr_in`, `sockaddr_in6`: what of them is read, as POSIX and Linux have it.
#[repr(C)]
pub(super) struct SocketAddress {
    pub(super) family: u16,
    pub(super) port: u16,
    /// IPv4's address; IPv6's flow.
    pub(super) ipv4: [u8; 4],
    pub(super) ipv6: [u8; 16],
}

/// Room for any socket address: `struct sockaddr_storage` of POSIX and Linux.
#[repr(C, align(8))]
pub(super) struct SocketAddressRoom(pub(super) [u8; 128]);

/// Linux' number of IPv4 in socket addresses.
pub(super) const AF_INET: u16 = 2;
/// Linux' number of IPv6 in socket addresses.
pub(super) const AF_INET6: u16 = 10;

#[allow(unsafe_code)]
unsafe extern "C" {
    pub(super) fn knotd_mod_ctx(module: *mut Mod) -> *mut c_void;
    pub(super) fn knotd_mod_ctx_set(module: *mut Mod, ctx: *mut c_void);
    pub(super) fn knotd_mod_zone(module: *mut Mod) -> *const u8;
    pub(super) fn knotd_mod_log(module: *mut Mod, priority: c_int, format: *const c_char, ...);
    pub(super) fn knotd_conf_mod(module: *mut Mod, item: *const c_char) -> Conf;
    pub(super) fn knotd_mod_hook(module: *mut Mod, stage: c_int, hook: Hook) -> c_int;
    pub(super) fn knotd_mod_in_hook(module: *mut Mod, stage: c_int, hook: Hook) -> c_int;
    pub(super) fn knotd_qdata_remote_addr(query: *mut QueryData) -> *const SocketAddress;
    pub(super) fn knotd_qdata_local_addr(
        query: *mut QueryData,
        buffer: *mut SocketAddressRoom,
    ) -> *const SocketAddress;
    pub(super) fn knotd_qdata_zone_apex_rrset(query: *mut QueryData, rtype: u16) -> RrsetView;
    pub(super) fn knotd_qdata_zone_name(query: *mut QueryData) -> *const u8;
    pub(super) fn knot_pkt_begin(packet: *mut Packet, section: c_int) -> c_int;
    pub(super) fn knot_pkt_put_rotate(
        packet: *mut Packet,
        hint: u16,
        rrset: *const RrsetView,
        rotate: u16,
        flags: u16,
    ) -> c_int;
    /// Of liburcu-memb, which knotd 3.2 is linked with: waits until all queries that run now are answered.
    pub(super) fn urcu_memb_synchronize_rcu();
}

macro_rules! sizes {
    ($($c:literal $rust:ident $bytes:literal;)*) => {
        $(const _: () = assert!(std::mem::size_of::<$rust>() == $bytes);)*
    };
}
macro_rules! offsets {
    ($($c:literal $rust:ident $field:literal $rust_field:ident $offset:literal;)*) => {
        $(const _: () = assert!(std::mem::offset_of!($rust, $rust_field) == $offset);)*
    };
}
macro_rules! constants {
    ($($c:literal $rust:ident $value:literal;)*) => {
        $(#[allow(dead_code, reason = "the whole of an enum is asserted")] pub(super) const $rust: c_int = $value;)*
    };
}
// The build script's.
macro_rules! functions {
    ($($name:literal $kind:literal;)*) => {};
}
include!("layout400.rs");
