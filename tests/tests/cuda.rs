//! The network on a GPU against the CPU's kernels, values and gradients. Compiled with `--features cuda`; says so and
//! passes where no GPU is found.
#![cfg(feature = "cuda")]

use candle_core::{Device, Tensor};
use fewstep::nn::{Arch, Engine, Params, Precision, Query, UNet};
use fewstep::noise::{Purpose, Stream};
use std::collections::BTreeMap;

fn normal(seed: u64, shape: &[usize]) -> Tensor {
    let mut v = vec![0.0; shape.iter().product()];
    Stream::new(seed, Purpose::Init, 0, 0).normals(&mut v);
    Tensor::from_vec(v, shape, &Device::Cpu).unwrap()
}

/// v and the gradients of a random linear loss, on a device, brought to the CPU.
fn evaluate(arch: &Arch, tensors: &BTreeMap<String, Tensor>, device: &Device) -> BTreeMap<String, Vec<f32>> {
    let moved = tensors.iter().map(|(k, t)| (k.clone(), t.to_device(device).unwrap())).collect();
    let net = UNet { arch: arch.clone(), params: Params::trainable(moved).unwrap() };
    let (h, w) = arch.level_size(0);
    let shape = [3, h, w, arch.patch_channels()];
    let z = normal(1, &shape).to_device(device).unwrap();
    let query = Query { z: &z, phi: &[0.2, 0.8, 1.4], class: &[0, 1, 1], w: Some(&[0.0, 1.0, 3.5]), base: None };
    let v = net.forward(&query).unwrap();
    let loss = v.mul(&normal(2, &shape).to_device(device).unwrap()).unwrap().sum_all().unwrap();
    let grads = loss.backward().unwrap();
    let flat = |t: &Tensor| t.flatten_all().unwrap().to_device(&Device::Cpu).unwrap().to_vec1::<f32>().unwrap();
    let mut out = BTreeMap::from([("v".to_string(), flat(&v))]);
    out.extend(net.params.vars().iter().filter_map(|(k, var)| Some((k.clone(), flat(grads.get(var)?)))));
    out
}

#[test]
fn gpu_and_cpu_compute_the_same_network_and_gradients() {
    let Ok(gpu) = Device::new_cuda(0) else {
        println!("skipped: no NVIDIA GPU on this machine");
        return;
    };
    Engine::select(Precision::F32).unwrap();
    let arch = Arch {
        widths: vec![16, 24],
        encoder: vec![1],
        middle: 2,
        decoder: vec![1],
        ..Arch::for_pictures(12, 12, 1, 2)
    };
    let fresh = UNet::init(&arch, 5, &Device::Cpu).unwrap();
    let net = UNet { arch: arch.clone(), params: Params::frozen(fresh) };
    // Zero weights would hide what stands behind them.
    let tensors: BTreeMap<String, Tensor> = net
        .add_guidance_input()
        .unwrap()
        .into_iter()
        .enumerate()
        .map(|(i, (k, t))| {
            let noise = (normal(100 + i as u64, t.dims()) * 0.05).unwrap();
            (k, (t + noise).unwrap())
        })
        .collect();
    let (cpu, gpu) = (evaluate(&arch, &tensors, &Device::Cpu), evaluate(&arch, &tensors, &gpu));
    assert_eq!(cpu.keys().collect::<Vec<_>>(), gpu.keys().collect::<Vec<_>>());
    for (name, a) in &cpu {
        let b = &gpu[name];
        let rms = (a.iter().map(|v| v * v).sum::<f32>() / a.len() as f32).sqrt().max(1e-6);
        let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / rms;
        assert!(worst < 2e-3, "{name}: GPU and CPU differ by {worst} of the size");
    }
}
