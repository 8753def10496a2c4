//! A/B slots: rules, chunks, trials, damage, signatures, and random lives.

use std::collections::BTreeMap;

use ed25519_compact::{KeyPair, Seed};
use fewstep_core::sampler::noise::philox4x32;
use fewstep_core::slots::{
    Fault, HEAD_BYTES, Layout, LayoutProblem, Manifest, Rules, Slot, SlotError, Slots, head, signed_prefix,
};
use fewstep_tests::flash::{Cut, Flash, Torn};

const SLOT: usize = 4096;
const LAYOUT: Layout = Layout { a: 0, b: SLOT as u32, bytes: SLOT as u32 };
type Small = Flash<4, 1024>;

fn image(version: u32, bytes: usize) -> Vec<u8> {
    (0..bytes as u32).map(|i| philox4x32([i, version, 0, 0], [1, 9])[0] as u8).collect()
}

/// Version 5 in slot A, confirmed and booted.
fn device(rules: Rules) -> Slots<Small> {
    let old = image(5, 1500);
    let mut flash = Small::new(2 * SLOT);
    flash.program(0, &head::confirmed(&Manifest::of(&old, 5), 1, 4).unwrap());
    flash.program(HEAD_BYTES, &old);
    restart(flash, rules)
}

fn restart(flash: Small, rules: Rules) -> Slots<Small> {
    let mut slots = Slots::new(flash, LAYOUT, rules).unwrap();
    slots.boot();
    slots
}

fn version(slots: &Slots<Small>) -> Option<u32> {
    slots.running().map(|r| r.version)
}

fn send(slots: &mut Slots<Small>, manifest: &Manifest, image: &[u8], chunk: usize) {
    slots.resume(manifest).unwrap();
    let from = slots.position().unwrap() as usize;
    image[from..].chunks(chunk).for_each(|c| slots.push(c).unwrap());
}

#[test]
fn chunks_of_any_size_give_the_same_flash() {
    let new = image(6, 2345);
    let manifest = Manifest::of(&new, 6);
    let flash = |chunk| {
        let mut slots = device(Rules::default());
        send(&mut slots, &manifest, &new, chunk);
        slots.finish().unwrap();
        let flash = slots.release();
        assert!(flash.broken.is_empty());
        flash.bytes().to_vec()
    };
    let whole = flash(new.len());
    for chunk in [1, 2, 3, 4, 5, 7, 64, 255, 256, 1000, 1023, 1024, 1025, 2344] {
        assert!(flash(chunk) == whole, "{chunk}");
    }
}

#[test]
fn a_trial_that_nobody_confirms_goes_back() {
    let new = image(6, 1000);
    let mut slots = device(Rules::default());
    send(&mut slots, &Manifest::of(&new, 6), &new, 100);
    assert_eq!(version(&slots), Some(5), "the old image runs on until the next boot");
    slots.finish().unwrap();
    let booted = slots.boot().unwrap();
    assert!(booted.trial && booted.version == 6 && booted.slot == Slot::B && booted.bytes == 1000);
    assert_eq!(booted.offset as usize, SLOT + HEAD_BYTES);
    // The fallback must not be overwritten now.
    assert_eq!(slots.begin(&Manifest::of(&new, 7)), Err(SlotError::NotConfirmed));
    let booted = slots.boot().unwrap();
    assert!(!booted.trial && booted.version == 5);
    assert_eq!(slots.boot().unwrap().version, 5, "and stays there");
    // The same image again, and now it is found good.
    send(&mut slots, &Manifest::of(&new, 6), &new, 100);
    slots.finish().unwrap();
    assert_eq!(slots.boot().unwrap().version, 6);
    slots.confirm().unwrap();
    slots.confirm().unwrap();
    for _ in 0..3 {
        let booted = slots.boot().unwrap();
        assert!(!booted.trial && booted.version == 6);
    }
}

