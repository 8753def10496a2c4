//! Picture order, byte conversion, and the samplers of float networks.

use std::f64::consts::FRAC_PI_2;

use candle_core::Device;
use fewstep::diffusion::{
    SampleRequest, Sampler, angle, check_steps, depth_to_space, from_batch, guided_v, sample, space_to_depth, start,
    to_batch, to_byte, to_signed, trajectory, walk,
};
use fewstep::nn::{Arch, Engine, Kind, Precision, Query, UNet};
use fewstep_core::Direction;
use fewstep_tests::{largest_difference, normals, random_net, tiny_arch, values};

fn use_f32() {
    Engine::select(Precision::F32).unwrap();
}

/// Shapes with one and three channels, patches of 1 to 4, sides that differ.
fn shapes() -> Vec<Arch> {
    let shape = |height, width, channels, patch| Arch { height, width, channels, patch, ..tiny_arch() };
    vec![shape(8, 8, 1, 2), shape(4, 12, 3, 2), shape(3, 5, 3, 1), shape(8, 16, 1, 4), shape(28, 28, 1, 2)]
}

#[test]
fn patches_become_channels_and_back() {
    for arch in shapes() {
        let picture: Vec<f32> = (0..arch.picture_len()).map(|i| i as f32).collect();
        let (mut z, mut back) = (vec![-1.0; picture.len()], vec![-1.0; picture.len()]);
        space_to_depth(&arch, &picture, &mut z);
        depth_to_space(&arch, &z, &mut back);
        assert_eq!(back, picture, "{arch:?}");
        // Cell (y/p, x/p) holds the patch in the order row, column, channel.
        let (p, c) = (arch.patch, arch.channels);
        for y in 0..arch.height {
            for x in 0..arch.width {
                for k in 0..c {
                    let cell = (y / p) * (arch.width / p) + x / p;
                    let at = cell * p * p * c + ((y % p) * p + x % p) * c + k;
                    assert_eq!(z[at], picture[(y * arch.width + x) * c + k], "{arch:?} {y} {x} {k}");
                }
            }
        }
    }
}

/// 2x4 grey pixels in two patches, written out.
#[test]
fn two_patches_by_hand() {
    let arch = Arch { height: 2, width: 4, ..tiny_arch() };
    let mut z = [0.0; 8];
    space_to_depth(&arch, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], &mut z);
    assert_eq!(z, [1.0, 2.0, 5.0, 6.0, 3.0, 4.0, 7.0, 8.0]);
}

#[test]
fn batches_round_trip() {
    for arch in shapes() {
        let pictures = normals(1, 3 * arch.picture_len());
        let z = to_batch(&arch, &pictures, &Device::Cpu).unwrap();
        assert_eq!(z.dims(), [3, arch.height / arch.patch, arch.width / arch.patch, arch.patch_channels()]);
        assert_eq!(from_batch(&arch, &z).unwrap(), pictures);
    }
}

#[test]
fn every_byte_survives() {
    for byte in 0..=255u8 {
        let v = to_signed(byte);
        assert!((-1.0..=1.0).contains(&v));
        assert_eq!(to_byte(v), byte);
        // Less than half a level away is the same level.
        assert_eq!(to_byte(v + 0.49 / 127.5), byte);
        assert_eq!(to_byte(v - 0.49 / 127.5), byte);
    }
    assert_eq!((to_signed(0), to_signed(255)), (-1.0, 1.0));
}

#[test]
fn values_outside_saturate() {
    for (v, byte) in
        [(-1.001, 0), (-5.0, 0), (1.001, 255), (7.5, 255), (f32::INFINITY, 255), (f32::NEG_INFINITY, 0), (f32::NAN, 0)]
    {
        assert_eq!(to_byte(v), byte, "{v}");
    }
    // The middle between two levels goes up.
    assert_eq!((to_byte(0.0), to_byte(-1.0 + 0.5 / 127.5), to_byte(-1.0 + 0.499 / 127.5)), (128, 1, 0));
}

#[test]
fn angles_go_from_noise_to_picture() {
    for steps in [1, 2, 3, 4, 1000] {
        assert_eq!((angle(0, steps), angle(steps, steps)), (FRAC_PI_2, 0.0));
        for i in 0..steps {
            assert!((angle(i, steps) - angle(i + 1, steps) - FRAC_PI_2 / steps as f64).abs() < 1e-12);
        }
    }
}

fn request(steps: usize, seed: u64, classes: Vec<u16>, w: f32, sampler: Sampler) -> SampleRequest {
    SampleRequest { steps, seed, classes, w, sampler, bases: Vec::new() }
}

fn draw(net: &UNet, r: &SampleRequest) -> Vec<f32> {
    sample(net, r, &Device::Cpu, |_| {}).unwrap()
}

