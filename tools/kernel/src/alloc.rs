// SPDX-License-Identifier: GPL-2.0

//! Boxes and vectors whose allocations can fail.

use crate::error::Error;
use crate::testing::allocation_succeeds;
use core::fmt;
use core::marker::PhantomData;
use core::ops::{BitOr, Deref, DerefMut};
use core::slice::SliceIndex;

/// No memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocError;

/// How to allocate. Means nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(u32);

impl BitOr for Flags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The allocation flags.
pub mod flags {
    use super::Flags;

    /// Zeroed memory.
    pub const __GFP_ZERO: Flags = Flags(1);
    /// No warning when it fails.
    pub const __GFP_NOWARN: Flags = Flags(2);
    /// May not sleep.
    pub const GFP_ATOMIC: Flags = Flags(4);
    /// May sleep.
    pub const GFP_KERNEL: Flags = Flags(8);
    /// Does not wait for memory.
    pub const GFP_NOWAIT: Flags = Flags(16);
}

/// A vector has no room.
pub struct PushError<T>(pub T);

impl<T> fmt::Debug for PushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Not enough capacity")
    }
}

/// There is no such element.
#[derive(Debug)]
pub struct RemoveError;

/// The allocator of [`KVec`].
pub struct Kmalloc;
/// The allocator of [`VVec`].
pub struct Vmalloc;
/// The allocator of [`KVVec`].
pub struct KVmalloc;

/// A vector in the memory of `A`.
pub struct Vec<T, A>(std::vec::Vec<T>, PhantomData<fn() -> A>);

/// A vector of kmalloc memory.
pub type KVec<T> = Vec<T, Kmalloc>;
/// A vector of vmalloc memory.
pub type VVec<T> = Vec<T, Vmalloc>;
/// A vector of kvmalloc memory.
pub type KVVec<T> = Vec<T, KVmalloc>;

impl<T, A> Vec<T, A> {
    /// An empty vector.
    pub const fn new() -> Self {
        Self(std::vec::Vec::new(), PhantomData)
    }

    /// An empty vector with room for `capacity` elements.
    pub fn with_capacity(capacity: usize, flags: Flags) -> Result<Self, AllocError> {
        let mut v = Self::new();
        v.reserve(capacity, flags)?;
        Ok(v)
    }

    /// Elements there is room for.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Elements.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The elements.
    pub fn as_slice(&self) -> &[T] {
        &self.0
    }

    /// The elements.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.0
    }

    /// Makes room for `additional` more elements.
    pub fn reserve(&mut self, additional: usize, _flags: Flags) -> Result<(), AllocError> {
        if self.0.capacity() - self.0.len() >= additional {
            return Ok(());
        }
        if !allocation_succeeds() {
            return Err(AllocError);
        }
        self.0.try_reserve(additional).map_err(|_| AllocError)
    }

    /// Appends `v`.
    pub fn push(&mut self, v: T, flags: Flags) -> Result<(), AllocError> {
        self.reserve(1, flags)?;
        self.0.push(v);
        Ok(())
    }

    /// Appends `v` if there is room.
    pub fn push_within_capacity(&mut self, v: T) -> Result<(), PushError<T>> {
        if self.0.len() == self.0.capacity() {
            return Err(PushError(v));
        }
        self.0.push(v);
        Ok(())
    }

    /// Takes the last element.
    pub fn pop(&mut self) -> Option<T> {
        self.0.pop()
    }

    /// Takes element `i`.
    pub fn remove(&mut self, i: usize) -> Result<T, RemoveError> {
        if i < self.0.len() {
            Ok(self.0.remove(i))
        } else {
            Err(RemoveError)
        }
    }

    /// Drops all elements.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Drops the elements from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// Keeps the elements for which `f` says so.
    pub fn retain(&mut self, f: impl FnMut(&mut T) -> bool) {
        self.0.retain_mut(f);
    }
}

impl<T: zerocopy::FromZeros, A> Vec<T, A> {
    /// `n` zeroes.
    pub fn zeroed(n: usize, flags: Flags) -> Result<Self, AllocError> {
        let mut v = Self::with_capacity(n, flags)?;
        v.0.resize_with(n, T::new_zeroed);
        Ok(v)
    }
}

impl<T: Clone, A> Vec<T, A> {
    /// Appends `n` copies of `value`.
    pub fn extend_with(&mut self, n: usize, value: T, flags: Flags) -> Result<(), AllocError> {
        self.reserve(n, flags)?;
        self.0.resize(self.0.len() + n, value);
        Ok(())
    }

    /// Appends copies of `other`.
    pub fn extend_from_slice(&mut self, other: &[T], flags: Flags) -> Result<(), AllocError> {
        self.reserve(other.len(), flags)?;
        self.0.extend_from_slice(other);
        Ok(())
    }

    /// `n` copies of `value`.
    pub fn from_elem(value: T, n: usize, flags: Flags) -> Result<Self, AllocError> {
        let mut v = Self::new();
        v.extend_with(n, value, flags)?;
        Ok(v)
    }

    /// Makes it `new_len` long, with copies of `value` if it was shorter.
    pub fn resize(&mut self, new_len: usize, value: T, flags: Flags) -> Result<(), AllocError> {
        match new_len.checked_sub(self.len()) {
            Some(n) => self.extend_with(n, value, flags),
            None => {
                self.truncate(new_len);
                Ok(())
            }
        }
    }
}

impl<T, A> Default for Vec<T, A> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: fmt::Debug, A> fmt::Debug for Vec<T, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: PartialEq, A> PartialEq for Vec<T, A> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T: Eq, A> Eq for Vec<T, A> {}

impl<T, A> Deref for Vec<T, A> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T, A> DerefMut for Vec<T, A> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<T, I: SliceIndex<[T]>, A> core::ops::Index<I> for Vec<T, A> {
    type Output = I::Output;
    fn index(&self, index: I) -> &Self::Output {
        &self.0[index]
    }
}

impl<T, I: SliceIndex<[T]>, A> core::ops::IndexMut<I> for Vec<T, A> {
    fn index_mut(&mut self, index: I) -> &mut Self::Output {
        &mut self.0[index]
    }
}

impl<T, A> IntoIterator for Vec<T, A> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, T, A> IntoIterator for &'a Vec<T, A> {
    type Item = &'a T;
    type IntoIter = core::slice::Iter<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<'a, T, A> IntoIterator for &'a mut Vec<T, A> {
    type Item = &'a mut T;
    type IntoIter = core::slice::IterMut<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter_mut()
    }
}

/// A box of kmalloc memory.
pub type KBox<T> = Box<T>;

/// The way of making a box that the real crate and this one share.
pub trait InPlaceInit<T>: Sized {
    /// A box of `value`.
    fn init(value: T, flags: Flags) -> Result<Self, Error>;
}

impl<T> InPlaceInit<T> for KBox<T> {
    fn init(value: T, _flags: Flags) -> Result<Self, Error> {
        if !allocation_succeeds() {
            return Err(AllocError.into());
        }
        Ok(Box::new(value))
    }
}

/// What `KBox::zeroed` belongs to, which the real crate's box has by itself.
pub trait KBoxZeroed: Sized {
    /// A box of zeroes.
    fn zeroed(flags: Flags) -> Result<Self, AllocError>;
}

impl<T: zerocopy::FromZeros> KBoxZeroed for KBox<T> {
    fn zeroed(_flags: Flags) -> Result<Self, AllocError> {
        if !allocation_succeeds() {
            return Err(AllocError);
        }
        Ok(Box::new(T::new_zeroed()))
    }
}