#[test]
fn what_is_wrong_is_said() {
    let new = image(6, 1000);
    let manifest = Manifest::of(&new, 6);
    let mut unbooted = Slots::new(Small::new(2 * SLOT), LAYOUT, Rules::default()).unwrap();
    assert_eq!(unbooted.begin(&manifest), Err(SlotError::NotBooted));
    assert_eq!(unbooted.confirm(), Err(SlotError::NotBooted));

    let mut slots = device(Rules::default());
    assert_eq!(slots.push(&[0]), Err(SlotError::NoUpdate));
    assert_eq!(slots.finish(), Err(SlotError::NoUpdate));
    assert_eq!(slots.position(), None);
    for bytes in [0, 3073, u32::MAX] {
        assert_eq!(slots.begin(&Manifest { bytes, ..manifest }), Err(SlotError::Length { bytes, capacity: 3072 }));
    }
    slots.begin(&manifest).unwrap();
    assert_eq!(slots.push(&[0; 1001]), Err(SlotError::TooMany { pushed: 1001, missing: 1000 }));
    slots.push(&new[..999]).unwrap();
    assert_eq!(slots.finish(), Err(SlotError::Incomplete { missing: 1 }));
    slots.push(&[new[999] ^ 1]).unwrap();
    assert!(matches!(slots.finish(), Err(SlotError::Damaged(Fault::Crc { .. }))));
    // What was damaged is not gone on with.
    slots.resume(&manifest).unwrap();
    assert_eq!(slots.position(), Some(0));
    assert_eq!(slots.boot().unwrap().version, 5);
    let error = SlotError::<()>::TooMany { pushed: 1001, missing: 1000 };
    assert_eq!(error.to_string(), "1001 bytes pushed, 1000 are missing");
}

#[test]
fn layouts_that_do_not_suit_are_refused() {
    let problem = |layout: Layout| match Slots::new(Small::new(2 * SLOT), layout, Rules::default()) {
        Err(SlotError::Layout(problem)) => problem,
        other => panic!("{:?}", other.map(drop)),
    };
    assert_eq!(problem(Layout { a: 512, ..LAYOUT }), LayoutProblem::Alignment);
    assert_eq!(problem(Layout { bytes: 1000, ..LAYOUT }), LayoutProblem::Alignment);
    assert_eq!(problem(Layout { bytes: 1024, ..LAYOUT }), LayoutProblem::TooSmall);
    assert_eq!(problem(Layout { b: 5120, ..LAYOUT }), LayoutProblem::Outside);
    assert_eq!(problem(Layout { b: 0xffff_fc00, ..LAYOUT }), LayoutProblem::Outside);
    assert_eq!(problem(Layout { b: 3072, ..LAYOUT }), LayoutProblem::Overlap);
    let large_words = Slots::new(Flash::<128, 1024>::new(2 * SLOT), LAYOUT, Rules::default());
    assert!(matches!(large_words, Err(SlotError::Layout(LayoutProblem::Word))));
    let odd_blocks = Slots::new(Flash::<4, 1536>::new(6144), LAYOUT, Rules::default());
    assert!(matches!(odd_blocks, Err(SlotError::Layout(LayoutProblem::Block))));
}

#[test]
fn versions_go_down_only_where_the_firmware_allows_it() {
    let old = image(4, 500);
    let manifest = Manifest::of(&old, 4);
    let mut slots = device(Rules::default());
    assert_eq!(slots.begin(&manifest), Err(SlotError::Version { found: 4, lowest: 5 }));
    assert_eq!(slots.resume(&manifest), Err(SlotError::Version { found: 4, lowest: 5 }));
    let mut slots = device(Rules { may_go_down: true, ..Rules::default() });
    send(&mut slots, &manifest, &old, 50);
    slots.finish().unwrap();
    assert_eq!(slots.boot().unwrap().version, 4);
    // A floor holds for stored images too.
    let rules = Rules { may_go_down: true, lowest_version: 5, ..Rules::default() };
    let mut slots = restart(slots.release(), rules);
    assert_eq!(version(&slots), Some(5));
    assert_eq!(slots.begin(&manifest), Err(SlotError::Version { found: 4, lowest: 5 }));
}

#[test]
fn an_update_goes_on_where_a_reset_stopped_it() {
    let new = image(6, 3000);
    let manifest = Manifest::of(&new, 6);
    let mut slots = device(Rules::default());
    slots.begin(&manifest).unwrap();
    slots.push(&new[..1500]).unwrap();
    let mut slots = restart(slots.release(), Rules::default());
    slots.resume(&manifest).unwrap();
    // The last block edge: two blocks of the slot, less the head.
    assert_eq!(slots.position(), Some(2048 - 1024));
    send(&mut slots, &manifest, &new, 100);
    // Complete, but cut before the end was said.
    let mut slots = restart(slots.release(), Rules::default());
    send(&mut slots, &manifest, &new, 100);
    slots.finish().unwrap();
    // Complete and checked: nothing is sent again.
    slots.resume(&manifest).unwrap();
    assert_eq!(slots.position(), Some(3000));
    slots.finish().unwrap();
    assert_eq!(slots.boot().unwrap().version, 6);
    assert!(slots.release().broken.is_empty());
    // Another image starts from its own first byte.
    let mut slots = device(Rules::default());
    slots.begin(&manifest).unwrap();
    slots.push(&new[..2500]).unwrap();
    let other = image(7, 3000);
    slots.resume(&Manifest::of(&other, 7)).unwrap();
    assert_eq!(slots.position(), Some(0));
}

