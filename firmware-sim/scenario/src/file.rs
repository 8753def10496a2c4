//! Scenario files: TOML, read and checked before anything is built or booted.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::Error;
use crate::signing::{self, MAX_KEY_FILE, SigningKey};

/// Largest scenario file in bytes.
pub const MAX_FILE: u64 = 256 << 10;
/// Largest student image in bytes.
pub const MAX_IMAGE: u64 = 16 << 20;
/// Most events of a scenario.
pub const MAX_EVENTS: usize = 500;
/// Most images of a scenario.
pub const MAX_IMAGES: usize = 16;
/// Most seconds of a power cycle.
pub const MAX_SECONDS: u64 = 3600;

/// What a file says; paths in it are not looked at yet.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ScenarioFile {
    /// What it shows, in a line.
    pub name: String,
    /// Name of a shipped board, or path of a board file (`.toml`).
    pub board: String,
    /// Instructions within which the firmware feeds the watchdog; none without it.
    pub watchdog: Option<u64>,
    /// Seconds that a power cycle may take on this machine.
    #[serde(default = "two_minutes")]
    pub seconds: u64,
    /// Student images by name.
    #[serde(default)]
    pub images: BTreeMap<String, PathBuf>,
    /// What the firmware asks of an image.
    #[serde(default)]
    pub rules: Rules,
    /// What every picture is held to.
    #[serde(default)]
    pub limits: Limits,
    /// What happens, in order.
    #[serde(rename = "event")]
    pub events: Vec<Event>,
}

fn two_minutes() -> u64 {
    120
}

/// What the firmware asks of an image.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// Images with a lower version are neither accepted nor booted.
    pub lowest_version: u32,
    /// Whether an update may have a lower version than the running image.
    pub may_go_down: bool,
    /// Public key file; images must be signed for it.
    pub key: Option<PathBuf>,
}

/// What every picture is held to.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Executed instructions of a picture.
    pub instructions: Option<u64>,
    /// Bytes of stack.
    pub stack: Option<u32>,
    /// Bytes of arena.
    pub arena: Option<u32>,
    /// Instructions between two feedings of the watchdog.
    pub longest_call: Option<u64>,
}

/// Something that happens.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A programmer writes an image into a slot, as `fewstep flash` does.
    Program(Program),
    /// The power comes on: the board boots.
    PowerOn(Boot),
    /// The board boots again.
    Reset(Boot),
    /// The power goes off.
    PowerOff(Nothing),
    /// A picture is asked for.
    Draw(Draw),
    /// An update arrives.
    Update(Update),
    /// The firmware confirms the running image.
    Confirm(Boot),
    /// Bits of the flash change by themselves.
    Rot(Rot),
    /// The firmware hangs.
    Hang(Hang),
    /// Something is expected.
    Expect(Expect),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program(Program { slot, image, version, sign, .. }) => {
                write!(f, "program slot {slot}: {image}, version {version}")?;
                if sign.is_some() { f.write_str(", signed") } else { Ok(()) }
            }
            Self::PowerOn(boot) => write!(f, "power on{}", cut(boot.cut)),
            Self::Reset(boot) => write!(f, "reset{}", cut(boot.cut)),
            Self::PowerOff(Nothing {}) => f.write_str("power off"),
            Self::Draw(draw) => write!(f, "draw: {draw}"),
            Self::Update(update) => write!(f, "update: {update}"),
            Self::Confirm(boot) => write!(f, "confirm{}", cut(boot.cut)),
            Self::Rot(Rot { slot, at, bytes, .. }) => write!(f, "rot: {bytes} bytes of slot {slot} from byte {at}"),
            Self::Hang(_) => f.write_str("hang"),
            Self::Expect(expect) => write!(f, "expect: {expect}"),
        }
    }
}

fn cut(cut: Option<Cut>) -> String {
    cut.map_or_else(String::new, |cut| format!(", power cut after {} operations", cut.after))
}

impl fmt::Display for Draw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, class, w, steps, .. } = self;
        write!(f, "class {class}, w {w}, seed {seed}")?;
        if *steps > 0 { write!(f, ", {steps} steps") } else { Ok(()) }
    }
}

