// SPDX-License-Identifier: GPL-2.0

//! What is learned of chunks of snapshots, and when it is forgotten.

use super::bench::{bench, snap, At};
use crate::engine::order::{Copied, Known, Op, Place};
use crate::store::{Chunk, Dest, SnapId};
use kernel::prelude::*;
use std::collections::HashMap;

const KEY: (u64, u64) = (1, SnapId::top(1).0);

#[test]
fn a_read_teaches_where_a_chunk_is() {
    let mut b = bench(1);
    b.read(snap(1), 1);
    assert_eq!(b.desk.known.get(&KEY), Some(&Place::Origin));
    // The record of a copy makes that void.
    b.write(1);
    assert!(b.desk.known.contains_key(&KEY));
    b.end_copy(Copied::Good);
    assert!(b.desk.known.is_empty());
    let n = b.read(snap(1), 1);
    let At::Store(dest) = b.at(n) else { panic!() };
    assert_eq!(b.desk.known.get(&KEY), Some(&Place::Store(dest)));
}

#[test]
fn a_chunk_is_its_own_when_a_write_waits_for_nothing() {
    let mut b = bench(1);
    b.write_part(snap(1), 1);
    b.end_copy(Copied::Good);
    // The record is on its way: a write with FUA would wait for it.
    b.write_part(snap(1), 1);
    assert!(b.desk.known.is_empty());
    let flush = b.submit(snap(1), Op::Flush, 0, false, false);
    b.run();
    b.end_log(Ok(()));
    assert!(b.is_good(flush));
    b.write_part(snap(1), 1);
    assert!(matches!(b.desk.known.get(&KEY), Some(Place::Own(_))));
}

#[test]
fn a_table_of_places_answers_as_a_map_or_not_at_all() {
    let mut known = Known::new(4).unwrap();
    let mut map = HashMap::new();
    let mut lot = 1u64;
    let mut below = |n: u64| {
        lot = lot.wrapping_mul(6364136223846793005).wrapping_add(1);
        (lot >> 33) % n
    };
    let mut hits = 0;
    for _ in 0..100_000 {
        let (chunk, id) = (Chunk(below(40)), SnapId::top(1 + below(3) as u32));
        let key = (chunk.0, id.0);
        match below(100) {
            0 => {
                known.forget_all();
                map.clear();
            }
            1..10 => {
                known.forget(chunk);
                map.retain(|&(of, _), _| of != chunk.0);
            }
            10..50 => {
                let dest = Dest(below(1 << 40));
                let place = [Place::Origin, Place::Store(dest), Place::Own(dest)];
                let place = place[below(3) as usize];
                known.learn(chunk, id, place);
                map.insert(key, place);
                assert_eq!(known.look(chunk, id), Some(place));
            }
            _ => {
                if let Some(place) = known.look(chunk, id) {
                    hits += 1;
                    assert_eq!(map.get(&key), Some(&place));
                }
            }
        }
    }
    assert!(hits > 1000, "{hits}");
    let (chunk, id) = (Chunk(1), SnapId::top(1));
    known.learn(chunk, id, Place::Origin);
    known.close();
    known.learn(chunk, id, Place::Origin);
    assert_eq!(known.look(chunk, id), None);
}
