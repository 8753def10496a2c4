//! Whole pictures are the same bytes with every backend that this CPU runs, and from images of every profile.

use fewstep::export::{ExportOptions, StudentSpec, random_int4_student, random_student, write_image};
use fewstep::files::AlignedBytes;
use fewstep::nn::Arch;
use fewstep_core::{Backend, Model, Profile, Request, Sampler, Session};

#[test]
fn pictures_are_equal_to_scalar() {
    // The shipped architecture, colour with three levels and odd widths, and one level without space-to-depth.
    let shipped = Arch::for_pictures(28, 28, 1, 10);
    let three = Arch {
        height: 24,
        width: 16,
        channels: 3,
        classes: 3,
        patch: 2,
        widths: vec![8, 32, 96],
        encoder: vec![1, 1],
        middle: 2,
        decoder: vec![1, 1],
        attention_heads: 4,
        embed: 24,
        base: 0,
    };
    let flat = Arch {
        height: 5,
        width: 7,
        channels: 1,
        patch: 1,
        widths: vec![16],
        encoder: vec![],
        decoder: vec![],
        attention_heads: 0,
        ..three.clone()
    };
    for (arch, pictures) in [(shipped, 3), (three, 10), (flat, 10)] {
        let spec = random_student(&arch, 4, 7);
        // Weights of four bits, and the integers that they stand for.
        let int4 = random_int4_student(&arch, 4, 7);
        let mut decoded = int4.clone();
        decoded.film.multipliers = None;
        decoded.convs.values_mut().for_each(|conv| conv.multipliers = None);
        let image = |spec: &StudentSpec, profile| {
            let options = ExportOptions { profile, ..ExportOptions::default() };
            AlignedBytes::from(write_image(spec, &options).unwrap().bytes.as_slice())
        };
        for images in [
            [image(&spec, Profile::Canonical), image(&spec, Profile::X86Vnni)],
            [image(&decoded, Profile::Canonical), image(&int4, Profile::Canonical)],
        ] {
            compare(&images, pictures, &arch);
        }
    }
}

/// Pictures of all images are those of the first with the scalar kernels.
fn compare(images: &[AlignedBytes; 2], pictures: u64, arch: &Arch) {
    let models = images.each_ref().map(|bytes| Model::parse(bytes).unwrap());
    let arena_bytes = models.iter().map(Model::arena_bytes).max().unwrap();
    let mut arena = AlignedBytes::from(vec![0u8; arena_bytes].as_slice());
    let mut draw = |model: &Model<'_>, backend: Backend, seed: u64, sampler: Sampler| {
        let mut out = vec![0; model.output_bytes()];
        let mut session = Session::with_backend(model, &mut arena, backend).unwrap();
        let request = Request { seed, class: (seed % 3) as u16, w: 1.5, sampler, ..Request::default() };
        session.sample(&request, &mut out).unwrap();
        out
    };
    for seed in 0..pictures {
        for sampler in [Sampler::Deterministic, Sampler::Stochastic] {
            let want = draw(&models[0], Backend::scalar(), seed, sampler);
            for model in &models {
                for backend in Backend::all() {
                    let profile = model.info().profile;
                    assert_eq!(
                        draw(model, backend, seed, sampler),
                        want,
                        "{} {profile:?} {arch:?} seed {seed}",
                        backend.name()
                    );
                }
            }
        }
    }
}