impl fmt::Display for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { image, version, chunk, bytes, sign, damage, forge, drawing, .. } = self;
        write!(f, "{image}, version {version}, in pieces of {chunk}")?;
        for (there, text) in [
            (sign.is_some(), ", signed"),
            (!forge.is_empty(), ", forged"),
            (!damage.is_empty(), ", damaged on the way"),
        ] {
            f.write_str(if there { text } else { "" })?;
        }
        if let Some(bytes) = bytes {
            write!(f, ", of which {bytes} bytes arrive")?;
        }
        if drawing.is_some() {
            f.write_str(", while drawing")?;
        }
        f.write_str(&cut(self.cut))
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::A { "a" } else { "b" })
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slot = self.slot.map(|slot| match slot {
            Running::A => "slot a",
            Running::B => "slot b",
            Running::None => "no image",
        });
        let parts = [
            slot.map(String::from),
            self.image.clone(),
            self.version.map(|version| format!("version {version}")),
            self.trial.map(|trial| if trial { "on trial".into() } else { "not on trial".into() }),
            self.boots.map(|boots| format!("{boots} boots")),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

/// No fields.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// An image that a programmer writes.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Where.
    pub slot: Slot,
    /// Name of the image.
    pub image: String,
    /// Its version.
    #[serde(default = "one")]
    pub version: u32,
    /// Number of the update; the higher of two slots boots.
    #[serde(default = "one")]
    pub sequence: u32,
    /// Private key file that signs it.
    pub sign: Option<PathBuf>,
}

fn one() -> u32 {
    1
}

/// One of the two slots.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

/// Something short that the power may fail in.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// The power fails in it.
    pub cut: Option<Cut>,
}

/// A power cut.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// Words written and blocks erased before, from the start of the event.
    pub after: u32,
    /// How far the operation gets that is cut.
    #[serde(default)]
    pub torn: Torn,
}

/// How far an operation gets that is cut.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Torn {
    /// It did not begin.
    Not,
    /// Some of its bits.
    #[default]
    Partly,
    /// To its end.
    Wholly,
}

/// A request.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Draw {
    /// The noise.
    pub seed: u64,
    /// The class.
    pub class: u16,
    /// Guidance strength.
    pub w: f32,
    /// Denoising steps, 0 = the image's own.
    pub steps: u16,
    /// How it ends: `done`, with the host's picture, or otherwise.
    pub ends: String,
}

impl Default for Draw {
    fn default() -> Self {
        Self { seed: 0, class: 0, w: 1.0, steps: 0, ends: "done".into() }
    }
}

/// An update that arrives.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Update {
    /// Name of the image.
    pub image: String,
    /// Its version.
    pub version: u32,
    /// Most bytes of a piece.
    #[serde(default = "piece")]
    pub chunk: u32,
    /// Bytes of the image that arrive before the connection ends; all without it.
    pub bytes: Option<u32>,
    /// Private key file of the sender.
    pub sign: Option<PathBuf>,
    /// Bytes that the transport changes.
    #[serde(default)]
    pub damage: Vec<Change>,
    /// Bytes that somebody changes who can compute a checksum, but has no key.
    #[serde(default)]
    pub forge: Vec<Change>,
    /// A picture that is drawn meanwhile.
    pub drawing: Option<Draw>,
    /// The power fails meanwhile.
    pub cut: Option<Cut>,
    /// How it ends; `done`, or `power-cut` with a cut.
    pub ends: Option<String>,
}

fn piece() -> u32 {
    4096
}

/// A byte that changes.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Which, from the start of the image.
    pub at: u32,
    /// The bits that change.
    pub xor: u8,
}

/// Bits of the flash that change by themselves.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Rot {
    /// Where.
    pub slot: Slot,
    /// Which byte, from the start of the slot; its head has 1024 bytes.
    pub at: u32,
    /// The bits that change.
    pub xor: u8,
    /// How many bytes in a row.
    #[serde(default = "one")]
    pub bytes: u32,
}

/// A hang.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Hang {
    /// How it ends; `watchdog` where there is one, else `time-limit`.
    pub ends: Option<String>,
}

/// What is expected of the board; what is not named is not looked at.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// The running image's slot.
    pub slot: Option<Running>,
    /// Name of the running image.
    pub image: Option<String>,
    /// Version of the running image.
    pub version: Option<u32>,
    /// Whether the next boot goes back from it.
    pub trial: Option<bool>,
    /// How often the board has booted.
    pub boots: Option<u32>,
}

/// Where the running image lies.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Running {
    /// In the first slot.
    A,
    /// In the second.
    B,
    /// There is none.
    None,
}

/// How an event may end beside the firmware's own verdicts (`fewstep_runner::Verdict::name`).
pub const ENDINGS: [&str; 3] = ["power-cut", "watchdog", "time-limit"];

