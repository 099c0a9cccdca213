//! A device whose clock is off: a small library, loaded before the system's, shifts what the
//! program and its SQLite read from the clock. The product has no switch for it.

use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long shift(void) {
  const char *text = getenv("TEST_CLOCK_SHIFT_SECONDS");
  return text ? atol(text) : 0;
}

int clock_gettime(clockid_t id, struct timespec *now) {
  int result = syscall(SYS_clock_gettime, id, now);
  if (result == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
    now->tv_sec += shift();
  }
  return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec time;
  (void)zone;
  if (clock_gettime(CLOCK_REALTIME, &time) != 0) return -1;
  now->tv_sec = time.tv_sec;
  now->tv_usec = time.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *out) {
  struct timespec now;
  if (clock_gettime(CLOCK_REALTIME, &now) != 0) return (time_t)-1;
  if (out) *out = now.tv_sec;
  return now.tv_sec;
}
"#;

/// The library, built by the C compiler that the workspace needs anyway.
#[derive(Debug)]
pub struct ShiftedClock {
    folder: TempDir,
}

impl ShiftedClock {
    /// Builds it.
    ///
    /// # Panics
    /// When there is no C compiler.
    #[must_use]
    pub fn build() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("clock.c");
        std::fs::write(&source, SOURCE).unwrap();
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(folder.path().join("clock.so"))
            .arg(&source)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&built.stderr).into_owned();
        assert!(built.status.success(), "{errors}");
        Self { folder }
    }

    /// Returns the words that run a program with its clock so many seconds ahead (or, below 0,
    /// behind).
    #[must_use]
    pub fn wrapper(&self, seconds: i64) -> [String; 3] {
        let library: PathBuf = self.folder.path().join("clock.so");
        [
            "env".to_owned(),
            format!("LD_PRELOAD={}", library.display()),
            format!("TEST_CLOCK_SHIFT_SECONDS={seconds}"),
        ]
    }
}
