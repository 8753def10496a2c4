//! Every operation but the convolution, of the board's backend against the scalar functions, on the CPU itself: sizes
//! around the vectors' lengths, and values at the extremes.

use fewstep_core::Backend;
use fewstep_core::ops::embed::{Dense, GUIDANCE_FEATURES};
use fewstep_core::ops::{Attention, Embed, NormAct, NormOut, Pool, Upsample};

use crate::compare::{Numbers, some, take};

/// Values that float operations treat in ways of their own.
const SPECIAL: [f32; 10] =
    [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MIN_POSITIVE, 1.0e-40, -3.0e-42, 1.0e30, -1.0e30, 2.5e-4, -0.0];

/// Runs `run` with the board's kernels and with the scalar ones, on outputs that begin alike, and panics where a byte
/// differs.
#[track_caller]
fn both(got: &mut [u8], want: &mut [u8], numbers: &mut Numbers, mut run: impl FnMut(Backend, &mut [u8])) {
    numbers.fill(got);
    want.copy_from_slice(got);
    run(Backend::best(), got);
    run(Backend::scalar(), want);
    assert!(got == want, "a result differs");
}

/// Panics at the first difference. `memory` is aligned to 16 bytes.
pub fn run(mut memory: &mut [u8]) {
    let memory = &mut memory;
    let (got, want): (&mut [u8], &mut [u8]) = (take(memory, 24 << 10), take(memory, 24 << 10));
    let input: &mut [i16] = take(memory, 12 << 10);
    let weights: &mut [i8] = take(memory, 24 << 10);
    let (a, b): (&mut [f32], &mut [f32]) = (take(memory, 2048), take(memory, 2048));
    let (c, d): (&mut [f32], &mut [f32]) = (take(memory, 2048), take(memory, 2048));
    let mut numbers = Numbers::from(1 << 16);
    norm_act(got, want, input, [a, b, c], &mut numbers);
    elementwise(got, want, input, a, &mut numbers);
    attention(got, want, weights, &mut numbers);
    embed(got, want, weights, [a, b, c, d], &mut numbers);
    defmt::info!("other operations of {=str} equal scalar", Backend::best().name());
}

fn norm_act(got: &mut [u8], want: &mut [u8], input: &mut [i16], floats: [&mut [f32]; 3], numbers: &mut Numbers) {
    let [gamma, beta, film] = floats;
    let mut case = 0;
    for group in (1..=17).chain([20, 32, 48, 64]) {
        for groups in [1, 3] {
            for (scale, a) in [(1.5, 45.0), (1.0e-38, 45.0), (3.0e20, 2.0), (1.5, 1.0e30), (40.0, 1.0e-3)] {
                let (cells, channels) = (1 + (group * 7 + groups) % 12, group * groups);
                numbers.floats(&mut gamma[..channels], scale);
                numbers.floats(&mut beta[..channels], scale / 3.0);
                numbers.floats(&mut film[..2 * channels], 0.5);
                numbers.fill(bytemuck::cast_slice_mut(input));
                case += 1;
                match case % 7 {
                    0 => input.fill(i16::MIN),
                    1 => input.iter_mut().for_each(|q| *q /= 512),
                    _ => {}
                }
                let count = cells * channels;
                let film = (case % 2 == 0).then_some(&film[..2 * channels]);
                let zp = [-128, 127, -37, 0][case % 4];
                let (gamma, beta) = (&gamma[..channels], &beta[..channels]);
                let p = NormAct { cells, channels, group, gamma, beta, film, silu: case % 3 > 0, a, b: 0.9, zp };
                both(got, want, numbers, |backend, out| {
                    let out = NormOut::I8(&mut bytemuck::cast_slice_mut(out)[..count]);
                    (backend.kernels().norm_act)(&p, &input[..count], out);
                });
                let p = NormAct { a: a * 200.0, zp: 0, ..p };
                both(got, want, numbers, |backend, out| {
                    let out = NormOut::I16(&mut bytemuck::cast_slice_mut(out)[..count]);
                    (backend.kernels().norm_act)(&p, &input[..count], out);
                });
            }
        }
    }
}

