// SPDX-License-Identifier: GPL-2.0

//! dm-multisnapshot: any number of copy-on-write snapshots of one block device in one store.

mod dm;
mod engine;
mod store;

use engine::{OriginTarget, OutTarget, Registry, SnapTarget};
use kernel::prelude::*;

module! {
    type: MultiSnapshot,
    name: "dm_multisnapshot",
    authors: ["The multisnapshot authors"],
    description: "device-mapper snapshots that share one exception store",
    license: "GPL",
    alias: ["dm-multisnap-out", "dm-multisnap-snap", "dm-multisnapshot"],
}

/// The loaded module. Fields are dropped in order: the targets go before what they share.
struct MultiSnapshot {
    _origin: dm::Registration<OriginTarget>,
    _out: dm::Registration<OutTarget>,
    _snap: dm::Registration<SnapTarget>,
    _registry: dm::global::Filled<Registry>,
}

impl kernel::Module for MultiSnapshot {
    fn init(module: &'static ThisModule) -> Result<Self> {
        let registry = engine::init()?;
        Ok(MultiSnapshot {
            _origin: dm::register(module)?,
            _out: dm::register(module)?,
            _snap: dm::register(module)?,
            _registry: registry,
        })
    }
}
