//! The table of places that PoPs steer by: what the log says of it. The table itself is in chunks.

use minicbor::{Decode, Encode};

use crate::change::ChunkAddress;
use crate::rejection::{Rejection, RejectionKind};
use crate::state::State;

/// A table, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Geoip {
    /// SHA-256 of the table: PoPs know it by that.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub sha256: [u8; 32],
    /// How long it is.
    #[n(1)]
    pub bytes: u64,
    /// The chunks that hold it, in order.
    #[cbor(n(2), with = "addresses")]
    pub chunks: Vec<ChunkAddress>,
    /// The database of places that it was made from.
    #[n(3)]
    pub city: Option<GeoipDatabase>,
    /// The database of autonomous systems that it was made from.
    #[n(4)]
    pub asn: Option<GeoipDatabase>,
}

/// A database.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct GeoipDatabase {
    /// What it calls itself: `GeoLite2-City`.
    #[n(0)]
    pub kind: String,
    /// When it was built, in seconds since the epoch.
    #[n(1)]
    pub built_s: u64,
}

/// Judges whether a table that was made of the one with this hash may take its place.
///
/// # Errors
/// If there is another one by now.
pub(crate) fn need_base(state: &State, base: Option<[u8; 32]>) -> Result<(), Rejection> {
    if state.geoip().map(|table| table.sha256) == base {
        return Ok(());
    }
    let detail = "another GeoIP database was uploaded or deleted meanwhile: try again";
    Err(Rejection::new(RejectionKind::Conflict, detail))
}

pub(crate) mod addresses {
    use minicbor::decode::Error;
    use minicbor::encode::Write;
    use minicbor::{Decoder, Encoder};

    use crate::change::ChunkAddress;

    pub(crate) fn encode<C, W: Write>(
        addresses: &[ChunkAddress],
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(addresses.len() as u64)?;
        addresses.iter().try_for_each(|address| e.bytes(address)?.ok())
    }

    pub(crate) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Vec<ChunkAddress>, Error> {
        let count = d.array()?.ok_or_else(|| Error::message("chunks of unknown number"))?;
        let address = |d: &mut Decoder<'_>| {
            d.bytes()?.try_into().map_err(|_| Error::message("an address has 32 bytes"))
        };
        (0..count).map(|_| address(d)).collect()
    }
}
