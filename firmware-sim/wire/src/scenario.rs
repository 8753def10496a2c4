//! One power cycle of a scenario: what the firmware is to do, and what it says of it.

use crate::bytes::{Reader, Writer};
use crate::crc::Crc32c;
use crate::request::Request;

const MAGIC: u32 = u32::from_le_bytes(*b"FSSC");
const VERSION: u16 = 1;
const HEAD: usize = 80;
const COMMAND: usize = 96;
const FLAG_DOWN: u32 = 1;
const FLAG_KEY: u32 = 2;
const NO_CUT: u32 = u32::MAX;

/// How far the operation got in which the power failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Torn {
    /// Nothing happened.
    Not = 0,
    /// Some bits of the word changed; an erase left old, blank and changed words.
    Partly = 1,
    /// All was done, only nobody was told.
    Wholly = 2,
}

/// A power cut: in the operation (word written or block erased) after so many others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Operations that are still done.
    pub after: u32,
    /// How far the next one gets.
    pub torn: Torn,
}

impl Cut {
    fn emit(cut: Option<Self>) -> [u32; 2] {
        cut.map_or([NO_CUT, 0], |cut| [cut.after, cut.torn as u32])
    }

    fn parse(after: u32, torn: u32) -> Option<Option<Self>> {
        let torn = match torn {
            0 => Torn::Not,
            1 => Torn::Partly,
            2 => Torn::Wholly,
            _ => return None,
        };
        Some((after != NO_CUT).then_some(Self { after, torn }))
    }
}

/// What holds for a whole power cycle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    /// Ticks of the board's timer within which the watchdog is fed; 0 for no watchdog. It starts after the boot.
    pub watchdog: u32,
    /// Images with a lower version are neither accepted nor booted.
    pub lowest_version: u32,
    /// Whether an update may have a lower version than the running image.
    pub may_go_down: bool,
    /// Ed25519 public key that images must be signed for.
    pub key: Option<[u8; 32]>,
    /// The power fails while the firmware boots.
    pub cut: Option<Cut>,
}

/// What the firmware is to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Command {
    /// A picture.
    Draw(Request),
    /// An update arrives: a manifest, then the image.
    Update {
        /// Where the sender's bytes lie, from the start of its memory.
        mail: u32,
        /// How many of them arrive before the connection ends.
        bytes: u32,
        /// Most bytes of a piece.
        chunk: u32,
        /// A picture that is drawn meanwhile: one piece, one operation, in turn.
        drawing: Option<Request>,
        /// The power fails meanwhile.
        cut: Option<Cut>,
    },
    /// The running image is good.
    Confirm {
        /// The power fails meanwhile.
        cut: Option<Cut>,
    },
    /// The firmware hangs and feeds no watchdog.
    Hang,
}

/// The commands of a power cycle, as the runner places them where a [`Request`] lies otherwise.
///
/// ```text
///  0  magic "FSSC"   4  version u16   6  commands u16   8  watchdog u32   12  lowest version u32
/// 16  flags u32     20  key, 32 bytes   52  cut after u32   56  cut torn u32   60  zero, 16 bytes
/// 76  CRC-32C of all other bytes
/// 80  commands of 96 bytes: kind u32, place of the mail u32, its bytes u32, chunk u32, cut after u32, cut torn u32,
///     whether there is a request u32, zero u32, then the request, 64 bytes, or zero
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Script<'a> {
    /// What holds for all of it.
    pub setup: Setup,
    commands: &'a [u8],
}

impl<'a> Script<'a> {
    /// Most commands.
    pub const MAX_COMMANDS: usize = 40;
    /// Most bytes.
    pub const MAX_BYTES: usize = HEAD + Self::MAX_COMMANDS * COMMAND;