fn elementwise(got: &mut [u8], want: &mut [u8], input: &mut [i16], z: &mut [f32], numbers: &mut Numbers) {
    for channels in 1..=40 {
        let (height, width) = (2 + channels % 3 * 2, 2 + channels % 4 * 2);
        let cells = height * width;
        numbers.fill(bytemuck::cast_slice_mut(input));
        let p = Pool { height, width, channels };
        both(got, want, numbers, |backend, out| {
            let out = &mut bytemuck::cast_slice_mut(out)[..cells * channels / 4];
            (backend.kernels().avg_pool2)(&p, &input[..cells * channels], out);
        });
        for (a, c) in [(0.77, 0.61), (1.0e-41, 1.0), (3.0e25, -2.0e-39), (f32::INFINITY, 0.0), (0.5, -0.5)] {
            let p = Upsample { height, width, channels, a, c };
            both(got, want, numbers, |backend, out| {
                let out = &mut bytemuck::cast_slice_mut(out)[..cells * channels];
                (backend.kernels().upsample_add)(&p, &input[..cells * channels / 4], out);
            });
        }
        let z = &mut z[..channels * 3];
        numbers.floats(z, 5.0);
        for (i, x) in SPECIAL.into_iter().enumerate() {
            z[(i * 7 + channels) % (channels * 3)] = x;
        }
        for a in [10_000.0, 2.0e3, 0.0, 1.0e30, 1.0e-39, 1.0e25] {
            both(got, want, numbers, |backend, out| {
                (backend.kernels().quantize)(a, z, &mut bytemuck::cast_slice_mut(out)[..z.len()]);
            });
        }
    }
}

fn attention(got: &mut [u8], want: &mut [u8], qkv: &mut [i8], numbers: &mut Numbers) {
    for (tokens, channels, heads) in [
        (1, 1, 1),
        (1, 16, 1),
        (7, 24, 3),
        (15, 30, 2),
        (16, 32, 2),
        (17, 64, 1),
        (31, 96, 2),
        (49, 64, 4),
        (49, 64, 1),
    ] {
        for a in [0.0, 1e-5, 3e-4, 2e-3, 1e-2, 0.5, 1e30] {
            numbers.fill(bytemuck::cast_slice_mut(qkv));
            let p = Attention { tokens, channels, heads, a, b: 1.3 };
            let mut scores = [0.0; 64];
            both(got, want, numbers, |backend, out| {
                let out = &mut bytemuck::cast_slice_mut(out)[..tokens * channels];
                (backend.kernels().attention)(&p, &qkv[..tokens * 3 * channels], &mut scores, out);
            });
        }
    }
}

fn embed(got: &mut [u8], want: &mut [u8], weights: &mut [i8], floats: [&mut [f32]; 4], numbers: &mut Numbers) {
    let [time, class, guidance, factors] = floats;
    for (e, f) in [(8, 1), (8, 16), (16, 7), (24, 30), (64, 99), (72, 9)] {
        for (w, tiny) in [(0.0, 1.0), (1.5, 1.0), (4.0, 1.0e-36), (100.0, 1.0e-43)] {
            numbers.floats(time, tiny);
            numbers.floats(class, 9.0 * tiny);
            numbers.floats(guidance, 0.3 * tiny);
            numbers.floats(factors, 2.0e-3);
            numbers.fill(bytemuck::cast_slice_mut(weights));
            let (hidden, film) = weights.split_at(e * e);
            let p = Embed {
                time: &time[..e],
                class: &class[..e],
                guidance: &guidance[..e * GUIDANCE_FEATURES],
                hidden: Dense {
                    weights: some(hidden, e, e, w == 4.0),
                    scale: &factors[..e],
                    bias: &factors[200..200 + e],
                },
                film: Dense {
                    weights: some(film, f, e, w > 1.0),
                    scale: &factors[400..400 + f],
                    bias: &factors[600..600 + f],
                },
                w,
            };
            both(got, want, numbers, |backend, out| {
                let out: &mut [f32] = bytemuck::cast_slice_mut(out);
                let (first, rest) = out.split_at_mut(e);
                let (second, rest) = rest.split_at_mut(e);
                (backend.kernels().embed)(&p, first, second, &mut rest[..f]);
            });
        }
    }
}
