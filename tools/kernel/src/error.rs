// SPDX-License-Identifier: GPL-2.0

//! Kernel errors.

use crate::alloc::{AllocError, PushError, RemoveError};
use core::fmt;
use core::num::{NonZeroI32, TryFromIntError};

/// A negative errno.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Error(NonZeroI32);

/// What may fail.
pub type Result<T = (), E = Error> = core::result::Result<T, E>;

macro_rules! codes {
    ($($name:ident $number:literal)*) => {
        /// The error codes of the real crate that are used.
        pub mod code {
            use super::Error;
            use core::num::NonZeroI32;

            $(
                #[doc = concat!("errno ", $number)]
                pub const $name: Error = match NonZeroI32::new(-$number) {
                    Some(n) => Error(n),
                    None => panic!(),
                };
            )*
        }

        const NAMES: &[(i32, &str)] = &[$((-$number, stringify!($name)),)*];
    };
}

codes! {
    EPERM 1 ENOENT 2 EIO 5 ENXIO 6 E2BIG 7 EAGAIN 11 ENOMEM 12 EBUSY 16 EEXIST 17 ENODEV 19
    EINVAL 22 EFBIG 27 ENOSPC 28 EROFS 30 EDOM 33 ERANGE 34 ENAMETOOLONG 36 ENOTEMPTY 39
    ENODATA 61 EBADMSG 74 EOVERFLOW 75 EILSEQ 84 EOPNOTSUPP 95
}

impl Error {
    /// The error with this negative errno; `EINVAL` if it is none.
    pub fn from_errno(errno: i32) -> Self {
        match NonZeroI32::new(errno) {
            Some(n) if (-4095..0).contains(&errno) => Self(n),
            _ => code::EINVAL,
        }
    }

    /// The negative errno.
    pub fn to_errno(self) -> i32 {
        self.0.get()
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(n, _)| *n == self.to_errno()) {
            Some((_, name)) => f.write_str(name),
            None => f.debug_tuple("Error").field(&-self.to_errno()).finish(),
        }
    }
}

impl From<AllocError> for Error {
    fn from(_: AllocError) -> Self {
        code::ENOMEM
    }
}

impl<T> From<PushError<T>> for Error {
    fn from(_: PushError<T>) -> Self {
        code::EINVAL
    }
}

impl From<RemoveError> for Error {
    fn from(_: RemoveError) -> Self {
        code::EINVAL
    }
}

impl From<TryFromIntError> for Error {
    fn from(_: TryFromIntError) -> Self {
        code::EINVAL
    }
}

impl From<fmt::Error> for Error {
    fn from(_: fmt::Error) -> Self {
        code::EINVAL
    }
}

impl From<core::convert::Infallible> for Error {
    fn from(e: core::convert::Infallible) -> Self {
        match e {}
    }
}