/// Every bit of both slots, one at a time: an image that was sent boots, or none; and an update is possible.
#[test]
fn flipped_bits_never_boot_a_damaged_image() {
    let new = image(6, 900);
    let mut slots = device(Rules::default());
    send(&mut slots, &Manifest::of(&new, 6), &new, 100);
    slots.finish().unwrap();
    slots.boot();
    slots.confirm().unwrap();
    let good = slots.release();
    let images: BTreeMap<u32, Vec<u8>> = [(5, image(5, 1500)), (6, new), (9, image(9, 2000))].into();
    let mut count = [0, 0];
    for byte in (0..HEAD_BYTES + 1500).chain(SLOT..SLOT + HEAD_BYTES + 900) {
        // All bits of what is not image, one of each byte of it.
        let bits = if byte % SLOT < 256 { 0..8 } else { byte % 8..byte % 8 + 1 };
        for bit in bits {
            let mut flash = good.clone();
            flash.flip(byte, bit);
            let mut slots = restart(flash, Rules::default());
            let booted = slots.running().expect("one image of two is whole");
            let at = booted.offset as usize;
            assert!(slots.flash().bytes()[at..at + booted.bytes as usize] == images[&booted.version]);
            count[usize::from(booted.version == 6)] += 1;
            if byte % 16 == 0 {
                if booted.trial {
                    slots.confirm().unwrap();
                }
                send(&mut slots, &Manifest::of(&images[&9], 9), &images[&9], 500);
                slots.finish().unwrap();
                assert_eq!(slots.boot().unwrap().version, 9);
                assert!(slots.release().broken.is_empty());
            }
        }
    }
    println!("{} flips booted version 6, {} version 5", count[1], count[0]);
    assert!(count[0] > 900 && count[1] > 1500);
    // Both damaged: no image, and an update brings one.
    let mut flash = good.clone();
    flash.flip(HEAD_BYTES + 3, 1);
    flash.flip(SLOT + HEAD_BYTES + 3, 1);
    let mut slots = restart(flash, Rules::default());
    assert_eq!(version(&slots), None);
    send(&mut slots, &Manifest::of(&images[&9], 9), &images[&9], 500);
    slots.finish().unwrap();
    assert_eq!(slots.boot().unwrap().version, 9);
}

#[test]
fn a_slot_is_filled_to_its_last_byte() {
    let new = image(6, SLOT - HEAD_BYTES);
    let mut slots = device(Rules::default());
    send(&mut slots, &Manifest::of(&new, 6), &new, 333);
    slots.finish().unwrap();
    assert_eq!(slots.boot().unwrap().bytes as usize, new.len());
    let flash = slots.release();
    assert!(flash.broken.is_empty() && flash.bytes()[SLOT + HEAD_BYTES..] == new);
}

#[test]
fn only_images_signed_with_the_key_are_taken() {
    let key = KeyPair::from_seed(Seed::new([7; 32]));
    let rules = Rules { public_key: Some(*key.pk), ..Rules::default() };
    let signed = |image: &[u8], version: u32, key: &KeyPair| {
        let message = [&signed_prefix(version, image.len() as u32)[..], image].concat();
        Manifest { signature: Some(*key.sk.sign(message, None)), ..Manifest::of(image, version) }
    };
    let old = image(5, 1500);
    let mut flash = Small::new(2 * SLOT);
    flash.program(0, &head::confirmed(&signed(&old, 5, &key), 1, 4).unwrap());
    flash.program(HEAD_BYTES, &old);
    let mut slots = restart(flash, rules);
    assert_eq!(version(&slots), Some(5));

    let new = image(6, 1000);
    assert_eq!(slots.begin(&Manifest::of(&new, 6)), Err(SlotError::Unsigned));
    let manifest = signed(&new, 6, &key);
    let stranger = signed(&new, 6, &KeyPair::from_seed(Seed::new([8; 32])));
    // The signature of another image, of another version, and by another key.
    let wrong = [Manifest { version: 7, ..manifest }, stranger, Manifest { signature: Some([0; 64]), ..manifest }];
    for manifest in wrong {
        send(&mut slots, &manifest, &new, 100);
        assert_eq!(slots.finish(), Err(SlotError::Damaged(Fault::Signature)), "{manifest:?}");
    }
    send(&mut slots, &manifest, &new, 100);
    slots.finish().unwrap();
    assert_eq!(slots.boot().unwrap().version, 6);
    // A firmware with another key boots none of them.
    let other = Rules { public_key: Some([3; 32]), ..Rules::default() };
    assert_eq!(version(&restart(slots.release(), other)), None);
    // An unsigned image that got into flash by another way is not booted.
    assert_eq!(version(&restart(device(Rules::default()).release(), rules)), None);
}

