//! Links the release at a fixed address: moving its 44,000 pointers at every start is a sixth of
//! what a hook costs (docs/adr/0024).

#[expect(
    clippy::disallowed_methods,
    reason = "a build script is told by the environment what is built"
)]
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    let is_linux = is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu");
    if is("PROFILE", "release") && is_linux && is("CARGO_CFG_TARGET_ARCH", "x86_64") {
        println!("cargo:rustc-link-arg-bins=-no-pie");
    }
}
