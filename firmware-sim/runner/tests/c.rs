//! The library for C (`firmware-sim/c`): built for every target, linked by gcc with a firmware in C, booted; its picture is
//! the host's, byte for byte, and every error that it can see is seen. Then the layouts for Zephyr, PlatformIO and
//! Arduino, as far as they can be checked without those tools.

#[allow(dead_code, reason = "simulators are for the tests of the firmware that draws")]
mod common;
mod text;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use fewstep_core::Request;
use fewstep_runner::{Board, Error, Options, Program, Ran, boards_dir, c_library};
use text::{draw, number, pictures};

const LIMIT: Duration = Duration::from_secs(120);
const STACK_BYTES: u32 = 8 << 10;
/// Board, compiler and kernels of each target.
const BOARDS: [(&str, &str, &str); 3] = [
    ("an500", "arm-none-eabi-gcc", "arm-dsp"),
    ("an505", "arm-none-eabi-gcc", "arm-dsp"),
    ("riscv32", "riscv64-unknown-elf-gcc", "riscv32"),
];
const SHIPPED: &str = "assets/fashion-mnist-student-4.fsw";
const SMALL: [&str; 2] = ["firmware-sim/runner/tests/data/gray-4.fsw", "firmware-sim/runner/tests/data/colour-2.fsw"];

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

/// A folder for what this test builds.
fn out() -> PathBuf {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("c");
    std::fs::create_dir_all(&out).unwrap();
    out
}

/// Whether a program is there; says so, or fails, if not.
fn there(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        assert!(
            std::env::var_os("FEWSTEP_REQUIRE_QEMU").is_none(),
            "FEWSTEP_REQUIRE_QEMU is set, but there is no {program}"
        );
        common::say(&format!("SKIPPED: there is no {program}"));
    }
    found
}

/// The folder with the library for every target, built once.
fn library() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            let folder = out().join("lib");
            for target in c_library::TARGETS {
                if let Err(error) = c_library::build(&target, &folder, &Options::default()) {
                    common::skip(&error);
                    return None;
                }
            }
            Some(folder)
        })
        .as_deref()
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
    text
}

/// The firmware `program` for a board, with a student in it.
fn built(board: &str, program: &str, student: &str) -> Option<Program> {
    let library = library()?;
    let elf = out().join(format!("{board}-{program}-{}.elf", student.replace('/', "-")));
    let said = run(Command::new(path("firmware-sim/c/example/build"))
        .args([board, program])
        .args([path(student).as_path(), &elf])
        .env("FEWSTEP_LIB", library));
    assert_eq!(said, "", "gcc warns");
    let board = Board::find(&boards_dir(&Options::default()).unwrap(), board).unwrap();
    Some(Program::new(&board, std::fs::read(elf).unwrap()))
}

