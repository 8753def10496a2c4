//! The power is cut at every operation of an update, and again within the recovery from each cut. After each cut the
//! device boots with a valid image, old or new, and the update can be brought to its end.

use std::collections::BTreeMap;

use fewstep_core::sampler::noise::philox4x32;
use fewstep_core::slots::{HEAD_BYTES, Layout, Manifest, Rules, SlotError, Slots, head};
use fewstep_tests::flash::{Cut, Flash, Refusal, Torn};

type Images = BTreeMap<u32, Vec<u8>>;

/// Random bytes with erased-looking runs, as weights have none but hostile images may.
fn image(version: u32, bytes: usize) -> Vec<u8> {
    (0..bytes as u32)
        .map(|i| if i / 40 % 5 == 4 { 0xff } else { philox4x32([i, version, 0, 0], [5, 6])[0] as u8 })
        .collect()
}

fn layout(slot: usize) -> Layout {
    Layout { a: 0, b: slot as u32, bytes: slot as u32 }
}

/// A device from the factory: version 1 in slot A, as a flash tool writes it.
fn device<const W: usize, const E: usize>(slot: usize, images: &Images) -> Flash<W, E> {
    let mut flash = Flash::new(2 * slot);
    flash.program(0, &head::confirmed(&Manifest::of(&images[&1], 1), 1, W).unwrap());
    flash.program(HEAD_BYTES, &images[&1]);
    flash
}

/// What boots must be an image that was sent, byte for byte.
fn boots<const W: usize, const E: usize>(slots: &mut Slots<Flash<W, E>>, images: &Images) -> Option<u32> {
    let booted = slots.boot()?;
    let at = booted.offset as usize;
    let bytes = &slots.flash().bytes()[at..at + booted.bytes as usize];
    assert!(bytes == images[&booted.version], "version {} is not what was sent", booted.version);
    Some(booted.version)
}

/// What a firmware does after a reset, until `version` runs and is confirmed, or the power fails. Returns what booted.
fn live<const W: usize, const E: usize>(
    flash: Flash<W, E>,
    slot: usize,
    images: &Images,
    version: u32,
    chunk: usize,
) -> (Flash<W, E>, Option<u32>, Result<(), SlotError<Refusal>>) {
    let mut slots = Slots::new(flash, layout(slot), Rules::default()).unwrap();
    let booted = boots(&mut slots, images);
    let done = update(&mut slots, images, version, chunk, booted);
    (slots.release(), booted, done)
}

fn update<const W: usize, const E: usize>(
    slots: &mut Slots<Flash<W, E>>,
    images: &Images,
    version: u32,
    chunk: usize,
    booted: Option<u32>,
) -> Result<(), SlotError<Refusal>> {
    if booted == Some(version) {
        return slots.confirm();
    }
    // An image of an update before this one, cut in its trial: it runs, so it is good.
    if slots.running().is_some_and(|r| r.trial) {
        slots.confirm()?;
    }
    let image = &images[&version];
    slots.resume(&Manifest::of(image, version))?;
    let from = slots.position().unwrap() as usize;
    for piece in image[from..].chunks(chunk) {
        slots.push(piece)?;
    }
    slots.finish()?;
    let booted = boots(slots, images);
    assert!(booted == Some(version) || slots.flash().is_dead(), "{booted:?} boots after the update");
    slots.confirm()
}

/// Without further cuts everything comes to a good end.
fn comes_to_an_end<const W: usize, const E: usize>(
    mut flash: Flash<W, E>,
    slot: usize,
    images: &Images,
    old: u32,
    new: u32,
    chunk: usize,
) -> Flash<W, E> {
    flash.power_on(None);
    let (mut flash, booted, done) = live(flash, slot, images, new, chunk);
    assert!(booted == Some(old) || booted == Some(new), "{booted:?} boots after the cut");
    done.unwrap();
    assert!(flash.broken.is_empty(), "{:?}", flash.broken);
    flash.power_on(None);
    let mut slots = Slots::new(flash, layout(slot), Rules::default()).unwrap();
    assert_eq!(boots(&mut slots, images), Some(new));
    assert!(!slots.running().unwrap().trial);
    slots.release()
}