    /// Reads what [`Script::emit`] wrote; `None` for anything else.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let head: &[u8; HEAD] = bytes.first_chunk()?;
        let mut reader = Reader(head);
        let (magic, version, count) = (reader.u32()?, reader.u16()?, usize::from(reader.u16()?));
        if magic != MAGIC || version != VERSION || count > Self::MAX_COMMANDS {
            return None;
        }
        let commands = bytes.get(HEAD..HEAD + count * COMMAND)?;
        if checksum(head, commands).to_le_bytes() != head[76..] {
            return None;
        }
        let (watchdog, lowest_version, flags) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let mut key = [0; 32];
        key.copy_from_slice(&head[20..52]);
        let mut reader = Reader(&head[52..60]);
        let setup = Setup {
            watchdog,
            lowest_version,
            may_go_down: flags & FLAG_DOWN != 0,
            key: (flags & FLAG_KEY != 0).then_some(key),
            cut: Cut::parse(reader.u32()?, reader.u32()?)?,
        };
        let script = Self { setup, commands };
        script.commands().all(|command| command.is_some()).then_some(script)
    }

    /// The commands in order; `None` for one that is unknown, which [`Script::parse`] refuses.
    pub fn commands(&self) -> impl Iterator<Item = Option<Command>> + use<'a> {
        self.commands.chunks_exact(COMMAND).map(Command::parse)
    }

    /// Writes setup and commands to the front of `bytes`; how many bytes they take. `None` when there are more commands
    /// than [`Script::MAX_COMMANDS`], or `bytes` is too short.
    pub fn emit(setup: &Setup, commands: &[Command], bytes: &mut [u8]) -> Option<usize> {
        if commands.len() > Self::MAX_COMMANDS {
            return None;
        }
        let all = bytes.get_mut(..HEAD + commands.len() * COMMAND)?;
        let (head, rest) = all.split_first_chunk_mut::<HEAD>()?;
        head.fill(0);
        let mut writer = Writer(head);
        writer.put(&MAGIC.to_le_bytes());
        writer.put(&VERSION.to_le_bytes());
        writer.put(&(commands.len() as u16).to_le_bytes());
        writer.put(&setup.watchdog.to_le_bytes());
        writer.put(&setup.lowest_version.to_le_bytes());
        let flag = |on: bool, flag: u32| if on { flag } else { 0 };
        let flags = flag(setup.may_go_down, FLAG_DOWN) | flag(setup.key.is_some(), FLAG_KEY);
        writer.put(&flags.to_le_bytes());
        writer.put(&setup.key.unwrap_or_default());
        for value in Cut::emit(setup.cut) {
            writer.put(&value.to_le_bytes());
        }
        for (command, place) in commands.iter().zip(rest.chunks_exact_mut(COMMAND)) {
            command.emit(place);
        }
        let crc = checksum(head, rest);
        head[76..].copy_from_slice(&crc.to_le_bytes());
        Some(all.len())
    }
}

fn checksum(head: &[u8; HEAD], commands: &[u8]) -> u32 {
    Crc32c::new().update(&head[..76]).update(commands).value()
}

impl Command {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let mut word = || reader.u32();
        let (kind, mail, bytes, chunk) = (word()?, word()?, word()?, word()?);
        let cut = Cut::parse(word()?, word()?)?;
        let (drawn, _) = (word()?, word()?);
        let request = match drawn {
            0 => None,
            1 => Some(Request::parse(reader.0).ok()?),
            _ => return None,
        };
        Some(match kind {
            1 => Self::Draw(request?),
            2 => Self::Update { mail, bytes, chunk, drawing: request, cut },
            3 => Self::Confirm { cut },
            4 => Self::Hang,
            _ => return None,
        })
    }

    fn emit(&self, place: &mut [u8]) {
        let (kind, mail, cut, request) = match *self {
            Self::Draw(request) => (1, [0; 3], None, Some(request)),
            Self::Update { mail, bytes, chunk, drawing, cut } => (2, [mail, bytes, chunk], cut, drawing),
            Self::Confirm { cut } => (3, [0; 3], cut, None),
            Self::Hang => (4, [0; 3], None, None),
        };
        let cut = Cut::emit(cut);
        let words = [kind, mail[0], mail[1], mail[2], cut[0], cut[1], u32::from(request.is_some()), 0];
        let mut writer = Writer(place);
        for word in words {
            writer.put(&word.to_le_bytes());
        }
        writer.put(&request.map_or([0; Request::BYTES], |request| request.emit()));
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Verdict {
    /// As it should.
    Done = 0,
    /// The connection ended before the image did.
    Interrupted = 1,
    /// There is no image to draw with, or to confirm.
    NoImage = 2,
    /// The image in the slot is no student image, or needs more memory than there is.
    BadImage = 3,
    /// The image cannot serve the request.
    RequestRefused = 4,
    /// What the sender said first is no manifest.
    BadManifest = 5,
    /// The version is too low.
    Version = 6,
    /// A key is set and the manifest has no signature.
    Unsigned = 7,
    /// The image has another length than a slot holds.
    Length = 8,
    /// The running image is on trial, and the other slot holds the one to go back to.
    NotConfirmed = 9,
    /// What was written is not what the manifest speaks of.
    Damaged = 10,
    /// The signature is not that of the key's owner for this image.
    Signature = 11,
    /// The flash did not keep what was written.
    Worn = 12,
    /// The firmware broke a rule of the flash: a defect.
    RuleBroken = 13,
}

impl Verdict {
    /// Every verdict.
    pub const ALL: [Self; 14] = [
        Self::Done,
        Self::Interrupted,
        Self::NoImage,
        Self::BadImage,
        Self::RequestRefused,
        Self::BadManifest,
        Self::Version,
        Self::Unsigned,
        Self::Length,
        Self::NotConfirmed,
        Self::Damaged,
        Self::Signature,
        Self::Worn,
        Self::RuleBroken,
    ];

    /// As scenario files call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Interrupted => "interrupted",
            Self::NoImage => "no-image",
            Self::BadImage => "bad-image",
            Self::RequestRefused => "request-refused",
            Self::BadManifest => "bad-manifest",
            Self::Version => "version",
            Self::Unsigned => "unsigned",
            Self::Length => "length",
            Self::NotConfirmed => "not-confirmed",
            Self::Damaged => "damaged",
            Self::Signature => "signature",
            Self::Worn => "worn",
            Self::RuleBroken => "rule-broken",
        }
    }
}

