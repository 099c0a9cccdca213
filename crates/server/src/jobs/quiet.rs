//! Work that takes the processor only when nobody who waits for an answer wants it.

use tokio::sync::oneshot;

/// How far behind others such work stands, of 19.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 15;

/// The thread of the work ended before the work was done: it panicked, or could not be started.
#[derive(Debug, thiserror::Error)]
#[error("a thread of the job ended before its work was done")]
pub struct Cut;

/// Does the work on a thread of its own, which stands behind those that answer requests (Linux;
/// elsewhere beside them). A thread that was lowered once cannot be raised again, so that it is
/// not one of those that are used in turn.
///
/// # Errors
/// [`Cut`].
pub(super) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Cut> {
    let (done, result) = oneshot::channel();
    let thread = std::thread::Builder::new().name("quiet".to_owned());
    let started = thread.spawn(move || {
        #[cfg(target_os = "linux")]
        stand_behind();
        let _ = done.send(work());
    });
    started.map_err(|_| Cut)?;
    result.await.map_err(|_| Cut)
}

/// Linux counts a priority by thread. Where it is refused, the work goes on as any other.
#[cfg(target_os = "linux")]
fn stand_behind() {
    use rustix::process::{getpriority_process, setpriority_process};
    let _ = getpriority_process(None).and_then(|now| setpriority_process(None, now.max(NICENESS)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_behind_others_and_a_panic_is_told() {
        assert_eq!(run(|| 6 * 7).await.unwrap(), 42);
        #[cfg(target_os = "linux")]
        {
            let behind = run(|| rustix::process::getpriority_process(None).unwrap());
            let behind = behind.await.unwrap();
            let here = rustix::process::getpriority_process(None).unwrap();
            assert!(behind >= NICENESS.max(here), "{behind} and {here}");
        }
        assert!(run(|| panic!("cut off")).await.is_err());
    }
}