/// Ways an operation can be cut.
const WAYS: u64 = Torn::ALL.len() as u64;

/// Cuts an update of `start` at every operation in every way, or at each `step`th of these pairs from `first` on; `then`
/// sees each state. Returns the number of cuts.
fn cut<const W: usize, const E: usize>(
    start: &Flash<W, E>,
    slot: usize,
    images: &Images,
    versions: (u32, u32),
    chunk: usize,
    (first, step): (u64, u64),
    mut then: impl FnMut(u64, Flash<W, E>),
) -> u64 {
    let mut cuts = 0;
    for pair in (first..).step_by(step as usize) {
        let (at, torn) = (pair / WAYS, Torn::ALL[(pair % WAYS) as usize]);
        let mut flash = start.clone();
        flash.seed((pair as u32) << 8 | first as u32);
        flash.power_on(Some(Cut { at, torn }));
        let (flash, booted, done) = live(flash, slot, images, versions.1, chunk);
        assert!(booted.is_none_or(|v| v == versions.0 || v == versions.1), "{booted:?}");
        assert!(flash.broken.is_empty(), "{:?} at {at}, {torn:?}", flash.broken);
        if !flash.is_dead() {
            done.unwrap();
            return cuts;
        }
        cuts += 1;
        then(pair, flash);
    }
    cuts
}

/// Cuts two updates at every operation in every way, and the recovery from each of these cuts at one in `step` of its
/// operations and ways. Which ones shifts with the first cut, so all of them have their turn.
fn twice<const W: usize, const E: usize>(slot: usize, bytes: [usize; 3], chunk: usize, step: u64) -> u64 {
    let images: Images = (1..=3).map(|v| (v, image(v, bytes[v as usize - 1]))).collect();
    let device = device::<W, E>(slot, &images);
    // The second update overwrites the slot of a confirmed image, the first an empty one.
    let second = comes_to_an_end(device.clone(), slot, &images, 1, 2, chunk);
    let (mut once, mut again) = (0, 0);
    for (start, versions) in [(device, (1, 2)), (second, (2, 3))] {
        once += cut(&start, slot, &images, versions, chunk, (0, 1), |pair, flash| {
            again += cut(&flash, slot, &images, versions, chunk, (pair % step, step), |_, flash| {
                comes_to_an_end(flash, slot, &images, versions.0, versions.1, chunk);
            });
            comes_to_an_end(flash, slot, &images, versions.0, versions.1, chunk);
        });
    }
    println!(
        "words of {W}, blocks of {E}, slots of {slot}, images of {bytes:?} bytes: cut {once} times, {again} again"
    );
    once + again
}

/// Blocks within and beyond the head, words shorter and longer than a cell, images that end within a word, at a block's
/// edge and at the slot's.
#[test]
fn every_cut_and_cuts_of_every_recovery_are_survived() {
    let cuts = twice::<4, 1024>(3072, [500, 1060, 300], 100, 29)
        + twice::<8, 512>(3072, [900, 1500, 1], 7, 17)
        + twice::<32, 2048>(6144, [3000, 4100, 5120], 999, 11)
        + twice::<64, 4096>(8192, [5000, 7168, 3136], 64, 7)
        // An image that fits beside its head: the whole slot is one block.
        + twice::<16, 4096>(4096, [3072, 1600, 3072], 1 << 20, 23)
        // Every cut of every recovery.
        + twice::<64, 1024>(2048, [100, 1024, 700], 64, 1);
    println!("{cuts} cut points in all");
    assert!(cuts >= 150_000, "{cuts}");
}

