//! What it costs to hand half of an operation to a second thread and to wait for it, without the work itself: the bound
//! for splitting one evaluation, which has 54 operations. Once with threads that sleep while they wait, once with
//! threads that spin.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

fn sleeping(c: &mut Criterion) {
    let (barrier, done) = (Barrier::new(2), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                barrier.wait();
                if done.load(Ordering::Acquire) {
                    return;
                }
                barrier.wait();
            }
        });
        c.bench_function("fork and join, sleeping", |b| {
            b.iter(|| {
                barrier.wait();
                barrier.wait();
            })
        });
        done.store(true, Ordering::Release);
        barrier.wait();
    });
}

fn spinning(c: &mut Criterion) {
    // Odd: the second thread's turn; even: the first's.
    let (turn, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                let now = turn.load(Ordering::Acquire);
                if now % 2 == 1 {
                    turn.store(now + 1, Ordering::Release);
                }
                std::hint::spin_loop();
            }
        });
        c.bench_function("fork and join, spinning", |b| {
            b.iter(|| {
                let next = turn.load(Ordering::Acquire) + 2;
                turn.store(next - 1, Ordering::Release);
                while turn.load(Ordering::Acquire) != next {
                    std::hint::spin_loop();
                }
            })
        });
        done.store(true, Ordering::Release);
    });
}

fn config() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1))
}

criterion_group!(name = threads; config = config(); targets = sleeping, spinning);
criterion_main!(threads);
