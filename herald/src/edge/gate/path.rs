//! Paths: their parameters, percent-decoded, as what they stand for.

use herald_core::TokenId;
use herald_core::command::ZoneRef;
use herald_core::rejection::Rejection;

use crate::edge::names::shortened;
use crate::edge::problem::ApiError;

/// What the parameters of a path stand for.
pub trait FromPath: Sized {
    /// There are no parameters to be read.
    const IS_EMPTY: bool = false;

    /// Takes its parameters off the front.
    ///
    /// # Errors
    /// If one can't be what it is to be.
    fn from_path(values: &mut dyn Iterator<Item = &str>) -> Result<Self, ApiError>;
}

impl FromPath for () {
    const IS_EMPTY: bool = true;

    fn from_path(_: &mut dyn Iterator<Item = &str>) -> Result<(), ApiError> {
        Ok(())
    }
}

impl FromPath for String {
    fn from_path(values: &mut dyn Iterator<Item = &str>) -> Result<String, ApiError> {
        values.next().map(str::to_owned).ok_or_else(|| ApiError::malformed("the path is too short"))
    }
}

impl FromPath for ZoneRef {
    fn from_path(values: &mut dyn Iterator<Item = &str>) -> Result<ZoneRef, ApiError> {
        let text = String::from_path(values)?;
        ZoneRef::parse(&text).map_err(|e| {
            ApiError::malformed(format!("`{}` is neither a zone's id nor its name: {e}", shortened(&text)))
        })
    }
}

impl FromPath for TokenId {
    fn from_path(values: &mut dyn Iterator<Item = &str>) -> Result<TokenId, ApiError> {
        let text = String::from_path(values)?;
        text.parse().map_err(|_| Rejection::not_found(format_args!("token `{}`", shortened(&text))).into())
    }
}

impl<A: FromPath, B: FromPath> FromPath for (A, B) {
    fn from_path(values: &mut dyn Iterator<Item = &str>) -> Result<(A, B), ApiError> {
        Ok((A::from_path(values)?, B::from_path(values)?))
    }
}

impl<A: FromPath, B: FromPath, C: FromPath, D: FromPath> FromPath for (A, B, C, D) {
    fn from_path(values: &mut dyn Iterator<Item = &str>) -> Result<(A, B, C, D), ApiError> {
        Ok((A::from_path(values)?, B::from_path(values)?, C::from_path(values)?, D::from_path(values)?))
    }
}

impl<A: FromPath, B: FromPath, C: FromPath> FromPath for (A, B, C) {
    fn from_path(values: &mut dyn Iterator<Item = &str>) -> Result<(A, B, C), ApiError> {
        Ok((A::from_path(values)?, B::from_path(values)?, C::from_path(values)?))
    }
}
