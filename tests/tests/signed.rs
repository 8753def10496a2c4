//! `fewstep key` and `fewstep flash --sign`: what the host signs the core accepts, and nothing else; `--probe` says what is
//! missing.

use std::path::{Path, PathBuf};
use std::process::Output;

use fewstep::flash::Target;
use fewstep_core::slots::{Booted, HEAD_BYTES, Layout, Rules, Slots};
use fewstep_scenario::signing::{SigningKey, public_key};
use fewstep_tests::flash::Flash;
use fewstep_tests::{Folder, fewstep, project};

fn student() -> PathBuf {
    project().join("assets/fashion-mnist-student-4.fsw")
}

fn run(arguments: &[&str]) -> Output {
    fewstep(arguments)
}

fn refusal(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Makes a key; the private key's file.
fn key(folder: &Folder, name: &str) -> PathBuf {
    let path = folder.join(name);
    let output = run(&["key", "--out", path.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    path
}

/// The bytes that `flash` writes for slot A of an STM32H743.
fn slot(folder: &Folder, sign: Option<&Path>) -> Vec<u8> {
    let (image, out) = (student(), folder.join("slot.bin"));
    let mut arguments =
        vec!["flash", image.to_str().unwrap(), "--target", "stm32h743", "--image-version", "5", "--out"];
    arguments.push(out.to_str().unwrap());
    if let Some(sign) = sign {
        arguments.extend(["--sign", sign.to_str().unwrap()]);
    }
    let output = run(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(out).unwrap()
}

/// What a device with a public key boots from these bytes in slot A.
fn boots(bytes: &[u8], key: [u8; 32]) -> Option<Booted> {
    let target = Target::find("stm32h743").unwrap();
    let mut chip = Flash::<32, { 128 << 10 }>::new(target.flash.size as usize);
    let start = |address: u32| address - target.flash.origin;
    chip.program(start(target.slots.a) as usize, bytes);
    let layout = Layout { a: start(target.slots.a), b: start(target.slots.b.unwrap()), bytes: target.slots.bytes };
    Slots::new(chip, layout, Rules { public_key: Some(key), ..Rules::default() }).unwrap().boot()
}

#[test]
fn the_core_boots_what_the_host_signs_and_nothing_else() {
    let folder = Folder::new("signed");
    let (maker, stranger) = (key(&folder, "maker.key"), key(&folder, "stranger.key"));
    let public = public_key(&std::fs::read_to_string(folder.join("maker.pub")).unwrap()).unwrap();
    let signed = slot(&folder, Some(&maker));
    let booted = boots(&signed, public).unwrap();
    assert!(booted.version == 5 && !booted.trial);

    assert_eq!(boots(&slot(&folder, None), public), None, "unsigned");
    assert_eq!(boots(&slot(&folder, Some(&stranger)), public), None, "signed by a stranger");
    // Altered, with a head whose checksums fit: the signature is the one of the image before.
    let image = std::fs::read(student()).unwrap();
    let signer = SigningKey::from_pem(&std::fs::read_to_string(&maker).unwrap()).unwrap();
    for at in [0, image.len() / 2, image.len() - 1] {
        let mut altered = image.clone();
        altered[at] ^= 1;
        let signature = signer.manifest(&image, 5).signature;
        let manifest = fewstep_core::slots::Manifest { signature, ..fewstep_core::slots::Manifest::of(&altered, 5) };
        let head = fewstep_core::slots::head::confirmed(&manifest, 1, 32).unwrap();
        assert_eq!(boots(&[&head[..], &altered].concat(), public), None, "byte {at}");
    }
    // The version is signed too.
    let manifest = fewstep_core::slots::Manifest { version: 6, ..signer.manifest(&image, 5) };
    let head = fewstep_core::slots::head::confirmed(&manifest, 1, 32).unwrap();
    assert_eq!(boots(&[&head[..], &image].concat(), public), None);
    assert_eq!(signed[HEAD_BYTES..][..image.len()], image);
}

#[test]
fn keys_are_kept() {
    let folder = Folder::new("keys");
    let path = key(&folder, "my.key");
    assert_eq!(folder.names(), ["my.key", "my.pub"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let before = std::fs::read(&path).unwrap();
    let message = refusal(&["key", "--out", path.to_str().unwrap()]);
    assert!(message.contains("is there already"), "{message}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert!(refusal(&["key", "--out", folder.join("x.pub").to_str().unwrap()]).contains("name the private one .key"));
}

/// OpenSSL reads the keys and agrees on the public one; without it the test says so.
#[test]
fn openssl_reads_the_keys() {
    let folder = Folder::new("keys-openssl");
    let path = key(&folder, "my.key");
    let Ok(output) = std::process::Command::new("openssl").args(["pkey", "-pubout", "-in"]).arg(&path).output() else {
        println!("SKIPPED: no openssl");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout, std::fs::read(folder.join("my.pub")).unwrap());
}

/// An encrypted key is refused with the way to take it, which OpenSSL then goes.
#[test]
fn an_encrypted_key_is_named() {
    let folder = Folder::new("keys-encrypted");
    let (image, out) = (student(), folder.join("x.hex"));
    let (encrypted, plain) = (folder.join("encrypted.key"), folder.join("plain.key"));
    let openssl = |arguments: &[&str]| {
        std::process::Command::new("openssl").args(arguments).output().map(|output| output.status.success())
    };
    let (from, to) = (encrypted.to_str().unwrap(), plain.to_str().unwrap());
    let Ok(made) = openssl(&["genpkey", "-algorithm", "ed25519", "-aes-256-cbc", "-pass", "pass:word", "-out", from])
    else {
        println!("SKIPPED: no openssl");
        return;
    };
    assert!(made);
    let flash = ["flash", image.to_str().unwrap(), "--target", "stm32h743", "--out", out.to_str().unwrap(), "--sign"];
    let message = refusal(&[&flash[..], &[from]].concat());
    for says in ["encrypted.key", "holds an encrypted private key", "openssl pkey -in KEY -out PLAIN"] {
        assert!(message.contains(says), "{message}");
    }
    assert!(openssl(&["pkey", "-in", from, "-passin", "pass:word", "-out", to]).unwrap());
    assert!(run(&[&flash[..], &[to]].concat()).status.success());
}

#[test]
fn malformed_keys_and_places_without_a_signature_are_refused() {
    let folder = Folder::new("keys-wrong");
    let (image, out) = (student(), folder.join("x.bin"));
    let (image, out) = (image.to_str().unwrap(), out.to_str().unwrap());
    let maker = key(&folder, "maker.key");
    let text = std::fs::read_to_string(&maker).unwrap();
    let wrong = folder.join("wrong.key");
    let flash = |target: &str, key: &Path| {
        refusal(&["flash", image, "--target", target, "--out", out, "--sign", key.to_str().unwrap()])
    };
    for (content, says) in [
        (String::new(), "holds no PEM block"),
        (text.replace("MC4C", "MC*C"), "is not base 64"),
        (text.replacen("MC4C", "MC4D", 1), "not a plain Ed25519 key"),
        (text.replace("-----END", "----END"), "holds no PEM block"),
        (std::fs::read_to_string(folder.join("maker.pub")).unwrap(), "holds no PEM block"),
        ("x".repeat(5000), "more than the 4096"),
    ] {
        std::fs::write(&wrong, content).unwrap();
        let message = flash("stm32h743", &wrong);
        assert!(message.contains("wrong.key") && message.contains(says), "{says}: {message}");
    }
    std::fs::write(&wrong, [0xff, 0xfe]).unwrap();
    assert!(flash("stm32h743", &wrong).contains("is not text"));
    assert!(flash("stm32h743", &folder.join("none.key")).contains("no such file"));
    assert!(flash("an500", &maker).contains("have no head, which is where a signature goes"));
    assert!(!Path::new(out).exists());
}

/// The program is built without the feature `probe`; firmware-sim/probe is tested with it.
#[test]
fn a_probe_that_is_not_there_is_said_before_anything_is_written() {
    let folder = Folder::new("probe");
    let (image, out) = (student(), folder.join("x.bin"));
    let message = refusal(&[
        "flash",
        image.to_str().unwrap(),
        "--target",
        "stm32h743",
        "--probe",
        "--out",
        out.to_str().unwrap(),
    ]);
    assert!(message.contains("--features probe"), "{message}");
    let message = refusal(&["flash", image.to_str().unwrap(), "--target", "esp32c3", "--probe"]);
    assert!(message.contains("esp32c3 names no chip for a debug probe"), "{message}");
    assert!(!out.exists());
    assert!(refusal(&["flash", image.to_str().unwrap(), "--target", "stm32h743"]).contains("--out"));
}