fn bits(v: &[f32]) -> Vec<u32> {
    v.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn sampling_is_a_function_of_the_seed() {
    use_f32();
    for (guided, seed) in [(false, 1), (true, 2)] {
        let net = random_net(&tiny_arch(), guided, seed);
        for sampler in [Sampler::Deterministic, Sampler::Stochastic] {
            let r = request(4, 9, vec![0, 1, 1], 1.5, sampler);
            let first = draw(&net, &r);
            assert_eq!(first.len(), 3 * 64);
            assert!(first.iter().all(|v| v.is_finite()));
            assert_eq!(bits(&first), bits(&draw(&net, &r)));
            assert_ne!(first, draw(&net, &SampleRequest { seed: 10, ..r.clone() }));
            assert_ne!(first, draw(&net, &SampleRequest { w: 0.0, ..r.clone() }), "w must matter");
            assert_ne!(
                first,
                draw(&net, &SampleRequest { classes: vec![1, 1, 1], ..r.clone() }),
                "the class must matter"
            );
        }
        let r = request(4, 9, vec![0], 1.5, Sampler::Deterministic);
        assert_ne!(draw(&net, &r), draw(&net, &SampleRequest { sampler: Sampler::Stochastic, ..r.clone() }));
    }
}

/// Picture i of a run is picture 0 of the run with seed + i, also across the sampler's own batches, and also when
/// the seed wraps around.
#[test]
fn any_picture_can_be_made_again_alone() {
    use_f32();
    let net = random_net(&tiny_arch(), true, 3);
    for sampler in [Sampler::Deterministic, Sampler::Stochastic] {
        for seed in [100, u64::MAX - 20] {
            let classes: Vec<u16> = (0..40).map(|i| i % 2).collect();
            let all = draw(&net, &request(2, seed, classes.clone(), 2.0, sampler));
            for i in [0, 1, 19, 20, 21, 31, 32, 33, 39] {
                let alone = draw(&net, &request(2, seed.wrapping_add(i as u64), vec![classes[i]], 2.0, sampler));
                assert_eq!(bits(&alone), bits(&all[i * 64..][..64]), "picture {i} of seed {seed}");
            }
        }
    }
}

#[test]
fn threads_do_not_change_pictures() {
    use_f32();
    let net = random_net(&tiny_arch(), false, 4);
    let r = request(3, 5, vec![0; 70], 1.0, Sampler::Stochastic);
    let with =
        |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| draw(&net, &r));
    assert_eq!(bits(&with(1)), bits(&with(2)));
}

#[test]
fn progress_counts_every_picture() {
    use_f32();
    let net = random_net(&tiny_arch(), true, 4);
    let heard = std::sync::Mutex::new(Vec::new());
    sample(&net, &request(1, 0, vec![0; 70], 0.0, Sampler::Deterministic), &Device::Cpu, |n| {
        heard.lock().unwrap().push(n)
    })
    .unwrap();
    let mut heard = heard.into_inner().unwrap();
    heard.sort();
    assert_eq!(heard.len(), 3);
    assert_eq!(heard.last(), Some(&70));
}

/// A trajectory is made of single steps: what is drawn equals z and v followed by hand.
#[test]
fn trajectory_follows_the_schedule() {
    use_f32();
    let arch = tiny_arch();
    let net = random_net(&arch, true, 5);
    let r = request(4, 77, vec![0, 1], 3.0, Sampler::Deterministic);
    let mut seen = Vec::new();
    let end = trajectory(&net, &r, 0..2, &Device::Cpu, |i, z| {
        seen.push((i, values(z)));
        Ok(())
    });
    assert_eq!(seen.iter().map(|s| s.0).collect::<Vec<_>>(), [0, 1, 2, 3]);
    let mut z = start(&arch, 77, 2, &Device::Cpu).unwrap();
    for (i, seen) in &seen {
        assert!(largest_difference(&values(&z), seen) < 1e-6);
        let phi = FRAC_PI_2 * (4 - i) as f64 / 4.0;
        let v = guided_v(&net, &Query { z: &z, phi: &[phi as f32; 2], class: &[0, 1], w: Some(&[3.0; 2]), base: None })
            .unwrap();
        let (sin, cos) = (FRAC_PI_2 / 4.0).sin_cos();
        let next: Vec<f32> = values(&z).iter().zip(values(&v)).map(|(z, v)| cos as f32 * z - sin as f32 * v).collect();
        z = candle_core::Tensor::from_vec(next, z.dims(), &Device::Cpu).unwrap();
    }
    let end = from_batch(&arch, &end.unwrap()).unwrap();
    assert!(largest_difference(&from_batch(&arch, &z).unwrap(), &end) < 1e-6);
    assert_eq!(bits(&end), bits(&draw(&net, &r)));
}

/// Start noise is made for pictures, in their order of pixels, and then moved into patches.
#[test]
fn start_noise_is_that_of_the_device() {
    let arch = tiny_arch();
    let pictures = from_batch(&arch, &start(&arch, 42, 2, &Device::Cpu).unwrap()).unwrap();
    for (i, picture) in pictures.chunks_exact(64).enumerate() {
        let want: Vec<f32> = (0..16)
            .flat_map(|block| {
                let key = [42 + i as u32, 0];
                fewstep_core::sampler::noise::normals_of(fewstep_core::sampler::noise::philox4x32(
                    [block, 0, 0, 0],
                    key,
                ))
            })
            .collect();
        assert_eq!(bits(picture), bits(&want));
    }
}

