//! Runs one operation of a student as often as asked and nothing else: to count its instructions, run it under a counter
//! twice, and subtract. `docs/kernels-aarch64.sh` does.
//!
//! ```text
//! layers BACKEND LAYER TIMES    LAYER as 3x3:16x16x32:32 (kernel, height, width, channels in: out), norm:14x14x32,
//!                               attention:49x64, embed:64x960, pool:14x14x32, upsample:14x14x32 or quantize:784;
//!                               BACKEND as neon-i8mm, or neon-i8mm+prepared for weights that were prepared before
//! ```

use std::process::ExitCode;

use fewstep_core::Backend;
use fewstep_core::ops::embed::{Dense, GUIDANCE_FEATURES};
use fewstep_core::ops::{Attention, Conv, ConvIn, ConvOut, Embed, NormAct, NormOut, Pool, Upsample, Weights};
use fewstep_core::sampler::noise::philox4x32;

/// Repeatable bytes.
fn bytes(len: usize) -> Vec<i8> {
    (0..len).map(|i| (philox4x32([i as u32, 0, 0, 7], [0, 0])[0] >> 24) as i8).collect()
}

/// Weights as the exporter makes them.
fn weights(len: usize) -> Vec<i8> {
    bytes(len).into_iter().map(|w| w.max(-127)).collect()
}

fn words(len: usize) -> Vec<i16> {
    bytes(len).into_iter().map(|x| i16::from(x) * 200).collect()
}

fn floats(len: usize) -> Vec<f32> {
    bytes(len).into_iter().map(|x| f32::from(x) / 128.0).collect()
}

/// Runs `layer` `times` times; returns its multiply-accumulates, or values where it has none.
fn run(backend: Backend, prepared: bool, layer: &str, times: usize) -> Option<usize> {
    let kernels = backend.kernels();
    let (kind, shape) = layer.split_once(':')?;
    let numbers: Option<Vec<usize>> = shape.split(['x', ':']).map(|n| n.parse().ok()).collect();
    match (kind, numbers?.as_slice()) {
        ("3x3" | "1x1" | "3x3i16" | "1x1i16", &[height, width, cin, cout]) => {
            let kernel: usize = kind[..1].parse().ok()?;
            let (weights, scale, bias) = (weights(cout * kernel * kernel * cin), vec![0.01; cout], vec![0.1; cout]);
            let zp = if kind.ends_with("i16") { 0 } else { -100 };
            let (weights, scale, bias) = (Weights::Int8(&weights), &scale[..], &bias[..]);
            let p = Conv { height, width, cin, cout, kernel, weights, scale, bias, a: 1.0, b: 9.0, c: 0.9, zp };
            let (q8, q16, mut out) =
                (bytes(height * width * cin), words(height * width * cin), words(height * width * cout));
            let input = if kind.ends_with("i16") { ConvIn::I16(&q16) } else { ConvIn::I8(&q8) };
            let preparing = kernels.preparing.filter(|_| prepared && matches!(input, ConvIn::I8(_)));
            let mut panels = vec![0; preparing.map_or(0, |by| (by.prepare)(&p, false, &mut []))];
            let preparing = preparing.filter(|by| (by.prepare)(&p, false, &mut panels) > 0);
            for _ in 0..times {
                let out = ConvOut::I16(&mut out);
                match preparing {
                    Some(by) => (by.conv)(&p, &panels, input, out),
                    None => (kernels.conv)(&p, input, out, &mut []),
                }
            }
            Some(height * width * cin * cout * kernel * kernel)
        }
        ("norm", &[height, width, channels]) => {
            let (gamma, beta, film) = (floats(channels), floats(channels), floats(2 * channels));
            let input = words(height * width * channels);
            let p = NormAct {
                cells: height * width,
                channels,
                group: 8,
                gamma: &gamma,
                beta: &beta,
                film: Some(&film),
                silu: true,
                a: 50.0,
                b: 10.0,
                zp: -100,
            };
            let mut out = bytes(input.len());
            for _ in 0..times {
                (kernels.norm_act)(&p, &input, NormOut::I8(&mut out));
            }
            Some(input.len())
        }
        ("attention", &[tokens, channels]) => {
            let p = Attention { tokens, channels, heads: 1, a: 1e-4, b: 1.0 };
            let (qkv, mut scores, mut out) = (bytes(tokens * 3 * channels), floats(tokens), bytes(tokens * channels));
            for _ in 0..times {
                (kernels.attention)(&p, &qkv, &mut scores, &mut out);
            }
            Some(2 * tokens * tokens * channels)
        }
        ("embed", &[e, f]) => {
            let (time, class, guidance) = (floats(e), floats(e), floats(e * GUIDANCE_FEATURES));
            let (w2, wf, s2, sf) = (weights(e * e), weights(e * f), floats(e), floats(f));
            let p = Embed {
                time: &time,
                class: &class,
                guidance: &guidance,
                hidden: Dense { weights: Weights::Int8(&w2), scale: &s2, bias: &s2 },
                film: Dense { weights: Weights::Int8(&wf), scale: &sf, bias: &sf },
                w: 1.5,
            };
            let (mut first, mut second, mut film) = (floats(e), floats(e), floats(f));
            for _ in 0..times {
                (kernels.embed)(&p, &mut first, &mut second, &mut film);
            }
            Some(e * GUIDANCE_FEATURES + e * e + e * f)
        }
        ("pool", &[height, width, channels]) => {
            let (input, mut out) = (words(height * width * channels), words(height * width * channels / 4));
            for _ in 0..times {
                (kernels.avg_pool2)(&Pool { height, width, channels }, &input, &mut out);
            }
            Some(input.len())
        }
        ("upsample", &[height, width, channels]) => {
            let (input, mut out) = (words(height * width * channels / 4), words(height * width * channels));
            for _ in 0..times {
                (kernels.upsample_add)(&Upsample { height, width, channels, a: 0.4, c: 0.6 }, &input, &mut out);
            }
            Some(out.len())
        }
        ("quantize", &[len]) => {
            let (z, mut out) = (floats(len), words(len));
            for _ in 0..times {
                (kernels.quantize)(8000.0, &z, &mut out);
            }
            Some(len)
        }
        _ => None,
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, layer, times] = &arguments[..] else {
        eprintln!("layers BACKEND LAYER TIMES");
        return ExitCode::from(2);
    };
    let (name, prepared) = name.split_once("+prepared").map_or((&name[..], false), |(name, _)| (name, true));
    let Some(backend) = Backend::all().find(|backend| backend.name() == name) else {
        eprintln!("no backend {name} on this CPU: {:?}", Backend::all().map(|b| b.name()).collect::<Vec<_>>());
        return ExitCode::from(2);
    };
    match times.parse().ok().and_then(|times| run(backend, prepared, layer, times)) {
        Some(work) => println!("{work}"),
        None => {
            eprintln!("no layer {layer}, or not a number: {times}");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
