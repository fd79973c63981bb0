// SPDX-License-Identifier: GPL-2.0

//! Looks ahead: what one leaf tells of a row of chunks. (Each comparison of a store with a model
//! compares them with single look-ups as well.)

use super::range_check::looked_ahead;
use super::range_model::Rig;
use crate::store::{ExceptionStore, SnapId, StoreType};

#[test]
fn a_leaf_tells_all_that_it_has() {
    for of in [StoreType::Btree, StoreType::Bitmask] {
        let mut rig = Rig::new(of, 1024, 8, 40);
        rig.create(None, b"").unwrap();
        for chunk in [0, 1, 2, 7, 8, 39] {
            rig.write_origin(chunk);
        }
        rig.create(None, b"").unwrap();
        rig.write_origin(3);
        let told = |rig: &mut Rig, id| looked_ahead(&mut *rig.store, SnapId::top(id), 40).unwrap();
        for (id, own) in [(1, [0, 1, 2, 3, 7, 8, 39].as_slice()), (2, &[3])] {
            let told = told(&mut rig, id);
            assert_eq!(told.len(), 40, "{of:?}");
            for (chunk, dest) in told {
                assert_eq!(
                    dest.is_some(),
                    own.contains(&chunk),
                    "{of:?}: {id}, {chunk}"
                );
            }
        }
    }
}
