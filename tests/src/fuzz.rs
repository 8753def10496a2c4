//! Hostile bytes: a seeded generator, mutations, and a loop that counts. Also a module of fewstep-core's own tests.

use std::time::{Duration, Instant};

use fewstep_core::sampler::noise::philox4x32;

/// A generator that a message can name: its seed and number.
pub struct Random {
    seed: u32,
    image: u32,
    counter: u32,
}

impl Random {
    pub fn word(&mut self) -> u32 {
        self.counter += 1;
        philox4x32([self.counter, self.image, 0, 0], [self.seed, 77])[0]
    }

    pub fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { self.word() as usize % n }
    }

    pub fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }
}

fn number(name: &str, default: u32) -> u32 {
    std::env::var(name).map_or(default, |v| v.parse().unwrap_or_else(|_| panic!("{name}={v} is no number")))
}

/// Calls `once` so many times; says how many, how many were accepted, and how long it took. `FEWSTEP_FUZZ` multiplies the
/// number, `FEWSTEP_FUZZ_SEED` gives other bytes. No call may hang.
pub fn fuzz(what: &str, images: u32, mut once: impl FnMut(&mut Random) -> bool) {
    let seed = number("FEWSTEP_FUZZ_SEED", 1);
    // Miri takes a thousand times as long.
    let images = if cfg!(miri) { images / 300 } else { images * number("FEWSTEP_FUZZ", 1) };
    let (start, mut accepted, mut longest) = (Instant::now(), 0u32, Duration::ZERO);
    for image in 0..images {
        let before = Instant::now();
        accepted += u32::from(once(&mut Random { seed, image, counter: 0 }));
        longest = longest.max(before.elapsed());
    }
    let time = start.elapsed().as_secs_f64();
    println!(
        "{what}: {images} images without a panic, {accepted} accepted, {time:.1} s, longest {longest:?}, seed {seed}"
    );
    assert!(cfg!(miri) || longest < Duration::from_secs(20), "{what}: one image took {longest:?}");
    assert!(accepted > 0 && accepted < images, "{what}: the mutations are too harsh or too mild: {accepted} accepted");
}

/// Changes bytes: flips, numbers that arithmetic dislikes, copies, cuts, insertions.
pub fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..1 + random.below(4) {
        if bytes.is_empty() {
            bytes.push(random.word() as u8);
        }
        let at = random.below(bytes.len());
        match random.below(9) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.word() as u8,
            2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            3 => {
                let value = [0, 1, 0xffff, 0x7fff_ffff, 0x8000_0000, u32::MAX, u32::MAX - 15][random.below(7)];
                let width = [2, 4][random.below(2)];
                let end = bytes.len().min(at + width);
                bytes[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
            }
            4 => bytes[at] = bytes[at].wrapping_add([1, 255, 16][random.below(3)]),
            5 => {
                let (from, len) = (random.below(bytes.len()), 1 + random.below(32));
                let len = len.min(bytes.len() - from.max(at));
                bytes.copy_within(from..from + len, at);
            }
            6 if random.chance(4) => bytes.truncate(at),
            7 if random.chance(4) => bytes.insert(at, random.word() as u8),
            _ => bytes[at] = bytes[at].wrapping_sub(1),
        }
    }
}