fn boot(program: &Program) -> Option<Ran> {
    match program.run(&[], LIMIT) {
        Ok(ran) => Some(ran),
        Err(error @ Error::NoEmulator { .. }) => {
            common::skip(&error);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn c_draws_the_hosts_bytes_on_every_target() {
    let request = Request { seed: 2, class: 1, w: 1.0, ..Request::default() };
    for (board, gcc, kernels) in BOARDS {
        if !there(gcc) {
            return;
        }
        for student in SMALL.into_iter().chain([SHIPPED]) {
            let Some(program) = built(board, "main", student) else { return };
            let Some(ran) = boot(&program) else { return };
            assert_eq!(ran.code, Some(0), "{board}: {}{}", ran.text, ran.stderr);
            assert_eq!(pictures(&ran.text), [draw(&path(student), request, |_, _| 1.0)], "{board}, {student}");
            assert!(ran.text.contains(&format!("kernels {kernels}\n")), "{board}: {}", ran.text);
            let used = number(&ran.text, "stack");
            let size = program.size(std::fs::metadata(path(student)).unwrap().len()).unwrap();
            common::say(&format!("{board}, {student}: {} bytes of code, {used} bytes of stack", size.code));
            assert!((500..=STACK_BYTES).contains(&used), "{board}: {used} bytes of stack");
            assert_eq!(program.panics().unwrap(), [""; 0], "{board}");
            let statics = program.writable().unwrap();
            assert!(!statics.iter().any(|name| name.contains("fewstep")), "{board}: {statics:?}");
        }
    }
}

#[test]
fn every_error_of_c_is_seen() {
    for (board, gcc, _) in BOARDS {
        if !there(gcc) {
            return;
        }
        let Some(program) = built(board, "errors", SMALL[0]) else { return };
        let Some(ran) = boot(&program) else { return };
        assert_eq!((ran.code, ran.text.as_str()), (Some(0), "every error was seen\n"), "{board}: {}", ran.stderr);
    }
}

/// Every function and status of the header is in the library, and nothing else that is exported.
#[test]
fn header_and_library_name_the_same() {
    let Some(library) = library() else { return };
    if !there("arm-none-eabi-nm") {
        return;
    }
    let header = std::fs::read_to_string(path("firmware-sim/c/src/fewstep.h")).unwrap();
    let mut declared: Vec<&str> = header
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("fewstep_") && header.contains(&format!("{word}(")))
        .collect();
    declared.sort_unstable();
    declared.dedup();
    let library = library.join(c_library::TARGETS[0].triple).join("libfewstep.a");
    let symbols = run(Command::new("arm-none-eabi-nm").args(["--defined-only", "--extern-only"]).arg(library));
    let mut defined: Vec<&str> =
        symbols.lines().filter_map(|line| line.split(' ').nth(2)).filter(|name| name.starts_with("fewstep_")).collect();
    defined.sort_unstable();
    assert_eq!(defined, declared);
    let statuses = std::fs::read_to_string(path("firmware-sim/c/rust/status.rs")).unwrap();
    for line in header.lines().filter_map(|line| line.trim().strip_prefix("FEWSTEP_")) {
        let Some((name, rest)) = line.split_once(" = ") else { continue };
        let value = rest.split([',', ' ']).next().unwrap();
        let name: String = name.split('_').map(|word| format!("{}{}", &word[..1], word[1..].to_lowercase())).collect();
        assert!(statuses.contains(&format!("    {name} = {value},\n")), "{name} = {value}");
    }
}

/// The sketch with a core of twenty lines: it compiles, draws and sends what the host draws.
#[test]
fn the_arduino_sketch_draws() {
    let Some(library) = library() else { return };
    if !there("arm-none-eabi-g++") {
        return;
    }
    let (folder, c) = (out(), path("firmware-sim/c"));
    std::fs::write(
        folder.join("Arduino.h"),
        "#include \"board.h\"\n\
         extern \"C\" int main();\n\
         struct Port {\n\
           void begin(long) {}\n\
           int read() { return -1; }\n\
           void print(char c) { board_put(static_cast<uint8_t>(c)); }\n\
           void print(const char *s) { while (*s) print(*s++); }\n\
           void print(uint8_t n) { if (n >= 100) print(char('0' + n / 100)); if (n >= 10) print(char('0' + n / 10 % 10)); print(char('0' + n % 10)); }\n\
           void println() { print('\\n'); }\n\
           void println(const char *s) { print(s); println(); }\n\
         };\n\
         static Port Serial;\n",
    )
    .unwrap();
    std::fs::write(folder.join("student.h"), "#define student board_image\n#define STUDENT_BYTES board_image_bytes\n")
        .unwrap();
    // As many turns of the loop as a picture of four steps needs, and more.
    std::fs::write(
        folder.join("turns.cpp"),
        "#include \"Arduino.h\"\n#include \"Draw.ino\"\nint main() { setup(); for (int i = 0; i < 1000; i++) loop(); return 0; }\n",
    )
    .unwrap();
    let cpu =
        ["-mcpu=cortex-m7", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv5-sp-d16", "-Os", "-ffreestanding", "-nostdlib"];
    let c_flags = ["-Wall", "-Wextra", "-Werror", "-ffunction-sections", "-c"];
    let start = folder.join("start.o");
    run(Command::new("arm-none-eabi-gcc")
        .args(cpu)
        .args(c_flags)
        .args(["-DUART=0x40004000", &format!("-DSTUDENT=\"{}\"", path(SMALL[0]).display())])
        .arg(c.join("example/start.c"))
        .arg("-o")
        .arg(&start));
    let elf = folder.join("sketch.elf");
    run(Command::new("arm-none-eabi-g++")
        .args(cpu)
        .args(["-std=gnu++17", "-fno-exceptions", "-fno-rtti", "-Wall", "-Wextra", "-Werror", "-Wl,--gc-sections"])
        .args(["-Wl,-z,noexecstack", "-I"])
        .arg(c.join("src"))
        .arg("-I")
        .arg(c.join("examples/Draw"))
        .arg("-I")
        .arg(c.join("example"))
        .arg("-I")
        .arg(&folder)
        .arg("-L")
        .arg(c.join("example"))
        .arg("-T")
        .arg(c.join("example/an500.ld"))
        .arg(folder.join("turns.cpp"))
        .arg(start)
        .arg(library.join(c_library::TARGETS[0].triple).join("libfewstep.a"))
        .arg("-o")
        .arg(&elf));
    let board = Board::find(&boards_dir(&Options::default()).unwrap(), "an500").unwrap();
    let Some(ran) = boot(&Program::new(&board, std::fs::read(elf).unwrap())) else { return };
    assert_eq!(ran.code, Some(0), "{}{}", ran.text, ran.stderr);
    let sent: Vec<u8> = ran.text.split_whitespace().map(|value| value.parse().unwrap()).collect();
    assert_eq!(sent, draw(&path(SMALL[0]), Request { seed: 1, class: 1, w: 1.0, ..Request::default() }, |_, _| 1.0));
}

#[test]
fn layouts_are_well_formed() {
    let c = path("firmware-sim/c");
    let read = |name: &str| std::fs::read_to_string(c.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let library: serde_json::Value = serde_json::from_str(&read("library.json")).unwrap();
    for name in [&library["headers"], &library["build"]["extraScript"]] {
        let name = name.as_str().unwrap();
        assert!(c.join(name).is_file() || c.join("src").join(name).is_file(), "{name}");
    }
    let example = &library["examples"][0];
    assert!(c.join(example["base"].as_str().unwrap()).join(example["files"][0].as_str().unwrap()).is_file());
    let version = library["version"].as_str().unwrap();
    assert!(read("Cargo.toml").contains(&format!("version = \"{version}\"")));

    // Arduino's library specification: every line a key, these keys.
    let properties = read("library.properties");
    let keys: Vec<&str> = properties.lines().map(|line| line.split_once('=').expect("a key").0).collect();
    for key in ["name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url", "architectures"]
    {
        assert!(keys.contains(&key), "{key}");
    }
    assert!(properties.contains(&format!("version={version}\n")) && properties.contains("precompiled=true\n"));

    // Zephyr's module file: the folders that it names are there.
    let module = read("zephyr/module.yml");
    assert_eq!(module, "name: fewstep\nbuild:\n  cmake: zephyr\n  kconfig: zephyr/Kconfig\n");
    assert!(c.join("zephyr/CMakeLists.txt").is_file() && c.join("zephyr/Kconfig").is_file());
}

/// Zephyr's file, run by CMake with Zephyr's functions replaced by ones that say what they are told.
#[test]
fn zephyr_links_the_library_of_the_cpu() {
    if !there("cmake") {
        return;
    }
    let Some(library) = library() else { return };
    let module = out().join("module");
    std::fs::create_dir_all(module.join("zephyr")).unwrap();
    std::fs::copy(path("firmware-sim/c/zephyr/CMakeLists.txt"), module.join("zephyr/CMakeLists.txt")).unwrap();
    for target in c_library::TARGETS {
        let built = library.join(target.triple).join("libfewstep.a");
        c_library::place(&built, &module.join("lib").join(target.triple)).unwrap();
    }
    let script = out().join("zephyr.cmake");
    std::fs::write(
        &script,
        "function(zephyr_include_directories folder)\n  message(STATUS \"include ${folder}\")\nendfunction()\n\
         function(zephyr_library_import name file)\n  message(STATUS \"import ${name} ${file}\")\nendfunction()\n\
         include(${MODULE}/zephyr/CMakeLists.txt)\n",
    )
    .unwrap();
    let cmake = |cpu: &str, on: &str| {
        Command::new("cmake")
            .arg(format!("-DMODULE={}", module.display()))
            .args([format!("-DCONFIG_FEWSTEP={on}"), format!("-D{cpu}=y"), "-P".into()])
            .arg(&script)
            .output()
            .unwrap()
    };
    for (cpu, triple) in [
        ("CONFIG_CPU_CORTEX_M4", c_library::TARGETS[0].triple),
        ("CONFIG_CPU_CORTEX_M7", c_library::TARGETS[0].triple),
        ("CONFIG_CPU_CORTEX_M33", c_library::TARGETS[1].triple),
        ("CONFIG_RISCV", c_library::TARGETS[2].triple),
    ] {
        let output = cmake(cpu, "y");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.contains("include ") && text.contains(triple), "{cpu}: {output:?}");
    }
    assert!(cmake("CONFIG_CPU_CORTEX_M4", "n").stdout.is_empty(), "nothing happens when it is off");
    let unknown = cmake("CONFIG_CPU_CORTEX_M0", "y");
    assert!(!unknown.status.success() && String::from_utf8_lossy(&unknown.stderr).contains("no library for this CPU"));
}

/// PlatformIO's script, run by Python with an environment that notes what it is told.
#[test]
fn platformio_links_the_library_of_the_cpu() {
    if !there("python3") {
        return;
    }
    let Some(library) = library() else { return };
    let module = out().join("module-pio");
    for target in c_library::TARGETS {
        let built = library.join(target.triple).join("libfewstep.a");
        c_library::place(&built, &module.join("lib").join(target.triple)).unwrap();
    }
    std::fs::copy(path("firmware-sim/c/platformio.py"), module.join("platformio.py")).unwrap();
    let program = "import sys\n\
        class Env(dict):\n\
        \x20   def BoardConfig(self): return {'build.cpu': sys.argv[2], 'build.mcu': sys.argv[2]}\n\
        \x20   def Append(self, LIBPATH, LIBS): print(LIBPATH[0], LIBS[0])\n\
        def Import(name): globals()[name] = Env()\n\
        file = sys.argv[1]\n\
        exec(compile(open(file).read(), file, 'exec'), {'Import': lambda name: None, 'env': Env(), '__file__': file})\n";
    let script = |cpu: &str| {
        Command::new("python3").args(["-c", program]).arg(module.join("platformio.py")).arg(cpu).output().unwrap()
    };
    for (cpu, triple) in [
        ("cortex-m4", c_library::TARGETS[0].triple),
        ("cortex-m7", c_library::TARGETS[0].triple),
        ("cortex-m33", c_library::TARGETS[1].triple),
        ("esp32c3", c_library::TARGETS[2].triple),
    ] {
        let output = script(cpu);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.ends_with(&format!("lib/{triple} fewstep\n")), "{cpu}: {output:?}");
    }
    let unknown = script("cortex-m0");
    assert!(!unknown.status.success() && String::from_utf8_lossy(&unknown.stderr).contains("no library for"));
}
