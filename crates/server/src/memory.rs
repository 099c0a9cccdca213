//! How the C library keeps memory for the program.

/// Heaps that threads share. By default each thread may have its own, and each keeps what its
/// largest push took: 91 MiB instead of 72 at the same work.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const HEAPS_MAX: libc::c_int = 2;

/// Lets threads share two heaps. To be called before there is a second thread; where the C
/// library has no such setting it does nothing.
#[cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(unsafe_code, reason = "std has no such setting")
)]
pub fn share_heaps() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt has no preconditions. Where it fails, the default stays.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, HEAPS_MAX);
    }
}
