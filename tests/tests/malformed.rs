//! Student images that are wrong: cut, flipped, and altered with valid checksums. Every one must be a typed error or
//! a model that runs safely; a panic fails the test. (The core is compiled with overflow checks here.)

use fewstep::export::{ExportOptions, random_int4_student, random_student, write_image};
use fewstep::files::AlignedBytes;
use fewstep::nn::Arch;
use fewstep_core::format::crc::crc32c;
use fewstep_core::format::header::{HEADER_LEN, SECTION_LEN, kind};
use fewstep_core::format::{Element, Layout};
use fewstep_core::sampler::noise::philox4x32;
use fewstep_core::{Model, ParseError, Place, Problem, Profile, Request, Sampler, Session};
use std::ops::Range;

/// Every kind of operation, in few bytes.
fn image() -> AlignedBytes {
    let arch = Arch {
        height: 8,
        width: 8,
        channels: 1,
        classes: 2,
        patch: 2,
        widths: vec![8, 8],
        encoder: vec![1],
        middle: 1,
        decoder: vec![1],
        attention_heads: 2,
        embed: 8,
        base: 0,
    };
    let options = ExportOptions { scratch_bytes: 64, ..ExportOptions::default() };
    let exported = write_image(&random_student(&arch, 2, 1), &options).expect("a random student exports");
    AlignedBytes::from(exported.bytes.as_slice())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// Table record and byte range of every section.
fn sections(bytes: &[u8]) -> Vec<(usize, u32, Range<usize>)> {
    let count = u16::from_le_bytes([bytes[12], bytes[13]]);
    (0..usize::from(count))
        .map(|i| {
            let at = HEADER_LEN + i * SECTION_LEN;
            let from = u32_at(bytes, at + 4) as usize;
            (at, u32_at(bytes, at), from..from + u32_at(bytes, at + 8) as usize)
        })
        .collect()
}

fn section(bytes: &[u8], kind: u32) -> Range<usize> {
    sections(bytes).into_iter().find(|(_, k, _)| *k == kind).unwrap().2
}

/// Makes the checksums of the sections in `touched` right again, then the header's over a table of `count` records.
fn fix(bytes: &mut [u8], touched: &[(usize, u32, Range<usize>)], count: usize) {
    for (at, _, range) in touched {
        if let Some(section) = bytes.get(range.clone()) {
            let crc = crc32c(section);
            bytes[at + 12..at + 16].copy_from_slice(&crc.to_le_bytes());
        }
    }
    let table = HEADER_LEN..HEADER_LEN + count * SECTION_LEN;
    let crc = crc32c(&[&bytes[..28], &bytes[table]].concat());
    bytes[28..32].copy_from_slice(&crc.to_le_bytes());
}

/// Parses and, where that succeeds, draws with an arena of exactly the size asked for.
fn exercise(bytes: &[u8]) -> Result<(), ParseError> {
    let model = Model::parse(bytes)?;
    let info = model.info();
    let mut arena = AlignedBytes::zeroed(model.arena_bytes());
    let mut out = vec![0; model.output_bytes()];
    let mut session = Session::new(&model, &mut arena).expect("an arena of the size asked for");
    let request = Request { seed: 3, class: info.classes - 1, w: info.w_max, steps: 0, sampler: Sampler::Stochastic };
    session.sample(&request, &mut out).expect("a request within the image's ranges");
    let again = out.clone();
    session.sample(&request, &mut out).unwrap();
    assert_eq!(out, again);
    Ok(())
}

fn error(bytes: &[u8]) -> ParseError {
    Model::parse(bytes).expect_err("a malformed image")
}

#[test]
fn the_image_itself_is_right() {
    let bytes = image();
    exercise(&bytes).unwrap();
    // A slot may be longer than its image.
    let mut slot = AlignedBytes::zeroed(bytes.len() + 100);
    slot[..bytes.len()].copy_from_slice(&bytes);
    exercise(&slot).unwrap();
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = image();
    for len in 0..bytes.len() {
        let e = error(&bytes[..len]);
        assert!(matches!(e.problem, Problem::TooShort { .. }), "{len}: {e}");
    }
}

#[test]
fn every_flipped_bit_is_an_error() {
    let mut bytes = image();
    let data = section(&bytes, kind::DATA);
    for at in 0..bytes.len() {
        // Every bit before the data, one bit of every byte in it.
        let bits = if data.contains(&at) { at % 8..at % 8 + 1 } else { 0..8 };
        for bit in bits {
            bytes[at] ^= 1 << bit;
            assert!(Model::parse(&bytes).is_err(), "byte {at} bit {bit}");
            bytes[at] ^= 1 << bit;
        }
    }
    exercise(&bytes).unwrap();
}

#[test]
fn memory_must_be_aligned() {
    let bytes = image();
    let mut shifted = AlignedBytes::zeroed(bytes.len() + 16);
    for shift in 1..16 {
        shifted[shift..shift + bytes.len()].copy_from_slice(&bytes);
        let e = error(&shifted[shift..]);
        assert_eq!((e.place, e.problem), (Place::File, Problem::NotAligned { need: 16 }));
    }
}

/// Every 16-bit field of header, table and records at extreme and neighbouring values, with right checksums.
#[test]
fn altered_fields_never_panic() {
    let original = image();
    let table = sections(&original);
    let mut bytes = original.clone();
    let records = table.iter().filter(|(_, kind, _)| ![kind::DATA, kind::STEPS, kind::NAMES].contains(kind));
    let (mut errors, mut runs) = (0, 0);
    let head = HEADER_LEN + table.len() * SECTION_LEN;
    let parts = records.map(|record| (record.2.clone(), std::slice::from_ref(record)));
    for (range, touched) in std::iter::once((0..head, &table[..0])).chain(parts) {
        for at in range.step_by(2) {
            let old = u16::from_le_bytes([original[at], original[at + 1]]);
            let values = [0, 1, 2, 3, 0x7f, 0x80, 0xff, 0x100, 0x101, 0x7fff, 0x8000, 0xfff0, 0xffff];
            let near =
                [old.wrapping_add(1), old.wrapping_sub(1), old ^ 0x10, old ^ 0x100, old.wrapping_mul(2), old / 2];
            for value in values.into_iter().chain(near) {
                bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
                fix(&mut bytes, touched, table.len());
                match exercise(&bytes) {
                    Ok(()) => runs += 1,
                    Err(e) => {
                        errors += 1;
                        assert!(!e.to_string().is_empty());
                        assert!(!matches!(e.problem, Problem::Crc { .. }) || at < head, "{e}");
                    }
                }
                bytes.copy_from_slice(&original);
            }
        }
    }
    assert!(errors > 10_000 && runs > 100, "{errors} errors, {runs} runs");
}

/// Every number of the steps section, and a sample of those in the data, at values that arithmetic dislikes.
#[test]
fn altered_numbers_never_panic() {
    let original = image();
    let table = sections(&original);
    let mut bytes = original.clone();
    let data = section(&original, kind::DATA);
    let places = section(&original, kind::STEPS).step_by(4).chain(data.step_by(52));
    let values = [0.0, -0.0, -1.0, 1e-45, 1e-30, 1e30, 1e38, f32::MAX, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    let (mut errors, mut runs) = (0, 0);
    for at in places {
        for value in
            values.iter().map(|v| v.to_bits()).chain([127, 128, -128i32 as u32, -129i32 as u32, i32::MIN as u32])
        {
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            fix(&mut bytes, &table, table.len());
            match exercise(&bytes) {
                Ok(()) => runs += 1,
                Err(_) => errors += 1,
            }
            bytes.copy_from_slice(&original);
        }
    }
    assert!(errors > 1000 && runs > 1000, "{errors} errors, {runs} runs");
}

/// Several random changes at once, with right checksums.
#[test]
fn random_corruptions_never_panic() {
    let original = image();
    let table = sections(&original);
    let mut bytes = original.clone();
    let mut counter = 0;
    let mut random = |below: usize| {
        counter += 1;
        philox4x32([counter, 0, 0, 0], [1, 2])[0] as usize % below
    };
    let (mut errors, mut runs) = (0, 0);
    for _ in 0..8_000 {
        for _ in 0..1 + random(4) {
            // A section first, so that the small ones are hit as often as the data.
            let range = match random(table.len() + 1) {
                0 => 0..HEADER_LEN + table.len() * SECTION_LEN,
                i => table[i - 1].2.clone(),
            };
            let at = range.start + random(range.len());
            bytes[at] = match random(4) {
                0 => random(256) as u8,
                1 => bytes[at] ^ 1 << random(8),
                2 => bytes[at].wrapping_add(1),
                _ => [0, 1, 127, 128, 255][random(5)],
            };
        }
        fix(&mut bytes, &table, table.len());
        match exercise(&bytes) {
            Ok(()) => runs += 1,
            Err(_) => errors += 1,
        }
        bytes.copy_from_slice(&original);
    }
    assert!(errors > 1000 && runs > 1000, "{errors} errors, {runs} runs");
}

/// What is wrong is said with its place.
#[test]
fn errors_say_what_and_where() {
    let original = image();
    let table = sections(&original);
    let with = |edit: &dyn Fn(&mut [u8])| {
        let mut bytes = original.clone();
        edit(&mut bytes);
        fix(&mut bytes, &table, table.len());
        error(&bytes)
    };
    let (info, ops) = (section(&original, kind::INFO).start, section(&original, kind::OPS).start);
    let (buffers, tensors) = (section(&original, kind::BUFFERS).start, section(&original, kind::TENSORS).start);
    let (steps, data) = (section(&original, kind::STEPS).start, section(&original, kind::DATA));

    assert_eq!(with(&|b| b[0] = b'F').problem, Problem::BadMagic);
    assert_eq!(with(&|b| b[8] = 2).problem, Problem::Version { found: 2, known: 1 });
    let mut damaged = original.clone();
    damaged[data.start] ^= 1;
    let e = error(&damaged);
    assert!(e.place == Place::Section(kind::DATA) && matches!(e.problem, Problem::Crc { .. }), "{e}");

    // Section kinds: unknown ones are refused, unless they are optional; each at most once, none missing.
    let kind_at = table[1].0;
    let e = with(&|b| b[kind_at] = 99);
    assert_eq!((e.place, e.problem), (Place::Section(99), Problem::Unknown { what: "section", found: 99 }));
    let e = with(&|b| b[kind_at] = kind::BUFFERS as u8);
    assert_eq!(e.problem, Problem::Count { what: "this section", found: 2 });
    let e = with(&|b| b[kind_at..kind_at + 4].copy_from_slice(&0x8000_0077u32.to_le_bytes()));
    assert_eq!((e.place, e.problem), (Place::Section(kind::OPS), Problem::Count { what: "this section", found: 0 }));

    let e = with(&|b| b[info + 10] = 17);
    assert_eq!(e.problem, Problem::OutOfRange { what: "number of steps", found: 17, min: 1, max: 16 });
    let e = with(&|b| b[info + 20..info + 24].copy_from_slice(&f32::NAN.to_le_bytes()));
    assert!(e.place == Place::Info && matches!(e.problem, Problem::BadNumber { what: "largest w", .. }), "{e}");
    let e = with(&|b| b[ops] = 7);
    assert_eq!((e.place, e.problem), (Place::Op(0), Problem::Unknown { what: "operation", found: 7 }));
    // The first operation reads the buffer that it writes.
    let e = with(&|b| b.copy_within(ops + 4..ops + 6, ops + 6));
    assert!(e.place == Place::Op(0) && matches!(e.problem, Problem::Overlap { with: 0 }), "{e}");
    // The second operation reads what nobody has written yet.
    let e = with(&|b| b[ops + 24 + 4] = 7);
    assert!(e.place == Place::Op(1) && matches!(e.problem, Problem::NotLive { buffer: 7 }), "{e}");
    // The first buffer, which lives always, moves onto another.
    let e = with(&|b| b.copy_within(buffers + 16..buffers + 20, buffers));
    assert!(matches!(e, ParseError { place: Place::Buffer(1), problem: Problem::Overlap { with: 0 } }), "{e}");
    let e = with(&|b| b[buffers + 3] = 1);
    assert!(matches!(e.problem, Problem::OutOfRange { what: "end in the arena", .. }), "{e}");
    let e = with(&|b| b[tensors + 3] = 1);
    assert!(e.place == Place::Tensor(0) && matches!(e.problem, Problem::TooShort { .. }), "{e}");
    // The second tensor is a scale.
    let scale = data.start + u32_at(&original, tensors + 16) as usize;
    let e = with(&|b| b[scale..scale + 4].copy_from_slice(&f32::INFINITY.to_le_bytes()));
    assert_eq!((e.place, e.problem), (Place::Tensor(1), Problem::BadNumber { what: "value", found: f32::INFINITY }));
    let e = with(&|b| b[steps..steps + 4].copy_from_slice(&2.0f32.to_le_bytes()));
    assert_eq!((e.place, e.problem), (Place::Step(0), Problem::BadNumber { what: "angle", found: 2.0 }));
    let e = with(&|b| b[info + 84] = 2);
    assert_eq!((e.place, e.problem), (Place::Info, Problem::Unknown { what: "direction", found: 2 }));
    // An encoder starts at the picture, and its angles rise to below pi/2.
    let e = with(&|b| b[info + 84] = 1);
    assert!(e.place == Place::Step(0) && matches!(e.problem, Problem::BadNumber { what: "angle", .. }), "{e}");
    let row = section(&original, kind::STEPS).len() / 2;
    for second in [0.0f32, -1.0, 1.571, f32::NAN] {
        let e = with(&|b| {
            b[info + 84] = 1;
            b[steps..steps + 4].fill(0);
            b[steps + row..steps + row + 4].copy_from_slice(&second.to_le_bytes());
        });
        assert!(e.place == Place::Step(1) && matches!(e.problem, Problem::BadNumber { what: "angle", .. }), "{e}");
    }
    // The factor of the first operation at the first step, after the angle and the time row of 8.
    let e = with(&|b| b[steps + 16 + 32..steps + 16 + 36].fill(0));
    assert_eq!((e.place, e.problem), (Place::StepOp { step: 0, op: 0 }, Problem::BadNumber { what: "a", found: 0.0 }));
    let text = e.to_string();
    assert!(text.contains("op 0") && text.contains("step 0"), "{text}");
}

/// One block of a residual network on 32 channels, weights laid out for x86-vnni.
fn image_of_blocks() -> AlignedBytes {
    let options = ExportOptions { profile: Profile::X86Vnni, ..ExportOptions::default() };
    AlignedBytes::from(write_image(&random_student(&one_block(), 1, 1), &options).unwrap().bytes.as_slice())
}

/// Only weights of convolutions of int8, in whole blocks, may be in blocks; an unknown order is none.
#[test]
fn orders_of_weights_are_checked() {
    let original = image_of_blocks();
    let table = sections(&original);
    let tensors = section(&original, kind::TENSORS);
    let count = Model::parse(&original).unwrap().image().info().counts.tensors;
    let (mut blocks, mut others) = (0, 0);
    for i in 0..usize::from(count) {
        let at = tensors.start + 16 * i + 13;
        let with = |order: u8| {
            let mut bytes = original.clone();
            bytes[at] = order;
            fix(&mut bytes, &table, table.len());
            exercise(&bytes)
        };
        let e = with(3).unwrap_err();
        assert_eq!((e.place, e.problem), (Place::Tensor(i), Problem::Unknown { what: "layout", found: 3 }));
        if original[at] == 1 {
            // The numbers mean something else then, which is a model all the same, or one that could overflow.
            let _ = with(0);
            blocks += 1;
        } else {
            let e = with(1).unwrap_err();
            assert!(e.place == Place::Tensor(i) && matches!(e.problem, Problem::Mismatch { .. }), "{e}");
            others += 1;
        }
    }
    assert!(blocks == 2 && others > 10, "{blocks} in blocks, {others} others");
}

/// Weights of four bits: only int8 can be such, every group has a multiplier, unused bits are 0, and no convolution's
/// accumulator can overflow.
#[test]
fn weights_of_four_bits_are_checked() {
    let arch = Arch { widths: vec![24], embed: 8, ..one_block() };
    let original = AlignedBytes::from(
        write_image(&random_int4_student(&arch, 1, 1), &ExportOptions::default()).unwrap().bytes.as_slice(),
    );
    let table = sections(&original);
    let (tensors, data) = (section(&original, kind::TENSORS), section(&original, kind::DATA));
    let model = Model::parse(&original).unwrap();
    let image = model.image();
    let mut int4 = 0;
    for i in 0..image.info().counts.tensors {
        let (at, place) = (tensors.start + 16 * usize::from(i), Place::Tensor(i.into()));
        let tensor = image.tensor(i).unwrap();
        let with = |at: usize, byte: u8| {
            let mut bytes = original.clone();
            bytes[at] = byte;
            fix(&mut bytes, &table, table.len());
            exercise(&bytes)
        };
        if tensor.element != Element::I8 {
            let e = with(at + 13, Layout::Int4 as u8).unwrap_err();
            let what = "element type of four bits";
            let found = tensor.element as u64;
            assert_eq!((e.place, e.problem), (place, Problem::Mismatch { what, expected: 1, found }));
        }
        if tensor.layout != Layout::Int4 {
            continue;
        }
        int4 += 1;
        // Read as int8 it is twice as long: beyond the data, or other numbers.
        let _ = with(at + 13, Layout::Canonical as u8);
        assert!(with(at + 12, Element::I16 as u8).is_err());
        let rows = usize::from(tensor.dims[0]);
        let row = tensor.len() as usize / rows;
        let first = data.start + tensor.offset as usize + rows * row.div_ceil(8) * 4;
        let e = with(first, original[first] & 0xf0).unwrap_err();
        let what = "multiplier of a group";
        assert_eq!((e.place, e.problem), (place, Problem::OutOfRange { what, found: 0, min: 1, max: 15 }));
        // A row of one group has no second multiplier; one of more has.
        let e = with(first, if row <= 32 { original[first] | 0x10 } else { original[first] & 15 }).unwrap_err();
        assert_eq!(e.place, place);
    }
    // Two convolutions of the block, and the film layer, of 8 inputs.
    assert_eq!(int4, 3);
}

fn one_block() -> Arch {
    Arch {
        height: 4,
        width: 4,
        channels: 1,
        classes: 1,
        patch: 2,
        widths: vec![32],
        encoder: Vec::new(),
        middle: 1,
        decoder: Vec::new(),
        attention_heads: 0,
        embed: 8,
        base: 0,
    }
}

/// Weights that could overflow the accumulator are refused: 511 of them at -128 fit a 16-bit input, 512 do not.
#[test]
fn accumulators_that_could_overflow_are_refused() {
    let arch = Arch { widths: vec![64], ..one_block() };
    let mut spec = random_student(&arch, 1, 1);
    let weights = &mut spec.convs.get_mut("conv_out").unwrap().weights;
    weights[..576].fill(0);
    weights[..511].fill(-128);
    write_image(&spec, &ExportOptions::default()).unwrap();
    spec.convs.get_mut("conv_out").unwrap().weights[511] = -128;
    let e = write_image(&spec, &ExportOptions::default()).unwrap_err();
    assert!(format!("{e:#}").contains("largest accumulator"), "{e:#}");
}
