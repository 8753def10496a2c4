//! A flash that keeps the rules and loses its power: words are written once after an erase, whole and aligned; blocks
//! are erased whole; any operation can be cut, and a cut word or block holds whatever the moment left in it.

use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash};
use fewstep_core::sampler::noise::philox4x32;

/// How far a cut operation got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Torn {
    /// Nothing happened.
    Not,
    /// Some bits of the word changed; an erase left old, blank and changed words.
    Partly,
    /// As `Partly`, and error correction refuses to read what was cut.
    Unreadable,
    /// All was done, only nobody was told.
    Wholly,
}

impl Torn {
    pub const ALL: [Torn; 4] = [Torn::Not, Torn::Partly, Torn::Unreadable, Torn::Wholly];
}

/// The power fails in operation `at` (words written and blocks erased, from 0).
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    pub at: u64,
    pub torn: Torn,
}

/// Why the flash refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The power failed, now or before.
    NoPower,
    /// A word that error correction cannot read.
    Unreadable,
    /// Not a whole number of words or blocks.
    NotAligned,
    /// Beyond the end.
    Outside,
    /// A word written twice without an erase.
    WrittenTwice,
}

impl NorFlashError for Refusal {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Refusal::NotAligned => NorFlashErrorKind::NotAligned,
            Refusal::Outside => NorFlashErrorKind::OutOfBounds,
            _ => NorFlashErrorKind::Other,
        }
    }
}

/// Words of `W` bytes, erase blocks of `E`.
#[derive(Clone)]
pub struct Flash<const W: usize, const E: usize> {
    bytes: Vec<u8>,
    written: Vec<bool>,
    unreadable: Vec<bool>,
    /// Times that each block was erased.
    pub erases: Vec<u32>,
    /// Words written and blocks erased since the power came on.
    pub operations: u64,
    cut: Option<Cut>,
    dead: bool,
    /// Rules that were broken; must stay empty.
    pub broken: Vec<Refusal>,
    random: u32,
}

impl<const W: usize, const E: usize> Flash<W, E> {
    /// Erased.
    pub fn new(bytes: usize) -> Self {
        assert!(bytes.is_multiple_of(E) && E.is_multiple_of(W));
        Self {
            bytes: vec![0xff; bytes],
            written: vec![false; bytes / W],
            unreadable: vec![false; bytes / W],
            erases: vec![0; bytes / E],
            operations: 0,
            cut: None,
            dead: false,
            broken: Vec::new(),
            random: 0,
        }
    }

    /// Power, until the next cut.
    pub fn power_on(&mut self, cut: Option<Cut>) {
        (self.operations, self.cut, self.dead) = (0, cut, false);
    }

    /// Whether the cut came.
    pub fn is_dead(&self) -> bool {
        self.dead
    }

    /// What a programmer writes, with its erase; no operation.
    pub fn program(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self.written[at / W..(at + bytes.len()).div_ceil(W)].fill(true);
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// A bit changes by itself.
    pub fn flip(&mut self, byte: usize, bit: usize) {
        self.bytes[byte] ^= 1 << bit;
        self.written[byte / W] = true;
    }

    /// Different numbers in the torn words of the next cuts.
    pub fn seed(&mut self, seed: u32) {
        self.random = seed;
    }

    fn next(&mut self) -> u32 {
        self.random = self.random.wrapping_add(1);
        philox4x32([self.random, 0, 0, 0], [3, 4])[0]
    }

    fn refuse(&mut self, why: Refusal) -> Refusal {
        if why != Refusal::NoPower {
            self.broken.push(why);
        }
        why
    }

    /// Counts an operation; how far it gets.
    fn operate(&mut self) -> Result<Option<Torn>, Refusal> {
        if self.dead {
            return Err(Refusal::NoPower);
        }
        let now = self.operations;
        self.operations += 1;
        match self.cut {
            Some(cut) if cut.at == now => {
                self.dead = true;
                Ok(Some(cut.torn))
            }
            _ => Ok(None),
        }
    }

    fn write_word(&mut self, word: usize, data: &[u8]) -> Result<(), Refusal> {
        if self.written[word] {
            return Err(self.refuse(Refusal::WrittenTwice));
        }
        let torn = self.operate()?;
        let at = word * W;
        for (i, &value) in data.iter().enumerate() {
            let keep = match torn {
                None | Some(Torn::Wholly) => 0,
                Some(Torn::Not) => 0xff,
                // Each bit by itself.
                Some(_) => self.next() as u8,
            };
            self.bytes[at + i] &= value | keep;
        }
        // A word whose bits are all still set is as good as erased.
        self.written[word] = torn.is_none() || self.bytes[at..at + W].iter().any(|&b| b != 0xff);
        self.unreadable[word] = torn == Some(Torn::Unreadable) && self.written[word];
        if torn.is_some() { Err(Refusal::NoPower) } else { Ok(()) }
    }

    fn erase_block(&mut self, block: usize) -> Result<(), Refusal> {
        let torn = self.operate()?;
        if torn == Some(Torn::Not) {
            return Err(Refusal::NoPower);
        }
        self.erases[block] += 1;
        for word in block * E / W..(block + 1) * E / W {
            let bytes = word * W..(word + 1) * W;
            let state = if matches!(torn, Some(Torn::Partly | Torn::Unreadable)) { self.next() % 3 } else { 0 };
            match state {
                0 => {
                    self.bytes[bytes].fill(0xff);
                    (self.written[word], self.unreadable[word]) = (false, false);
                }
                1 => {}
                _ => {
                    for at in bytes {
                        self.bytes[at] |= self.next() as u8;
                    }
                    self.written[word] = true;
                    self.unreadable[word] = torn == Some(Torn::Unreadable);
                }
            }
        }
        if torn.is_some() { Err(Refusal::NoPower) } else { Ok(()) }
    }
}

impl<const W: usize, const E: usize> ErrorType for Flash<W, E> {
    type Error = Refusal;
}

impl<const W: usize, const E: usize> ReadNorFlash for Flash<W, E> {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, out: &mut [u8]) -> Result<(), Refusal> {
        if self.dead {
            return Err(Refusal::NoPower);
        }
        let range = offset as usize..offset as usize + out.len();
        if range.end > self.bytes.len() {
            return Err(self.refuse(Refusal::Outside));
        }
        if self.unreadable[range.start / W..range.end.div_ceil(W)].contains(&true) {
            return Err(Refusal::Unreadable);
        }
        out.copy_from_slice(&self.bytes[range]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl<const W: usize, const E: usize> NorFlash for Flash<W, E> {
    const WRITE_SIZE: usize = W;
    const ERASE_SIZE: usize = E;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Refusal> {
        let (from, to) = (from as usize, to as usize);
        if from > to || to > self.bytes.len() {
            return Err(self.refuse(Refusal::Outside));
        }
        if !from.is_multiple_of(E) || !to.is_multiple_of(E) {
            return Err(self.refuse(Refusal::NotAligned));
        }
        (from / E..to / E).try_for_each(|block| self.erase_block(block))
    }

    fn write(&mut self, offset: u32, data: &[u8]) -> Result<(), Refusal> {
        let at = offset as usize;
        if at + data.len() > self.bytes.len() {
            return Err(self.refuse(Refusal::Outside));
        }
        if !at.is_multiple_of(W) || !data.len().is_multiple_of(W) {
            return Err(self.refuse(Refusal::NotAligned));
        }
        data.chunks(W).enumerate().try_for_each(|(i, word)| self.write_word(at / W + i, word))
    }
}
