// SPDX-License-Identifier: GPL-2.0

//! Tree nodes: read checked, copied once per epoch, changed in place.

use super::Meta;
use crate::store::blocks::Blocks;
use crate::store::format::{self, Kind, Node, NodeMut, Shape};
use kernel::prelude::*;

impl<B: Blocks> Meta<B> {
    /// Shows a node to `f`, all of its header and counts checked. `EILSEQ` if it is not a node of
    /// this shape and level, or later than `max_epoch`.
    pub(crate) fn read_node<R>(
        &mut self,
        nr: u64,
        shape: &Shape,
        level: u16,
        max_epoch: u64,
        f: impl FnOnce(&Node<'_>) -> Result<R>,
    ) -> Result<R> {
        if self.poisoned {
            return Err(EIO);
        }
        if !self.in_bounds(nr) {
            // A device that was pulled out has no length; nothing on it is wrong.
            return Err(if self.blocks.len() == 0 { EIO } else { EILSEQ });
        }
        let expect = self.expected(Kind::Node, nr, max_epoch);
        self.blocks.read(nr, |block| {
            format::check_header(block, &expect)?;
            f(&format::node(block, shape, level)?)
        })
    }

    /// Lets `f` change a node of the present epoch in place. `EINVAL` if it is an older one.
    pub(crate) fn edit_node<R>(
        &mut self,
        nr: u64,
        shape: &Shape,
        level: u16,
        f: impl FnOnce(&mut NodeMut<'_>) -> Result<R>,
    ) -> Result<R> {
        if self.poisoned {
            return Err(EIO);
        }
        let expect = self.expected(Kind::Node, nr, self.epoch);
        self.blocks.edit(nr, |block| {
            format::check_header(block, &expect)?;
            if format::header(block).epoch.get() != expect.max_epoch {
                return Err(EINVAL);
            }
            f(&mut format::node_mut(block, shape, level)?)
        })
    }

    /// Makes `nr`, which came from [`alloc`](Self::alloc), a node that `f` fills.
    pub(crate) fn new_node(
        &mut self,
        nr: u64,
        shape: &Shape,
        level: u16,
        f: impl FnOnce(&mut NodeMut<'_>) -> Result,
    ) -> Result {
        let (uuid, epoch) = (self.uuid, self.epoch);
        self.dirty += 1;
        self.blocks.create(nr, |block| {
            format::set_header(block, Kind::Node, &uuid, nr, epoch);
            f(&mut format::new_node(block, shape, level)?)
        })
    }

    /// Copies the node `nr` to a new block of the present epoch and returns that. The caller
    /// replaces the reference and then frees `nr`.
    pub(crate) fn copy_node(&mut self, nr: u64, shape: &Shape, level: u16) -> Result<u64> {
        // Nothing may be half done when `free` finds no room.
        if self.pending.len() >= self.pending.capacity() {
            return Err(EAGAIN);
        }
        let new = self.alloc()?;
        let copied = self.load_scratch(nr, shape, level).and_then(|()| {
            let (uuid, epoch, scratch) = (self.uuid, self.epoch, &self.scratch);
            self.dirty += 1;
            self.blocks.create(new, |block| {
                block.copy_from_slice(&scratch[..]);
                format::set_header(block, Kind::Node, &uuid, new, epoch);
                Ok(())
            })
        });
        match copied {
            Ok(()) => Ok(new),
            Err(e) => {
                self.unalloc(new);
                Err(e)
            }
        }
    }

    /// Frees the node `nr`; `current` if it is of the present epoch.
    pub(crate) fn free_node(&mut self, nr: u64, current: bool) {
        // An older one may be waiting to be written for the checkpoint that is out.
        if current {
            self.blocks.forget(nr);
        }
        self.free(nr);
    }

    /// Copies a node into the scratch block.
    pub(crate) fn load_scratch(&mut self, nr: u64, shape: &Shape, level: u16) -> Result {
        if self.poisoned {
            return Err(EIO);
        }
        let expect = self.expected(Kind::Node, nr, self.epoch);
        let scratch = &mut self.scratch;
        self.blocks.read(nr, |block| {
            format::check_header(block, &expect)?;
            format::node(block, shape, level)?;
            scratch.copy_from_slice(block);
            Ok(())
        })
    }

    /// As [`edit_node`](Self::edit_node), with the node in the scratch block at hand.
    pub(crate) fn edit_with_scratch<R>(
        &mut self,
        nr: u64,
        shape: &Shape,
        level: u16,
        f: impl FnOnce(&mut NodeMut<'_>, &Node<'_>) -> Result<R>,
    ) -> Result<R> {
        let expect = self.expected(Kind::Node, nr, self.epoch);
        let scratch = format::node(&self.scratch, shape, level)?;
        self.blocks.edit(nr, |block| {
            format::check_header(block, &expect)?;
            f(&mut format::node_mut(block, shape, level)?, &scratch)
        })
    }

    /// As [`new_node`](Self::new_node), with the node in the scratch block at hand.
    pub(crate) fn new_with_scratch(
        &mut self,
        nr: u64,
        shape: &Shape,
        level: u16,
        f: impl FnOnce(&mut NodeMut<'_>, &Node<'_>) -> Result,
    ) -> Result {
        let (uuid, epoch) = (self.uuid, self.epoch);
        let scratch = format::node(&self.scratch, shape, level)?;
        self.dirty += 1;
        self.blocks.create(nr, |block| {
            format::set_header(block, Kind::Node, &uuid, nr, epoch);
            f(&mut format::new_node(block, shape, level)?, &scratch)
        })
    }
}