impl ScenarioFile {
    /// Reads and checks the text of a file.
    ///
    /// # Errors
    /// Says where the text is no scenario, or what does not fit.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: Self = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_string())?;
        file.check()?;
        Ok(file)
    }

    fn check(&self) -> Result<(), String> {
        if self.name.trim().is_empty() || self.name.lines().count() > 1 {
            return Err("name: give one line that says what the scenario shows".into());
        }
        if self.events.is_empty() || self.events.len() > MAX_EVENTS {
            return Err(format!("{} events; give 1 to {MAX_EVENTS} tables [[event]]", self.events.len()));
        }
        if self.images.len() > MAX_IMAGES {
            return Err(format!("{} images; {MAX_IMAGES} are taken", self.images.len()));
        }
        if self.watchdog == Some(0) {
            return Err("watchdog = 0: give the instructions between two feedings, or leave it out".into());
        }
        if self.seconds == 0 || self.seconds > MAX_SECONDS {
            return Err(format!("seconds = {}: give 1 to {MAX_SECONDS}", self.seconds));
        }
        if self.limits.longest_call.is_some() && self.watchdog.is_none() {
            return Err("limits.longest_call is measured by the watchdog: give watchdog too".into());
        }
        for (number, event) in self.events.iter().enumerate() {
            self.check_event(event).map_err(|problem| format!("event {}: {problem}", number + 1))?;
        }
        Ok(())
    }

    fn check_event(&self, event: &Event) -> Result<(), String> {
        match event {
            Event::Program(program) => self.check_image(&program.image),
            Event::Draw(draw) => check_ending(&draw.ends),
            Event::Update(update) => {
                self.check_image(&update.image)?;
                if update.chunk == 0 {
                    return Err("chunk = 0: give the bytes of a piece".into());
                }
                if update.damage.iter().chain(&update.forge).any(|change| change.xor == 0) {
                    return Err("xor = 0 changes nothing: give the bits to change".into());
                }
                if let Some(drawing) = &update.drawing {
                    check_ending(&drawing.ends)?;
                }
                update.ends.as_deref().map_or(Ok(()), check_ending)
            }
            Event::Rot(rot) if rot.xor == 0 || rot.bytes == 0 => Err("rot changes nothing".into()),
            Event::Hang(hang) => hang.ends.as_deref().map_or(Ok(()), check_ending),
            Event::Expect(expect) => {
                if *expect == Expect::default() {
                    return Err("expect names nothing: slot, image, version, trial or boots".into());
                }
                expect.image.as_deref().map_or(Ok(()), |name| self.check_image(name))
            }
            Event::Rot(_) | Event::PowerOn(_) | Event::Reset(_) | Event::PowerOff(_) | Event::Confirm(_) => Ok(()),
        }
    }

    fn check_image(&self, name: &str) -> Result<(), String> {
        if self.images.contains_key(name) {
            return Ok(());
        }
        let known: Vec<&str> = self.images.keys().map(String::as_str).collect();
        Err(format!("no image {name:?} in [images], which has {}", known.join(", ")))
    }
}

fn check_ending(name: &str) -> Result<(), String> {
    let verdicts = fewstep_runner::Verdict::ALL.map(fewstep_runner::Verdict::name);
    if verdicts.contains(&name) || ENDINGS.contains(&name) {
        return Ok(());
    }
    Err(format!("ends = {name:?}: there are {}, {}", verdicts.join(", "), ENDINGS.join(", ")))
}

/// A scenario with everything that its file names.
pub struct Scenario {
    /// The file's path.
    pub path: PathBuf,
    /// What it says.
    pub file: ScenarioFile,
    /// The images' bytes by name.
    pub images: BTreeMap<String, Vec<u8>>,
    /// The public key that images must be signed for.
    pub key: Option<[u8; 32]>,
    /// Private keys by the path that the file gives.
    pub(crate) signers: BTreeMap<PathBuf, SigningKey>,
}

