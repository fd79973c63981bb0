// SPDX-License-Identifier: GPL-2.0

//! What tools ask of a store.

use super::{Exceptions, Store};
use crate::store::{
    base::{Base, Urgency},
    blocks::Blocks,
    format::{MAX_TREES, TREE_FREE, TREE_MAP},
    snaps::Roots,
    survey::{self, Part, Scope, Trees},
    Chunk, Descriptor, Remap, SnapId, Tools, Value,
};
use kernel::prelude::*;

impl<B: Blocks, X: Exceptions> Store<B, X> {
    /// Root and depth of each tree.
    fn roots(&self) -> Roots {
        let mut roots = Roots([(0, 0); MAX_TREES]);
        self.base.snaps.roots(&mut roots);
        roots.0[TREE_MAP] = self.exceptions.root();
        let tree = self.base.data.tree();
        roots.0[TREE_FREE] = (tree.root(), tree.depth());
        roots
    }
}

impl<B: Blocks, X: Exceptions> Tools for Store<B, X> {
    fn survey(&mut self, scope: Scope, f: &mut dyn FnMut(Part) -> Result) -> Result {
        let roots = self.roots();
        let Base {
            meta, data, layout, ..
        } = &mut self.base;
        let trees = Trees {
            roots: &roots,
            of: layout.store_type,
            chunks: data.chunks(),
            hot: data.hot(),
        };
        survey::look(meta, trees, scope, f)?;
        match scope {
            Scope::All => survey::free_blocks(meta, f),
            _ => Ok(()),
        }
    }

    fn lost_to(&self) -> u64 {
        self.base.lost_to
    }

    fn next_top(&self) -> u64 {
        self.base.snaps.next_top()
    }

    fn next_sub(&self, id: u32) -> u32 {
        self.base.snaps.next_sub(id)
    }

    fn mask_of(&self, id: SnapId) -> u64 {
        self.base.snaps.bits().of(id)
    }

    fn skip_to(&mut self, next: u64) {
        self.base.snaps.skip_to(next);
    }

    fn skip_sub_to(&mut self, id: u32, next: u32) -> Result {
        let base = &mut self.base;
        if !base.snaps.is_live(SnapId::top(id)) || next <= base.snaps.next_sub(id) {
            return Err(EINVAL);
        }
        base.prepare(base.snaps.blocks_to_create(), 0, Urgency::Normal)?;
        base.snaps.reserve()?;
        let Base { meta, snaps, .. } = base;
        meta.guarded(|m| snaps.set_next(m, id, next))
    }

    fn plan_for(&mut self, chunk: Chunk, ids: Descriptor) -> Result<Remap> {
        self.base.check_writable()?;
        let dest = self.base.data.take(&mut self.base.meta)?;
        self.exceptions.begun(ids);
        Ok(Remap { chunk, ids, dest })
    }

    fn set_value(&mut self, chunk: Chunk, ids: Descriptor, value: Value) -> Result {
        if matches!(value, Value::Chunk(_)) {
            return Err(EINVAL);
        }
        self.set(chunk, ids, value, Urgency::Normal).map(|_| ())
    }
}
