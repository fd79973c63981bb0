// SPDX-License-Identifier: GPL-2.0

//! The words of the kernel crate that the exception stores use, for the host.
//!
//! Vocabulary only: names and signatures are those of `rust/kernel` in 7.3, so that the files
//! under `src/store` compile unchanged. Whatever is missing here and there in the real crate may
//! be added; nothing that the real crate lacks may.
//!
//! Two things differ. `KBox` is the standard box, as only that can become a `KBox<dyn Trait>`
//! with a stable compiler; so `KBox::new` with flags does not exist here: use `KBox::init`, which
//! both have. And allocations fail when [`testing`] says so.

#![deny(missing_docs)]

pub mod alloc;
pub mod error;
pub mod print;
pub mod testing;

/// Asserts at compile time.
#[macro_export]
macro_rules! static_assert {
    ($condition:expr $(,$arg:literal)?) => {
        const _: () = ::core::assert!($condition $(,$arg)?);
    };
}

/// Asserts at compile time, with the generics of the function it stands in.
#[macro_export]
macro_rules! const_assert {
    ($condition:expr $(,$arg:literal)?) => {
        const { ::core::assert!($condition $(,$arg)?) };
    };
}

/// Asserts something the kernel build must be able to prove.
#[macro_export]
macro_rules! build_assert {
    ($($arg:tt)*) => {
        ::core::assert!($($arg)*)
    };
}

/// The most common names.
pub mod prelude {
    pub use crate::alloc::{flags::*, InPlaceInit, KBox, KBoxZeroed as _, KVVec, KVec, VVec, Vec};
    pub use crate::error::{code::*, Error, Result};
    pub use crate::{build_assert, const_assert, static_assert};
    pub use crate::{pr_alert, pr_crit, pr_debug, pr_emerg, pr_err, pr_info, pr_notice, pr_warn};
    pub use core::mem::{align_of, align_of_val, size_of, size_of_val};
    pub use core::pin::Pin;
    pub use zerocopy::{FromBytes, IntoBytes};
    // All of them, so that the line above counts where it brings the derives, too (its feature
    // "derive").
    pub use zerocopy_derive::*;
}
