//! What a run cost: time as it was measured, energy as an estimate.

/// Watts of a worker thread that computes, with its share of memory, fans and power supply: an assumption. Servers' CPUs
/// of 2017 to 2025 are sold for 3 to 12 W a core.
pub const WATTS_PER_THREAD: f64 = 10.0;
/// Watts of a machine with one GPU at work: an assumption.
pub const WATTS_GPU: f64 = 500.0;

/// How much power is assumed, and the sentence that says so.
pub fn watts(gpu: bool, threads: usize) -> (f64, String) {
    match gpu {
        true => (WATTS_GPU, format!("{WATTS_GPU} W for a machine with one GPU")),
        false => {
            let watts = WATTS_PER_THREAD * threads as f64;
            let s = if threads == 1 { "" } else { "s" };
            (watts, format!("{WATTS_PER_THREAD} W a busy thread, {threads} thread{s}"))
        }
    }
}

/// "75 s", "12 min", "3 h 20 min".
pub fn duration(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round() as u64;
    match minutes {
        _ if seconds < 120.0 => format!("{seconds:.0} s"),
        0..120 => format!("{minutes} min"),
        _ => format!("{} h {} min", minutes / 60, minutes % 60),
    }
}

/// "12.3 Wh", "1.20 kWh".
pub fn energy(watt_hours: f64) -> String {
    match watt_hours {
        e if e < 1000.0 => format!("{e:.1} Wh"),
        e => format!("{:.2} kWh", e / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_said_in_units_of_their_size() {
        assert_eq!(
            [9.6, 119.0, 130.0, 7140.0, 12000.0].map(duration),
            ["10 s", "119 s", "2 min", "119 min", "3 h 20 min"]
        );
        assert_eq!([0.04, 12.34, 1200.0].map(energy), ["0.0 Wh", "12.3 Wh", "1.20 kWh"]);
        let (power, said) = watts(false, 2);
        assert!((power, said.as_str()) == (20.0, "10 W a busy thread, 2 threads"));
    }
}
