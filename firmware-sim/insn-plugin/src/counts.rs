//! Counters, and the regions that marks cut out of them.

use crate::classes::{COUNTERS, NAMES, classify};

/// Counts of some instructions.
pub type Counts = [u64; COUNTERS];

/// Adds one instruction to a block's counts.
pub fn count(block: &mut Counts, first: u16, second: u16) {
    let (class, weight) = classify(first, second);
    block[0] += 1;
    block[class] += weight;
}

/// `name count` for each counter.
pub fn line(counts: &Counts) -> String {
    let words: Vec<String> = NAMES.iter().zip(counts).map(|(name, count)| format!("{name} {count}")).collect();
    words.join(" ")
}

/// What a marking hint says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Begin,
    End,
    Phase(u8),
    Own,
}

impl Mark {
    /// The mark of an instruction, if it is one.
    pub fn of(first: u16) -> Option<Self> {
        match first {
            0xbf90 => Some(Self::Begin),
            0xbfa0 => Some(Self::End),
            0xbff0 => Some(Self::Own),
            0xbf50 | 0xbf60 | 0xbf70 | 0xbf80 | 0xbfb0 | 0xbfc0 | 0xbfd0 | 0xbfe0 => {
                Some(Self::Phase((first >> 4 & 15) as u8))
            }
            _ => None,
        }
    }

    /// The mark of a RISC-V instruction: C.NOP with the number that a Thumb hint has in its second digit.
    pub fn of_riscv(first: u16) -> Option<Self> {
        let number = first >> 2;
        if first & 0xff83 == 0x0001 { Self::of(0xbf00 | number << 4) } else { None }
    }
}

/// Adds one instruction that is not Thumb: without a class.
pub fn count_other(block: &mut Counts) {
    block[0] += 1;
    block[COUNTERS - 1] += 1;
}

/// Turns marks into lines.
#[derive(Debug)]
pub struct Regions {
    number: u32,
    begin: Option<Counts>,
    phase: u8,
    phase_begin: u64,
    phases: [u64; 16],
}

impl Regions {
    /// Before the first mark.
    pub const fn new() -> Self {
        Self { number: 0, begin: None, phase: 0, phase_begin: 0, phases: [0; 16] }
    }

    /// Takes a mark that was met when `now` was executed; returns the line to write, if any.
    pub fn mark(&mut self, mark: Mark, now: Counts) -> Option<String> {
        self.phases[usize::from(self.phase & 15)] += now[0] - self.phase_begin;
        self.phase_begin = now[0];
        match mark {
            Mark::Own => return Some("mark".into()),
            Mark::Phase(phase) => self.phase = phase,
            Mark::Begin => {
                self.begin = Some(now);
                self.phase = 0;
                self.phases = [0; 16];
            }
            Mark::End => {
                let begin = self.begin.take()?;
                let region = std::array::from_fn(|i| now[i] - begin[i]);
                let number = self.number;
                self.number += 1;
                return Some(format!("region {number} {} ph {:?}", line(&region), self.phases));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(insns: u64) -> Counts {
        let mut counts = [0; COUNTERS];
        counts[0] = insns;
        counts
    }

    #[test]
    fn regions_hold_what_lies_between_their_marks() {
        let mut regions = Regions::new();
        assert_eq!(regions.mark(Mark::End, at(5)), None, "an end without a begin is nothing");
        assert_eq!(regions.mark(Mark::Begin, at(10)), None);
        assert_eq!(regions.mark(Mark::Phase(5), at(13)), None);
        let line = regions.mark(Mark::End, at(20)).unwrap();
        assert!(line.starts_with("region 0 insns 10 ld 0"), "{line}");
        assert!(line.ends_with("ph [3, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]"), "{line}");
        assert_eq!(regions.mark(Mark::Own, at(30)).as_deref(), Some("mark"));
        regions.mark(Mark::Begin, at(40));
        assert!(regions.mark(Mark::End, at(41)).unwrap().starts_with("region 1 insns 1 "));
    }

    #[test]
    fn instructions_add_up() {
        let mut block = at(0);
        count(&mut block, 0xe8b0, 0x001e); // ldm r0!, {r1-r4}
        count(&mut block, 0x1840, 0); // adds r0, r0, r1
        count_other(&mut block);
        assert_eq!(line(&block), "insns 3 ld 0 ldm_words 4 st 0 stm_words 0 mac 0 dsp 0 br 0 fp 0 other 2");
    }

    #[test]
    fn marks_are_hints_that_a_cpu_ignores() {
        assert_eq!(Mark::of(0xbf90), Some(Mark::Begin));
        assert_eq!(Mark::of(0xbfe0), Some(Mark::Phase(14)));
        for used in [0xbf00, 0xbf10, 0xbf20, 0xbf30, 0xbf40] {
            assert_eq!(Mark::of(used), None, "nop, yield, wfe, wfi, sev");
        }
        assert_eq!(Mark::of(0xbf98), None, "it ls");
        let riscv = [(0x0025, Some(Mark::Begin)), (0x0029, Some(Mark::End)), (0x003d, Some(Mark::Own)), (0x0001, None)];
        for (first, mark) in riscv {
            assert_eq!(Mark::of_riscv(first), mark, "{first:#x}");
        }
        assert_eq!(Mark::of_riscv(0x00a5), None, "addi ra, ra, 9");
    }
}