/// A guided network in one evaluation and its teacher in two agree when the network computes the same: w = 0, where
/// the added input has no weights yet.
#[test]
fn fresh_guided_network_draws_as_its_teacher_unguided() {
    use_f32();
    let teacher = random_net(&tiny_arch(), false, 6);
    let params = fewstep::nn::Params::frozen(teacher.add_guidance_input().unwrap());
    let student = UNet { arch: teacher.arch.clone(), params };
    assert!(student.guided() && !teacher.guided());
    let unguided = draw(&teacher, &request(4, 1, vec![0, 1], 0.0, Sampler::Deterministic));
    for w in [0.0, 2.0] {
        let one = draw(&student, &request(4, 1, vec![0, 1], w, Sampler::Deterministic));
        assert!(largest_difference(&one, &unguided) < 1e-5, "without weights for w, w = {w} changes nothing");
    }
    let guided = draw(&teacher, &request(4, 1, vec![0, 1], 2.0, Sampler::Deterministic));
    assert!(largest_difference(&guided, &unguided) > 0.05);
}

/// Both evaluations of a teacher run in one batch; their order and neighbours must not matter.
#[test]
fn guided_v_is_independent_of_the_batch() {
    use_f32();
    let net = random_net(&tiny_arch(), false, 7);
    let z = start(&net.arch, 8, 3, &Device::Cpu).unwrap();
    let (phi, class, w) = ([1.5, 0.2, 0.9], [1, 0, 1], [4.0, 0.0, 1.0]);
    let all = values(&guided_v(&net, &Query { z: &z, phi: &phi, class: &class, w: Some(&w), base: None }).unwrap());
    for i in 0..3 {
        let z = z.narrow(0, i, 1).unwrap();
        let query = Query { z: &z, phi: &phi[i..=i], class: &class[i..=i], w: Some(&w[i..=i]), base: None };
        let one = guided_v(&net, &query).unwrap();
        assert_eq!(bits(&values(&one)), bits(&all[i * 64..][..64]), "picture {i}");
    }
}

#[test]
fn impossible_step_counts_are_refused() {
    use Sampler::{Deterministic, Stochastic};
    for (kind, steps, sampler) in [
        (Kind::Teacher, 1, Deterministic),
        (Kind::Guided, 4096, Deterministic),
        (Kind::Student(4), 4, Stochastic),
        (Kind::Student(4), 2, Stochastic),
        (Kind::Student(4), 1, Deterministic),
        (Kind::Teacher, 2, Stochastic),
    ] {
        check_steps(kind, steps, sampler).unwrap();
    }
    for (kind, steps, sampler, words) in [
        (Kind::Teacher, 0, Deterministic, "--steps 0"),
        (Kind::Teacher, 4097, Deterministic, "--steps 4097"),
        (Kind::Student(4), 3, Deterministic, "a divisor of 4"),
        (Kind::Student(4), 8, Deterministic, "distilled for 4 steps"),
        (Kind::Guided, 1, Stochastic, "at least 2 steps"),
        (Kind::Student(4), 1, Stochastic, "at least 2 steps"),
    ] {
        let message = check_steps(kind, steps, sampler).unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
    }
}

/// w may not be asked of a network without it, and must be given to one with it.
#[test]
fn guidance_input_must_fit_the_network() {
    use_f32();
    let z = start(&tiny_arch(), 0, 1, &Device::Cpu).unwrap();
    for (guided, w) in [(false, Some(&[1.0f32][..])), (true, None)] {
        let net = random_net(&tiny_arch(), guided, 1);
        let query = Query { z: &z, phi: &[1.0], class: &[0], w, base: None };
        assert!(net.forward(&query).unwrap_err().to_string().contains('w'));
    }
}

/// DDIM inversion: the way back from a picture leads to a noise that the same sampler draws the picture from, the nearer
/// the finer its steps.
#[test]
fn the_way_back_leads_to_the_noise_of_a_picture() {
    Engine::select(Precision::F32).unwrap();
    let net = random_net(&tiny_arch(), false, 9);
    let x = start(&net.arch, 5, 2, &Device::Cpu).unwrap();
    let error = |steps: usize| {
        let class = [0, 1];
        let z = walk(&net, Direction::ToNoise, steps, x.clone(), &class, 0.5).unwrap();
        let back = walk(&net, Direction::ToPicture, steps, z.clone(), &class, 0.5).unwrap();
        assert!(largest_difference(&values(&z), &values(&x)) > 0.1);
        largest_difference(&values(&back), &values(&x))
    };
    let (coarse, fine) = (error(64), error(256));
    assert!(fine < 0.4 * coarse && fine < 0.05, "{coarse} and {fine}");
}
