//! Reading and writing flat octets: numbers little endian, each read checked, so that nothing can panic.

/// What is left to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    #[inline]
    fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (chunk, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*chunk)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.chunk::<1>().map(|[octet]| octet)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.chunk().map(u16::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.chunk().map(u32::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.chunk().map(u64::from_le_bytes)
    }

    /// So many pieces of `N` octets.
    #[inline]
    pub(crate) fn pieces<const N: usize>(&mut self, count: usize) -> Option<&'a [[u8; N]]> {
        Some(self.take(count.checked_mul(N)?)?.as_chunks().0)
    }
}

/// A number that is known to fit, as what is written here has at most some 65,536 pieces.
pub(crate) fn narrow<T: TryFrom<usize>>(number: usize) -> Result<T, TooLarge> {
    T::try_from(number).map_err(|_| TooLarge)
}

/// More than flat octets have room for. No item of at most 65,535 octets can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// Whether `piece` is one of the sorted `pieces`.
#[inline]
pub(crate) fn is_among<const N: usize>(pieces: &[[u8; N]], piece: [u8; N]) -> bool {
    if pieces.len() <= 8 { pieces.contains(&piece) } else { pieces.binary_search(&piece).is_ok() }
}

/// Whether octets are equal: for some few of them, without a call.
#[inline]
pub(crate) fn are_equal(one: &[u8], other: &[u8]) -> bool {
    let (one, one_rest) = one.as_chunks::<8>();
    let (other, other_rest) = other.as_chunks::<8>();
    let number = |octets: &[u8; 8]| u64::from_le_bytes(*octets);
    one.len() == other.len()
        && one.iter().zip(other).all(|(one, other)| number(one) == number(other))
        && one_rest.len() == other_rest.len()
        && one_rest.iter().zip(other_rest).all(|(one, other)| one == other)
}