/// A device that never gets beyond its first operations, many lives long: every record has a last cell.
#[test]
fn cuts_of_the_same_record_again_and_again_are_survived() {
    const SLOT: usize = 4096;
    let images: Images = (1..=2).map(|v| (v, image(v, 1500))).collect();
    let device = device::<32, 2048>(SLOT, &images);
    let mut lives = 0;
    for torn in [Torn::Partly, Torn::Unreadable] {
        cut(&device, SLOT, &images, (1, 2), 100, (0, 1), |pair, flash| {
            for again in 0..4 {
                let mut flash = flash.clone();
                for life in 0..10 {
                    flash.seed(pair as u32 * 100 + again * 10 + life);
                    flash.power_on(Some(Cut { at: again.into(), torn }));
                    let (after, booted, _) = live(flash, SLOT, &images, 2, 100);
                    assert!(booted.is_some_and(|v| v <= 2) || after.is_dead(), "{booted:?} at {pair}, {life}");
                    lives += 1;
                    flash = after;
                }
                comes_to_an_end(flash, SLOT, &images, 1, 2, 100);
            }
        });
    }
    println!("{lives} lives cut at the same operation");
}

/// Hundreds of updates in a row, each cut some times at random: the wear stays even.
#[test]
fn long_lives_wear_both_slots_alike() {
    const SLOT: usize = 8 * 1024;
    let images: Images = (1..=400).map(|v| (v, image(v, 5000 + v as usize))).collect();
    let mut flash = device::<4, 1024>(SLOT, &images);
    let mut counter = 0;
    let mut random = |below: u64| {
        counter += 1;
        u64::from(philox4x32([counter, 0, 0, 0], [7, 8])[0]) % below
    };
    let mut cuts = 0;
    for version in 2..=400 {
        for _ in 0..random(4) {
            flash.power_on(Some(Cut { at: random(1700), torn: Torn::ALL[random(4) as usize] }));
            let (after, booted, _) = live(flash, SLOT, &images, version, 1 + random(600) as usize);
            assert!(booted.is_none_or(|v| v == version - 1 || v == version), "{booted:?} of {version}");
            cuts += u64::from(after.is_dead());
            flash = after;
        }
        flash = comes_to_an_end(flash, SLOT, &images, version - 1, version, 256);
    }
    let wear = |blocks: std::ops::Range<usize>| flash.erases[blocks].iter().sum::<u32>();
    let (a, b) = (wear(0..8), wear(8..16));
    println!("399 updates, {cuts} cuts: {a} erases in slot A, {b} in slot B; {:?}", flash.erases);
    assert!(a.abs_diff(b) * 10 < a + b, "{a} and {b}");
    // Without cuts: exactly once an update.
    let mut flash = device::<4, 1024>(SLOT, &images);
    for version in 2..=101 {
        flash = comes_to_an_end(flash, SLOT, &images, version - 1, version, 256);
    }
    let (a, b) = (&flash.erases[..8], &flash.erases[8..]);
    assert!(flash.erases[..6].iter().chain(&b[..6]).all(|&n| n == 50), "{a:?} {b:?}");
}

/// The shipped student on the largest of the known flashes.
#[test]
fn the_shipped_student_survives_cuts() {
    const SLOT: usize = 7 * (128 << 10);
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets");
    let read = |name: &str| std::fs::read(path.join(name)).unwrap();
    let images: Images =
        [(1, read("fashion-mnist-student-2.fsw")), (2, read("fashion-mnist-student-4.fsw"))].into_iter().collect();
    let start = device::<32, { 128 << 10 }>(SLOT, &images);
    let mut whole = start.clone();
    whole.power_on(None);
    let (whole, _, done) = live(whole, SLOT, &images, 2, 4096);
    done.unwrap();
    let operations = whole.operations;
    // All of the head, the last ones, and some of the long middle.
    let head = 0..12;
    let last = operations - 12..operations;
    let mut cuts = 0;
    for at in head.chain((12..operations - 12).step_by(701)).chain(last) {
        let torn = Torn::ALL[(at % 4) as usize];
        let mut flash = start.clone();
        flash.power_on(Some(Cut { at, torn }));
        let (flash, ..) = live(flash, SLOT, &images, 2, 4096);
        assert!(flash.is_dead());
        cuts += 1;
        comes_to_an_end(flash, SLOT, &images, 1, 2, 4096);
    }
    println!("{operations} operations, {cuts} cut points");
}
