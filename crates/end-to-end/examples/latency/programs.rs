//! Three real daemons: how fast, how large, how quiet; and what happens without them.

use std::time::{Duration, Instant};

use coditect_end_to_end::{Daemon, Device, process};

use crate::crowd::wait_for_rest;
use crate::trace::Records;
use crate::{eyes, figures, number};

pub(crate) fn measure(devices: &[Device], rounds: usize, records: &Records) {
    let daemons: Vec<Daemon> = devices.iter().map(Daemon::start).collect();
    devices.iter().for_each(wait_for_rest);
    let eyes = eyes::Eyes::open(devices);
    let made = eyes::decide(devices, &eyes, rounds, records);
    figures::print("three real daemons", &made);
    drop(eyes);

    let seconds = number("LATENCY_IDLE_SECONDS", 60);
    // tidy: may sleep: what they do meanwhile is what is measured
    std::thread::sleep(Duration::from_secs(3));
    let before: Vec<u64> = daemons
        .iter()
        .map(|daemon| process::processor(daemon.pid()).unwrap())
        .collect();
    // tidy: may sleep: idleness takes time
    std::thread::sleep(Duration::from_secs(seconds as u64));
    for (daemon, before) in daemons.iter().zip(before) {
        let used = (process::processor(daemon.pid()).unwrap() - before) * 10;
        let megabytes = process::status(daemon.pid(), "VmRSS:").unwrap() as f64 / 1024.0;
        println!("daemon idle for {seconds} s: {used} ms of processor, {megabytes:.1} MB resident");
    }

    let mut daemons = daemons.into_iter();
    daemons.next().unwrap().kill();
    let started = Instant::now();
    let count = |device: &Device| device.sql("org", "select count(*) from decisions;");
    let before = count(&devices[1]);
    let added = devices[0].run(&["decision", "add", "without a daemon", "--scope", "org"]);
    assert_eq!(added.code, 0, "{}", added.stderr);
    assert_eq!(count(&devices[1]), before);
    devices[0].sync();
    while count(&devices[1]) == before {
        std::thread::yield_now();
    }
    println!(
        "daemon killed: after the next command the others have it ({} ms, starting programs \
         included)",
        started.elapsed().as_millis()
    );
}
