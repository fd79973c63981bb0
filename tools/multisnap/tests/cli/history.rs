// SPDX-License-Identifier: GPL-2.0

//! Random histories.

use super::fixture::{World, TYPES};
use fastrand::Rng;
use multisnap_store::image::{SnapshotId, Type};

/// A store after so many random steps, loaded.
pub fn random(of: Type, rng: &mut Rng, steps: usize) -> World {
    let chunk_blocks = 1 << rng.u32(0..3);
    let chunks = rng.u64(3..40);
    let mut world = World::new(of, 400 + 900 * chunk_blocks, chunk_blocks, chunks);
    for _ in 0..steps {
        step(&mut world, rng);
    }
    world
}

fn step(world: &mut World, rng: &mut Rng) {
    let chunk = rng.u64(0..world.chunks());
    let ids: Vec<SnapshotId> = world.snapshots.keys().copied().collect();
    let id = rng.choice(&ids).copied();
    match (rng.u32(0..100), id) {
        (0..35, _) => world.write(chunk),
        (35..37, _) => world.write_and_lose(chunk),
        (37..55, Some(id)) => world.write_snapshot(id, chunk),
        (55..62, Some(id)) => world.zero(id, chunk),
        (62..72, _) => {
            world.try_create(None, ["", "a", "daily-2026"][rng.usize(0..3)]);
        }
        (72..80, Some(id)) if id.sub_id().is_none() => {
            world.try_create(Some(id), "sub");
        }
        (80..87, Some(id)) => world.delete(id),
        (87..89, _) => world.rig().sweep().unwrap(),
        (89, _) if rng.u32(0..4) == 0 => world.lose_all(),
        (90..94, _) => world.rig().checkpoint().unwrap(),
        (94..96, _) => {
            world.crash();
            world.load();
        }
        (96..98, _) => {
            world.stop();
            world.load();
        }
        _ => world.rig().commit().unwrap(),
    }
}

/// dump, restore, check, cat: the same again.
#[test]
fn what_is_restored_is_what_was_dumped() {
    let mut rng = Rng::with_seed(0x6d73);
    for round in 0..24 {
        for of in TYPES {
            let steps = rng.usize(5..150);
            let mut world = random(of, &mut rng, steps);
            let clean = rng.bool();
            if clean {
                world.stop();
            } else {
                world.crash();
            }
            let code = if clean { 0 } else { 3 };
            let run = world.check("store").ends(code);
            world.cats("store");
            world.restore("again");
            let again = world.check("again").ends(code);
            world.cats("again");
            let snapshots = |text: String| -> String {
                let line = text.lines().find(|line| line.contains("snapshots"));
                line.unwrap().split(',').next().unwrap().into()
            };
            assert_eq!(
                snapshots(run.text()),
                snapshots(again.text()),
                "round {round}"
            );
            // And once more: a dump of what was restored says the same of the snapshots.
            let dump = |name: &str| {
                let store = world.folder.path(name).display().to_string();
                let text = super::fixture::multisnap(&["dump", &store]).ends(0).text();
                let lines = text
                    .lines()
                    .filter(|line| line.starts_with("{\"snapshot\""));
                lines.map(String::from).collect::<Vec<_>>()
            };
            assert_eq!(dump("store"), dump("again"), "round {round}");
        }
    }
}

/// A sound store loses nothing by a repair.
#[test]
fn a_repair_of_a_sound_store_saves_all() {
    let mut rng = Rng::with_seed(0x7265);
    for _ in 0..10 {
        for of in TYPES {
            let steps = rng.usize(5..150);
            let mut world = random(of, &mut rng, steps);
            world.stop();
            let (store, out) = (world.store(), world.folder.path("new"));
            let run = super::fixture::multisnap(&["repair".into(), store, out]).ends(0);
            assert!(run.text().contains("all was saved"), "{}", run.text());
            world.check("new").ends(0);
            world.cats("new");
        }
    }
}