/// The image that was booted: payload of [`Kind::Booted`](crate::Kind::Booted). Without one `slot` is `None` and the rest 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Booted {
    /// 0 is A, 1 is B.
    pub slot: Option<u8>,
    /// Whether the next boot goes back unless it is confirmed.
    pub trial: bool,
    /// Its version.
    pub version: u32,
    /// Its first byte, from the start of slot A.
    pub offset: u32,
    /// Its bytes.
    pub bytes: u32,
}

impl Booted {
    /// The payload.
    pub fn emit(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let mut writer = Writer(&mut bytes);
        writer.put(&[self.slot.unwrap_or(u8::MAX), u8::from(self.trial), 0, 0]);
        for value in [self.version, self.offset, self.bytes] {
            writer.put(&value.to_le_bytes());
        }
        bytes
    }

    /// Reads a payload; `None` if it is not one.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader(payload);
        let slot = match reader.u16()?.to_le_bytes() {
            [u8::MAX, 0] => (None, false),
            [slot @ (0 | 1), trial @ (0 | 1)] => (Some(slot), trial == 1),
            _ => return None,
        };
        reader.u16()?;
        let booted =
            Self { slot: slot.0, trial: slot.1, version: reader.u32()?, offset: reader.u32()?, bytes: reader.u32()? };
        reader.end().map(|()| booted)
    }
}

/// A command ended: payload of [`Kind::Command`](crate::Kind::Command).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandEnd {
    /// How.
    pub verdict: Verdict,
    /// Of an update: bytes of the image that are in the flash.
    pub position: u32,
    /// Words written and blocks erased by this command.
    pub operations: u32,
    /// Most timer ticks between two feedings of the watchdog; 0 without one.
    pub longest: u32,
}

impl CommandEnd {
    /// The payload.
    pub fn emit(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let mut writer = Writer(&mut bytes);
        for value in [self.verdict as u32, self.position, self.operations, self.longest] {
            writer.put(&value.to_le_bytes());
        }
        bytes
    }

    /// Reads a payload; `None` if it is not one.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader(payload);
        let verdict = reader.u32()?;
        let verdict = Verdict::ALL.into_iter().find(|known| *known as u32 == verdict)?;
        let end = Self { verdict, position: reader.u32()?, operations: reader.u32()?, longest: reader.u32()? };
        reader.end().map(|()| end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETUP: Setup = Setup {
        watchdog: 77,
        lowest_version: 3,
        may_go_down: true,
        key: Some([9; 32]),
        cut: Some(Cut { after: 0, torn: Torn::Wholly }),
    };

    fn commands() -> [Command; 5] {
        let request = Request { seed: 5, class: 3, w: 1.5, ..Request::default() };
        let cut = Some(Cut { after: 1000, torn: Torn::Partly });
        [
            Command::Draw(request),
            Command::Update { mail: 1, bytes: 2, chunk: 3, drawing: Some(request), cut },
            Command::Update { mail: 4, bytes: 5, chunk: 6, drawing: None, cut: None },
            Command::Confirm { cut },
            Command::Hang,
        ]
    }

    #[test]
    fn scripts_come_back() {
        let mut bytes = [0; Script::MAX_BYTES];
        for setup in [SETUP, Setup::default()] {
            let length = Script::emit(&setup, &commands(), &mut bytes).unwrap();
            let script = Script::parse(&bytes).unwrap();
            assert_eq!(script.setup, setup);
            assert!(script.commands().eq(commands().map(Some)));
            assert_eq!(length, 80 + 5 * 96);
        }
        assert_eq!(Script::emit(&SETUP, &[Command::Hang; 41], &mut bytes), None);
        assert_eq!(Script::emit(&SETUP, &[Command::Hang; 2], &mut [0; 200]), None);
    }

    #[test]
    fn every_damaged_bit_is_seen() {
        let mut bytes = [0; 80 + 5 * 96];
        Script::emit(&SETUP, &commands(), &mut bytes).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Script::parse(&damaged).is_none(), "bit {bit}");
        }
        assert!(Script::parse(&bytes[..bytes.len() - 1]).is_none());
        assert!(Script::parse(&Request::default().emit()).is_none());
    }

    #[test]
    fn records_come_back() {
        for slot in [None, Some(1)] {
            let booted = Booted { slot, trial: slot.is_some(), version: 3, offset: 4, bytes: 5 };
            assert_eq!(Booted::parse(&booted.emit()), Some(booted));
        }
        assert_eq!(Booted::parse(&[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        for verdict in Verdict::ALL {
            let end = CommandEnd { verdict, position: 1, operations: 2, longest: 3 };
            assert_eq!(CommandEnd::parse(&end.emit()), Some(end));
        }
        assert_eq!(CommandEnd::parse(&[99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(CommandEnd::parse(&[0; 15]), None);
    }
}