/// Random lives: updates begun, dropped, resumed, cut, damaged, tried, confirmed or not, of any version. What boots was
/// always completely sent at some time, and at the end an update succeeds.
#[test]
fn random_lives_keep_the_promises() {
    let mut counter = 0;
    let mut random = |below: u32| {
        counter += 1;
        philox4x32([counter, 0, 0, 0], [11, 12])[0] % below
    };
    let images: Vec<Vec<u8>> = (0..12).map(|v| image(v, 1 + (v as usize * 977) % 3000)).collect();
    let (mut boots, mut actions, mut cuts) = (0, 0, 0);
    for life in 0..500 {
        let mut flash = Small::new(2 * SLOT);
        flash.seed(life << 8);
        let mut sure = None;
        for _ in 0..12 {
            let cut = (random(3) > 0).then(|| Cut { at: random(900).into(), torn: Torn::ALL[random(4) as usize] });
            flash.power_on(cut);
            let mut slots = Slots::new(flash, LAYOUT, Rules { may_go_down: true, ..Rules::default() }).unwrap();
            for _ in 0..random(30) {
                actions += 1;
                let v = random(12);
                let manifest = Manifest::of(&images[v as usize], v);
                let _ = match random(8) {
                    0 => {
                        boots += 1;
                        if let Some(b) = slots.boot() {
                            let at = b.offset as usize;
                            assert!(
                                slots.flash().bytes()[at..at + b.bytes as usize] == images[b.version as usize],
                                "life {life}"
                            );
                        } else {
                            assert!(sure.is_none() || slots.flash().is_dead(), "life {life}: {sure:?} is lost");
                        }
                        Ok(())
                    }
                    1 => slots.begin(&manifest),
                    2 => slots.resume(&manifest),
                    3 => {
                        let done = slots.confirm();
                        if done.is_ok() {
                            sure = slots.running();
                        }
                        done
                    }
                    4 => {
                        let done = slots.finish();
                        if done.is_ok() && sure.is_none() {
                            sure = slots.running();
                        }
                        done
                    }
                    5 => slots.push(&images[v as usize]),
                    // The right bytes: of whatever image is under way, all that is missing or a piece.
                    _ => {
                        let left = (0..12).find_map(|v| {
                            let manifest = Manifest::of(&images[v as usize], v);
                            slots.resume(&manifest).ok().filter(|()| slots.position() > Some(0)).map(|()| v)
                        });
                        let v = left.unwrap_or(v);
                        slots.resume(&Manifest::of(&images[v as usize], v)).and_then(|()| {
                            let from = slots.position().unwrap_or(0) as usize;
                            let rest = &images[v as usize][from..];
                            let take = if random(2) == 0 { rest.len() } else { random(rest.len() as u32 + 1) as usize };
                            slots.push(&rest[..take])
                        })
                    }
                };
            }
            flash = slots.release();
            cuts += u32::from(flash.is_dead());
        }
        assert!(flash.broken.is_empty(), "life {life}: {:?}", flash.broken);
        // Whatever happened: an update is possible.
        flash.power_on(None);
        let mut slots = restart(flash, Rules { may_go_down: true, ..Rules::default() });
        if slots.running().is_some_and(|r| r.trial) {
            slots.confirm().unwrap_or_else(|e| assert_eq!(e, SlotError::Worn));
            slots.boot();
        }
        let manifest = Manifest::of(&images[11], 11);
        slots.begin(&manifest).unwrap();
        slots.push(&images[11]).unwrap();
        slots.finish().unwrap();
        assert_eq!(slots.boot().unwrap().version, 11, "life {life}");
        slots.confirm().unwrap();
    }
    println!("500 lives: {actions} actions, {boots} boots, {cuts} cuts");
}
