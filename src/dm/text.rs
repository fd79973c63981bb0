// SPDX-License-Identifier: GPL-2.0

//! Words that come from user space, and text that goes there.

use core::{
    fmt,
    marker::PhantomData, //
};
use kernel::{
    ffi::{
        c_char,
        c_uint, //
    },
    prelude::*,
};

/// The words of a table line or a message.
///
/// # Invariants
///
/// `argv` points to `argc` pointers to C strings that stay as they are during `'a`.
#[derive(Clone, Copy)]
pub(crate) struct Args<'a> {
    argv: *const *mut c_char,
    argc: usize,
    _words: PhantomData<&'a CStr>,
}

impl<'a> Args<'a> {
    /// Wraps what dm passes to a constructor or message function.
    ///
    /// # Safety
    ///
    /// `argv` points to `argc` pointers to C strings that stay as they are during `'a`.
    pub(super) unsafe fn new(argc: c_uint, argv: *mut *mut c_char) -> Self {
        // INVARIANT: By the function's contract.
        Self {
            argv,
            argc: argc as usize,
            _words: PhantomData,
        }
    }

    /// Number of words.
    pub(crate) fn len(&self) -> usize {
        self.argc
    }

    /// Word `index`, from 0.
    pub(crate) fn get(&self, index: usize) -> Option<&'a CStr> {
        if index >= self.argc {
            return None;
        }
        // SAFETY: By the type invariant there are that many words, and they are C strings.
        Some(unsafe { CStr::from_char_ptr(*self.argv.add(index)) })
    }
}

/// A copy of the words of a message: the kernel has them where the answer is written to.
pub(super) struct Words {
    text: KVec<u8>,
    argv: KVec<*mut c_char>,
}

impl Words {
    /// Copies what dm passes to a message function. `ENOMEM`, and no other error.
    ///
    /// # Safety
    ///
    /// `argv` points to `argc` pointers to C strings.
    pub(super) unsafe fn copy(argc: c_uint, argv: *mut *mut c_char) -> Result<Self> {
        // SAFETY: By the function's contract; nothing is written before they are copied.
        let words = unsafe { Args::new(argc, argv) };
        let mut this = Self {
            text: KVec::new(),
            argv: KVec::with_capacity(words.len(), GFP_KERNEL)?,
        };
        let each = || (0..words.len()).filter_map(|i| words.get(i));
        for word in each() {
            let bytes = word.to_bytes_with_nul();
            this.text.extend_from_slice(bytes, GFP_KERNEL)?;
        }
        let mut at = this.text.as_mut_ptr();
        for word in each() {
            this.argv.push(at.cast(), GFP_KERNEL)?;
            at = at.wrapping_add(word.to_bytes_with_nul().len());
        }
        Ok(this)
    }

    /// The words.
    pub(super) fn args(&mut self) -> Args<'_> {
        // A message has no more words than fit into an int.
        let argc = self.argv.len() as c_uint;
        // SAFETY: They point to C strings in `text`, which is ours and borrowed as long.
        unsafe { Args::new(argc, self.argv.as_mut_ptr()) }
    }
}

/// The buffer that a status or message function fills.
///
/// What does not fit is cut off, as `DMEMIT` does, and dm tells user space to come with a larger
/// buffer; writing never fails. There is a final zero byte at all times.
///
/// # Invariants
///
/// `buf` is valid for `size` bytes during `'a` and nobody else uses it; `len < size`, and byte
/// `len` is zero; or `size` is 0.
pub(crate) struct Text<'a> {
    buf: *mut u8,
    size: usize,
    len: usize,
    _buf: PhantomData<&'a mut [u8]>,
}

impl Text<'_> {
    /// Wraps dm's buffer, and empties it.
    ///
    /// # Safety
    ///
    /// `buf` is valid for writes of `size` bytes during the value's life, and nobody else uses
    /// it then.
    pub(super) unsafe fn new(buf: *mut c_char, size: c_uint) -> Self {
        let buf = buf.cast::<u8>();
        if size != 0 {
            // SAFETY: There is a first byte.
            unsafe { buf.write(0) };
        }
        // INVARIANT: Empty, with its zero byte.
        Self {
            buf,
            size: size as usize,
            len: 0,
            _buf: PhantomData,
        }
    }

    /// Whether nothing was written so far.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that still fit.
    pub(crate) fn room(&self) -> usize {
        self.size.saturating_sub(self.len).saturating_sub(1)
    }
}

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let n = s.len().min(self.room());
        if n == 0 {
            return Ok(());
        }
        // SAFETY: `len + n + 1 <= size`, and the buffer is ours and no part of `s`.
        unsafe {
            let end = self.buf.add(self.len);
            end.copy_from_nonoverlapping(s.as_ptr(), n);
            end.add(n).write(0);
        }
        // INVARIANT: Still below `size`, with the zero byte behind.
        self.len += n;
        Ok(())
    }
}

/// A short C string in a fixed buffer. What does not fit is cut off.
pub(super) struct FixedText<'a> {
    buf: &'a mut [u8],
    len: usize,
}

impl<'a> FixedText<'a> {
    pub(super) fn new(buf: &'a mut [u8]) -> Self {
        buf.fill(0);
        Self { buf, len: 0 }
    }

    pub(super) fn as_cstr(&self) -> &CStr {
        CStr::from_bytes_until_nul(self.buf).unwrap_or(c"")
    }
}

impl fmt::Write for FixedText<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for &byte in s.as_bytes() {
            // The last byte stays zero.
            if self.len + 1 >= self.buf.len() {
                break;
            }
            if let Some(slot) = self.buf.get_mut(self.len) {
                *slot = byte;
                self.len += 1;
            }
        }
        Ok(())
    }
}