impl Scenario {
    /// Reads a file and everything that it names; paths in it are from its own folder.
    ///
    /// # Errors
    /// A file cannot be read, is too large, or is wrong.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = read_text(path, MAX_FILE)?;
        let file = ScenarioFile::parse(&text).map_err(|problem| Error::File { path: path.into(), problem })?;
        let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        let mut images = BTreeMap::new();
        for (name, image) in &file.images {
            images.insert(name.clone(), read(&folder.join(image), MAX_IMAGE)?);
        }
        let key_error = |path: PathBuf| |problem| Error::Key { path, problem };
        let key = match &file.rules.key {
            Some(key) => {
                let path = folder.join(key);
                Some(signing::public_key(&read_text(&path, MAX_KEY_FILE)?).map_err(key_error(path))?)
            }
            None => None,
        };
        let mut signers = BTreeMap::new();
        for event in &file.events {
            let (Event::Program(Program { sign: Some(key), .. }) | Event::Update(Update { sign: Some(key), .. })) =
                event
            else {
                continue;
            };
            let path = folder.join(key);
            let signer = SigningKey::from_pem(&read_text(&path, MAX_KEY_FILE)?).map_err(key_error(path))?;
            signers.insert(key.clone(), signer);
        }
        Ok(Self { path: path.into(), file, images, key, signers })
    }
}

/// A whole file of at most `most` bytes.
fn read(path: &Path, most: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path);
    file.and_then(|file| file.take(most + 1).read_to_end(&mut bytes)).map_err(|source| match source.kind() {
        ErrorKind::NotFound => Error::Missing { path: path.into() },
        ErrorKind::IsADirectory => Error::Folder { path: path.into() },
        _ => Error::Read { path: path.into(), source },
    })?;
    if bytes.len() as u64 > most { Err(Error::TooLarge { path: path.into(), most }) } else { Ok(bytes) }
}

fn read_text(path: &Path, most: u64) -> Result<String, Error> {
    String::from_utf8(read(path, most)?)
        .map_err(|_| Error::File { path: path.into(), problem: "is not UTF-8 text".into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
name = "A test"
board = "an500"
watchdog = 1_000_000
[images]
old = "old.fsw"
[limits]
longest_call = 5
[[event]]
program = { slot = "a", image = "old" }
[[event]]
power_on = { cut = { after = 3 } }
[[event]]
draw = { class = 3 }
[[event]]
update = { image = "old", version = 2, damage = [{ at = 1, xor = 255 }], ends = "damaged" }
[[event]]
confirm = {}
[[event]]
rot = { slot = "b", at = 5, xor = 1 }
[[event]]
hang = {}
[[event]]
expect = { slot = "none", boots = 2 }
"#;

    #[test]
    fn what_is_left_out_has_a_default() {
        let file = ScenarioFile::parse(GOOD).unwrap();
        assert_eq!(file.seconds, 120);
        let Event::Draw(draw) = &file.events[2] else { panic!("{:?}", file.events) };
        assert_eq!(*draw, Draw { class: 3, ..Draw::default() });
        let Event::PowerOn(Boot { cut: Some(cut) }) = &file.events[1] else { panic!("{:?}", file.events) };
        assert_eq!(cut.torn, Torn::Partly);
    }

    #[test]
    fn wrong_files_are_refused_with_the_place() {
        for (from, to, says) in [
            ("name = \"A test\"", "name = \"\"", "name: give one line"),
            ("board = \"an500\"", "", "missing field `board`"),
            ("watchdog = 1_000_000", "watchdog = 0", "watchdog = 0"),
            ("watchdog = 1_000_000", "", "longest_call is measured by the watchdog"),
            ("watchdog = 1_000_000", "seconds = 4000", "seconds = 4000: give 1 to 3600"),
            ("image = \"old\" }", "image = \"new\" }", "event 1: no image \"new\" in [images], which has old"),
            ("slot = \"a\"", "slot = \"c\"", "unknown variant `c`"),
            ("confirm = {}", "conform = {}", "unknown variant `conform`"),
            ("hang = {}", "hang = { why = 1 }", "unknown field `why`"),
            ("ends = \"damaged\"", "ends = \"well\"", "event 4: ends = \"well\": there are done, interrupted"),
            ("xor = 1 }", "xor = 0 }", "event 6: rot changes nothing"),
            ("{ slot = \"none\", boots = 2 }", "{}", "event 8: expect names nothing"),
            ("xor = 255", "xor = 0", "event 4: xor = 0 changes nothing"),
            ("draw = { class = 3 }", "draw = { class = 70000 }", "invalid value"),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let error = ScenarioFile::parse(&GOOD.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(says), "{to}: {error}");
        }
        assert!(ScenarioFile::parse("").is_err());
    }

    #[test]
    fn missing_files_are_named() {
        let error = Scenario::load("/nowhere/x.toml".as_ref()).err().unwrap().to_string();
        assert!(error.contains("/nowhere/x.toml"), "{error}");
    }
}
